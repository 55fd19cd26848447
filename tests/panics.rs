//! The actor of a call panics while people talk. Nobody hears it, in this call or in another, and the call goes on.
#![cfg(feature = "faults")]
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic, and tells its figures")]

mod support;

use std::time::Duration;
use support::demo::Demo;
use support::phone::{Call, Phone};
use support::rtp::{End, Heard, talk};
use support::talk::Talk;
use support::{SOON, eventually};

/// What may lie between two packets that are 20 ms apart.
const GAP_MAX: Duration = Duration::from_millis(40);
/// On a machine that is busy with other things: so much more than in the same talk without panics.
const MORE_THAN_CONTROL: Duration = Duration::from_millis(20);
/// A burst of other work may fall into the one talk and not into the other: then both are done again.
const ROUNDS_MAX: u32 = 4;
/// In one talk: two talks fall into the ten seconds in which an actor may be restarted five times.
const PANICS: u32 = 2;
const TALK: Duration = Duration::from_secs(3);

/// The media ends of a call.
fn ends(call: &Talk) -> [End; 2] {
    let caller = End::new(call.caller.audio(), Call::audio_of(&call.answer));
    [caller, End::new(call.callee.audio(), Call::audio_of(&call.inc.invite))]
}

fn id_of(demo: &Demo, caller: &Phone) -> String {
    eventually(SOON, "the call in the list", || {
        let calls = demo.items(1, "/v1/tenants/acme/calls");
        let call = calls.into_iter().find(|call| call["from"] == caller.account.number.as_str())?;
        Some(call["id"].as_str()?.to_owned())
    })
}

fn restarts(demo: &Demo) -> u32 {
    let (_, metrics) = demo.get(1, "/metrics").expect("metrics");
    let line = metrics.lines().find(|line| line.starts_with("tandem_actor_restarts_total{kind=\"call\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Both calls talk, and the actor of one panics meanwhile.
fn talk_over_panics(demo: &Demo, calls: &[[End; 2]], run: u32, id: &str) -> Vec<Heard> {
    std::thread::scope(|scope| {
        let sound = scope.spawn(|| talk(calls, run, TALK));
        for _ in 0..PANICS {
            std::thread::sleep(TALK / (PANICS + 1));
            assert_eq!(demo.fault(1, &format!("panic {id}")), "done");
        }
        sound.join().expect("the phones talk")
    })
}

/// The largest gap of a talk in which nothing may be lost.
#[track_caller]
fn longest(heard: &[Heard], when: &str) -> Duration {
    assert!(heard.iter().all(|heard| heard.lost == 0), "packets were lost {when}: {heard:?}");
    heard.iter().map(|heard| heard.longest).max().expect("a call")
}

/// How many rounds of control and panics it took until the panics were no more to be heard than nothing.
fn rounds(demo: &Demo, calls: &[[End; 2]], id: &str) -> u32 {
    let mut seen = Vec::new();
    for round in 1..=ROUNDS_MAX {
        let control = longest(&talk(calls, 2 * round, TALK), "without a panic");
        let heard = talk_over_panics(demo, calls, 2 * round + 1, id);
        let gap = longest(&heard, "over panics");
        println!("longest gap {gap:?} over {PANICS} panics, {control:?} without: {heard:?}");
        if gap <= GAP_MAX || (control > GAP_MAX && gap <= control + MORE_THAN_CONTROL) {
            return round;
        }
        seen.push((gap, control));
    }
    assert!(seen.is_empty(), "the panics are heard: gaps with and without them {seen:?}");
    ROUNDS_MAX
}

fn ends_in_order(demo: &Demo, mut call: Talk) {
    call.renegotiate("sendonly");
    call.renegotiate("sendrecv");
    call.end();
    demo.await_no_calls(&call.caller.account);
    let cdr = demo.cdr(&call.caller.account, &call.callee.account.number);
    let told = (cdr["status"].as_str(), cdr["cause"].as_str());
    assert_eq!(told, (Some("answered"), Some("normal_clearing")), "{cdr}");
    assert_eq!(cdr["quality"]["loss_ppm"], 0, "{cdr}");
}

#[test]
fn panics_in_a_calls_actor_are_not_heard_in_it_or_in_another_and_it_can_still_be_held_and_ended() {
    let demo = Demo::start(30);
    let (panicking, other) = (Talk::begin(&demo, (1, 2)), Talk::begin(&demo, (1, 2)));
    let id = id_of(&demo, &panicking.caller);
    let before = restarts(&demo);
    let media = [ends(&panicking), ends(&other)];
    let panics = PANICS * rounds(&demo, &media, &id);
    eventually(SOON, "every restart is counted", || (restarts(&demo) >= before + panics).then_some(()));
    assert_eq!(restarts(&demo), before + panics, "no other actor restarted");
    ends_in_order(&demo, panicking);
    ends_in_order(&demo, other);
}
