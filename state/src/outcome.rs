//! What `apply` answers.

use serde::{Deserialize, Serialize};

use crate::archive::ArchiveRecord;
use crate::event::Event;
use crate::ids::*;

/// The result of one log entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// One per proposal, in order.
    pub outcomes: Vec<Outcome>,
    /// All events of the entry, in order.
    pub events: Vec<Event>,
    /// Facts for the archive, in order: CDRs, events, audit.
    pub archive: Vec<ArchiveRecord>,
}

/// The answer to one proposal; kept in the outcome window, so that a retry gets the same one.
pub type Outcome = Result<Reply, Refusal>;

/// What a command that was carried out answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing to add.
    Done,
    /// The binding's new revision.
    Bound(Revision),
    /// The call's ownership.
    Created(CallEpoch),
    /// How many CDRs were written.
    Ended(u32),
    /// The names of what was changed by `Configure`, in order; empty when everything was so already.
    Configured(Vec<String>),
}

/// Why a command was not carried out. A value, not an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The request is older than the window of outcomes: its first try may or may not have applied.
    #[error("the outcome of this request is no longer kept")]
    OutcomeForgotten,
    /// A later incarnation of the proposing node is known.
    #[error("a later incarnation of this node has started")]
    StaleIncarnation,
    /// The node's lease ended.
    #[error("the node's epoch is {current}")]
    StaleNodeEpoch {
        /// What it is now.
        current: NodeEpoch,
    },
    /// The call moved.
    #[error("the call is owned by node {owner} under epoch {epoch}")]
    StaleCallEpoch {
        /// Who has it now.
        owner: NodeId,
        /// Under which ownership.
        epoch: CallEpoch,
    },
    /// The binding is newer.
    #[error("the binding has revision {current}")]
    StaleRevision {
        /// What it is now.
        current: Revision,
    },
    /// Same Call-ID, CSeq not higher (RFC 3261 section 10.3).
    #[error("the REGISTER is out of order")]
    OutOfOrder,
    /// Rules that are not in force yet.
    #[error("needs apply version {needs}, in force is {current}")]
    NotInForce {
        /// What the command needs.
        needs: u16,
        /// What holds.
        current: u16,
    },
    /// No such tenant.
    #[error("no tenant {0}")]
    NoTenant(String),
    /// No such extension.
    #[error("no extension {0}")]
    NoExtension(String),
    /// No such number in this tenant.
    #[error("no number {0}")]
    NoNumber(String),
    /// No such binding.
    #[error("no such binding")]
    NoBinding,
    /// No such call (or it has ended).
    #[error("no such call")]
    NoCall,
    /// A leg, call or node id is taken.
    #[error("{0} exists already")]
    Exists(String),
    /// A domain, number or name belongs to somebody else.
    #[error("{what} belongs to {owner}")]
    Taken {
        /// What.
        what: String,
        /// Whose.
        owner: String,
    },
    /// A limit of the tenant.
    #[error("the limit of {limit} {name} is reached")]
    LimitReached {
        /// Such as `calls`.
        name: String,
        /// Its value.
        limit: u32,
    },
    /// It has calls up.
    #[error("{0} has calls up")]
    Busy(String),
    /// A value is not acceptable.
    #[error("{field}: {why}")]
    Invalid {
        /// Where.
        field: String,
        /// Why.
        why: String,
    },
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used with another request")]
    KeyReused,
    /// The node's lease was not renewed under this epoch yet.
    #[error("the node holds no lease under epoch {epoch}")]
    NoLease {
        /// The epoch of its next one.
        epoch: NodeEpoch,
    },
    /// A later attempt renewed the lease already.
    #[error("attempt {last} has renewed the lease")]
    StaleAttempt {
        /// That one.
        last: u64,
    },
    /// The lease is younger than the proposer knew.
    #[error("the lease was renewed at position {last_renewal}")]
    LeaseRenewed {
        /// Its last renewal.
        last_renewal: u64,
    },
    /// A release that can't follow the rules in force.
    #[error(
        "apply version {in_force} is in force, and this release follows {newest} at most: install a newer one"
    )]
    TooOld {
        /// What holds.
        in_force: u16,
        /// What the starting node can follow.
        newest: u16,
    },
    /// The cluster key was changed by somebody else meanwhile.
    #[error("the cluster key was changed by somebody else meanwhile")]
    StaleClusterKey {
        /// Which one seals now.
        current: Option<KeyId>,
    },
}
