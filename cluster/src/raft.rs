//! The adapter to openraft: its types, and the parts that it drives.

pub(crate) mod index;
pub(crate) mod log;
pub(crate) mod log_io;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod snapshot;
#[cfg(test)]
mod suite;

use std::fmt;
use std::sync::Arc;

use openraft::alias;
use serde::{Deserialize, Serialize};
use tandem_state::Batch;

/// What a log entry holds. Cloning shares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogBatch(pub(crate) Arc<Batch>);

impl fmt::Display for LogBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} proposals at {}", self.0.proposals.len(), self.0.stamp.0)
    }
}

openraft::declare_raft_types!(
    /// Node ids are those of [`tandem_state::NodeId`]; the node's address is a first hint, its record in the state wins.
    pub(crate) Types: D = LogBatch, R = (), NodeId = u64, Node = openraft::BasicNode,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime
);

pub(crate) type Raft = openraft::Raft<Types, machine::Machine>;
pub(crate) type LogId = alias::LogIdOf<Types>;
pub(crate) type Vote = alias::VoteOf<Types>;
pub(crate) type Entry = alias::EntryOf<Types>;
pub(crate) type Payload = alias::PayloadOf<Types>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = alias::SnapshotOf<Types, snapshot::SnapshotFile>;
