use super::*;
use crate::build::{ack_for, cancel_for};
use crate::transaction::samples::{request, response};

fn invite() -> Message {
    request("INVITE", "z9hG4bK1")
}

fn begun(reliable: bool) -> ClientInvite {
    let mut machine = ClientInvite::new(0, invite(), reliable, Timers::default());
    assert_eq!(outputs(&mut machine), [Output::Send(invite())]);
    machine
}

fn outputs(machine: &mut ClientInvite) -> Vec<Output> {
    std::iter::from_fn(|| machine.poll_output()).collect()
}

fn after(machine: &mut ClientInvite, now: u64, input: ClientInput) -> Vec<Output> {
    machine.handle_input(now, input);
    outputs(machine)
}

fn answer(machine: &mut ClientInvite, now: u64, status: u16) -> Vec<Output> {
    after(machine, now, ClientInput::Response(response(&invite(), status)))
}

#[test]
fn an_invite_without_answer_is_sent_at_doubling_intervals_until_timer_b() {
    let mut machine = begun(false);
    let mut sent_at = Vec::new();
    loop {
        let now = machine.poll_timeout().unwrap();
        match after(&mut machine, now, ClientInput::Time).as_slice() {
            [Output::Send(message)] => sent_at.push((now, message == &invite())),
            rest => {
                assert_eq!((now, rest), (32_000, &[Output::Timeout, Output::Terminated][..]));
                break;
            }
        }
    }
    let expected = [500, 1_500, 3_500, 7_500, 15_500, 31_500].map(|at| (at, true));
    assert_eq!(sent_at, expected);
    assert_eq!(machine.poll_timeout(), None);
}

#[test]
fn over_a_reliable_transport_nothing_is_sent_twice() {
    let mut machine = begun(true);
    assert_eq!(machine.poll_timeout(), Some(32_000));
    assert_eq!(after(&mut machine, 31_999, ClientInput::Time), []);
    assert_eq!(after(&mut machine, 32_000, ClientInput::Time), [Output::Timeout, Output::Terminated]);
}

#[test]
fn a_provisional_response_ends_retransmission_and_the_time_limit() {
    let mut machine = begun(false);
    assert_eq!(answer(&mut machine, 100, 180), [Output::Deliver(response(&invite(), 180))]);
    assert_eq!(machine.poll_timeout(), None);
    assert_eq!(answer(&mut machine, 90_000, 183), [Output::Deliver(response(&invite(), 183))]);
}

#[test]
fn a_refusal_is_acknowledged_each_time_and_delivered_once() {
    let mut machine = begun(false);
    let busy = response(&invite(), 486);
    let ack = ack_for(&invite(), &busy).unwrap();
    assert_eq!(answer(&mut machine, 100, 486), [Output::Send(ack.clone()), Output::Deliver(busy)]);
    assert_eq!(answer(&mut machine, 600, 486), [Output::Send(ack)]);
    assert_eq!(answer(&mut machine, 700, 180), []);
    assert_eq!(machine.poll_timeout(), Some(32_100));
    assert_eq!(after(&mut machine, 32_100, ClientInput::Time), [Output::Terminated]);
}

#[test]
fn over_a_reliable_transport_a_refusal_ends_it_at_once() {
    let mut machine = begun(true);
    let busy = response(&invite(), 486);
    let ack = ack_for(&invite(), &busy).unwrap();
    assert_eq!(
        answer(&mut machine, 100, 486),
        [Output::Send(ack), Output::Deliver(busy), Output::Terminated]
    );
}

#[test]
fn every_2xx_is_delivered_until_timer_m() {
    let mut machine = begun(false);
    let ok = [Output::Deliver(response(&invite(), 200))];
    assert_eq!(answer(&mut machine, 100, 200), ok);
    assert_eq!(answer(&mut machine, 600, 200), ok);
    assert_eq!(answer(&mut machine, 700, 486), []);
    assert_eq!(after(&mut machine, 800, ClientInput::TransportError), []);
    assert_eq!(after(&mut machine, 32_100, ClientInput::Time), [Output::Terminated]);
    assert_eq!(answer(&mut machine, 33_000, 200), []);
}

#[test]
fn a_cancel_waits_for_the_first_provisional_response() {
    let mut machine = begun(false);
    let cancel = cancel_for(&invite(), Some("SIP;cause=200")).unwrap();
    assert_eq!(after(&mut machine, 10, ClientInput::Cancel(cancel.clone())), []);
    assert_eq!(
        answer(&mut machine, 100, 100),
        [Output::Deliver(response(&invite(), 100)), Output::SendCancel(cancel.clone())]
    );
    assert_eq!(after(&mut machine, 200, ClientInput::Cancel(cancel)), []);
    assert_eq!(machine.poll_timeout(), Some(32_100));
    assert_eq!(after(&mut machine, 32_100, ClientInput::Time), [Output::Timeout, Output::Terminated]);
}

#[test]
fn a_cancel_after_a_final_response_is_ignored() {
    let mut machine = begun(false);
    answer(&mut machine, 100, 200);
    let cancel = cancel_for(&invite(), None).unwrap();
    assert_eq!(after(&mut machine, 110, ClientInput::Cancel(cancel)), []);
}

#[test]
fn a_transport_error_ends_it() {
    let mut machine = begun(false);
    assert_eq!(
        after(&mut machine, 5, ClientInput::TransportError),
        [Output::TransportError, Output::Terminated]
    );
    assert_eq!(after(&mut machine, 6, ClientInput::TransportError), []);
}
