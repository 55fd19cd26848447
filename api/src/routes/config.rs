//! The replicated configuration as a whole: what `tandem export` and `tandem apply` use.

use serde::{Deserialize, Serialize};
use tandem_state::config::diff::{PlanError, plan};
use tandem_state::config::wanted::WantedConfig;
use tandem_state::{Command, Reply};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use crate::answer::Answer;
use crate::change::{Change, carry_out};
use crate::file::{ConfigFile, check_timezone, digests};
use crate::freshness::Freshness;
use crate::problem::Problem;
use crate::query::Query;
use crate::session::Session;

/// How to apply.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct How {
    /// Only say what would change.
    #[serde(default)]
    dry_run: bool,
    /// Remove tenants that the file doesn't name; refused while one of them has calls.
    #[serde(default)]
    prune: bool,
}

/// What a file changed, or would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AppliedView {
    /// A line each, such as `+ extension acme/101`; empty when everything was so already.
    changes: Vec<String>,
    /// Nothing was changed.
    dry_run: bool,
}

/// The configuration as an apply file, with digests for passwords.
#[utoipa::path(get, path = "/v1/config", tag = "config", params(Freshness),
    responses((status = 200, body = ConfigFile)))]
pub(crate) async fn export(session: Session) -> Result<Answer<WantedConfig>, Problem> {
    session.operator()?;
    Ok(session.answer(session.view.export_config()))
}

/// Makes the configuration look like the file, all of it or none.
#[utoipa::path(post, path = "/v1/config", tag = "config", params(How), request_body = ConfigFile,
    responses((status = 200, body = AppliedView)))]
pub(crate) async fn apply(
    api: Shared,
    Query(how): Query<How>,
    Change { session, key, body: mut wanted }: Change<WantedConfig>,
) -> Result<Answer<AppliedView>, Problem> {
    session.operator()?;
    for tenant in wanted.tenants.iter().flatten() {
        let checked = tenant.timezone.as_deref().map_or(Ok(()), check_timezone);
        checked.map_err(|why| Problem::invalid(format!("tenants.{}.timezone", tenant.name), why))?;
    }
    wanted.hash_passwords(&session.view, digests);
    let plan = plan(&wanted, &session.view, how.prune)?;
    if how.dry_run || (plan.changes.is_empty() && key.is_none()) {
        return Ok(session.answer(AppliedView { changes: plan.lines, dry_run: how.dry_run }));
    }
    let keyed = key.is_some();
    let done = carry_out(&api, &session, key, Command::Configure { changes: plan.changes }).await?;
    let changes = match done.reply {
        // Under a key the answer is the kept one, whether this was the first request or a repeated one.
        Reply::Configured(names) if keyed => names,
        Reply::Configured(_) | Reply::Done | Reply::Bound(_) | Reply::Created(_) | Reply::Ended(_) => {
            plan.lines
        }
    };
    Ok(Answer::ok(done.position, AppliedView { changes, dry_run: false }))
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Problem {
        let (PlanError::NotYet(field)
        | PlanError::Missing(field)
        | PlanError::Twice(field)
        | PlanError::NotHashed(field)) = &error;
        Problem::invalid(field.clone(), error.to_string())
    }
}
