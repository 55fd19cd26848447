//! Writes: a body, an idempotency key that is replicated, and a command whose outcome becomes the answer.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tandem_state::command::IdempotencyKey;
use tandem_state::{Command, Refusal, Reply};

use crate::api::Api;
use crate::problem::Problem;
use crate::session::Session;

/// The longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// A write with a JSON body.
#[derive(Debug)]
pub(crate) struct Change<T> {
    pub(crate) session: Session,
    pub(crate) key: Option<IdempotencyKey>,
    pub(crate) body: T,
}

/// A write whose path says it all: no body.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) session: Session,
    pub(crate) key: Option<IdempotencyKey>,
}

/// A command that was carried out.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) position: u64,
    pub(crate) reply: Reply,
}

/// Has a command carried out in the session's name.
pub(crate) async fn carry_out(
    api: &Api,
    session: &Session,
    key: Option<IdempotencyKey>,
    command: Command,
) -> Result<Done, Problem> {
    let committed = api.cluster.propose(session.principal(), key, command).await?;
    Ok(Done { position: committed.position, reply: committed.outcome? })
}

/// Writes down what was done in the session's name and changes nothing in the state; asked again about the same view, it is
/// written once.
pub(crate) async fn audit(api: &Api, session: &Session, action: String) -> Result<(), Problem> {
    let key = own_key(&format!("audit of {action} at {}", session.view.position));
    note(api, session, Some(key), action).await
}

/// A key of the API's own stands among those of the client in whose name it is: it begins with a character that no header
/// may have, so that nobody can take it first.
pub(crate) fn own_key(text: &str) -> IdempotencyKey {
    IdempotencyKey { key: format!("\u{1}{text}"), body_hash: [0; 32] }
}

/// Has an action written down. While members of a release without this command are in the cluster, as before it, it is
/// not: that is no reason to refuse the action.
pub(crate) async fn note(
    api: &Api,
    session: &Session,
    key: Option<IdempotencyKey>,
    action: String,
) -> Result<(), Problem> {
    let committed = api.cluster.propose(session.principal(), key, Command::Audit { action }).await?;
    match committed.outcome {
        Ok(_) | Err(Refusal::NotInForce { .. }) => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}

impl<T: DeserializeOwned> FromRequest<Api> for Change<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let session = Session::from_request_parts(&mut parts, api).await?;
        if !is_json(&parts.headers) {
            return Err(Problem::not_json());
        }
        let bytes = read(body, api.limits.body_bytes_max).await?;
        let key = idempotency_key(&parts, &bytes)?;
        Ok(Change { session, key, body: from_json(&bytes)? })
    }
}

impl FromRequest<Api> for Order {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let session = Session::from_request_parts(&mut parts, api).await?;
        let bytes = read(body, api.limits.body_bytes_max).await?;
        let key = idempotency_key(&parts, &bytes)?;
        Ok(Order { session, key })
    }
}

async fn read(body: Body, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(whole) => Ok(whole.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Problem::too_large(format!("a body may have {bytes_max} bytes at most")))
        }
        Err(_) => Err(Problem::bad_request("the body ended early")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::invalid("body", error.to_string()),
        serde_json::error::Category::Io
        | serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof => Problem::bad_request(format!("the body is not JSON: {error}")),
    })
}

fn idempotency_key(parts: &Parts, body: &[u8]) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(value) = parts.headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let detail = format!("an idempotency key has 1 to {KEY_BYTES_MAX} printable ASCII characters");
        return Err(Problem::bad_parameter("Idempotency-Key", detail));
    }
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let mut hash = Sha256::new();
    for part in [parts.method.as_str().as_bytes(), target.as_bytes(), body] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    Ok(Some(IdempotencyKey { key: key.to_owned(), body_hash: hash.finalize().into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, target: &str, key: &str) -> Parts {
        let request = Request::builder().method(method).uri(target).header("idempotency-key", key);
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_same_key_differs_by_method_path_and_body() {
        let hash = |method, target, body: &[u8]| {
            idempotency_key(&parts(method, target, "k"), body).unwrap().unwrap().body_hash
        };
        let first = hash("PUT", "/v1/a", b"{}");
        assert_eq!(first, hash("PUT", "/v1/a", b"{}"));
        assert_ne!(first, hash("POST", "/v1/a", b"{}"));
        assert_ne!(first, hash("PUT", "/v1/b", b"{}"));
        assert_ne!(first, hash("PUT", "/v1/a", b"{} "));
    }

    #[test]
    fn no_client_can_send_a_key_of_the_apis_own() {
        let own = own_key("hang up call 1").key;
        assert!(axum::http::HeaderValue::from_str(&own).is_err(), "{own:?} can be sent");
        let mut parts = parts("PUT", "/", "k");
        // Octets that a header may have, and its text may not.
        let odd = axum::http::HeaderValue::from_bytes(&[0x80, b'k']).unwrap();
        parts.headers.insert("idempotency-key", odd);
        assert!(idempotency_key(&parts, b"").is_err());
    }

    #[test]
    fn keys_that_are_empty_or_too_long_are_refused() {
        assert!(idempotency_key(&parts("PUT", "/", ""), b"").is_err());
        assert!(idempotency_key(&parts("PUT", "/", &"k".repeat(256)), b"").is_err());
        assert!(idempotency_key(&parts("PUT", "/", &"k".repeat(255)), b"").is_ok());
    }
}
