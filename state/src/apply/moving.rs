//! Calls whose owner is lost: where two parties talk, or the log has what the caller asked, another node goes on with the
//! call; the rest ends.
//!
//! The successor is of the lost node's site if one there may act, and of those the one with the fewest calls. The call's
//! epoch rises with its owner, so nothing that the former one still proposes for it is taken.

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

impl State {
    /// Moves what can be moved off a node that is lost since `at`; the rest ends as of then.
    pub(super) fn lose_calls(&mut self, step: &mut Step<'_>, node: NodeId, at: ClusterTime, is_proven: bool) {
        let mut successors = self.successors(node);
        let lost: Vec<CallId> = self.calls.values().filter(|c| c.owner == node).map(|c| c.id).collect();
        for id in lost {
            let to = self
                .calls
                .get(&id)
                .filter(|call| self.is_movable(call))
                .and_then(|_| self.least(&successors, node));
            match to {
                Some(to) => {
                    *successors.entry(to).or_default() += 1;
                    self.move_call(step, id, to, is_proven);
                }
                None => {
                    self.finish_call_at(step, id, Some(Cause::NodeLost), at);
                }
            }
        }
    }

    fn successors(&self, lost: NodeId) -> Successors {
        if !self.moves_calls() {
            return Successors::new();
        }
        let others = self.nodes.keys().filter(|node| **node != lost && self.takes_calls(**node));
        let mut successors: Successors = others.map(|node| (*node, 0)).collect();
        for call in self.calls.values() {
            if let Some(load) = successors.get_mut(&call.owner) {
                *load += 1;
            }
        }
        successors
    }

    /// It may act, is no witness, and is not being emptied.
    fn takes_calls(&self, node: NodeId) -> bool {
        let is_full = self.nodes.get(&node).is_some_and(|record| record.role == Role::Full);
        is_full && !self.draining.contains_key(&node) && !self.is_down(node)
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

#[cfg(test)]
mod tests;
