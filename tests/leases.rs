//! Leases of real processes: a node that dies or falls silent is called down in time, its calls go on elsewhere, and it
//! comes back by itself under a higher epoch.
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic, and tells its figures")]

mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use support::demo::{Account, Demo, Events};
use support::phone::{Call, Phone};
use support::{SOON, eventually};

/// Lease, margin and one second more.
const CALLED_DOWN: Duration = Duration::from_millis(1_800 + 200 + 1_000);

/// The epoch of a node that holds a lease.
#[track_caller]
fn up(demo: &Demo, asked: u8, node: u8) -> u64 {
    eventually(SOON, &format!("n{node} is up"), || {
        let member = demo.member(asked, node)?;
        let holds = member["state"] == "up" && member["lease_ms"].as_u64()? > 0;
        member["epoch"].as_u64().filter(|_| holds)
    })
}

/// Waits until the log has the end of a node's lease of `epoch`; how long that took from `since`.
#[track_caller]
fn down(demo: &Demo, asked: u8, node: u8, epoch: u64, since: Instant) -> Duration {
    eventually(SOON, &format!("n{node} is called down"), || {
        let member = demo.member(asked, node)?;
        let ended = member["state"] == "down" && member["lease_ms"] == 0 && member["epoch"] == epoch + 1;
        ended.then_some(())
    });
    since.elapsed()
}

/// A call that talks, owned by the node at which its caller is registered.
fn talking(demo: &Demo, at: u8, other: u8) -> (Phone, Phone, Call) {
    let (caller, callee) = (demo.account(), demo.account());
    let mut caller = Phone::registered(demo, &caller, at);
    let mut callee = Phone::registered(demo, &callee, other);
    demo.await_registrations(at, &callee.account, 1);
    let mut out = caller.call(&callee.account.number);
    let mut inc = callee.incoming();
    callee.answer(&mut inc, 200, "OK");
    caller.expect(&mut out, 200);
    callee.acknowledged(&inc);
    (caller, callee, inc)
}

/// The call of a node that was called down goes on at another one.
fn goes_on_elsewhere(demo: &Demo, asked: u8, left: &str) {
    eventually(SOON, "its call goes on elsewhere", || {
        let calls = demo.items(asked, "/v1/calls");
        let [call] = calls.as_slice() else { return None };
        (call["node"] != left && call["epoch"].as_u64()? > 1).then_some(())
    });
}

/// The one CDR of a call, the same on these nodes.
fn one_cdr(demo: &Demo, nodes: &[u8], caller: &Account, callee: &Account) {
    let cdrs = nodes.iter().map(|node| {
        eventually(SOON, &format!("the CDR on n{node}"), || {
            let found = demo.cdrs(*node, caller, &callee.number);
            assert!(found.len() <= 1, "{found:?}");
            found.into_iter().next()
        })
    });
    let cdrs: Vec<Value> = cdrs.collect();
    assert!(cdrs.iter().all(|cdr| *cdr == cdrs[0] && cdr["cause"] == "normal_clearing"), "{cdrs:?}");
}

fn is_told(events: &Events, name: &str, of: &Value) -> bool {
    let fields = of.as_object().expect("an object");
    let is_it = |one: &Value| one["event"] == name && fields.iter().all(|(key, value)| one[key] == *value);
    events.told().iter().any(is_it)
}

#[track_caller]
fn told(events: &Events, name: &str, of: Value) {
    eventually(SOON, &format!("{name} {of} among the events"), || is_told(events, name, &of).then_some(()));
}

/// Waits until a watcher has printed something.
#[track_caller]
fn shown(watched: &Path, text: &str) {
    eventually(SOON, &format!("{text:?} in {}", watched.display()), || {
        std::fs::read_to_string(watched).ok()?.contains(text).then_some(())
    });
}

#[track_caller]
fn registers_again(demo: &Demo, node: u8) {
    let mut phone = Phone::new(demo, &demo.account(), node);
    eventually(SOON, &format!("n{node} takes registrations"), || {
        let contact = phone.contact();
        let answer = phone.try_register(&contact, 600, Duration::from_millis(500))?;
        (answer.status() == Some(200)).then_some(())
    });
}

#[test]
fn a_node_that_dies_or_is_paused_is_called_down_in_time_and_comes_back_under_a_higher_epoch() {
    let demo = Demo::start(31);
    let first = up(&demo, 1, 3);
    let events = demo.events(1);

    // Killed, while somebody watches there first.
    let (watching, watched) = demo.watching(&[3, 1]);
    shown(&watched, "quorum    yes");
    let (caller, mut callee, mut call) = talking(&demo, 3, 2);
    let killed = Instant::now();
    demo.kill(3);
    let took = down(&demo, 1, 3, first, killed);
    assert!(took <= CALLED_DOWN, "called down after {took:?}");
    println!("killed: called down after {took:?}");
    goes_on_elsewhere(&demo, 1, "n3");
    let answer = callee.bye(&mut call);
    assert_eq!(answer.status(), Some(200), "n2 knows who has the call of n3: {}", answer.start);
    one_cdr(&demo, &[1, 2], &caller.account, &callee.account);
    told(&events, "node.down", json!({"node": "n3", "cause": "died"}));
    demo.restart(3);
    assert_eq!(up(&demo, 1, 3), first + 1);
    told(&events, "node.up", json!({"node": "n3"}));
    told(&events, "node.returned", json!({"node": "n3", "epoch": first + 1, "restarted": true}));
    assert!(!is_told(&events, "node.fenced", &json!({})), "it was known to be dead");
    for line in ["n3 down (died)", "1 call n3 -> n", &format!("n3 returned, epoch {} (restarted)", first + 1)]
    {
        shown(&watched, line);
    }
    drop(watching);
    registers_again(&demo, 3);
    one_cdr(&demo, &[1, 2, 3], &caller.account, &callee.account);

    // Paused.
    let (mut caller, mut callee, mut call) = talking(&demo, 3, 2);
    let mut over_tcp = Phone::over_tcp(&demo, &demo.account(), 3);
    over_tcp.register();
    let (_watching, watched) = demo.watching(&[1]);
    shown(&watched, "quorum    yes");
    let paused = Instant::now();
    demo.signal(3, "-STOP");
    let took = down(&demo, 1, 3, first + 1, paused);
    assert!(took <= CALLED_DOWN, "called down after {took:?}");
    goes_on_elsewhere(&demo, 1, "n3");
    std::thread::sleep(Duration::from_secs(4).saturating_sub(paused.elapsed()));
    demo.signal(3, "-CONT");
    let back = Instant::now();
    assert_eq!(up(&demo, 1, 3), first + 2);
    told(&events, "node.fenced", json!({"node": "n3", "epoch": first + 1, "cause": "expired"}));
    told(&events, "node.down", json!({"node": "n3", "cause": "expired"}));
    told(&events, "node.returned", json!({"node": "n3", "epoch": first + 2, "restarted": false}));
    for line in ["n3 down (silent)", "1 call n3 -> n", &format!("n3 returned, epoch {}\n", first + 2)] {
        shown(&watched, line);
    }
    println!("paused: called down after {took:?}, up again {:?} after it went on", back.elapsed());
    registers_again(&demo, 3);
    eventually(SOON, "it has dropped its call and the media of it", || {
        let gone = demo.metric(3, "tandem_calls_active")? == 0.0
            && demo.metric(3, "tandem_rtp_sessions")? == 0.0
            && demo.metric(3, "tandem_calls_lost_total")? == 1.0;
        gone.then_some(())
    });
    assert!(over_tcp.sees_its_connection_closed(SOON), "a phone whose binding is lost has to register again");
    demo.await_registrations(1, &over_tcp.account, 0);
    let heard = Duration::from_millis(300);
    assert!(
        !caller.hears("BYE", heard) && !callee.hears("BYE", heard),
        "it spoke for a call that it had lost"
    );
    assert_eq!(callee.bye(&mut call).status(), Some(200));
    one_cdr(&demo, &[1, 2, 3], &caller.account, &callee.account);

    // Nobody else was.
    assert_eq!((up(&demo, 2, 1), up(&demo, 2, 2)), (first, first));
    assert_eq!(demo.metric(3, "tandem_node_epoch"), Some(3.0), "it began with epoch {first}");
    assert!(demo.metric(1, "tandem_lease_renewals_total").is_some_and(|count| count > 5.0));
    let (code, out, error) = demo.cli(1, &["cluster", "hash"]);
    assert_eq!(code, 0, "{out}{error}");
}
