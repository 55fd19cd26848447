//! One binding on the node that holds its flow: its exact expiry, whether its phone answers, and its end.
//!
//! The log holds a coarse expiry only; this machine is what makes a phone that went away disappear in time. A phone that
//! is reached by datagrams is asked now and then (OPTIONS, RFC 3261 section 11) whether it is still there, as nobody tells
//! when it is not; a REGISTER says the same. One that does not answer is shown as unreachable and kept to its granted
//! expiry: it may be the network, and the phone believes that it is registered.

use std::sync::Arc;

use tandem_state::{
    Binding, BindingKey, Command, NodeEpoch, Refusal, Reply, Revision, TenantId, UnbindReason,
};

use crate::machine::{Machine, Now};
use crate::refusal;

/// A phone is asked so long after it was last heard, and up to [`ASK_SPREAD_MS`] later by chance: 30 s on average.
const ASK_MS: u64 = 24_000;
/// See [`ASK_MS`].
const ASK_SPREAD_MS: u64 = 12_000;
/// What was taken up from the log is asked for the first time within this, so that a node that starts does not ask all
/// at once.
const TAKEN_UP_MS: u64 = 30_000;
/// How long an answer is waited for.
const ANSWER_MS: u64 = 2_000;
/// How often a phone that was there is asked before it counts as unreachable; one that was not is asked once each time.
const TRIES_MAX: u8 = 3;

/// Wait before an unbind with an unknown outcome is proposed again.
const RETRY_MS: u64 = 1_000;

/// Which binding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingId {
    /// Whose.
    pub tenant: TenantId,
    /// The extension.
    pub number: String,
    /// Which of its bindings.
    pub key: BindingKey,
}

impl BindingId {
    /// That of a binding.
    pub fn of(Binding { spec, .. }: &Binding) -> BindingId {
        BindingId { tenant: spec.tenant, number: spec.number.clone(), key: spec.key.clone() }
    }
}

/// What can happen to a binding.
#[derive(Debug, Clone)]
pub enum Input {
    /// The phone refreshed it (RFC 3261 section 10.3); nothing changed but its time.
    Refreshed {
        /// For how long.
        expires_s: u32,
    },
    /// The log holds it under a new revision.
    Bound {
        /// That one.
        revision: Revision,
        /// For how long, where this node granted it.
        expires_s: Option<u32>,
        /// On the steady clock, the end that the log has: what holds until the phone refreshes.
        coarse_ms: u64,
        /// Its phone is reached by datagrams.
        datagrams: bool,
    },
    /// The phone answered an OPTIONS, in whatever words.
    Heard,
    /// The OPTIONS was not sent: too much else is.
    NotAsked,
    /// It left the table, or moved to another node.
    Gone,
    /// Its connection closed.
    ConnectionClosed,
    /// What became of the proposed unbind; `None` when that is not known.
    Proposed(Option<Result<Reply, Refusal>>),
}

/// What a binding asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Put this to the log, and answer with [`Input::Proposed`].
    Propose(Box<Command>),
    /// Send the phone an OPTIONS, and say [`Input::Heard`] when it answers.
    Ask,
    /// It did not answer. For whoever counts; [`Registration::is_unreachable`] says it from now on.
    Unanswered,
}

/// The machine of one binding.
#[derive(Debug, Clone)]
pub struct Registration {
    id: Arc<BindingId>,
    node_epoch: NodeEpoch,
    revision: Revision,
    expires_ms: u64,
    phase: Phase,
    asking: Asking,
    unreachable: bool,
    chance: u64,
    output: Option<Output>,
}

/// What is going on between the phone and us, besides its REGISTERs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// Its connection says whether it is there.
    Never,
    Next {
        at_ms: u64,
    },
    Asked {
        tries: u8,
        until_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Bound,
    Unbinding { reason: UnbindReason, retry_ms: Option<u64> },
    Gone,
}

impl Registration {
    /// A binding as the log holds it, which lasts until `expires_ms` on the steady clock. `chance` is any random number.
    pub fn new(
        id: Arc<BindingId>,
        node_epoch: NodeEpoch,
        revision: Revision,
        expires_ms: u64,
        chance: u64,
    ) -> Self {
        let (phase, asking) = (Phase::Bound, Asking::Never);
        Registration {
            id,
            node_epoch,
            revision,
            expires_ms,
            phase,
            asking,
            unreachable: false,
            chance,
            output: None,
        }
    }

    /// Which binding this is.
    pub fn id(&self) -> &Arc<BindingId> {
        &self.id
    }

    /// Its phone did not answer when it was last asked.
    pub fn is_unreachable(&self) -> bool {
        self.unreachable
    }

    /// Its exact end on the steady clock.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    fn unbind(&mut self, reason: UnbindReason) {
        self.phase = Phase::Unbinding { reason, retry_ms: None };
        let command = Command::Unbind {
            node_epoch: self.node_epoch,
            tenant: self.id.tenant,
            number: self.id.number.clone(),
            key: self.id.key.clone(),
            revision: self.revision,
            reason,
        };
        self.output = Some(Output::Propose(Box::new(command)));
    }

    fn proposed(&mut self, now: Now, outcome: Option<Result<Reply, Refusal>>) {
        let Phase::Unbinding { reason, .. } = self.phase else { return };
        match outcome {
            // Refused because the phone moved on: the feed says where to, and if it is here, `Bound` follows.
            Some(Ok(_) | Err(Refusal::NoBinding | Refusal::StaleRevision { .. })) => {
                self.phase = Phase::Gone;
            }
            Some(Err(_)) | None => {
                // Where this node's lease had ended, the binding is unbound under the next one.
                let next = outcome.and_then(Result::err).as_ref().and_then(refusal::next_epoch);
                self.node_epoch = next.unwrap_or(self.node_epoch);
                self.phase = Phase::Unbinding { reason, retry_ms: Some(now.steady_ms + RETRY_MS) };
            }
        }
    }

    /// A phone that came back while it was being unbound is bound again.
    fn bound(&mut self, now: Now, revision: Revision, expires_s: Option<u32>, coarse_ms: u64) {
        self.revision = self.revision.max(revision);
        match expires_s {
            Some(expires_s) => self.extend(now, expires_s),
            None if self.phase == Phase::Bound => {}
            None => (self.phase, self.expires_ms) = (Phase::Bound, coarse_ms),
        }
    }

    fn extend(&mut self, now: Now, expires_s: u32) {
        self.expires_ms = now.steady_ms + u64::from(expires_s) * 1_000;
        self.phase = Phase::Bound;
        self.heard(now);
    }

    /// The way to the phone is this from now on.
    fn reached_by(&mut self, now: Now, datagrams: bool) {
        match self.asking {
            _ if !datagrams => (self.asking, self.unreachable) = (Asking::Never, false),
            Asking::Never => {
                let at_ms = now.steady_ms + self.chance() % TAKEN_UP_MS;
                self.asking = Asking::Next { at_ms };
            }
            Asking::Next { .. } | Asking::Asked { .. } => {}
        }
    }

    fn heard(&mut self, now: Now) {
        self.unreachable = false;
        self.ask_later(now);
    }

    fn ask_later(&mut self, now: Now) {
        if self.asking != Asking::Never {
            let at_ms = now.steady_ms + ASK_MS + self.chance() % ASK_SPREAD_MS;
            self.asking = Asking::Next { at_ms };
        }
    }

    fn ask_or_give_up(&mut self, now: Now) {
        let tries = match self.asking {
            Asking::Next { at_ms } if now.steady_ms >= at_ms => 1,
            Asking::Asked { tries, until_ms } if now.steady_ms >= until_ms => tries + 1,
            Asking::Never | Asking::Next { .. } | Asking::Asked { .. } => return,
        };
        let tries_max = if self.unreachable { 1 } else { TRIES_MAX };
        if tries <= tries_max {
            self.asking = Asking::Asked { tries, until_ms: now.steady_ms + ANSWER_MS };
            self.output = Some(Output::Ask);
        } else {
            self.unreachable = true;
            self.ask_later(now);
            self.output = Some(Output::Unanswered);
        }
    }

    /// The next number of a row that begins by chance (Knuth's multiplier); the upper half is what is random in it.
    fn chance(&mut self) -> u64 {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.chance >> 32
    }
}

impl Machine for Registration {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Refreshed { expires_s } => self.extend(now, expires_s),
            Input::Bound { revision, expires_s, coarse_ms, datagrams } => {
                self.reached_by(now, datagrams);
                self.bound(now, revision, expires_s, coarse_ms);
            }
            Input::Heard => self.heard(now),
            Input::NotAsked => self.ask_later(now),
            Input::Gone => self.phase = Phase::Gone,
            Input::ConnectionClosed => self.unbind(UnbindReason::ConnectionLost),
            Input::Proposed(outcome) => self.proposed(now, outcome),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.output.take()
    }

    fn poll_timeout(&self) -> Option<u64> {
        match self.phase {
            Phase::Bound => Some(match self.asking {
                Asking::Never => self.expires_ms,
                Asking::Next { at_ms: ask_ms } | Asking::Asked { until_ms: ask_ms, .. } => {
                    ask_ms.min(self.expires_ms)
                }
            }),
            Phase::Unbinding { retry_ms, .. } => retry_ms,
            Phase::Gone => None,
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        match self.phase {
            Phase::Bound if now.steady_ms >= self.expires_ms => self.unbind(UnbindReason::Expired),
            Phase::Unbinding { reason, retry_ms: Some(at) } if now.steady_ms >= at => self.unbind(reason),
            Phase::Bound => self.ask_or_give_up(now),
            Phase::Unbinding { .. } | Phase::Gone => {}
        }
    }

    fn is_finished(&self) -> bool {
        self.phase == Phase::Gone
    }
}

#[cfg(test)]
mod tests;
