//! Leases: gained, renewed, and ended in one of four ways.
//!
//! These commands are compare-and-set by themselves, so the window of outcomes leaves them alone: an attempt that comes
//! twice is refused the second time, and so is the end of a lease that has ended. What a lease is worth to its holder,
//! and when others call it ended, is decided by the machines of [`crate::lease`].

use super::Step;
use super::node::is_connection;
use crate::bounds::{FIRST_LEASE_MS, LEASE_MS_MAX, invalid};
use crate::event::EventKind;
use crate::ids::*;
use crate::outcome::{Outcome, Refusal, Reply};
use crate::records::*;
use crate::tables::State;

impl State {
    pub(super) fn renew(
        &mut self,
        step: &mut Step<'_>,
        epoch: NodeEpoch,
        attempt: u64,
        lease_ms: u64,
    ) -> Outcome {
        let node = self.announced_node(step, epoch)?.clone();
        if !(1..=LEASE_MS_MAX).contains(&lease_ms) {
            return Err(invalid("lease_ms", format!("is not from 1 to {LEASE_MS_MAX}")));
        }
        let former = self.lease_of(node.id);
        if attempt <= former.attempt {
            return Err(Refusal::StaleAttempt { last: former.attempt });
        }
        let (last_renewal, renewed) = (step.position, step.now);
        self.leases.insert(node.id, LeaseRecord { stands: true, last_renewal, attempt, renewed, lease_ms });
        if !former.stands {
            self.holds_again(step, node, &former);
        }
        Ok(Reply::Done)
    }

    /// The first epoch is that of a node which never lost a lease.
    fn holds_again(&mut self, step: &mut Step<'_>, node: NodeRecord, former: &LeaseRecord) {
        step.event(None, EventKind::NodeUp(Box::new(node.clone())));
        if self.tells_fences() && node.epoch > NodeEpoch(1) {
            let is_restarted = former.last_renewal == 0;
            step.event(None, EventKind::NodeReturned(Box::new(node.clone()), is_restarted));
        }
        self.take_waiting_calls(step, &node, former);
    }

    /// A renewal that says how far the node's disk is. What was said once is never taken back.
    pub(super) fn renew_marked(
        &mut self,
        step: &mut Step<'_>,
        epoch: NodeEpoch,
        attempt: u64,
        lease_ms: u64,
        said: Mark,
    ) -> Outcome {
        let reply = self.renew(step, epoch, attempt, lease_ms)?;
        let former = self.marks.get(&step.origin.node).copied().unwrap_or_default();
        let mark = Mark {
            incarnation: step.origin.incarnation,
            process: said.process,
            term: former.term.max(said.term),
            position: former.position.max(said.position.min(step.position)),
        };
        self.marks.insert(step.origin.node, mark);
        Ok(reply)
    }

    pub(super) fn expire_lease(
        &mut self,
        step: &mut Step<'_>,
        node: NodeId,
        epoch: NodeEpoch,
        last_renewal: u64,
    ) -> Outcome {
        self.proposing_node(step)?;
        let lease = self.standing_lease(node, epoch)?;
        if lease.last_renewal != last_renewal {
            return Err(Refusal::LeaseRenewed { last_renewal: lease.last_renewal });
        }
        self.lease_ended(step, node, LeaseEnd::Expired);
        Ok(Reply::Done)
    }

    pub(super) fn end_lease(
        &mut self,
        step: &mut Step<'_>,
        node: NodeId,
        epoch: NodeEpoch,
        incarnation: Incarnation,
    ) -> Outcome {
        self.proposing_node(step)?;
        self.standing_lease(node, epoch)?;
        if self.nodes.get(&node).is_none_or(|record| record.incarnation != incarnation) {
            return Err(Refusal::StaleIncarnation);
        }
        let why = if step.origin.node == node { LeaseEnd::Goodbye } else { LeaseEnd::Died };
        self.lease_ended(step, node, why);
        Ok(Reply::Done)
    }

    /// A new process of the node: nothing of the former one holds, and its attempts count from 1.
    pub(super) fn begin_anew(&mut self, step: &mut Step<'_>, node: NodeId) {
        if self.lease_of(node).stands {
            self.lease_ended(step, node, LeaseEnd::Restarted);
        }
        // When the former process was lost is kept, for the calls of it that wait.
        let kept = if self.lets_calls_wait() { self.lease_of(node) } else { LeaseRecord::default() };
        let LeaseRecord { renewed, lease_ms, .. } = kept;
        self.leases.insert(node, LeaseRecord { renewed, lease_ms, ..LeaseRecord::default() });
        self.draining.remove(&node);
    }

    /// Leases come into force: every member is given one that nobody counts on, so that those that are dead can be
    /// told from those that are not.
    pub(super) fn begin_leases(&mut self, step: &Step<'_>) {
        let given = LeaseRecord {
            stands: true,
            last_renewal: step.position,
            attempt: 0,
            renewed: step.now,
            lease_ms: FIRST_LEASE_MS,
        };
        self.leases = self.nodes.keys().map(|node| (*node, given)).collect();
    }

    /// When a node was lost, as the cluster knows it: at the end of its lease, however late that is found.
    pub(super) fn lost_at(&self, step: &Step<'_>, node: NodeId) -> ClusterTime {
        let lease = self.leases.get(&node).filter(|lease| lease.stands);
        lease.map_or(step.now, |lease| lease.end().min(step.now))
    }

    fn lease_of(&self, node: NodeId) -> LeaseRecord {
        self.leases.get(&node).copied().unwrap_or_default()
    }

    fn standing_lease(&self, node: NodeId, epoch: NodeEpoch) -> Result<LeaseRecord, Refusal> {
        let current = self.nodes.get(&node).ok_or_else(|| invalid("node", "no such node"))?.epoch;
        if current != epoch {
            return Err(Refusal::StaleNodeEpoch { current });
        }
        self.leases.get(&node).copied().filter(|lease| lease.stands).ok_or(Refusal::NoLease { epoch })
    }

    /// The epoch rises: nothing that the node proposed under the lease is taken from here on.
    fn lease_ended(&mut self, step: &mut Step<'_>, node: NodeId, why: LeaseEnd) {
        let (at, tells_fences) = (self.lost_at(step, node), self.tells_fences());
        let Some(record) = self.nodes.get_mut(&node) else { return };
        if tells_fences && why == LeaseEnd::Expired {
            step.event(None, EventKind::NodeFenced(Box::new(record.clone()), why));
        }
        record.epoch = NodeEpoch(record.epoch.0.saturating_add(1));
        step.event(None, EventKind::NodeDown(Box::new(record.clone()), why));
        if let Some(lease) = self.leases.get_mut(&node) {
            lease.stands = false;
        }
        self.lose(step, node, at, why != LeaseEnd::Expired, is_connection);
    }
}

#[cfg(test)]
mod tests;
