//! Calls that a node takes, rings, answers, holds and ends; it goes by what its replica says of them.

use std::collections::{BTreeMap, BTreeSet};

use tandem_state::*;

use super::View;
use super::phones::flow;
use crate::world::Random;

/// Calls for which a node has proposed the end: it does not touch them again.
#[derive(Debug, Default)]
pub(super) struct Calls {
    ending: BTreeMap<NodeId, BTreeSet<CallId>>,
}

impl Calls {
    pub(super) fn died(&mut self, node: NodeId) {
        self.ending.remove(&node);
    }

    pub(super) fn turn(&mut self, view: View<'_>, random: &mut Random) -> Option<Command> {
        let ending = self.ending.entry(view.node).or_default();
        let is_mine = |call: &&Call| call.owner == view.node && !ending.contains(&call.id);
        let mine: Vec<&Call> = view.state.calls.values().filter(is_mine).collect();
        if mine.len() < 3 && random.chance(500) {
            return Some(new_call(view, random));
        }
        let call = *random.pick(&mine)?;
        if random.chance(400) {
            ending.insert(call.id);
            return Some(Command::EndCall {
                call: call.id,
                epoch: call.epoch,
                change: ended(call, view, random),
            });
        }
        Some(Command::Checkpoint { call: call.id, epoch: call.epoch, change: next(call, view, random) })
    }
}

fn party(random: &mut Random) -> Party {
    Party { number: random.between(101, 106).to_string(), name: String::new() }
}

fn new_call(view: View<'_>, random: &mut Random) -> Command {
    let (id, tenant) = (CallId(random.id()), TenantId(u32::try_from(random.between(1, 2)).unwrap_or(1)));
    let (from, to) = (party(random), party(random));
    if random.chance(150) {
        let (start, cause, direction) = (view.now, Cause::UnknownNumber, CallDirection::Internal);
        let refused = RefusedCall { id, tenant, direction, from, to, start, cause };
        return Command::RefuseCall { node_epoch: NodeEpoch(1), refused };
    }
    let attempts = if random.chance(800) { vec![attempt(1, to.clone(), view)] } else { Vec::new() };
    let change = CallChange { legs: vec![leg(id, view, random)], attempts, ..CallChange::default() };
    let call = NewCall {
        id,
        interaction: InteractionId(id.0),
        tenant,
        owner: view.node,
        direction: CallDirection::Internal,
        from,
        to,
        start: view.now,
        program: Program { flow: String::new(), path: Vec::new() },
        change,
    };
    Command::CreateCall { node_epoch: NodeEpoch(1), call }
}

fn attempt(number: u32, to: Party, view: View<'_>) -> Attempt {
    Attempt { number, to, start: view.now, answer: None, end: None, quality: None }
}

fn leg(call: CallId, view: View<'_>, random: &mut Random) -> LegRecord {
    LegRecord {
        id: LegId(random.id()),
        call,
        direction: LegDirection::In,
        party: party(random),
        flow: flow(view.node, random),
        held: false,
        answered: None,
        dialog: DialogRecord::default(),
        media: MediaRecord::default(),
    }
}

/// What may happen next in a call, by its phase.
fn next(call: &Call, view: View<'_>, random: &mut Random) -> CallChange {
    match call.phase {
        CallPhase::Trying => {
            let attempts =
                vec![attempt(u32::try_from(random.between(1, 3)).unwrap_or(1), party(random), view)];
            let legs = vec![leg(call.id, view, random)];
            let (phase, note) = (Some(CallPhase::Ringing), Some(CallNote::Ringing));
            CallChange { phase, legs, attempts, note, ..CallChange::default() }
        }
        CallPhase::Ringing => {
            let answered = call.attempts.values().next().cloned();
            let answered = answered.map(|attempt| Attempt { answer: Some(view.now), ..attempt });
            let bridge = Some(call.legs.iter().map(|leg| (*leg, BridgeRole::Talk)).collect());
            let (phase, note) = (Some(CallPhase::Answered), Some(CallNote::Answered));
            CallChange {
                phase,
                attempts: answered.into_iter().collect(),
                bridge,
                note,
                ..CallChange::default()
            }
        }
        CallPhase::Answered => {
            let (phase, note) = (Some(CallPhase::Held), Some(CallNote::Held));
            CallChange { phase, note, ..CallChange::default() }
        }
        CallPhase::Held => {
            let legs_gone = call.legs.iter().skip(2).copied().collect();
            let (phase, note) = (Some(CallPhase::Answered), Some(CallNote::Resumed));
            CallChange { phase, note, legs_gone, ..CallChange::default() }
        }
    }
}

fn ended(call: &Call, view: View<'_>, random: &mut Random) -> CallChange {
    let end = AttemptEnd { at: view.now, cause: Cause::NormalClearing };
    let last = call.attempts.values().last().cloned().filter(|_| random.chance(700));
    let attempts = last.map(|attempt| Attempt { end: Some(end), ..attempt });
    CallChange { attempts: attempts.into_iter().collect(), ..CallChange::default() }
}
