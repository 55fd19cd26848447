//! Layout 4, of the rules since which calls move: layout 3, then the INVITEs that began the calls, and the nodes
//! that are to be emptied.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::layout3::{Layout3, Layout3Ref};
use crate::ids::{CallId, NodeId};
use crate::records::Invite;
use crate::tables::State;

/// What is written.
#[derive(Serialize)]
pub(super) struct Layout4Ref<'a> {
    third: Layout3Ref<'a>,
    invites: &'a OrdMap<CallId, Invite>,
    draining: &'a OrdMap<NodeId, ()>,
}

impl<'a> Layout4Ref<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        Layout4Ref { third: Layout3Ref::of(state), invites: &state.invites, draining: &state.draining }
    }
}

/// What is read: the same fields in the same order.
#[derive(Deserialize)]
pub(super) struct Layout4 {
    third: Layout3,
    #[serde(deserialize_with = "super::bounded_map")]
    invites: OrdMap<CallId, Invite>,
    #[serde(deserialize_with = "super::bounded_map")]
    draining: OrdMap<NodeId, ()>,
}

impl Layout4 {
    /// The state, its derived tables still empty.
    pub(super) fn into_state(self) -> State {
        State { invites: self.invites, draining: self.draining, ..self.third.into_state() }
    }
}
