//! What holds between the tables after every log entry, numbered. A replica for which one does not hold must stop:
//! it no longer knows what the cluster agreed on.

use crate::bounds::*;
use crate::config::NumberTarget;
use crate::ids::*;
use crate::records::*;
use crate::tables::State;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {number} does not hold: {what}")]
pub struct Broken {
    /// Which.
    pub number: u8,
    /// Where.
    pub what: String,
}

type Checked = Result<(), Broken>;

impl State {
    /// Checks all invariants; walks every table.
    pub fn check_invariants(&self) -> Checked {
        self.derived_tables_are_as_rebuilt()?;
        self.names_are_unique()?;
        self.what_belongs_to_a_tenant_has_one()?;
        self.bindings_have_an_extension_and_are_not_from_the_future()?;
        self.calls_and_legs_know_each_other()?;
        self.calls_have_an_owner_and_a_tenant()?;
        self.times_of_calls_are_in_order()?;
        self.windows_are_trimmed_and_bounded()?;
        self.tables_are_bounded()?;
        self.leases_are_of_nodes_and_not_from_the_future()?;
        self.marks_are_of_nodes_and_not_from_the_future()?;
        self.invites_are_of_calls_and_drains_of_nodes()
    }

    /// 1: whoever changed a row changed what is derived from it.
    fn derived_tables_are_as_rebuilt(&self) -> Checked {
        let mut rebuilt = self.clone();
        rebuilt.rebuild_derived();
        holds(1, rebuilt.by_domain == self.by_domain, || "tenants by domain".to_owned())?;
        holds(1, rebuilt.by_name == self.by_name, || "tenants by name".to_owned())?;
        holds(1, rebuilt.held == self.held, || format!("{:?} for {:?}", self.held, rebuilt.held))?;
        holds(1, rebuilt.usage == self.usage, || format!("{:?} for {:?}", self.usage, rebuilt.usage))?;
        holds(1, rebuilt.expiries == self.expiries, || "bindings by expiry".to_owned())?;
        holds(1, rebuilt.callers == self.callers, || "callers by Call-ID".to_owned())?;
        holds(1, rebuilt.key_expiries == self.key_expiries, || "keys by expiry".to_owned())?;
        holds(1, rebuilt.node_keys == self.node_keys, || format!("{} keys of nodes", self.node_keys))
    }

    /// 2: no two tenants share a name or domain, no two nodes a name; tenant ids are not ahead of their count.
    fn names_are_unique(&self) -> Checked {
        let tenants = self.tenants.len();
        holds(2, self.by_domain.len() == tenants && self.by_name.len() == tenants, || {
            "two tenants".to_owned()
        })?;
        let names: std::collections::BTreeSet<&str> =
            self.nodes.values().map(|node| node.name.as_str()).collect();
        holds(2, names.len() == self.nodes.len(), || "two nodes".to_owned())?;
        let last = self.tenants.get_max().map_or(TenantId(0), |(id, _)| *id);
        holds(2, last <= self.last_tenant, || format!("tenant {last}"))
    }

    /// 3: extensions, numbers and tokens are of tenants that exist; a number leads to an extension that exists.
    fn what_belongs_to_a_tenant_has_one(&self) -> Checked {
        for ((tenant, number), extension) in &self.extensions {
            let fine = self.tenants.contains_key(tenant) && extension.number == *number;
            holds(3, fine, || format!("extension {tenant}/{number}"))?;
        }
        for (number, (tenant, NumberTarget::Extension(to))) in &self.numbers {
            holds(3, self.extension(*tenant, to).is_some(), || format!("number {number}"))?;
        }
        for (id, token) in &self.tokens {
            let owned = match token.scope {
                TokenScope::Operator => true,
                TokenScope::Tenant(tenant) => self.tenants.contains_key(&tenant),
            };
            holds(3, owned && token.id == *id, || format!("token {id}"))?;
        }
        Ok(())
    }

    /// 4: a binding stands under its own key, for an extension that exists, at a node that exists.
    fn bindings_have_an_extension_and_are_not_from_the_future(&self) -> Checked {
        for (row, binding) in &self.bindings {
            let spec = &binding.spec;
            let own = (spec.tenant, &spec.number, &spec.key) == (row.0, &row.1, &row.2);
            let known = self.extension(row.0, &row.1).is_some() && self.nodes.contains_key(&spec.flow.node);
            let past = binding.revision.0 <= self.position && binding.since <= self.time;
            holds(4, own && known && past, || format!("binding {row:?}"))?;
        }
        Ok(())
    }

    /// 5: a call's legs are in the leg table and name that call; no leg is without its call.
    fn calls_and_legs_know_each_other(&self) -> Checked {
        let mut legs = 0;
        for (id, call) in &self.calls {
            let mine = |leg: &LegId| {
                self.legs.get(leg).is_some_and(|record| record.call == *id && record.id == *leg)
            };
            let bridged = call.bridge.keys().all(|leg| call.legs.contains(leg));
            holds(5, call.id == *id && bridged && call.legs.iter().all(mine), || format!("call {id}"))?;
            legs += call.legs.len();
        }
        holds(5, legs == self.legs.len(), || format!("{} legs, of calls {legs}", self.legs.len()))
    }

    /// 6: a call's owner and tenant exist.
    fn calls_have_an_owner_and_a_tenant(&self) -> Checked {
        for (id, call) in &self.calls {
            let known = self.nodes.contains_key(&call.owner) && self.tenants.contains_key(&call.tenant);
            holds(6, known, || format!("call {id}"))?;
        }
        Ok(())
    }

    /// 7: start, answer and end follow each other and none is in the future.
    fn times_of_calls_are_in_order(&self) -> Checked {
        for (id, call) in &self.calls {
            let answer = call.answer.unwrap_or(self.time);
            holds(7, call.start <= answer && answer <= self.time, || format!("call {id}"))?;
            for (number, attempt) in &call.attempts {
                let answer = attempt.answer.unwrap_or(attempt.start);
                let end = attempt.end.as_ref().map_or(self.time, |end| end.at);
                let ordered = call.start <= attempt.start && attempt.start <= answer && answer <= end;
                let fine = ordered && end <= self.time && attempt.number == *number;
                holds(7, fine, || format!("attempt {number} of call {id}"))?;
            }
        }
        Ok(())
    }

    /// 8: a window holds nothing below its low-water mark, and not too much.
    fn windows_are_trimmed_and_bounded(&self) -> Checked {
        for (node, window) in &self.windows {
            let lowest = window.outcomes.get_min().map_or(u64::MAX, |(seq, _)| *seq);
            let fine = lowest >= window.low_water && window.outcomes.len() <= OUTCOMES_MAX;
            holds(8, fine, || format!("window of node {node}"))?;
        }
        Ok(())
    }

    /// 9: tables with a bound keep it.
    fn tables_are_bounded(&self) -> Checked {
        holds(9, self.nodes.len() <= NODES_MAX, || "nodes".to_owned())?;
        holds(9, self.windows.len() <= WINDOWS_MAX, || "windows".to_owned())?;
        holds(9, self.tokens.len() <= TOKENS_MAX, || "tokens".to_owned())?;
        let clients = self.idempotency.len().saturating_sub(self.node_keys);
        holds(9, clients <= KEYS_MAX, || "idempotency keys".to_owned())?;
        holds(9, self.node_keys <= NODE_KEYS_MAX, || "idempotency keys of nodes".to_owned())?;
        for (id, call) in &self.calls {
            let attempts = call.attempts.keys().all(|number| (1..=ATTEMPTS_MAX).contains(number));
            holds(9, attempts && call.legs.len() <= LEGS_MAX, || format!("call {id}"))?;
        }
        Ok(())
    }

    /// 10: once leases are in force each node has a row and nobody else; before that there is none.
    fn leases_are_of_nodes_and_not_from_the_future(&self) -> Checked {
        let fine =
            if self.has_leases() { self.leases.keys().eq(self.nodes.keys()) } else { self.leases.is_empty() };
        holds(10, fine, || "leases and nodes".to_owned())?;
        for (node, lease) in &self.leases {
            let past = lease.last_renewal <= self.position && lease.renewed <= self.time;
            holds(10, past && lease.lease_ms <= LEASE_MS_MAX, || format!("lease of node {node}"))?;
        }
        Ok(())
    }

    /// 11: what a node said of its disk is no more than there is; before its rules are in force nothing was said.
    fn marks_are_of_nodes_and_not_from_the_future(&self) -> Checked {
        let none = self.marks.is_empty() && self.cluster_key.is_none();
        holds(11, self.has_marks() || none, || "marks or a key before their rules".to_owned())?;
        for (node, mark) in &self.marks {
            let fine = mark.position <= self.position && self.nodes.contains_key(node);
            holds(11, fine, || format!("mark of node {node}"))?;
        }
        Ok(())
    }

    /// 12: what began a call goes with it, and who is emptied is a member.
    fn invites_are_of_calls_and_drains_of_nodes(&self) -> Checked {
        for id in self.draining.keys() {
            holds(12, self.nodes.contains_key(id), || format!("draining node {id}"))?;
        }
        for id in self.invites.keys() {
            holds(12, self.calls.contains_key(id), || format!("INVITE of call {id}"))?;
        }
        Ok(())
    }
}

fn holds(number: u8, fine: bool, what: impl FnOnce() -> String) -> Checked {
    if fine { Ok(()) } else { Err(Broken { number, what: what() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;

    #[test]
    fn each_invariant_finds_its_break() {
        let mut state = started();
        run(&mut state, propose(1, 80, bind("101", 1)));
        run(&mut state, propose(1, 81, create_call(1)));
        assert_eq!(state.check_invariants(), Ok(()));
        type Break = (u8, fn(&mut State));
        let breaks: [Break; 16] = [
            (1, |s| s.usage.clear()),
            (1, |s| s.held.clear()),
            (2, |s| s.last_tenant = TenantId(0)),
            (3, |s| {
                s.numbers.insert("+44".into(), (TenantId(1), NumberTarget::Extension("9".into())));
            }),
            (4, |s| drop(s.extensions.remove(&(TenantId(1), "101".to_owned())))),
            (1, |s| s.callers.clear()),
            (5, |s| {
                s.legs.clear();
                s.callers.clear();
            }),
            (6, |s| s.calls.get_mut(&CallId(1)).unwrap().owner = NodeId(9)),
            (7, |s| s.calls.get_mut(&CallId(1)).unwrap().start = s.time.plus_ms(1)),
            (8, |s| s.windows.get_mut(&NodeId(1)).unwrap().low_water = 1000),
            (9, |s| {
                let attempts = &mut s.calls.get_mut(&CallId(1)).unwrap().attempts;
                attempts.insert(
                    ATTEMPTS_MAX + 1,
                    Attempt { start: ClusterTime(1000), ..attempt(ATTEMPTS_MAX + 1) },
                );
            }),
            (10, |s| {
                s.leases.insert(NodeId(1), LeaseRecord::default());
            }),
            (11, |s| {
                s.marks.insert(NodeId(1), Mark::default());
            }),
            (11, |s| s.cluster_key = Some(KeyId(1))),
            (12, |s| {
                s.draining.insert(NodeId(9), ());
            }),
            (12, |s| drop(s.invites.insert(CallId(9), Invite::from(&b"x"[..])))),
        ];
        for (number, edit) in breaks {
            let mut broken = state.clone();
            edit(&mut broken);
            assert_eq!(broken.check_invariants().map_err(|b| b.number), Err(number));
        }
    }
}
