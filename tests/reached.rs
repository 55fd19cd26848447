//! Calls that outlive their node, by how their phones are reached and what was said of media: through a proxy that stays in
//! the dialogs, at several contacts that ring, by an INVITE without a description.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use support::demo::{Account, Demo};
use support::phone::{Call, Message, Phone};
use support::proxy::Proxy;
use support::talk::{Talk, two_phones};
use support::{SOON, eventually};

/// A phone that speaks to the proxy alone.
fn behind(proxy: &Proxy, demo: &Demo, account: &Account) -> Phone {
    let mut phone = Phone::at(account, std::net::SocketAddrV4::new(demo.host(), 5060), proxy.address);
    phone.registers_with = vec![("Supported", "path")];
    phone.register();
    phone
}

#[track_caller]
fn is_by(message: &Message, proxy: &Proxy) {
    let top = message.get("Via").expect("a Via");
    assert!(top.contains(&proxy.address.ip().to_string()), "not through the proxy: {top}");
}

#[track_caller]
fn has_one_cdr(demo: &Demo) {
    for node in [2, 3] {
        let cdr = eventually(SOON, "its CDR", || demo.items(node, "/v1/cdrs").first().cloned());
        assert_eq!((&cdr["cause"], &cdr["status"]), (&"normal_clearing".into(), &"answered".into()), "{cdr}");
        assert_eq!((&cdr["node"], &cdr["epoch"]), (&"n2".into(), &2.into()), "{cdr}");
        assert_eq!(demo.items(node, "/v1/cdrs").len(), 1);
    }
    assert_eq!(demo.items(2, "/v1/calls").len(), 0);
}

#[test]
fn a_call_through_a_proxy_goes_on_through_it_at_another_node() {
    let demo = Demo::start(60);
    let proxy = Proxy::start(&demo, 1);
    let (a, b) = (demo.account(), demo.account());
    let (caller, callee) = (behind(&proxy, &demo, &a), behind(&proxy, &demo, &b));
    demo.await_registrations(1, &b, 1);
    let Talk { mut caller, mut out, mut callee, mut inc, .. } = Talk::between(caller, callee);
    is_by(&inc.invite, &proxy);
    assert!(inc.invite.get("Record-Route").is_some(), "{:?}", inc.invite);
    callee.acknowledged(&inc);
    demo.kill(1);

    // Neither registered at another node, and both are told by the proxy that their dialogs name.
    for (phone, call) in [(&mut caller, &mut out), (&mut callee, &mut inc)] {
        let told = phone.is_told(call);
        is_by(&told, &proxy);
        assert_eq!(Call::audio_of(&told).ip(), demo.sip(2).ip());
        call.leg.refresh(&told);
    }
    // And so is what they say.
    assert_eq!(caller.bye(&mut out).status(), Some(200));
    assert!(callee.hears("BYE", SOON));
    has_one_cdr(&demo);
}

#[test]
fn of_several_phones_that_ring_when_their_node_dies_all_ring_anew_and_one_answers() {
    let demo = Demo::start(61);
    let (a, b) = (demo.account(), demo.account());
    let mut caller = Phone::registered(&demo, &a, 1);
    let mut phones: Vec<Phone> = [1, 1, 3].map(|node| Phone::registered(&demo, &b, node)).into();
    demo.await_registrations(1, &b, 3);
    let mut out = caller.call(&b.number);
    let rung: Vec<Call> = phones.iter_mut().map(Phone::rings).collect();
    caller.response(&mut out, 180);
    eventually(SOON, "the log has the call", || (demo.items(2, "/v1/calls").len() == 1).then_some(()));
    demo.kill(1);
    for phone in [&mut caller].into_iter().chain(&mut phones[..2]) {
        phone.turn_to(demo.sip(2));
    }
    for (phone, call) in phones.iter_mut().zip(&rung) {
        phone.cancelled(call);
    }
    let again: Vec<Call> = phones.iter_mut().map(Phone::rings).collect();
    for (new, old) in again.iter().zip(&rung) {
        assert_ne!(new.leg.call_id, old.leg.call_id);
    }
    let [first, second, third] = <[Call; 3]>::try_from(again).ok().expect("three");
    let mut answered = third;
    phones[2].answer(&mut answered, 200, "OK");
    caller.expect(&mut out, 200);
    phones[2].acknowledged(&answered);
    phones[0].cancelled(&first);
    phones[1].cancelled(&second);
    assert_eq!(phones[2].bye(&mut answered).status(), Some(200));
    assert!(caller.hears("BYE", SOON));
    has_one_cdr(&demo);
}

#[test]
fn an_offer_that_nobody_had_answered_when_the_node_died_is_answered_at_the_next() {
    let demo = Demo::start(62);
    let (mut caller, mut callee) = two_phones(&demo, (1, 1));
    caller.offers = false;
    let mut out = caller.call(&callee.account.number);
    let mut inc = callee.incoming();
    assert!(inc.invite.body.is_empty(), "{:?}", inc.invite);
    callee.answer(&mut inc, 200, "OK");
    // The caller's ACK is too late for the first node.
    caller.hears_answer(&out);
    demo.kill(1);
    caller.turn_to(demo.sip(2));
    callee.turn_to(demo.sip(2));
    let offered = caller.expect(&mut out, 200);
    assert_eq!(Call::audio_of(&offered).ip(), demo.sip(2).ip());
    let ack = callee.acknowledged(&inc);
    assert_eq!(Call::audio_of(&ack).ip(), demo.sip(2).ip(), "the ACK answers the callee's offer");
    caller.is_told(&out);
    callee.is_told(&inc);
    assert_eq!(caller.bye(&mut out).status(), Some(200));
    assert!(callee.hears("BYE", SOON));
    has_one_cdr(&demo);
}

#[test]
fn a_call_that_began_without_a_description_goes_on_with_what_was_agreed() {
    let demo = Demo::start(63);
    let (mut caller, callee) = two_phones(&demo, (1, 1));
    caller.offers = false;
    let Talk { mut caller, out, mut callee, mut inc, .. } = Talk::between(caller, callee);
    callee.acknowledged(&inc);
    demo.kill(1);
    for (phone, call) in [(&mut caller, &out), (&mut callee, &inc)] {
        phone.turn_to(demo.sip(2));
        let told = phone.is_told(call);
        assert_eq!(Call::audio_of(&told).ip(), demo.sip(2).ip());
    }
    assert_eq!(callee.bye(&mut inc).status(), Some(200));
    assert!(caller.hears("BYE", SOON));
    has_one_cdr(&demo);
}
