//! A dozen calls of one tenant that talk while something happens to their node, and what must be true of them after it.

#![allow(clippy::print_stdout, reason = "a test tells its figures")]

use serde_json::Value;
use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::time::Duration;

use tandem_phones::calls::{self, Ends, Options};
use tandem_phones::digest::Algorithm;
use tandem_phones::register::Phones;

use super::demo::Demo;
use super::{SOON, eventually};

/// Calls that talk at once.
pub const CALLS: usize = 12;
const PASSWORD: &str = "phones-Secret-1";
const CALLERS: u64 = 1_000;
const CALLEES: u64 = 2_000;

/// A tenant with callers and callees that all have one password.
pub fn town() -> String {
    let mut text = String::from(
        "tenants:\n  - name: town\n    domain: town.example\n    timezone: Europe/London\n    extensions:\n",
    );
    for number in [CALLERS, CALLEES].into_iter().flat_map(|first| first..first + CALLS as u64) {
        let _ = writeln!(
            text,
            "      - {{number: \"{number}\", name: Phone {number}, password: \"{PASSWORD}\"}}"
        );
    }
    text
}

fn phones(demo: &Demo, first: u64, node: u8) -> Phones {
    Phones {
        local: SocketAddrV4::new(demo.host(), 0),
        targets: vec![demo.sip(node)],
        domain: "town.example".to_owned(),
        first,
        count: CALLS,
        password: PASSWORD.to_owned(),
        algorithm: Algorithm::First,
    }
}

/// Phones that call at one node others that registered at another, and talk for `hold`.
fn talk(demo: &Demo, nodes: (u8, u8), hold: Duration) -> Options {
    let callers = phones(demo, CALLERS, nodes.0);
    let callees = Phones { local: SocketAddrV4::new(demo.host(), 5060), ..phones(demo, CALLEES, nodes.1) };
    Options {
        callers,
        callees,
        calls: CALLS,
        rate: 20.0,
        hold,
        plateau: true,
        rtp: true,
        rtp_port: 30_000,
        ring: Duration::ZERO,
        ends: Ends::Both,
        register: true,
        pids: Vec::new(),
        patience: Duration::from_secs(15),
        watch: None,
    }
}

pub fn owned(demo: &Demo, asked: u8, node: u8) -> Option<u64> {
    demo.member(asked, node)?["calls"].as_u64()
}

/// How long calls talk.
pub const HOLD: Duration = Duration::from_secs(8);

/// Calls talk for as long as [`HOLD`]; `strike` hits their node, `victim`; gives what the phones say of it all.
pub fn struck(demo: &Demo, nodes: (u8, u8), victim: u8, strike: impl FnOnce()) -> Value {
    struck_in(demo, nodes, victim, HOLD, strike)
}

/// The same of calls that talk for `hold`.
pub fn struck_in(demo: &Demo, nodes: (u8, u8), victim: u8, hold: Duration, strike: impl FnOnce()) -> Value {
    let options = talk(demo, nodes, hold);
    let mut report = std::thread::scope(|scope| {
        let talking = scope.spawn(|| calls::run(&options).expect("the phones have their addresses"));
        eventually(Duration::from_secs(20), "all calls are up", || {
            (owned(demo, 2, victim)? == CALLS as u64).then_some(())
        });
        // The phones rest for a second before they listen.
        std::thread::sleep(Duration::from_millis(2_500));
        strike();
        talking.join().expect("the phones end")
    });
    report["hold_s"] = hold.as_secs().into();
    println!("{report}");
    report
}

/// Every call went on and ended well, was heard again within `gap`, and has one CDR, the same on all nodes that are up.
pub fn went_on(demo: &Demo, report: &Value, up: &[u8], rounds: usize, gap: Duration) {
    assert_eq!((&report["ok"], &report["failed"]), (&CALLS.into(), &0.into()), "{report}");
    let rtp = &report["rtp"];
    assert_eq!(rtp["silent"], 0, "{report}");
    let longest = rtp["longest_gap_ms"]["max"].as_f64().expect("a figure");
    assert!(longest < gap.as_secs_f64() * 1e3, "a side heard nothing for {longest} ms: {report}");
    eventually(SOON, "no call is left over", || demo.items(up[0], "/v1/calls").is_empty().then_some(()));
    let of_node = |node: &u8| {
        eventually(SOON, "one CDR of each call", || {
            let cdrs = demo.items(*node, "/v1/tenants/town/cdrs?limit=200");
            assert!(cdrs.len() <= CALLS * rounds, "a call has two CDRs: {cdrs:?}");
            (cdrs.len() == CALLS * rounds).then(|| cdrs[..CALLS].to_vec())
        })
    };
    let seen: Vec<Vec<Value>> = up.iter().map(of_node).collect();
    assert!(seen.iter().all(|cdrs| *cdrs == seen[0]), "{seen:?}");
    for cdr in &seen[0] {
        assert_eq!((&cdr["cause"], &cdr["status"]), (&"normal_clearing".into(), &"answered".into()), "{cdr}");
        let (billed, held) = (cdr["billed_s"].as_u64().expect("a figure"), report["hold_s"].as_u64());
        let held = held.expect("a figure");
        assert!((held..=held + 4).contains(&billed), "{cdr}");
    }
}

pub fn epochs(demo: &Demo, node: u8) -> Vec<u64> {
    let cdrs = demo.items(node, "/v1/tenants/town/cdrs?limit=200");
    cdrs[..CALLS].iter().filter_map(|cdr| cdr["epoch"].as_u64()).collect()
}

pub fn back(demo: &Demo, node: u8) {
    demo.restart(node);
    let asked = if node == 2 { 3 } else { 2 };
    eventually(Duration::from_secs(20), "the node is up again", || {
        (demo.member(asked, node)?["state"] == "up" && demo.member(asked, node)?["lease_ms"].as_u64()? > 0)
            .then_some(())
    });
}
