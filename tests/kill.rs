//! Nodes die by SIGKILL while registrations and calls keep coming. What was acknowledged is on all nodes afterwards, the
//! others serve again within two seconds, and the dead come back.
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic, and tells its figures")]

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::demo::{Account, Demo};
use support::eventually;
use support::phone::Phone;

/// What the switch said yes to.
#[derive(Default)]
struct Acknowledged {
    /// Number and Contact user of each registration.
    registrations: Mutex<BTreeSet<(String, String)>>,
    /// Calls ended with a 200 to BYE, by caller's number.
    calls: Mutex<BTreeMap<String, usize>>,
    /// How the last failed call of each caller failed, for the reader of a failure.
    failures: Mutex<BTreeMap<String, String>>,
}

impl Acknowledged {
    /// How many registrations and calls so far.
    fn counts(&self) -> (usize, usize) {
        let calls = self.calls.lock().expect("no panic inside").values().sum();
        (self.registrations.lock().expect("no panic inside").len(), calls)
    }
}

const CONTACTS_PER_EXTENSION: usize = 8;

/// Registers new contacts at one node, about five a second: the extensions last for three minutes of that.
fn keep_registering(demo: &Demo, node: u8, next: &AtomicUsize, said_yes: &Acknowledged, stop: &AtomicBool) {
    let pool: Vec<&Account> = demo.accounts().iter().filter(|account| account.tenant == "globex").collect();
    let local = std::net::SocketAddrV4::new(demo.host(), 5060);
    while !stop.load(Ordering::Relaxed) {
        let serial = next.fetch_add(1, Ordering::Relaxed);
        let Some(account) = pool.get(serial / CONTACTS_PER_EXTENSION) else { return };
        let mut phone = Phone::at(account, local, demo.sip(node));
        let user = format!("c{serial}");
        let contact = format!("<sip:{user}@{local}>");
        let answer = phone.try_register(&contact, 3600, Duration::from_secs(3));
        if answer.is_some_and(|answer| answer.status() == Some(200)) {
            said_yes.registrations.lock().expect("no panic inside").insert((account.number.clone(), user));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Calls from one node to a phone at another, one after the other; failures while nodes die are no matter here.
fn keep_calling(
    demo: &Demo,
    caller: Account,
    callee: Account,
    nodes: (u8, u8),
    said_yes: &Acknowledged,
    stop: &AtomicBool,
) {
    let mut a = Phone::new(demo, &caller, nodes.0);
    let mut b = Phone::registered(demo, &callee, nodes.1);
    let short = Duration::from_secs(4);
    while !stop.load(Ordering::Relaxed) {
        match a.try_call(&mut b, short) {
            Ok(()) => {
                *said_yes.calls.lock().expect("no panic inside").entry(caller.number.clone()).or_default() +=
                    1;
            }
            Err(why) => {
                let why = format!("n{} to n{}: {why}", nodes.0, nodes.1);
                said_yes.failures.lock().expect("no panic inside").insert(caller.number.clone(), why);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// From now: how long until a survivor takes a registration, and until it takes a call.
fn recovery(demo: &Demo, node: u8, accounts: (&Account, &Account), other: u8) -> (Duration, Duration) {
    let began = Instant::now();
    let mut callee = Phone::new(demo, accounts.1, other);
    eventually(Duration::from_secs(10), "a survivor takes registrations", || {
        let contact = callee.contact();
        let answer = callee.try_register(&contact, 600, Duration::from_millis(300))?;
        (answer.status() == Some(200)).then_some(())
    });
    let registered = began.elapsed();
    let mut caller = Phone::new(demo, accounts.0, node);
    eventually(Duration::from_secs(10), "a survivor takes calls", || {
        caller.try_call(&mut callee, Duration::from_millis(700)).ok()
    });
    (registered, began.elapsed())
}

fn kill_and_come_back(demo: &Demo, node: u8, said_yes: &Acknowledged) {
    let survivors: Vec<u8> = (1..=3).filter(|other| *other != node).collect();
    let (a, b) = (demo.account(), demo.account());
    demo.kill(node);
    let (registered, called) = recovery(demo, survivors[0], (&a, &b), survivors[1]);
    assert!(registered < Duration::from_secs(2), "registrations again after {registered:?}");
    assert!(called < Duration::from_secs(2), "calls again after {called:?}");
    println!("n{node} killed: registrations again after {registered:?}, calls after {called:?}");

    let (registrations, calls) = said_yes.counts();
    eventually(Duration::from_secs(15), "registrations keep coming without the node", || {
        (said_yes.counts().0 > registrations + 10).then_some(())
    });
    let deadline = Instant::now() + Duration::from_secs(15);
    while said_yes.counts().1 <= calls + 3 {
        let failures = said_yes.failures.lock().expect("no panic inside").clone();
        assert!(
            Instant::now() < deadline,
            "calls keep coming without n{node}; the last that failed: {failures:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    demo.restart(node);
    eventually(Duration::from_secs(20), "the others see the killed node up again", || {
        let status = demo.status(survivors[0])?;
        let nodes = status["nodes"].as_array()?;
        (nodes.len() == 3 && nodes.iter().all(|one| one["state"] == "up")).then_some(())
    });
    let mut phone = Phone::new(demo, &demo.account(), node);
    eventually(Duration::from_secs(20), "the node that is back takes registrations", || {
        let contact = phone.contact();
        let answer = phone.try_register(&contact, 600, Duration::from_millis(500))?;
        (answer.status() == Some(200)).then_some(())
    });
}

fn registered(demo: &Demo, node: u8) -> BTreeSet<(String, String)> {
    let items = demo.items(node, "/v1/registrations");
    items.iter().filter_map(|one| Some((one["number"].as_str()?.to_owned(), contact_user(one)?))).collect()
}

fn contact_user(registration: &Value) -> Option<String> {
    let uri = registration["contact"].as_str()?;
    Some(uri.split_once("sip:")?.1.split_once('@')?.0.to_owned())
}

#[test]
fn nothing_acknowledged_is_lost_when_the_leader_and_then_a_follower_are_killed() {
    let demo = Demo::start(24);
    let said_yes = Acknowledged::default();
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let pairs: Vec<(Account, Account)> = (0..3).map(|_| (demo.account(), demo.account())).collect();
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for node in 1..=3 {
            let (demo, said_yes, stop, next) = (&demo, &said_yes, &stop, &next);
            scope.spawn(move || keep_registering(demo, node, next, said_yes, stop));
        }
        for ((caller, callee), nodes) in pairs.iter().cloned().zip([(1, 2), (2, 3), (3, 1)]) {
            let (demo, said_yes, stop) = (&demo, &said_yes, &stop);
            scope.spawn(move || keep_calling(demo, caller, callee, nodes, said_yes, stop));
        }
        eventually(Duration::from_secs(20), "registrations and calls come", || {
            let (registrations, calls) = said_yes.counts();
            (registrations > 10 && calls > 3).then_some(())
        });
        let first = eventually(Duration::from_secs(10), "a leader", || demo.leader(1));
        kill_and_come_back(&demo, first, &said_yes);
        let leader = eventually(Duration::from_secs(10), "a leader", || demo.leader(first));
        let follower = (1..=3).find(|node| *node != leader && *node != first);
        kill_and_come_back(&demo, follower.unwrap_or(first % 3 + 1), &said_yes);
    });

    let acknowledged = said_yes.registrations.into_inner().expect("no panic inside");
    for node in 1..=3 {
        eventually(
            Duration::from_secs(10),
            &format!("n{node} knows every acknowledged registration"),
            || {
                let known = registered(&demo, node);
                let missing: Vec<_> = acknowledged.difference(&known).collect();
                if !missing.is_empty() {
                    eprintln!("n{node} lacks {} of {}: {missing:?}", missing.len(), acknowledged.len());
                }
                missing.is_empty().then_some(())
            },
        );
    }
    let (code, out, error) = demo.cli(1, &["cluster", "hash"]);
    assert_eq!(code, 0, "{out}{error}");

    let calls = said_yes.calls.into_inner().expect("no panic inside");
    for (number, count) in calls {
        let account = demo.account_of("acme", &number);
        let callee = pairs
            .iter()
            .find(|(caller, _)| caller.number == number)
            .map(|(_, callee)| callee)
            .expect("a pair");
        for node in 1..=3 {
            let cdrs = demo.cdrs(node, &account, &callee.number);
            let answered: BTreeSet<String> = cdrs
                .iter()
                .filter(|cdr| cdr["status"] == "answered")
                .map(|cdr| cdr["id"].to_string())
                .collect();
            assert!(
                answered.len() >= count,
                "n{node}: {} answered CDRs of {number} for {count} calls",
                answered.len()
            );
            let ids: BTreeSet<String> = cdrs.iter().map(|cdr| cdr["id"].to_string()).collect();
            assert_eq!(ids.len(), cdrs.len(), "a CDR is there twice");
        }
    }
    let logs = demo.logs();
    assert!(!logs.contains(demo.token()), "the operator's token is in a log");
    assert!(
        demo.accounts().iter().all(|account| !logs.contains(&account.password)),
        "a password is in a log"
    );
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_stopped_demo_comes_back_with_its_state() {
    let mut demo = Demo::start(26);
    let account = demo.account();
    Phone::registered(&demo, &account, 2);
    demo.await_registrations(1, &account, 1);
    demo.stop();
    let dir = demo.dir.clone();
    demo = Demo::start_again(26, dir);
    for node in 1..=3 {
        demo.await_registrations(node, &account, 1);
    }
    let (code, out, error) = demo.cli(2, &["cluster", "hash"]);
    assert_eq!(code, 0, "{out}{error}");
}
