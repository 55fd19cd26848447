//! Layout 1, released with 0.1: every table that is not derived, in this order.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::archive::{Stream, StreamHead};
use crate::command::Principal;
use crate::config::{Extension, NumberTarget, TenantConfig};
use crate::ids::*;
use crate::records::*;
use crate::tables::{BindingRow, KeptReply, State, Window};

/// What is written.
#[derive(Serialize)]
pub(super) struct Layout1Ref<'a> {
    apply_version: u16,
    position: u64,
    time: ClusterTime,
    nodes: &'a OrdMap<NodeId, NodeRecord>,
    tokens: &'a OrdMap<String, TokenRecord>,
    tenants: &'a OrdMap<TenantId, TenantConfig>,
    last_tenant: TenantId,
    extensions: &'a OrdMap<(TenantId, String), Extension>,
    numbers: &'a OrdMap<String, (TenantId, NumberTarget)>,
    bindings: &'a OrdMap<BindingRow, Binding>,
    calls: &'a OrdMap<CallId, Call>,
    legs: &'a OrdMap<LegId, LegRecord>,
    windows: &'a OrdMap<NodeId, Window>,
    idempotency: &'a OrdMap<(Principal, String), KeptReply>,
    streams: &'a OrdMap<Stream, StreamHead>,
}

impl<'a> Layout1Ref<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        Layout1Ref {
            apply_version: state.apply_version,
            position: state.position,
            time: state.time,
            nodes: &state.nodes,
            tokens: &state.tokens,
            tenants: &state.tenants,
            last_tenant: state.last_tenant,
            extensions: &state.extensions,
            numbers: &state.numbers,
            bindings: &state.bindings,
            calls: &state.calls,
            legs: &state.legs,
            windows: &state.windows,
            idempotency: &state.idempotency,
            streams: &state.streams,
        }
    }
}

/// What is read: the same fields in the same order.
#[derive(Deserialize)]
pub(super) struct Layout1 {
    apply_version: u16,
    position: u64,
    time: ClusterTime,
    #[serde(deserialize_with = "super::bounded_map")]
    nodes: OrdMap<NodeId, NodeRecord>,
    #[serde(deserialize_with = "super::bounded_map")]
    tokens: OrdMap<String, TokenRecord>,
    #[serde(deserialize_with = "super::bounded_map")]
    tenants: OrdMap<TenantId, TenantConfig>,
    last_tenant: TenantId,
    #[serde(deserialize_with = "super::bounded_map")]
    extensions: OrdMap<(TenantId, String), Extension>,
    #[serde(deserialize_with = "super::bounded_map")]
    numbers: OrdMap<String, (TenantId, NumberTarget)>,
    #[serde(deserialize_with = "super::bounded_map")]
    bindings: OrdMap<BindingRow, Binding>,
    #[serde(deserialize_with = "super::bounded_map")]
    calls: OrdMap<CallId, Call>,
    #[serde(deserialize_with = "super::bounded_map")]
    legs: OrdMap<LegId, LegRecord>,
    #[serde(deserialize_with = "super::bounded_map")]
    windows: OrdMap<NodeId, Window>,
    #[serde(deserialize_with = "super::bounded_map")]
    idempotency: OrdMap<(Principal, String), KeptReply>,
    #[serde(deserialize_with = "super::bounded_map")]
    streams: OrdMap<Stream, StreamHead>,
}

impl Layout1 {
    /// The state, its derived tables still empty.
    pub(super) fn into_state(self) -> State {
        State {
            apply_version: self.apply_version,
            position: self.position,
            time: self.time,
            nodes: self.nodes,
            tokens: self.tokens,
            tenants: self.tenants,
            last_tenant: self.last_tenant,
            extensions: self.extensions,
            numbers: self.numbers,
            bindings: self.bindings,
            calls: self.calls,
            legs: self.legs,
            windows: self.windows,
            idempotency: self.idempotency,
            streams: self.streams,
            ..State::default()
        }
    }
}
