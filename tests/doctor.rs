//! `tandem doctor` against real nodes: all well, then with one of them gone.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::demo::Demo;

fn found<'a>(checkups: &'a Value, node: &str, check: &str) -> &'a Value {
    let of_node = checkups.as_array().expect("a list").iter().find(|one| one["node"] == node);
    let findings =
        of_node.unwrap_or_else(|| panic!("nothing of {node}"))["findings"].as_array().expect("findings");
    findings
        .iter()
        .find(|one| one["check"] == check)
        .unwrap_or_else(|| panic!("no {check} at {node}: {findings:#?}"))
}

#[test]
fn the_doctor_asks_every_node_and_says_what_to_do() {
    let demo = Demo::start(49);
    let (code, text, error) = demo.cli(2, &["doctor"]);
    assert_eq!(code, 0, "{text}{error}");
    let all: Value = demo.json(2, &["doctor"]);
    for node in ["n1", "n2", "n3"] {
        for check in ["quorum", "clock", "cluster time", "lease", "certificate", "versions", "phones"] {
            assert_eq!(found(&all, node, check)["level"], "ok", "{check} at {node}: {all:#}");
        }
        // How fast the disk of this machine is and how full is not the test's to judge.
        assert!(found(&all, node, "disk flush")["what"].as_str().expect("text").contains("ms, at worst"));
        assert!(found(&all, node, "disk space")["what"].as_str().expect("text").contains("GB free"));
    }
    assert!(found(&all, "n1", "port to n3")["what"].as_str().expect("text").contains("answers in"));

    demo.kill(3);
    let (code, text, error) = demo.cli(1, &["doctor"]);
    assert_eq!(code, 1, "{text}");
    assert!(error.contains("checks failed"), "{error}");
    for line in [
        "n1, quorum: bring the missing voters back",
        "n2, port to n3: is the node running",
        "n3, API: is the node running?",
    ] {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }

    // A node that hangs keeps nobody waiting for long.
    demo.signal(2, "-STOP");
    let asked = Instant::now();
    let (code, _, error) = demo.cli(2, &["cluster", "status"]);
    demo.signal(2, "-CONT");
    assert!(code == 1 && error.contains("did not answer in time"), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
}
