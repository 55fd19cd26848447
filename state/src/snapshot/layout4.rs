//! Layout 4, of the rules since which calls move: layout 3, then the INVITEs that began the calls.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::layout3::{Layout3, Layout3Ref};
use crate::ids::CallId;
use crate::records::Invite;
use crate::tables::State;

/// What is written.
#[derive(Serialize)]
pub(super) struct Layout4Ref<'a> {
    third: Layout3Ref<'a>,
    invites: &'a OrdMap<CallId, Invite>,
}

impl<'a> Layout4Ref<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        Layout4Ref { third: Layout3Ref::of(state), invites: &state.invites }
    }
}

/// What is read: the same fields in the same order.
#[derive(Deserialize)]
pub(super) struct Layout4 {
    third: Layout3,
    #[serde(deserialize_with = "super::bounded_map")]
    invites: OrdMap<CallId, Invite>,
}

impl Layout4 {
    /// The state, its derived tables still empty.
    pub(super) fn into_state(self) -> State {
        State { invites: self.invites, ..self.third.into_state() }
    }
}
