use super::*;
use crate::transaction::samples::{ack, request, response};

fn invite() -> Message {
    request("INVITE", "z9hG4bK1")
}

fn begun(reliable: bool) -> ServerInvite {
    let mut machine = ServerInvite::new(0, invite(), reliable, Timers::default());
    assert_eq!(outputs(&mut machine), [Output::Deliver(invite())]);
    machine
}

fn outputs(machine: &mut ServerInvite) -> Vec<Output> {
    std::iter::from_fn(|| machine.poll_output()).collect()
}

fn after(machine: &mut ServerInvite, now: u64, input: ServerInput) -> Vec<Output> {
    machine.handle_input(now, input);
    outputs(machine)
}

fn respond(machine: &mut ServerInvite, now: u64, status: u16) -> Vec<Output> {
    after(machine, now, ServerInput::Respond(response(&invite(), status)))
}

fn again(machine: &mut ServerInvite, now: u64) -> Vec<Output> {
    after(machine, now, ServerInput::Request(invite()))
}

fn send(status: u16) -> Vec<Output> {
    vec![Output::Send(response(&invite(), status))]
}

#[test]
fn a_slow_user_gets_its_trying_sent_after_200_ms() {
    let mut machine = begun(false);
    assert_eq!(again(&mut machine, 100), []);
    assert_eq!(machine.poll_timeout(), Some(200));
    let trying = ResponseBuilder::to(&invite(), 100, "").build().unwrap();
    assert_eq!(after(&mut machine, 200, ServerInput::Time), [Output::Send(trying.clone())]);
    assert_eq!(again(&mut machine, 500), [Output::Send(trying)]);
    assert_eq!(machine.poll_timeout(), None);
}

#[test]
fn the_last_provisional_response_answers_copies_of_the_invite() {
    let mut machine = begun(false);
    assert_eq!(respond(&mut machine, 10, 180), send(180));
    assert_eq!(machine.poll_timeout(), None);
    assert_eq!(respond(&mut machine, 20, 183), send(183));
    assert_eq!(again(&mut machine, 500), send(183));
}

#[test]
fn a_refusal_is_sent_again_until_its_ack() {
    let mut machine = begun(false);
    assert_eq!(respond(&mut machine, 0, 486), send(486));
    let mut sent_at = Vec::new();
    while machine.poll_timeout().is_some_and(|at| at < 16_000) {
        let now = machine.poll_timeout().unwrap();
        assert_eq!(after(&mut machine, now, ServerInput::Time), send(486));
        sent_at.push(now);
    }
    assert_eq!(sent_at, [500, 1_500, 3_500, 7_500, 11_500, 15_500]);
    assert_eq!(again(&mut machine, 16_000), send(486));
    assert_eq!(after(&mut machine, 16_100, ServerInput::Request(ack("z9hG4bK1"))), []);
    assert_eq!(again(&mut machine, 16_200), []);
    assert_eq!(machine.poll_timeout(), Some(21_100));
    assert_eq!(after(&mut machine, 21_100, ServerInput::Time), [Output::Terminated]);
}

#[test]
fn a_refusal_without_ack_is_told_at_timer_h() {
    let mut machine = begun(true);
    assert_eq!(respond(&mut machine, 0, 486), send(486));
    assert_eq!(machine.poll_timeout(), Some(32_000));
    assert_eq!(after(&mut machine, 32_000, ServerInput::Time), [Output::Timeout, Output::Terminated]);
}

#[test]
fn over_a_reliable_transport_the_ack_ends_it() {
    let mut machine = begun(true);
    respond(&mut machine, 0, 486);
    assert_eq!(after(&mut machine, 10, ServerInput::Request(ack("z9hG4bK1"))), [Output::Terminated]);
}

#[test]
fn a_2xx_is_sent_again_only_by_the_call_and_copies_of_the_invite_are_absorbed() {
    let mut machine = begun(false);
    assert_eq!(respond(&mut machine, 100, 200), send(200));
    assert_eq!(again(&mut machine, 500), []);
    assert_eq!(respond(&mut machine, 600, 200), send(200));
    assert_eq!(respond(&mut machine, 700, 486), []);
    let ack = ack("z9hG4bK1");
    assert_eq!(after(&mut machine, 800, ServerInput::Request(ack.clone())), [Output::Deliver(ack)]);
    assert_eq!(machine.poll_timeout(), Some(32_100));
    assert_eq!(after(&mut machine, 32_100, ServerInput::Time), [Output::Terminated]);
}

#[test]
fn a_second_final_response_is_ignored() {
    let mut machine = begun(false);
    respond(&mut machine, 0, 486);
    assert_eq!(respond(&mut machine, 1, 200), []);
    assert_eq!(respond(&mut machine, 1, 180), []);
}

#[test]
fn a_transport_error_is_told_and_ends_only_a_refusal() {
    let mut machine = begun(false);
    assert_eq!(after(&mut machine, 1, ServerInput::TransportError), [Output::TransportError]);
    respond(&mut machine, 2, 486);
    assert_eq!(
        after(&mut machine, 3, ServerInput::TransportError),
        [Output::TransportError, Output::Terminated]
    );
}
