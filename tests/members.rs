//! A machine is lost for good: the operator removes it and a new one takes its place, by the commands of the runbook.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use support::demo::Demo;
use support::eventually;

const LONG: Duration = Duration::from_secs(20);

/// A machine like n3 with an empty data directory, prepared by `cluster join`; started by `Demo::restart(4)`.
fn new_machine(demo: &Demo) {
    let path = demo.config_of(4);
    let (code, _, error) = demo.cli(1, &["cluster", "add", "n2"]);
    assert!(code == 1 && error.contains("a node n2 is there already"), "{error}");
    let (_, astray, _) = demo.cli(1, &["cluster", "add", "n7"]);
    let (code, _, error) =
        demo.cli(1, &["cluster", "join", astray.trim(), "--config", &path.to_string_lossy()]);
    assert!(code == 1 && error.contains("this token is for a node named n7"), "{error}");
    let (code, token, error) = demo.cli(1, &["cluster", "add", "n4"]);
    assert_eq!(code, 0, "{error}");
    let (code, _, error) =
        demo.cli(1, &["cluster", "join", token.trim(), "--config", &path.to_string_lossy()]);
    assert_eq!(code, 0, "{error}");
}

/// n3 is not running: a copy of its directory is no node, and nothing is made anew beside what is there.
fn copies_are_refused(demo: &Demo) {
    let path = demo.config_of(5).to_string_lossy().into_owned();
    let data = demo.dir.join("n3/data").to_string_lossy().into_owned();
    let copied = Command::new("cp").args(["-r", &data]).arg(demo.dir.join("n5/data")).status();
    assert!(copied.expect("cp").success());
    let (code, _, error) = demo.cli(1, &["node", "run", "--config", &path]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("is a copy of a node's data directory"), "{error}");
    let (code, _, error) = demo.cli(1, &["cluster", "init", "--config", &path]);
    assert_eq!((code, error.contains("is not empty")), (1, true), "{error}");

    let living = demo.dir.join("n1/tandem.toml");
    let beside = fs::read_to_string(&living).expect("n1's config").replace("\"data\"", "\"other\"");
    let path = demo.dir.join("n1/beside.toml");
    fs::write(&path, beside).expect("a config");
    let (code, _, error) = demo.cli(1, &["cluster", "init", "--config", &path.to_string_lossy()]);
    assert_eq!((code, error.contains("a node runs at")), (1, true), "{error}");
}

/// The cluster port answers nobody but in TLS; who speaks something else is in the log.
fn the_cluster_port_speaks_tls_alone(demo: &Demo) {
    let mut stream = TcpStream::connect((*demo.sip(1).ip(), 7400)).expect("the cluster port");
    stream.write_all(b"TNDM is what nodes once said in the clear").expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() <= 7, "an alert of TLS at most: {answer:?}");
    eventually(LONG, "the log names it", || demo.logs().contains("does not speak TLS").then_some(()));
}

#[test]
fn a_lost_machine_is_removed_and_a_new_one_takes_its_place() {
    let demo = Demo::start(47);
    let (code, _, error) = demo.cli(3, &["cluster", "transfer-leader", "n2"]);
    assert_eq!(code, 0, "{error}");
    eventually(LONG, "n2 leads", || (demo.leader(1) == Some(2)).then_some(()));

    the_cluster_port_speaks_tls_alone(&demo);
    eventually(LONG, "the cluster key is changed, once the newest rules are in force", || {
        let (code, out, _) = demo.cli(1, &["cluster", "rotate-key"]);
        (code == 0 && out.contains("is in use")).then_some(())
    });

    demo.kill(3);
    let (code, _, error) = demo.cli(1, &["cluster", "rotate-key"]);
    assert_eq!((code, error.contains("node n3 could not be given the new one")), (1, true), "{error}");
    copies_are_refused(&demo);
    let (code, _, error) = demo.cli(1, &["cluster", "remove", "n1"]);
    assert_eq!(code, 1, "n1 runs, and n1 and n2 are all that is left of a quorum");
    assert!(error.contains("it still runs: stop it first"), "{error}");
    let (code, _, error) = demo.cli(1, &["cluster", "remove", "n9"]);
    assert_eq!((code, error.contains("no node n9")), (1, true), "{error}");
    let (code, out, error) = demo.cli(1, &["cluster", "remove", "n3"]);
    assert_eq!((code, out.as_str()), (0, "n3 is removed\n"), "{error}");

    demo.restart(3);
    new_machine(&demo);
    demo.restart(4);
    eventually(LONG, "n4 votes, and n3 is no member", || {
        (demo.voters(1) == ["n1", "n2", "n4"]).then_some(())
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
