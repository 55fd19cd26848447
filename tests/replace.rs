//! All three machines of a cluster are replaced, one by one, while phones register and call: what was acknowledged is
//! on the new three, every CDR of the old ones too.
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic, and tells its figures")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::demo::{Account, Demo};
use support::eventually;
use support::phone::Phone;

const LONG: Duration = Duration::from_secs(30);

/// The nodes that phones use, and what those said yes to.
struct Load {
    serving: Mutex<Vec<u8>>,
    /// Node, number and Contact user.
    registrations: Mutex<BTreeSet<(u8, String, String)>>,
    /// Answered and ended calls, by the numbers of both.
    calls: Mutex<BTreeMap<(String, String), usize>>,
    stop: AtomicBool,
    next: AtomicUsize,
}

impl Load {
    /// The `turn`th of those that serve.
    fn node(&self, turn: usize) -> u8 {
        let serving = self.serving.lock().expect("no panic inside");
        serving[turn % serving.len()]
    }

    fn counts(&self) -> (usize, usize) {
        let calls = self.calls.lock().expect("no panic inside").values().sum();
        (self.registrations.lock().expect("no panic inside").len(), calls)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

struct StopOnDrop<'a>(&'a Load);

fn keep_registering(demo: &Demo, load: &Load) {
    let pool: Vec<&Account> = demo.accounts().iter().filter(|account| account.tenant == "globex").collect();
    let local = std::net::SocketAddrV4::new(demo.host(), 5060);
    while !load.stopped() {
        let serial = load.next.fetch_add(1, Ordering::Relaxed);
        let (node, Some(account)) = (load.node(serial), pool.get(serial / 8)) else { return };
        let mut phone = Phone::at(account, local, demo.sip(node));
        let user = format!("c{serial}");
        let answer = phone.try_register(&format!("<sip:{user}@{local}>"), 3600, Duration::from_secs(2));
        if answer.is_some_and(|answer| answer.status() == Some(200)) {
            let known = (node, account.number.clone(), user);
            load.registrations.lock().expect("no panic inside").insert(known);
        }
        std::thread::sleep(Duration::from_millis(150));
    }
}

fn keep_calling(demo: &Demo, load: &Load, (caller, callee): (Account, Account)) {
    let hosts = [demo.host(), demo.host()].map(|host| std::net::SocketAddrV4::new(host, 5060));
    let mut turn = 0;
    while !load.stopped() {
        turn += 1;
        let mut a = Phone::at(&caller, hosts[0], demo.sip(load.node(turn)));
        let mut b = Phone::at(&callee, hosts[1], demo.sip(load.node(turn + 1)));
        let contact = b.contact();
        let there = b.try_register(&contact, 60, Duration::from_secs(2));
        let there = there.is_some_and(|answer| answer.status() == Some(200));
        if there && a.try_call(&mut b, Duration::from_secs(3)).is_ok() {
            let numbers = (caller.number.clone(), callee.number.clone());
            *load.calls.lock().expect("no panic inside").entry(numbers).or_default() += 1;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What an operator does: the new one joins and votes, then the old one goes.
fn replace(demo: &Demo, load: &Load, old: u8, new: u8) {
    let began = Instant::now();
    demo.join_machine(new, old);
    demo.restart(new);
    eventually(LONG, &format!("n{new} votes and may take calls"), || {
        let ready = demo.get(new, "/readyz").is_ok_and(|(status, _)| status == 200);
        (ready && demo.voters(new).contains(&format!("n{new}"))).then_some(())
    });
    {
        let mut serving = load.serving.lock().expect("no panic inside");
        serving.retain(|node| *node != old);
        serving.push(new);
    }
    if eventually(LONG, "a leader", || demo.leader(new)) == old {
        let (code, _, error) = demo.cli(new, &["cluster", "transfer-leader", &format!("n{new}")]);
        assert_eq!(code, 0, "{error}");
    }
    demo.kill(old);
    eventually(LONG, &format!("n{old} is removed"), || {
        let (code, _, error) = demo.cli(new, &["cluster", "remove", &format!("n{old}")]);
        if code != 0 {
            eprintln!("not yet: {error}");
        }
        (code == 0).then_some(())
    });
    let file = demo.dir.join(format!("tenant-{new}.yaml"));
    let tenant = format!("tenants:\n  - {{name: made-by-n{new}, domain: n{new}.example, timezone: UTC}}\n");
    std::fs::write(&file, tenant).expect("a file");
    let (code, _, error) = demo.cli(new, &["apply", "-f", &file.to_string_lossy()]);
    assert_eq!(code, 0, "{error}");
    println!("n{old} replaced by n{new} in {:?}", began.elapsed());
    let (registrations, calls) = load.counts();
    eventually(LONG, "registrations and calls keep coming", || {
        let now = load.counts();
        (now.0 > registrations + 5 && now.1 > calls + 2).then_some(())
    });
}

#[test]
fn three_machines_are_replaced_one_by_one_under_load_and_nothing_acknowledged_is_lost() {
    let demo = Demo::start(48);
    let load = Load {
        serving: Mutex::new(vec![1, 2, 3]),
        registrations: Mutex::default(),
        calls: Mutex::default(),
        stop: AtomicBool::new(false),
        next: AtomicUsize::new(0),
    };
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&load);
        scope.spawn(|| keep_registering(&demo, &load));
        for _ in 0..2 {
            let pair = (demo.account(), demo.account());
            let (demo, load) = (&demo, &load);
            scope.spawn(move || keep_calling(demo, load, pair));
        }
        eventually(LONG, "registrations and calls come", || {
            let (registrations, calls) = load.counts();
            (registrations > 10 && calls > 3).then_some(())
        });
        for (old, new) in [(1, 4), (2, 5), (3, 6)] {
            replace(&demo, &load, old, new);
        }
    });

    let (registrations, calls) = load.counts();
    println!("{registrations} registrations and {calls} calls were acknowledged");
    assert_eq!(demo.voters(4), ["n4", "n5", "n6"]);
    let (code, out, error) = demo.cli(5, &["cluster", "hash"]);
    assert_eq!(code, 0, "{out}{error}");
    // Bindings of a removed node went with it; those that the new ones took are there.
    let acknowledged = load.registrations.into_inner().expect("no panic inside");
    let acknowledged: BTreeSet<(String, String)> = acknowledged
        .into_iter()
        .filter(|(node, ..)| *node > 3)
        .map(|(_, number, user)| (number, user))
        .collect();
    let calls = load.calls.into_inner().expect("no panic inside");
    for node in 4..=6 {
        let tenants: BTreeSet<String> = demo
            .items(node, "/v1/tenants")
            .iter()
            .map(|one| one["name"].as_str().unwrap_or("").to_owned())
            .collect();
        for made in 4..=6 {
            assert!(tenants.contains(&format!("made-by-n{made}")), "n{node}: {tenants:?}");
        }
        let known: BTreeSet<(String, String)> = demo
            .items(node, "/v1/registrations?limit=1000")
            .iter()
            .filter_map(|one| {
                let uri = one["contact"].as_str()?.split_once("sip:")?.1;
                Some((one["number"].as_str()?.to_owned(), uri.split_once('@')?.0.to_owned()))
            })
            .collect();
        let missing: Vec<_> = acknowledged.difference(&known).collect();
        assert!(missing.is_empty(), "n{node} lacks {missing:?}");
        for ((caller, callee), count) in &calls {
            let cdrs = answered(&demo, node, caller, callee);
            assert!(cdrs >= *count, "n{node}: {cdrs} answered CDRs of {caller} for {count} calls");
        }
    }
}

/// Different answered CDRs from one number to another, over all pages.
fn answered(demo: &Demo, node: u8, from: &str, to: &str) -> usize {
    let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let (_, body) =
            demo.get(node, &format!("/v1/tenants/acme/cdrs?limit=500{cursor}")).expect("an answer");
        let page: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        for cdr in page["items"].as_array().expect("items") {
            if cdr["from"] == from && cdr["to"] == to && cdr["status"] == "answered" {
                assert!(ids.insert(cdr["id"].to_string()), "a CDR is there twice");
            }
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids.len(),
        }
    }
}
