//! What became of those that were declared lost when this node's quorum was forced: it knocks at their doors from then on.
//!
//! One that lives after all learns of the higher generation and ends. One that was forced too, apart from this node, is of
//! another fork: the two refuse each other ([`Refused::Fork`], or [`Refused::Generation`] where one was forced more often),
//! and both say so until one is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tandem_state::NodeId;
use tokio::time::Instant;

use crate::identity::{Fork, Lost};
use crate::node::Node;
use crate::rpc::handshake::{HandshakeError, Refused};

/// How often the lost ones are looked for.
const PAUSE: Duration = Duration::from_secs(10);
/// Who was not met for so long is gone.
const GONE: Duration = Duration::from_secs(60);

/// Nodes of another fork. Each has shown a certificate of the cluster, so there are few.
#[derive(Default)]
pub(crate) struct Forks(Mutex<BTreeMap<NodeId, (Fork, Instant)>>);

impl Forks {
    pub(crate) fn met(&self, node: NodeId, fork: Fork) {
        if self.lock().insert(node, (fork, Instant::now())).is_none() {
            tracing::error!(
                %node, %fork,
                "a node of another fork of this cluster is up: two survivors were forced apart, see deploy/runbooks/quorum-lost.md"
            );
        }
    }

    /// Those that were met a moment ago.
    pub(crate) fn up(&self) -> BTreeMap<NodeId, Fork> {
        let mut met = self.lock();
        met.retain(|_, (_, at)| at.elapsed() < GONE);
        met.iter().map(|(node, (fork, _))| (*node, *fork)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, (Fork, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Nodes of other forks, by the names that they had.
    pub(crate) fn other_forks(&self) -> Vec<(String, Fork)> {
        let lost = |id| self.identity.lost.iter().find(|lost| lost.node == id);
        let name = |id: NodeId| lost(id).map_or_else(|| id.to_string(), |lost| lost.name.clone());
        self.forks.up().into_iter().map(|(id, fork)| (name(id), fork)).collect()
    }

    /// Whether there is reason to look for it: not once a member stands at its address.
    fn is_missed(&self, lost: &Lost) -> bool {
        let view = self.shared.view.load();
        !view.nodes.values().any(|record| record.id != lost.node && record.cluster_address == lost.address)
    }
}

/// Looks for the lost ones until the node stops.
pub(crate) async fn look(node: Arc<Node>) {
    let mut told = BTreeSet::new();
    loop {
        for lost in node.identity.lost.iter().filter(|lost| node.is_missed(lost)) {
            match node.peers.knock(lost.node, &lost.address).await {
                Err(
                    HandshakeError::Refused(Refused::Fork { called, .. })
                    | HandshakeError::Refusing(Refused::Fork { called, .. }),
                ) => node.forks.met(lost.node, called),
                // An older release, which compares no forks: to it this node is one that was removed.
                Err(HandshakeError::Refused(Refused::Removed(_))) => {
                    node.forks.met(lost.node, Fork::default());
                }
                // It was forced more often than this node: no word of ours ends it, and this node is not one that it counts.
                Err(HandshakeError::Refused(Refused::Generation { called, .. }))
                    if called > node.identity.generation =>
                {
                    node.forks.met(lost.node, Fork::default());
                }
                // Met at two looks in a row, it knew of this generation and did not end: it was forced too, and less often.
                Err(HandshakeError::Refused(Refused::Generation { .. })) if !told.insert(lost.node) => {
                    node.forks.met(lost.node, Fork::default());
                }
                Err(HandshakeError::Refused(Refused::Generation { called, .. })) => {
                    tracing::warn!(
                        node = lost.name,
                        generation = called,
                        "a node that was declared lost is up: of a lower generation it ends by itself"
                    );
                }
                Ok(()) | Err(_) => {
                    told.remove(&lost.node);
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
