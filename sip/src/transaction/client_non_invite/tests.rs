use super::*;
use crate::transaction::samples::{request, response};

fn bye() -> Message {
    request("BYE", "z9hG4bK1")
}

fn begun(reliable: bool) -> ClientNonInvite {
    let mut machine = ClientNonInvite::new(0, bye(), reliable, Timers::default());
    assert_eq!(outputs(&mut machine), [Output::Send(bye())]);
    machine
}

fn outputs(machine: &mut ClientNonInvite) -> Vec<Output> {
    std::iter::from_fn(|| machine.poll_output()).collect()
}

fn after(machine: &mut ClientNonInvite, now: u64, input: ClientInput) -> Vec<Output> {
    machine.handle_input(now, input);
    outputs(machine)
}

fn answer(machine: &mut ClientNonInvite, now: u64, status: u16) -> Vec<Output> {
    after(machine, now, ClientInput::Response(response(&bye(), status)))
}

/// When it sends again from now on, until something else comes out.
fn resends(machine: &mut ClientNonInvite) -> (Vec<u64>, u64, Vec<Output>) {
    let mut sent_at = Vec::new();
    loop {
        let now = machine.poll_timeout().unwrap();
        let outputs = after(machine, now, ClientInput::Time);
        if outputs != [Output::Send(bye())] {
            return (sent_at, now, outputs);
        }
        sent_at.push(now);
    }
}

#[test]
fn a_request_without_answer_is_sent_at_intervals_up_to_t2_until_timer_f() {
    let (sent_at, end, last) = resends(&mut begun(false));
    assert_eq!(sent_at, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    assert_eq!((end, last), (32_000, vec![Output::Timeout, Output::Terminated]));
}

#[test]
fn after_a_provisional_response_the_interval_is_t2() {
    let mut machine = begun(false);
    assert_eq!(answer(&mut machine, 100, 100), [Output::Deliver(response(&bye(), 100))]);
    let (sent_at, end, last) = resends(&mut machine);
    assert_eq!(sent_at, [500, 4_500, 8_500, 12_500, 16_500, 20_500, 24_500, 28_500]);
    assert_eq!((end, last), (32_000, vec![Output::Timeout, Output::Terminated]));
}

#[test]
fn a_final_response_is_delivered_once_and_copies_are_absorbed_for_timer_k() {
    let mut machine = begun(false);
    assert_eq!(answer(&mut machine, 100, 200), [Output::Deliver(response(&bye(), 200))]);
    assert_eq!(answer(&mut machine, 200, 200), []);
    assert_eq!(machine.poll_timeout(), Some(5_100));
    assert_eq!(after(&mut machine, 5_100, ClientInput::Time), [Output::Terminated]);
}

#[test]
fn over_a_reliable_transport_nothing_is_sent_twice_and_an_answer_ends_it() {
    let mut machine = begun(true);
    assert_eq!(machine.poll_timeout(), Some(32_000));
    assert_eq!(answer(&mut machine, 9, 481), [Output::Deliver(response(&bye(), 481)), Output::Terminated]);
    assert_eq!(machine.poll_timeout(), None);
}

#[test]
fn a_transport_error_ends_it_but_not_after_the_answer() {
    assert_eq!(
        after(&mut begun(false), 1, ClientInput::TransportError),
        [Output::TransportError, Output::Terminated]
    );
    let mut answered = begun(false);
    answer(&mut answered, 1, 200);
    assert_eq!(after(&mut answered, 2, ClientInput::TransportError), []);
}
