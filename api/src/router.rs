//! Which path leads to which handler; what is common to all of them; the OpenAPI document of exactly these routes.

use std::sync::LazyLock;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContactBuilder, Content, InfoBuilder, OpenApi, Ref, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Api;
use crate::problem::Problem;
use crate::routes::{
    audit, backup, calls, cdrs, cluster, config, events, extensions, health, members, numbers, registrations,
    salvage, tenants, tokens,
};

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| described(documented().split_for_parts().1));

/// The OpenAPI 3.1 document of this API.
pub fn openapi() -> &'static OpenApi {
    &DOCUMENT
}

/// All routes with what is common to them.
pub(crate) fn router(api: Api) -> Router {
    let common = ServiceBuilder::new()
        .layer(axum::middleware::from_fn(crate::metrics::measure))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(HandleErrorLayer::new(late))
        .timeout(api.limits.request_timeout);
    documented()
        .split_for_parts()
        .0
        .fallback(|uri: Uri| async move { Problem::not_found(format!("no path {}", uri.path())) })
        .method_not_allowed_fallback(|method: Method| async move {
            Problem::method_not_allowed(format!("{method} is not possible here; Allow says what is"))
        })
        .layer(common)
        .with_state(api)
}

fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(cluster::status))
        .routes(routes!(cluster::hash))
        .routes(routes!(cluster::checkup))
        .routes(routes!(salvage::salvage))
        .routes(routes!(backup::backup))
        .routes(routes!(cluster::invite))
        .routes(routes!(cluster::rotate_key))
        .routes(routes!(members::remove))
        .routes(routes!(members::promote))
        .routes(routes!(members::lead))
        .routes(routes!(members::drain))
        .routes(routes!(members::undrain))
        .routes(routes!(config::export, config::apply))
        .routes(routes!(tenants::list))
        .routes(routes!(tenants::show, tenants::put, tenants::remove))
        .routes(routes!(extensions::list))
        .routes(routes!(extensions::show, extensions::put, extensions::remove))
        .routes(routes!(numbers::list))
        .routes(routes!(numbers::show, numbers::put, numbers::remove))
        .routes(routes!(calls::list_all))
        .routes(routes!(calls::show_any, calls::hangup_any))
        .routes(routes!(calls::list))
        .routes(routes!(calls::show, calls::hangup))
        .routes(routes!(registrations::list_all))
        .routes(routes!(registrations::list))
        .routes(routes!(cdrs::list_all))
        .routes(routes!(cdrs::list))
        .routes(routes!(events::stream_all))
        .routes(routes!(events::stream))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::remove))
        .routes(routes!(audit::list))
        .routes(routes!(document))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "health", security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
async fn document() -> Response {
    axum::Json(openapi()).into_response()
}

/// Adds what all operations share: the token, and problems.
fn described(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("Tandem")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A multi-tenant telephone switch. Any node answers; X-Tandem-Applied names the log position.",
        ))
        .contact(Some(ContactBuilder::new().name(Some("The operator of this cluster")).build()))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    let (name, schema) =
        (<Problem as utoipa::ToSchema>::name(), <Problem as utoipa::PartialSchema>::schema());
    components.schemas.insert(name.into_owned(), schema);
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    let problem =
        ResponseBuilder::new().description("a problem").content("application/problem+json", content).build();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), problem.clone().into());
        }
    }
    document
}

async fn late(_: tower::BoxError) -> Problem {
    Problem::timeout("the request was not answered in time; a change may still be made")
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    metrics::counter!("tandem_api_panics_total").increment(1);
    tracing::error!("a handler of the API panicked");
    Problem::internal().into_response()
}
