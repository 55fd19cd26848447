//! One CDR per attempt: of every call that ended, of every call that was refused, and of nothing else; with times in
//! their order and seconds that follow from them.

use std::collections::{BTreeMap, BTreeSet};

use tandem_state::{CallChange, CallId, Cdr, Command};

use super::Checked;
use crate::world::history::History;
use crate::world::replica::Replica;

pub(super) fn one_per_attempt(history: &History, replicas: &[&Replica]) -> Checked {
    let mut expected = attempts(history);
    if let Some(replica) = replicas.first() {
        expected.retain(|call, _| !replica.state.calls.contains_key(call));
    }
    let mut written: BTreeMap<CallId, BTreeSet<u32>> = BTreeMap::new();
    for cdr in history.cdrs() {
        times_are_in_order(cdr)?;
        if !written.entry(cdr.call).or_default().insert(cdr.attempt) {
            return Err(format!("{} is there twice", cdr.id));
        }
    }
    for (call, attempts) in &expected {
        if written.get(call) != Some(attempts) {
            return Err(format!("call {call} has {attempts:?} and CDRs {:?}", written.get(call)));
        }
    }
    match written.keys().find(|call| !expected.contains_key(*call)) {
        Some(call) => Err(format!("call {call} has a CDR and did not end")),
        None => Ok(()),
    }
}

/// The attempts of every call by what its owner had accepted, counted apart from `apply`.
fn attempts(history: &History) -> BTreeMap<CallId, BTreeSet<u32>> {
    let mut calls: BTreeMap<CallId, BTreeSet<u32>> = BTreeMap::new();
    let mut accepted: Vec<_> = history.first_outcomes().into_values().filter(|(_, _, o)| o.is_ok()).collect();
    accepted.sort_by_key(|(position, _, _)| *position);
    let mut add = |call: CallId, change: &CallChange| {
        calls.entry(call).or_default().extend(change.attempts.iter().map(|attempt| attempt.number));
    };
    for (_, proposal, _) in accepted {
        match &proposal.command {
            Command::CreateCall { call, .. } | Command::CreateCallFrom { call, .. } => {
                add(call.id, &call.change)
            }
            Command::Checkpoint { call, change, .. }
            | Command::MoveCall { call, change, .. }
            | Command::EndCall { call, change, .. } => add(*call, change),
            Command::RefuseCall { refused, .. } => add(refused.id, &CallChange::default()),
            Command::Tick
            | Command::StepTime { .. }
            | Command::RaiseApplyVersion { .. }
            | Command::NodeStarted { .. }
            | Command::NodeRemoved { .. }
            | Command::Configure { .. }
            | Command::PutToken { .. }
            | Command::RemoveToken { .. }
            | Command::Bind { .. }
            | Command::Unbind { .. }
            | Command::Audit { .. }
            | Command::Renew { .. }
            | Command::ExpireLease { .. }
            | Command::EndLease { .. }
            | Command::Salvage { .. }
            | Command::RenewMarked { .. }
            | Command::Drain { .. }
            | Command::UseClusterKey { .. } => {}
        }
    }
    for attempts in calls.values_mut().filter(|attempts| attempts.is_empty()) {
        attempts.insert(1);
    }
    calls
}

fn times_are_in_order(cdr: &Cdr) -> Checked {
    let answer = cdr.answer.unwrap_or(cdr.start);
    let ordered = cdr.start <= answer && answer <= cdr.end;
    let billed = match cdr.answer {
        Some(answer) => ((cdr.end.since_ms(answer) + 500) / 1000).max(1),
        None => 0,
    };
    if ordered && u64::from(cdr.billed_s) == billed && cdr.duration_s >= cdr.billed_s {
        return Ok(());
    }
    Err(format!("{}: {:?} {:?} {:?}, billed {}", cdr.id, cdr.start, cdr.answer, cdr.end, cdr.billed_s))
}
