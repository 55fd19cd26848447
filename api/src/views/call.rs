//! A call that is up.

use serde::{Deserialize, Serialize};
use tandem_state::{Call, LegRecord, State};
use utoipa::ToSchema;

use super::{node_name, tenant_name, word};
use crate::time::rfc3339;

/// A call that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallView {
    /// Its id.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// `trying`, `ringing`, `answered` or `held`.
    pub state: String,
    /// Who called, a bare number.
    pub from: String,
    /// Who was called, a bare number.
    pub to: String,
    /// When the INVITE came.
    #[schema(format = DateTime)]
    pub start: String,
    /// When it was answered.
    #[schema(format = DateTime)]
    pub answer: Option<String>,
    /// The node that owns it.
    pub node: String,
    /// Counts its owners.
    pub epoch: u64,
    /// Its dialogs.
    pub legs: Vec<LegView>,
}

/// One dialog of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LegView {
    /// Its id.
    pub id: String,
    /// `in` (the phone called us) or `out`.
    pub direction: String,
    /// Who is at its far end, a bare number.
    pub party: String,
    /// `udp`, `tcp`, `tls` or `ws`.
    pub transport: String,
    /// The far end's address.
    pub remote: String,
    /// Such as `PCMA/8000`; empty before an answer.
    pub codec: String,
    /// The far end has put us on hold.
    pub held: bool,
}

impl CallView {
    pub(crate) fn of(state: &State, call: &Call) -> CallView {
        CallView {
            id: call.id.to_string(),
            tenant: tenant_name(state, call.tenant),
            state: word(call.phase),
            from: call.from.number.clone(),
            to: call.to.number.clone(),
            start: rfc3339(call.start),
            answer: call.answer.map(rfc3339),
            node: node_name(state, call.owner),
            epoch: call.epoch.0,
            legs: call.legs.iter().filter_map(|id| state.legs.get(id)).map(LegView::of).collect(),
        }
    }
}

impl LegView {
    fn of(leg: &LegRecord) -> LegView {
        LegView {
            id: leg.id.to_string(),
            direction: word(leg.direction),
            party: leg.party.number.clone(),
            transport: word(leg.flow.transport),
            remote: leg.flow.remote.to_string(),
            codec: leg.media.codec.clone(),
            held: leg.held,
        }
    }
}
