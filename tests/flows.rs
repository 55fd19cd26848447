//! The ways to a phone: several flows of one phone, a flow whose node is lost, a phone that falls silent, a Path.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use serde_json::Value;
use std::sync::LazyLock;
use std::time::Duration;
use support::demo::{Account, Demo};
use support::phone::{Message, Phone};
use support::{SOON, eventually};

static DEMO: LazyLock<Demo> = LazyLock::new(|| Demo::start(34));

/// What this node lists of an extension's phones.
fn listed(demo: &Demo, node: u8, account: &Account) -> Vec<Value> {
    let all = demo.items(node, &format!("/v1/tenants/{}/registrations", account.tenant));
    all.into_iter().filter(|one| one["number"] == account.number.as_str()).collect()
}

/// A flow of one phone, over TCP to this node.
fn flow(account: &Account, node: u8, reg_id: u8) -> Phone {
    let mut phone = Phone::over_tcp(&DEMO, account, node);
    phone.registers_with = vec![("Supported", "path, outbound")];
    let contact =
        format!("{};+sip.instance=\"<urn:uuid:of-{}>\";reg-id={reg_id}", phone.contact(), account.number);
    let taken = phone.register_as(&contact, 600);
    assert_eq!(taken.status(), Some(200), "{}", taken.start);
    assert_eq!((taken.get("Require"), taken.get("Flow-Timer")), (Some("outbound"), Some("120")));
    phone
}

#[test]
fn the_flows_of_a_phone_to_two_nodes_are_tried_one_after_the_other() {
    let (account, other) = (DEMO.account(), DEMO.account());
    let mut first = flow(&account, 1, 1);
    let mut second = flow(&account, 2, 2);
    DEMO.await_registrations(3, &account, 2);
    let mut caller = Phone::registered(&DEMO, &other, 3);

    let mut out = caller.call(&account.number);
    let mut failed = second.incoming();
    assert!(!first.hears("INVITE", Duration::from_millis(500)), "both flows of one phone ring");
    second.answer(&mut failed, 430, "Flow Failed");
    let mut inc = first.incoming();
    first.answer(&mut inc, 180, "Ringing");
    first.answer(&mut inc, 200, "OK");
    caller.expect(&mut out, 200);
    caller.hang_up(&mut out);
    first.ended(&inc);

    // Its second connection closes: calls reach it by the first.
    drop(second);
    DEMO.await_registrations(3, &account, 1);
    let mut out = caller.call(&account.number);
    let mut inc = first.incoming();
    first.answer(&mut inc, 200, "OK");
    caller.expect(&mut out, 200);
    caller.hang_up(&mut out);
    first.ended(&inc);
}

#[test]
fn a_path_is_kept_returned_and_used_and_must_be_known_to_the_phone() {
    let (account, other) = (DEMO.account(), DEMO.account());
    let mut phone = Phone::new(&DEMO, &account, 1);
    let contact = phone.contact();
    phone.registers_with = vec![("Path", "<sip:edge.example;lr>")];
    let refused = phone.register_as(&contact, 600);
    assert_eq!((refused.status(), refused.get("Unsupported")), (Some(420), Some("path")));
    phone.registers_with.push(("Supported", "path"));
    let taken = phone.register_as(&contact, 600);
    assert_eq!((taken.status(), taken.get("Path")), (Some(200), Some("<sip:edge.example;lr>")));
    DEMO.await_registrations(2, &account, 1);
    let mut caller = Phone::registered(&DEMO, &other, 2);
    let mut out = caller.call(&account.number);
    let mut inc = phone.incoming();
    assert_eq!(inc.invite.get("Route"), Some("<sip:edge.example;lr>"));
    phone.answer(&mut inc, 486, "Busy Here");
    caller.expect(&mut out, 486);
}

/// Answers every OPTIONS until the phone is listed as `state`.
fn answering_until(phone: &mut Phone, node: u8, state: &str, within: Duration) {
    eventually(within, &format!("{} is {state}", phone.account.number), || {
        if let Some(question) =
            phone.next(Duration::from_millis(200), |m: &Message| m.method() == Some("OPTIONS"))
        {
            phone.reply(&question, 200, "OK");
        }
        let listed = listed(&DEMO, node, &phone.account);
        assert_eq!(listed.len(), 1, "{listed:?}");
        (listed[0]["state"] == state).then_some(())
    });
}

#[test]
fn a_phone_on_udp_that_does_not_answer_is_unreachable_stays_registered_and_is_found_again() {
    let account = DEMO.account();
    let mut phone = Phone::registered(&DEMO, &account, 2);
    let registered = std::time::Instant::now();
    // Nothing is read and nothing is answered, for longer than a phone goes without being asked three times.
    let listed_as = |state: &str| {
        let listed = listed(&DEMO, 1, &account);
        listed.len() == 1 && listed[0]["state"] == state
    };
    eventually(SOON, "it is registered", || listed_as("ok").then_some(()));
    eventually(Duration::from_secs(60), "it is unreachable", || listed_as("unreachable").then_some(()));
    assert!(registered.elapsed() >= Duration::from_secs(24), "it was asked too soon");
    answering_until(&mut phone, 1, "ok", Duration::from_secs(60));
}

#[test]
fn a_phone_of_a_lost_node_is_called_at_its_address_and_one_on_a_connection_is_gone() {
    let demo = Demo::start(35);
    let (account, other) = (demo.account(), demo.account());
    let mut phone = Phone::registered(&demo, &account, 3);
    let mut connected = Phone::over_tcp(&demo, &account, 3);
    connected.register();
    demo.await_registrations(1, &account, 2);
    let mut caller = Phone::registered(&demo, &other, 1);
    demo.kill(3);
    eventually(SOON, "what is left is unproven", || {
        let listed = listed(&demo, 1, &account);
        (listed.len() == 1 && listed[0]["state"] == "unproven").then_some(())
    });
    phone.turn_to(demo.sip(1));
    let mut out = caller.call(&account.number);
    let mut inc = phone.incoming();
    phone.answer(&mut inc, 200, "OK");
    caller.expect(&mut out, 200);
    caller.hang_up(&mut out);
    phone.ended(&inc);
}
