//! The handle by which everything else uses the cluster.

mod start;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tandem_state::command::IdempotencyKey;
use tandem_state::{
    ClusterId, ClusterTime, Command, Incarnation, KeyId, NodeEpoch, NodeId, Origin, Outcome, Principal,
    Refusal, Role, State,
};

use crate::archive::Archive;
use crate::backup::{BackupError, BackupHead};
use crate::checkup::Finding;
use crate::clock::wall_s;
use crate::config::NodeConfig;
use crate::death::Testament;
use crate::feed::Feed;
use crate::invitation::JoinToken;
use crate::lease::Lease;
use crate::member::MemberAsk;
use crate::node::Node;
use crate::peer::{PeerError, PeerHandler};
use crate::rpc::Method;
use crate::status::{HashReport, Status};
use start::Running;

/// A running node's part in its cluster. Clones are handles of the same. Call [`Cluster::shutdown`] before the last one
/// goes.
#[derive(Clone)]
pub struct Cluster {
    running: Arc<Running>,
}

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
    /// A copy of a node's directory, which has another node's name.
    #[error(
        "{0} is a copy of a node's data directory: only the original may act under its name; join as a new node, in an \
         empty directory, and if the original is lost, remove it by `tandem cluster remove`"
    )]
    Copied(String),
    /// Its node was told that it was removed.
    #[error(
        "{0} is of a node that was removed from its cluster for good: it joins as a new one, in an empty directory"
    )]
    Removed(String),
    /// Its secrets are open to others, or another node's.
    #[error("{0}")]
    Secrets(String),
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
    /// Its intervals don't fit each other.
    #[error("the timing of the cluster: {0}")]
    Timing(#[from] tandem_state::lease::BadTerms),
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
    /// A witness does not hold the CA's key.
    #[error("this node is a witness and issues no certificates: ask a full node")]
    NoAuthority,
    /// The CA's certificate can't be read.
    #[error("{0}")]
    Certificate(String),
}

/// Why the cluster key was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// Not all members run a release that can.
    #[error("the members' rules are too old for it: all must run this release")]
    NotInForce,
    /// A member has not got the new key.
    #[error("the old key stays in use, for node {node} could not be given the new one: {why}")]
    Unreached {
        /// Its name.
        node: String,
        /// Why.
        why: String,
    },
    /// This node can't keep it.
    #[error("the key can't be kept: {0}")]
    NotKept(String),
    /// No randomness.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// Every member has the new key, but whether it is in use isn't known.
    #[error(transparent)]
    Proposed(#[from] ProposeError),
    /// Every member has the new key, but another one is in use.
    #[error(transparent)]
    Refused(#[from] Refusal),
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
        Ok(Cluster { running: Arc::new(start::start(config).await?) })
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.running.node
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> ClusterId {
        self.node().identity.cluster
    }

    /// A secret that all nodes of the cluster share and nobody else, one for each purpose. It is that of the
    /// cluster key in use when it is asked for: what was made of an older one before stays as it is.
    pub fn derived_key(&self, purpose: &str) -> [u8; 32] {
        self.node().secrets.derived_key(purpose, self.view().cluster_key)
    }

    /// This node's identity.
    pub fn node_id(&self) -> NodeId {
        self.node().id()
    }

    /// What this node does in the cluster: `init` makes full nodes, an invitation says it for others.
    pub fn role(&self) -> Role {
        self.node().identity.role
    }

    /// This process's count.
    pub fn incarnation(&self) -> Incarnation {
        self.node().shared.incarnation
    }

    /// The epoch under which this node acts, or would if it held a lease.
    pub fn node_epoch(&self) -> NodeEpoch {
        self.node().epoch()
    }

    /// What this process leaves with whoever waits for its end; it changes with the members.
    pub fn testament(&self) -> Testament {
        self.node().testament()
    }

    /// This node's own lease, to be asked before it acts.
    pub fn lease(&self) -> Lease {
        self.node().lease()
    }

    /// Waits until the cluster has heard of this start (`NodeStarted` is applied here): before that, commands by which
    /// the node acts for itself are refused. False when it hasn't in time.
    pub async fn announced(&self, timeout: Duration) -> bool {
        self.node().wait_announced(timeout).await
    }

    /// Where this node listens for others.
    pub fn address(&self) -> std::net::SocketAddr {
        self.running.address
    }

    /// The state after the last applied entry: immutable, without a lock.
    pub fn view(&self) -> Arc<State> {
        self.node().shared.view.load_full()
    }

    /// The last applied log position; `view` is at least as new.
    pub fn applied(&self) -> u64 {
        *self.node().shared.applied.borrow()
    }

    /// Has a command applied exactly once: sends it to the leader, again after each change of leader, and returns
    /// once *this node* has applied it.
    pub async fn propose(
        &self,
        principal: Principal,
        idempotency: Option<IdempotencyKey>,
        command: Command,
    ) -> Result<Committed, ProposeError> {
        self.node().propose(principal, idempotency, command).await
    }

    /// The events of entries applied from now on.
    pub fn feed(&self) -> Feed {
        Feed { receiver: self.node().shared.feed.subscribe(), stop: self.node().stop.subscribe() }
    }

    /// Whether a quorum was heard of a moment ago, by the leader's word or, for the leader, by its followers'. At once, and
    /// from what is known already: false means that a proposal would most likely find no quorum. True promises nothing.
    pub fn has_quorum(&self) -> bool {
        self.node().has_quorum()
    }

    /// A log position that includes everything acknowledged before this call, confirmed by a quorum.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        self.node().read_index().await
    }

    /// Waits until this node has applied `position`; false when it hasn't in time.
    pub async fn wait_applied(&self, position: u64, timeout: Duration) -> bool {
        self.node().wait_applied(position, timeout).await
    }

    /// Cluster time by this node's estimate: the last stamp, continued by the boot-time clock.
    pub fn now(&self) -> ClusterTime {
        self.node().shared.now()
    }

    /// The cluster as this node sees it; answers without a quorum too.
    pub async fn status(&self) -> Status {
        self.node().status().await
    }

    /// Writes a backup of state and archive, sealed by a passphrase. Blocks: for a thread that may.
    pub fn backup(&self, passphrase: &str, to: impl std::io::Write) -> Result<BackupHead, BackupError> {
        self.node().backup(passphrase, to)
    }

    /// What this node finds when it looks at itself and its peers; answers without a quorum too.
    pub async fn checkup(&self) -> Vec<Finding> {
        self.node().checkup().await
    }

    /// Every node's state hash at one log position.
    pub async fn hash(&self) -> Result<HashReport, HashError> {
        self.node().hash_report().await
    }

    /// Makes a join token: single use, valid for `ttl` while this process runs.
    pub async fn invite(&self, role: Role, ttl: Duration) -> Result<String, InviteError> {
        self.invite_node(None, role, ttl).await
    }

    /// [`Cluster::invite`] of the node that will have this name.
    pub async fn invite_node(
        &self,
        node: Option<String>,
        role: Role,
        ttl: Duration,
    ) -> Result<String, InviteError> {
        let authority = self.node().secrets.held().authority;
        if authority.key.is_none() {
            return Err(InviteError::NoAuthority);
        }
        let pin = authority.pin().map_err(|e| InviteError::Certificate(e.to_string()))?;
        let (invitation, secret) = self.node().invitations.invite(role, ttl)?;
        let addresses = vec![self.node().record.cluster_address.clone()];
        let until_s = wall_s().saturating_add(ttl.as_secs());
        let cluster = self.cluster_id();
        let token = JoinToken { cluster, addresses, pin, invitation, secret, until_s, node };
        Ok(token.to_text())
    }

    /// Draws a new cluster key, hands it to every member over mutual TLS, and has it used from then on.
    pub async fn rotate_key(&self, principal: Principal) -> Result<KeyId, RotateError> {
        self.node().rotate_key(principal).await
    }

    /// Hands leadership to a node.
    pub async fn transfer_leader(&self, node: NodeId) -> Result<(), MemberError> {
        self.node().change_membership(MemberAsk::Lead(node)).await
    }

    /// Makes a learner a voter (nodes that joined are promoted without it).
    pub async fn promote(&self, node: NodeId) -> Result<(), MemberError> {
        self.node().change_membership(MemberAsk::Promote(node)).await
    }

    /// Takes a node out of the cluster.
    pub async fn remove(&self, node: NodeId) -> Result<(), MemberError> {
        self.node().change_membership(MemberAsk::Remove(node)).await
    }

    /// Reads of this node's archive.
    pub fn archive(&self) -> Archive {
        self.node().archive.clone()
    }

    /// Sends a request to another node's [`PeerHandler`] and waits for the response.
    pub async fn call_peer(
        &self,
        node: NodeId,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        self.node().peers.call(node, Method::Call, payload, timeout).await
    }

    /// Sends a one-way message, in order after earlier ones to the same node. `Ok` means queued, not delivered.
    pub fn tell_peer(&self, node: NodeId, payload: Bytes) -> Result<(), PeerError> {
        self.node().peers.tell(node, Method::Tell, payload)
    }

    /// Sets who takes other nodes' messages.
    pub fn serve_peers(&self, handler: Arc<dyn PeerHandler>) {
        *self.node().handler.write().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    /// Returns, with the reason, when this node can't go on (its disk failed, a file is damaged): the process should
    /// end and be started again. Never returns before that.
    pub async fn failed(&self) -> String {
        self.node().failed().await
    }

    /// Whether it takes itself for the leader; it may be mistaken.
    #[cfg(feature = "faults")]
    pub fn seems_to_lead(&self) -> bool {
        self.node().leader_hint() == Some(self.node_id())
    }

    /// The faults of this node's disk.
    #[cfg(feature = "faults")]
    pub fn disk_faults(&self) -> crate::disk::faults::Faults {
        self.running.faults.clone()
    }

    /// Stops taking part and closes the files.
    pub async fn shutdown(&self) {
        self.running.shutdown().await;
    }
}
