use super::*;
use crate::transaction::samples::{request, response};

fn register() -> Message {
    request("REGISTER", "z9hG4bK1")
}

fn begun(reliable: bool) -> ServerNonInvite {
    let mut machine = ServerNonInvite::new(register(), reliable, Timers::default());
    assert_eq!(outputs(&mut machine), [Output::Deliver(register())]);
    machine
}

fn outputs(machine: &mut ServerNonInvite) -> Vec<Output> {
    std::iter::from_fn(|| machine.poll_output()).collect()
}

fn after(machine: &mut ServerNonInvite, now: u64, input: ServerInput) -> Vec<Output> {
    machine.handle_input(now, input);
    outputs(machine)
}

fn respond(machine: &mut ServerNonInvite, now: u64, status: u16) -> Vec<Output> {
    after(machine, now, ServerInput::Respond(response(&register(), status)))
}

fn send(status: u16) -> Vec<Output> {
    vec![Output::Send(response(&register(), status))]
}

#[test]
fn copies_are_absorbed_until_there_is_an_answer_and_answered_with_it_until_timer_j() {
    let mut machine = begun(false);
    assert_eq!(after(&mut machine, 10, ServerInput::Request(register())), []);
    assert_eq!(respond(&mut machine, 20, 100), send(100));
    assert_eq!(after(&mut machine, 30, ServerInput::Request(register())), send(100));
    assert_eq!(machine.poll_timeout(), None);
    assert_eq!(respond(&mut machine, 40, 401), send(401));
    assert_eq!(respond(&mut machine, 50, 200), []);
    assert_eq!(after(&mut machine, 60, ServerInput::Request(register())), send(401));
    assert_eq!(machine.poll_timeout(), Some(32_040));
    assert_eq!(after(&mut machine, 32_039, ServerInput::Time), []);
    assert_eq!(after(&mut machine, 32_040, ServerInput::Time), [Output::Terminated]);
}

#[test]
fn over_a_reliable_transport_the_answer_ends_it() {
    let mut machine = begun(true);
    let mut expected = send(200);
    expected.push(Output::Terminated);
    assert_eq!(respond(&mut machine, 20, 200), expected);
}

#[test]
fn a_transport_error_ends_it() {
    let mut machine = begun(false);
    assert_eq!(
        after(&mut machine, 1, ServerInput::TransportError),
        [Output::TransportError, Output::Terminated]
    );
    assert_eq!(after(&mut machine, 2, ServerInput::TransportError), []);
}
