//! Errors as RFC 9457 problem details: every one says what was wrong, where, and when to try again.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tandem_cluster::archive::ArchiveError;
use tandem_cluster::{ProposeError, ReadError};
use tandem_state::Refusal;
use utoipa::ToSchema;

use crate::switch::HangupError;

/// An error (RFC 9457), sent as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind, as a URI: `urn:tandem:problem:<name>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words; the same for all problems of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong this time.
    pub detail: String,
    /// The member of the request that was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Try again after so many seconds; also in `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, name: &str, title: &str, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:tandem:problem:{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            retry_after_s: None,
        }
    }

    fn at(self, field: impl Into<String>) -> Problem {
        Problem { field: Some(field.into()), ..self }
    }

    fn retry(self, after_s: u32) -> Problem {
        Problem { retry_after_s: Some(after_s), ..self }
    }

    /// 400: the request makes no sense.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", "The request can't be understood", detail)
    }

    /// 400, at a named parameter.
    pub(crate) fn bad_parameter(name: &str, detail: impl Into<String>) -> Problem {
        Problem::bad_request(detail).at(name)
    }

    /// 401: no token, or none that is known.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A valid bearer token is needed", detail)
    }

    /// 403: a known token that may not do this.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "The token may not do this", detail)
    }

    /// 404; also for things of other tenants.
    pub(crate) fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// 405.
    pub(crate) fn method_not_allowed(detail: impl Into<String>) -> Problem {
        let title = "The path doesn't take this method";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title, detail)
    }

    /// 408: the request came too slowly, or took too long.
    pub(crate) fn timeout(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "The request took too long", detail)
    }

    /// 409.
    pub(crate) fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, "conflict", "The present state doesn't allow it", detail)
    }

    /// 413.
    pub(crate) fn too_large(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too long", detail)
    }

    /// 415.
    pub(crate) fn not_json() -> Problem {
        let detail = "send the body as JSON, with Content-Type: application/json";
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "The body is not JSON",
            detail,
        )
    }

    /// 422: understood, but a value is not acceptable.
    pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Problem {
        let title = "A value is not acceptable";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, detail).at(field)
    }

    /// 422: the idempotency key belongs to another request.
    pub(crate) fn key_reused() -> Problem {
        let detail =
            "this Idempotency-Key was used with another method, path or body within the last 24 hours";
        let title = "The idempotency key belongs to another request";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", title, detail).at("Idempotency-Key")
    }

    /// 500: an error of ours; the cause is in the log.
    pub(crate) fn internal() -> Problem {
        let detail = "the node's log says more";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "An error of the node", detail)
    }

    /// 502: another node doesn't answer.
    pub(crate) fn unreachable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_GATEWAY, "unreachable", "Another node doesn't answer", detail).retry(2)
    }

    /// 503: no quorum, or too much under way.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not possible just now", detail).retry(2)
    }

    /// 504: the asked log position didn't come in time.
    pub(crate) fn behind(position: u64) -> Problem {
        let detail = format!("this node has not applied log position {position} yet");
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "behind", "The node is behind", detail).retry(1)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = self.retry_after_s;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tandem\""));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let text = refusal.to_string();
        match refusal {
            Refusal::NoTenant(_)
            | Refusal::NoExtension(_)
            | Refusal::NoNumber(_)
            | Refusal::NoBinding
            | Refusal::NoCall => Problem::not_found(text),
            Refusal::Invalid { field, why } => Problem::invalid(field, why),
            Refusal::KeyReused => Problem::key_reused(),
            Refusal::OutcomeForgotten
            | Refusal::StaleIncarnation
            | Refusal::StaleNodeEpoch { .. }
            | Refusal::StaleCallEpoch { .. }
            | Refusal::StaleRevision { .. }
            | Refusal::OutOfOrder
            | Refusal::NotInForce { .. }
            | Refusal::Exists(_)
            | Refusal::Taken { .. }
            | Refusal::LimitReached { .. }
            | Refusal::NoLease { .. }
            | Refusal::StaleAttempt { .. }
            | Refusal::LeaseRenewed { .. }
            | Refusal::TooOld { .. }
            | Refusal::StaleClusterKey { .. }
            | Refusal::Busy(_) => Problem::conflict(text),
        }
    }
}

impl From<ProposeError> for Problem {
    fn from(error: ProposeError) -> Problem {
        match error {
            ProposeError::TooLong => Problem::too_large(error.to_string()),
            ProposeError::Unknown { .. } => Problem::unavailable(
                "no quorum answered in time; the change may still be made: repeat it with the same Idempotency-Key",
            ),
            ProposeError::Overloaded | ProposeError::Stopped => Problem::unavailable(error.to_string()),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Problem {
        Problem::unavailable(error.to_string())
    }
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Problem {
        match error {
            ArchiveError::BadCursor => {
                Problem::bad_parameter("cursor", "the cursor is none that this API gave")
            }
            rebuilding @ ArchiveError::Rebuilding { .. } => Problem::unavailable(rebuilding.to_string()),
            ArchiveError::Storage(why) => {
                tracing::error!(%why, "the archive cannot be read");
                Problem::internal()
            }
        }
    }
}

impl From<HangupError> for Problem {
    fn from(error: HangupError) -> Problem {
        match error {
            HangupError::NotFound => Problem::not_found("no such call, or it has ended"),
            HangupError::Unreachable(why) => Problem::unreachable(why),
            HangupError::Overloaded => Problem::unavailable("too much is under way"),
            HangupError::Refused(why) => Problem::conflict(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_a_missing_thing_is_404_and_of_a_taken_one_409() {
        assert_eq!(Problem::from(Refusal::NoTenant("x".into())).status, 404);
        assert_eq!(Problem::from(Refusal::Taken { what: "a".into(), owner: "b".into() }).status, 409);
        assert_eq!(Problem::from(Refusal::KeyReused).status, 422);
    }

    #[test]
    fn a_503_says_when_to_come_back() {
        let response = Problem::unavailable("no quorum").into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
