//! Layout 2, of the rules since which nodes hold leases: layout 1, then the leases.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::layout1::{Layout1, Layout1Ref};
use crate::ids::NodeId;
use crate::records::LeaseRecord;
use crate::tables::State;

/// What is written.
#[derive(Serialize)]
pub(super) struct Layout2Ref<'a> {
    first: Layout1Ref<'a>,
    leases: &'a OrdMap<NodeId, LeaseRecord>,
}

impl<'a> Layout2Ref<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        Layout2Ref { first: Layout1Ref::of(state), leases: &state.leases }
    }
}

/// What is read: the same fields in the same order.
#[derive(Deserialize)]
pub(super) struct Layout2 {
    first: Layout1,
    #[serde(deserialize_with = "super::bounded_map")]
    leases: OrdMap<NodeId, LeaseRecord>,
}

impl Layout2 {
    /// The state, its derived tables still empty.
    pub(super) fn into_state(self) -> State {
        State { leases: self.leases, ..self.first.into_state() }
    }
}
