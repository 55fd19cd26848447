//! A call that is handed over to another node on purpose. It is *frozen* first: from the proposal on, until the log has said
//! what became of it, nothing is said for it here, so that at no time two nodes speak.

use tandem_sip::message::Message;
use tandem_sip::transaction::ServerKey;
use tandem_state::{Cause, Command, Flow, NodeId, Refusal, Reply};

use super::{Call, Input, Output, Phase, Proposal};
use crate::machine::{Machine, Now};

/// A call whose move the log decides on.
#[derive(Debug, Clone)]
pub(super) struct Frozen {
    to: NodeId,
    waiting: Vec<Input>,
    /// The outcome was not known: it is asked for again then.
    again_ms: Option<u64>,
}

/// Inputs that wait at most; later ones are lost as on a lossy link.
const WAITING_MAX: usize = 64;
/// Wait before a move with an unknown outcome is proposed again.
const AGAIN_MS: u64 = 1_000;

impl Frozen {
    pub(super) fn again_ms(&self) -> Option<u64> {
        self.again_ms
    }

    /// What waits and is the new owner's: requests, and why the call is to end, if it is.
    fn into_legacy(self) -> (Vec<(ServerKey, Message, Flow)>, Option<Cause>) {
        let hang_up = self.waiting.iter().find_map(|input| match input {
            Input::HangUp(cause) => Some(*cause),
            _ => None,
        });
        let request = |input| match input {
            Input::Request { key, message, flow, .. } => Some((key, message, flow)),
            _ => None,
        };
        (self.waiting.into_iter().filter_map(request).collect(), hang_up)
    }
}

impl Call {
    /// Hands the call over, if it talks and nothing of it is open just now; who wants it moved asks again.
    pub(super) fn hand_over(&mut self, to: NodeId) {
        let talks = matches!(self.phase, Phase::Talking { .. });
        let settled = |leg: &super::Leg| leg.unacknowledged.is_none() && leg.ack_due.is_none();
        let settled = settled(&self.caller) && self.winner().is_some_and(settled);
        if !talks || !settled || self.exchange.is_some() || !self.infos.is_empty() || self.is_moving() {
            return;
        }
        self.frozen = Some(Frozen { to, waiting: Vec::new(), again_ms: None });
        self.propose_move();
    }

    /// The log decides whether it is this node's still.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    fn propose_move(&mut self) {
        let Some(frozen) = &mut self.frozen else { return };
        frozen.again_ms = None;
        let (call, epoch, to) = (self.id, self.epoch, frozen.to);
        let command = Command::MoveCall { call, epoch, to, change: self.change(None) };
        self.put(Output::Propose { what: Proposal::Move, command: Box::new(command) });
    }

    /// An input of a call that may be another node's by now: only the log's word counts. Gives back what is to be taken.
    pub(super) fn unless_frozen(&mut self, input: Input) -> Option<Input> {
        let Some(frozen) = &mut self.frozen else { return Some(input) };
        match input {
            Input::Lost | Input::Proposed { what: Proposal::Move, .. } => return Some(input),
            Input::Move { .. } => {}
            other if frozen.waiting.len() < WAITING_MAX => frozen.waiting.push(other),
            _ => {}
        }
        None
    }

    /// What the log said to the move.
    pub(super) fn move_decided(&mut self, now: Now, outcome: Option<Result<Reply, Refusal>>) {
        match outcome {
            Some(Ok(_)) => self.lost_by_outcome(),
            // It stays here.
            Some(Err(_)) => self.thaw(now),
            None => {
                if let Some(frozen) = &mut self.frozen {
                    frozen.again_ms = Some(now.steady_ms.saturating_add(AGAIN_MS));
                }
            }
        }
    }

    fn thaw(&mut self, now: Now) {
        let Some(frozen) = self.frozen.take() else { return };
        for input in frozen.waiting {
            self.handle_input(now, input);
        }
    }

    pub(super) fn move_is_due(&mut self, now: Now) {
        if self.frozen.as_ref().and_then(Frozen::again_ms).is_some_and(|at| now.steady_ms >= at) {
            self.propose_move();
        }
    }

    /// The media of a call that moved on purpose carries on until the phones have heard of its new place; what they asked
    /// meanwhile is passed on.
    pub(super) fn leave_to_successor(&mut self) {
        match self.frozen.take() {
            Some(frozen) => {
                self.put(Output::LeaveMedia);
                let (requests, hang_up) = frozen.into_legacy();
                if !requests.is_empty() {
                    self.put(Output::PassOn { requests });
                }
                hang_up.into_iter().for_each(|cause| self.put(Output::PassOnHangUp(cause)));
            }
            None => self.put(Output::CloseMedia),
        }
    }
}
