//! Answers that carry the log position which they show.

use axum::Json;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The header that names the log position of an answer.
pub(crate) const APPLIED: HeaderName = HeaderName::from_static("x-tandem-applied");

/// A JSON answer as of a log position.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) status: StatusCode,
    pub(crate) position: u64,
    pub(crate) body: T,
}

impl<T> Answer<T> {
    /// 200 with a body.
    pub(crate) fn ok(position: u64, body: T) -> Answer<T> {
        Answer { status: StatusCode::OK, position, body }
    }

    /// 201 with a body.
    pub(crate) fn created(position: u64, body: T) -> Answer<T> {
        Answer { status: StatusCode::CREATED, position, body }
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        (self.status, [(APPLIED, self.position.to_string())], Json(self.body)).into_response()
    }
}

/// 204: done, with nothing to show.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) position: u64,
}

impl IntoResponse for Gone {
    fn into_response(self) -> Response {
        (StatusCode::NO_CONTENT, [(APPLIED, self.position.to_string())]).into_response()
    }
}
