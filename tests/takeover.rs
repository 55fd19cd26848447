//! Calls that talk lose their node, and go on at another one: both sides are heard again, each call ends with one right
//! CDR, and nothing of it is left over.
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic, and tells its figures")]

mod support;

use serde_json::Value;
use std::time::Duration;
use support::demo::Demo;
use support::phone::{Call, Phone};
use support::talk::{Ringing, Talk};
use support::town::{CALLS, back, epochs, owned, struck, town, went_on};
use support::{SOON, eventually};

#[test]
fn calls_outlive_their_node() {
    let demo = Demo::start_with(36, &town());
    let events = demo.events(2);

    // The process dies and its guard says so; both phones of each call were its own.
    let report = struck(&demo, (1, 1), 1, || demo.kill(1));
    went_on(&demo, &report, &[2, 3], 1, Duration::from_millis(1_000));
    assert_eq!(epochs(&demo, 2), [2; CALLS]);
    for metric in ["tandem_takeover_seconds_count", "tandem_takeover_audio_seconds_count"] {
        let measured: f64 = (2..=3).filter_map(|node| demo.metric(node, metric)).sum();
        assert_eq!(measured, CALLS as f64, "{metric}");
    }
    let moved = events.told().into_iter().filter(|event| event["event"] == "call.moved");
    let moved: Vec<Value> = moved.collect();
    assert_eq!(moved.len(), CALLS);
    assert!(
        moved.iter().all(|event| event["from_node"] == "n1" && event["call"]["node"] == "n2"),
        "{moved:?}"
    );
    back(&demo, 1);

    // The called phones are another node's, which goes on to carry what they say.
    let report = struck(&demo, (1, 3), 1, || demo.kill(1));
    went_on(&demo, &report, &[2, 3], 2, Duration::from_millis(1_000));
    back(&demo, 1);

    // Nothing is proved when the guard is killed, and its worker with it: the lease has to run out.
    let report = struck(&demo, (3, 2), 3, || {
        demo.kill_guards(&[3]);
    });
    went_on(&demo, &report, &[1, 2], 3, Duration::from_millis(3_000));
    back(&demo, 3);

    // A process that is stopped only falls silent; when it goes on it says nothing for what is no longer its own.
    let report = struck(&demo, (1, 2), 1, || {
        demo.signal(1, "-STOP");
        std::thread::sleep(Duration::from_secs(4));
        demo.signal(1, "-CONT");
    });
    went_on(&demo, &report, &[1, 2, 3], 4, Duration::from_millis(3_500));
    assert_eq!(report["surprises"], serde_json::json!({}), "{report}");
    let oldest = report["rtp"]["delay_ms"]["max"].as_f64().expect("a figure");
    assert!(oldest < 2_500.0, "sound of the time before was carried after it: {oldest} ms");
    let lost = eventually(SOON, "n1 finds that its calls are another's", || {
        demo.metric(1, "tandem_calls_lost_total")
    });
    assert!(lost >= CALLS as f64, "{lost}");

    // Only the node dies by which the called phones are reached: nobody hears anything of it.
    let report = struck(&demo, (1, 3), 1, || demo.kill(3));
    went_on(&demo, &report, &[1, 2], 5, Duration::from_millis(300));
    assert_eq!(epochs(&demo, 1), [1; CALLS]);
}

/// A phone at the first node calls another one there, which rings; then that node dies. The second node, to which the phones
/// speak from then on, tells the called one to stop and rings it anew.
fn ringing(demo: &Demo) -> Ringing {
    let mut call = Ringing::begin(demo, Phone::registered(demo, &demo.account(), 1), 1);
    demo.kill(1);
    call.caller.turn_to(demo.sip(2));
    call.callee.turn_to(demo.sip(2));
    call.again();
    call
}

#[test]
fn a_call_that_rings_when_its_node_dies_is_answered_or_given_up_at_the_next() {
    let demo = Demo::start(37);
    let Ringing { mut caller, mut out, mut callee, mut inc } = ringing(&demo);
    callee.answer(&mut inc, 200, "OK");
    let ok = caller.expect(&mut out, 200);
    assert!(Call::audio_of(&ok).ip() == demo.sip(2).ip(), "{ok:?}");
    caller.hang_up(&mut out);
    callee.ended(&inc);
    let cdr = eventually(SOON, "its CDR", || demo.items(2, "/v1/cdrs").first().cloned());
    assert_eq!((&cdr["status"], &cdr["node"], &cdr["epoch"]), (&"answered".into(), &"n2".into(), &2.into()));
    back(&demo, 1);

    let Ringing { mut caller, out, mut callee, inc } = ringing(&demo);
    caller.cancel(&out);
    callee.cancelled(&inc);
    eventually(SOON, "no call is left over", || demo.items(2, "/v1/calls").is_empty().then_some(()));
    let cdrs =
        eventually(SOON, "two CDRs", || Some(demo.items(2, "/v1/cdrs")).filter(|cdrs| cdrs.len() == 2));
    assert_eq!(cdrs[0]["cause"], "cancelled");
}

/// Each node in turn is emptied and started anew, while calls talk and go on at whoever takes them.
#[test]
fn a_rolling_restart_drops_no_call() {
    let demo = Demo::start_with(38, &town());
    let report = struck(&demo, (1, 2), 1, || {
        let (code, out, errors) = demo.cli(1, &["node", "drain"]);
        assert_eq!(code, 0, "{out}{errors}");
        assert_eq!(demo.member(2, 1).expect("n1 is known")["state"], "draining");
        assert_eq!(owned(&demo, 2, 2).unwrap_or(0) + owned(&demo, 2, 3).unwrap_or(0), CALLS as u64);
    });
    went_on(&demo, &report, &[1, 2, 3], 1, Duration::from_millis(200));
    let (code, out, errors) = demo.cli(2, &["node", "undrain", "n1"]);
    assert_eq!(code, 0, "{out}{errors}");
    eventually(SOON, "n1 takes work again", || (demo.member(2, 1)?["state"] == "up").then_some(()));

    // Stopped without being emptied first: what it has goes with its goodbye.
    let report = struck(&demo, (1, 2), 1, || {
        let worker = demo.pid(1);
        demo.signal(1, "-TERM");
        demo.await_end(worker);
    });
    went_on(&demo, &report, &[2, 3], 2, Duration::from_millis(600));
    back(&demo, 1);
}

#[test]
fn a_phone_whose_connection_died_with_its_node_is_told_of_its_call_when_it_registers_again() {
    let demo = Demo::start(39);
    let (a, b) = (demo.account(), demo.account());
    let mut caller = Phone::over_tcp(&demo, &a, 1);
    caller.register();
    let callee = Phone::registered(&demo, &b, 2);
    demo.await_registrations(1, &b, 1);
    let Talk { out, mut callee, mut inc, .. } = Talk::between(caller, callee);
    callee.acknowledged(&inc);
    demo.kill(1);
    callee.is_told(&inc);
    let mut caller = Phone::over_tcp(&demo, &a, 2);
    caller.register();
    caller.is_told(&out);
    callee.hang_up(&mut inc);
    assert!(caller.hears("BYE", SOON), "the call is one call again");
    let cdr = eventually(SOON, "its CDR", || demo.items(2, "/v1/cdrs").first().cloned());
    assert_eq!((&cdr["cause"], &cdr["epoch"]), (&"normal_clearing".into(), &2.into()));
}

#[test]
#[cfg(feature = "faults")]
fn who_hangs_up_at_a_node_that_may_not_speak_is_thanked_and_the_new_owner_hears_of_it() {
    let demo = Demo::start(40);
    let mut talk = Talk::begin(&demo, (1, 1));
    for node in ["n2", "n3"] {
        assert_eq!(demo.fault(1, &format!("cut {node}")), "done");
    }
    let other = eventually(SOON, "its call goes on elsewhere", || {
        (2..=3).find(|node| owned(&demo, 5 - node, *node) == Some(1))
    });
    assert_eq!(talk.caller.bye(&mut talk.out).status(), Some(200));
    assert_eq!(owned(&demo, 5 - other, other), Some(1), "nobody else can know yet");
    assert_eq!(demo.fault(1, "heal"), "done");
    eventually(SOON, "the call is over", || demo.items(other, "/v1/calls").is_empty().then_some(()));
    assert!(talk.callee.hears("BYE", SOON));
    let cdr = eventually(SOON, "its CDR", || demo.items(other, "/v1/cdrs").first().cloned());
    assert_eq!((&cdr["cause"], &cdr["epoch"]), (&"normal_clearing".into(), &2.into()));
}

/// A phone at the first node calls one at the second, which rings; the first node is cut off, and another one rings it anew.
#[cfg(feature = "faults")]
fn ringing_at_a_node_that_is_cut_off(demo: &Demo) -> Ringing {
    let mut call = Ringing::begin(demo, Phone::registered(demo, &demo.account(), 1), 2);
    for node in ["n2", "n3"] {
        assert_eq!(demo.fault(1, &format!("cut {node}")), "done");
    }
    call.again();
    call
}

#[test]
#[cfg(feature = "faults")]
fn who_gives_up_at_a_node_that_lost_its_call_is_heard_by_the_new_owner() {
    let demo = Demo::start(64);
    let given_up = |call: Ringing, cdrs: usize| {
        let Ringing { mut caller, mut out, mut callee, inc } = call;
        caller.cancel(&out);
        caller.expect(&mut out, 487);
        callee.cancelled(&inc);
        eventually(SOON, "no call is left over", || demo.items(2, "/v1/calls").is_empty().then_some(()));
        let found = demo.items(2, "/v1/cdrs");
        assert_eq!((found.len(), &found[0]["cause"]), (cdrs, &"cancelled".into()), "{found:?}");
    };

    // While that node may not speak: it is heard when it is back.
    let call = ringing_at_a_node_that_is_cut_off(&demo);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(1_200));
            assert_eq!(demo.fault(1, "heal"), "done");
        });
        given_up(call, 1);
    });
    eventually(SOON, "n1 is up again", || (demo.member(2, 1)?["state"] == "up").then_some(()));

    // When that node is back, and knows nothing of the INVITE any more.
    let call = ringing_at_a_node_that_is_cut_off(&demo);
    assert_eq!(demo.fault(1, "heal"), "done");
    eventually(SOON, "n1 has lost its call", || {
        (demo.member(1, 1)?["state"] == "up" && owned(&demo, 1, 1)? == 0).then_some(())
    });
    given_up(call, 2);
}

#[test]
fn a_caller_whose_connection_died_with_its_node_lets_nobody_ring() {
    let demo = Demo::start(65);
    let mut caller = Phone::over_tcp(&demo, &demo.account(), 1);
    caller.register();
    let mut call = Ringing::begin(&demo, caller, 2);
    demo.kill(1);
    // The phone is rung anew until it is known that nobody listens at the caller's Contact.
    call.again();
    call.callee.cancelled(&call.inc);
    let cdr = eventually(SOON, "its CDR", || demo.items(2, "/v1/cdrs").first().cloned());
    assert_eq!((&cdr["cause"], &cdr["status"]), (&"node_lost".into(), &"not_answered".into()), "{cdr}");
}

#[test]
fn nodes_that_all_stop_at_once_end_their_calls() {
    let demo = Demo::start(66);
    let mut talk = Talk::begin(&demo, (1, 3));
    let mut rings = Ringing::begin(&demo, Phone::registered(&demo, &demo.account(), 1), 3);
    std::thread::scope(|scope| {
        scope.spawn(|| demo.stop());
        scope.spawn(|| assert!(talk.caller.hears("BYE", SOON), "who called hears that it is over"));
        scope.spawn(|| assert!(talk.callee.hears("BYE", SOON), "and who was called"));
        scope.spawn(|| rings.callee.cancelled(&rings.inc));
        rings.caller.expect(&mut rings.out, 503);
    });
    let demo = Demo::start_again(66, demo.dir.clone());
    let cdrs = demo.items(2, "/v1/cdrs");
    assert_eq!(cdrs.len(), 2, "{cdrs:?}");
    assert!(cdrs.iter().all(|cdr| cdr["cause"] == "node_shutdown"), "{cdrs:?}");
}

#[test]
fn a_phone_on_a_connection_to_a_drained_node_is_told_at_once() {
    let demo = Demo::start(67);
    let (a, b) = (demo.account(), demo.account());
    let caller = Phone::registered(&demo, &a, 1);
    let mut callee = Phone::over_tcp(&demo, &b, 1);
    callee.register();
    demo.await_registrations(1, &b, 1);
    let Talk { mut caller, mut out, mut callee, inc, .. } = Talk::between(caller, callee);
    callee.acknowledged(&inc);
    // The connection stays at the node that is drained, which may not have heard yet whose the call is.
    let (code, text, errors) = demo.cli(1, &["node", "drain"]);
    assert_eq!(code, 0, "{text}{errors}");
    std::thread::scope(|scope| {
        scope.spawn(|| callee.is_told(&inc));
        caller.is_told(&out);
    });
    assert_eq!(caller.bye(&mut out).status(), Some(200));
    assert!(callee.hears("BYE", SOON));
}
