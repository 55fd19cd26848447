//! The client transaction of every other method (RFC 3261 section 17.1.2).

use super::machine::{ClientInput, Outbox, Output, Timers};
use crate::message::Message;

/// Trying, Proceeding, Completed.
#[derive(Clone, Debug)]
pub struct ClientNonInvite {
    state: State,
    request: Message,
    timers: Timers,
    reliable: bool,
    /// Timer E and the interval that led to it.
    retransmit_at: Option<u64>,
    interval: u64,
    /// Timers F and K.
    deadline: Option<u64>,
    outbox: Outbox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

impl ClientNonInvite {
    /// Begins by sending the request.
    pub fn new(now_ms: u64, request: Message, reliable: bool, timers: Timers) -> Self {
        let mut outbox = Outbox::default();
        outbox.push(Output::Send(request.clone()));
        Self {
            state: State::Trying,
            request,
            timers,
            reliable,
            retransmit_at: (!reliable).then(|| now_ms.saturating_add(timers.t1())),
            interval: timers.t1(),
            deadline: Some(now_ms.saturating_add(timers.limit())),
            outbox,
        }
    }

    /// Takes one input; poll the outputs after it. A CANCEL is nothing to it.
    pub fn handle_input(&mut self, now_ms: u64, input: ClientInput) {
        match input {
            ClientInput::Response(response) => self.response(now_ms, response),
            ClientInput::Cancel(_) | ClientInput::Cancelled => {}
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

    /// The request.
    pub fn request(&self) -> &Message {
        &self.request
    }

    fn response(&mut self, now_ms: u64, response: Message) {
        if !matches!(self.state, State::Trying | State::Proceeding) {
            return;
        }
        let provisional = response.status().is_some_and(|status| status < 200);
        self.outbox.push(Output::Deliver(response));
        if provisional {
            self.state = State::Proceeding;
            return;
        }
        self.state = State::Completed;
        self.retransmit_at = None;
        self.deadline = Some(now_ms.saturating_add(self.timers.t4()));
        if self.reliable {
            self.terminate();
        }
    }

    fn time(&mut self, now_ms: u64) {
        if self.deadline.is_some_and(|at| at <= now_ms) {
            if self.state != State::Completed {
                self.outbox.push(Output::Timeout);
            }
            self.terminate();
        } else if self.retransmit_at.is_some_and(|at| at <= now_ms) {
            self.interval = match self.state {
                State::Trying => self.interval.saturating_mul(2).min(self.timers.t2()),
                State::Proceeding | State::Completed | State::Terminated => self.timers.t2(),
            };
            self.retransmit_at = Some(now_ms.saturating_add(self.interval));
            self.outbox.push(Output::Send(self.request.clone()));
        }
    }

    fn transport_error(&mut self) {
        if matches!(self.state, State::Trying | State::Proceeding) {
            self.outbox.push(Output::TransportError);
            self.terminate();
        }
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
