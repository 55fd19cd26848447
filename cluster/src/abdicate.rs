//! A leader whose disk is not well hands leadership to a voter whose disk is.
//!
//! It goes on leading when there is none such: a slow leader is better than none, and one that can't write keeps the
//! cluster going as long as the others are a quorum.

use std::sync::Arc;
use std::time::Duration;

use tandem_state::NodeId;

use crate::node::Node;
use crate::status::{RaftRole, StorageState};

const LOOK: Duration = Duration::from_millis(200);
/// How long a transfer is given before another is tried.
const AGAIN: Duration = Duration::from_secs(2);

/// Looks until the node stops.
pub(crate) async fn tend(node: Arc<Node>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let (state, _) = node.health.state();
        if state == StorageState::Ok || node.leader_hint() != Some(node.id()) {
            continue;
        }
        let successor = node.successor().await;
        match successor {
            Some(to) => {
                tracing::warn!(%to, disk = state.word(), "this node gives up leadership because of its disk");
                metrics::counter!("tandem_storage_handovers_total").increment(1);
                if let Err(refused) = node.hand_over(to).await {
                    tracing::warn!(?refused, "leadership was not handed over");
                }
            }
            None => tracing::warn!(disk = state.word(), "no other voter with a good disk can be reached"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl Node {
    /// The follower with a good disk that is farthest.
    async fn successor(&self) -> Option<NodeId> {
        let voters: Vec<NodeId> = self.metrics().membership_config.voter_ids().map(NodeId).collect();
        let others = voters.into_iter().filter(|id| *id != self.id());
        let asks = others.map(|id| async move { (id, self.ping(id).await) });
        let answers = futures_util::future::join_all(asks).await;
        let well = answers.into_iter().filter_map(|(id, pong)| {
            let pong = pong?;
            let fit = pong.storage == StorageState::Ok && pong.raft == RaftRole::Follower;
            fit.then_some((pong.last_log, id))
        });
        well.max().map(|(_, id)| id)
    }
}
