//! Who owns a number, and whether a phone is registered, is linearizable, whatever node is asked and whichever dies meanwhile:
//! the histories of clients of real nodes are judged by the oracle of `chaos`.
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic, and tells its figures")]

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::demo::{Account, Demo};
use support::eventually;
use support::phone::Phone;
use tandem_chaos::oracle::{
    Binding, BindingOp, BindingSaid, Model, Number, NumberOp, NumberSaid, Operation, Verdict, check,
};

/// What was done to each key.
type Histories<O, S> = Mutex<BTreeMap<String, Vec<Operation<O, S>>>>;

const CLIENTS: u64 = 5;
const NUMBERS: u64 = 6;
const EXTENSIONS: u64 = 4;
/// Phones of one extension, with one contact and a Call-ID each.
const PHONES: u64 = 2;

/// A small generator; the same numbers in each run.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What a client asks for, and the request that does it.
fn chosen(choices: &mut Choices) -> (String, NumberOp, &'static str, String, String) {
    let number = format!("+44207000000{}", choices.below(NUMBERS));
    let tenant = ["acme", "globex"][usize::from(choices.below(2) == 1)].to_owned();
    let path = format!("/v1/tenants/{tenant}/numbers/%2B{}", &number[1..]);
    match choices.below(10) {
        0..4 => {
            let to = (101 + choices.below(8)).to_string();
            let body = format!(r#"{{"to":{{"extension":"{to}"}}}}"#);
            (number, NumberOp::Take((tenant, to)), "PUT", path, body)
        }
        4 => (number, NumberOp::Free(tenant), "DELETE", path, String::new()),
        _ => (number, NumberOp::Read(tenant), "GET", path + "?consistent=true", String::new()),
    }
}

/// What an answer says of what was done: something, nothing (then the operation is no part of the history), or that this is open.
enum Heard {
    Said(NumberSaid),
    Nothing,
    Open,
}

fn heard(op: &NumberOp, answer: &std::io::Result<(u16, String)>) -> Heard {
    match (op, answer) {
        (_, Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Heard::Nothing,
        (NumberOp::Read(_), Ok((200, body))) => {
            let leads: serde_json::Value = serde_json::from_str(body).expect("JSON");
            Heard::Said(NumberSaid::Leads(leads["to"]["extension"].as_str().map(str::to_owned)))
        }
        (NumberOp::Read(_), Ok((404, _))) => Heard::Said(NumberSaid::Leads(None)),
        (NumberOp::Read(_), _) => Heard::Nothing,
        (_, Ok((200 | 204, _))) => Heard::Said(NumberSaid::Done),
        (NumberOp::Take(_), Ok((409, _))) => Heard::Said(NumberSaid::Refused),
        // By this node's own view, which may be a little old; nothing was put to the log.
        (NumberOp::Free(_), Ok((404, _))) => Heard::Nothing,
        _ => Heard::Open,
    }
}

fn client(
    demo: &Demo,
    seed: u64,
    begun: Instant,
    histories: &Histories<NumberOp, NumberSaid>,
    stop: &AtomicBool,
) {
    let mut choices = Choices(seed);
    let now = || u64::try_from(begun.elapsed().as_micros()).expect("a short test");
    while !stop.load(Ordering::Relaxed) {
        let node = u8::try_from(1 + choices.below(3)).expect("a node");
        let (number, op, method, path, body) = chosen(&mut choices);
        let called = now();
        let answer = demo.ask(node, method, &path, &body);
        let answered = match heard(&op, &answer) {
            Heard::Said(said) => Some((now(), said)),
            Heard::Open => None,
            Heard::Nothing => {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
        };
        let operation = Operation { called, answered, op };
        histories.lock().expect("no panic inside").entry(number).or_default().push(operation);
        std::thread::sleep(Duration::from_millis(15));
    }
}

fn leader(demo: &Demo) -> u8 {
    eventually(Duration::from_secs(20), "a leader", || (1..=3).find_map(|node| demo.leader(node)))
}

fn pause(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// A leader is killed, another one stopped and let go on, a follower killed; each is back before the next.
fn trouble(demo: &Demo) {
    pause(2);
    let first = leader(demo);
    demo.kill(first);
    pause(3);
    demo.restart(first);
    pause(3);
    let second = leader(demo);
    demo.signal(second, "-STOP");
    pause(3);
    demo.signal(second, "-CONT");
    pause(2);
    let follower = if leader(demo) == 3 { 2 } else { 3 };
    demo.kill(follower);
    pause(2);
    demo.restart(follower);
    pause(3);
}

fn asked<O, S>(histories: &Histories<O, S>) -> usize {
    histories.lock().expect("no panic inside").values().map(Vec::len).sum()
}

/// Every history is linearizable, and there is enough to judge.
fn judged<M: Model>(histories: Histories<M::Op, M::Said>, keys: u64)
where
    M::Op: std::fmt::Debug,
    M::Said: std::fmt::Debug,
{
    let histories = histories.into_inner().expect("no panic inside");
    let (mut count, mut open) = (0, 0);
    for (key, history) in &histories {
        count += history.len();
        open += history.iter().filter(|operation| operation.answered.is_none()).count();
        assert_eq!(check::<M>(history), Verdict::Linearizable, "{key}: {history:#?}");
    }
    println!("{count} operations on {} keys, {open} with an open outcome", histories.len());
    assert!(count > 500 && histories.len() as u64 == keys, "too few to mean anything: {count}");
}

#[test]
fn who_owns_a_number_is_linearizable_while_nodes_die_and_stop() {
    let demo = Demo::start(52);
    let (histories, stop, begun) = (Histories::default(), AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        for seed in 1..=CLIENTS {
            let (demo, histories, stop) = (&demo, &histories, &stop);
            scope.spawn(move || client(demo, seed, begun, histories, stop));
        }
        trouble(&demo);
        eventually(Duration::from_secs(60), "enough operations", || (asked(&histories) > 500).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });
    judged::<Number>(histories, NUMBERS);
}

/// What the clients of registrations share.
struct Registrations<'a> {
    demo: &'a Demo,
    begun: Instant,
    histories: Histories<BindingOp, BindingSaid>,
    stop: AtomicBool,
}

impl Registrations<'_> {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).expect("a short test")
    }

    fn note(&self, account: &Account, called: u64, said: Option<BindingSaid>, op: BindingOp) {
        let operation = Operation { called, answered: said.map(|said| (self.now(), said)), op };
        let mut histories = self.histories.lock().expect("no panic inside");
        histories.entry(account.number.clone()).or_default().push(operation);
    }

    /// A phone that registers a contact and takes it back, now at this node, now at that. Each time the contact has
    /// another q: a REGISTER that changes nothing is answered by what its node knows, which is no part of this.
    fn phone(&self, which: u64, account: &Account, contact: &str) {
        let number: u64 = account.number.parse().expect("digits");
        let mut choices = Choices(number * PHONES + which);
        let mut phone = Phone::new(self.demo, account, 1);
        for turn in 0_u64.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            phone.turn_to(self.demo.sip(u8::try_from(1 + choices.below(3)).expect("a node")));
            let (op, expires) =
                if choices.below(3) == 0 { (BindingOp::Unbind, 0) } else { (BindingOp::Bind, 600) };
            let contact = format!("{contact};q=0.{:03}", (turn * PHONES + which) % 1000);
            let called = self.now();
            let answer = phone.try_register(&contact, expires, Duration::from_secs(2));
            match answer.and_then(|answer| answer.status()) {
                Some(200) => self.note(account, called, Some(BindingSaid::Done), op),
                // The log refused it each time: others were faster.
                Some(500) => {}
                _ if phone.proved.is_some() => self.note(account, called, None, op),
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(choices.below(20)));
        }
    }

    /// Somebody who looks which extensions are registered.
    fn reader(&self, seed: u64, accounts: &[Account]) {
        let mut choices = Choices(seed);
        while !self.stop.load(Ordering::Relaxed) {
            let account = &accounts[usize::try_from(choices.below(EXTENSIONS)).expect("an index")];
            let node = u8::try_from(1 + choices.below(3)).expect("a node");
            let called = self.now();
            let answer = self.demo.get(node, "/v1/tenants/acme/registrations?consistent=true");
            if let Ok((200, body)) = answer {
                let list: serde_json::Value = serde_json::from_str(&body).expect("JSON");
                let mut items = list["items"].as_array().expect("a list").iter();
                let there = items.any(|one| one["number"] == account.number.as_str());
                self.note(account, called, Some(BindingSaid::There(there)), BindingOp::Read);
            }
            std::thread::sleep(Duration::from_millis(15));
        }
    }
}

#[test]
fn whether_a_phone_is_registered_is_linearizable_while_nodes_die_and_stop() {
    let demo = Demo::start(57);
    let accounts: Vec<Account> = (0..EXTENSIONS).map(|_| demo.account()).collect();
    let (histories, stop) = (Histories::default(), AtomicBool::new(false));
    let all = Registrations { demo: &demo, begun: Instant::now(), histories, stop };
    std::thread::scope(|scope| {
        for (account, host) in accounts.iter().zip(1..) {
            for which in 0..PHONES {
                let contact = format!("<sip:{}@127.0.57.200:{}>", account.number, 5060 + host);
                let all = &all;
                scope.spawn(move || all.phone(which, account, &contact));
            }
        }
        for seed in 7..9 {
            let (all, accounts) = (&all, &accounts);
            scope.spawn(move || all.reader(seed, accounts));
        }
        trouble(&demo);
        eventually(Duration::from_secs(60), "enough operations", || {
            (asked(&all.histories) > 500).then_some(())
        });
        all.stop.store(true, Ordering::Relaxed);
    });
    judged::<Binding>(all.histories, EXTENSIONS);
}

fn is_registered(demo: &Demo, node: u8, account: &Account, how: &str) -> bool {
    let items = demo.items(node, &format!("/v1/tenants/acme/registrations{how}"));
    items.iter().any(|one| one["number"] == account.number.as_str())
}

/// A node that has not heard yet of a phone's contact, for it was stopped for a moment, does not say that it is taken back
/// because it finds none.
#[test]
fn a_contact_that_is_taken_back_at_a_node_that_lags_is_gone_once_that_node_says_so() {
    let demo = Demo::start(58);
    let lagging = if leader(&demo) == 3 { 2 } else { 3 };
    let account = demo.account();
    let mut phone = Phone::registered(&demo, &account, 1);
    let contact = phone.contact();
    let mut done = 0;
    eventually(Duration::from_secs(60), "it is taken back three times", || {
        phone.turn_to(demo.sip(1));
        phone
            .try_register(&contact, 0, Duration::from_secs(5))
            .filter(|answer| answer.status() == Some(200))?;
        eventually(Duration::from_secs(20), "the other node has heard of it", || {
            (!is_registered(&demo, lagging, &account, "")).then_some(())
        });
        demo.signal(lagging, "-STOP");
        let answer = phone.try_register(&contact, 600, Duration::from_secs(5));
        phone.turn_to(demo.sip(lagging));
        phone.send_register(&contact, 0);
        demo.signal(lagging, "-CONT");
        let taken_back = phone.answer_to_register(Duration::from_secs(5));
        // Its lease may have run out meanwhile; then it says so.
        if let (Some(200), Some(200)) = (answer?.status(), taken_back?.status()) {
            assert!(!is_registered(&demo, 1, &account, "?consistent=true"), "{}", phone.history());
            done += 1;
        }
        (done == 3).then_some(())
    });
}
