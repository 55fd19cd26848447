//! What may be asked of the replicated state. Released variants are frozen: a new meaning is a new variant.

use serde::{Deserialize, Serialize};

use crate::config::ConfigChange;
use crate::ids::*;
use crate::records::*;
use crate::tables::{FIRST_APPLY_VERSION, LEASES_APPLY_VERSION, MOVES_APPLY_VERSION, THIRD_APPLY_VERSION};

/// One Raft log entry: proposals gathered by the leader, stamped once with cluster time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The leader's cluster time. `apply` uses the greater of this and the last stamp.
    pub stamp: ClusterTime,
    /// In the order in which they are applied; their index in here is no part of an event id.
    pub proposals: Vec<Proposal>,
}

/// A command with who asked, so that a retry applies once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The request id.
    pub origin: Origin,
    /// On whose authority.
    pub principal: Principal,
    /// A replicated idempotency key, for commands that came over the API with one.
    pub idempotency: Option<IdempotencyKey>,
    /// What is asked.
    pub command: Command,
}

/// A request id: the `seq`-th proposal of one incarnation of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The proposing node.
    pub node: NodeId,
    /// Its incarnation; a lower one than the state has seen is refused.
    pub incarnation: Incarnation,
    /// Counts up from 1 in each incarnation.
    pub seq: u64,
    /// The node wants no outcome below this any more: the window is trimmed to it.
    pub low_water: u64,
}

/// On whose authority a command is proposed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Principal {
    /// A node acting for itself (calls, bindings, ticks).
    Node(NodeId),
    /// An API token, by its id.
    Token(String),
}

/// An API client's `Idempotency-Key`, with the SHA-256 of the request it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// As the client wrote it, at most 255 bytes.
    pub key: String,
    /// SHA-256 over method, path and body.
    pub body_hash: [u8; 32],
}

/// A command. Those by which a node acts for itself carry its node epoch; those about a call carry the call epoch;
/// `apply` refuses any other than the current one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Lets time pass: expiries are judged by this alone.
    Tick,
    /// Moves cluster time forward, never back, to the median wall clock of a quorum.
    StepTime {
        /// The new cluster time.
        to: ClusterTime,
    },
    /// Raises the rules in force, once every member can follow them.
    RaiseApplyVersion {
        /// The new version.
        to: u16,
    },
    /// A node started: its record is made or replaced, and its lower incarnations are refused from now on.
    NodeStarted {
        /// What the node says of itself.
        node: NodeRecord,
    },
    /// A member was taken out of the cluster.
    NodeRemoved {
        /// Who.
        node: NodeId,
    },
    /// Changes the provider's configuration, all of it or (on the first refusal) none.
    Configure {
        /// Applied in order.
        changes: Vec<ConfigChange>,
    },
    /// Adds an API token.
    PutToken {
        /// The record; the token itself is never in the state.
        token: TokenRecord,
    },
    /// Removes an API token.
    RemoveToken {
        /// Its id.
        id: String,
    },
    /// Adds or replaces a binding of an address of record.
    Bind {
        /// The acting node's epoch.
        node_epoch: NodeEpoch,
        /// The binding; `binding.node` must be the proposing node.
        binding: NewBinding,
        /// The revision that this replaces, `None` for a new one. Refused if the binding is newer.
        replaces: Option<Revision>,
    },
    /// Removes one binding. Refused if it is newer than `revision`: the phone moved on.
    Unbind {
        /// The acting node's epoch.
        node_epoch: NodeEpoch,
        /// Whose.
        tenant: TenantId,
        /// The extension.
        number: String,
        /// Which of its bindings.
        key: BindingKey,
        /// As the proposer knows it.
        revision: Revision,
        /// Why.
        reason: UnbindReason,
    },
    /// A node took a call. Refused when a limit of the tenant is reached.
    CreateCall {
        /// The owner's epoch.
        node_epoch: NodeEpoch,
        /// The record, with its first leg and attempts.
        call: NewCall,
    },
    /// The shape of a call changed: legs and attempts that are given are put in place of those with their ids.
    Checkpoint {
        /// Which call.
        call: CallId,
        /// Under which ownership.
        epoch: CallEpoch,
        /// What changed.
        change: CallChange,
    },
    /// A call is over: its attempts become CDRs, its legs and record leave the tables.
    EndCall {
        /// Which call.
        call: CallId,
        /// Under which ownership.
        epoch: CallEpoch,
        /// The last changes before it ended, applied first.
        change: CallChange,
    },
    /// An authenticated call that was refused before any target was tried: one CDR, no call.
    RefuseCall {
        /// The acting node's epoch.
        node_epoch: NodeEpoch,
        /// What was asked and why not.
        refused: RefusedCall,
    },
    /// A node holds on to its lease, or gains one. Never deduplicated: each attempt is a command of its own, and one
    /// that is not newer than the last is refused.
    Renew {
        /// The lease's epoch.
        node_epoch: NodeEpoch,
        /// Counts up from 1 in each incarnation.
        attempt: u64,
        /// How long the node counts it, from before it sent the attempt.
        lease_ms: u64,
    },
    /// A member saw no renewal of another node for its lease and the margin. Refused if it was renewed since.
    ExpireLease {
        /// Whose.
        node: NodeId,
        /// Which lease.
        epoch: NodeEpoch,
        /// The log position of the renewal that the proposer applied last.
        last_renewal: u64,
    },
    /// A node's process takes its leave, or a member has proof that it ended. Does not look at renewals.
    EndLease {
        /// Whose.
        node: NodeId,
        /// Which lease.
        epoch: NodeEpoch,
        /// Of the process that ended.
        incarnation: Incarnation,
    },
    /// Writes down what a principal did that changes nothing in the state (a hang-up ordered, an invitation made).
    Audit {
        /// In words without secrets, such as `hang up call 0f...`.
        action: String,
    },
    /// Takes over a CDR that a node which was given up made and this cluster never saw.
    Salvage {
        /// As that node wrote it. The caller has made sure that the archive has none with its id.
        cdr: Box<Cdr>,
    },
    /// [`Command::Renew`] by a node that says how far its disk is, too.
    RenewMarked {
        /// The lease's epoch.
        node_epoch: NodeEpoch,
        /// Counts up from 1 in each incarnation.
        attempt: u64,
        /// How long the node counts it, from before it sent the attempt.
        lease_ms: u64,
        /// Its disk.
        mark: Mark,
    },
    /// The cluster key of this id seals from now on; every member holds it already. Refused if another one than `from`
    /// does so now.
    UseClusterKey {
        /// As the proposer knows it.
        from: Option<KeyId>,
        /// The new one.
        to: KeyId,
    },
    /// The owner hands a call that talks to another node, with its last changes. Refused if that node can't take it.
    MoveCall {
        /// Which call.
        call: CallId,
        /// Under which ownership.
        epoch: CallEpoch,
        /// The new owner.
        to: NodeId,
        /// The last changes before it moves, applied first.
        change: CallChange,
    },
    /// A node is to be emptied before maintenance, or takes work again. A new process of the node takes work.
    Drain {
        /// Which.
        node: NodeId,
        /// Whether it is to be emptied.
        on: bool,
    },
    /// [`Command::CreateCall`] with what began the call, so that another node can answer its caller.
    CreateCallFrom {
        /// The owner's epoch.
        node_epoch: NodeEpoch,
        /// The record, with its legs and attempts.
        call: NewCall,
        /// The INVITE, of [`crate::bounds::INVITE_MAX`] bytes at most.
        invite: Invite,
    },
}

impl Command {
    /// Whether somebody waits for the outcome. What nobody waits for may wait a moment for company on its way.
    pub fn is_awaited(&self) -> bool {
        match self {
            Command::Tick | Command::EndCall { .. } | Command::RefuseCall { .. } => false,
            Command::Checkpoint { change, .. } => change.note != Some(CallNote::Ringing),
            Command::Unbind { reason, .. } => *reason == UnbindReason::Unregistered,
            Command::StepTime { .. }
            | Command::RaiseApplyVersion { .. }
            | Command::NodeStarted { .. }
            | Command::NodeRemoved { .. }
            | Command::Configure { .. }
            | Command::PutToken { .. }
            | Command::RemoveToken { .. }
            | Command::Bind { .. }
            | Command::CreateCall { .. }
            | Command::Renew { .. }
            | Command::ExpireLease { .. }
            | Command::EndLease { .. }
            | Command::Audit { .. }
            | Command::Salvage { .. }
            | Command::RenewMarked { .. }
            | Command::CreateCallFrom { .. }
            | Command::MoveCall { .. }
            | Command::Drain { .. }
            | Command::UseClusterKey { .. } => true,
        }
    }

    /// The call that it is about.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Command::CreateCall { call, .. } | Command::CreateCallFrom { call, .. } => Some(call.id),
            Command::Checkpoint { call, .. }
            | Command::MoveCall { call, .. }
            | Command::EndCall { call, .. } => Some(*call),
            Command::RefuseCall { refused, .. } => Some(refused.id),
            Command::Tick
            | Command::StepTime { .. }
            | Command::RaiseApplyVersion { .. }
            | Command::NodeStarted { .. }
            | Command::NodeRemoved { .. }
            | Command::Configure { .. }
            | Command::PutToken { .. }
            | Command::RemoveToken { .. }
            | Command::Bind { .. }
            | Command::Unbind { .. }
            | Command::Renew { .. }
            | Command::ExpireLease { .. }
            | Command::EndLease { .. }
            | Command::Audit { .. }
            | Command::Salvage { .. }
            | Command::RenewMarked { .. }
            | Command::Drain { .. }
            | Command::UseClusterKey { .. } => None,
        }
    }

    /// The rules that must be in force for it; all commands of the first release need the first ones.
    pub fn needs(&self) -> u16 {
        match self {
            Command::Salvage { .. } | Command::RenewMarked { .. } | Command::UseClusterKey { .. } => {
                THIRD_APPLY_VERSION
            }
            Command::CreateCallFrom { .. } | Command::MoveCall { .. } | Command::Drain { .. } => {
                MOVES_APPLY_VERSION
            }
            Command::Audit { .. } => LEASES_APPLY_VERSION,
            _ if self.is_of_leases() => LEASES_APPLY_VERSION,
            _ => FIRST_APPLY_VERSION,
        }
    }

    /// Compare-and-set by themselves: the window of outcomes neither answers nor keeps them.
    pub fn is_of_leases(&self) -> bool {
        let renews = matches!(self, Command::Renew { .. } | Command::RenewMarked { .. });
        renews || matches!(self, Command::ExpireLease { .. } | Command::EndLease { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_ends_ringing_and_ticks_but_for_answers_and_creations() {
        let noted = |note| Command::Checkpoint {
            call: CallId(1),
            epoch: CallEpoch(1),
            change: CallChange { note: Some(note), ..CallChange::default() },
        };
        assert!(noted(CallNote::Answered).is_awaited() && noted(CallNote::Held).is_awaited());
        assert!(!noted(CallNote::Ringing).is_awaited() && !Command::Tick.is_awaited());
        let end = Command::EndCall { call: CallId(1), epoch: CallEpoch(1), change: CallChange::default() };
        assert!(!end.is_awaited());
    }
}
