//! Call detail records.

use serde::Deserialize;
use tandem_cluster::archive::CdrQuery;
use tandem_state::{ClusterTime, TenantId};
use utoipa::IntoParams;

use super::Shared;
use crate::answer::Answer;
use crate::api::Api;
use crate::freshness::Freshness;
use crate::page::{List, PageQuery};
use crate::problem::Problem;
use crate::query::{Path, Query};
use crate::session::Session;
use crate::time::parse_rfc3339;
use crate::views::CdrView;

type Cdrs = Result<Answer<List<CdrView>>, Problem>;

/// Which CDRs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Span {
    /// Begun at this time or later (RFC 3339).
    #[param(format = DateTime)]
    since: Option<String>,
    /// Begun before this time (RFC 3339).
    #[param(format = DateTime)]
    until: Option<String>,
}

/// CDRs of all tenants, newest first.
#[utoipa::path(get, path = "/v1/cdrs", tag = "cdrs", params(Span, PageQuery, Freshness),
    responses((status = 200, body = List<CdrView>)))]
pub(crate) async fn list_all(
    api: Shared,
    session: Session,
    Query(span): Query<Span>,
    Query(page): Query<PageQuery>,
) -> Cdrs {
    session.operator()?;
    read(&api, &session, None, &span, &page).await
}

/// A tenant's CDRs, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/cdrs", tag = "cdrs",
    params(("tenant" = String, Path), Span, PageQuery, Freshness), responses((status = 200, body = List<CdrView>)))]
pub(crate) async fn list(
    api: Shared,
    session: Session,
    Path(tenant): Path<String>,
    Query(span): Query<Span>,
    Query(page): Query<PageQuery>,
) -> Cdrs {
    let (tenant, _) = session.tenant(&tenant)?;
    read(&api, &session, Some(tenant), &span, &page).await
}

async fn read(api: &Api, session: &Session, tenant: Option<TenantId>, span: &Span, page: &PageQuery) -> Cdrs {
    let query = CdrQuery {
        tenant,
        since: moment("since", span.since.as_deref())?,
        until: moment("until", span.until.as_deref())?,
        cursor: page.cursor().map(str::to_owned),
        limit: page.limit()?,
    };
    let archive = api.cluster.archive();
    let found = super::blocking(move || archive.cdrs(&query)).await??;
    let items = found.items.iter().map(|cdr| CdrView::of(&session.view, cdr)).collect();
    Ok(session.answer(List { items, next_cursor: found.next_cursor }))
}

fn moment(name: &str, text: Option<&str>) -> Result<Option<ClusterTime>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let time = parse_rfc3339(text);
    let wrong = || Problem::bad_parameter(name, "not an RFC 3339 time such as 2026-11-22T13:00:00Z");
    time.map(Some).ok_or_else(wrong)
}
