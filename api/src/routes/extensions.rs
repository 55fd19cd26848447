//! A tenant's extensions.

use std::ops::Bound;

use serde::Deserialize;
use tandem_state::Command;
use tandem_state::config::{ConfigChange, Digests, Extension};
use utoipa::ToSchema;

use super::Shared;
use crate::answer::{Answer, Gone};
use crate::change::{Change, Order, carry_out};
use crate::file::{DigestFile, Secret, digests};
use crate::freshness::Freshness;
use crate::page::{List, PageQuery};
use crate::problem::Problem;
use crate::query::{Path, Query};
use crate::session::Session;
use crate::views::ExtensionView;

/// What an extension shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExtensionBody {
    /// The same as in the path, if given.
    number: Option<String>,
    /// Shown name.
    #[serde(default)]
    name: String,
    /// Left out, an existing extension keeps its own.
    password: Option<Secret>,
    /// What stands in for the password.
    password_digest: Option<DigestFile>,
    /// E.164 shown outside, empty when none.
    #[serde(default)]
    caller_id: String,
}

/// A tenant's extensions.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/extensions", tag = "extensions",
    params(("tenant" = String, Path), PageQuery, Freshness), responses((status = 200, body = List<ExtensionView>)))]
pub(crate) async fn list(
    session: Session,
    Path(tenant): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Answer<List<ExtensionView>>, Problem> {
    let (tenant, _) = session.tenant(&tenant)?;
    let from = match page.after::<String>()? {
        Some(number) => Bound::Excluded((tenant, number)),
        None => Bound::Included((tenant, String::new())),
    };
    let following = session.view.extensions.range((from, Bound::Unbounded));
    let following = following.take_while(|((of, _), _)| *of == tenant).map(|(_, extension)| extension);
    let (found, next_cursor) = page.cut(following, |extension| extension.number.clone())?;
    let items =
        found.into_iter().map(|extension| ExtensionView::of(&session.view, tenant, extension)).collect();
    Ok(session.answer(List { items, next_cursor }))
}

/// One extension.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/extensions/{number}", tag = "extensions",
    params(("tenant" = String, Path), ("number" = String, Path), Freshness),
    responses((status = 200, body = ExtensionView)))]
pub(crate) async fn show(
    session: Session,
    Path((tenant, number)): Path<(String, String)>,
) -> Result<Answer<ExtensionView>, Problem> {
    let (tenant, _) = session.tenant(&tenant)?;
    let extension = session.view.extension(tenant, &number);
    let extension = extension.ok_or_else(|| Problem::not_found(format!("no extension {number}")))?;
    Ok(session.answer(ExtensionView::of(&session.view, tenant, extension)))
}

/// Makes or replaces an extension. A changed password ends its registrations.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/extensions/{number}", tag = "extensions",
    params(("tenant" = String, Path), ("number" = String, Path)), request_body = ExtensionBody,
    responses((status = 200, body = ExtensionView)))]
pub(crate) async fn put(
    api: Shared,
    Path((tenant, number)): Path<(String, String)>,
    Change { session, key, body }: Change<ExtensionBody>,
) -> Result<Answer<ExtensionView>, Problem> {
    let (tenant_id, config) = session.tenant(&tenant)?;
    if body.number.as_ref().is_some_and(|given| *given != number) {
        return Err(Problem::invalid("number", "number is another than in the path"));
    }
    let kept = session.view.extension(tenant_id, &number).map(|extension| extension.secret.clone());
    let secret = body.secret(&number, &config.domain).or(kept);
    let secret = secret.ok_or_else(|| Problem::invalid("password", "a new extension needs a password"))?;
    let extension = Extension { number, name: body.name, secret, caller_id: body.caller_id };
    let change = ConfigChange::PutExtension { tenant, extension: extension.clone() };
    let done = carry_out(&api, &session, key, Command::Configure { changes: vec![change] }).await?;
    Ok(Answer::ok(done.position, ExtensionView::of(&api.cluster.view(), tenant_id, &extension)))
}

/// Removes an extension with its registrations.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/extensions/{number}", tag = "extensions",
    params(("tenant" = String, Path), ("number" = String, Path)),
    responses((status = 204, description = "it is removed")))]
pub(crate) async fn remove(
    api: Shared,
    Path((tenant, number)): Path<(String, String)>,
    Order { session, key }: Order,
) -> Result<Gone, Problem> {
    session.tenant(&tenant)?;
    let change = ConfigChange::RemoveExtension { tenant, number };
    let done = carry_out(&api, &session, key, Command::Configure { changes: vec![change] }).await?;
    Ok(Gone { position: done.position })
}

impl ExtensionBody {
    fn secret(&self, number: &str, domain: &str) -> Option<Digests> {
        let hashed = self.password.as_ref().map(|password| digests(number, domain, &password.0));
        let given = || self.password_digest.clone().map(|DigestFile { md5, sha256 }| Digests { md5, sha256 });
        hashed.or_else(given)
    }
}
