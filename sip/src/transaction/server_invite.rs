//! The INVITE server transaction (RFC 3261 section 17.2.1, RFC 6026 section 7.1).

use super::machine::{Outbox, Output, ServerInput, Timers};
use crate::build::ResponseBuilder;
use crate::message::Message;
use crate::method::Method;

/// After this long without an answer of the transaction user the machine sends 100 by itself.
const TRYING_MS: u64 = 200;

/// Proceeding, then Completed and Confirmed (a refusal, sent again until its ACK) or Accepted (2xx, which the
/// call sends again until its ACK).
#[derive(Clone, Debug)]
pub struct ServerInvite {
    state: State,
    /// Kept while a 100 may have to be made of it.
    invite: Option<Message>,
    /// What is sent again: the last provisional or the final response.
    response: Option<Message>,
    timers: Timers,
    reliable: bool,
    /// The 100, or timer G and the interval that led to it.
    resend_at: Option<u64>,
    interval: u64,
    /// Timers H, I, L.
    deadline: Option<u64>,
    outbox: Outbox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Terminated,
}

impl ServerInvite {
    /// Begins by handing the INVITE to the transaction user.
    pub fn new(now_ms: u64, invite: Message, reliable: bool, timers: Timers) -> Self {
        let mut outbox = Outbox::default();
        outbox.push(Output::Deliver(invite.clone()));
        Self {
            state: State::Proceeding,
            invite: Some(invite),
            response: None,
            timers,
            reliable,
            resend_at: Some(now_ms.saturating_add(TRYING_MS)),
            interval: timers.t1(),
            deadline: None,
            outbox,
        }
    }

    /// Takes one input; poll the outputs after it.
    pub fn handle_input(&mut self, now_ms: u64, input: ServerInput) {
        match input {
            ServerInput::Request(request) if request.method() == &Method::Ack => self.ack(now_ms, request),
            ServerInput::Request(_) => self.repeated(),
            ServerInput::Respond(response) => self.respond(now_ms, response),
            ServerInput::Time => self.time(now_ms),
            ServerInput::TransportError => self.transport_error(),
        }
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.poll()
    }

    /// When to give [`ServerInput::Time`].
    pub fn poll_timeout(&self) -> Option<u64> {
        [self.resend_at, self.deadline].into_iter().flatten().min()
    }

    /// True until a final response: a CANCEL still has an effect.
    pub fn is_proceeding(&self) -> bool {
        self.state == State::Proceeding
    }

    /// The last response that was sent.
    pub fn last_response(&self) -> Option<&Message> {
        self.response.as_ref()
    }

    fn ack(&mut self, now_ms: u64, ack: Message) {
        match self.state {
            State::Completed => {
                self.state = State::Confirmed;
                self.resend_at = None;
                self.deadline = Some(now_ms.saturating_add(self.timers.t4()));
                if self.reliable {
                    self.terminate();
                }
            }
            State::Accepted => self.outbox.push(Output::Deliver(ack)),
            State::Proceeding | State::Confirmed | State::Terminated => {}
        }
    }

    /// A 2xx isn't sent again here: the call does that (RFC 6026 section 7.1).
    fn repeated(&mut self) {
        match self.state {
            State::Proceeding | State::Completed => self.resend(),
            State::Confirmed | State::Accepted | State::Terminated => {}
        }
    }

    fn resend(&mut self) {
        if let Some(response) = &self.response {
            self.outbox.push(Output::Send(response.clone()));
        }
    }

    fn respond(&mut self, now_ms: u64, response: Message) {
        match (self.state, response.status().unwrap_or(0)) {
            (State::Proceeding, ..200) => {
                self.resend_at = None;
                self.response = Some(response);
                self.resend();
            }
            (State::Proceeding, 200..300) => {
                self.invite = None;
                self.resend_at = None;
                self.state = State::Accepted;
                self.deadline = Some(now_ms.saturating_add(self.timers.limit()));
                self.response = Some(response);
                self.resend();
            }
            (State::Proceeding, 300..) => self.refuse(now_ms, response),
            (State::Accepted, 200..300) => self.outbox.push(Output::Send(response)),
            (State::Completed | State::Confirmed | State::Accepted | State::Terminated, _) => {}
        }
    }

    fn refuse(&mut self, now_ms: u64, response: Message) {
        self.invite = None;
        self.state = State::Completed;
        self.resend_at = (!self.reliable).then(|| now_ms.saturating_add(self.interval));
        self.deadline = Some(now_ms.saturating_add(self.timers.limit()));
        self.response = Some(response);
        self.resend();
    }

    fn time(&mut self, now_ms: u64) {
        if self.deadline.is_some_and(|at| at <= now_ms) {
            if self.state == State::Completed {
                self.outbox.push(Output::Timeout);
            }
            self.terminate();
        } else if self.resend_at.is_some_and(|at| at <= now_ms) {
            match self.state {
                State::Proceeding => self.send_trying(),
                State::Completed => self.send_again(now_ms),
                State::Confirmed | State::Accepted | State::Terminated => self.resend_at = None,
            }
        }
    }

    fn send_trying(&mut self) {
        self.resend_at = None;
        let trying =
            self.invite.as_ref().and_then(|invite| ResponseBuilder::to(invite, 100, "").build().ok());
        self.response = trying;
        self.resend();
    }

    fn send_again(&mut self, now_ms: u64) {
        self.interval = self.interval.saturating_mul(2).min(self.timers.t2());
        self.resend_at = Some(now_ms.saturating_add(self.interval));
        self.resend();
    }

    fn transport_error(&mut self) {
        match self.state {
            State::Proceeding | State::Accepted => self.outbox.push(Output::TransportError),
            State::Completed => {
                self.outbox.push(Output::TransportError);
                self.terminate();
            }
            State::Confirmed | State::Terminated => {}
        }
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
        self.resend_at = None;
        self.deadline = None;
        self.outbox.push(Output::Terminated);
    }
}

#[cfg(test)]
mod tests;
