//! Calls whose owner is lost: where two parties talk, or the log has what the caller asked, another node goes on with the
//! call; the rest ends.
//!
//! The successor is of the lost node's site if one there may act, and of those the one with the fewest calls. The call's
//! epoch rises with its owner, so nothing that the former one still proposes for it is taken.
//!
//! When no node may act any more, as after a power cut at both sites, what could go on waits, still its lost owner's: the
//! first node that holds a lease again takes it, if that is soon.

use std::collections::BTreeMap;

use super::Step;
use super::call::facts;
use crate::bounds::invalid;
use crate::event::{EventKind, Move};
use crate::ids::*;
use crate::outcome::{Outcome, Reply};
use crate::records::*;
use crate::tables::State;

/// Who may be given calls, with how many each has.
type Successors = BTreeMap<NodeId, usize>;

/// So long after its owner was lost a call is still taken up: after that its phones have hung up, and nobody pays for silence.
const WAIT_MS: u64 = 60_000;

impl State {
    /// Moves what can be moved off a node that is lost since `at`; the rest ends as of then. When that is found too late, as
    /// after a power cut of an hour, nothing is moved off a process that is known to be gone.
    pub(super) fn lose_calls(&mut self, step: &mut Step<'_>, node: NodeId, at: ClusterTime, is_proven: bool) {
        let mut heirs = self.heirs(node);
        let can_wait = self.lets_calls_wait() && heirs.is_empty();
        let is_late = self.lets_calls_wait() && is_proven && is_late(at, step.now);
        for id in self.calls_of(|owner| owner == node) {
            let is_movable = !is_late && self.calls.get(&id).is_some_and(|call| self.is_movable(call));
            match self.least(&heirs, node).filter(|_| is_movable) {
                Some(to) => {
                    *heirs.entry(to).or_default() += 1;
                    self.move_call(step, id, to, is_proven);
                }
                None if is_movable && can_wait => {}
                None => {
                    self.finish_call_at(step, id, Some(Cause::NodeLost), at);
                }
            }
        }
    }

    /// A node acts again, whose lease was `former`: it goes on with the calls that wait for one, its own of before and the
    /// others'.
    pub(super) fn take_waiting_calls(
        &mut self,
        step: &mut Step<'_>,
        node: &NodeRecord,
        former: &LeaseRecord,
    ) {
        if !self.lets_calls_wait() || node.role != Role::Full {
            return;
        }
        for id in self.calls_of(|owner| owner == node.id || self.is_down(owner)) {
            let Some(owner) = self.calls.get(&id).map(|call| call.owner) else { continue };
            let lease = if owner == node.id { Some(former) } else { self.leases.get(&owner) };
            let lease = lease.copied().unwrap_or_default();
            let lost = lease.end().min(step.now);
            if is_late(lost, step.now) {
                self.finish_call_at(step, id, Some(Cause::NodeLost), lost);
            } else {
                // Of a lease that was begun anew the former process is gone.
                self.move_call(step, id, node.id, lease.last_renewal == 0);
            }
        }
    }

    /// Ends what is left of a node that is taken out.
    pub(super) fn end_calls(&mut self, step: &mut Step<'_>, node: NodeId, at: ClusterTime) {
        for id in self.calls_of(|owner| owner == node) {
            self.finish_call_at(step, id, Some(Cause::NodeLost), at);
        }
    }

    fn calls_of(&self, is_meant: impl Fn(NodeId) -> bool) -> Vec<CallId> {
        self.calls.values().filter(|call| is_meant(call.owner)).map(|call| call.id).collect()
    }

    /// Who may go on with a lost node's calls: where all that act are being emptied, they do.
    fn heirs(&self, lost: NodeId) -> Successors {
        let successors = self.successors(lost);
        if !successors.is_empty() || !self.lets_calls_wait() {
            return successors;
        }
        self.with_loads(|node| node != lost && self.acts(node))
    }

    fn successors(&self, lost: NodeId) -> Successors {
        if !self.moves_calls() {
            return Successors::new();
        }
        self.with_loads(|node| node != lost && self.takes_calls(node))
    }

    fn with_loads(&self, is_meant: impl Fn(NodeId) -> bool) -> Successors {
        let meant = self.nodes.keys().filter(|node| is_meant(**node));
        let mut successors: Successors = meant.map(|node| (*node, 0)).collect();
        for call in self.calls.values() {
            if let Some(load) = successors.get_mut(&call.owner) {
                *load += 1;
            }
        }
        successors
    }

    /// It may act, is no witness, and is not being emptied.
    fn takes_calls(&self, node: NodeId) -> bool {
        self.acts(node) && !self.draining.contains_key(&node)
    }

    fn acts(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|record| record.role == Role::Full) && !self.is_down(node)
    }

    fn least(&self, successors: &Successors, lost: NodeId) -> Option<NodeId> {
        let site = |id: NodeId| self.nodes.get(&id).map(|node| node.site.as_str());
        successors.iter().min_by_key(|(id, load)| (site(**id) != site(lost), **load, **id)).map(|(id, _)| *id)
    }

    /// Another node can go on with the call: both parties talk, or one holds, and the log has both dialogs; or it still
    /// rings, and the log has what its caller asked.
    pub fn is_movable(&self, call: &Call) -> bool {
        let joined = call.bridge.len() == 2 && call.bridge.keys().all(|leg| self.legs.contains_key(leg));
        match call.phase {
            CallPhase::Answered | CallPhase::Held => joined,
            CallPhase::Trying | CallPhase::Ringing => self.invites.contains_key(&call.id),
        }
    }

    /// Where the calls of a node that is to be emptied may go: to one of its own site, of the fewest calls.
    pub fn successor(&self, of: NodeId) -> Option<NodeId> {
        self.least(&self.successors(of), of)
    }

    pub(super) fn hand_over(
        &mut self,
        step: &mut Step<'_>,
        id: CallId,
        epoch: CallEpoch,
        to: NodeId,
        change: &CallChange,
    ) -> Outcome {
        let call = self.owned_call(step, id, epoch)?;
        if to == call.owner || !self.takes_calls(to) {
            return Err(invalid("to", "is not a node that takes calls"));
        }
        let changed = self.checked(call, change, step.now)?;
        if changed.call.phase < CallPhase::Answered || changed.call.bridge.len() != 2 {
            return Err(invalid("call", "does not talk"));
        }
        self.put_changed(step, changed, change.note);
        self.move_call(step, id, to, true);
        Ok(Reply::Done)
    }

    pub(super) fn drain(&mut self, step: &mut Step<'_>, node: NodeId, on: bool) -> Outcome {
        if !self.nodes.contains_key(&node) {
            return Err(invalid("node", "no such node"));
        }
        let was_on = match on {
            true => self.draining.insert(node, ()).is_some(),
            false => self.draining.remove(&node).is_some(),
        };
        if was_on != on {
            step.event(None, EventKind::NodeDraining(node, on));
        }
        Ok(Reply::Done)
    }

    fn move_call(&mut self, step: &mut Step<'_>, id: CallId, to: NodeId, is_proven: bool) {
        let Some(mut call) = self.calls.get(&id).cloned() else { return };
        let from = std::mem::replace(&mut call.owner, to);
        call.epoch = CallEpoch(call.epoch.0.saturating_add(1));
        let moved = Move { from, epoch: call.epoch, is_proven };
        step.event(Some(call.tenant), EventKind::CallMoved(facts(&call), moved));
        self.put_call(call);
    }
}

fn is_late(lost: ClusterTime, now: ClusterTime) -> bool {
    now.since_ms(lost) > WAIT_MS
}

#[cfg(test)]
mod tests;
