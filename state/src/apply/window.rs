//! Applied once: the window of outcomes that each node may still ask for.

use crate::bounds::{OUTCOMES_MAX, WINDOWS_MAX};
use crate::command::Origin;
use crate::ids::*;
use crate::outcome::{Outcome, Refusal};
use crate::tables::{State, Window};

impl State {
    /// Whether a proposal is new (`None`), or was answered before. Refuses those of an ended incarnation and those
    /// below the window.
    pub(super) fn admit(&mut self, origin: &Origin) -> Result<Option<Outcome>, Refusal> {
        if !self.windows.contains_key(&origin.node) && self.windows.len() >= WINDOWS_MAX {
            let limit = u32::try_from(WINDOWS_MAX).unwrap_or(u32::MAX);
            return Err(Refusal::LimitReached { name: "nodes".to_owned(), limit });
        }
        let window = self.windows.entry(origin.node).or_default();
        if origin.incarnation < window.incarnation {
            return Err(Refusal::StaleIncarnation);
        }
        if origin.incarnation > window.incarnation {
            *window = Window { incarnation: origin.incarnation, ..Window::default() };
        }
        // A node can't have an answer to what it is only asking, so no mark is above its own proposal.
        window.trim(origin.low_water.min(origin.seq));
        if origin.seq < window.low_water {
            return Err(Refusal::OutcomeForgotten);
        }
        Ok(window.outcomes.get(&origin.seq).cloned())
    }

    /// Remembers an outcome, unless the node was removed by this very proposal.
    pub(super) fn keep_outcome(&mut self, origin: &Origin, outcome: &Outcome) {
        let Some(window) = self.windows.get_mut(&origin.node) else { return };
        if window.incarnation != origin.incarnation {
            return;
        }
        window.outcomes.insert(origin.seq, outcome.clone());
        if window.outcomes.len() > OUTCOMES_MAX
            && let Some((lowest, _)) = window.outcomes.get_min().cloned()
        {
            window.trim(lowest.saturating_add(1));
        }
    }

    /// From now on nothing of this node is taken any more, whatever its incarnation.
    pub(super) fn close_window(&mut self, node: NodeId) {
        self.windows.insert(node, Window { incarnation: Incarnation(u64::MAX), ..Window::default() });
    }
}

impl Window {
    fn trim(&mut self, low_water: u64) {
        self.low_water = self.low_water.max(low_water);
        while let Some((seq, _)) = self.outcomes.get_min() {
            let seq = *seq;
            if seq >= self.low_water {
                break;
            }
            self.outcomes.remove(&seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::fixture::*;
    use crate::outcome::Reply;

    #[test]
    fn a_retried_proposal_gets_the_same_outcome_and_applies_once() {
        let mut state = started();
        let first = run(&mut state, propose(1, 90, bind("101", 1)));
        assert_eq!(first.outcomes, [Ok(Reply::Bound(Revision(state.position)))]);
        let again = run(&mut state, propose(1, 90, bind("101", 1)));
        assert_eq!(again.outcomes, first.outcomes);
        assert_eq!((again.events, again.archive), (vec![], vec![]));
        assert_eq!(state.bindings.len(), 1);
    }

    #[test]
    fn a_refusal_is_kept_too() {
        let mut state = started();
        let refused = run(&mut state, propose(1, 90, bind("999", 1)));
        assert_eq!(refused.outcomes, [Err(Refusal::NoExtension("999".into()))]);
        run(&mut state, propose(1, 91, configure(vec![put_extension("acme", "999")])));
        assert_eq!(run(&mut state, propose(1, 90, bind("999", 1))).outcomes, refused.outcomes);
    }

    #[test]
    fn below_the_low_water_mark_an_outcome_is_forgotten_and_not_applied() {
        let mut state = started();
        run(&mut state, propose(1, 90, bind("101", 1)));
        let mut later = propose(1, 95, Command::Tick);
        later.origin.low_water = 94;
        run(&mut state, later);
        for seq in [90, 93] {
            let outcome = run(&mut state, propose(1, seq, bind("102", 1))).outcomes;
            assert_eq!(outcome, [Err(Refusal::OutcomeForgotten)]);
        }
        assert_eq!(run(&mut state, propose(1, 94, Command::Tick)).outcomes, [Ok(Reply::Done)]);
        assert_eq!(state.bindings.len(), 1);
    }

    #[test]
    fn a_low_water_mark_above_its_own_proposal_does_not_hide_it() {
        let mut state = started();
        let mut odd = propose(1, 95, Command::Tick);
        odd.origin.low_water = u64::MAX;
        assert_eq!(run(&mut state, odd.clone()).outcomes, [Ok(Reply::Done)]);
        assert_eq!(run(&mut state, odd).outcomes, [Ok(Reply::Done)]);
        assert_eq!(run(&mut state, propose(1, 96, Command::Tick)).outcomes, [Ok(Reply::Done)]);
    }

    #[test]
    fn a_lower_incarnation_is_refused_and_a_higher_one_starts_a_window() {
        let mut state = started();
        run(&mut state, propose(1, 90, Command::Tick));
        let mut risen = propose(1, 1, Command::Tick);
        risen.origin.incarnation = Incarnation(2);
        assert_eq!(run(&mut state, risen).outcomes, [Ok(Reply::Done)]);
        assert_eq!(run(&mut state, propose(1, 90, Command::Tick)).outcomes, [Err(Refusal::StaleIncarnation)]);
        let window = &state.windows[&NodeId(1)];
        assert_eq!((window.incarnation, window.outcomes.len()), (Incarnation(2), 1));
    }

    #[test]
    fn a_full_window_forgets_its_oldest_outcome() {
        let mut state = started();
        for seq in 100..100 + OUTCOMES_MAX as u64 + 10 {
            let mut proposal = propose(1, seq, Command::Tick);
            proposal.origin.low_water = 0;
            state.apply_unchecked(20 + seq, &batch(10, vec![proposal]));
        }
        assert_eq!(state.windows[&NodeId(1)].outcomes.len(), OUTCOMES_MAX);
        assert_eq!(
            run(&mut state, propose(1, 105, Command::Tick)).outcomes,
            [Err(Refusal::OutcomeForgotten)]
        );
        assert_eq!(state.check_invariants(), Ok(()));
    }
}
