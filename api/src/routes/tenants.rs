//! Tenants.

use std::ops::Bound;

use serde::Deserialize;
use tandem_state::config::{ConfigChange, TenantConfig};
use tandem_state::{Command, TenantId};
use utoipa::ToSchema;

use super::Shared;
use crate::answer::{Answer, Gone};
use crate::change::{Change, Order, carry_out};
use crate::file::{DialRulesFile, LimitsFile, check_timezone};
use crate::freshness::Freshness;
use crate::page::{List, PageQuery};
use crate::problem::Problem;
use crate::query::{Path, Query};
use crate::session::Session;
use crate::views::TenantView;

/// What a tenant shall be. Its extensions and numbers have paths of their own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantBody {
    /// The same as in the path, if given.
    name: Option<String>,
    /// SIP domain and realm; unique.
    domain: String,
    /// IANA name.
    timezone: Option<String>,
    /// ISO 4217.
    currency: Option<String>,
    /// What it may use; what is left out is not limited.
    #[serde(default)]
    limits: LimitsFile,
    /// How its users dial outside numbers.
    dial_rules: Option<DialRulesFile>,
}

/// The tenants that the token may see.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", params(PageQuery, Freshness),
    responses((status = 200, body = List<TenantView>)))]
pub(crate) async fn list(
    session: Session,
    Query(page): Query<PageQuery>,
) -> Result<Answer<List<TenantView>>, Problem> {
    let from = page.after::<TenantId>()?.map_or(Bound::Unbounded, Bound::Excluded);
    let following = session.view.tenants.range((from, Bound::Unbounded));
    let following = following.filter(|(id, _)| session.sees(**id));
    let (found, next_cursor) = page.cut(following, |(id, _)| **id)?;
    let items = found.into_iter().map(|(id, tenant)| TenantView::of(&session.view, *id, tenant)).collect();
    Ok(session.answer(List { items, next_cursor }))
}

/// One tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}", tag = "tenants", params(("tenant" = String, Path), Freshness),
    responses((status = 200, body = TenantView)))]
pub(crate) async fn show(
    session: Session,
    Path(tenant): Path<String>,
) -> Result<Answer<TenantView>, Problem> {
    let (id, tenant) = session.tenant(&tenant)?;
    Ok(session.answer(TenantView::of(&session.view, id, tenant)))
}

/// Makes a tenant or changes its own fields.
#[utoipa::path(put, path = "/v1/tenants/{tenant}", tag = "tenants", params(("tenant" = String, Path)),
    request_body = TenantBody, responses((status = 200, body = TenantView)))]
pub(crate) async fn put(
    api: Shared,
    Path(tenant): Path<String>,
    Change { session, key, body }: Change<TenantBody>,
) -> Result<Answer<TenantView>, Problem> {
    may_write(&session, &tenant)?;
    if body.name.as_ref().is_some_and(|given| *given != tenant) {
        return Err(Problem::invalid("name", "name is another than in the path"));
    }
    let config = body.named(tenant.clone());
    check_timezone(&config.timezone).map_err(|why| Problem::invalid("timezone", why))?;
    let change = ConfigChange::PutTenant(config);
    let done = carry_out(&api, &session, key, Command::Configure { changes: vec![change] }).await?;
    let view = api.cluster.view();
    let shown = view.tenant_by_name(&tenant).map(|(id, tenant)| TenantView::of(&view, id, tenant));
    let shown = shown.ok_or_else(|| Problem::conflict("the tenant was removed at the same time"))?;
    Ok(Answer::ok(done.position, shown))
}

/// Removes a tenant with all it has; its CDRs stay. Refused while it has calls.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}", tag = "tenants", params(("tenant" = String, Path)),
    responses((status = 204, description = "it is removed")))]
pub(crate) async fn remove(
    api: Shared,
    Path(tenant): Path<String>,
    Order { session, key }: Order,
) -> Result<Gone, Problem> {
    may_write(&session, &tenant)?;
    let change = ConfigChange::RemoveTenant { name: tenant };
    let done = carry_out(&api, &session, key, Command::Configure { changes: vec![change] }).await?;
    Ok(Gone { position: done.position })
}

/// Operators only; a tenant's token learns that of its own tenant alone.
fn may_write(session: &Session, tenant: &str) -> Result<(), Problem> {
    if session.operator().is_err() {
        session.tenant(tenant)?;
    }
    session.operator()
}

impl TenantBody {
    fn named(self, name: String) -> TenantConfig {
        let TenantBody { name: _, domain, timezone, currency, limits, dial_rules } = self;
        TenantConfig {
            name,
            domain: domain.to_ascii_lowercase(),
            timezone: timezone.unwrap_or_else(|| "UTC".to_owned()),
            currency: currency.unwrap_or_else(|| "USD".to_owned()),
            limits: limits.limits(),
            dial_rules: dial_rules.map(DialRulesFile::rules),
        }
    }
}
