//! openraft's network over the RPC.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_state::NodeId;

use super::snapshot::SnapshotFile;
use super::{Snapshot, SnapshotMeta, Types, Vote};
use crate::peer::PeerError;
use crate::rpc::Method;
use crate::rpc::client::Peers;

/// Makes a client for each target.
pub(crate) struct Network {
    pub(crate) peers: Arc<Peers>,
    /// Longest piece of a snapshot.
    pub(crate) part_bytes: usize,
}

/// Sends Raft's messages to one node.
pub(crate) struct NetworkClient {
    peers: Arc<Peers>,
    part_bytes: usize,
    target: NodeId,
}

/// A piece of a snapshot; an empty one asks how far the receiver is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotPart {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) offset: u64,
    pub(crate) total: u64,
    pub(crate) bytes: Bytes,
}

/// What the receiver of a part says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum PartAnswer {
    /// It has everything before this.
    From(u64),
    /// It had all of it, and Raft says this.
    Installed(SnapshotResponse<Types>),
}

const PART_TIMEOUT: Duration = Duration::from_secs(10);
/// Installing may have to fetch archive records first.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
/// An append may be answered so late. Raft would have it within a heartbeat, which it looks after by itself where it means
/// a heartbeat; over a link whose round trip is longer than that, no entry would ever count as written there, and a leader
/// behind such links would lead without a quorum as long as its heartbeats arrive.
const APPEND_WAIT: Duration = Duration::from_secs(1);

impl RaftNetworkFactory<Types> for Network {
    type Network = NetworkClient;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> NetworkClient {
        let target = NodeId(target);
        self.peers.hint_address(target, &node.addr);
        NetworkClient { peers: Arc::clone(&self.peers), part_bytes: self.part_bytes, target }
    }
}

impl NetworkClient {
    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        question: &Q,
        timeout: Duration,
    ) -> Result<A, RPCError<Types>> {
        let bytes = postcard::to_stdvec(question).map_err(|e| NetworkError::new(&e))?;
        let answer = self.peers.call(self.target, method, bytes.into(), timeout).await.map_err(failed)?;
        Ok(postcard::from_bytes(&answer).map_err(|e| NetworkError::new(&e))?)
    }
}

/// Unreachable nodes are left alone for a while; a slow one is asked again at once.
fn failed(error: PeerError) -> RPCError<Types> {
    match error {
        PeerError::Timeout | PeerError::Overloaded => RPCError::Network(NetworkError::new(&error)),
        _ => RPCError::Unreachable(Unreachable::new(&error)),
    }
}

impl RaftNetworkV2<Types> for NetworkClient {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let answer = self.ask(Method::Append, &rpc, option.hard_ttl().max(APPEND_WAIT)).await?;
        if let (AppendEntriesResponse::Success, Some(last)) = (&answer, rpc.entries.last()) {
            self.peers.acknowledged(self.target, rpc.vote.leader_id.term, last.log_id.index);
        }
        Ok(answer)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(Method::Vote, &rpc, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(Method::PreVote, &rpc, option.hard_ttl()).await
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.ask(Method::Transfer, &req, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            sent = self.send_snapshot(vote, snapshot) => Ok(sent?),
            closed = cancel => Err(closed.into()),
        }
    }
}

/// Broken connections that a transfer outlives, one after the other without progress.
const BREAKS_MAX: u32 = 20;
const BREAK_PAUSE: Duration = Duration::from_millis(250);

impl NetworkClient {
    /// Sends from where the receiver is to the end, over as many connections as it takes.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Types>, RPCError<Types>> {
        let Snapshot { meta, snapshot: file } = snapshot;
        let (mut known, mut breaks) = (None, 0);
        loop {
            let part = SnapshotPart {
                vote,
                meta: meta.clone(),
                offset: known.unwrap_or(0),
                total: file.bytes,
                bytes: match known {
                    Some(offset) => piece(&file, offset, self.part_bytes).await?,
                    None => Bytes::new(),
                },
            };
            let end = part.offset + part.bytes.len() as u64;
            let timeout = if end == part.total { INSTALL_TIMEOUT } else { PART_TIMEOUT };
            match self.ask::<_, PartAnswer>(Method::Snapshot, &part, timeout).await {
                Ok(PartAnswer::Installed(answer)) => return Ok(answer),
                Ok(PartAnswer::From(offset)) => {
                    breaks = if known == Some(offset) { breaks + 1 } else { 0 };
                    known = Some(offset);
                }
                Err(error) if breaks >= BREAKS_MAX => return Err(error),
                Err(_) => {
                    (known, breaks) = (None, breaks + 1);
                    tokio::time::sleep(BREAK_PAUSE).await;
                }
            }
            if breaks > BREAKS_MAX {
                let why = std::io::Error::other("the node takes no more of the snapshot");
                return Err(NetworkError::new(&why).into());
            }
        }
    }
}

async fn piece(file: &SnapshotFile, offset: u64, longest: usize) -> Result<Bytes, RPCError<Types>> {
    let file = file.clone();
    let read = tokio::task::spawn_blocking(move || file.read_at(offset, longest)).await;
    let bytes = read.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    bytes.map(Bytes::from).map_err(|e| NetworkError::new(&e).into())
}
