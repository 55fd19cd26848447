//! Calls that talk while worse happens than the loss of one node: of two at once, of one that is back before the others are
//! done with its calls, of the actor that follows the log. And that they still talk two minutes later.
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic, and tells its figures")]

mod support;

use std::time::Duration;
use support::demo::Demo;
use support::town::{CALLS, epochs, owned, struck, struck_in, town, went_on};
use support::{SOON, eventually};

const LONG: Duration = Duration::from_secs(30);

/// Timers of the former owner, of the phones and of the media that fire long after a takeover silence nobody.
#[test]
fn takeover_no_late_silence() {
    let demo = Demo::start_with(44, &town());
    let report = struck_in(&demo, (1, 1), 1, Duration::from_secs(125), || demo.kill(1));
    went_on(&demo, &report, &[2, 3], 1, Duration::from_millis(1_500));
    assert_eq!(epochs(&demo, 2), [2; CALLS]);
}

/// A process that stood still goes on in the very moment in which the others take its calls.
#[test]
fn node_returns_during_takeover() {
    let demo = Demo::start_with(45, &town());
    let report = struck(&demo, (1, 1), 1, || {
        demo.signal(1, "-STOP");
        eventually(SOON, "n1 is lost to the others", || (owned(&demo, 2, 1)? < CALLS as u64).then_some(()));
        demo.signal(1, "-CONT");
    });
    went_on(&demo, &report, &[1, 2, 3], 1, Duration::from_millis(3_500));
    assert_eq!(report["surprises"], serde_json::json!({}), "{report}");
    assert_eq!(epochs(&demo, 1), [2; CALLS], "no call moved twice");
}

/// The power fails at both sites, so that not even a guard is left to say so, and comes back: the first node that holds a lease
/// again goes on with all calls, and each is heard again.
#[test]
fn every_node_dies_at_once_and_the_calls_go_on() {
    let demo = Demo::start_with(55, &town());
    let report = struck_in(&demo, (1, 2), 1, Duration::from_secs(20), || {
        demo.kill_guards(&[1, 2, 3]);
        [1, 2, 3].into_iter().for_each(|node| demo.restart(node));
    });
    went_on(&demo, &report, &[1, 2, 3], 1, Duration::from_secs(10));
    assert!(epochs(&demo, 1).iter().all(|epoch| *epoch > 1));
}

/// All processes stand still until every lease has run out, and go on with the calls that they had: so each may get back what it
/// still has.
#[test]
fn every_node_stands_still_at_once_and_the_calls_go_on() {
    let demo = Demo::start_with(59, &town());
    let report = struck_in(&demo, (1, 2), 1, Duration::from_secs(20), || {
        [1, 2, 3].into_iter().for_each(|node| demo.signal(node, "-STOP"));
        std::thread::sleep(Duration::from_secs(4));
        [1, 2, 3].into_iter().for_each(|node| demo.signal(node, "-CONT"));
    });
    went_on(&demo, &report, &[1, 2, 3], 1, Duration::from_secs(10));
    assert_eq!(report["surprises"], serde_json::json!({}), "{report}");
}

/// Votes at `asked`, whoever it joined by.
fn joined(demo: &Demo, node: u8, asked: u8) {
    demo.join_machine(node, asked);
    demo.restart(node);
    eventually(LONG, &format!("n{node} votes and may take calls"), || {
        let is_ready = demo.get(node, "/readyz").is_ok_and(|(status, _)| status == 200);
        (is_ready && demo.voters(asked).contains(&format!("n{node}"))).then_some(())
    });
}

/// Of five nodes two die in the same moment: the one that has the calls, and the one that would have to say so.
#[test]
fn leader_and_owner_die_together() {
    let demo = Demo::start_with(46, &town());
    joined(&demo, 4, 3);
    joined(&demo, 5, 3);
    let report = struck(&demo, (1, 1), 1, || {
        let _ = demo.cli(3, &["cluster", "transfer-leader", "n2"]);
        eventually(SOON, "n2 leads", || (demo.leader(3)? == 2).then_some(()));
        let pids = [demo.pid(1), demo.pid(2)];
        let kill = |pid: u32| std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).spawn();
        let killed: Vec<_> = pids.iter().map(|pid| kill(*pid).expect("kill")).collect();
        killed.into_iter().for_each(|mut kill| drop(kill.wait()));
        pids.into_iter().for_each(|pid| demo.await_end(pid));
    });
    went_on(&demo, &report, &[3, 4, 5], 1, Duration::from_millis(3_000));
    assert_eq!(epochs(&demo, 3), [2; CALLS]);
}

/// A node that joins while calls begin, talk and end knows all of them, and goes on with those of the node that dies next.
#[test]
fn joiner_full_state_under_load() {
    let demo = Demo::start_with(47, &town());
    let ids = |node: u8| -> Vec<String> {
        let calls = demo.items(node, "/v1/calls");
        calls.iter().filter_map(|call| Some(call["id"].as_str()?.to_owned())).collect()
    };
    let phones = |node: u8| demo.items(node, "/v1/registrations").len();
    let report = struck_in(&demo, (1, 1), 1, Duration::from_secs(20), || {
        joined(&demo, 4, 3);
        assert_eq!((ids(4), phones(4)), (ids(2), phones(2)));
        assert_eq!(ids(4).len(), CALLS);
        let hashes = demo.json(2, &["cluster", "hash"]);
        assert_eq!(hashes["equal"], true, "{hashes}");
        for node in [2, 3] {
            let (code, _, error) = demo.cli(3, &["node", "drain", &format!("n{node}")]);
            assert_eq!(code, 0, "{error}");
        }
        demo.kill(1);
        eventually(SOON, "n4 has all calls", || (owned(&demo, 2, 4)? == CALLS as u64).then_some(()));
    });
    went_on(&demo, &report, &[2, 3, 4], 1, Duration::from_millis(3_000));
}

/// The actor that follows the log panics, and compares everything anew: that ends no call that anybody talks in, rings in or
/// just begins.
#[test]
#[cfg(feature = "faults")]
fn reconciler_never_ends_a_live_call() {
    use support::phone::Phone;
    use support::talk::Talk;

    let demo = Demo::start(48);
    let mut talk = Talk::begin(&demo, (1, 2));
    let mut held = Talk::begin(&demo, (1, 1));
    held.renegotiate("sendonly");
    let (a, b) = (demo.account(), demo.account());
    let mut caller = Phone::registered(&demo, &a, 1);
    let mut callee = Phone::registered(&demo, &b, 1);
    demo.await_registrations(1, &b, 1);
    let mut out = caller.call(&b.number);
    let mut inc = callee.incoming();
    callee.answer(&mut inc, 180, "Ringing");
    caller.response(&mut out, 180);
    let restarts = || demo.metric(1, "tandem_actor_restarts_total{kind=\"follower\"}").unwrap_or(0.0);
    for nth in 1..=5 {
        assert_eq!(demo.fault(1, "panic follower"), "done");
        // It breaks at the next thing that it hears, and never heard it.
        let _ = Phone::registered(&demo, &demo.account(), 2);
        eventually(SOON, "it starts again", || (restarts() >= f64::from(nth)).then_some(()));
        assert_eq!(demo.items(2, "/v1/calls").len(), 3);
    }
    callee.answer(&mut inc, 200, "OK");
    caller.expect(&mut out, 200);
    caller.hang_up(&mut out);
    callee.ended(&inc);
    talk.end();
    held.end();
    eventually(SOON, "three CDRs", || (demo.items(2, "/v1/cdrs").len() == 3).then_some(()));
    for cdr in demo.items(2, "/v1/cdrs") {
        assert_eq!((&cdr["cause"], &cdr["epoch"]), (&"normal_clearing".into(), &1.into()), "{cdr}");
    }
}
