//! When bindings end exactly, and whether their phones answer: the node that holds a binding's flow knows it, the log knows
//! the one coarsely and the other not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_state::{Binding, ClusterTime, NodeId};
use tandem_switching::registration::BindingId;
use tokio::task::JoinSet;

use crate::shared::Shared;
use crate::wire::{Ask, Told, decode, encode};

/// What the node that holds a binding's flow knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// When it ends unless it is refreshed.
    pub expires: ClusterTime,
    /// Its phone did not answer when it was last asked.
    pub unreachable: bool,
}

/// A list is not held up longer by a node that is slow or gone.
const NODE_WAIT: Duration = Duration::from_millis(500);

/// For each binding in order, its node's word; every node is asked once, all at the same time.
pub(crate) async fn held(shared: &Arc<Shared>, bindings: &[Binding]) -> Vec<Option<Held>> {
    let mut all: Vec<Option<Held>> = vec![None; bindings.len()];
    let mut asks = JoinSet::new();
    for (node, held) in by_node(bindings) {
        let (places, ids): (Vec<usize>, Vec<BindingId>) = held.into_iter().unzip();
        let shared = Arc::clone(shared);
        asks.spawn(async move { (places, told(&shared, node, ids).await) });
    }
    while let Some(answer) = asks.join_next().await {
        let Ok((places, told)) = answer else { continue };
        for (place, held) in places.into_iter().zip(told) {
            if let Some(slot) = all.get_mut(place) {
                *slot = held;
            }
        }
    }
    all
}

fn by_node(bindings: &[Binding]) -> BTreeMap<NodeId, Vec<(usize, BindingId)>> {
    let mut by_node: BTreeMap<NodeId, Vec<(usize, BindingId)>> = BTreeMap::new();
    for (place, binding) in bindings.iter().enumerate() {
        by_node.entry(binding.spec.flow.node).or_default().push((place, BindingId::of(binding)));
    }
    by_node
}

async fn told(shared: &Shared, node: NodeId, ids: Vec<BindingId>) -> Vec<Option<Held>> {
    if node == shared.node {
        return ids.iter().map(|id| shared.held(id)).collect();
    }
    let bindings = ids.into_iter().map(|id| (id.tenant, id.number, id.key)).collect();
    let asked = shared.cluster.call_peer(node, encode(&Ask::Held { bindings }), NODE_WAIT).await;
    match asked.ok().and_then(|bytes| decode::<Told>(&bytes)) {
        Some(Told::Held(held)) => held,
        // An older release does not know the question.
        Some(Told::Done | Told::NotFound | Told::Refused) | None => Vec::new(),
    }
}
