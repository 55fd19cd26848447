//! The cluster key: which one is in use, how a new one comes to all members, how a node gets one that it missed.
//!
//! A key reaches every member over mutual TLS and its disk before a command names it, so that no member ever meets a
//! sealed secret that it can't open. The log and snapshots know keys by their ids alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tandem_state::{Command, KeyId, Principal};

use crate::cluster::RotateError;
use crate::node::Node;
use crate::rpc::Method;
use crate::rpc::handshake::{Key, derived_key, random};

/// Keys that are kept: the one in use and those before it.
pub(crate) const KEYS_MAX: usize = 8;
const KEEP_TIMEOUT: Duration = Duration::from_secs(5);

/// A name for a key that tells nothing of it.
pub(crate) fn id_of(key: &Key) -> KeyId {
    let derived = derived_key(key, "id");
    KeyId(derived.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
}

impl Node {
    /// See `Cluster::rotate_key`.
    pub(crate) async fn rotate_key(&self, principal: Principal) -> Result<KeyId, RotateError> {
        let view = self.shared.view.load_full();
        if !view.has_marks() {
            return Err(RotateError::NotInForce);
        }
        let key = random().map_err(|_| RotateError::NoRandomness)?;
        self.keep_key(key).await.map_err(RotateError::NotKept)?;
        self.hand_out(key).await?;
        let command = Command::UseClusterKey { from: view.cluster_key, to: id_of(&key) };
        let committed = self.propose(principal, None, command).await?;
        committed.outcome?;
        Ok(id_of(&key))
    }

    /// Gives a key to every other member; all of them must have it on disk.
    async fn hand_out(&self, key: Key) -> Result<(), RotateError> {
        let gives = self.others().into_iter().map(|node| async move {
            let given = self.peers.call(node, Method::KeepKey, Bytes::copy_from_slice(&key), KEEP_TIMEOUT);
            given.await.err().map(|why| (node, why.to_string()))
        });
        let failed = futures_util::future::join_all(gives).await;
        match failed.into_iter().flatten().next() {
            Some((node, why)) => {
                Err(RotateError::Unreached { node: self.name_of(&self.shared.view.load(), node), why })
            }
            None => Ok(()),
        }
    }

    /// Keeps a key that another member hands over, or one of its own.
    pub(crate) async fn keep_key(&self, key: Key) -> Result<(), String> {
        let (secrets, in_use) = (Arc::clone(&self.secrets), self.shared.view.load().cluster_key);
        let kept = tokio::task::spawn_blocking(move || secrets.keep(key, in_use)).await;
        kept.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

/// Asks others for the key in use, should this node have missed it (it joined while the key was changed).
pub(crate) async fn tend(node: Arc<Node>) {
    const LOOK: Duration = Duration::from_secs(1);
    let mut applied = node.shared.applied.subscribe();
    loop {
        let in_use = node.shared.view.load().cluster_key;
        if let Some(id) = in_use.filter(|id| !node.secrets.has(*id)) {
            fetch(&node, id).await;
        }
        tokio::time::sleep(LOOK).await;
        if applied.changed().await.is_err() {
            return;
        }
    }
}

async fn fetch(node: &Node, id: KeyId) {
    for other in node.others() {
        let Ok(answer) = node.peers.call(other, Method::Keys, Bytes::new(), KEEP_TIMEOUT).await else {
            continue;
        };
        let keys = postcard::from_bytes::<Vec<Key>>(&answer).unwrap_or_default();
        if let Some(key) = keys.into_iter().find(|key| id_of(key) == id) {
            match node.keep_key(key).await {
                Ok(()) => {
                    return tracing::info!(%id, "the cluster key in use was fetched from another member");
                }
                Err(why) => tracing::warn!(%id, why, "the cluster key in use can't be kept"),
            }
        }
    }
    tracing::warn!(%id, "no member that can be reached has the cluster key in use");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_s_id_is_its_own_and_no_part_of_it() {
        let [one, other] = [[1; 32], [2; 32]];
        assert_eq!(id_of(&one), id_of(&one));
        assert_ne!(id_of(&one), id_of(&other));
        assert!(!one.windows(8).any(|part| part == id_of(&one).0.to_be_bytes()));
    }
}
