//! A leader whose disk is not well, or whose clock is off, hands leadership to a voter that is well.
//!
//! It goes on leading when there is none such: a slow leader is better than none, and one that can't write keeps the
//! cluster going as long as the others are a quorum.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tandem_state::NodeId;
use tokio::time::Instant;

use crate::clock::median_of_quorum;
use crate::node::{Measured, Node};
use crate::status::{RaftRole, StorageState};

/// How often the others' clocks are asked for.
const CLOCKS: Duration = Duration::from_secs(5);
/// More than this from the median is too far: the leader's clock is what cluster time is drawn to.
const CLOCK_OFF_MS: u64 = 2_000;
const LOOK: Duration = Duration::from_millis(200);
/// How long a transfer is given before another is tried.
const AGAIN: Duration = Duration::from_secs(2);

/// Looks until the node stops.
pub(crate) async fn tend(node: Arc<Node>) {
    let mut clocks_asked = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        if node.leader_hint() != Some(node.id()) {
            continue;
        }
        let (disk, _) = node.health.state();
        let ask_clocks = clocks_asked.elapsed() >= CLOCKS;
        let (kind, why) = if disk != StorageState::Ok {
            ("disk", format!("its disk is {}", disk.word()))
        } else if ask_clocks && let Some(off_ms) = node.clocks_off(&node.measured().await).get(&node.id()) {
            ("clock", format!("its clock is {off_ms} ms off those of a quorum"))
        } else {
            if ask_clocks {
                clocks_asked = Instant::now();
            }
            continue;
        };
        match node.successor().await {
            Some(to) => {
                tracing::warn!(%to, why, "this node gives up leadership");
                metrics::counter!("tandem_leader_handovers_total", "why" => kind).increment(1);
                if let Err(refused) = node.hand_over(to).await {
                    tracing::warn!(?refused, "leadership was not handed over");
                }
            }
            None => tracing::warn!(why, "no other voter that is well can be reached"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl Node {
    /// Whose clocks are too far from the median of a quorum's for one that stamps, and how far. Nobody's, where no quorum
    /// agrees.
    pub(crate) fn clocks_off(&self, measured: &[(NodeId, Measured)]) -> BTreeMap<NodeId, u64> {
        let walls = self.walls(measured);
        let shown = walls.iter().map(|(_, wall_ms)| *wall_ms).collect();
        let Some(median) = median_of_quorum(shown, self.quorum_size()) else { return BTreeMap::new() };
        let off = walls.into_iter().map(|(id, wall_ms)| (id, wall_ms.abs_diff(median)));
        off.filter(|(_, off_ms)| *off_ms > CLOCK_OFF_MS).collect()
    }

    /// The follower with a good disk that is farthest; one whose clock is off only where there is no other.
    async fn successor(&self) -> Option<NodeId> {
        let voters: Vec<NodeId> = self.metrics().membership_config.voter_ids().map(NodeId).collect();
        let measured = self.measured().await;
        let clocks_off = self.clocks_off(&measured);
        let well = measured.iter().filter(|(id, _)| voters.contains(id)).filter_map(|(id, measured)| {
            let pong = &measured.pong;
            let fit = pong.storage == StorageState::Ok && pong.raft == RaftRole::Follower;
            fit.then_some((!clocks_off.contains_key(id), pong.last_log, *id))
        });
        well.max().map(|(.., id)| id)
    }
}
