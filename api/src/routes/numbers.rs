//! Outside numbers: the operator gives them to a tenant, the tenant says where they lead.

use std::ops::Bound;

use serde::Deserialize;
use tandem_state::config::{ConfigChange, NumberTarget};
use tandem_state::{Command, State, TenantId};
use utoipa::ToSchema;

use super::Shared;
use crate::answer::{Answer, Gone};
use crate::change::{Change, Order, carry_out};
use crate::file::{NumberFile, TargetFile};
use crate::freshness::Freshness;
use crate::page::{List, PageQuery};
use crate::problem::Problem;
use crate::query::{Path, Query};
use crate::session::Session;

/// Where a number shall lead.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NumberBody {
    /// The same as in the path, if given.
    number: Option<String>,
    /// Where its calls go.
    to: TargetFile,
}

/// A tenant's outside numbers.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/numbers", tag = "numbers",
    params(("tenant" = String, Path), PageQuery, Freshness), responses((status = 200, body = List<NumberFile>)))]
pub(crate) async fn list(
    session: Session,
    Path(tenant): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Answer<List<NumberFile>>, Problem> {
    let (tenant, _) = session.tenant(&tenant)?;
    let from = page.after::<String>()?.map_or(Bound::Unbounded, Bound::Excluded);
    let following = session.view.numbers.range((from, Bound::Unbounded));
    let following = following.filter(|(_, (owner, _))| *owner == tenant);
    let (found, next_cursor) = page.cut(following, |(number, _)| (*number).clone())?;
    let items = found.into_iter().map(|(number, (_, to))| NumberFile::of(number, to)).collect();
    Ok(session.answer(List { items, next_cursor }))
}

/// One outside number of a tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/numbers/{number}", tag = "numbers",
    params(("tenant" = String, Path), ("number" = String, Path), Freshness),
    responses((status = 200, body = NumberFile)))]
pub(crate) async fn show(
    session: Session,
    Path((tenant, number)): Path<(String, String)>,
) -> Result<Answer<NumberFile>, Problem> {
    let (tenant, _) = session.tenant(&tenant)?;
    let to = find(&session.view, tenant, &number)?;
    Ok(session.answer(NumberFile::of(&number, to)))
}

/// Gives a number to a tenant, or changes where it leads (which the tenant's own token may do too).
#[utoipa::path(put, path = "/v1/tenants/{tenant}/numbers/{number}", tag = "numbers",
    params(("tenant" = String, Path), ("number" = String, Path)), request_body = NumberBody,
    responses((status = 200, body = NumberFile)))]
pub(crate) async fn put(
    api: Shared,
    Path((tenant, number)): Path<(String, String)>,
    Change { session, key, body }: Change<NumberBody>,
) -> Result<Answer<NumberFile>, Problem> {
    let (tenant_id, _) = session.tenant(&tenant)?;
    if find(&session.view, tenant_id, &number).is_err() {
        session.operator()?;
    }
    if body.number.as_ref().is_some_and(|given| *given != number) {
        return Err(Problem::invalid("number", "number is another than in the path"));
    }
    let file = NumberFile { number, to: body.to };
    let change = ConfigChange::PutNumber { tenant, number: file.config() };
    let done = carry_out(&api, &session, key, Command::Configure { changes: vec![change] }).await?;
    Ok(Answer::ok(done.position, file))
}

/// Takes a number from a tenant.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/numbers/{number}", tag = "numbers",
    params(("tenant" = String, Path), ("number" = String, Path)),
    responses((status = 204, description = "it is free")))]
pub(crate) async fn remove(
    api: Shared,
    Path((tenant, number)): Path<(String, String)>,
    Order { session, key }: Order,
) -> Result<Gone, Problem> {
    session.tenant(&tenant)?;
    session.operator()?;
    let change = ConfigChange::RemoveNumber { tenant, number };
    let done = carry_out(&api, &session, key, Command::Configure { changes: vec![change] }).await?;
    Ok(Gone { position: done.position })
}

fn find<'a>(state: &'a State, tenant: TenantId, number: &str) -> Result<&'a NumberTarget, Problem> {
    let found = state.numbers.get(number).filter(|(owner, _)| *owner == tenant).map(|(_, to)| to);
    found.ok_or_else(|| Problem::not_found(format!("no number {number}")))
}
