//! Replicated idempotency keys: an API client that asks again, on any node, gets the same reply.

use super::Step;
use crate::bounds::{KEY_KEPT_MS, KEYS_MAX, some_at_most};
use crate::command::Proposal;
use crate::outcome::{Outcome, Refusal};
use crate::tables::{KeptReply, State};

impl State {
    /// Dispatches a command, unless its key was answered before.
    pub(super) fn once_per_key(&mut self, step: &mut Step<'_>, proposal: &Proposal) -> Outcome {
        let Some(key) = &proposal.idempotency else { return self.dispatch(step, &proposal.command) };
        some_at_most("idempotency_key", &key.key, 255)?;
        let row = (proposal.principal.clone(), key.key.clone());
        if let Some(kept) = self.idempotency.get(&row) {
            return if kept.body_hash == key.body_hash {
                kept.outcome.clone()
            } else {
                Err(Refusal::KeyReused)
            };
        }
        if self.idempotency.len() >= KEYS_MAX {
            let limit = u32::try_from(KEYS_MAX).unwrap_or(u32::MAX);
            return Err(Refusal::LimitReached { name: "idempotency_keys".to_owned(), limit });
        }
        let outcome = self.dispatch(step, &proposal.command);
        let expires = step.now.plus_ms(KEY_KEPT_MS);
        self.put_key(row, KeptReply { body_hash: key.body_hash, outcome: outcome.clone(), expires });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, IdempotencyKey, Principal};
    use crate::fixture::*;
    use crate::outcome::Reply;

    fn keyed(node: u64, seq: u64, body: u8) -> Proposal {
        let mut proposal = propose(node, seq, configure(globex()));
        proposal.principal = Principal::Token("admin".into());
        proposal.idempotency = Some(IdempotencyKey { key: "k1".into(), body_hash: [body; 32] });
        proposal
    }

    #[test]
    fn the_same_key_on_another_node_gets_the_same_reply_without_applying() {
        let mut state = started();
        let first = run(&mut state, keyed(1, 90, 7));
        assert_eq!(first.outcomes, [Ok(Reply::Configured(vec!["tenant globex".into()]))]);
        let again = run(&mut state, keyed(2, 40, 7));
        assert_eq!(again.outcomes, first.outcomes);
        assert_eq!(again.archive, []);
    }

    #[test]
    fn a_key_with_another_body_is_refused_and_another_principal_has_its_own_keys() {
        let mut state = started();
        run(&mut state, keyed(1, 90, 7));
        assert_eq!(run(&mut state, keyed(1, 91, 8)).outcomes, [Err(Refusal::KeyReused)]);
        let mut other = keyed(1, 92, 8);
        other.principal = Principal::Token("other".into());
        assert_eq!(run(&mut state, other).outcomes, [Ok(Reply::Configured(vec![]))]);
    }

    #[test]
    fn a_key_is_free_again_after_a_day() {
        let mut state = started();
        run_at(&mut state, 1000, keyed(1, 90, 7));
        run_at(&mut state, 1000 + KEY_KEPT_MS - 1, propose(1, 91, Command::Tick));
        assert_eq!(run(&mut state, keyed(1, 92, 8)).outcomes, [Err(Refusal::KeyReused)]);
        run_at(&mut state, 1000 + KEY_KEPT_MS, propose(1, 93, Command::Tick));
        assert!(state.idempotency.is_empty() && state.key_expiries.is_empty());
        assert_eq!(run(&mut state, keyed(1, 94, 8)).outcomes, [Ok(Reply::Configured(vec![]))]);
    }

    #[test]
    fn an_empty_or_overlong_key_is_refused() {
        let mut state = started();
        for key in [String::new(), "k".repeat(256)] {
            let mut proposal = keyed(1, 90, 7);
            proposal.origin.seq += u64::try_from(key.len()).unwrap();
            proposal.idempotency = Some(IdempotencyKey { key, body_hash: [0; 32] });
            assert!(matches!(run(&mut state, proposal).outcomes[0], Err(Refusal::Invalid { .. })));
        }
    }
}
