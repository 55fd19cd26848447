//! Who owns a number is linearizable, whatever node is asked and whichever dies meanwhile: the histories of clients of real
//! nodes are judged by the oracle of `chaos`.
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic, and tells its figures")]

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::demo::Demo;
use support::eventually;
use tandem_chaos::oracle::{Number, NumberOp, NumberSaid, Operation, Verdict, check};

type Histories = Mutex<BTreeMap<String, Vec<Operation<NumberOp, NumberSaid>>>>;

const CLIENTS: u64 = 5;
const NUMBERS: u64 = 6;

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

fn client(demo: &Demo, seed: u64, begun: Instant, histories: &Histories, stop: &AtomicBool) {
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

#[test]
fn who_owns_a_number_is_linearizable_while_nodes_die_and_stop() {
    let demo = Demo::start(52);
    let (histories, stop, begun) = (Histories::default(), AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        for seed in 1..=CLIENTS {
            let (demo, histories, stop) = (&demo, &histories, &stop);
            scope.spawn(move || client(demo, seed, begun, histories, stop));
        }
        pause(2);
        let first = leader(&demo);
        demo.kill(first);
        pause(3);
        demo.restart(first);
        pause(3);
        let second = leader(&demo);
        demo.signal(second, "-STOP");
        pause(3);
        demo.signal(second, "-CONT");
        pause(2);
        let follower = if leader(&demo) == 3 { 2 } else { 3 };
        demo.kill(follower);
        pause(2);
        demo.restart(follower);
        pause(3);
        let asked = || histories.lock().expect("no panic inside").values().map(Vec::len).sum::<usize>();
        eventually(Duration::from_secs(60), "enough operations", || (asked() > 500).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });
    let histories = histories.into_inner().expect("no panic inside");
    let (mut count, mut open) = (0, 0);
    for (number, history) in &histories {
        count += history.len();
        open += history.iter().filter(|operation| operation.answered.is_none()).count();
        assert_eq!(check::<Number>(history), Verdict::Linearizable, "{number}: {history:#?}");
    }
    println!("{count} operations on {} numbers, {open} with an open outcome", histories.len());
    assert!(count > 500 && histories.len() as u64 == NUMBERS, "too few to mean anything: {count}");
}
