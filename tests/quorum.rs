//! Two of three nodes die: the third says at once that it takes nothing new, goes on with the calls that it has, and serves
//! again when the others are back.
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic, and tells its figures")]

mod support;

use std::time::{Duration, Instant};
use support::demo::{Account, Demo};
use support::phone::Phone;
use support::talk::Talk;
use support::{SOON, eventually};

/// What an operator may rely on.
const AT_ONCE: Duration = Duration::from_secs(2);

/// REGISTER and INVITE of phones that the node has not seen are refused within two seconds of `since`, and say when to try
/// again.
fn refuses_at_once(demo: &Demo, node: u8, account: &Account, since: Instant) {
    let mut phone = Phone::new(demo, account, node);
    let contact = phone.contact();
    let refusal = eventually(AT_ONCE, "REGISTER is answered 503", || {
        let answer = phone.try_register(&contact, 600, Duration::from_millis(200))?;
        (answer.status() == Some(503)).then_some(answer)
    });
    let known = since.elapsed();
    assert!(known < AT_ONCE, "no quorum, known after {known:?}");
    println!("n{node}: no quorum, known after {known:?}");
    assert!(refusal.get("Retry-After").is_some(), "{refusal:?}");
    let asked = Instant::now();
    let mut call = phone.call("101");
    let refusal = phone.expect(&mut call, 503);
    assert!(asked.elapsed() < Duration::from_secs(1), "INVITE was refused after {:?}", asked.elapsed());
    assert!(refusal.get("Retry-After").is_some(), "{refusal:?}");
}

fn shows_no_quorum(demo: &Demo, node: u8) {
    let (status, body) = demo.get(node, "/readyz").expect("the API answers");
    assert_eq!(status, 503, "{body}");
    let (_, metrics) = demo.get(node, "/metrics").expect("the API answers");
    assert!(metrics.lines().any(|line| line == "tandem_quorum 0"), "{metrics}");
}

/// What is left of the lease that the node holds.
fn lease_s(demo: &Demo, node: u8) -> f64 {
    demo.metric(node, "tandem_lease_remaining_seconds").expect("a figure")
}

fn serves_again(demo: &Demo, node: u8) {
    let account = demo.account();
    let mut phone = Phone::new(demo, &account, node);
    let contact = phone.contact();
    eventually(Duration::from_secs(20), "REGISTER is taken again", || {
        let answer = phone.try_register(&contact, 600, Duration::from_millis(500))?;
        (answer.status() == Some(200)).then_some(())
    });
    eventually(SOON, "the node is ready again", || {
        demo.get(node, "/readyz").is_ok_and(|(status, _)| status == 200).then_some(())
    });
    // What it did so far may have been under the last of the lease that it held before; the next one is there at once.
    eventually(AT_ONCE, "its lease is renewed", || (lease_s(demo, node) > 1.3).then_some(()));
    Talk::begin(demo, (node, node)).end();
}

/// Kills the two others under a call of `node`, and brings them back.
fn alone_and_back(demo: &Demo, node: u8) {
    let mut talk = Talk::begin(demo, (node, node));
    let stranger = demo.account();
    let others: Vec<u8> = (1..=3).filter(|other| *other != node).collect();
    others.iter().for_each(|other| demo.kill(*other));
    refuses_at_once(demo, node, &stranger, Instant::now());
    talk.caller.hang_up(&mut talk.out);
    // Under its lease, which it may give up 0.2 s before the end, it passes that on; else under the next one.
    let speaks = lease_s(demo, node) > 0.25;
    if speaks {
        talk.callee.ended(&talk.inc);
    }
    shows_no_quorum(demo, node);
    others.iter().for_each(|other| demo.restart(*other));
    if !speaks {
        talk.callee.ended(&talk.inc);
    }
    serves_again(demo, node);
    let cdr = demo.cdr(&talk.caller.account, &talk.callee.account.number);
    assert_eq!(cdr["status"], "answered", "{cdr}");
}

#[test]
fn a_node_alone_refuses_new_work_at_once_keeps_its_calls_and_serves_again_with_the_others() {
    let demo = Demo::start(28);
    let leader = eventually(SOON, "a leader", || demo.leader(1));
    alone_and_back(&demo, leader);
    let leader = eventually(SOON, "a leader", || demo.leader(leader));
    alone_and_back(&demo, leader % 3 + 1);
}
