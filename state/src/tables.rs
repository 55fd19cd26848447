//! The tables. Cloning a [`State`] is O(1) (structural sharing), so readers get immutable snapshots.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::archive::{Stream, StreamHead};
use crate::config::{Extension, NumberTarget, TenantConfig};
use crate::ids::*;
use crate::outcome::Outcome;
use crate::records::*;

/// Everything that the cluster agrees on, as of one log position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The rules in force.
    pub apply_version: u16,
    /// The last applied log position.
    pub position: u64,
    /// The last stamp.
    pub time: ClusterTime,
    /// Members and former members that still have calls or bindings.
    pub nodes: OrdMap<NodeId, NodeRecord>,
    /// API tokens by id.
    pub tokens: OrdMap<String, TokenRecord>,
    /// Tenants by id.
    pub tenants: OrdMap<TenantId, TenantConfig>,
    /// Ids are never used again.
    pub last_tenant: TenantId,
    /// By tenant and number.
    pub extensions: OrdMap<(TenantId, String), Extension>,
    /// Outside numbers, E.164.
    pub numbers: OrdMap<String, (TenantId, NumberTarget)>,
    /// By tenant, extension and key.
    pub bindings: OrdMap<(TenantId, String, BindingKey), Binding>,
    /// Calls that are up.
    pub calls: OrdMap<CallId, Call>,
    /// Their legs.
    pub legs: OrdMap<LegId, LegRecord>,
    /// Outcomes per node, so that a retried command applies once.
    pub windows: OrdMap<NodeId, Window>,
    /// Idempotency keys of the API, 24 h.
    pub idempotency: OrdMap<(crate::Principal, String), KeptReply>,
    /// Heads of the archive's streams.
    pub streams: OrdMap<Stream, StreamHead>,
    /// Derived, not in snapshots: tenant by domain.
    pub by_domain: OrdMap<String, TenantId>,
    /// Derived: tenant by name.
    pub by_name: OrdMap<String, TenantId>,
    /// Derived: how many calls and bindings each tenant has, for its limits.
    pub usage: OrdMap<TenantId, Usage>,
    /// Derived: bindings by coarse expiry, for `Tick`.
    pub expiries: OrdMap<(ClusterTime, TenantId, String, BindingKey), ()>,
}

/// What a tenant uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Calls up.
    pub calls: u32,
    /// Bindings.
    pub registrations: u32,
}

/// The outcomes that one node may still ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Window {
    /// The latest incarnation seen.
    pub incarnation: Incarnation,
    /// Below this nothing is kept.
    pub low_water: u64,
    /// By sequence number.
    pub outcomes: OrdMap<u64, Outcome>,
}

/// A reply kept under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptReply {
    /// SHA-256 of the request.
    pub body_hash: [u8; 32],
    /// What it was answered.
    pub outcome: Outcome,
    /// Dropped then.
    pub expires: ClusterTime,
}

impl State {
    /// The tenant of a SIP domain (in any case).
    pub fn tenant_by_domain(&self, domain: &str) -> Option<(TenantId, &TenantConfig)> {
        let id = *self.by_domain.get(&domain.to_ascii_lowercase())?;
        Some((id, self.tenants.get(&id)?))
    }

    /// The tenant of a name.
    pub fn tenant_by_name(&self, name: &str) -> Option<(TenantId, &TenantConfig)> {
        let id = *self.by_name.get(name)?;
        Some((id, self.tenants.get(&id)?))
    }

    /// An extension of a tenant.
    pub fn extension(&self, tenant: TenantId, number: &str) -> Option<&Extension> {
        self.extensions.get(&(tenant, number.to_owned()))
    }

    /// The bindings of an extension, in key order.
    pub fn bindings_of(&self, tenant: TenantId, number: &str) -> impl Iterator<Item = &Binding> {
        let from = (tenant, number.to_owned(), BindingKey::Instance(String::new(), 0));
        let number = number.to_owned();
        self.bindings
            .range(from..)
            .take_while(move |((t, n, _), _)| *t == tenant && *n == number)
            .map(|(_, binding)| binding)
    }
}
