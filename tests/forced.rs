//! Two of three nodes are lost for good: the third is made a cluster of its own by the commands of the runbook, and the lost
//! ones, back after all, do nothing.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::demo::{Demo, tandem};
use support::eventually;
use support::phone::Phone;

const LONG: Duration = Duration::from_secs(20);

/// Runs `cluster force-quorum` at n3 and types an answer. Its exit code and what it said on standard error.
fn force(demo: &Demo, lost: &[&str], answer: &str) -> (i32, String) {
    let config = demo.dir.join("n3/tandem.toml");
    let mut command = Command::new(tandem());
    command.args(["cluster", "force-quorum", "--config"]).arg(config);
    for name in lost {
        command.args(["--lost", name]);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tandem starts");
    // It may have refused already, and read nothing.
    let _ = writeln!(child.stdin.take().expect("stdin"), "{answer}");
    let done = child.wait_with_output().expect("tandem ends");
    (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn the_survivor_of_two_lost_nodes_becomes_a_cluster_of_its_own_and_the_lost_ones_stay_out() {
    let demo = Demo::start(48);
    let account = demo.account();
    let _phone = Phone::registered(&demo, &account, 3);
    let id = demo.json(3, &["cluster", "status"])["cluster_id"].as_str().expect("an id").to_owned();

    let (code, said) = force(&demo, &["n1", "n2"], &id);
    assert!(code == 1 && said.contains("in use by another process"), "n3 runs: {said}");
    demo.kill(3);
    // A call that n3 never hears of.
    let (a, b) = (demo.account(), demo.account());
    let mut callee = Phone::registered(&demo, &b, 2);
    Phone::new(&demo, &a, 1).try_call(&mut callee, Duration::from_secs(5)).expect("n1 and n2 are a quorum");
    eventually(LONG, "its CDR is at n1", || demo.cdrs(1, &a, &b.number).pop());
    let (code, said) = force(&demo, &["n1", "n2"], &id);
    assert!(code == 1 && said.contains("it is not lost"), "n1 and n2 run: {said}");
    demo.kill(1);
    demo.kill(2);
    let (code, said) = force(&demo, &["n1"], &id);
    assert!(code == 1 && said.contains("n2 votes and was not named as lost"), "{said}");
    let (code, said) = force(&demo, &["n1", "n2", "n9"], &id);
    assert!(code == 1 && said.contains("no voter is named n9"), "{said}");
    let (code, said) = force(&demo, &["n1", "n2"], "yes");
    assert!(code == 1 && said.contains("nothing was changed"), "{said}");

    let (code, said) = force(&demo, &["n1", "n2"], &id);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("its log    ends at position"), "{said}");
    demo.restart(3);
    let status = eventually(LONG, "n3 is a cluster of its own", || {
        let status = demo.status(3)?;
        let nodes = status["nodes"].as_array()?;
        (status["quorum"] == true && nodes.len() == 1 && nodes[0]["state"] == "up").then_some(status)
    });
    assert_eq!(
        (&status["generation"], status["leader"].as_str()),
        (&serde_json::json!(2), Some("n3")),
        "{status}"
    );
    let fork = status["fork"].as_str().expect("a fork was drawn").to_owned();
    let (code, out, error) = demo.cli(3, &["cluster", "status"]);
    assert!(code == 0 && out.contains(&format!("(generation 2, fork {fork})")), "{out}{error}");
    eventually(LONG, "its registrations are known", || {
        demo.items(3, "/v1/registrations")
            .iter()
            .any(|one| one["number"] == account.number.as_str())
            .then_some(())
    });
    let mut other = Phone::new(&demo, &demo.account(), 3);
    eventually(LONG, "it takes registrations", || {
        let contact = other.contact();
        let answer = other.try_register(&contact, 600, Duration::from_millis(500))?;
        (answer.status() == Some(200)).then_some(())
    });

    assert!(demo.cdrs(3, &a, &b.number).is_empty(), "n3 never heard of the call");
    let lost = demo.dir.join("n1/data").to_string_lossy().into_owned();
    let (code, out, error) = demo.cli(3, &["salvage", &lost]);
    assert_eq!((code, out.as_str()), (0, "1 CDRs brought over, 0 were known\n"), "{error}");
    assert_eq!(demo.cdrs(3, &a, &b.number).len(), 1);
    let (code, out, error) = demo.cli(3, &["salvage", &lost]);
    assert_eq!((code, out.as_str()), (0, "0 CDRs brought over, 1 were known\n"), "{error}");

    demo.restart(1);
    eventually(LONG, "n1, back after all, stops by itself", || {
        let log = std::fs::read_to_string(demo.dir.join("n1/by-hand.log")).ok()?;
        let said = log.contains("generation 2 of this cluster was forced without this node");
        (said && demo.get(1, "/healthz").is_err()).then_some(())
    });
    let (code, _, error) = demo.cli(3, &["cluster", "hash"]);
    assert_eq!(code, 0, "{error}");
}
