//! The INVITE client transaction (RFC 3261 section 17.1.1, RFC 6026 section 7.2).

use super::machine::{ClientInput, Outbox, Output, Timers};
use crate::build::ack_for;
use crate::message::Message;

/// Calling, Proceeding, then Completed (a refusal, which the machine acknowledges itself) or Accepted (2xx, which
/// the call acknowledges).
#[derive(Clone, Debug)]
pub struct ClientInvite {
    state: State,
    invite: Message,
    ack: Option<Message>,
    cancel: Cancel,
    timers: Timers,
    reliable: bool,
    /// Timer A and the interval that led to it.
    retransmit_at: Option<u64>,
    interval: u64,
    /// Timers B, D, M, or the end of waiting for the answer to a CANCEL.
    deadline: Option<u64>,
    outbox: Outbox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
    Terminated,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cancel {
    No,
    Wanted(Message),
    Sent,
}

impl ClientInvite {
    /// Begins by sending the INVITE.
    pub fn new(now_ms: u64, invite: Message, reliable: bool, timers: Timers) -> Self {
        let mut outbox = Outbox::default();
        outbox.push(Output::Send(invite.clone()));
        Self {
            state: State::Calling,
            invite,
            ack: None,
            cancel: Cancel::No,
            timers,
            reliable,
            retransmit_at: (!reliable).then(|| now_ms.saturating_add(timers.t1())),
            interval: timers.t1(),
            deadline: Some(now_ms.saturating_add(timers.limit())),
            outbox,
        }
    }

    /// Takes one input; poll the outputs after it.
    pub fn handle_input(&mut self, now_ms: u64, input: ClientInput) {
        match input {
            ClientInput::Response(response) => self.response(now_ms, response),
            ClientInput::Cancel(cancel) => self.want_cancel(now_ms, cancel),
            ClientInput::Cancelled if self.state == State::Proceeding => self.cancelled(now_ms),
            // It ends by itself, or is over.
            ClientInput::Cancelled => {}
            ClientInput::Time => self.time(now_ms),
            ClientInput::TransportError => self.transport_error(),
        }
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.poll()
    }

    /// When to give [`ClientInput::Time`].
    pub fn poll_timeout(&self) -> Option<u64> {
        [self.retransmit_at, self.deadline].into_iter().flatten().min()
    }

    /// The INVITE.
    pub fn request(&self) -> &Message {
        &self.invite
    }

    fn response(&mut self, now_ms: u64, response: Message) {
        let status = response.status().unwrap_or(0);
        match (self.state, status) {
            (State::Calling | State::Proceeding, ..200) => self.provisional(now_ms, response),
            (State::Calling | State::Proceeding, 200..300) => {
                self.enter(State::Accepted, now_ms.saturating_add(self.timers.limit()));
                self.outbox.push(Output::Deliver(response));
            }
            (State::Calling | State::Proceeding, 300..) => self.refused(now_ms, response),
            (State::Completed, 300..) => self.outbox_ack(),
            (State::Accepted, 200..300) => self.outbox.push(Output::Deliver(response)),
            (State::Completed | State::Accepted | State::Terminated, _) => {}
        }
    }

    fn provisional(&mut self, now_ms: u64, response: Message) {
        if self.state == State::Calling {
            self.state = State::Proceeding;
            self.retransmit_at = None;
            self.deadline = None;
        }
        self.outbox.push(Output::Deliver(response));
        match std::mem::replace(&mut self.cancel, Cancel::Sent) {
            Cancel::Wanted(cancel) => self.send_cancel(now_ms, cancel),
            other => self.cancel = other,
        }
    }

    fn refused(&mut self, now_ms: u64, response: Message) {
        self.ack = ack_for(&self.invite, &response).ok();
        self.outbox_ack();
        self.outbox.push(Output::Deliver(response));
        if self.reliable {
            self.terminate();
        } else {
            self.enter(State::Completed, now_ms.saturating_add(self.timers.d()));
        }
    }

    fn outbox_ack(&mut self) {
        if let Some(ack) = &self.ack {
            self.outbox.push(Output::Send(ack.clone()));
        }
    }

    /// A CANCEL waits for the first provisional response: before it the peer may not know the INVITE.
    fn want_cancel(&mut self, now_ms: u64, cancel: Message) {
        match (self.state, &self.cancel) {
            (State::Calling, Cancel::No) => self.cancel = Cancel::Wanted(cancel),
            (State::Proceeding, Cancel::No) => self.send_cancel(now_ms, cancel),
            _ => {}
        }
    }

    fn send_cancel(&mut self, now_ms: u64, cancel: Message) {
        self.cancelled(now_ms);
        self.outbox.push(Output::SendCancel(cancel));
    }

    /// Without a final response within 64 x T1 the INVITE counts as cancelled (RFC 3261 section 9.1).
    fn cancelled(&mut self, now_ms: u64) {
        self.cancel = Cancel::Sent;
        self.deadline = Some(now_ms.saturating_add(self.timers.limit()));
    }

    fn time(&mut self, now_ms: u64) {
        if self.deadline.is_some_and(|at| at <= now_ms) {
            if matches!(self.state, State::Calling | State::Proceeding) {
                self.outbox.push(Output::Timeout);
            }
            self.terminate();
        } else if self.retransmit_at.is_some_and(|at| at <= now_ms) {
            self.interval = self.interval.saturating_mul(2);
            self.retransmit_at = Some(now_ms.saturating_add(self.interval));
            self.outbox.push(Output::Send(self.invite.clone()));
        }
    }

    fn transport_error(&mut self) {
        if matches!(self.state, State::Calling | State::Proceeding | State::Completed) {
            self.outbox.push(Output::TransportError);
            self.terminate();
        }
    }

    fn enter(&mut self, state: State, deadline: u64) {
        self.state = state;
        self.retransmit_at = None;
        self.deadline = Some(deadline);
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
        self.retransmit_at = None;
        self.deadline = None;
        self.outbox.push(Output::Terminated);
    }
}

#[cfg(test)]
mod tests;
