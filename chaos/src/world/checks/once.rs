//! An acknowledged proposal is applied exactly once: it is in the log, its node was told what its first try came to,
//! and every later try came to the same or to nothing.

use tandem_state::{Command, EventKind, Outcome, Refusal};

use super::Checked;
use crate::world::history::{History, request};

pub(super) fn applied_once(history: &History) -> Checked {
    let first = history.first_outcomes();
    for (request, told) in &history.acknowledged {
        let (_, _, outcome) = first.get(request).ok_or_else(|| format!("{request:?} is not in the log"))?;
        if *outcome != told {
            return Err(format!("{request:?} came to {outcome:?} and was told {told:?}"));
        }
    }
    for (position, proposal, outcome) in history.outcomes() {
        let (at, _, before) = first.get(&request(proposal)).ok_or("a proposal has no first try")?;
        if *at < position && !repeats(before, outcome) {
            let request = request(proposal);
            return Err(format!("{request:?} came to {before:?} at {at} and to {outcome:?} at {position}"));
        }
    }
    let made = |(_, proposal, outcome): &(u64, &_, &Outcome)| is_new_call(proposal) && outcome.is_ok();
    let made = first.values().filter(|first| made(first)).count();
    let told = history.events().filter(|event| matches!(event.kind, EventKind::CallCreated(_))).count();
    if made == told { Ok(()) } else { Err(format!("{made} calls were made and {told} were told of")) }
}

fn repeats(before: &Outcome, again: &Outcome) -> bool {
    before == again || matches!(again, Err(Refusal::OutcomeForgotten | Refusal::StaleIncarnation))
}

fn is_new_call(proposal: &tandem_state::Proposal) -> bool {
    matches!(proposal.command, Command::CreateCall { .. } | Command::CreateCallFrom { .. })
}
