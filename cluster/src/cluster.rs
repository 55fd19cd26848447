//! The handle by which everything else uses the cluster.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tandem_state::command::IdempotencyKey;
use tandem_state::{
    ClusterId, ClusterTime, Command, Incarnation, NodeEpoch, NodeId, Origin, Outcome, Principal, Role, State,
};

use crate::archive::Archive;
use crate::config::NodeConfig;
use crate::feed::Feed;
use crate::peer::{PeerError, PeerHandler};
use crate::status::{HashReport, Status};

/// A running node's part in its cluster. Clones are handles of the same.
#[derive(Clone)]
pub struct Cluster {}

/// What came of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The log position; `Cluster::view` is at least as new.
    pub position: u64,
    /// What `apply` answered.
    pub outcome: Outcome,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory was never prepared.
    #[error("{0} holds no node: run `cluster init` or `cluster join` first")]
    NotPrepared(String),
    /// Another process has the directory.
    #[error("{0} is in use by another process")]
    InUse(String),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Something stored is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The cluster port could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Raft refused to start.
    #[error("raft: {0}")]
    Raft(String),
}

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Too many of this node's proposals are under way; nothing was sent.
    #[error("too many proposals are under way")]
    Overloaded,
    /// Longer than a log entry may be; nothing was sent.
    #[error("the command is too long")]
    TooLong,
    /// No answer in time: it may or may not be applied, now or later.
    #[error("no answer in time; the command may still be carried out")]
    Unknown {
        /// Its request id.
        origin: Origin,
    },
    /// This node has been shut down; sent proposals may still be applied.
    #[error("the node has been shut down")]
    Stopped,
}

/// Why a consistent read can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader was confirmed by a quorum in time.
    #[error("no quorum answered in time")]
    NoQuorum,
    /// This node has been shut down.
    #[error("the node has been shut down")]
    Stopped,
}

/// Why hashes can't be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// No log position could be agreed on.
    #[error("no quorum: hashes need one log position that all nodes pass")]
    NoQuorum,
}

/// Why no invitation can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Too many are open.
    #[error("too many invitations are open")]
    TooMany,
    /// No randomness.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// Why the membership was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// No such member.
    #[error("no such node")]
    NoNode,
    /// It is not in the right state for it.
    #[error("{0}")]
    Refused(String),
    /// No leader carried it out in time.
    #[error("no leader carried it out in time")]
    NoLeader,
}

impl Cluster {
    /// Starts the node in `config.data`: takes the directory, replays the log, listens, takes part. Returns when the
    /// node listens, before there is a leader.
    pub async fn start(config: NodeConfig) -> Result<Cluster, StartError> {
        Err(StartError::NotPrepared(config.data.display().to_string()))
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> ClusterId {
        ClusterId::default()
    }

    /// This node's identity.
    pub fn node_id(&self) -> NodeId {
        NodeId::default()
    }

    /// This process's count.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation::default()
    }

    /// The epoch under which this node acts.
    pub fn node_epoch(&self) -> NodeEpoch {
        NodeEpoch(1)
    }

    /// Where this node listens for others.
    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    /// The state after the last applied entry: immutable, without a lock.
    pub fn view(&self) -> Arc<State> {
        Arc::default()
    }

    /// Has a command applied exactly once: sends it to the leader, again after each change of leader, and returns
    /// once *this node* has applied it.
    pub async fn propose(
        &self,
        _principal: Principal,
        _idempotency: Option<IdempotencyKey>,
        _command: Command,
    ) -> Result<Committed, ProposeError> {
        Err(ProposeError::Stopped)
    }

    /// The events of entries applied from now on.
    pub fn feed(&self) -> Feed {
        Feed { receiver: tokio::sync::broadcast::channel(1).1 }
    }

    /// A log position that includes everything acknowledged before this call, confirmed by a quorum.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        Err(ReadError::Stopped)
    }

    /// Waits until this node has applied `position`; false when it hasn't in time.
    pub async fn wait_applied(&self, _position: u64, _timeout: Duration) -> bool {
        false
    }

    /// Cluster time by this node's estimate: the last stamp, continued by the boot-time clock.
    pub fn now(&self) -> ClusterTime {
        ClusterTime::default()
    }

    /// The cluster as this node sees it; answers without a quorum too.
    pub async fn status(&self) -> Status {
        Status {
            cluster_id: self.cluster_id(),
            generation: 1,
            leader: None,
            quorum: false,
            survives: Default::default(),
            nodes: Vec::new(),
        }
    }

    /// Every node's state hash at one log position.
    pub async fn hash(&self) -> Result<HashReport, HashError> {
        Err(HashError::NoQuorum)
    }

    /// Makes a join token: single use, valid for `ttl` while this process runs.
    pub async fn invite(&self, _role: Role, _ttl: Duration) -> Result<String, InviteError> {
        Err(InviteError::TooMany)
    }

    /// Hands leadership to a node.
    pub async fn transfer_leader(&self, _node: NodeId) -> Result<(), MemberError> {
        Err(MemberError::NoLeader)
    }

    /// Makes a learner a voter (nodes that joined are promoted without it).
    pub async fn promote(&self, _node: NodeId) -> Result<(), MemberError> {
        Err(MemberError::NoLeader)
    }

    /// Takes a node out of the cluster.
    pub async fn remove(&self, _node: NodeId) -> Result<(), MemberError> {
        Err(MemberError::NoLeader)
    }

    /// Reads of this node's archive.
    pub fn archive(&self) -> Archive {
        Archive {}
    }

    /// Sends a request to another node's [`PeerHandler`] and waits for the response.
    pub async fn call_peer(
        &self,
        _node: NodeId,
        _payload: Bytes,
        _timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        Err(PeerError::Stopped)
    }

    /// Sends a one-way message, in order after earlier ones to the same node. `Ok` means queued, not delivered.
    pub fn tell_peer(&self, _node: NodeId, _payload: Bytes) -> Result<(), PeerError> {
        Err(PeerError::Stopped)
    }

    /// Sets who takes other nodes' messages.
    pub fn serve_peers(&self, _handler: Arc<dyn PeerHandler>) {}

    /// Stops taking part and closes the files.
    pub async fn shutdown(&self) {}
}
