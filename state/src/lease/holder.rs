//! A node's own side: when it renews, and until when its lease holds.

use std::collections::BTreeMap;

use super::AUTHORITY_EARLY_MS;
use crate::command::Command;
use crate::ids::{Incarnation, NodeEpoch, NodeId};
use crate::tables::State;

/// What the log, as this node has applied it, says of the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// This process has not been announced.
    Unknown,
    /// There are no leases yet: it counts as holding its own.
    NoLeases {
        /// Under which it acts.
        epoch: NodeEpoch,
    },
    /// Leases are in force.
    Leased {
        /// Of the lease, or of the next one.
        epoch: NodeEpoch,
        /// It has not ended.
        stands: bool,
        /// Which attempt renewed it last.
        attempt: u64,
    },
}

impl Standing {
    /// That of one process in a state.
    pub fn of(state: &State, node: NodeId, incarnation: Incarnation) -> Standing {
        let record = state.nodes.get(&node).filter(|record| record.incarnation == incarnation);
        let Some(epoch) = record.map(|record| record.epoch) else { return Standing::Unknown };
        if !state.has_leases() {
            return Standing::NoLeases { epoch };
        }
        let lease = state.leases.get(&node).copied().unwrap_or_default();
        Standing::Leased { epoch, stands: lease.stands, attempt: lease.attempt }
    }
}

/// What a node may believe of its own lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Belief {
    /// It holds none.
    #[default]
    None,
    /// There are no leases yet, and it acts under this epoch.
    Always(NodeEpoch),
    /// It holds one.
    Until {
        /// Of which epoch.
        epoch: NodeEpoch,
        /// To its very end.
        until_ms: u64,
    },
}

impl Belief {
    /// Whether the node may act at `now_ms`: the lease counts as ended a little early.
    pub fn holds(&self, now_ms: u64) -> bool {
        match self {
            Belief::None => false,
            Belief::Always(_) => true,
            Belief::Until { until_ms, .. } => now_ms.saturating_add(AUTHORITY_EARLY_MS) < *until_ms,
        }
    }

    /// What is left of the lease at `now_ms`, to its very end; `None` while there are no leases.
    pub fn remaining_ms(&self, now_ms: u64) -> Option<u64> {
        match self {
            Belief::None => Some(0),
            Belief::Always(_) => None,
            Belief::Until { until_ms, .. } => Some(until_ms.saturating_sub(now_ms)),
        }
    }
}

/// Attempts whose outcome is not known; an older one is forgotten first, and renews nothing then.
const ATTEMPTS_MAX: usize = 64;
/// Between two attempts when the first could not be sent.
const RETRY_MS: u64 = 50;

/// An attempt that this node has not applied.
#[derive(Debug, Clone, Copy)]
struct Sent {
    /// It was about to be sent then.
    at_ms: u64,
    /// It was answered as committed.
    committed: bool,
}

/// The machine of a node's own lease.
#[derive(Debug, Clone)]
pub struct Holder {
    lease_ms: u64,
    renew_ms: u64,
    standing: Standing,
    until_ms: Option<u64>,
    sent: BTreeMap<u64, Sent>,
    last_attempt: u64,
    due_ms: Option<u64>,
    left: bool,
    renewed: u64,
    missed: u64,
}

impl Holder {
    /// A process that has just started.
    pub fn new(lease_ms: u64, renew_ms: u64) -> Holder {
        Holder {
            lease_ms,
            renew_ms,
            standing: Standing::Unknown,
            until_ms: None,
            sent: BTreeMap::new(),
            last_attempt: 0,
            due_ms: None,
            left: false,
            renewed: 0,
            missed: 0,
        }
    }

    /// This node applied an entry, after which the log says this of it.
    pub fn applied(&mut self, now_ms: u64, standing: Standing) {
        let former = std::mem::replace(&mut self.standing, standing);
        let Standing::Leased { epoch, stands, attempt } = standing else {
            (self.until_ms, self.due_ms) = (None, None);
            self.sent.clear();
            return;
        };
        if !matches!(former, Standing::Leased { epoch: before, .. } if before == epoch) {
            // A lease that was, ended; what was sent under it will be refused.
            self.until_ms = None;
            self.sent.clear();
            self.due_ms = Some(now_ms);
        }
        if !stands {
            self.until_ms = None;
            return;
        }
        if let Some(sent) = self.sent.get(&attempt) {
            self.renewed += 1;
            self.until_ms = self.until_ms.max(Some(sent.at_ms.saturating_add(self.lease_ms)));
        }
        self.sent = self.sent.split_off(&attempt.saturating_add(1));
    }

    /// An attempt was answered as committed: what the others count from now on, this node is to apply.
    pub fn committed(&mut self, attempt: u64) {
        if let Some(sent) = self.sent.get_mut(&attempt) {
            sent.committed = true;
        }
    }

    /// An attempt did not reach a leader: the next one is not long in coming.
    pub fn failed(&mut self, now_ms: u64, attempt: u64) {
        if attempt == self.last_attempt {
            self.hasten(now_ms.saturating_add(RETRY_MS));
        }
    }

    /// Another leader is known: what the former one was sent may be lost with it.
    pub fn leader_changed(&mut self, now_ms: u64) {
        let last_sent_ms = self.sent.last_key_value().map(|(_, sent)| sent.at_ms);
        if let Some(last_sent_ms) = last_sent_ms {
            self.hasten(now_ms.max(last_sent_ms.saturating_add(RETRY_MS)));
        }
    }

    fn hasten(&mut self, at_ms: u64) {
        self.due_ms = self.due_ms.map(|due_ms| due_ms.min(at_ms));
    }

    /// The node takes its leave: it believes in nothing and renews nothing from here on. What ends its lease in the
    /// log, if one stands.
    pub fn leave(&mut self, node: NodeId, incarnation: Incarnation) -> Option<Command> {
        self.left = true;
        let Standing::Leased { epoch, stands: true, .. } = self.standing else { return None };
        Some(Command::EndLease { node, epoch, incarnation })
    }

    /// When it wants [`Holder::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<u64> {
        self.due_ms.filter(|_| !self.left)
    }

    /// The attempt that is due, if one is: a new command each time, which counts from `now_ms`.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Option<Command> {
        let Standing::Leased { epoch, .. } = self.standing else { return None };
        self.poll_timeout().filter(|due_ms| *due_ms <= now_ms)?;
        if self.is_stuck(now_ms) {
            self.due_ms = Some(now_ms.saturating_add(RETRY_MS));
            return None;
        }
        if self.sent.contains_key(&self.last_attempt) {
            self.missed += 1;
        }
        self.sent.retain(|_, sent| sent.at_ms.saturating_add(self.lease_ms) > now_ms);
        if self.sent.len() >= ATTEMPTS_MAX {
            self.sent.pop_first();
        }
        self.last_attempt += 1;
        self.sent.insert(self.last_attempt, Sent { at_ms: now_ms, committed: false });
        self.due_ms = Some(now_ms.saturating_add(self.renew_ms));
        Some(Command::Renew { node_epoch: epoch, attempt: self.last_attempt, lease_ms: self.lease_ms })
    }

    /// A whole lease after it sent an attempt that was committed, this node has not applied it: it can't come to hold a
    /// lease, and is not to keep one standing for the others.
    fn is_stuck(&self, now_ms: u64) -> bool {
        self.sent.values().any(|sent| sent.committed && sent.at_ms.saturating_add(self.lease_ms) <= now_ms)
    }

    /// What the node may believe now.
    pub fn belief(&self) -> Belief {
        match (self.standing, self.until_ms) {
            _ if self.left => Belief::None,
            (Standing::NoLeases { epoch }, _) => Belief::Always(epoch),
            (Standing::Leased { epoch, .. }, Some(until_ms)) => Belief::Until { epoch, until_ms },
            (Standing::Leased { .. }, None) | (Standing::Unknown, _) => Belief::None,
        }
    }

    /// Renewals that were applied, and attempts that were not when the next one was due.
    pub fn counts(&self) -> (u64, u64) {
        (self.renewed, self.missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leased(epoch: u64, stands: bool, attempt: u64) -> Standing {
        Standing::Leased { epoch: NodeEpoch(epoch), stands, attempt }
    }

    fn renew(epoch: u64, attempt: u64) -> Option<Command> {
        Some(Command::Renew { node_epoch: NodeEpoch(epoch), attempt, lease_ms: 1_800 })
    }

    fn until(epoch: u64, until_ms: u64) -> Belief {
        Belief::Until { epoch: NodeEpoch(epoch), until_ms }
    }

    /// Holds epoch 1 by an attempt that was sent at 1,000.
    fn holding() -> Holder {
        let mut holder = Holder::new(1_800, 400);
        holder.applied(1_000, leased(1, false, 0));
        assert_eq!(holder.handle_timeout(1_000), renew(1, 1));
        holder.applied(1_030, leased(1, true, 1));
        holder
    }

    #[test]
    fn without_leases_an_announced_node_always_holds_and_asks_for_nothing() {
        let mut holder = Holder::new(1_800, 400);
        assert_eq!(holder.belief(), Belief::None);
        holder.applied(5, Standing::NoLeases { epoch: NodeEpoch(1) });
        assert_eq!((holder.belief(), holder.poll_timeout()), (Belief::Always(NodeEpoch(1)), None));
        holder.applied(6, Standing::Unknown);
        assert_eq!(holder.belief(), Belief::None);
    }

    #[test]
    fn a_lease_counts_from_before_its_attempt_was_sent_and_only_once_it_is_applied() {
        let mut holder = Holder::new(1_800, 400);
        holder.applied(1_000, leased(1, false, 0));
        assert_eq!(holder.handle_timeout(1_000), renew(1, 1));
        assert_eq!(holder.belief(), Belief::None);
        holder.applied(1_900, leased(1, true, 1));
        assert_eq!(holder.belief(), until(1, 2_800));
        assert!(holder.belief().holds(2_599) && !holder.belief().holds(2_600));
        assert_eq!(holder.belief().remaining_ms(2_600), Some(200));
    }

    #[test]
    fn each_attempt_is_another_one_however_many_are_under_way() {
        let mut holder = holding();
        assert_eq!(holder.handle_timeout(1_399), None);
        assert_eq!(holder.handle_timeout(1_400), renew(1, 2));
        assert_eq!(holder.handle_timeout(1_800), renew(1, 3));
        holder.applied(1_900, leased(1, true, 2));
        assert_eq!((holder.belief(), holder.counts()), (until(1, 3_200), (2, 1)));
        holder.applied(1_901, leased(1, true, 3));
        assert_eq!((holder.belief(), holder.counts()), (until(1, 3_600), (3, 1)));
    }

    #[test]
    fn an_attempt_of_before_the_last_takes_nothing_back() {
        let mut holder = holding();
        holder.handle_timeout(1_400);
        holder.applied(1_450, leased(1, true, 2));
        holder.applied(1_460, leased(1, true, 1));
        assert_eq!(holder.belief(), until(1, 3_200));
    }

    #[test]
    fn an_attempt_that_commits_after_its_time_gives_nothing_that_still_holds() {
        let mut holder = holding();
        holder.handle_timeout(1_400);
        holder.applied(3_300, leased(1, true, 2));
        assert!(!holder.belief().holds(3_300));
    }

    #[test]
    fn an_attempt_of_somebody_else_gives_nothing() {
        let mut holder = Holder::new(1_800, 400);
        holder.applied(1_000, leased(1, true, 0));
        holder.applied(1_010, leased(1, true, 7));
        assert_eq!(holder.belief(), Belief::None);
    }

    #[test]
    fn an_epoch_that_moved_on_ends_the_lease_at_once_and_the_next_is_asked_for() {
        let mut holder = holding();
        holder.handle_timeout(1_400);
        holder.applied(1_500, leased(2, false, 1));
        assert_eq!((holder.belief(), holder.poll_timeout()), (Belief::None, Some(1_500)));
        assert_eq!(holder.handle_timeout(1_500), renew(2, 3));
        holder.applied(1_510, leased(2, true, 2));
        assert_eq!(holder.belief(), Belief::None, "attempt 2 was of the former epoch");
        holder.applied(1_520, leased(2, true, 3));
        assert_eq!(holder.belief(), until(2, 3_300));
    }

    #[test]
    fn what_found_no_leader_is_tried_again_soon_and_a_new_leader_is_asked_at_once() {
        let mut holder = holding();
        holder.handle_timeout(1_400);
        holder.failed(1_410, 1);
        assert_eq!(holder.poll_timeout(), Some(1_800), "that was another attempt");
        holder.failed(1_410, 2);
        assert_eq!(holder.poll_timeout(), Some(1_460));
        assert_eq!(holder.handle_timeout(1_460), renew(1, 3));
        holder.leader_changed(1_470);
        assert_eq!(holder.poll_timeout(), Some(1_510));
        holder.applied(1_480, leased(1, true, 3));
        assert_eq!(holder.handle_timeout(1_510), renew(1, 4));
        holder.applied(1_520, leased(1, true, 4));
        holder.leader_changed(1_530);
        assert_eq!(holder.poll_timeout(), Some(1_910), "nothing was under way");
    }

    #[test]
    fn a_node_that_does_not_apply_what_was_committed_renews_nothing_until_it_does() {
        let mut holder = holding();
        assert_eq!(holder.handle_timeout(1_400), renew(1, 2));
        holder.committed(2);
        for (now_ms, attempt) in [(1_800, 3), (2_200, 4), (2_600, 5), (3_000, 6)] {
            assert_eq!(
                holder.handle_timeout(now_ms),
                renew(1, attempt),
                "a slow apply is none that stands still"
            );
            holder.committed(attempt);
        }
        assert_eq!((holder.handle_timeout(3_400), holder.poll_timeout()), (None, Some(3_450)));
        holder.applied(3_440, leased(1, true, 2));
        assert_eq!(holder.handle_timeout(3_450), renew(1, 7), "it goes on, and has 350 ms for the next one");
        assert_eq!(holder.handle_timeout(3_850), None);
        holder.applied(3_860, leased(1, true, 7));
        assert_eq!(holder.handle_timeout(3_900), renew(1, 8));
        assert_eq!(holder.belief(), until(1, 5_250));
    }

    #[test]
    fn a_node_that_was_called_down_for_it_asks_for_the_next_lease_as_soon_as_it_applies_that() {
        let mut holder = holding();
        holder.handle_timeout(1_400);
        holder.committed(2);
        assert_eq!(holder.handle_timeout(9_000), None);
        holder.applied(9_020, leased(1, true, 2));
        holder.applied(9_021, leased(2, false, 2));
        assert_eq!(holder.handle_timeout(9_021), renew(2, 3));
    }

    #[test]
    fn attempts_whose_outcome_is_unknown_hold_nothing_back() {
        let mut holder = holding();
        for (now_ms, attempt) in [(1_400, 2), (3_300, 3), (5_200, 4)] {
            assert_eq!(holder.handle_timeout(now_ms), renew(1, attempt));
        }
    }

    #[test]
    fn attempts_under_way_are_bounded_and_old_ones_are_forgotten() {
        let mut holder = Holder::new(60_000, 10);
        holder.applied(0, leased(1, false, 0));
        for now_ms in 0..1_000 {
            holder.handle_timeout(now_ms * 10);
        }
        assert_eq!(holder.sent.len(), ATTEMPTS_MAX);
        let mut holder = Holder::new(1_800, 400);
        holder.applied(0, leased(1, false, 0));
        for now_ms in 0..100 {
            holder.handle_timeout(now_ms * 400);
        }
        assert_eq!(holder.sent.len(), 5);
    }

    #[test]
    fn a_node_that_leaves_ends_its_lease_and_believes_in_nothing() {
        let mut holder = holding();
        let (node, epoch, incarnation) = (NodeId(1), NodeEpoch(1), Incarnation(3));
        let goodbye = Command::EndLease { node, epoch, incarnation };
        assert_eq!(holder.leave(node, incarnation), Some(goodbye));
        assert_eq!((holder.belief(), holder.poll_timeout()), (Belief::None, None));
        assert_eq!(holder.handle_timeout(9_000), None);
        holder.applied(9_001, leased(1, true, 1));
        assert_eq!(holder.belief(), Belief::None);
        let mut none = Holder::new(1_800, 400);
        assert_eq!(none.leave(node, incarnation), None);
    }
}
