//! Calls that are up: looking at them, hanging them up.

use std::ops::Bound;
use std::time::Duration;

use tandem_state::{Call, CallId, State, TenantId};

use super::Shared;
use crate::answer::{Answer, Gone};
use crate::api::Api;
use crate::audits::Writing;
use crate::change::{Order, audit};
use crate::freshness::Freshness;
use crate::page::{List, PageQuery};
use crate::problem::Problem;
use crate::query::{Path, Query};
use crate::session::Session;
use crate::views::CallView;

type Calls = Result<Answer<List<CallView>>, Problem>;

/// Calls of all tenants.
#[utoipa::path(get, path = "/v1/calls", tag = "calls", params(PageQuery, Freshness),
    responses((status = 200, body = List<CallView>)))]
pub(crate) async fn list_all(session: Session, Query(page): Query<PageQuery>) -> Calls {
    session.operator()?;
    Ok(session.answer(cut(&session.view, None, &page)?))
}

/// A tenant's calls.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/calls", tag = "calls",
    params(("tenant" = String, Path), PageQuery, Freshness), responses((status = 200, body = List<CallView>)))]
pub(crate) async fn list(
    session: Session,
    Path(tenant): Path<String>,
    Query(page): Query<PageQuery>,
) -> Calls {
    let (tenant, _) = session.tenant(&tenant)?;
    Ok(session.answer(cut(&session.view, Some(tenant), &page)?))
}

/// One call of any tenant.
#[utoipa::path(get, path = "/v1/calls/{id}", tag = "calls", params(("id" = String, Path), Freshness),
    responses((status = 200, body = CallView)))]
pub(crate) async fn show_any(session: Session, Path(id): Path<String>) -> Result<Answer<CallView>, Problem> {
    session.operator()?;
    let call = find(&session.view, None, &id)?;
    Ok(session.answer(CallView::of(&session.view, call)))
}

/// One call of a tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/calls/{id}", tag = "calls",
    params(("tenant" = String, Path), ("id" = String, Path), Freshness), responses((status = 200, body = CallView)))]
pub(crate) async fn show(
    session: Session,
    Path((tenant, id)): Path<(String, String)>,
) -> Result<Answer<CallView>, Problem> {
    let (tenant, _) = session.tenant(&tenant)?;
    let call = find(&session.view, Some(tenant), &id)?;
    Ok(session.answer(CallView::of(&session.view, call)))
}

/// Hangs up a call of any tenant. Repeating it does no harm: a call that has ended is 404.
#[utoipa::path(delete, path = "/v1/calls/{id}", tag = "calls", params(("id" = String, Path)),
    responses((status = 204, description = "its owner has the order")))]
pub(crate) async fn hangup_any(api: Shared, Path(id): Path<String>, order: Order) -> Result<Gone, Problem> {
    order.session.operator()?;
    hang_up(&api, &order.session, None, &id).await
}

/// Hangs up a call of a tenant. Repeating it does no harm: a call that has ended is 404.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/calls/{id}", tag = "calls",
    params(("tenant" = String, Path), ("id" = String, Path)),
    responses((status = 204, description = "its owner has the order")))]
pub(crate) async fn hangup(
    api: Shared,
    Path((tenant, id)): Path<(String, String)>,
    order: Order,
) -> Result<Gone, Problem> {
    let (tenant, _) = order.session.tenant(&tenant)?;
    hang_up(&api, &order.session, Some(tenant), &id).await
}

async fn hang_up(api: &Api, session: &Session, tenant: Option<TenantId>, id: &str) -> Result<Gone, Problem> {
    let call = find(&session.view, tenant, id)?.id;
    let place = api.audits.place().ok_or_else(|| {
        Problem::unavailable(
            "too many hang-ups are under way or wait to be written into the audit: is there a quorum?",
        )
    })?;
    tracing::info!(%call, token = session.token_id, "hang-up ordered");
    api.switch.hangup(call, session.principal()).await?;
    if let Some(writing) = place.done(&session.token_id, call) {
        tokio::spawn(keep_in_audit(api.clone(), session.clone(), call, writing));
    }
    Ok(Gone { position: session.view.position })
}

/// The call is ended whether or not there is a quorum. That it was is told to the log until that has it, some minutes at
/// most and no longer than this process runs: a hang-up in a longer outage is in this node's own log alone.
async fn keep_in_audit(api: Api, session: Session, call: CallId, writing: Writing) {
    for _ in 0..AUDIT_TRIES_MAX {
        match audit(&api, &session, format!("hang up call {call}")).await {
            Ok(()) => return drop(writing),
            Err(problem) => tracing::warn!(%call, ?problem, "a hang-up is not in the audit yet"),
        }
        tokio::time::sleep(AUDIT_PAUSE).await;
    }
    tracing::error!(%call, token = session.token_id, "a hang-up never came into the audit");
}

/// How often a hang-up is told to the audit ...
const AUDIT_TRIES_MAX: u32 = 60;
/// ... and how long after the try before.
const AUDIT_PAUSE: Duration = Duration::from_secs(2);

fn find<'a>(state: &'a State, tenant: Option<TenantId>, id: &str) -> Result<&'a Call, Problem> {
    let call = id.parse().ok().and_then(|id: CallId| state.calls.get(&id));
    let call = call.filter(|call| tenant.is_none_or(|tenant| call.tenant == tenant));
    call.ok_or_else(|| Problem::not_found("no such call, or it has ended"))
}

fn cut(state: &State, tenant: Option<TenantId>, page: &PageQuery) -> Result<List<CallView>, Problem> {
    let after: Option<CallId> = page.after::<String>()?.and_then(|id| id.parse().ok());
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let following = state.calls.range((from, Bound::Unbounded)).map(|(_, call)| call);
    let following = following.filter(|call| tenant.is_none_or(|tenant| call.tenant == tenant));
    let (calls, next_cursor) = page.cut(following, |call| call.id.to_string())?;
    Ok(List { items: calls.into_iter().map(|call| CallView::of(state, call)).collect(), next_cursor })
}
