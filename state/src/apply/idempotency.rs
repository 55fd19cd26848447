//! Replicated idempotency keys: an API client that asks again, on any node, gets the same reply.
//!
//! Nodes have keys too, for commands that leave no row to tell a repeat from. What phones make nodes do must not take the
//! room of API clients (third rules): keys of nodes have a bound of their own, and past it a command is carried out and its
//! key not kept, for a CDR that may come twice is better than one that is lost.

use super::Step;
use crate::bounds::{KEY_KEPT_MS, KEYS_MAX, NODE_KEY_KEPT_MS, NODE_KEYS_MAX, some_at_most};
use crate::command::{Principal, Proposal};
use crate::outcome::{Outcome, Refusal};
use crate::tables::{KeptReply, State, is_of_node};

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
        let Some(kept_ms) = self.room_for_key(&proposal.principal)? else {
            return self.dispatch(step, &proposal.command);
        };
        let outcome = self.dispatch(step, &proposal.command);
        let expires = step.now.plus_ms(kept_ms);
        self.put_key(row, KeptReply { body_hash: key.body_hash, outcome: outcome.clone(), expires });
        outcome
    }

    /// How long a new key is kept; `None` for not at all.
    fn room_for_key(&self, principal: &Principal) -> Result<Option<u64>, Refusal> {
        if self.has_marks() && is_of_node(principal) {
            return Ok((self.node_keys < NODE_KEYS_MAX).then_some(NODE_KEY_KEPT_MS));
        }
        let others = if self.has_marks() { self.node_keys } else { 0 };
        if self.idempotency.len() - others >= KEYS_MAX {
            let limit = u32::try_from(KEYS_MAX).unwrap_or(u32::MAX);
            return Err(Refusal::LimitReached { name: "idempotency_keys".to_owned(), limit });
        }
        Ok(Some(KEY_KEPT_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, IdempotencyKey};
    use crate::fixture::*;
    use crate::outcome::{Applied, Reply};
    use crate::tables::THIRD_APPLY_VERSION;
    use crate::{Cause, ClusterTime, LeaseRecord, NodeId, NodeRecord};

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

    /// A node's proposal with a key.
    fn of_node(seq: u64, key: &str) -> Proposal {
        let mut proposal = propose(1, seq, refuse_call(u128::from(seq), Cause::Busy));
        proposal.idempotency = Some(IdempotencyKey { key: key.into(), body_hash: [0; 32] });
        proposal
    }

    /// [`started`] under these rules, with as many keys of node 9 as it may keep.
    fn full_of_nodes_keys(rules: u16) -> State {
        let mut state = started();
        (state.apply_version, state.time) = (rules, ClusterTime(1000));
        for id in [1, 2].into_iter().filter(|_| rules > 1) {
            state.leases.insert(NodeId(id), LeaseRecord { stands: true, ..LeaseRecord::default() });
        }
        let kept =
            KeptReply { body_hash: [0; 32], outcome: Ok(Reply::Done), expires: ClusterTime(9_000_000) };
        for number in 0..NODE_KEYS_MAX {
            state.put_key((Principal::Node(NodeId(9)), number.to_string()), kept.clone());
        }
        state
    }

    #[test]
    fn what_nodes_do_takes_no_room_from_the_keys_of_api_clients() {
        let full =
            full_of_nodes_keys(THIRD_APPLY_VERSION - 1).apply_unchecked(9, &batch(0, vec![keyed(1, 90, 7)]));
        assert!(
            matches!(full.outcomes[0], Err(Refusal::LimitReached { .. })),
            "the second rules stay as they were"
        );
        let mut state = full_of_nodes_keys(THIRD_APPLY_VERSION);
        let taken = state.apply_unchecked(9, &batch(0, vec![keyed(1, 90, 7)]));
        assert_eq!(taken.outcomes, [Ok(Reply::Configured(vec!["tenant globex".into()]))]);
        assert_eq!(state.apply_unchecked(10, &batch(0, vec![keyed(2, 40, 7)])).outcomes, taken.outcomes);
    }

    #[test]
    fn past_the_bound_of_nodes_keys_no_cdr_is_lost_and_the_key_is_not_kept() {
        let mut state = full_of_nodes_keys(THIRD_APPLY_VERSION);
        for seq in [90, 91] {
            let applied = state.apply_unchecked(seq, &batch(0, vec![of_node(seq, "refused 1")]));
            assert_eq!((applied.outcomes[0].is_ok(), cdrs(&applied).len()), (true, 1));
        }
        assert_eq!((state.node_keys, state.idempotency.len()), (NODE_KEYS_MAX, NODE_KEYS_MAX));
        assert_eq!(state.check_invariants(), Ok(()));
    }

    #[test]
    fn a_nodes_key_is_free_again_after_ten_minutes() {
        let mut state = leased();
        for id in [1, 2] {
            let node = NodeRecord { apply_version: THIRD_APPLY_VERSION, ..node(id) };
            run(&mut state, propose(id, 80, Command::NodeStarted { node }));
        }
        run(&mut state, propose(1, 81, Command::RaiseApplyVersion { to: THIRD_APPLY_VERSION }));
        let count = |applied: &Applied| (applied.outcomes[0].is_ok(), cdrs(applied).len());
        assert_eq!(count(&run_at(&mut state, 3000, of_node(90, "refused 1"))), (true, 1));
        run_at(&mut state, 3000 + NODE_KEY_KEPT_MS - 1, propose(1, 91, Command::Tick));
        assert_eq!(count(&run(&mut state, of_node(92, "refused 1"))), (true, 0));
        run_at(&mut state, 3000 + NODE_KEY_KEPT_MS, propose(1, 93, Command::Tick));
        assert_eq!((state.node_keys, state.idempotency.len()), (0, 0));
        assert_eq!(count(&run(&mut state, of_node(94, "refused 1"))), (true, 1));
    }
}
