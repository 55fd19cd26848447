//! How a call's outputs are carried out and its proposals are answered: `actors::ports` and `actors::shared`, modelled.

use std::collections::BTreeSet;

use tandem_state::command::IdempotencyKey;
use tandem_state::{Applied, Batch, CallId, Command, EventKind, LegId, NodeId, Outcome, Quality, Refusal};
use tandem_switching::Machine;
use tandem_switching::call::{Input, Output, Proposal};

use super::Mutant;
use super::process::{Asked, FlowPeer};
use super::wire::Tell;
use super::work::{Sim, ToNode};

/// How long a node waits for an outcome.
const PATIENCE_MS: u64 = 4_000;

impl Sim {
    pub(super) fn call_asks(&mut self, id: NodeId, call: CallId, output: Output) {
        let held = self.process(id).calls.get(&call);
        let Some((under, had)) = held.map(|held| (held.node_epoch, held.epoch)) else { return };
        let now_ms = self.now(id).steady_ms;
        self.follow_lease(id);
        match output {
            Output::Respond { .. } | Output::Request { .. } | Output::Send { .. } | Output::Adopt { .. }
                if !self.acts_under(id, under) => {}
            Output::Respond { key, message } => self.respond(id, &key, message),
            Output::Request { message, flow } => {
                let _refused = self.process(id).table.send_request(now_ms, message, FlowPeer(flow));
            }
            Output::Send { message, flow } => self.send(id, flow, message),
            Output::Adopt { invite, flow } => self.adopt(id, call, invite, flow),
            Output::Propose { what, command } => {
                let command = self.work.mutant.proposed(had, *command);
                self.propose(id, command, Asked::Call(call, had, what));
            }
            Output::CloseMedia => {
                self.node_happens(
                    1,
                    30,
                    id,
                    ToNode::Input(call, had, Input::MediaFigures(Quality::default())),
                );
            }
            Output::PassOn { requests } => {
                for (key, message, flow) in requests {
                    self.process(id).table.forget(&key);
                    let owner = self.state(id).calls.get(&call).map(|call| call.owner);
                    if let Some(owner) = owner.filter(|owner| *owner != id) {
                        self.pass_on(id, owner, flow, message);
                    }
                }
            }
            Output::PassOnHangUp(cause) => {
                let owner = self.state(id).calls.get(&call).map(|call| call.owner);
                if let Some(owner) = owner.filter(|owner| *owner != id) {
                    self.tell(id, owner, Tell::HangUp(call, cause));
                }
            }
            Output::Abandon => {
                let legs = self.process(id).calls.get(&call).map(|held| held.machine.leg_ids().collect());
                self.abandon(id, &[call].into(), &legs.unwrap_or_default());
            }
            Output::Forget(leg) => drop(self.process(id).legs.remove(&leg)),
            Output::LeaveMedia | Output::SetMedia(_) | Output::Listen(_) => {}
        }
    }

    // ---- proposals ----

    pub(super) fn propose(&mut self, id: NodeId, command: Command, asked: Asked) {
        if matches!(command, Command::RefuseCall { .. }) && self.lease_epoch(id).is_none() {
            // `actors::shared`: the refusal would be kept with the key of the next lease.
            return self.answered(id, asked, None);
        }
        let incarnation = self.node(id).incarnation;
        let process = self.process(id);
        let seq = process.client.ask(id, incarnation, command);
        process.asked.insert(seq, asked);
        self.node_happens(PATIENCE_MS, PATIENCE_MS, id, ToNode::GiveUp(seq));
        self.retry(id, seq);
    }

    /// Sends a proposal, and again until it is answered or given up.
    pub(super) fn retry(&mut self, id: NodeId, seq: u64) {
        let Some(mut proposal) = self.process(id).client.to_send(seq) else { return };
        if let Command::RefuseCall { node_epoch, refused } = &proposal.command {
            let key = format!("refused {} {node_epoch}", refused.id);
            proposal.idempotency = Some(IdempotencyKey { key, body_hash: [0; 32] });
        }
        self.send_proposal(proposal);
        self.node_happens(150, 400, id, ToNode::Retry(seq));
    }

    /// The log answered, or nobody did in time.
    pub(super) fn outcome(&mut self, id: NodeId, seq: u64, outcome: Option<Outcome>) {
        let process = self.process(id);
        if process.client.answered(seq).is_none() {
            return;
        }
        self.work.report.unknown += usize::from(outcome.is_none());
        let asked = self.process(id).asked.remove(&seq).unwrap_or(Asked::Nobody);
        self.answered(id, asked, outcome);
    }

    fn answered(&mut self, id: NodeId, asked: Asked, outcome: Option<Outcome>) {
        match asked {
            Asked::Call(call, had, what) => {
                if what == Proposal::Move && matches!(outcome, Some(Ok(_))) {
                    self.work.report.handed_over += 1;
                }
                self.input_of(id, call, had, Input::Proposed { what, outcome });
            }
            Asked::End(call) if matches!(outcome, None | Some(Err(Refusal::OutcomeForgotten))) => {
                self.node_happens(2_000, 2_000, id, ToNode::EndInLog(call));
            }
            Asked::End(_) | Asked::Nobody => {}
        }
    }

    pub(super) fn end_in_log(&mut self, id: NodeId, call: CallId) {
        let Some(epoch) = self.state(id).calls.get(&call).map(|call| call.epoch) else { return };
        let command = Command::EndCall { call, epoch, change: Default::default() };
        self.propose(id, command, Asked::End(call));
    }

    // ---- the log ----

    /// The replica applied an entry: who waits for an outcome hears it, and the events are followed, both a little later.
    pub(super) fn log_applied(&mut self, id: NodeId, entry: &Batch, applied: &Applied) -> Result<(), String> {
        let now_ms = self.agenda.now_ms();
        self.log_seen(now_ms, id, applied)?;
        let incarnation = self.node(id).incarnation;
        for (proposal, outcome) in entry.proposals.iter().zip(&applied.outcomes) {
            let origin = proposal.origin;
            if origin.node == id && origin.incarnation == incarnation && !proposal.command.is_of_leases() {
                self.node_happens(0, 5, id, ToNode::Told(origin.seq, outcome.clone()));
            }
        }
        let announced = self.state(id).nodes.get(&id).is_some_and(|record| record.incarnation == incarnation);
        let late = !self.work.calm && self.random.chance(30);
        let lag_ms = self.random.between(0, if late { 150 } else { 3 });
        let process = self.process(id);
        if !process.serves {
            if announced {
                process.serves = true;
                self.reconcile(id);
                self.settle(id);
            }
            return Ok(());
        }
        process.followed_ms = process.followed_ms.max(now_ms + lag_ms);
        let wait_ms = process.followed_ms - now_ms;
        if !applied.events.is_empty() {
            self.node_happens(wait_ms, wait_ms, id, ToNode::Follow(applied.events.clone()));
        }
        Ok(())
    }

    /// The log gave calls to others, or ended them.
    pub(super) fn lose_calls(&mut self, id: NodeId, calls: BTreeSet<CallId>) {
        let now = self.now(id);
        let mut legs: BTreeSet<LegId> = BTreeSet::new();
        for call in &calls {
            if let Some(held) = self.process(id).calls.get_mut(call) {
                legs.extend(held.machine.leg_ids());
                held.machine.handle_input(now, Input::Lost);
            }
        }
        if !legs.is_empty() {
            self.settle(id);
            self.abandon(id, &calls, &legs);
        }
    }

    // ---- emptying ----

    pub(super) fn order_drain(&mut self, id: NodeId, on: bool) {
        self.propose(id, Command::Drain { node: id, on }, Asked::Nobody);
    }

    pub(super) fn follow_drain(&mut self, id: NodeId, on: bool) {
        let process = self.process(id);
        let was_on = std::mem::replace(&mut process.draining, on);
        if on && !was_on {
            self.node_happens(0, 0, id, ToNode::HandOver);
        }
    }

    /// `actors::drain`: asks each call to go, and again later.
    pub(super) fn hand_over(&mut self, id: NodeId) {
        if !self.process(id).draining {
            return;
        }
        let ids: Vec<CallId> = self.process(id).calls.keys().copied().collect();
        for call in ids {
            let Some(to) = self.state(id).successor(id) else { break };
            self.order_move(id, call, to);
            self.settle(id);
        }
        self.node_happens(500, 500, id, ToNode::HandOver);
    }

    fn order_move(&mut self, id: NodeId, call: CallId, to: NodeId) {
        let now = self.now(id);
        let leaves_freeze_out = self.work.mutant == Mutant::FreezeLeftOut;
        let Some(held) = self.process(id).calls.get_mut(&call) else { return };
        let mut before = held.machine.clone();
        held.machine.handle_input(now, Input::Move { to });
        if !leaves_freeze_out || !held.machine.is_frozen() {
            return;
        }
        let proposed = held.machine.poll_output();
        std::mem::swap(&mut held.machine, &mut before);
        if let Some(output) = proposed {
            self.call_asks(id, call, output);
        }
    }
}

/// The call of this node that an event ended, or gave to another (`actors::follower`).
pub(super) fn lost_call(node: NodeId, event: &EventKind) -> Option<CallId> {
    match event {
        EventKind::CallEnded(facts, tandem_state::Cause::NodeLost) => {
            (facts.node == node).then_some(facts.id)
        }
        EventKind::CallMoved(facts, moved) => (moved.from == node).then_some(facts.id),
        _ => None,
    }
}
