//! What `cluster status` and `cluster hash` say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_state::{ClusterId, NodeId, Role};

/// The cluster as one node sees it. Serialises to what `cluster status -o json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Which cluster, as hexadecimal digits.
    #[serde(serialize_with = "as_text")]
    pub cluster_id: ClusterId,
    /// Raised by `force-quorum`.
    pub generation: u64,
    /// Which cluster of that generation, where one was forced.
    pub fork: Option<String>,
    /// The leader's name, if one is known to a quorum.
    pub leader: Option<String>,
    /// Whether the leader has a quorum of voters with it.
    pub quorum: bool,
    /// What may be lost without losing the quorum, by the present membership and who of it keeps up now.
    pub survives: Survives,
    /// All members, by name.
    pub nodes: Vec<NodeStatus>,
}

/// What the present membership survives by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Survives {
    /// The loss of any one voter.
    pub any_one_node: bool,
    /// The loss of a whole site, by site.
    pub site: BTreeMap<String, bool>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its identity.
    #[serde(serialize_with = "as_text")]
    pub id: NodeId,
    /// Where it stands.
    pub site: String,
    /// What it does.
    pub role: Role,
    /// How it is.
    pub state: MemberState,
    /// What it is in Raft.
    pub raft: RaftRole,
    /// Its Raft term; 0 when it can't be reached.
    pub term: u64,
    /// Its last log position; 0 when it can't be reached.
    pub last_log: u64,
    /// Its last applied log position; 0 when it can't be reached.
    pub applied: u64,
    /// Its node epoch.
    pub epoch: u64,
    /// What remains of its lease; absent until leases are in force.
    pub lease_ms: Option<u64>,
    /// Calls it owns.
    pub calls: u64,
    /// Bindings whose flow it holds.
    pub registrations: u64,
    /// How its disk is, by its own word; `unknown` when it can't be reached.
    pub storage: StorageState,
    /// What is wrong with it, in words.
    pub storage_error: Option<String>,
    /// How far it is, while it joins.
    pub joining: Option<Joining>,
    /// Why the cluster does not take it, by its own word.
    pub refused: Option<String>,
    /// So much of a hundred of its archive's index is there, while that is made anew.
    pub index_rebuild_percent: Option<u8>,
    /// The release it runs.
    pub version: String,
    /// Round trip of the question, absent when it can't be reached; 0 for the answering node itself.
    pub rtt_ms: Option<f64>,
}

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Catching up, no voter yet.
    Joining,
    /// It holds a lease (before leases are in force: it answers and keeps up).
    Up,
    /// It takes no new work.
    Draining,
    /// It holds none (before that: it doesn't answer, or doesn't keep up).
    Down,
}

/// What a member is in Raft, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RaftRole {
    /// Leader.
    Leader,
    /// Follower.
    Follower,
    /// Standing for election, or a leader of former times that no quorum follows.
    Candidate,
    /// Has no vote.
    Learner,
    /// It doesn't answer.
    Unreachable,
}

/// What a joining node fetches, and how much of a hundred it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joining {
    /// What.
    pub step: JoinStep,
    /// How much of it.
    pub percent: u8,
}

/// What a joining node fetches, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinStep {
    /// The snapshot of the state.
    State,
    /// The archive's records.
    Archive,
    /// The log's entries since.
    Log,
}

impl Joining {
    /// `done` of `all` in a step.
    pub fn at(step: JoinStep, done: u64, all: u64) -> Joining {
        let percent = done.saturating_mul(100).checked_div(all).unwrap_or(100).min(100);
        Joining { step, percent: u8::try_from(percent).unwrap_or(100) }
    }
}

/// How a node's disk is, from well to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageState {
    /// The node doesn't answer.
    #[default]
    Unknown,
    /// It takes writes as it should.
    Ok,
    /// Flushes take too long: such a node gives up leadership.
    Slow,
    /// It has no room: the node acknowledges nothing until there is some.
    Full,
    /// It refuses writes: the node acknowledges nothing, and stops when that goes on.
    Failing,
}

impl StorageState {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            StorageState::Unknown => "unknown",
            StorageState::Ok => "ok",
            StorageState::Slow => "slow",
            StorageState::Full => "full",
            StorageState::Failing => "failing",
        }
    }
}

/// The state hash of every node at one log position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HashReport {
    /// The log position.
    pub position: u64,
    /// Every member was reached and all hashes are the same.
    pub equal: bool,
    /// By name.
    pub nodes: Vec<NodeHash>,
}

/// One node's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeHash {
    /// Its name.
    pub name: String,
    /// Its identity.
    #[serde(serialize_with = "as_text")]
    pub id: NodeId,
    /// SHA-256 in hexadecimal digits, over hot state and archive chains; `None` when it couldn't be had.
    pub hash: Option<String>,
    /// Why not.
    pub error: Option<String>,
}

fn as_text<S: serde::Serializer>(value: &impl std::fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}
