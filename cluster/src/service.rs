//! What a node answers to other nodes.

use std::collections::btree_map::Entry;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use openraft::ServerState;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_state::archive::Stream;
use tandem_state::{Incarnation, NodeId, Proposal};

use crate::clock::wall_ms;
use crate::leader::NotLeader;
use crate::member::MemberAsk;
use crate::node::Node;
use crate::raft::network::SnapshotPart;
use crate::raft::{Snapshot, SnapshotMeta, Vote};
use crate::rpc::Method;
use crate::rpc::handshake::{Gate, Grant, Hello, Key, Purpose, Refused};
use crate::rpc::server::{Answer, Service};
use crate::status::RaftRole;

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
}

/// A snapshot that is being received.
#[derive(Debug)]
pub(crate) struct Incoming {
    from: NodeId,
    vote: Vote,
    meta: SnapshotMeta,
    bytes: BytesMut,
}

/// Bytes of archive records in one answer.
const RECORDS_BYTES: usize = 2 * 1024 * 1024;
/// Longest snapshot that is taken.
const SNAPSHOT_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// How long a hash waits for its position.
const HASH_WAIT: Duration = Duration::from_secs(5);

impl Gate for Node {
    fn admit(&self, hello: &Hello) -> Result<Key, Refused> {
        if hello.cluster != self.identity.cluster {
            return Err(Refused::Cluster(self.identity.cluster));
        }
        // Also the end of a removed node: the state refuses all its incarnations.
        let known = self.shared.view.load().windows.get(&hello.node).map(|window| window.incarnation);
        if let Some(later) = known.filter(|known| *known > hello.incarnation) {
            return Err(Refused::Incarnation(later));
        }
        match hello.purpose {
            Purpose::Join { invitation } => self.invitations.secret(invitation).ok_or(Refused::Invitation),
            Purpose::Lane { target, .. } if target != self.id() => Err(Refused::Node(self.id())),
            Purpose::Lane { .. } if hello.generation != self.identity.generation => {
                self.peers.heard_of(hello.generation);
                Err(Refused::Generation(self.identity.generation))
            }
            Purpose::Lane { .. } => Ok(self.identity.key),
        }
    }

    fn me(&self) -> (NodeId, Incarnation) {
        (self.id(), self.shared.incarnation)
    }

    fn proved(&self, hello: &Hello) -> Result<Option<Grant>, Refused> {
        if let Purpose::Join { invitation } = hello.purpose {
            let role = self.invitations.take(invitation).ok_or(Refused::Invitation)?;
            return Ok(Some(self.grant(role)));
        }
        let mut seen = self.incarnations.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.entry(hello.node) {
            Entry::Occupied(latest) if *latest.get() > hello.incarnation => {
                return Err(Refused::Incarnation(*latest.get()));
            }
            Entry::Occupied(mut latest) => drop(latest.insert(hello.incarnation)),
            Entry::Vacant(none) => drop(none.insert(hello.incarnation)),
        }
        self.peers.set_address(hello.node, &hello.address);
        Ok(None)
    }
}

impl Service for Node {
    fn request(self: Arc<Self>, from: NodeId, method: Method, payload: Bytes) -> Answer {
        Box::pin(async move {
            match method {
                Method::Append => self.append(&payload).await,
                Method::Vote => encode(&self.raft().vote(decode(&payload)?).await.map_err(text)?),
                Method::PreVote => encode(&self.raft().pre_vote(decode(&payload)?).await.map_err(text)?),
                Method::Transfer => {
                    encode(&self.raft().handle_transfer_leader(decode(&payload)?).await.map_err(text)?)
                }
                Method::Snapshot => self.snapshot_part(from, decode(&payload)?).await,
                Method::Propose => self.proposals(decode(&payload)?).await,
                Method::Lease => self.lease_proposal(from, decode(&payload)?).await,
                Method::ReadIndex => encode(&self.leader_read_index().await),
                Method::Gone => {
                    self.take_finding(from, decode(&payload)?);
                    encode(&())
                }
                Method::Ping => encode(&self.pong()),
                Method::Hash => encode(&self.hash_at(decode(&payload)?).await),
                Method::Records => self.records(decode(&payload)?).await,
                Method::Member => encode(&self.member_here(decode::<MemberAsk>(&payload)?).await),
                Method::Call => match self.handler() {
                    Some(handler) => Ok(handler.call(from, payload).await),
                    None => Err("no handler".to_owned()),
                },
                Method::Tell => Err("a one-way message was sent as a request".to_owned()),
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
    fn grant(&self, role: tandem_state::Role) -> Grant {
        let view = self.shared.view.load();
        let mut members: Vec<(NodeId, String)> =
            view.nodes.values().map(|record| (record.id, record.cluster_address.clone())).collect();
        members.retain(|(id, _)| *id != self.id());
        members.push((self.id(), self.record.cluster_address.clone()));
        Grant { sealed_key: self.identity.key, generation: self.identity.generation, role, members }
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

    async fn snapshot_part(&self, from: NodeId, part: SnapshotPart) -> Result<Bytes, String> {
        let Some(whole) = self.take_part(from, part)? else {
            return encode(&None::<openraft::raft::SnapshotResponse<crate::raft::Types>>);
        };
        let snapshot = Snapshot { meta: whole.meta, snapshot: whole.bytes.freeze() };
        let response = self.raft().install_full_snapshot(whole.vote, snapshot).await.map_err(text)?;
        encode(&Some(response))
    }

    /// Adds a part. The whole snapshot, when it was the last.
    fn take_part(&self, from: NodeId, part: SnapshotPart) -> Result<Option<Incoming>, String> {
        let mut slot = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        if part.total > SNAPSHOT_MAX {
            return Err("the snapshot is too long".into());
        }
        if part.offset == 0 {
            *slot = Some(Incoming { from, vote: part.vote, meta: part.meta.clone(), bytes: BytesMut::new() });
        }
        let incoming = slot.as_mut().filter(|i| i.from == from && i.vote == part.vote && i.meta == part.meta);
        let incoming = incoming.ok_or("another snapshot is being received")?;
        if incoming.bytes.len() as u64 != part.offset {
            return Err("a part of the snapshot is missing".into());
        }
        incoming.bytes.extend_from_slice(&part.bytes);
        let whole = incoming.bytes.len() as u64 >= part.total;
        Ok(if whole { slot.take() } else { None })
    }
}
