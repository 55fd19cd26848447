//! Registrations of phones.

use std::ops::Bound;

use tandem_state::{Binding, BindingKey, TenantId};

use super::Shared;
use crate::answer::Answer;
use crate::api::Api;
use crate::freshness::Freshness;
use crate::page::{List, PageQuery};
use crate::problem::Problem;
use crate::query::{Path, Query};
use crate::session::Session;
use crate::views::RegistrationView;

type Registrations = Result<Answer<List<RegistrationView>>, Problem>;
type Place = (TenantId, String, BindingKey);

/// Registrations of all tenants.
#[utoipa::path(get, path = "/v1/registrations", tag = "registrations", params(PageQuery, Freshness),
    responses((status = 200, body = List<RegistrationView>)))]
pub(crate) async fn list_all(api: Shared, session: Session, Query(page): Query<PageQuery>) -> Registrations {
    session.operator()?;
    read(&api, &session, None, &page).await
}

/// A tenant's registrations.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/registrations", tag = "registrations",
    params(("tenant" = String, Path), PageQuery, Freshness), responses((status = 200, body = List<RegistrationView>)))]
pub(crate) async fn list(
    api: Shared,
    session: Session,
    Path(tenant): Path<String>,
    Query(page): Query<PageQuery>,
) -> Registrations {
    let (tenant, _) = session.tenant(&tenant)?;
    read(&api, &session, Some(tenant), &page).await
}

async fn read(api: &Api, session: &Session, tenant: Option<TenantId>, page: &PageQuery) -> Registrations {
    let first = || tenant.map(|tenant| (tenant, String::new(), BindingKey::Instance(String::new(), 0)));
    let from = match page.after::<Place>()? {
        Some(place) => Bound::Excluded(place),
        None => first().map_or(Bound::Unbounded, Bound::Included),
    };
    let following = session.view.bindings.range((from, Bound::Unbounded));
    let following = following.take_while(|((of, ..), _)| tenant.is_none_or(|tenant| *of == tenant));
    let (found, next_cursor) = page.cut(following, |(place, _)| (*place).clone())?;
    let members = api.liveness.members(&api.cluster).await;
    let found: Vec<Binding> = found.into_iter().map(|(_, binding)| binding.clone()).collect();
    let is_down = |binding: &Binding| members.down.contains(&binding.spec.flow.node);
    let asked = found.iter().filter(|binding| !is_down(binding)).cloned().collect();
    let mut held = api.switch.held(asked).await.into_iter();
    let show = |binding: &Binding| {
        let held = if is_down(binding) { None } else { held.next().flatten() };
        RegistrationView::of(&session.view, binding, held, is_down(binding))
    };
    let items = found.iter().map(show).collect();
    Ok(session.answer(List { items, next_cursor }))
}
