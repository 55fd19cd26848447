//! The derived tables: kept in step by the only functions that touch the rows they come from, rebuilt after a
//! snapshot is read.

use imbl::OrdMap;

use crate::command::Principal;
use crate::ids::*;
use crate::records::*;
use crate::tables::{BindingRow, KeptReply, State, Usage};

impl State {
    pub(crate) fn put_binding(&mut self, row: BindingRow, binding: Binding) {
        let expires = binding.spec.expires;
        self.hold_more(binding.spec.flow.node);
        match self.bindings.insert(row.clone(), binding) {
            Some(former) => {
                self.hold_less(former.spec.flow.node);
                self.expiries.remove(&expiry(&row, former.spec.expires));
            }
            None => self.use_more(row.0, |usage| &mut usage.registrations),
        }
        self.expiries.insert(expiry(&row, expires), ());
    }

    pub(crate) fn take_binding(&mut self, row: &BindingRow) -> Option<Binding> {
        let binding = self.bindings.remove(row)?;
        self.expiries.remove(&expiry(row, binding.spec.expires));
        self.use_less(row.0, |usage| &mut usage.registrations);
        self.hold_less(binding.spec.flow.node);
        Some(binding)
    }

    fn hold_more(&mut self, node: NodeId) {
        let held = self.held.entry(node).or_default();
        *held = held.saturating_add(1);
    }

    fn hold_less(&mut self, node: NodeId) {
        let Some(held) = self.held.get_mut(&node) else { return };
        *held = held.saturating_sub(1);
        if *held == 0 {
            self.held.remove(&node);
        }
    }

    pub(crate) fn put_call(&mut self, call: Call) {
        let tenant = call.tenant;
        if self.calls.insert(call.id, call).is_none() {
            self.use_more(tenant, |usage| &mut usage.calls);
        }
    }

    pub(crate) fn put_leg(&mut self, leg: LegRecord) {
        let is_same = |former: &LegRecord| {
            former.direction == leg.direction && former.dialog.call_id == leg.dialog.call_id
        };
        if !self.legs.get(&leg.id).is_some_and(is_same) {
            self.take_leg(leg.id);
            if let Some(row) = caller(&leg) {
                self.callers.insert(row, ());
            }
        }
        self.legs.insert(leg.id, leg);
    }

    pub(crate) fn take_leg(&mut self, id: LegId) {
        if let Some(row) = self.legs.remove(&id).and_then(|leg| caller(&leg)) {
            self.callers.remove(&row);
        }
    }

    /// Takes a call out, with its legs.
    pub(crate) fn take_call(&mut self, id: CallId) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        for leg in &call.legs {
            self.take_leg(*leg);
        }
        self.invites.remove(&id);
        self.use_less(call.tenant, |usage| &mut usage.calls);
        Some(call)
    }

    pub(crate) fn put_key(&mut self, row: (Principal, String), kept: KeptReply) {
        self.key_expiries.insert((kept.expires, row.0.clone(), row.1.clone()), ());
        let of_node = usize::from(is_of_node(&row.0));
        if self.idempotency.insert(row, kept).is_none() {
            self.node_keys += of_node;
        }
    }

    /// Forgets a key whose time is over.
    pub(crate) fn take_key(&mut self, (expires, principal, key): (ClusterTime, Principal, String)) {
        let of_node = usize::from(is_of_node(&principal));
        self.key_expiries.remove(&(expires, principal.clone(), key.clone()));
        if self.idempotency.remove(&(principal, key)).is_some() {
            self.node_keys = self.node_keys.saturating_sub(of_node);
        }
    }

    fn use_more(&mut self, tenant: TenantId, of: impl Fn(&mut Usage) -> &mut u32) {
        let used = of(self.usage.entry(tenant).or_default());
        *used = used.saturating_add(1);
    }

    fn use_less(&mut self, tenant: TenantId, of: impl Fn(&mut Usage) -> &mut u32) {
        let Some(usage) = self.usage.get_mut(&tenant) else { return };
        let used = of(usage);
        *used = used.saturating_sub(1);
        if *usage == Usage::default() {
            self.usage.remove(&tenant);
        }
    }

    pub(crate) fn rebuild_derived(&mut self) {
        self.by_domain = self.tenants.iter().map(|(id, tenant)| (tenant.domain.clone(), *id)).collect();
        self.by_name = self.tenants.iter().map(|(id, tenant)| (tenant.name.clone(), *id)).collect();
        self.expiries = self.bindings.iter().map(|(row, b)| (expiry(row, b.spec.expires), ())).collect();
        self.key_expiries =
            self.idempotency.iter().map(|((p, k), r)| ((r.expires, p.clone(), k.clone()), ())).collect();
        self.node_keys = self.idempotency.keys().filter(|(principal, _)| is_of_node(principal)).count();
        self.callers = self.legs.values().filter_map(caller).map(|row| (row, ())).collect();
        self.usage = OrdMap::new();
        let callers: Vec<TenantId> = self.calls.values().map(|call| call.tenant).collect();
        for tenant in callers {
            self.use_more(tenant, |usage| &mut usage.calls);
        }
        let bound: Vec<(TenantId, NodeId)> =
            self.bindings.iter().map(|(row, binding)| (row.0, binding.spec.flow.node)).collect();
        self.held = OrdMap::new();
        for (tenant, node) in bound {
            self.use_more(tenant, |usage| &mut usage.registrations);
            self.hold_more(node);
        }
    }
}

/// A caller's leg by its Call-ID.
fn caller(leg: &LegRecord) -> Option<(String, LegId)> {
    (leg.direction == LegDirection::In).then(|| (leg.dialog.call_id.clone(), leg.id))
}

fn expiry(row: &BindingRow, expires: ClusterTime) -> (ClusterTime, TenantId, String, BindingKey) {
    (expires, row.0, row.1.clone(), row.2.clone())
}

pub(crate) fn is_of_node(principal: &Principal) -> bool {
    match principal {
        Principal::Node(_) => true,
        Principal::Token(_) => false,
    }
}
