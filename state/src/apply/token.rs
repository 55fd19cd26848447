//! API tokens.

use super::{Effect, Step};
use crate::bounds::{NAME_MAX, TOKENS_MAX, invalid, some_at_most};
use crate::outcome::{Outcome, Refusal, Reply};
use crate::records::{TokenRecord, TokenScope};
use crate::tables::State;

impl State {
    pub(super) fn put_token(&mut self, step: &mut Step<'_>, token: &TokenRecord) -> Outcome {
        some_at_most("id", &token.id, NAME_MAX)?;
        if !token.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err(invalid("id", "may have letters, digits, '.', '_' and '-' only"));
        }
        if let TokenScope::Tenant(tenant) = token.scope
            && !self.tenants.contains_key(&tenant)
        {
            return Err(Refusal::NoTenant(tenant.to_string()));
        }
        if let Some(known) = self.tokens.get(&token.id) {
            let same = known.hash == token.hash && known.scope == token.scope;
            return if same { Ok(Reply::Done) } else { Err(Refusal::Exists(format!("token {}", token.id))) };
        }
        if self.token_by_hash(&token.hash).is_some() {
            return Err(Refusal::Exists("this token".to_owned()));
        }
        if self.tokens.len() >= TOKENS_MAX {
            let limit = u32::try_from(TOKENS_MAX).unwrap_or(u32::MAX);
            return Err(Refusal::LimitReached { name: "tokens".to_owned(), limit });
        }
        self.tokens.insert(token.id.clone(), TokenRecord { created: step.now, ..token.clone() });
        step.effects.push(Effect::Audit(format!("put token {}", token.id)));
        Ok(Reply::Done)
    }

    pub(super) fn remove_token(&mut self, step: &mut Step<'_>, id: &str) -> Outcome {
        if self.tokens.remove(id).is_none() {
            return Err(invalid("id", "no such token"));
        }
        step.effects.push(Effect::Audit(format!("remove token {id}")));
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use crate::archive::Fact;
    use crate::command::Command;
    use crate::fixture::*;
    use crate::*;

    fn token(id: &str, secret: u8, scope: TokenScope) -> Command {
        let hash = [secret; 32];
        Command::PutToken { token: TokenRecord { id: id.into(), hash, scope, created: ClusterTime(77) } }
    }

    fn outcome(state: &mut State, seq: u64, command: Command) -> Outcome {
        run(state, propose(1, seq, command)).outcomes.remove(0)
    }

    #[test]
    fn a_token_is_put_with_the_stamp_audited_and_found_by_its_hash() {
        let mut state = started();
        let applied = run_at(&mut state, 5000, propose(1, 90, token("ops", 1, TokenScope::Operator)));
        let Fact::Audit(audit) = &applied.archive[0].fact else { panic!("{applied:?}") };
        assert_eq!((applied.archive.len(), audit.action.as_str()), (1, "put token ops"));
        let found = state.token_by_hash(&[1; 32]).unwrap();
        assert_eq!((found.id.as_str(), found.created), ("ops", ClusterTime(5000)));
        assert_eq!(state.token_by_hash(&[2; 32]), None);
    }

    #[test]
    fn a_token_put_again_changes_nothing_and_another_under_its_id_is_refused() {
        let mut state = started();
        assert_eq!(outcome(&mut state, 90, token("ops", 1, TokenScope::Operator)), Ok(Reply::Done));
        assert_eq!(outcome(&mut state, 91, token("ops", 1, TokenScope::Operator)), Ok(Reply::Done));
        let exists = Err(Refusal::Exists("token ops".into()));
        assert_eq!(outcome(&mut state, 92, token("ops", 2, TokenScope::Operator)), exists);
        let same = Err(Refusal::Exists("this token".into()));
        assert_eq!(outcome(&mut state, 93, token("ops2", 1, TokenScope::Operator)), same);
    }

    #[test]
    fn a_token_of_no_tenant_or_with_an_odd_id_is_refused() {
        let mut state = started();
        let scope = TokenScope::Tenant(TenantId(9));
        assert_eq!(outcome(&mut state, 90, token("t", 1, scope)), Err(Refusal::NoTenant("9".into())));
        let odd = outcome(&mut state, 91, token("a b", 1, TokenScope::Operator));
        assert!(matches!(odd, Err(Refusal::Invalid { .. })));
    }

    #[test]
    fn a_removed_token_is_gone() {
        let mut state = started();
        outcome(&mut state, 90, token("ops", 1, TokenScope::Operator)).unwrap();
        assert_eq!(outcome(&mut state, 91, Command::RemoveToken { id: "ops".into() }), Ok(Reply::Done));
        let again = outcome(&mut state, 92, Command::RemoveToken { id: "ops".into() });
        assert!(matches!(again, Err(Refusal::Invalid { .. })));
    }
}
