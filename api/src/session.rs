//! Who asks, and the view of the state that the answer is made from.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use tandem_state::config::TenantConfig;
use tandem_state::{Principal, State, TenantId, TokenScope};

use crate::answer::Answer;
use crate::api::Api;
use crate::freshness::Freshness;
use crate::problem::Problem;
use crate::token;

/// A request with a valid token, and a view as fresh as it asked for.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The token's id, for audit.
    pub(crate) token_id: String,
    /// What the token may do.
    pub(crate) scope: TokenScope,
    /// What to answer from.
    pub(crate) view: Arc<State>,
}

impl Session {
    /// On whose authority commands are proposed.
    pub(crate) fn principal(&self) -> Principal {
        Principal::Token(self.token_id.clone())
    }

    /// Goes on for operators only.
    pub(crate) fn operator(&self) -> Result<(), Problem> {
        match self.scope {
            TokenScope::Operator => Ok(()),
            TokenScope::Tenant(_) => Err(Problem::forbidden("this needs an operator's token")),
        }
    }

    /// A tenant by name, if the token may see it: for others it doesn't exist.
    pub(crate) fn tenant(&self, name: &str) -> Result<(TenantId, &TenantConfig), Problem> {
        let found = self.view.tenant_by_name(name).filter(|(id, _)| self.sees(*id));
        found.ok_or_else(|| Problem::not_found(format!("no tenant {name}")))
    }

    /// Whether the token may see a tenant's things.
    pub(crate) fn sees(&self, tenant: TenantId) -> bool {
        match &self.scope {
            TokenScope::Operator => true,
            TokenScope::Tenant(own) => *own == tenant,
        }
    }

    /// An answer made from this view.
    pub(crate) fn answer<T>(&self, body: T) -> Answer<T> {
        Answer::ok(self.view.position, body)
    }
}

impl FromRequestParts<Api> for Session {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let secret = bearer(parts)?;
        let freshness = Freshness::of(parts)?;
        let known = token::find(api.cluster.view().tokens.values(), secret).is_some();
        if !known && !freshness.is_asked() {
            return Err(Problem::unauthorized("the token is not known (any more)"));
        }
        freshness.wait(api).await?;
        let view = api.cluster.view();
        let record = token::find(view.tokens.values(), secret)
            .ok_or_else(|| Problem::unauthorized("the token is not known (any more)"))?;
        let (token_id, scope) = (record.id.clone(), record.scope.clone());
        Ok(Session { token_id, scope, view })
    }
}

fn bearer(parts: &Parts) -> Result<&str, Problem> {
    let value = parts.headers.get(header::AUTHORIZATION);
    let value = value.ok_or_else(|| Problem::unauthorized("send Authorization: Bearer TOKEN"))?;
    let (scheme, secret) = value.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") && !secret.trim().is_empty() {
        Ok(secret.trim())
    } else {
        Err(Problem::unauthorized("send Authorization: Bearer TOKEN"))
    }
}
