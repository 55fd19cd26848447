//! Which cluster key seals. The key itself is never here: members hand it to each other before it is named.

use super::{Effect, Step};
use crate::ids::KeyId;
use crate::outcome::{Outcome, Refusal, Reply};
use crate::tables::State;

impl State {
    pub(super) fn use_cluster_key(&mut self, step: &mut Step<'_>, from: Option<KeyId>, to: KeyId) -> Outcome {
        if self.cluster_key != from {
            return Err(Refusal::StaleClusterKey { current: self.cluster_key });
        }
        self.cluster_key = Some(to);
        step.effects.push(Effect::Audit(format!("use cluster key {to}")));
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use crate::archive::Fact;
    use crate::fixture::*;
    use crate::*;

    fn change(seq: u64, from: Option<u64>, to: u64) -> Proposal {
        propose(1, seq, Command::UseClusterKey { from: from.map(KeyId), to: KeyId(to) })
    }

    #[test]
    fn the_key_is_changed_by_whoever_knows_the_present_one_and_stands_in_the_audit() {
        let mut state = marked();
        assert_eq!(state.cluster_key, None);
        let applied = run(&mut state, change(900, None, 5));
        assert_eq!((applied.outcomes, state.cluster_key), (vec![Ok(Reply::Done)], Some(KeyId(5))));
        let Fact::Audit(audit) = &applied.archive[0].fact else { panic!("{:?}", applied.archive) };
        assert_eq!(audit.action, "use cluster key 0000000000000005");
        let current = Some(KeyId(5));
        for from in [None, Some(6)] {
            let refused = run(&mut state, change(901 + from.unwrap_or(0), from, 7));
            assert_eq!(refused.outcomes, [Err(Refusal::StaleClusterKey { current })]);
        }
        assert_eq!(state.cluster_key, current);
    }

    #[test]
    fn before_its_rules_are_in_force_the_key_is_not_changed() {
        let applied = run(&mut leased(), change(900, None, 5));
        assert_eq!(applied.outcomes, [Err(Refusal::NotInForce { needs: 3, current: 2 })]);
    }
}
