//! CDRs of lost nodes, brought in by `tandem salvage`.

use serde::Deserialize;
use tandem_state::tables::THIRD_APPLY_VERSION;
use tandem_state::{Cdr, Command, Refusal};
use utoipa::ToSchema;

use super::{Shared, blocking};
use crate::answer::Answer;
use crate::api::Api;
use crate::change::{Change, own_key};
use crate::problem::Problem;
use crate::session::Session;
use crate::views::SalvageView;

/// CDRs in one request.
const CDRS_MAX: usize = 256;

/// CDRs as a node stored them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Salvage {
    /// Each as hexadecimal digits of its stored form.
    cdrs: Vec<String>,
}

/// Takes over CDRs that the archive has not. Those that it has are left alone; where they differ, it says so.
#[utoipa::path(post, path = "/v1/cluster/salvage", tag = "cluster", request_body = Salvage,
    responses((status = 200, body = SalvageView)))]
pub(crate) async fn salvage(api: Shared, change: Change<Salvage>) -> Result<Answer<SalvageView>, Problem> {
    change.session.operator()?;
    if change.body.cdrs.len() > CDRS_MAX {
        return Err(Problem::invalid("cdrs", format!("at most {CDRS_MAX} at once")));
    }
    let mut told = SalvageView::default();
    for (at, text) in change.body.cdrs.iter().enumerate() {
        let cdr = tandem_cluster::cdr_of_text(text)
            .ok_or_else(|| Problem::invalid("cdrs", format!("number {at} is no stored CDR")))?;
        take_over(&api, &change.session, cdr, &mut told).await?;
    }
    Ok(Answer::ok(api.cluster.applied(), told))
}

async fn take_over(api: &Api, session: &Session, cdr: Cdr, told: &mut SalvageView) -> Result<(), Problem> {
    let archive = api.cluster.archive();
    let call = cdr.call;
    let known = blocking(move || archive.cdrs_of_call(call)).await??;
    match known.into_iter().find(|known| known.id == cdr.id) {
        Some(known) if known == cdr => told.known += 1,
        Some(_) => told.different.push(cdr.id),
        None if is_refused(session, &cdr, told)? => {}
        None => import(api, session, cdr, told).await?,
    }
    Ok(())
}

/// What the state would refuse today. It is not asked, for it would keep the refusal with the key, and the same CDR may be
/// welcome tomorrow.
fn is_refused(session: &Session, cdr: &Cdr, told: &mut SalvageView) -> Result<bool, Problem> {
    let view = &session.view;
    if !view.has_marks() {
        return Err(Refusal::NotInForce { needs: THIRD_APPLY_VERSION, current: view.apply_version }.into());
    }
    if !view.tenants.contains_key(&cdr.tenant) {
        told.of_no_tenant.push(cdr.id.clone());
        return Ok(true);
    }
    if view.calls.contains_key(&cdr.call) {
        told.different.push(cdr.id.clone());
        return Ok(true);
    }
    Ok(false)
}

async fn import(api: &Api, session: &Session, cdr: Cdr, told: &mut SalvageView) -> Result<(), Problem> {
    let id = cdr.id.clone();
    // Two who salvage the same directory at once bring it in once.
    let key = own_key(&format!("salvage {id}"));
    let committed =
        api.cluster.propose(session.principal(), Some(key), Command::Salvage { cdr: Box::new(cdr) }).await?;
    match committed.outcome {
        Ok(_) => told.imported += 1,
        Err(Refusal::NoTenant(_)) => told.of_no_tenant.push(id),
        Err(Refusal::Exists(_)) => told.different.push(id),
        Err(other) => return Err(other.into()),
    }
    Ok(())
}
