//! API tokens.

use std::ops::Bound;

use serde::Deserialize;
use tandem_state::{Command, TokenScope};
use utoipa::ToSchema;

use super::Shared;
use crate::answer::{Answer, Gone};
use crate::change::{Change, Order, carry_out};
use crate::freshness::Freshness;
use crate::page::{List, PageQuery};
use crate::problem::Problem;
use crate::query::{Path, Query};
use crate::session::Session;
use crate::token;
use crate::views::{NewTokenView, TokenView};

/// What a token shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenBody {
    /// Its public name, `[a-z0-9-]`; drawn when left out.
    id: Option<String>,
    /// The tenant that it is bound to; left out, it is an operator's.
    tenant: Option<String>,
}

/// All tokens, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(PageQuery, Freshness),
    responses((status = 200, body = List<TokenView>)))]
pub(crate) async fn list(
    session: Session,
    Query(page): Query<PageQuery>,
) -> Result<Answer<List<TokenView>>, Problem> {
    session.operator()?;
    let from = page.after::<String>()?.map_or(Bound::Unbounded, Bound::Excluded);
    let following = session.view.tokens.range((from, Bound::Unbounded)).map(|(_, record)| record);
    let (found, next_cursor) = page.cut(following, |record| record.id.clone())?;
    let items = found.into_iter().map(|record| TokenView::of(&session.view, record)).collect();
    Ok(session.answer(List { items, next_cursor }))
}

/// Makes a token. Its secret is in this answer and never shown again, not even under the same Idempotency-Key.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = TokenBody,
    responses((status = 201, body = NewTokenView)))]
pub(crate) async fn create(
    api: Shared,
    Change { session, key, body }: Change<TokenBody>,
) -> Result<Answer<NewTokenView>, Problem> {
    session.operator()?;
    let scope = match &body.tenant {
        None => TokenScope::Operator,
        Some(name) => {
            let known = session.view.tenant_by_name(name);
            TokenScope::Tenant(
                known.ok_or_else(|| Problem::invalid("tenant", format!("no tenant {name}")))?.0,
            )
        }
    };
    let id = match body.id {
        Some(id) if is_id(&id) => id,
        Some(_) => return Err(Problem::invalid("id", "an id has 1 to 64 of a-z, 0-9 and -")),
        None => token::random_id().map_err(|_| Problem::internal())?,
    };
    let (secret, record) = token::generate(id, scope).map_err(|_| Problem::internal())?;
    let done = carry_out(&api, &session, key, Command::PutToken { token: record.clone() }).await?;
    let view = api.cluster.view();
    if token::find(view.tokens.values(), &secret).is_none() {
        return Err(Problem::conflict(
            "an earlier request with this Idempotency-Key made the token; its secret was shown then: \
             remove that token and make another",
        ));
    }
    Ok(Answer::created(done.position, NewTokenView::of(&view, &record, secret)))
}

/// Removes a token: it is refused from now on.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 204, description = "it is removed")))]
pub(crate) async fn remove(
    api: Shared,
    Path(id): Path<String>,
    Order { session, key }: Order,
) -> Result<Gone, Problem> {
    session.operator()?;
    if key.is_none() && !session.view.tokens.contains_key(&id) {
        return Err(Problem::not_found(format!("no token {id}")));
    }
    if id == session.token_id {
        return Err(Problem::conflict("a token can't remove itself: make another one and use that"));
    }
    let done = carry_out(&api, &session, key, Command::RemoveToken { id }).await?;
    Ok(Gone { position: done.position })
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
