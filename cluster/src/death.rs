//! The death notice: who waited for a node's process tells the other members that the kernel has reaped it, so that
//! nobody has to wait for its lease.
//!
//! The process leaves its [`Testament`] with whoever waits for it. The notice is its node's own word: it goes over mutual
//! TLS with that node's certificate, from the very process that the members know, and ends that process's lease alone.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tandem_state::{Command, Incarnation, NodeId, State};
use tokio::io::AsyncWriteExt;

use crate::net;
use crate::node::Node;
use crate::rpc::handshake::{Client, HandshakeError};
use crate::rpc::wire::{Frame, Kind, read};
use crate::rpc::{Lane, Method};
use crate::secrets::Secrets;

/// What a process leaves with the one who waits for its end. Opaque outside; as bytes it goes through a pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Testament {
    who: Client,
    /// The other members and their addresses.
    peers: Vec<(NodeId, String)>,
}

impl Testament {
    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always encodes")
    }

    /// From such bytes.
    pub fn of_bytes(bytes: &[u8]) -> Option<Testament> {
        postcard::from_bytes(bytes).ok()
    }
}

/// How often the end of a lease is proposed again, and for how long.
const AGAIN: Duration = Duration::from_millis(20);
const TAKEN_WAIT: Duration = Duration::from_secs(3);

/// Tells the members that the process is dead, from the data directory that was its own; gives up after `wait`. How many
/// of them know it now.
pub async fn tell_death(data: &Path, testament: Testament, wait: Duration) -> usize {
    let secrets = match Secrets::open(data, testament.who.cluster, testament.who.node) {
        Ok(secrets) => Arc::new(secrets),
        Err(error) => {
            tracing::warn!(%error, "no notice of the process's end can be given");
            return 0;
        }
    };
    let who = Arc::new(testament.who);
    let tells = testament.peers.into_iter().map(|(peer, address)| {
        let (secrets, who) = (Arc::clone(&secrets), Arc::clone(&who));
        async move {
            let told = tokio::time::timeout(wait, tell(&secrets, &who, peer, &address)).await;
            match told {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    tracing::info!(node = %peer, %error, "a member does not hear of the process's end");
                    false
                }
                Err(_) => false,
            }
        }
    });
    futures_util::future::join_all(tells).await.into_iter().filter(|told| *told).count()
}

async fn tell(secrets: &Secrets, who: &Client, peer: NodeId, address: &str) -> Result<(), HandshakeError> {
    let stream = net::connect(address).await?;
    let mut link = secrets.ends().connect(stream, who.cluster, peer).await?;
    who.open(&mut link, Lane::Raft, peer).await?;
    let payload = postcard::to_stdvec(&who.start.incarnation).map_err(io::Error::other)?;
    let mut buffer = BytesMut::new();
    let (kind, method) = (Kind::Request, Method::Dead.byte());
    Frame { kind, id: 1, method, payload: Bytes::from(payload) }.put(&mut buffer);
    link.write_all(&buffer).await?;
    link.flush().await?;
    buffer.clear();
    loop {
        let frame = read(&mut link, &mut buffer)
            .await?
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        match frame.kind {
            Kind::Done => return Ok(()),
            Kind::Failed => {
                return Err(io::Error::other(String::from_utf8_lossy(&frame.payload).into_owned()).into());
            }
            Kind::Pulse | Kind::Request | Kind::OneWay => {}
        }
    }
}

/// Of the nodes that are known to be dead, and not down yet, the one whose lease ends next: that with the fewest calls, for
/// the calls of another would be given to it.
fn next(view: &State, deaths: &BTreeMap<NodeId, Incarnation>) -> Option<NodeId> {
    let is_dead =
        |node: NodeId| view.nodes.get(&node).map(|record| record.incarnation) == deaths.get(&node).copied();
    let calls = |node: NodeId| view.calls.values().filter(|call| call.owner == node).count();
    let dead = deaths.keys().copied().filter(|node| is_dead(*node) && !view.is_down(*node));
    dead.min_by_key(|node| (calls(*node), *node))
}

impl Node {
    /// What this process leaves.
    pub(crate) fn testament(&self) -> Testament {
        let view = self.shared.view.load();
        let others = view.nodes.values().filter(|record| record.id != self.id());
        let peers = others.map(|record| (record.id, record.cluster_address.clone())).collect();
        Testament { who: self.peers.introduction().clone(), peers }
    }

    /// A member's process is dead, by its own guard's word: its lease ends.
    pub(crate) async fn take_death(&self, node: NodeId, incarnation: Incarnation) -> Result<(), String> {
        tracing::warn!(%node, %incarnation, "a node's process has died, says who waited for it");
        metrics::counter!("tandem_death_notices_total").increment(1);
        self.shared.deaths().insert(node, incarnation);
        let ended = async {
            loop {
                let view = self.shared.view.load_full();
                let record = view.nodes.get(&node).filter(|record| record.incarnation == incarnation);
                let Some(record) = record.filter(|_| !view.is_down(node)) else { return };
                if next(&view, &self.shared.deaths()) == Some(node) {
                    let _ =
                        self.send_lease(Command::EndLease { node, epoch: record.epoch, incarnation }).await;
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::time::timeout(TAKEN_WAIT, ended).await.map_err(|_| "no leader took it in time".to_owned())
    }
}
