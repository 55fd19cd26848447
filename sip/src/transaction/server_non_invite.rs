//! The server transaction of every other method (RFC 3261 section 17.2.2).

use super::machine::{Outbox, Output, ServerInput, Timers};
use crate::message::Message;

/// Trying, Proceeding, Completed. The request is not kept: the transaction user has it.
#[derive(Clone, Debug)]
pub struct ServerNonInvite {
    state: State,
    response: Option<Message>,
    timers: Timers,
    reliable: bool,
    /// Timer J.
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

impl ServerNonInvite {
    /// Begins by handing the request to the transaction user.
    pub fn new(request: Message, reliable: bool, timers: Timers) -> Self {
        let mut outbox = Outbox::default();
        outbox.push(Output::Deliver(request));
        Self { state: State::Trying, response: None, timers, reliable, deadline: None, outbox }
    }

    /// Takes one input; poll the outputs after it.
    pub fn handle_input(&mut self, now_ms: u64, input: ServerInput) {
        match input {
            ServerInput::Request(_) => self.resend(),
            ServerInput::Respond(response) => self.respond(now_ms, response),
            ServerInput::Time if self.deadline.is_some_and(|at| at <= now_ms) => self.terminate(),
            ServerInput::Time => {}
            ServerInput::TransportError => self.transport_error(),
        }
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.poll()
    }

    /// When to give [`ServerInput::Time`].
    pub fn poll_timeout(&self) -> Option<u64> {
        self.deadline
    }

    /// The last response that was sent.
    pub fn last_response(&self) -> Option<&Message> {
        self.response.as_ref()
    }

    fn resend(&mut self) {
        if let Some(response) = &self.response {
            self.outbox.push(Output::Send(response.clone()));
        }
    }

    fn respond(&mut self, now_ms: u64, response: Message) {
        if !matches!(self.state, State::Trying | State::Proceeding) {
            return;
        }
        let provisional = response.status().is_some_and(|status| status < 200);
        self.response = Some(response);
        self.resend();
        if provisional {
            self.state = State::Proceeding;
            return;
        }
        self.state = State::Completed;
        self.deadline = Some(now_ms.saturating_add(self.timers.limit()));
        if self.reliable {
            self.terminate();
        }
    }

    fn transport_error(&mut self) {
        if self.state != State::Terminated {
            self.outbox.push(Output::TransportError);
            self.terminate();
        }
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
        self.deadline = None;
        self.outbox.push(Output::Terminated);
    }
}

#[cfg(test)]
mod tests;
