//! The tables. Cloning a [`State`] is O(1) (structural sharing), so readers get immutable snapshots.

mod derived;

pub(crate) use derived::is_of_node;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::archive::{Stream, StreamHead};
use crate::config::{Extension, NumberTarget, TenantConfig};
use crate::ids::*;
use crate::outcome::Outcome;
use crate::records::*;

/// The key of a binding's row.
pub type BindingRow = (TenantId, String, BindingKey);

/// The rules that hold in a new cluster.
pub const FIRST_APPLY_VERSION: u16 = 1;
/// The rules since which nodes hold leases.
pub const LEASES_APPLY_VERSION: u16 = 2;
/// The rules since which renewals say how far a node's disk is, the cluster key can be changed, CDRs of lost nodes can be taken
/// over, keys of nodes are bounded by themselves, and no release starts that can't follow the rules in force.
pub const THIRD_APPLY_VERSION: u16 = 3;
/// The rules since which answered calls of a lost node go on at another one.
pub const MOVES_APPLY_VERSION: u16 = 4;
/// The rules since which the log says that a node is fenced, and that it returned.
pub const FENCES_APPLY_VERSION: u16 = 5;
/// The rules since which a call waits for a node when the last one is lost, and goes on at one that is being emptied rather
/// than at none.
pub const WAITS_APPLY_VERSION: u16 = 6;
/// The newest rules of this release.
pub const NEWEST_APPLY_VERSION: u16 = WAITS_APPLY_VERSION;

/// Everything that the cluster agrees on, as of one log position.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub bindings: OrdMap<BindingRow, Binding>,
    /// Calls that are up.
    pub calls: OrdMap<CallId, Call>,
    /// Their legs.
    pub legs: OrdMap<LegId, LegRecord>,
    /// Outcomes per node, so that a retried command applies once.
    pub windows: OrdMap<NodeId, Window>,
    /// Idempotency keys: of API clients for 24 h, of nodes for ten minutes (third rules).
    pub idempotency: OrdMap<(crate::Principal, String), KeptReply>,
    /// Heads of the archive's streams.
    pub streams: OrdMap<Stream, StreamHead>,
    /// One for each node, once leases are in force.
    pub leases: OrdMap<NodeId, LeaseRecord>,
    /// How far each node's disk was, by its own word.
    pub marks: OrdMap<NodeId, Mark>,
    /// Which cluster key seals; `None`: the one that `init` made. The keys themselves are never in the state.
    pub cluster_key: Option<KeyId>,
    /// What began each call, where its owner gave it.
    pub invites: OrdMap<CallId, Invite>,
    /// Nodes that are to be emptied.
    pub draining: OrdMap<NodeId, ()>,
    /// Derived, not in snapshots: tenant by domain.
    pub by_domain: OrdMap<String, TenantId>,
    /// Derived: tenant by name.
    pub by_name: OrdMap<String, TenantId>,
    /// Derived: how many calls and bindings each tenant has, for its limits.
    pub usage: OrdMap<TenantId, Usage>,
    /// Derived: how many bindings have their flow at each node.
    pub held: OrdMap<NodeId, u32>,
    /// Derived: callers' legs by the Call-ID of their INVITEs.
    pub callers: OrdMap<(String, LegId), ()>,
    /// Derived: bindings by coarse expiry, for `Tick`.
    pub expiries: OrdMap<(ClusterTime, TenantId, String, BindingKey), ()>,
    /// Derived: idempotency keys by expiry, for `Tick`.
    pub key_expiries: OrdMap<(ClusterTime, crate::Principal, String), ()>,
    /// Derived: how many of the idempotency keys are of nodes.
    pub node_keys: usize,
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
    #[serde(deserialize_with = "crate::snapshot::bounded_map")]
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

impl Default for State {
    /// An empty cluster, before its first log entry.
    fn default() -> Self {
        State {
            apply_version: FIRST_APPLY_VERSION,
            position: 0,
            time: ClusterTime::default(),
            nodes: OrdMap::new(),
            tokens: OrdMap::new(),
            tenants: OrdMap::new(),
            last_tenant: TenantId::default(),
            extensions: OrdMap::new(),
            numbers: OrdMap::new(),
            bindings: OrdMap::new(),
            calls: OrdMap::new(),
            legs: OrdMap::new(),
            windows: OrdMap::new(),
            idempotency: OrdMap::new(),
            streams: OrdMap::new(),
            leases: OrdMap::new(),
            marks: OrdMap::new(),
            cluster_key: None,
            invites: OrdMap::new(),
            draining: OrdMap::new(),
            by_domain: OrdMap::new(),
            by_name: OrdMap::new(),
            usage: OrdMap::new(),
            held: OrdMap::new(),
            callers: OrdMap::new(),
            expiries: OrdMap::new(),
            key_expiries: OrdMap::new(),
            node_keys: 0,
        }
    }
}

impl State {
    /// Whether this release knows the rules in force. One that does not would come to another state than the others.
    pub fn knows_its_rules(&self) -> bool {
        self.apply_version <= NEWEST_APPLY_VERSION
    }

    /// Whether nodes act under leases. Before that a node counts as holding its own.
    pub fn has_leases(&self) -> bool {
        self.apply_version >= LEASES_APPLY_VERSION
    }

    /// Whether renewals carry marks, the cluster key can be changed, keys of nodes are bounded by themselves, and a node may
    /// be too old to start.
    pub fn has_marks(&self) -> bool {
        self.apply_version >= THIRD_APPLY_VERSION
    }

    /// Whether answered calls of a lost node go on at another one.
    pub fn moves_calls(&self) -> bool {
        self.apply_version >= MOVES_APPLY_VERSION
    }

    /// Whether it is told that a node is fenced, and that it returned.
    pub fn tells_fences(&self) -> bool {
        self.apply_version >= FENCES_APPLY_VERSION
    }

    /// Whether calls wait for a node when the last one is lost.
    pub fn lets_calls_wait(&self) -> bool {
        self.apply_version >= WAITS_APPLY_VERSION
    }

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

    /// The extensions of a tenant, in the order of their numbers.
    pub fn extensions_of(&self, tenant: TenantId) -> impl Iterator<Item = &Extension> {
        let rows = self.extensions.range((tenant, String::new())..);
        rows.take_while(move |((t, _), _)| *t == tenant).map(|(_, extension)| extension)
    }

    /// The token whose SHA-256 this is.
    pub fn token_by_hash(&self, hash: &[u8; 32]) -> Option<&TokenRecord> {
        self.tokens.values().find(|token| token.hash == *hash)
    }

    /// How many rows its larger tables have together.
    pub(crate) fn rows(&self) -> usize {
        let outcomes: usize = self.windows.values().map(|window| window.outcomes.len()).sum();
        self.extensions.len() + self.numbers.len() + self.bindings.len() + self.calls.len() + outcomes
    }

    /// Whether a node's lease has ended. Before leases nobody knows that of a node.
    pub fn is_down(&self, node: NodeId) -> bool {
        self.has_leases() && !self.leases.get(&node).is_some_and(|lease| lease.stands)
    }

    /// The call that a leg is of.
    pub fn call_of(&self, leg: LegId) -> Option<&Call> {
        self.calls.get(&self.legs.get(&leg)?.call)
    }

    /// The calls that began with an INVITE of this Call-ID: hardly ever more than one.
    pub fn calls_from(&self, call_id: &str) -> impl Iterator<Item = &Call> {
        let from = (call_id.to_owned(), LegId(0));
        let legs = self.callers.range(from..).take_while(move |((id, _), ())| id == call_id);
        legs.filter_map(|((_, leg), ())| self.call_of(*leg))
    }

    /// How many bindings have their flow at a node.
    pub fn held_by(&self, node: NodeId) -> u32 {
        self.held.get(&node).copied().unwrap_or(0)
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
