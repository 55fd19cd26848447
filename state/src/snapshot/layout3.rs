//! Layout 3, of the rules since which renewals carry marks: layout 2, then the marks and the cluster key's id.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::layout2::{Layout2, Layout2Ref};
use crate::ids::{KeyId, NodeId};
use crate::records::Mark;
use crate::tables::State;

/// What is written.
#[derive(Serialize)]
pub(super) struct Layout3Ref<'a> {
    second: Layout2Ref<'a>,
    marks: &'a OrdMap<NodeId, Mark>,
    cluster_key: Option<KeyId>,
}

impl<'a> Layout3Ref<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        Layout3Ref { second: Layout2Ref::of(state), marks: &state.marks, cluster_key: state.cluster_key }
    }
}

/// What is read: the same fields in the same order.
#[derive(Deserialize)]
pub(super) struct Layout3 {
    second: Layout2,
    #[serde(deserialize_with = "super::bounded_map")]
    marks: OrdMap<NodeId, Mark>,
    cluster_key: Option<KeyId>,
}

impl Layout3 {
    /// The state, its derived tables still empty.
    pub(super) fn into_state(self) -> State {
        State { marks: self.marks, cluster_key: self.cluster_key, ..self.second.into_state() }
    }
}
