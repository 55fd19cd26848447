//! A node's look at the others: who was not renewed in time.

use std::collections::BTreeMap;

use crate::command::Command;
use crate::ids::{NodeEpoch, NodeId};
use crate::tables::State;

/// A lease that is over by this node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expire {
    /// Whose.
    pub node: NodeId,
    /// Which.
    pub epoch: NodeEpoch,
    /// The renewal that it was counted from.
    pub last_renewal: u64,
}

impl From<Expire> for Command {
    fn from(Expire { node, epoch, last_renewal }: Expire) -> Command {
        Command::ExpireLease { node, epoch, last_renewal }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watched {
    epoch: NodeEpoch,
    last_renewal: u64,
    lease_ms: u64,
    /// Since when this lease is counted here.
    since_ms: u64,
    due_ms: u64,
}

/// Wait before the end of a lease is proposed again.
const RETRY_MS: u64 = 300;

/// The machine that watches all other nodes' leases.
#[derive(Debug, Clone)]
pub struct Watcher {
    me: NodeId,
    margin_ms: u64,
    nodes: BTreeMap<NodeId, Watched>,
    /// Whether this node's own lease holds: one that can't renew its own does not judge others.
    holds: bool,
}

impl Watcher {
    /// Watches nobody yet.
    pub fn new(me: NodeId, margin_ms: u64) -> Watcher {
        Watcher { me, margin_ms, nodes: BTreeMap::new(), holds: false }
    }

    /// This node applied an entry, at `now_ms` at the latest.
    pub fn applied(&mut self, now_ms: u64, state: &State) {
        let stands = |node: &NodeId| state.leases.get(node).is_some_and(|lease| lease.stands);
        self.nodes.retain(|node, _| stands(node));
        for (node, lease) in state.leases.iter().filter(|(node, lease)| **node != self.me && lease.stands) {
            let Some(epoch) = state.nodes.get(node).map(|record| record.epoch) else { continue };
            let known = self.nodes.get(node).map(|watched| (watched.epoch, watched.last_renewal));
            if known == Some((epoch, lease.last_renewal)) {
                continue;
            }
            let (last_renewal, lease_ms) = (lease.last_renewal, lease.lease_ms);
            let due_ms = self.due_from(now_ms, lease_ms);
            self.nodes.insert(*node, Watched { epoch, last_renewal, lease_ms, since_ms: now_ms, due_ms });
        }
    }

    /// Whether this node's own lease holds now. When it does again after it had not, the cluster has just stood still
    /// for this node, and may have for the others: each gets its whole time once more.
    pub fn own_lease(&mut self, now_ms: u64, holds: bool) {
        if holds && !self.holds {
            let margin_ms = self.margin_ms;
            for watched in self.nodes.values_mut() {
                let span_ms = watched.lease_ms.saturating_add(margin_ms);
                watched.due_ms = watched.due_ms.max(now_ms.saturating_add(span_ms));
            }
        }
        self.holds = holds;
    }

    /// When it wants [`Watcher::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<u64> {
        self.nodes.values().map(|watched| watched.due_ms).min().filter(|_| self.holds)
    }

    /// The leases that are over.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Vec<Expire> {
        if !self.holds {
            return Vec::new();
        }
        let mut over = Vec::new();
        for (node, watched) in self.nodes.iter_mut().filter(|(_, watched)| watched.due_ms <= now_ms) {
            over.push(Expire { node: *node, epoch: watched.epoch, last_renewal: watched.last_renewal });
            watched.due_ms = now_ms.saturating_add(RETRY_MS);
        }
        over
    }

    /// What is left of a node's lease, as far as can be known here; `None` if it has none.
    pub fn remaining_ms(&self, now_ms: u64, node: NodeId) -> Option<u64> {
        let watched = self.nodes.get(&node)?;
        Some(watched.since_ms.saturating_add(watched.lease_ms).saturating_sub(now_ms))
    }

    fn due_from(&self, now_ms: u64, lease_ms: u64) -> u64 {
        now_ms.saturating_add(lease_ms).saturating_add(self.margin_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;

    fn over(last_renewal: u64) -> Vec<Expire> {
        vec![Expire { node: NodeId(2), epoch: NodeEpoch(1), last_renewal }]
    }

    /// Node 1, which saw both renew at 1,000 and holds its own.
    fn watching() -> (State, Watcher) {
        let state = leased();
        let mut watcher = Watcher::new(NodeId(1), 200);
        watcher.own_lease(900, true);
        watcher.applied(1_000, &state);
        (state, watcher)
    }

    #[test]
    fn a_lease_is_over_a_lease_and_a_margin_after_this_node_applied_its_renewal() {
        let (_, mut watcher) = watching();
        assert_eq!(watcher.poll_timeout(), Some(3_000));
        assert_eq!(watcher.handle_timeout(2_999), []);
        assert_eq!(watcher.handle_timeout(3_000), over(4));
        assert_eq!(watcher.poll_timeout(), Some(3_300), "it is proposed again if nothing comes of it");
    }

    #[test]
    fn a_renewal_begins_the_count_anew_and_anything_else_does_not() {
        let (mut state, mut watcher) = watching();
        watcher.applied(2_000, &state);
        assert_eq!(watcher.poll_timeout(), Some(3_000));
        run(&mut state, propose(2, 0, renew(1, 2)));
        watcher.applied(2_500, &state);
        assert_eq!((watcher.handle_timeout(4_499), watcher.handle_timeout(4_500)), (vec![], over(5)));
    }

    #[test]
    fn the_length_of_a_lease_is_what_its_holder_said() {
        let (mut state, mut watcher) = watching();
        let longer = Command::Renew { node_epoch: NodeEpoch(1), attempt: 2, lease_ms: 9_000 };
        run(&mut state, propose(2, 0, longer));
        watcher.applied(2_000, &state);
        assert_eq!(watcher.poll_timeout(), Some(11_200));
        assert_eq!(watcher.remaining_ms(3_000, NodeId(2)), Some(8_000));
    }

    #[test]
    fn a_lease_that_ended_is_watched_no_more() {
        let (mut state, mut watcher) = watching();
        run(&mut state, propose(1, 0, expire(2, 1, 4)));
        watcher.applied(3_010, &state);
        assert_eq!((watcher.poll_timeout(), watcher.remaining_ms(3_010, NodeId(2))), (None, None));
    }

    #[test]
    fn a_node_without_a_lease_judges_nobody_and_gives_them_their_time_again_once_it_has_one() {
        let (_, mut watcher) = watching();
        watcher.own_lease(2_000, false);
        assert_eq!((watcher.poll_timeout(), watcher.handle_timeout(9_000)), (None, vec![]));
        watcher.own_lease(9_500, true);
        assert_eq!((watcher.poll_timeout(), watcher.handle_timeout(9_600)), (Some(11_500), vec![]));
        assert_eq!(watcher.handle_timeout(11_500), over(4));
    }

    #[test]
    fn without_leases_there_is_nothing_to_watch() {
        let mut watcher = Watcher::new(NodeId(1), 200);
        watcher.own_lease(0, true);
        watcher.applied(1_000, &started());
        assert_eq!(watcher.poll_timeout(), None);
    }
}
