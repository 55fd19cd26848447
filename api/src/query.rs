//! Query strings and path segments as typed values, with problems for what can't be read.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::api::Api;
use crate::problem::Problem;

/// The query string as a value.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

/// The path's parameters as a value.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

/// Reads the query string.
pub(crate) fn parse<T: DeserializeOwned>(parts: &Parts) -> Result<T, Problem> {
    let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
    query.map(|query| query.0).map_err(|rejection| Problem::bad_request(rejection.body_text()))
}

impl<T: DeserializeOwned> FromRequestParts<Api> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _api: &Api) -> Result<Self, Problem> {
        parse(parts).map(Query)
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, api).await;
        path.map(|path| Path(path.0)).map_err(|rejection| Problem::not_found(rejection.body_text()))
    }
}
