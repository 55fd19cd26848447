//! The actor of a call panics while people talk. Nobody hears it, in this call or in another, and the call goes on.
#![cfg(feature = "faults")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may panic, and tells its figures"
)]

mod support;

use std::time::Duration;
use support::demo::Demo;
use support::phone::{Call, Phone};
use support::rtp::{End, Heard, talk};
use support::talk::Talk;
use support::{SOON, eventually};

/// What may lie between two packets that are 20 ms apart.
const GAP_MAX: Duration = Duration::from_millis(40);
/// A machine that is busy with other things says nothing about panics: so often it is waited for a talk without them, and
/// without a longer gap.
const CONTROLS_MAX: u32 = 8;
/// Within ten seconds an actor may be restarted five times.
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

/// Talks without a panic until one is as good as it should be; which that was.
fn quiet(calls: &[[End; 2]]) -> u32 {
    let mut seen = Vec::new();
    for run in 1..=CONTROLS_MAX {
        let gap = longest(&talk(calls, run, TALK), "without a panic");
        println!("longest gap {gap:?} without a panic");
        if gap <= GAP_MAX {
            return run;
        }
        seen.push(gap);
    }
    panic!("the machine is too busy to tell: longest gaps without a panic {seen:?}");
}

/// Straight after a talk that was good without them, panics must not be heard.
fn unheard(demo: &Demo, calls: &[[End; 2]], id: &str) {
    let run = quiet(calls);
    let heard = talk_over_panics(demo, calls, run + 1, id);
    let gap = longest(&heard, "over panics");
    println!("longest gap {gap:?} over {PANICS} panics: {heard:?}");
    assert!(gap <= GAP_MAX, "the panics are heard: {gap:?}, and no more than {GAP_MAX:?} without them");
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
    unheard(&demo, &media, &id);
    eventually(SOON, "every restart is counted", || (restarts(&demo) >= before + PANICS).then_some(()));
    assert_eq!(restarts(&demo), before + PANICS, "no other actor restarted");
    ends_in_order(&demo, panicking);
    ends_in_order(&demo, other);
}
