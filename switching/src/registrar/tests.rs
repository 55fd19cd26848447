use super::*;
use crate::fixture::*;
use tandem_state::{NodeId, Party, TenantId};

fn user(tenant: u32, number: &str) -> User {
    let party = Party { number: number.into(), name: String::new() };
    User { tenant: TenantId(tenant), domain: "acme.example".into(), party }
}

fn planned(state: &State, at: u64, request: &Message) -> Plan {
    planned_over(state, at, request, 0)
}

fn planned_over(state: &State, at: u64, request: &Message, connection: u64) -> Plan {
    let (user, flow) = (user(1, "101"), flow(connection));
    let source = Source { user: &user, flow: &flow, node_epoch: NodeEpoch(1) };
    plan(state, now(at), &Bounds::default(), &source, request)
}

/// Plans and carries out; names what was done.
fn done(state: &mut State, at: u64, request: &Message) -> Vec<&'static str> {
    let Plan::Changes(changes) = planned(state, at, request) else { panic!("refused") };
    changes.into_iter().map(|change| carry_out(state, at, change)).collect()
}

fn carry_out(state: &mut State, at: u64, change: Change) -> &'static str {
    match change {
        Change::Refresh { .. } => "refresh",
        Change::Bind { command, .. } => {
            apply(state, at, *command);
            "bind"
        }
        Change::Unbind { command, .. } => {
            apply(state, at, *command);
            "unbind"
        }
    }
}

fn keys(state: &State) -> Vec<BindingKey> {
    state.bindings_of(TenantId(1), "101").map(|binding| binding.spec.key.clone()).collect()
}

fn refusal(status: u16) -> Plan {
    Plan::Refused { status, min_expires_s: None }
}

const A: &str = "Contact: <sip:101@192.0.2.1:5062>";
const B: &str = "Contact: <sip:101@192.0.2.2>";

#[test]
fn several_contacts_are_several_bindings_of_one_address() {
    let mut state = state();
    assert_eq!(done(&mut state, 2_000, &register("101", "acme.example", 1, &[A, B])), ["bind", "bind"]);
    assert_eq!(keys(&state).len(), 2);
    assert_eq!(state.bindings_of(TenantId(2), "101").count(), 0, "another tenant's 101 has nothing");
}

#[test]
fn a_refresh_that_changes_nothing_costs_no_log_entry_until_the_log_has_little_left() {
    let mut state = state();
    done(&mut state, 2_000, &register("101", "acme.example", 1, &[A, "Expires: 60"]));
    let again = |cseq| register("101", "acme.example", cseq, &[A, "Expires: 60"]);
    assert_eq!(done(&mut state, 50_000, &again(2)), ["refresh"]);
    // Eight times 60 s were put into the log at 2 s; below two times 60 s it is put anew.
    assert_eq!(done(&mut state, 361_000, &again(3)), ["refresh"]);
    assert_eq!(done(&mut state, 363_000, &again(4)), ["bind"]);
}

#[test]
fn a_phone_that_moved_or_came_by_another_flow_is_bound_anew() {
    let mut state = state();
    let first = [A, "Contact: <sip:101@192.0.2.9>;+sip.instance=\"<urn:uuid:1>\";reg-id=1"];
    done(&mut state, 2_000, &register("101", "acme.example", 1, &first));
    let moved = "Contact: <sip:101@192.0.2.77>;+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    assert_eq!(done(&mut state, 3_000, &register("101", "acme.example", 2, &[moved])), ["bind"]);
    assert_eq!(keys(&state).len(), 2, "the instance is the same binding at another contact");
    let Plan::Changes(changes) = planned_over(&state, 4_000, &register("101", "acme.example", 3, &[A]), 7)
    else {
        panic!("refused")
    };
    assert!(matches!(changes[..], [Change::Bind { .. }]));
}

#[test]
fn instance_and_reg_id_tell_bindings_apart_and_a_port_does_without_them() {
    let mut state = state();
    let contacts = [
        "Contact: <sip:101@192.0.2.9>;+sip.instance=\"<urn:uuid:1>\";reg-id=1",
        "Contact: <sip:101@192.0.2.9>;+sip.instance=\"<urn:uuid:1>\";reg-id=2",
        "Contact: <sip:101@192.0.2.9:5061>",
        "Contact: <sip:101@192.0.2.9:5062;ob>",
    ];
    done(&mut state, 2_000, &register("101", "acme.example", 1, &contacts));
    let expected = [
        BindingKey::Instance("urn:uuid:1".into(), 1),
        BindingKey::Instance("urn:uuid:1".into(), 2),
        BindingKey::Contact("sip:101@192.0.2.9:5061".into()),
        BindingKey::Contact("sip:101@192.0.2.9:5062".into()),
    ];
    assert_eq!(keys(&state), expected);
}

#[test]
fn less_than_the_least_expiry_is_423_more_than_the_most_is_cut() {
    let state = state();
    let asked = |expires: &str| planned(&state, 2_000, &register("101", "acme.example", 1, &[A, expires]));
    assert_eq!(asked("Expires: 29"), Plan::Refused { status: 423, min_expires_s: Some(30) });
    let granted = |plan| match plan {
        Plan::Changes(changes) => match &changes[..] {
            [Change::Bind { expires_s, .. }] => *expires_s,
            other => panic!("{other:?}"),
        },
        Plan::Refused { status, .. } => panic!("{status}"),
    };
    assert_eq!(granted(asked("Expires: 30")), 30);
    assert_eq!(granted(asked("Expires: 999999")), 3_600);
    assert_eq!(granted(asked("X-None: 1")), 3_600);
    let own =
        register("101", "acme.example", 1, &["Contact: <sip:101@192.0.2.1>;expires=120", "Expires: 600"]);
    assert_eq!(granted(planned(&state, 2_000, &own)), 120, "the contact's own expiry counts");
}

#[test]
fn a_star_removes_all_and_only_stands_alone_with_expires_0() {
    let mut state = state();
    done(&mut state, 2_000, &register("101", "acme.example", 1, &[A, B]));
    let star = |cseq, more: &[&str]| register("101", "acme.example", cseq, &[&["Contact: *"], more].concat());
    assert_eq!(planned(&state, 3_000, &star(2, &[])), refusal(400));
    assert_eq!(planned(&state, 3_000, &star(2, &["Expires: 60"])), refusal(400));
    assert_eq!(planned(&state, 3_000, &star(2, &["Expires: 0", A])), refusal(400));
    assert_eq!(planned(&state, 3_000, &star(1, &["Expires: 0"])), refusal(500), "an old CSeq");
    assert_eq!(done(&mut state, 3_000, &star(2, &["Expires: 0"])), ["unbind", "unbind"]);
    assert_eq!(keys(&state), []);
}

#[test]
fn an_expiry_of_0_unbinds_the_revision_that_is_there_and_nothing_that_is_not() {
    let mut state = state();
    done(&mut state, 2_000, &register("101", "acme.example", 1, &[A, B]));
    let leave = register("101", "acme.example", 2, &["Contact: <sip:101@192.0.2.2>;expires=0"]);
    let revision =
        state.bindings_of(TenantId(1), "101").find(|b| b.spec.contact.ends_with(".2")).unwrap().revision;
    let Plan::Changes(changes) = planned(&state, 3_000, &leave) else { panic!("refused") };
    let [Change::Unbind { command, .. }] = &changes[..] else { panic!("{changes:?}") };
    assert!(matches!(**command, Command::Unbind { revision: r, .. } if r == revision));
    assert_eq!(done(&mut state, 3_000, &leave), ["unbind"]);
    let unknown = register("101", "acme.example", 3, &["Contact: <sip:101@192.0.2.99>;expires=0"]);
    assert_eq!(planned(&state, 4_000, &unknown), Plan::Changes(vec![]));
}

#[test]
fn within_one_call_id_the_cseq_must_rise() {
    let mut state = state();
    done(&mut state, 2_000, &register("101", "acme.example", 5, &[A]));
    assert_eq!(planned(&state, 3_000, &register("101", "acme.example", 5, &[A])), refusal(500));
    assert_eq!(planned(&state, 3_000, &register("101", "acme.example", 4, &[A])), refusal(500));
    let text = String::from_utf8(register("101", "acme.example", 1, &[A]).bytes().to_vec()).unwrap();
    let rebooted = Message::parse(text.replace("Call-ID: r1", "Call-ID: r2").into()).unwrap();
    assert_eq!(done(&mut state, 3_000, &rebooted), ["bind"]);
}

#[test]
fn nobody_registers_for_another_and_a_query_changes_nothing() {
    let state = state();
    assert_eq!(planned(&state, 2_000, &register("102", "acme.example", 1, &[A])), refusal(403));
    assert_eq!(planned(&state, 2_000, &register("101", "acme.example", 1, &[])), Plan::Changes(vec![]));
}

#[test]
fn a_contact_that_is_no_address_is_400_and_too_many_are_403() {
    let state = state();
    assert_eq!(
        planned(&state, 2_000, &register("101", "acme.example", 1, &["Contact: <mailto>"])),
        refusal(400)
    );
    let many: Vec<String> = (1..=11).map(|n| format!("Contact: <sip:101@192.0.2.{n}>")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(planned(&state, 2_000, &register("101", "acme.example", 1, &many)), refusal(403));
    assert!(matches!(
        planned(&state, 2_000, &register("101", "acme.example", 1, &many[..10])),
        Plan::Changes(changes) if changes.len() == 10
    ));
}

#[test]
fn one_contact_that_stands_twice_is_one_binding() {
    let mut state = state();
    let request = register("101", "acme.example", 1, &[A, A]);
    assert_eq!(done(&mut state, 2_000, &request), ["bind"]);
    assert_eq!(keys(&state).len(), 1);
}

#[test]
fn a_contact_that_cannot_be_called_is_400() {
    let state = state();
    let blank = register("101", "acme.example", 1, &["Contact: <sip:1 0@192.0.2.1>"]);
    assert_eq!(planned(&state, 2_000, &blank), refusal(400));
}

#[test]
fn the_answer_names_every_binding_with_what_is_left_of_it() {
    let mut state = state();
    let instance = "Contact: <sip:101@192.0.2.9>;+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    done(&mut state, 2_000, &register("101", "acme.example", 1, &[A, instance]));
    let bindings: Vec<_> =
        state.bindings_of(TenantId(1), "101").map(|b| (b.clone(), ClusterTime(62_000))).collect();
    let values = contact_values(&bindings, ClusterTime(2_500));
    assert_eq!(
        values,
        [
            "<sip:101@192.0.2.9>;expires=60;+sip.instance=\"<urn:uuid:1>\";reg-id=1",
            "<sip:101@192.0.2.1:5062>;expires=60",
        ]
    );
    assert_eq!(NodeId(1), bindings[0].0.spec.flow.node);
}
