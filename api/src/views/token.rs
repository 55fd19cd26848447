//! API tokens.

use serde::{Deserialize, Serialize};
use tandem_state::{State, TokenRecord, TokenScope};
use utoipa::ToSchema;

use super::tenant_name;
use crate::time::rfc3339;

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its public name.
    pub id: String,
    /// `operator` or `tenant`.
    pub scope: String,
    /// The tenant that it is bound to.
    pub tenant: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created: String,
}

/// A new token. The secret is shown here and never again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewTokenView {
    /// Its public name.
    pub id: String,
    /// `operator` or `tenant`.
    pub scope: String,
    /// The tenant that it is bound to.
    pub tenant: Option<String>,
    /// The secret, for `Authorization: Bearer`.
    pub token: String,
}

impl TokenView {
    pub(crate) fn of(state: &State, record: &TokenRecord) -> TokenView {
        let (scope, tenant) = scope_words(state, &record.scope);
        TokenView { id: record.id.clone(), scope, tenant, created: rfc3339(record.created) }
    }
}

impl NewTokenView {
    pub(crate) fn of(state: &State, record: &TokenRecord, secret: String) -> NewTokenView {
        let (scope, tenant) = scope_words(state, &record.scope);
        NewTokenView { id: record.id.clone(), scope, tenant, token: secret }
    }
}

fn scope_words(state: &State, scope: &TokenScope) -> (String, Option<String>) {
    match scope {
        TokenScope::Operator => ("operator".to_owned(), None),
        TokenScope::Tenant(id) => ("tenant".to_owned(), Some(tenant_name(state, *id))),
    }
}
