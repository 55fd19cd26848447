//! An older and a newer release in one cluster: the rules that all know are in force, and newer ones come by themselves once
//! the last node has them. There is no older release to run: a test build passes for one.
#![cfg(feature = "faults")]
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::time::Duration;
use support::demo::{Demo, release_of_rules};
use support::talk::Talk;
use support::{SOON, eventually};

const LONG: Duration = Duration::from_secs(40);
/// Leases are in force; cluster keys can't be changed.
const OLDER: u16 = 2;
const NEWER: u16 = tandem_state::tables::NEWEST_APPLY_VERSION;

/// Stops a node in order, as an upgrade does.
fn stop(demo: &Demo, node: u8) {
    let process = demo.pid(node);
    demo.signal(node, "-TERM");
    demo.await_end(process);
}

/// Waits until a node is back and votes.
fn is_back(demo: &Demo, asked: u8, node: u8) {
    eventually(LONG, &format!("n{node} is back"), || {
        let member = demo.member(asked, node)?;
        let votes = matches!(member["raft"].as_str(), Some("leader" | "follower"));
        (member["state"] == "up" && votes && demo.status(node)?["quorum"] == true).then_some(())
    });
}

/// Waits until a node says which rules are in force.
fn in_force(demo: &Demo, node: u8, rules: u16) -> String {
    let wanted = format!("rules {rules} are in force");
    eventually(LONG, &format!("at n{node}: {wanted}"), || {
        let (_, what) = demo.finding(node, node, "versions")?;
        what.contains(&wanted).then_some(what)
    })
}

/// Calls, registrations and changes of the configuration, from each release to the other.
fn serves(demo: &Demo, numbers: [&str; 2]) {
    for ((caller, callee), number) in [(1, 3), (3, 2)].into_iter().zip(numbers) {
        let mut talk = Talk::begin(demo, (caller, callee));
        talk.end();
        let cdr = demo.cdr(&talk.caller.account, &talk.callee.account.number);
        assert_eq!(cdr["status"], "answered", "{cdr}");
        let path = format!("/v1/tenants/acme/numbers/%2B{number}");
        let (status, body) =
            demo.ask(caller, "PUT", &path, r#"{"to":{"extension":"101"}}"#).expect("the API answers");
        assert_eq!(status, 200, "{body}");
        let read = format!("{path}?consistent=true");
        let (status, body) = demo.get(callee, &read).expect("the API answers");
        assert!(status == 200 && body.contains("101"), "{body}");
    }
    let (code, _, error) = demo.cli(1, &["cluster", "hash"]);
    assert_eq!(code, 0, "{error}");
}

#[test]
fn newer_rules_wait_for_the_last_older_node_and_then_no_older_one_comes_back() {
    let demo = Demo::start_anew_as(56, &release_of_rules(OLDER));
    for node in 1..=3 {
        in_force(&demo, node, OLDER);
    }
    for node in [1, 2] {
        stop(&demo, node);
        demo.restart(node);
        is_back(&demo, 3, node);
    }
    serves(&demo, ["442070000001", "442070000002"]);
    for node in [1, 2] {
        let what = in_force(&demo, node, OLDER);
        assert!(what.ends_with(&format!("this release has {NEWER}")), "{what}");
    }
    for node in 1..=3 {
        let (code, _, error) = demo.cli(node, &["cluster", "rotate-key"]);
        let is_told = error.contains("the members' rules are too old for it: all must run this release");
        assert!(code == 1 && is_told, "{error}");
    }

    stop(&demo, 3);
    demo.restart(3);
    for node in 1..=3 {
        in_force(&demo, node, NEWER);
    }
    is_back(&demo, 1, 3);
    let (code, _, error) = demo.cli(3, &["cluster", "rotate-key"]);
    assert_eq!(code, 0, "{error}");
    serves(&demo, ["442070000003", "442070000004"]);

    stop(&demo, 3);
    demo.restart_as(3, &release_of_rules(OLDER));
    eventually(LONG, "n3, of the older release, ends and says why", || {
        let log = std::fs::read_to_string(demo.dir.join("n3/by-hand.log")).ok()?;
        let why = format!(
            "apply version {NEWER} is in force, and this release follows {OLDER} at most: install a newer one"
        );
        (log.contains(&why) && demo.get(3, "/healthz").is_err()).then_some(())
    });
    eventually(SOON, "the others go on", || (demo.status(1)?["quorum"] == true).then_some(()));
    demo.restart(3);
    is_back(&demo, 1, 3);
    in_force(&demo, 3, NEWER);
    serves(&demo, ["442070000005", "442070000006"]);
}
