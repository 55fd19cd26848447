//! Clocks that are wrong, and a cluster that stood still: cluster time is that of a quorum.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod support;

use std::time::Duration;

use support::demo::{Account, Demo, clock_off};
use support::eventually;
use support::phone::Phone;

const LONG: Duration = Duration::from_secs(30);

fn is_registered(demo: &Demo, node: u8, account: &Account) -> bool {
    demo.items(node, "/v1/registrations").iter().any(|one| one["number"] == account.number.as_str())
}

#[test]
fn after_a_stop_of_two_hours_time_has_gone_on_and_what_was_due_is_over() {
    let demo = Demo::start(53);
    let account = demo.account();
    drop(Phone::registered(&demo, &account, 1));
    demo.await_registrations(3, &account, 1);
    let dir = demo.dir.clone();
    demo.stop();
    drop(demo);
    // The machines' other clocks have not moved, so the nodes have only the wall clocks to tell how long it was.
    let demo = Demo::start_as(53, dir, &clock_off("+2h"));
    eventually(LONG, "cluster time is that of the clocks", || {
        let (level, what) = demo.finding(2, 2, "cluster time")?;
        (level == "ok").then_some(what)
    });
    eventually(LONG, "the registration of two hours ago is over", || {
        (!is_registered(&demo, 2, &account)).then_some(())
    });
    let _again = Phone::registered(&demo, &account, 1);
    demo.await_registrations(3, &account, 1);
}

#[test]
fn one_node_with_a_wrong_clock_bends_nothing_and_does_not_lead() {
    let demo = Demo::start(54);
    let account = demo.account();
    let _phone = Phone::registered(&demo, &account, 1);
    let process = demo.pid(2);
    demo.kill(2);
    demo.await_end(process);
    demo.restart_as(2, &clock_off("+2h"));
    eventually(LONG, "the doctor sees whose clock is wrong", || {
        let (level, what) = demo.finding(1, 1, "clock")?;
        (level == "failure" && what.contains("off n2's clock")).then_some(())
    });
    // Asked to lead, it finds its own clock off, and hands leadership on.
    let (code, _, error) = demo.cli(1, &["cluster", "transfer-leader", "n2"]);
    assert_eq!(code, 0, "{error}");
    eventually(LONG, "n2 does not lead any more", || demo.leader(1).filter(|leader| *leader != 2));
    let (level, what) = demo.finding(1, 1, "cluster time").expect("a finding");
    assert_eq!(level, "ok", "{what}");
    assert!(is_registered(&demo, 1, &account), "two hours did not pass");
}
