//! Actions that change nothing in the state and are written down all the same.

use super::{Effect, Step};
use crate::bounds::{ACTION_MAX, some_at_most};
use crate::outcome::{Outcome, Reply};

pub(super) fn audit(step: &mut Step<'_>, action: &str) -> Outcome {
    some_at_most("action", action, ACTION_MAX)?;
    step.effects.push(Effect::Audit(action.to_owned()));
    Ok(Reply::Done)
}

#[cfg(test)]
mod tests {
    use crate::archive::Fact;
    use crate::command::Command;
    use crate::fixture::*;
    use crate::*;

    #[test]
    fn an_action_is_written_down_with_its_principal_and_an_endless_one_is_refused() {
        let mut state = leased();
        let action = "hang up call 1".to_owned();
        let applied = run(&mut state, propose(1, 900, Command::Audit { action: action.clone() }));
        assert_eq!(applied.outcomes, [Ok(Reply::Done)]);
        let Fact::Audit(audit) = &applied.archive[0].fact else { panic!("{applied:?}") };
        assert_eq!((applied.archive.len(), &audit.action), (1, &action));
        assert_eq!(audit.principal, Principal::Node(NodeId(1)));
        let endless = run(&mut state, propose(1, 901, Command::Audit { action: "x".repeat(257) }));
        assert!(matches!(endless.outcomes[..], [Err(Refusal::Invalid { .. })]), "{endless:?}");
        assert!(endless.archive.is_empty());
    }
}
