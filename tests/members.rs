//! A machine is lost for good: the operator removes it and a new one takes its place, by the commands of the runbook.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::fs;
use std::time::Duration;
use support::demo::Demo;
use support::eventually;

const LONG: Duration = Duration::from_secs(20);

/// A machine like n3 with an empty data directory, prepared by `cluster join`; started by `Demo::restart(4)`.
fn new_machine(demo: &Demo) {
    let folder = demo.dir.join("n4");
    fs::create_dir_all(&folder).expect("n4");
    let host = demo.host().octets();
    let config = fs::read_to_string(demo.dir.join("n3/tandem.toml")).expect("n3's config");
    let config = config
        .replace("\"n3\"", "\"n4\"")
        .replace(&format!("127.0.{}.3", host[2]), &format!("127.0.{}.4", host[2]));
    let path = folder.join("tandem.toml");
    fs::write(&path, config).expect("n4's config");
    let (code, token, error) = demo.cli(1, &["cluster", "invite"]);
    assert_eq!(code, 0, "{error}");
    let (code, _, error) =
        demo.cli(1, &["cluster", "join", token.trim(), "--config", &path.to_string_lossy()]);
    assert_eq!(code, 0, "{error}");
}

fn names_of_voters(demo: &Demo) -> Vec<String> {
    let status = demo.json(1, &["cluster", "status"]);
    let votes = |node: &&serde_json::Value| matches!(node["raft"].as_str(), Some("leader" | "follower"));
    let nodes = status["nodes"].as_array().expect("nodes");
    nodes.iter().filter(votes).filter_map(|node| Some(node["name"].as_str()?.to_owned())).collect()
}

#[test]
fn a_lost_machine_is_removed_and_a_new_one_takes_its_place() {
    let demo = Demo::start(47);
    let (code, _, error) = demo.cli(3, &["cluster", "transfer-leader", "n2"]);
    assert_eq!(code, 0, "{error}");
    eventually(LONG, "n2 leads", || (demo.leader(1) == Some(2)).then_some(()));

    demo.kill(3);
    let (code, _, error) = demo.cli(1, &["cluster", "remove", "n1"]);
    assert_eq!(code, 1, "n1 and n2 are all that is left of a quorum");
    assert!(error.contains("only 1 of the 2 voters that would stay can be reached"), "{error}");
    let (code, _, error) = demo.cli(1, &["cluster", "remove", "n9"]);
    assert_eq!((code, error.contains("no node n9")), (1, true), "{error}");
    let (code, out, error) = demo.cli(1, &["cluster", "remove", "n3"]);
    assert_eq!((code, out.as_str()), (0, "n3 is removed\n"), "{error}");

    demo.restart(3);
    new_machine(&demo);
    demo.restart(4);
    eventually(LONG, "n4 votes, and n3 is no member", || {
        (names_of_voters(&demo) == ["n1", "n2", "n4"]).then_some(())
    });
    let (code, _, error) = demo.cli(1, &["cluster", "hash"]);
    assert_eq!(code, 0, "{error}");
    let status = demo.json(1, &["cluster", "status"]);
    assert_eq!(status["survives"]["any_one_node"], true, "{status}");
    demo.kill(1);
    eventually(LONG, "n2 and n4 go on without n1", || {
        let status = demo.status(4)?;
        (status["quorum"] == true && status["leader"] != "n1").then_some(())
    });
}
