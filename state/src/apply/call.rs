//! Calls: made, changed and ended by their owner alone.
//!
//! Times come from the owner, whose view of cluster time may be a little off: they are put between the call's
//! start and the stamp, so no CDR ends before it begins or lies in the future.

mod check;

use super::Step;
use crate::bounds::*;
use crate::event::{CallFacts, EventKind};
use crate::ids::*;
use crate::outcome::{Outcome, Refusal, Reply};
use crate::records::*;
use crate::tables::State;

impl State {
    pub(super) fn create_call(
        &mut self,
        step: &mut Step<'_>,
        node_epoch: NodeEpoch,
        asked: &NewCall,
    ) -> Outcome {
        self.acting_node(step, node_epoch)?;
        if asked.owner != step.origin.node {
            return Err(invalid("call.owner", "is not the proposing node"));
        }
        let limits = self.tenants.get(&asked.tenant).map(|tenant| tenant.limits);
        let limits = limits.ok_or_else(|| Refusal::NoTenant(asked.tenant.to_string()))?;
        if self.calls.contains_key(&asked.id) {
            return Err(Refusal::Exists(format!("call {}", asked.id)));
        }
        check::program(&asked.program)?;
        let call = Call {
            id: asked.id,
            interaction: asked.interaction,
            tenant: asked.tenant,
            owner: asked.owner,
            epoch: CallEpoch(1),
            direction: asked.direction,
            from: cut_party(&asked.from),
            to: cut_party(&asked.to),
            start: asked.start.min(step.now),
            answer: None,
            phase: CallPhase::Trying,
            program: asked.program.clone(),
            legs: Default::default(),
            bridge: Default::default(),
            attempts: Default::default(),
        };
        let change = self.checked(&call, &asked.change, step.now)?;
        let used = self.usage.get(&asked.tenant).map_or(0, |usage| usage.calls);
        if let Some(limit) = limits.calls
            && used >= limit
        {
            return Err(step.limit_hit(asked.tenant, "calls", limit));
        }
        step.event(Some(asked.tenant), EventKind::CallCreated(facts(&call)));
        let epoch = call.epoch;
        self.put_changed(step, change, asked.change.note);
        Ok(Reply::Created(epoch))
    }

    /// [`State::create_call`], with what began it.
    pub(super) fn create_call_from(
        &mut self,
        step: &mut Step<'_>,
        node_epoch: NodeEpoch,
        asked: &NewCall,
        invite: &Invite,
    ) -> Outcome {
        if invite.bytes().len() > INVITE_MAX {
            return Err(invalid("invite", format!("is longer than {INVITE_MAX} bytes")));
        }
        let reply = self.create_call(step, node_epoch, asked)?;
        self.invites.insert(asked.id, invite.clone());
        Ok(reply)
    }

    pub(super) fn checkpoint(
        &mut self,
        step: &mut Step<'_>,
        id: CallId,
        epoch: CallEpoch,
        change: &CallChange,
    ) -> Outcome {
        let call = self.owned_call(step, id, epoch)?;
        let changed = self.checked(call, change, step.now)?;
        self.put_changed(step, changed, change.note);
        Ok(Reply::Done)
    }

    /// Of the last change only what outlives the call counts: its attempts and its note.
    pub(super) fn end_call(
        &mut self,
        step: &mut Step<'_>,
        id: CallId,
        epoch: CallEpoch,
        change: &CallChange,
    ) -> Outcome {
        let mut call = self.owned_call(step, id, epoch)?.clone();
        check::attempts(&change.attempts)?;
        take_attempts(&mut call, &change.attempts, step.now);
        if let Some(note) = change.note {
            step.event(Some(call.tenant), noted(note, facts(&call)));
        }
        self.put_call(call);
        Ok(Reply::Ended(self.finish_call(step, id, None)))
    }

    pub(super) fn owned_call(&self, step: &Step<'_>, id: CallId, epoch: CallEpoch) -> Result<&Call, Refusal> {
        let call = self.calls.get(&id).ok_or(Refusal::NoCall)?;
        if call.epoch != epoch || call.owner != step.origin.node {
            return Err(Refusal::StaleCallEpoch { owner: call.owner, epoch: call.epoch });
        }
        Ok(call)
    }

    /// The call as a change makes it, with the legs to put and to remove. Touches no table.
    pub(super) fn checked(
        &self,
        call: &Call,
        change: &CallChange,
        now: ClusterTime,
    ) -> Result<Changed, Refusal> {
        check::attempts(&change.attempts)?;
        let mut call = call.clone();
        let mut legs = Vec::new();
        for leg in &change.legs {
            check::leg(leg, call.id)?;
            if self.legs.get(&leg.id).is_some_and(|known| known.call != call.id) {
                return Err(Refusal::Exists(format!("leg {}", leg.id)));
            }
            let answered = leg.answered.map(|at| between(call.start, at, now));
            legs.push(LegRecord { party: cut_party(&leg.party), answered, ..leg.clone() });
            call.legs.insert(leg.id);
        }
        legs.retain(|leg| !change.legs_gone.contains(&leg.id));
        let gone: Vec<LegId> = change.legs_gone.iter().copied().filter(|id| call.legs.remove(id)).collect();
        if call.legs.len() > LEGS_MAX {
            let limit = u32::try_from(LEGS_MAX).unwrap_or(u32::MAX);
            return Err(Refusal::LimitReached { name: "legs of one call".to_owned(), limit });
        }
        if let Some(bridge) = &change.bridge {
            if !bridge.keys().all(|leg| call.legs.contains(leg)) {
                return Err(invalid("change.bridge", "joins a leg that the call does not have"));
            }
            call.bridge = bridge.clone();
        }
        call.bridge.retain(|leg, _| call.legs.contains(leg));
        if let Some(program) = &change.program {
            check::program(program)?;
            call.program = program.clone();
        }
        take_attempts(&mut call, &change.attempts, now);
        take_phase(&mut call, change.phase, now);
        Ok(Changed { call, legs, gone })
    }

    pub(super) fn put_changed(&mut self, step: &mut Step<'_>, changed: Changed, note: Option<CallNote>) {
        for id in changed.gone {
            self.take_leg(id);
        }
        for leg in changed.legs {
            self.put_leg(leg);
        }
        if let Some(note) = note {
            step.event(Some(changed.call.tenant), noted(note, facts(&changed.call)));
        }
        self.put_call(changed.call);
    }
}

pub(super) struct Changed {
    pub(super) call: Call,
    legs: Vec<LegRecord>,
    gone: Vec<LegId>,
}

/// `at`, moved between the two; `earliest` wins if they are the wrong way round.
pub(super) fn between(earliest: ClusterTime, at: ClusterTime, latest: ClusterTime) -> ClusterTime {
    at.min(latest).max(earliest)
}

fn take_attempts(call: &mut Call, attempts: &[Attempt], now: ClusterTime) {
    for asked in attempts {
        let start = between(call.start, asked.start, now);
        let answer = asked.answer.map(|at| between(start, at, now));
        let end = asked
            .end
            .as_ref()
            .map(|end| AttemptEnd { at: between(answer.unwrap_or(start), end.at, now), cause: end.cause });
        let attempt = Attempt { to: cut_party(&asked.to), start, answer, end, ..asked.clone() };
        call.attempts.insert(attempt.number, attempt);
    }
    if call.answer.is_none() {
        call.answer = call.attempts.values().filter_map(|attempt| attempt.answer).min();
    }
}

fn take_phase(call: &mut Call, phase: Option<CallPhase>, now: ClusterTime) {
    // A note of ringing that was overtaken by the answer's checkpoint takes nothing back.
    let Some(phase) = phase.filter(|phase| *phase >= CallPhase::Answered || call.answer.is_none()) else {
        return;
    };
    call.phase = phase;
    if phase >= CallPhase::Answered && call.answer.is_none() {
        call.answer = Some(now);
    }
}

/// What events say of a call.
pub(super) fn facts(call: &Call) -> CallFacts {
    CallFacts {
        id: call.id,
        interaction: call.interaction,
        node: call.owner,
        from: call.from.clone(),
        to: call.to.clone(),
    }
}

fn noted(note: CallNote, facts: CallFacts) -> EventKind {
    match note {
        CallNote::Ringing => EventKind::CallRinging(facts),
        CallNote::Answered => EventKind::CallAnswered(facts),
        CallNote::Held => EventKind::CallHeld(facts),
        CallNote::Resumed => EventKind::CallResumed(facts),
    }
}

#[cfg(test)]
mod tests;
