//! How fresh a read must be: `at_least=N` waits for a log position, `consistent=true` asks the quorum for one.

use axum::http::request::Parts;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::Api;
use crate::problem::Problem;
use crate::query::parse;

/// How fresh the answer must be.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Freshness {
    /// Wait until this log position is applied here (`X-Tandem-Applied` of an earlier answer).
    #[param(value_type = Option<u64>)]
    at_least: Option<String>,
    /// `true`: include everything that was acknowledged before this request, on any node.
    #[param(value_type = Option<bool>)]
    consistent: Option<String>,
}

impl Freshness {
    /// From a request's query.
    pub(crate) fn of(parts: &Parts) -> Result<Freshness, Problem> {
        parse(parts)
    }

    /// Whether anything is asked at all.
    pub(crate) fn is_asked(&self) -> bool {
        self.at_least.is_some() || self.consistent.is_some()
    }

    /// Waits until this node's view is as fresh as asked.
    pub(crate) async fn wait(&self, api: &Api) -> Result<(), Problem> {
        let at_least = match &self.at_least {
            Some(text) => {
                text.parse().map_err(|_| Problem::bad_parameter("at_least", "not a log position"))?
            }
            None => 0,
        };
        let confirmed = match self.consistent.as_deref() {
            Some("true") => api.cluster.read_index().await?,
            Some("false") | None => 0,
            Some(_) => return Err(Problem::bad_parameter("consistent", "consistent must be true or false")),
        };
        let position = at_least.max(confirmed);
        let there = api.cluster.view().position >= position
            || api.cluster.wait_applied(position, api.limits.wait_timeout).await;
        if there { Ok(()) } else { Err(Problem::behind(position)) }
    }
}
