//! Who changed what.

use serde::{Deserialize, Serialize};
use tandem_state::archive::AuditRecord;
use tandem_state::{Principal, State};
use utoipa::ToSchema;

use super::node_name;
use crate::time::rfc3339;

/// A change of configuration or tokens, a hang-up or an invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// Who: `token:<id>` or `node:<name>`.
    pub principal: String,
    /// What, without secrets.
    pub action: String,
}

impl AuditView {
    pub(crate) fn of(state: &State, record: &AuditRecord) -> AuditView {
        let principal = match &record.principal {
            Principal::Node(id) => format!("node:{}", node_name(state, *id)),
            Principal::Token(id) => format!("token:{id}"),
        };
        AuditView { at: rfc3339(record.at), principal, action: record.action.clone() }
    }
}
