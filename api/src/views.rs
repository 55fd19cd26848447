//! The JSON shapes, with their conversion from the state's records. Names come from the published interface.

mod audit;
mod call;
mod cdr;
mod cluster;
mod event;
mod registration;
mod tenant;
mod token;

pub use audit::AuditView;
pub use call::{CallView, LegView};
pub use cdr::{CdrView, QualityView};
pub use cluster::{
    CheckupView, ClusterKeyView, DrainView, FindingView, HashView, InvitationView, MemberView, NodeHashView,
    OtherView, SalvageView, StatusView, SurvivesView,
};
pub use event::{EventCallView, EventView, ResetView};
pub use registration::RegistrationView;
pub use tenant::{ExtensionView, TenantView, UsageView};
pub use token::{NewTokenView, TokenView};

use tandem_state::{NodeId, State, TenantId};

/// A tenant's name; one that was removed is shown by its number.
pub(crate) fn tenant_name(state: &State, id: TenantId) -> String {
    state.tenants.get(&id).map_or_else(|| format!("#{id}"), |tenant| tenant.name.clone())
}

/// A node's name; one that was removed is shown by its id.
pub(crate) fn node_name(state: &State, id: NodeId) -> String {
    state.nodes.get(&id).map_or_else(|| id.to_string(), |node| node.name.clone())
}

/// A plain enum of the state as the text that serde gives it.
pub(crate) fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(_) | Err(_) => String::new(),
    }
}
