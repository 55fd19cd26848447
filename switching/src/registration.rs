//! One binding on the node that holds its flow: its exact expiry, and its end.
//!
//! The log holds a coarse expiry only; this machine is what makes a phone that went away disappear in time.

use std::sync::Arc;

use tandem_state::{BindingKey, Command, NodeEpoch, Refusal, Reply, Revision, TenantId, UnbindReason};

use crate::machine::{Machine, Now};

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
    },
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
    Propose(Command),
}

/// The machine of one binding.
#[derive(Debug, Clone)]
pub struct Registration {
    id: Arc<BindingId>,
    node_epoch: NodeEpoch,
    revision: Revision,
    expires_ms: u64,
    phase: Phase,
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Bound,
    Unbinding { reason: UnbindReason, retry_ms: Option<u64> },
    Gone,
}

impl Registration {
    /// A binding as the log holds it, which lasts until `expires_ms` on the steady clock.
    pub fn new(id: Arc<BindingId>, node_epoch: NodeEpoch, revision: Revision, expires_ms: u64) -> Self {
        Registration { id, node_epoch, revision, expires_ms, phase: Phase::Bound, output: None }
    }

    /// Its exact end on the steady clock.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    fn unbind(&mut self, reason: UnbindReason) {
        self.phase = Phase::Unbinding { reason, retry_ms: None };
        self.output = Some(Output::Propose(Command::Unbind {
            node_epoch: self.node_epoch,
            tenant: self.id.tenant,
            number: self.id.number.clone(),
            key: self.id.key.clone(),
            revision: self.revision,
            reason,
        }));
    }

    fn proposed(&mut self, now: Now, outcome: Option<Result<Reply, Refusal>>) {
        let Phase::Unbinding { reason, .. } = self.phase else { return };
        match outcome {
            // Refused because the phone moved on: the feed says where to, and if it is here, `Bound` follows.
            Some(Ok(_) | Err(Refusal::NoBinding | Refusal::StaleRevision { .. })) => {
                self.phase = Phase::Gone;
            }
            // This node's lease had ended; the binding stayed, and is unbound under the next one.
            Some(Err(Refusal::StaleNodeEpoch { current })) => {
                self.node_epoch = current;
                self.phase = Phase::Unbinding { reason, retry_ms: Some(now.steady_ms + RETRY_MS) };
            }
            Some(Err(_)) | None => {
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
    }
}

impl Machine for Registration {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Refreshed { expires_s } => self.extend(now, expires_s),
            Input::Bound { revision, expires_s, coarse_ms } => {
                self.bound(now, revision, expires_s, coarse_ms)
            }
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
            Phase::Bound => Some(self.expires_ms),
            Phase::Unbinding { retry_ms, .. } => retry_ms,
            Phase::Gone => None,
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        match self.phase {
            Phase::Bound if now.steady_ms >= self.expires_ms => self.unbind(UnbindReason::Expired),
            Phase::Unbinding { reason, retry_ms: Some(at) } if now.steady_ms >= at => self.unbind(reason),
            Phase::Bound | Phase::Unbinding { .. } | Phase::Gone => {}
        }
    }

    fn is_finished(&self) -> bool {
        self.phase == Phase::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        let id = BindingId {
            tenant: TenantId(1),
            number: "101".into(),
            key: BindingKey::Contact("sip:101@127.0.0.1".into()),
        };
        Registration::new(Arc::new(id), NodeEpoch(1), Revision(7), 60_000)
    }

    fn at(steady_ms: u64) -> Now {
        Now { steady_ms, ..Now::default() }
    }

    #[test]
    fn a_phone_that_does_not_refresh_is_unbound_at_its_granted_expiry() {
        let mut binding = registration();
        binding.handle_timeout(at(59_999));
        assert_eq!(binding.poll_output(), None);
        binding.handle_timeout(at(60_000));
        assert!(matches!(
            binding.poll_output(),
            Some(Output::Propose(Command::Unbind {
                revision: Revision(7),
                reason: UnbindReason::Expired,
                ..
            }))
        ));
        binding.handle_input(at(60_010), Input::Proposed(Some(Ok(Reply::Done))));
        assert!(binding.is_finished());
    }

    #[test]
    fn a_refresh_moves_the_expiry_without_a_log_entry() {
        let mut binding = registration();
        binding.handle_input(at(50_000), Input::Refreshed { expires_s: 60 });
        binding.handle_timeout(at(60_000));
        assert_eq!((binding.poll_output(), binding.poll_timeout()), (None, Some(110_000)));
    }

    #[test]
    fn an_unbind_with_an_unknown_outcome_is_proposed_again() {
        let mut binding = registration();
        binding.handle_timeout(at(60_000));
        assert!(binding.poll_output().is_some());
        binding.handle_input(at(61_000), Input::Proposed(None));
        assert_eq!(binding.poll_timeout(), Some(62_000));
        binding.handle_timeout(at(62_000));
        assert!(binding.poll_output().is_some());
    }

    #[test]
    fn a_refusal_because_the_phone_moved_on_ends_this_actor_alone() {
        let mut binding = registration();
        binding.handle_timeout(at(60_000));
        let moved = Refusal::StaleRevision { current: Revision(9) };
        binding.handle_input(at(60_010), Input::Proposed(Some(Err(moved))));
        assert!(binding.is_finished());
    }

    #[test]
    fn a_binding_that_outlived_a_lease_of_its_node_is_unbound_under_the_next_one() {
        let mut binding = registration();
        binding.handle_timeout(at(60_000));
        assert!(binding.poll_output().is_some());
        let stale = Refusal::StaleNodeEpoch { current: NodeEpoch(2) };
        binding.handle_input(at(60_010), Input::Proposed(Some(Err(stale))));
        assert_eq!((binding.is_finished(), binding.poll_timeout()), (false, Some(61_010)));
        binding.handle_timeout(at(61_010));
        assert!(matches!(
            binding.poll_output(),
            Some(Output::Propose(Command::Unbind { node_epoch: NodeEpoch(2), .. }))
        ));
    }

    #[test]
    fn a_closed_connection_unbinds_at_once_under_the_newest_revision() {
        let mut binding = registration();
        let bound = Input::Bound { revision: Revision(9), expires_s: Some(60), coarse_ms: 480_000 };
        binding.handle_input(at(1_000), bound);
        binding.handle_input(at(2_000), Input::ConnectionClosed);
        let Some(Output::Propose(Command::Unbind { revision, reason, .. })) = binding.poll_output() else {
            panic!("nothing was proposed")
        };
        assert_eq!((revision, reason), (Revision(9), UnbindReason::ConnectionLost));
        assert_eq!(binding.poll_timeout(), None, "its outcome is awaited");
    }

    #[test]
    fn a_phone_that_is_bound_anew_while_it_is_unbound_lives_on() {
        let mut binding = registration();
        binding.handle_timeout(at(60_000));
        assert!(binding.poll_output().is_some());
        let bound = Input::Bound { revision: Revision(9), expires_s: Some(60), coarse_ms: 540_000 };
        binding.handle_input(at(60_005), bound);
        let moved = Refusal::StaleRevision { current: Revision(9) };
        binding.handle_input(at(60_010), Input::Proposed(Some(Err(moved))));
        assert_eq!((binding.is_finished(), binding.poll_timeout()), (false, Some(120_005)));
    }

    #[test]
    fn a_binding_that_left_the_table_ends_without_a_word() {
        let mut binding = registration();
        binding.handle_input(at(1_000), Input::Gone);
        assert_eq!(
            (binding.is_finished(), binding.poll_output(), binding.poll_timeout()),
            (true, None, None)
        );
    }

    #[test]
    fn a_node_that_takes_up_a_binding_keeps_it_until_the_logs_expiry() {
        let mut binding = registration();
        binding.handle_timeout(at(60_000));
        assert!(binding.poll_output().is_some());
        let again = Input::Bound { revision: Revision(9), expires_s: None, coarse_ms: 480_000 };
        binding.handle_input(at(60_005), again);
        assert_eq!(binding.poll_timeout(), Some(480_000));
    }
}
