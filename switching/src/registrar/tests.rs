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

/// A phone that can hold several flows.
const OUTBOUND: &str = "Supported: path, outbound";
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
fn the_flows_of_an_instance_are_told_apart_and_a_port_does_without_them() {
    let mut state = state();
    let instance = "Contact: <sip:101@192.0.2.9>;+sip.instance=\"<urn:uuid:1>\"";
    let (first, second) = (format!("{instance};reg-id=1"), format!("{instance};reg-id=2"));
    let ports = ["Contact: <sip:101@192.0.2.9:5061>", "Contact: <sip:101@192.0.2.9:5062;ob>"];
    let requests = [[first.as_str(), OUTBOUND], [&second, OUTBOUND], ports];
    for (more, cseq) in requests.iter().zip(1..) {
        done(&mut state, 2_000, &register("101", "acme.example", cseq, more));
    }
    let expected = [
        BindingKey::Instance("urn:uuid:1".into(), 1),
        BindingKey::Instance("urn:uuid:1".into(), 2),
        BindingKey::Contact("sip:101@192.0.2.9:5061".into()),
        BindingKey::Contact("sip:101@192.0.2.9:5062".into()),
    ];
    assert_eq!(keys(&state), expected);
}

#[test]
fn a_reg_id_of_a_phone_that_does_not_know_outbound_means_nothing() {
    let mut state = state();
    let contact = "Contact: <sip:101@192.0.2.9>;+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    done(&mut state, 2_000, &register("101", "acme.example", 1, &[contact]));
    assert_eq!(keys(&state), [BindingKey::Instance("urn:uuid:1".into(), 0)]);
    let alone = "Contact: <sip:102@192.0.2.9>;reg-id=1";
    done(&mut state, 2_000, &register("101", "acme.example", 2, &[alone, OUTBOUND]));
    assert!(
        keys(&state).contains(&BindingKey::Contact("sip:102@192.0.2.9".into())),
        "nor without an instance"
    );
}

#[test]
fn what_is_required_and_not_known_is_named() {
    let state = state();
    let asked = |more: &[&str]| planned(&state, 2_000, &register("101", "acme.example", 1, more));
    let unsupported = |tags: &str| Plan::Unsupported { tags: tags.into() };
    assert_eq!(asked(&[A, "Require: path, gruu, Outbound, x"]), unsupported("gruu, x"));
    assert_eq!(asked(&[A, "Path: <sip:edge;lr>"]), unsupported("path"), "its phone knows nothing of it");
    assert!(matches!(asked(&[A, "Path: <sip:edge;lr>", "Supported: path"]), Plan::Changes(_)));
    assert!(matches!(asked(&[A, "Path: <sip:edge;lr>", "Require: path"]), Plan::Changes(_)));
}

#[test]
fn one_register_is_one_flow_and_its_first_hop_must_hold_it() {
    let state = state();
    let flow = "Contact: <sip:101@192.0.2.9>;+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    let asked = |more: &[&str]| planned(&state, 2_000, &register("101", "acme.example", 1, more));
    assert_eq!(asked(&[flow, flow, OUTBOUND]), refusal(400));
    let proxied = "Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKx";
    assert_eq!(asked(&[flow, OUTBOUND, proxied]), refusal(439));
    assert_eq!(asked(&[flow, OUTBOUND, proxied, "Path: <sip:edge;lr;ob>, <sip:first;lr>"]), refusal(439));
    let kept = asked(&[flow, OUTBOUND, proxied, "Path: <sip:edge;lr>, <sip:first;lr;ob>"]);
    assert!(matches!(kept, Plan::Changes(_)));
}

#[test]
fn an_answer_says_which_path_was_taken_and_that_flows_are_kept() {
    let plain = register("101", "acme.example", 1, &[A]);
    assert_eq!(accepted_with(&plain, &flow(1)), [(Header::Supported, "path, outbound")]);
    let contact = "Contact: <sip:101@192.0.2.9>;+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    let path = "Path: <sip:edge;lr;ob>";
    let outbound = register("101", "acme.example", 1, &[contact, OUTBOUND, path]);
    let expected = [
        (Header::Supported, "path, outbound"),
        (Header::Path, "<sip:edge;lr;ob>"),
        (Header::Require, "outbound"),
        (Header::Other("Flow-Timer"), "120"),
    ];
    assert_eq!(accepted_with(&outbound, &flow(1)), expected);
    assert_eq!(accepted_with(&outbound, &flow(0)), expected[..3], "datagrams are kept alive by STUN");
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
        other => panic!("{other:?}"),
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
    done(&mut state, 2_000, &register("101", "acme.example", 1, &[A, instance, OUTBOUND]));
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

#[test]
fn what_needs_the_log_is_known_before_the_proof() {
    let mut state = state();
    let asks = |state: &State, at, user: &str, cseq, more: &[&str]| {
        let request = register(user, "acme.example", cseq, more);
        needs_log(state, now(at), &Bounds::default(), &flow(0), NodeEpoch(1), &request)
    };
    assert!(asks(&state, 2_000, "101", 1, &[A]), "a new binding");
    assert!(!asks(&state, 2_000, "101", 1, &[]), "a question");
    assert!(!asks(&state, 2_000, "999", 1, &[A]), "nobody, who is refused by the proof");
    done(&mut state, 2_000, &register("101", "acme.example", 1, &[A]));
    assert!(!asks(&state, 3_000, "101", 2, &[A]), "a refresh");
    assert!(!asks(&state, 3_000, "101", 1, &[A]), "out of order, which is refused");
    assert!(asks(&state, 3_000, "101", 2, &[B]), "another contact");
    assert!(asks(&state, 3_000, "101", 2, &[A, "Expires: 0"]), "an end");
}
