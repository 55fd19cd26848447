//! The node inside the handle: what its tasks and its RPC service share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use openraft::{RaftMetrics, ReadPolicy};
use tandem_state::archive::Stream;
use tandem_state::{NodeId, NodeRecord};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::acquaintances::Acquaintances;
use crate::archive::Archive;
use crate::archive::record::Stored;
use crate::clock::wall_ms;
use crate::cluster::ReadError;
use crate::config::Timing;
use crate::election::Observed;
use crate::fetch::{Fetch, Fetched};
use crate::health::Health;
use crate::identity::Identity;
use crate::invitation::Invitations;
use crate::leader::Submission;
use crate::lost::Forks;
use crate::peer::PeerHandler;
use crate::propose::Proposer;
use crate::quorum::Heard;
use crate::raft::log::Log;
use crate::raft::snapshot::{Incoming, SnapshotFiles};
use crate::raft::{Raft, Types};
use crate::rpc::Method;
use crate::rpc::client::Peers;
use crate::rpc::handshake::Start;
use crate::rpc::wire::decode_grown;
use crate::secrets::Secrets;
use crate::service::Pong;
use crate::shared::Shared;
use crate::status::{JoinStep, Joining};

/// See the module.
pub(crate) struct Node {
    pub(crate) identity: Identity,
    /// What it says of itself.
    pub(crate) record: NodeRecord,
    pub(crate) timing: Timing,
    /// Its data directory.
    pub(crate) data: PathBuf,
    pub(crate) shared: Arc<Shared>,
    pub(crate) health: Arc<Health>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) raft: OnceLock<Raft>,
    pub(crate) archive: Archive,
    pub(crate) proposer: Proposer,
    pub(crate) submissions: mpsc::Sender<Submission>,
    /// Ahead of the submissions.
    pub(crate) lease_lane: mpsc::Sender<Submission>,
    pub(crate) invitations: Invitations,
    pub(crate) handler: RwLock<Option<Arc<dyn PeerHandler>>>,
    /// A snapshot on its way from the leader.
    pub(crate) incoming: Mutex<Option<Incoming>>,
    pub(crate) snapshots: SnapshotFiles,
    /// When this node last heard its leader.
    pub(crate) heard: Heard,
    /// What the voters say of the leader.
    pub(crate) observed: Observed,
    pub(crate) acquaintances: Arc<Acquaintances>,
    pub(crate) forks: Forks,
    pub(crate) secrets: Arc<Secrets>,
    /// How this process began.
    pub(crate) start: Start,
    /// For how far the disk is.
    pub(crate) log: Log,
    /// Another node says that this one is an older copy of itself.
    pub(crate) condemned: watch::Receiver<Option<String>>,
    /// Nodes that were removed while others' connections were up.
    pub(crate) removed: watch::Sender<Vec<NodeId>>,
    pub(crate) stop: watch::Sender<bool>,
}

const PING_TIMEOUT: Duration = Duration::from_millis(500);

impl Node {
    pub(crate) fn id(&self) -> NodeId {
        self.identity.node
    }

    pub(crate) fn raft(&self) -> &Raft {
        self.raft.get().expect("raft is set before any task or connection of the node begins")
    }

    pub(crate) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    pub(crate) fn metrics(&self) -> RaftMetrics<Types> {
        use openraft::async_runtime::WatchReceiver;
        self.raft().metrics().borrow_watched().clone()
    }

    /// Whom to ask first. Says nothing about who may act.
    pub(crate) fn leader_hint(&self) -> Option<NodeId> {
        use openraft::async_runtime::WatchReceiver;
        self.raft().metrics().borrow_watched().current_leader.map(NodeId)
    }

    /// All members but this node.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        let membership = self.shared.membership.load();
        let known = membership.membership().nodes().map(|(id, _)| NodeId(*id));
        known.filter(|id| *id != self.id()).collect()
    }

    /// Voters that make a quorum.
    pub(crate) fn quorum_size(&self) -> usize {
        self.shared.membership.load().membership().voter_ids().count() / 2 + 1
    }

    /// Asks a node how it is.
    pub(crate) async fn ping(&self, node: NodeId) -> Option<Pong> {
        if node == self.id() {
            return Some(self.pong());
        }
        let answer = self.peers.call(node, Method::Ping, Bytes::new(), PING_TIMEOUT).await.ok()?;
        decode_grown(&answer).ok()
    }

    /// Asks a node how it is, and measures on the way.
    pub(crate) async fn measure(&self, node: NodeId) -> Option<Measured> {
        let asked = Instant::now();
        let pong = self.ping(node).await?;
        let took = asked.elapsed();
        let half_ms = u64::try_from(took.as_millis() / 2).unwrap_or(0);
        let ahead_ms = signed(pong.wall_ms.saturating_add(half_ms)).saturating_sub(signed(wall_ms()));
        Some(Measured { pong, took, ahead_ms })
    }

    /// Measures all others that answer.
    pub(crate) async fn measured(&self) -> Vec<(NodeId, Measured)> {
        let asks =
            self.others().into_iter().map(|node| async move { Some((node, self.measure(node).await?)) });
        futures_util::future::join_all(asks).await.into_iter().flatten().collect()
    }

    /// What the wall clocks of this node and of those that were measured show now.
    pub(crate) fn walls(&self, measured: &[(NodeId, Measured)]) -> Vec<(NodeId, u64)> {
        let now_ms = wall_ms();
        let others = measured.iter().map(|(node, measured)| (*node, measured.ahead_ms));
        let all = others.chain([(self.id(), 0)]);
        all.map(|(node, ahead_ms)| (node, now_ms.saturating_add_signed(ahead_ms))).collect()
    }

    /// As the leader: a position that a quorum confirms.
    pub(crate) async fn leader_read_index(&self) -> Option<u64> {
        let (read, _) = self.raft().get_read_log_id(ReadPolicy::ReadIndex).await.ok()?;
        Some(read.index())
    }

    /// See `Cluster::read_index`.
    pub(crate) async fn read_index(&self) -> Result<u64, ReadError> {
        const TRY: Duration = Duration::from_secs(1);
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if self.stopping() {
                return Err(ReadError::Stopped);
            }
            let found = match self.leader_hint() {
                Some(leader) if leader == self.id() => {
                    tokio::time::timeout(TRY, self.leader_read_index()).await.ok().flatten()
                }
                Some(leader) => self.peer_read_index(leader, TRY).await,
                None => None,
            };
            if let Some(position) = found {
                return Ok(position);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Err(ReadError::NoQuorum)
    }

    async fn peer_read_index(&self, leader: NodeId, timeout: Duration) -> Option<u64> {
        let answer = self.peers.call(leader, Method::ReadIndex, Bytes::new(), timeout).await.ok()?;
        postcard::from_bytes::<Option<u64>>(&answer).ok()?
    }

    /// See `Cluster::wait_applied`.
    pub(crate) async fn wait_applied(&self, position: u64, timeout: Duration) -> bool {
        let mut applied = self.shared.applied.subscribe();
        let wait = applied.wait_for(|applied| *applied >= position);
        matches!(tokio::time::timeout(timeout, wait).await, Ok(Ok(_)))
    }

    /// See `Cluster::failed`.
    pub(crate) async fn failed(&self) -> String {
        let mut condemned = self.condemned.clone();
        let condemned = async {
            match condemned.wait_for(Option::is_some).await.map(|why| why.clone()) {
                Ok(Some(why)) => format!("another member refuses this node: {why}"),
                Ok(None) | Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            why = condemned => why,
            why = self.raft_failed() => why,
            generation = self.peers.superseded() => format!(
                "generation {generation} of this cluster was forced without this node, which is of generation {}: \
                 it must join anew, with an empty data directory",
                self.identity.generation
            ),
        }
    }

    async fn raft_failed(&self) -> String {
        use openraft::async_runtime::WatchReceiver;
        let mut metrics = self.raft().metrics();
        loop {
            let state = metrics.borrow_watched().running_state.clone();
            match state {
                Err(fatal) if !self.stopping() => return fatal.to_string(),
                _ => {}
            }
            if metrics.changed().await.is_err() {
                if !self.stopping() {
                    return "raft ended".to_owned();
                }
                std::future::pending::<()>().await;
            }
        }
    }

    /// Figures for the metrics page.
    pub(crate) fn gauge(&self) {
        let metrics = self.metrics();
        let leads = metrics.current_leader == Some(self.id().0);
        metrics::gauge!("tandem_raft_term").set(metrics.current_term as f64);
        metrics::gauge!("tandem_raft_last_log").set(metrics.last_log_index.unwrap_or(0) as f64);
        metrics::gauge!("tandem_raft_applied").set(*self.shared.applied.borrow() as f64);
        metrics::gauge!("tandem_raft_leader").set(f64::from(u8::from(leads)));
        self.gauge_lease();
        self.health.gauge();
        metrics::gauge!("tandem_cluster_other_forks").set(self.forks.up().len() as f64);
        metrics::gauge!("tandem_raft_voters").set(metrics.membership_config.voter_ids().count() as f64);
    }

    /// See `Cluster::announced`.
    pub(crate) async fn wait_announced(&self, timeout: Duration) -> bool {
        let mut applied = self.shared.applied.subscribe();
        let known = || {
            let view = self.shared.view.load();
            view.nodes.get(&self.id()).is_some_and(|record| record.incarnation == self.shared.incarnation)
        };
        let wait = async {
            while !known() && applied.changed().await.is_ok() {}
            known()
        };
        tokio::time::timeout(timeout, wait).await.unwrap_or(false)
    }

    pub(crate) fn handler(&self) -> Option<Arc<dyn PeerHandler>> {
        self.handler.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A node's answer to a ping.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) pong: Pong,
    pub(crate) took: Duration,
    /// How far its wall clock is ahead of this node's, to half of what the answer took.
    pub(crate) ahead_ms: i64,
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// Keeps the addresses of peers as the state says them, and tells of those that are gone.
pub(crate) async fn follow_addresses(node: Arc<Node>) {
    let mut applied = node.shared.applied.subscribe();
    let mut seen = None;
    loop {
        let nodes = node.shared.view.load().nodes.clone();
        if seen.as_ref().is_none_or(|seen: &imbl::OrdMap<NodeId, NodeRecord>| !seen.ptr_eq(&nodes)) {
            for record in nodes.values().filter(|record| record.id != node.id()) {
                node.peers.set_address(record.id, &record.cluster_address);
            }
            let gone = seen.iter().flat_map(imbl::OrdMap::keys).filter(|id| !nodes.contains_key(*id));
            let gone: Vec<NodeId> = gone.copied().collect();
            if !gone.is_empty() {
                node.removed.send_modify(|removed| removed.extend(gone));
            }
            seen = Some(nodes);
        }
        if applied.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Fetches archive records from peers.
pub(crate) struct PeerFetch {
    pub(crate) peers: Arc<Peers>,
    pub(crate) shared: Arc<Shared>,
    /// Members as known at the start, for a node that has no membership yet.
    pub(crate) known: Vec<NodeId>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Fetch for PeerFetch {
    fn records(&self, stream: Stream, seq: u64) -> Fetched<'_> {
        const TIMEOUT: Duration = Duration::from_secs(5);
        Box::pin(async move {
            let membership = self.shared.membership.load_full();
            let mut sources: Vec<NodeId> =
                membership.membership().nodes().map(|(id, _)| NodeId(*id)).collect();
            sources.extend(self.known.iter().copied());
            sources.sort_unstable();
            sources.dedup();
            let mut answers = Vec::new();
            for source in sources.into_iter().filter(|id| *id != self.shared.node) {
                let Ok(question) = postcard::to_stdvec(&(stream, seq)) else { continue };
                let answer = self.peers.call(source, Method::Records, question.into(), TIMEOUT).await;
                let records = answer.ok().and_then(|bytes| postcard::from_bytes::<Vec<Vec<u8>>>(&bytes).ok());
                if let Some(records) = records.filter(|records| !records.is_empty()) {
                    answers.push(records.into_iter().map(Stored).collect());
                    // One good source is the rule; more are asked when it turns out bad.
                    if answers.len() >= 2 {
                        break;
                    }
                }
            }
            answers
        })
    }

    fn progress(&self, have: u64, of: u64) {
        self.shared.fetches(Some(Joining::at(JoinStep::Archive, have, of)));
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }
}
