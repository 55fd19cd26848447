//! What supervisors and Prometheus ask, without a token.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use crate::answer::Answer;
use crate::problem::Problem;

/// All is well.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`
    status: &'static str,
}

/// The process is alive.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, body = Health)))]
pub(crate) async fn healthz(api: Shared) -> Answer<Health> {
    Answer::ok(api.cluster.view().position, Health { status: "ok" })
}

/// The node may take calls.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses((status = 200, body = Health)))]
pub(crate) async fn readyz(api: Shared) -> Result<Answer<Health>, Problem> {
    if api.is_stopping() {
        return Err(Problem::unavailable("the node is stopping"));
    }
    api.switch.readiness().map_err(Problem::unavailable)?;
    if !api.cluster.has_quorum() {
        return Err(Problem::unavailable("no quorum of nodes answers"));
    }
    Ok(Answer::ok(api.cluster.view().position, Health { status: "ok" }))
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", security(()),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(api: Shared) -> Response {
    crate::metrics::refresh(&api).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.prometheus.render())
        .into_response()
}
