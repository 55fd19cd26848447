//! What a lost node made and this cluster never saw.

use super::{Effect, Step};
use crate::bounds::{cut_party, invalid};
use crate::outcome::{Outcome, Refusal, Reply};
use crate::records::Cdr;
use crate::tables::State;

impl State {
    /// The call is over here too: one that is up makes CDRs of its own.
    pub(super) fn salvage(&self, step: &mut Step<'_>, cdr: &Cdr) -> Outcome {
        if cdr.id != format!("{}-{}", cdr.call, cdr.attempt) {
            return Err(invalid("id", "is not that of its call and attempt"));
        }
        let tenant =
            self.tenants.get(&cdr.tenant).ok_or_else(|| Refusal::NoTenant(cdr.tenant.to_string()))?;
        // The third rules had the tenant's of today.
        let currency = if self.moves_calls() { &cdr.currency } else { &tenant.currency };
        if currency.len() > CURRENCY_MAX {
            return Err(invalid("currency", "is no ISO 4217 code, such as GBP"));
        }
        if self.calls.contains_key(&cdr.call) {
            return Err(Refusal::Exists(format!("call {}", cdr.call)));
        }
        step.effects.push(Effect::Audit(format!("salvage CDR {}", cdr.id)));
        step.effects.push(Effect::Cdr(Box::new(Cdr {
            from: cut_party(&cdr.from),
            to: cut_party(&cdr.to),
            currency: currency.clone(),
            ..cdr.clone()
        })));
        Ok(Reply::Done)
    }
}

/// An ISO 4217 code.
const CURRENCY_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use crate::archive::Fact;
    use crate::command::Command;
    use crate::fixture::*;
    use crate::*;

    /// The rules with salvage are in force.
    fn newest() -> State {
        let mut state = leased();
        for id in [1, 2] {
            let node = NodeRecord { apply_version: 3, ..node(id) };
            run(&mut state, propose(id, 80, Command::NodeStarted { node }));
        }
        run(&mut state, propose(1, 81, Command::RaiseApplyVersion { to: 3 }));
        state
    }

    /// As another cluster would have made it.
    fn lost() -> Cdr {
        let mut other = started();
        cdrs(&run_at(&mut other, 10_000, propose(1, 90, refuse_call(5, Cause::UnknownNumber)))).remove(0)
    }

    fn salvage(cdr: Cdr) -> Command {
        Command::Salvage { cdr: Box::new(cdr) }
    }

    #[test]
    fn a_lost_cdr_comes_into_the_archive_and_the_audit() {
        let mut state = newest();
        let applied = run(&mut state, propose(1, 90, salvage(lost())));
        assert_eq!(applied.outcomes, [Ok(Reply::Done)]);
        assert_eq!(cdrs(&applied), [lost()]);
        let audited = applied.archive.iter().any(|record| match &record.fact {
            Fact::Audit(audit) => audit.action == format!("salvage CDR {}", lost().id),
            Fact::Cdr(_) | Fact::Event(_) => false,
        });
        assert!(audited, "{applied:?}");
    }

    #[test]
    fn a_cdr_of_a_call_that_is_up_of_no_tenant_or_with_a_wrong_id_is_refused() {
        let mut state = newest();
        run(&mut state, propose(1, 90, create_call(1)));
        let up = Cdr { id: format!("{}-1", CallId(1)), call: CallId(1), ..lost() };
        let strange = Cdr { tenant: TenantId(7), ..lost() };
        let wrong = Cdr { id: "x".into(), ..lost() };
        let mut seq = 90;
        let outcomes = [up, strange, wrong].map(|cdr| {
            seq += 1;
            run(&mut state, propose(1, seq, salvage(cdr)))
        });
        let refused =
            outcomes.iter().all(|applied| applied.outcomes[0].is_err() && applied.archive.is_empty());
        assert!(refused, "{outcomes:?}");
    }

    #[test]
    fn before_its_rules_are_in_force_it_is_refused() {
        let mut state = leased();
        let applied = run(&mut state, propose(1, 90, salvage(lost())));
        assert_eq!(applied.outcomes, [Err(Refusal::NotInForce { needs: 3, current: 2 })]);
    }
}
