//! Registrations: bindings come, change and go.

use super::Step;
use crate::bounds::*;
use crate::event::EventKind;
use crate::ids::*;
use crate::outcome::{Outcome, Refusal, Reply};
use crate::records::*;
use crate::tables::{BindingRow, State};

impl State {
    pub(super) fn bind(
        &mut self,
        step: &mut Step<'_>,
        node_epoch: NodeEpoch,
        asked: &NewBinding,
        replaces: Option<Revision>,
    ) -> Outcome {
        self.acting_node(step, node_epoch)?;
        if asked.flow.node != step.origin.node {
            return Err(invalid("binding.flow.node", "is not the proposing node"));
        }
        check_binding(asked)?;
        if asked.expires <= step.now {
            return Err(invalid("binding.expires", "is in the past"));
        }
        self.known_extension(asked.tenant, &asked.number)?;

        let row = (asked.tenant, asked.number.clone(), asked.key.clone());
        let former = self.bindings.get(&row).cloned();
        self.in_order(former.as_ref(), asked, replaces)?;
        if former.is_none() {
            self.room_for_binding(step, asked)?;
        }
        let spec = NewBinding {
            user_agent: cut(&asked.user_agent, USER_AGENT_MAX).to_owned(),
            expires: asked.expires.min(step.now.plus_ms(BINDING_KEPT_MS)),
            ..asked.clone()
        };
        let since = former.as_ref().map_or(step.now, |former| former.since);
        let binding = Binding { spec, revision: Revision(step.position), since };
        self.put_binding(row, binding.clone());
        match former {
            None => step.event(Some(asked.tenant), EventKind::RegistrationAdded(Box::new(binding))),
            Some(former) if is_moved(&former.spec, &binding.spec) => {
                step.event(Some(asked.tenant), EventKind::RegistrationChanged(Box::new(binding)));
            }
            Some(_) => {}
        }
        Ok(Reply::Bound(Revision(step.position)))
    }

    pub(super) fn unbind(
        &mut self,
        step: &mut Step<'_>,
        node_epoch: NodeEpoch,
        row: &BindingRow,
        revision: Revision,
        reason: UnbindReason,
    ) -> Outcome {
        self.acting_node(step, node_epoch)?;
        let current = self.bindings.get(row).ok_or(Refusal::NoBinding)?.revision;
        if current != revision {
            return Err(Refusal::StaleRevision { current });
        }
        self.drop_binding(step, row, reason);
        Ok(Reply::Done)
    }

    /// Removes a binding, if it is there, and says so.
    pub(super) fn drop_binding(&mut self, step: &mut Step<'_>, row: &BindingRow, reason: UnbindReason) {
        if let Some(binding) = self.take_binding(row) {
            step.event(Some(row.0), EventKind::RegistrationRemoved(Box::new(binding), reason));
        }
    }

    fn known_extension(&self, tenant: TenantId, number: &str) -> Result<(), Refusal> {
        if !self.tenants.contains_key(&tenant) {
            return Err(Refusal::NoTenant(tenant.to_string()));
        }
        self.extension(tenant, number).map(drop).ok_or_else(|| Refusal::NoExtension(shown(number)))
    }

    /// RFC 3261 section 10.3 first (asking again can't help), then whether the proposer knew the newest revision.
    fn in_order(
        &self,
        former: Option<&Binding>,
        asked: &NewBinding,
        replaces: Option<Revision>,
    ) -> Result<(), Refusal> {
        let Some(former) = former else {
            // What it wants to replace has ended meanwhile, for a reason that the proposer has to look at.
            return if replaces.is_some() { Err(Refusal::NoBinding) } else { Ok(()) };
        };
        if former.spec.call_id == asked.call_id && asked.cseq <= former.spec.cseq {
            return Err(Refusal::OutOfOrder);
        }
        if replaces != Some(former.revision) {
            return Err(Refusal::StaleRevision { current: former.revision });
        }
        Ok(())
    }

    fn room_for_binding(&self, step: &mut Step<'_>, asked: &NewBinding) -> Result<(), Refusal> {
        let used = self.usage.get(&asked.tenant).map_or(0, |usage| usage.registrations);
        let limit = self.tenants.get(&asked.tenant).and_then(|tenant| tenant.limits.registrations);
        if let Some(limit) = limit
            && used >= limit
        {
            return Err(step.limit_hit(asked.tenant, "registrations", limit));
        }
        if self.bindings_of(asked.tenant, &asked.number).count() >= BINDINGS_PER_EXTENSION_MAX {
            let limit = u32::try_from(BINDINGS_PER_EXTENSION_MAX).unwrap_or(u32::MAX);
            return Err(Refusal::LimitReached { name: "bindings of one extension".to_owned(), limit });
        }
        Ok(())
    }
}

/// A refresh only counts up; anything else is worth an event.
fn is_moved(former: &NewBinding, now: &NewBinding) -> bool {
    former.contact != now.contact || former.flow != now.flow || former.path != now.path
}

fn check_binding(asked: &NewBinding) -> Result<(), Refusal> {
    match &asked.key {
        BindingKey::Instance(instance, _) => some_at_most("binding.key", instance, CALL_ID_MAX)?,
        BindingKey::Contact(uri) => some_at_most("binding.key", uri, URI_MAX)?,
    }
    some_at_most("binding.contact", &asked.contact, URI_MAX)?;
    some_at_most("binding.call_id", &asked.call_id, CALL_ID_MAX)?;
    if asked.path.len() > PATH_MAX {
        return Err(invalid("binding.path", format!("has more than {PATH_MAX} entries")));
    }
    for uri in &asked.path {
        some_at_most("binding.path", uri, URI_MAX)?;
    }
    if asked.q_milli > 1000 {
        return Err(invalid("binding.q_milli", "is above 1000"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::bounds::*;
    use crate::command::Command;
    use crate::fixture::*;
    use crate::*;

    fn outcome(state: &mut State, seq: u64, command: Command) -> Outcome {
        run(state, propose(1, seq, command)).outcomes.remove(0)
    }

    fn edited(command: Command, edit: impl FnOnce(&mut NewBinding, &mut Option<Revision>)) -> Command {
        let Command::Bind { node_epoch, mut binding, mut replaces } = command else { panic!("no Bind") };
        edit(&mut binding, &mut replaces);
        Command::Bind { node_epoch, binding, replaces }
    }

    fn unbind(number: &str, revision: u64) -> Command {
        Command::Unbind {
            node_epoch: NodeEpoch(1),
            tenant: TenantId(1),
            number: number.into(),
            key: BindingKey::Contact(format!("sip:{number}@192.0.2.1")),
            revision: Revision(revision),
            reason: UnbindReason::Unregistered,
        }
    }

    #[test]
    fn a_new_binding_gets_the_log_position_as_its_revision() {
        let mut state = started();
        let applied = state.apply(50, &batch(2000, vec![propose(1, 90, bind("101", 1))]));
        assert_eq!(applied.outcomes, [Ok(Reply::Bound(Revision(50)))]);
        let binding = state.bindings_of(TenantId(1), "101").next().unwrap().clone();
        assert_eq!((binding.revision, binding.since), (Revision(50), ClusterTime(2000)));
        assert_eq!(applied.events[0].kind, EventKind::RegistrationAdded(Box::new(binding)));
        assert_eq!(applied.events[0].tenant, Some(TenantId(1)));
        assert_eq!(state.usage[&TenantId(1)].registrations, 1);
    }

    #[test]
    fn a_refresh_keeps_since_and_is_no_event_but_a_new_contact_is() {
        let mut state = started();
        state.apply(50, &batch(2000, vec![propose(1, 90, bind("101", 1))]));
        let refresh = edited(bind("101", 2), |_, replaces| *replaces = Some(Revision(50)));
        let applied = state.apply(51, &batch(3000, vec![propose(1, 91, refresh)]));
        assert_eq!((applied.outcomes, applied.events), (vec![Ok(Reply::Bound(Revision(51)))], vec![]));
        let moved = edited(bind("101", 3), |binding, replaces| {
            binding.contact = "sip:101@192.0.2.9".into();
            *replaces = Some(Revision(51));
        });
        let applied = state.apply(52, &batch(4000, vec![propose(1, 92, moved)]));
        let binding = state.bindings_of(TenantId(1), "101").next().unwrap().clone();
        assert_eq!(binding.since, ClusterTime(2000));
        assert_eq!(applied.events[0].kind, EventKind::RegistrationChanged(Box::new(binding)));
    }

    #[test]
    fn a_bind_that_knows_an_older_revision_is_refused_with_the_current_one() {
        let mut state = started();
        state.apply(50, &batch(2000, vec![propose(1, 90, bind("101", 1))]));
        let stale = Err(Refusal::StaleRevision { current: Revision(50) });
        assert_eq!(outcome(&mut state, 91, bind("101", 2)), stale);
        let old = edited(bind("101", 2), |_, replaces| *replaces = Some(Revision(7)));
        assert_eq!(outcome(&mut state, 92, old), stale);
    }

    #[test]
    fn within_one_call_id_a_lower_or_equal_cseq_is_refused_but_another_call_id_is_not() {
        let mut state = started();
        state.apply(50, &batch(2000, vec![propose(1, 90, bind("101", 5))]));
        for cseq in [4, 5] {
            let late = edited(bind("101", cseq), |_, replaces| *replaces = Some(Revision(50)));
            assert_eq!(outcome(&mut state, 91 + u64::from(cseq), late), Err(Refusal::OutOfOrder));
        }
        let rebooted = edited(bind("101", 1), |binding, replaces| {
            binding.call_id = "other".into();
            *replaces = Some(Revision(50));
        });
        assert!(outcome(&mut state, 99, rebooted).is_ok());
    }

    #[test]
    fn a_binding_that_ended_is_not_replaced_back_to_life() {
        let mut state = started();
        state.apply(50, &batch(2000, vec![propose(1, 90, bind("101", 1))]));
        assert_eq!(outcome(&mut state, 91, unbind("101", 50)), Ok(Reply::Done));
        let late = edited(bind("101", 2), |_, replaces| *replaces = Some(Revision(50)));
        assert_eq!(outcome(&mut state, 92, late), Err(Refusal::NoBinding));
    }

    #[test]
    fn an_unbind_of_a_newer_binding_is_refused() {
        let mut state = started();
        state.apply(50, &batch(2000, vec![propose(1, 90, bind("101", 1))]));
        assert_eq!(
            outcome(&mut state, 91, unbind("101", 49)),
            Err(Refusal::StaleRevision { current: Revision(50) })
        );
        assert_eq!(outcome(&mut state, 92, unbind("102", 49)), Err(Refusal::NoBinding));
        let applied = run(&mut state, propose(1, 93, unbind("101", 50)));
        assert_eq!(applied.events[0].kind.name(), "registration.removed");
        assert!(state.bindings.is_empty() && state.usage.is_empty() && state.expiries.is_empty());
    }

    #[test]
    fn the_limit_of_registrations_refuses_a_new_binding_but_not_a_refresh() {
        let mut state = started();
        run(&mut state, propose(1, 80, configure(vec![limited("acme", None, Some(1))])));
        state.apply(50, &batch(2000, vec![propose(1, 90, bind("101", 1))]));
        let applied = run(&mut state, propose(1, 91, bind("102", 1)));
        assert_eq!(applied.outcomes, [Err(Refusal::LimitReached { name: "registrations".into(), limit: 1 })]);
        assert_eq!(applied.events[0].kind, EventKind::LimitHit("registrations".into()));
        let refresh = edited(bind("101", 2), |_, replaces| *replaces = Some(Revision(50)));
        assert!(outcome(&mut state, 92, refresh).is_ok());
    }

    #[test]
    fn one_extension_has_a_bounded_number_of_bindings() {
        let mut state = started();
        for n in 0..=BINDINGS_PER_EXTENSION_MAX {
            let other =
                edited(bind("101", 1), |binding, _| binding.key = BindingKey::Contact(format!("sip:{n}")));
            let expected = n < BINDINGS_PER_EXTENSION_MAX;
            assert_eq!(outcome(&mut state, 100 + n as u64, other).is_ok(), expected);
        }
    }

    #[test]
    fn stale_nodes_and_foreign_flows_are_refused() {
        let mut state = started();
        let Command::Bind { binding, .. } = bind("101", 1) else { panic!("no Bind") };
        let stale = Command::Bind { node_epoch: NodeEpoch(2), binding, replaces: None };
        assert_eq!(outcome(&mut state, 90, stale), Err(Refusal::StaleNodeEpoch { current: NodeEpoch(1) }));
        let foreign = edited(bind("101", 1), |binding, _| binding.flow.node = NodeId(2));
        assert!(matches!(outcome(&mut state, 91, foreign), Err(Refusal::Invalid { .. })));
        let unknown = run(&mut state, propose(9, 1, bind("101", 1))).outcomes;
        assert_eq!(unknown, [Err(Refusal::StaleNodeEpoch { current: NodeEpoch(0) })]);
    }

    #[test]
    fn values_are_bounded() {
        let mut state = started();
        let edits: [fn(&mut NewBinding); 7] = [
            |b| b.contact = "x".repeat(URI_MAX + 1),
            |b| b.contact.clear(),
            |b| b.key = BindingKey::Contact(String::new()),
            |b| b.path = vec!["sip:p".into(); PATH_MAX + 1],
            |b| b.call_id.clear(),
            |b| b.q_milli = 1001,
            |b| b.expires = ClusterTime(1),
        ];
        for (n, edit) in edits.into_iter().enumerate() {
            let odd = edited(bind("101", 1), |binding, _| edit(binding));
            let refused = outcome(&mut state, 90 + n as u64, odd);
            assert!(matches!(refused, Err(Refusal::Invalid { .. })), "{n}: {refused:?}");
        }
        let long = edited(bind("101", 1), |binding, _| {
            binding.user_agent = "u".repeat(500);
            binding.expires = ClusterTime(u64::MAX);
        });
        assert!(outcome(&mut state, 99, long).is_ok());
        let kept = &state.bindings.values().next().unwrap().spec;
        assert_eq!(kept.user_agent.len(), USER_AGENT_MAX);
        assert_eq!(kept.expires, state.time.plus_ms(BINDING_KEPT_MS));
    }
}
