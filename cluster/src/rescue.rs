//! The last resort when a majority of voters is lost for good: an offline rewrite that makes a survivor a cluster of its own.
//!
//! Whatever the lost ones acknowledged and this node has not heard of is gone. The generation rises, so that a lost node that
//! comes back after all meets a higher one and stops; a fork id is drawn, so that two survivors that are forced apart never
//! mix ([`crate::lost`]); see `deploy/runbooks/quorum-lost.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::vote::RaftLeaderId;
use openraft::{BasicNode, EntryPayload, Membership};
use tandem_state::archive::ArchiveRecord;
use tandem_state::{ClusterId, ClusterTime, NodeId, State};
use tokio::net::TcpStream;

use crate::cluster::StartError;
use crate::config::Timing;
use crate::identity::{self, DirectoryLock, Fork, Identity, Lost};
use crate::raft::log::Log;
use crate::raft::snapshot::SnapshotFiles;
use crate::raft::{Entry, LogId, Vote};
use crate::rpc::handshake::random_number;

/// What a stopped node's data directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Of the cluster, as this node knows it.
    pub generation: u64,
    /// The node's name.
    pub name: String,
    /// The other voters, by name.
    pub others: Vec<Other>,
    /// The last position of its log. What was acknowledged beyond it is lost with the others.
    pub last_log: u64,
    /// Cluster time at that position.
    pub last_time: ClusterTime,
}

/// Another voter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its name, or its id if the state has none.
    pub name: String,
    /// Where it listens for nodes.
    pub address: String,
}

/// What a survivor has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forced {
    /// Of the cluster that it is now.
    pub generation: u64,
    /// Which one of that generation.
    pub fork: String,
}

/// Why a quorum was not forced. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// The directory can't be used.
    #[error(transparent)]
    Directory(#[from] StartError),
    /// Whoever never voted may lack what was acknowledged.
    #[error("{0} is no voter of its cluster: it can't stand in for a majority")]
    NoVoter(String),
    /// A name that is no voter's.
    #[error("no voter is named {name}; the others are {}", others.join(", "))]
    NoSuchVoter {
        /// As given.
        name: String,
        /// The names there are.
        others: Vec<String>,
    },
    /// A voter that was not named.
    #[error("{0} votes and was not named as lost: a cluster can be forced only out of one survivor")]
    NotNamed(String),
    /// A voter that was named, but lives.
    #[error("{name} takes connections at {address}: it is not lost")]
    Alive {
        /// Its name.
        name: String,
        /// Its address.
        address: String,
    },
}

/// How long a lost node is given to answer.
const ALIVE_WAIT: Duration = Duration::from_secs(2);

/// Looks into a stopped node's data directory.
pub async fn examine(data: &Path) -> Result<Remains, RescueError> {
    let rescue = Rescue::open(data).await?;
    let remains = rescue.remains();
    rescue.log.close().await;
    Ok(remains)
}

/// Makes a stopped node the only voter of its cluster, under the next generation. Every other voter must be named as lost,
/// and must not answer.
pub async fn force_quorum(data: &Path, lost: &[String]) -> Result<Forced, RescueError> {
    if crate::secrets::was_removed(data) {
        return Err(StartError::Removed(data.display().to_string()).into());
    }
    Identity::load(data).map_err(StartError::from)?;
    let mut rescue = Rescue::open(data).await?;
    let forced = match rescue.check(lost).await {
        Ok(()) => rescue.rewrite(data).await.map_err(RescueError::from),
        Err(refused) => Err(refused),
    };
    rescue.log.close().await;
    forced
}

/// A stopped node's directory, or a copy of it, opened without its cluster.
pub(crate) struct Rescue {
    pub(crate) identity: Identity,
    state: State,
    membership: Membership<u64, BasicNode>,
    last: LogId,
    /// What the entries of its log make for the archive.
    pub(crate) made: Vec<ArchiveRecord>,
    pub(crate) log: Log,
    _lock: DirectoryLock,
}

impl Rescue {
    pub(crate) async fn open(data: &Path) -> Result<Rescue, StartError> {
        if !identity::exists(data) {
            return Err(StartError::NotPrepared(data.display().to_string()));
        }
        let lock = DirectoryLock::take(data)?.ok_or_else(|| StartError::InUse(data.display().to_string()))?;
        let (identity, _) = Identity::read(data)?;
        let (disk, health) = (crate::disk::system(), Arc::default());
        let mut log = Log::of_node(&disk, &health, data, Timing::default().segment_bytes)?;
        let damaged = |e: &dyn std::fmt::Display| StartError::Damaged(e.to_string());
        let (mut state, mut applied, mut membership) = (State::default(), None, Membership::default());
        let snapshots = SnapshotFiles::open(&disk, &data.join("snapshots"))?;
        snapshots.check_covers(log.begins_after())?;
        if let Some(found) = snapshots.newest()? {
            state = found.snapshot.read()?.1;
            applied = found.meta.last_log_id;
            membership = found.meta.last_membership.membership().clone();
        }
        let mut made = Vec::new();
        let next = applied.map_or(0, |id: LogId| id.index + 1);
        for entry in log.try_get_log_entries(next..).await.map_err(|e| damaged(&e))? {
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(batch) => {
                    made.extend(state.apply_unchecked(entry.log_id.index, &batch.0).archive);
                }
                EntryPayload::Membership(newer) => membership = newer,
            }
            applied = Some(entry.log_id);
        }
        let last =
            applied.ok_or_else(|| StartError::Damaged("the log is empty: this node knows nothing".into()))?;
        Ok(Rescue { identity, state, membership, last, made, log, _lock: lock })
    }

    fn name_of(&self, id: NodeId) -> String {
        self.state.nodes.get(&id).map_or_else(|| id.to_string(), |record| record.name.clone())
    }

    /// All voters but this node: who is lost when the quorum is forced.
    fn lost(&self) -> Vec<Lost> {
        let ids = self.membership.voter_ids().map(NodeId).filter(|id| *id != self.identity.node);
        let address = |id: NodeId| self.state.nodes.get(&id).map(|record| record.cluster_address.clone());
        ids.map(|node| Lost { node, name: self.name_of(node), address: address(node).unwrap_or_default() })
            .collect()
    }

    /// And those of earlier times that did not come back.
    fn all_lost(&self) -> Vec<Lost> {
        let is_back = |old: &Lost| self.membership.get_node(&old.node.0).is_some();
        let earlier = self.identity.lost.iter().filter(|old| !is_back(old)).cloned();
        self.lost().into_iter().chain(earlier).collect()
    }

    fn others(&self) -> Vec<Other> {
        let named = |lost: Lost| Other { name: lost.name, address: lost.address };
        let mut others: Vec<Other> = self.lost().into_iter().map(named).collect();
        others.sort_by(|a, b| a.name.cmp(&b.name));
        others
    }

    fn remains(&self) -> Remains {
        Remains {
            cluster_id: self.identity.cluster,
            generation: self.identity.generation,
            name: self.name_of(self.identity.node),
            others: self.others(),
            last_log: self.last.index,
            last_time: self.state.time,
        }
    }

    async fn check(&self, lost: &[String]) -> Result<(), RescueError> {
        let me = self.identity.node;
        if !self.membership.voter_ids().any(|id| id == me.0) {
            return Err(RescueError::NoVoter(self.name_of(me)));
        }
        let others = self.others();
        if let Some(name) = lost.iter().find(|name| !others.iter().any(|other| other.name == **name)) {
            let others = others.into_iter().map(|other| other.name).collect();
            return Err(RescueError::NoSuchVoter { name: name.clone(), others });
        }
        if let Some(other) = others.iter().find(|other| !lost.contains(&other.name)) {
            return Err(RescueError::NotNamed(other.name.clone()));
        }
        for Other { name, address } in others {
            let answered = tokio::time::timeout(ALIVE_WAIT, TcpStream::connect(&address)).await;
            if matches!(answered, Ok(Ok(_))) {
                return Err(RescueError::Alive { name, address });
            }
        }
        Ok(())
    }

    /// The generation first: stopped in between, the node has no quorum, and this can be done again.
    async fn rewrite(&mut self, data: &Path) -> Result<Forced, StartError> {
        let identity = Identity {
            generation: self.identity.generation + 1,
            fork: drawn(data)?,
            members: Vec::new(),
            lost: self.all_lost(),
            ..self.identity.clone()
        };
        identity.store(data)?;
        let me = self.identity.node.0;
        let raft = |e: &dyn std::fmt::Display| StartError::Raft(e.to_string());
        let vote = self.log.read_vote().await.map_err(|e| raft(&e))?;
        let term = vote.map_or(0, |vote| vote.leader_id.term).max(self.last.leader_id.term) + 1;
        self.log.save_vote(&Vote::new(term, me)).await.map_err(|e| raft(&e))?;
        let address = self.membership.get_node(&me).cloned().unwrap_or_default();
        let alone = Membership::new(vec![BTreeSet::from([me])], BTreeMap::from([(me, address)]));
        let entry = Entry {
            log_id: LogId::new(RaftLeaderId::new(term, me), self.last.index + 1),
            payload: EntryPayload::Membership(alone.map_err(|e| raft(&e))?),
        };
        self.log.blocking_append([entry]).await.map_err(|e| raft(&e))?;
        Ok(Forced { generation: identity.generation, fork: identity.fork.to_string() })
    }
}

/// Never 0: that is the fork of whoever was never forced.
fn drawn(data: &Path) -> Result<Fork, StartError> {
    let io = |source| StartError::Io { path: data.display().to_string(), source };
    Ok(Fork(random_number().map_err(io)?.max(1)))
}
