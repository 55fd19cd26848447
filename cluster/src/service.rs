//! What a node answers to other nodes.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::ServerState;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_state::archive::Stream;
use tandem_state::{ClusterId, NodeId, NodeRecord, Proposal, Role};

use crate::clock::wall_ms;
use crate::identity::Fork;
use crate::leader::NotLeader;
use crate::member::MemberAsk;
use crate::node::Node;
use crate::raft::Snapshot;
use crate::raft::network::{PartAnswer, SnapshotPart};
use crate::raft::snapshot::{Incoming, SnapshotFile};
use crate::rpc::Method;
use crate::rpc::handshake::{Gate, Grant, Hello, Key, Purpose, Refused, Start};
use crate::rpc::server::{Answer, Service};
use crate::status::{JoinStep, Joining, RaftRole, StorageState};

/// How a node is, by its own word.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pong {
    pub(crate) raft: RaftRole,
    pub(crate) term: u64,
    pub(crate) last_log: u64,
    pub(crate) applied: u64,
    pub(crate) leader: Option<NodeId>,
    pub(crate) version: String,
    pub(crate) wall_ms: u64,
    pub(crate) storage: StorageState,
    pub(crate) storage_error: Option<String>,
    pub(crate) joining: Option<Joining>,
    pub(crate) index_percent: Option<u8>,
    /// As the leader: a majority has answered it lately, and what it proposes is committed. From here on, older releases
    /// say nothing.
    pub(crate) has_quorum: Option<bool>,
    /// Why the cluster does not take it.
    pub(crate) refused: Option<String>,
}

impl Pong {
    /// How far a learner is, given the last log position that anybody has.
    pub(crate) fn joining(&self, last: u64) -> Joining {
        self.joining.unwrap_or_else(|| Joining::at(JoinStep::Log, self.applied, last))
    }
}

/// Bytes of archive records in one answer.
const RECORDS_BYTES: usize = 2 * 1024 * 1024;
/// Longest snapshot that is taken.
const SNAPSHOT_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// How long a hash waits for its position.
const HASH_WAIT: Duration = Duration::from_secs(5);

impl Gate for Node {
    fn me(&self) -> (ClusterId, NodeId, Start) {
        (self.identity.cluster, self.id(), self.start)
    }

    fn fork(&self) -> Fork {
        self.identity.fork
    }

    fn admit(&self, hello: &Hello) -> Result<Option<Key>, Refused> {
        match hello.purpose {
            Purpose::Join { invitation, .. } => {
                self.acquaintances.may_join(hello.node)?;
                self.invitations.secret(invitation).map(Some)
            }
            Purpose::Lane { .. } if hello.generation != self.identity.generation => {
                // A node that was removed says nothing about the cluster; only a voter can have been made one alone.
                let counts = self.acquaintances.may_join(hello.node).is_ok()
                    && self.voters().any(|id| id == hello.node);
                if counts && hello.generation > self.identity.generation {
                    self.peers.heard_of(hello.generation);
                }
                // One that this node declared lost and that was forced too, apart from it and more often.
                let is_lost = self.identity.lost.iter().any(|lost| lost.node == hello.node);
                if is_lost && hello.generation > self.identity.generation {
                    self.forks.met(hello.node, hello.fork);
                }
                let (calling, called) = (hello.generation, self.identity.generation);
                Err(Refused::Generation { calling, called })
            }
            // Before all that the log says of the caller: to each of two survivors the other one was removed.
            Purpose::Lane { .. } if hello.fork != self.identity.fork => {
                self.forks.met(hello.node, hello.fork);
                let (generation, calling, called) = (hello.generation, hello.fork, self.identity.fork);
                Err(Refused::Fork { generation, calling, called })
            }
            Purpose::Lane { .. } => {
                self.acquaintances.meet(hello.node, hello.start)?;
                self.peers.set_address(hello.node, &hello.address);
                Ok(None)
            }
        }
    }

    fn grant(&self, hello: &Hello) -> Result<Grant, Refused> {
        let Purpose::Join { invitation, request } = &hello.purpose else {
            return Err(Refused::InvitationUnknown);
        };
        let view = self.shared.view.load();
        let is_taken = |record: &NodeRecord| record.name == hello.name && record.id != hello.node;
        if view.nodes.values().any(is_taken) {
            return Err(Refused::Name { name: hello.name.clone() });
        }
        let held = self.secrets.held();
        let (certificate, until_s) = self.certify(hello.node, request).map_err(Refused::NoCertificate)?;
        let role = self.invitations.take(*invitation)?;
        let authority = if role == Role::Full { held.authority } else { held.authority.without_key() };
        Ok(Grant {
            certificate,
            until_s,
            authority,
            keys: held.keys,
            generation: self.identity.generation,
            role,
            members: self.members_now(),
            fork: self.identity.fork,
        })
    }
}

impl Service for Node {
    fn is_of_member(&self, host: IpAddr) -> bool {
        self.peers.are_at(host)
    }

    fn request(self: Arc<Self>, from: NodeId, method: Method, payload: Bytes) -> Answer {
        Box::pin(async move {
            match method {
                Method::Append => self.append(&payload).await,
                Method::Vote => encode(&self.raft().vote(decode(&payload)?).await.map_err(text)?),
                Method::PreVote => encode(&self.raft().pre_vote(decode(&payload)?).await.map_err(text)?),
                Method::Transfer => {
                    encode(&self.raft().handle_transfer_leader(decode(&payload)?).await.map_err(text)?)
                }
                Method::Snapshot => self.snapshot_part(decode(&payload)?).await,
                Method::Propose => self.proposals(decode(&payload)?).await,
                Method::Lease => self.lease_proposal(from, decode(&payload)?).await,
                Method::ReadIndex => encode(&self.leader_read_index().await),
                Method::Gone => {
                    self.take_finding(from, decode(&payload)?);
                    encode(&())
                }
                Method::Dead => encode(&self.take_death(from, decode(&payload)?).await?),
                Method::Ping => encode(&self.pong()),
                Method::Hash => encode(&self.hash_at(decode(&payload)?).await),
                Method::Records => self.records(decode(&payload)?).await,
                Method::Held => encode(&self.held_here(decode(&payload)?).await),
                Method::Member => encode(&self.member_here(decode::<MemberAsk>(&payload)?).await),
                Method::Certify => encode(&self.certify(from, &payload)),
                Method::KeepKey => {
                    self.keep_key(decode(&payload)?).await?;
                    Ok(Bytes::new())
                }
                Method::Keys => encode(&self.secrets.held().keys),
                Method::Call => match self.handler() {
                    Some(handler) => Ok(handler.call(from, payload).await),
                    None => Err("no handler".to_owned()),
                },
                Method::Tell => Err("a one-way message was sent as a request".to_owned()),
            }
        })
    }

    fn expelled(self: Arc<Self>, node: NodeId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut removed = self.removed.subscribe();
        Box::pin(async move {
            if removed.wait_for(|removed| removed.contains(&node)).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    fn one_way(&self, from: NodeId, method: Method, payload: Bytes) {
        match self.handler() {
            Some(handler) if method == Method::Tell => handler.tell(from, payload),
            _ => metrics::counter!("tandem_rpc_dropped_total").increment(1),
        }
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|e| format!("the request makes no sense: {e}"))
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, String> {
    postcard::to_stdvec(value).map(Bytes::from).map_err(|e| format!("the answer can't be encoded: {e}"))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Node {
    /// Members and their addresses.
    fn members_now(&self) -> Vec<(NodeId, String)> {
        let view = self.shared.view.load();
        let mut members: Vec<(NodeId, String)> =
            view.nodes.values().map(|record| (record.id, record.cluster_address.clone())).collect();
        members.retain(|(id, _)| *id != self.id());
        members.push((self.id(), self.record.cluster_address.clone()));
        members
    }

    async fn append(&self, payload: &[u8]) -> Result<Bytes, String> {
        let response = self.raft().append_entries(decode(payload)?).await.map_err(text)?;
        self.heard.answered(&response);
        encode(&response)
    }

    async fn proposals(&self, proposals: Vec<Proposal>) -> Result<Bytes, String> {
        let result: Result<(), NotLeader> = self.submit(proposals).await;
        encode(&result)
    }

    async fn lease_proposal(&self, from: NodeId, proposal: Proposal) -> Result<Bytes, String> {
        if !proposal.command.is_of_leases() || proposal.origin.node != from {
            return Err("this lane carries a node's own commands about leases alone".to_owned());
        }
        encode(&self.submit_lease(proposal).await)
    }

    /// This node's own word of itself.
    pub(crate) fn pong(&self) -> Pong {
        let metrics = self.metrics();
        let (storage, storage_error) = self.health.state();
        Pong {
            raft: match metrics.state {
                ServerState::Leader => RaftRole::Leader,
                ServerState::Candidate => RaftRole::Candidate,
                ServerState::Follower => RaftRole::Follower,
                ServerState::Learner | ServerState::Shutdown => RaftRole::Learner,
            },
            term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or(0),
            applied: *self.shared.applied.borrow(),
            leader: metrics.current_leader.map(NodeId),
            version: self.record.version.clone(),
            wall_ms: wall_ms(),
            storage,
            storage_error,
            joining: *self.shared.joining.lock().unwrap_or_else(PoisonError::into_inner),
            index_percent: self.archive.shared.rebuilding(),
            has_quorum: Some(self.has_quorum() && self.lease().remaining() != Some(Duration::ZERO)),
            refused: self.shared.refused(),
        }
    }

    /// The state's hash at a position at which it was kept.
    pub(crate) async fn hash_at(&self, position: u64) -> Result<[u8; 32], String> {
        if !self.wait_applied(position, HASH_WAIT).await {
            return Err(format!("has not applied position {position} in time"));
        }
        let state = self.shared.kept(position).ok_or("has not kept the state of this position")?;
        tokio::task::spawn_blocking(move || state.hash()).await.map_err(text)
    }

    async fn records(&self, (stream, seq): (Stream, u64)) -> Result<Bytes, String> {
        let archive = self.archive.clone();
        let read = move || archive.shared.stored_from(stream, seq, RECORDS_BYTES);
        let found = tokio::task::spawn_blocking(read).await.map_err(text)?.map_err(text)?;
        encode(&found.into_iter().map(|stored| stored.0).collect::<Vec<_>>())
    }

    async fn snapshot_part(self: Arc<Self>, part: SnapshotPart) -> Result<Bytes, String> {
        let (vote, meta) = (part.vote, part.meta.clone());
        let node = Arc::clone(&self);
        let taken = tokio::task::spawn_blocking(move || node.take_part(&part)).await.map_err(text)?;
        let snapshot = match taken? {
            Taken::UpTo(received) => return encode(&PartAnswer::From(received)),
            Taken::Whole(snapshot) => snapshot,
        };
        let whole = Snapshot { meta, snapshot };
        let response = self.raft().install_full_snapshot(vote, whole).await.map_err(text);
        self.shared.fetches(None);
        let response = response?;
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner).take();
        encode(&PartAnswer::Installed(response))
    }

    /// Adds a part to the snapshot that is being received, or begins with another one.
    fn take_part(&self, part: &SnapshotPart) -> Result<Taken, String> {
        if part.total > SNAPSHOT_MAX {
            return Err("the snapshot is too long".into());
        }
        let mut slot = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slot.take().filter(|incoming| incoming.is(&part.meta, part.total));
        let incoming = match known {
            Some(incoming) => incoming,
            None => Incoming::begin(&self.snapshots, part.meta.clone(), part.total).map_err(text)?,
        };
        let incoming = slot.insert(incoming);
        incoming.add(part.offset, &part.bytes).map_err(text)?;
        self.shared.fetches(Some(Joining::at(JoinStep::State, incoming.received, part.total)));
        let asks = part.bytes.is_empty() && part.offset == 0 && part.total > 0;
        match incoming.whole() {
            Some(file) if !asks => {
                let file = file.map_err(text)?;
                if !file.is_sound().map_err(text)? {
                    slot.take();
                    return Err("the snapshot was changed on its way: send it again".into());
                }
                Ok(Taken::Whole(file))
            }
            _ => Ok(Taken::UpTo(incoming.received)),
        }
    }
}

/// What came of a part.
enum Taken {
    UpTo(u64),
    Whole(SnapshotFile),
}
