//! After a power cut all phones of a town register in the same second: they are let in at the rate that the cluster
//! commits, the rest are told when to come again, and no node takes another one for dead meanwhile.
#![cfg(feature = "faults")]
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic, and tells its figures")]

mod support;

use serde_json::Value;
use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::time::Duration;
use support::demo::Demo;
use support::eventually;
use tandem_phones::digest::Algorithm;
use tandem_phones::register::{self, Options, Phones};

const PHONES: usize = 3_000;
const FIRST: u64 = 1_000;
const PASSWORD: &str = "phones-Secret-1";

/// A tenant whose extensions all have one password.
fn town() -> String {
    let mut text = String::from(
        "tenants:\n  - name: town\n    domain: town.example\n    timezone: Europe/London\n    extensions:\n",
    );
    for number in FIRST..FIRST + PHONES as u64 {
        let _ = writeln!(
            text,
            "      - {{number: \"{number}\", name: Phone {number}, password: \"{PASSWORD}\"}}"
        );
    }
    text
}

fn options(demo: &Demo) -> Options {
    let phones = Phones {
        local: SocketAddrV4::new(demo.host(), 0),
        targets: vec![demo.sip(1)],
        domain: "town.example".to_owned(),
        first: FIRST,
        count: PHONES,
        password: PASSWORD.to_owned(),
        algorithm: Algorithm::First,
    };
    Options {
        phones,
        rate: 500.0,
        rounds: 1,
        fresh: false,
        avalanche: Some(Duration::from_secs(240)),
        keep_nonce: true,
        unregister: false,
        expires: 300,
        pids: Vec::new(),
    }
}

fn epochs(demo: &Demo) -> Vec<Value> {
    let nodes = eventually(support::SOON, "n1 tells of all three nodes", || {
        let nodes = demo.status(1)?["nodes"].as_array()?.clone();
        (nodes.len() == 3 && nodes.iter().all(|node| node["state"] == "up")).then_some(nodes)
    });
    nodes.iter().map(|node| node["epoch"].clone()).collect()
}

/// The sum of a counter over all nodes.
fn counted(demo: &Demo, name: &str) -> f64 {
    (1..=3).filter_map(|node| demo.metric(node, name)).sum()
}

#[test]
fn an_avalanche_is_let_in_at_the_rate_of_the_log_and_refreshes_cost_it_nothing() {
    let demo = Demo::start_with(33, &town());
    let before = epochs(&demo);
    let events = demo.events(1);
    // On a fast disk so few phones would be no avalanche.
    for node in 1..=3 {
        assert_eq!(demo.fault(node, "disk slow 100"), "done");
    }
    let report = register::run(&options(&demo)).expect("the phones have their address");
    println!("{report}");

    let avalanche = &report["avalanche"];
    assert_eq!(avalanche["back"], PHONES, "{report}");
    assert_eq!(demo.status(1).expect("n1 answers")["nodes"].as_array().map(Vec::len), Some(3));
    let held: u64 = (1..=3)
        .map(|node| {
            let status = demo.status(node).expect("the node answers");
            status["nodes"][usize::from(node) - 1]["registrations"].as_u64().expect("a count")
        })
        .sum();
    assert_eq!(held, PHONES as u64);
    let admitted = counted(&demo, "tandem_register_admitted_total");
    let once = PHONES as f64..1.1 * PHONES as f64;
    assert!(once.contains(&admitted), "each phone needs the log once and its refresh does not: {admitted}");
    let deferred = counted(&demo, "tandem_register_deferred_total");
    assert!(deferred >= avalanche["deferred"].as_u64().expect("a count") as f64, "{deferred}: {report}");
    assert!(avalanche["deferred"].as_u64() > Some(0), "nobody was sent away: this was none: {report}");

    // A few refreshes may meet a moment without a quorum, when the machine is busy with other work.
    assert!(report["registered"].as_u64() >= Some(PHONES as u64 * 9 / 10), "{report}");
    let down = events.told().into_iter().filter(|event| event["event"] == "node.down");
    assert_eq!(down.collect::<Vec<Value>>(), Vec::<Value>::new());
    assert_eq!(epochs(&demo), before, "a healthy node lost its lease");
}
