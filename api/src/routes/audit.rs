//! Who changed what.

use super::Shared;
use crate::answer::Answer;
use crate::freshness::Freshness;
use crate::page::{List, PageQuery};
use crate::problem::Problem;
use crate::query::Query;
use crate::session::Session;
use crate::views::AuditView;

/// Changes of configuration and tokens, newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(PageQuery, Freshness),
    responses((status = 200, body = List<AuditView>)))]
pub(crate) async fn list(
    api: Shared,
    session: Session,
    Query(page): Query<PageQuery>,
) -> Result<Answer<List<AuditView>>, Problem> {
    session.operator()?;
    let archive = api.cluster.archive();
    let (cursor, limit) = (page.cursor().map(str::to_owned), page.limit()?);
    let found = super::blocking(move || archive.audit(cursor.as_deref(), limit)).await??;
    let items = found.items.iter().map(|record| AuditView::of(&session.view, record)).collect();
    Ok(session.answer(List { items, next_cursor: found.next_cursor }))
}
