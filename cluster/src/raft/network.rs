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

use super::{Snapshot, SnapshotMeta, Types, Vote};
use crate::peer::PeerError;
use crate::rpc::Method;
use crate::rpc::client::Peers;

/// Makes a client for each target.
pub(crate) struct Network {
    pub(crate) peers: Arc<Peers>,
}

/// Sends Raft's messages to one node.
pub(crate) struct NetworkClient {
    peers: Arc<Peers>,
    target: NodeId,
}

/// A piece of a snapshot. The answer to the last one is Raft's.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotPart {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) offset: u64,
    pub(crate) total: u64,
    pub(crate) bytes: Bytes,
}

const PART_BYTES: usize = 1024 * 1024;
const PART_TIMEOUT: Duration = Duration::from_secs(10);
/// Installing may have to fetch archive records first.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);

impl RaftNetworkFactory<Types> for Network {
    type Network = NetworkClient;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> NetworkClient {
        let target = NodeId(target);
        self.peers.hint_address(target, &node.addr);
        NetworkClient { peers: Arc::clone(&self.peers), target }
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
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.ask(Method::Append, &rpc, option.hard_ttl()).await
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

impl NetworkClient {
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Types>, RPCError<Types>> {
        let total = snapshot.snapshot.len();
        let mut offset = 0;
        loop {
            let end = total.min(offset + PART_BYTES);
            let part = SnapshotPart {
                vote,
                meta: snapshot.meta.clone(),
                offset: offset as u64,
                total: total as u64,
                bytes: snapshot.snapshot.slice(offset..end),
            };
            let timeout = if end == total { INSTALL_TIMEOUT } else { PART_TIMEOUT };
            let answer: Option<SnapshotResponse<Types>> = self.ask(Method::Snapshot, &part, timeout).await?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
            if end == total {
                let why = std::io::Error::other("the node did not install the snapshot");
                return Err(NetworkError::new(&why).into());
            }
            offset = end;
        }
    }
}
