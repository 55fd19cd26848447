//! Building responses to a request.

use bytes::Bytes;

use super::{BuildError, Draft};
use crate::header::Header;
use crate::message::Message;
use crate::method::Method;
use crate::status::reason_phrase;

/// Builds a response: Via, From, To, Call-ID and CSeq of the request, and its Record-Route where the response may
/// make a dialog (RFC 3261 sections 8.2.6.2 and 12.1.1).
#[derive(Clone, Debug)]
pub struct ResponseBuilder {
    draft: Draft,
    body: Bytes,
}

impl ResponseBuilder {
    /// Begins a response with the usual reason phrase. The To-tag is added when the request has none; pass `""` for
    /// a 100, which needs none.
    pub fn to(request: &Message, status: u16, to_tag: &str) -> Self {
        Self::with_reason(request, status, reason_phrase(status), to_tag)
    }

    /// The same with a reason phrase of one's own.
    pub fn with_reason(request: &Message, status: u16, reason: &str, to_tag: &str) -> Self {
        let mut draft = Draft::new(&["SIP/2.0 ", &status.to_string(), " ", reason]);
        for via in request.headers(Header::Via) {
            draft.header(Header::Via, &[via]);
        }
        if makes_dialog(request, status) {
            for route in request.headers(Header::RecordRoute) {
                draft.header(Header::RecordRoute, &[route]);
            }
        }
        draft.header(Header::From, &[request.header(Header::From).unwrap_or("")]);
        put_to(&mut draft, request, to_tag);
        draft.header(Header::CallId, &[request.call_id()]);
        draft.header(Header::CSeq, &[request.header(Header::CSeq).unwrap_or("")]);
        if let Some(time) = request.header(Header::Timestamp).filter(|_| status == 100) {
            draft.header(Header::Timestamp, &[time]);
        }
        Self { draft, body: Bytes::new() }
    }

    /// Adds any header.
    pub fn header<'n>(mut self, name: impl Into<Header<'n>>, value: &str) -> Self {
        self.draft.header(name.into(), &[value]);
        self
    }

    /// Adds a header when there is a value.
    pub fn maybe<'n>(self, name: impl Into<Header<'n>>, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    /// Sets the body and adds its Content-Type.
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.draft.header(Header::ContentType, &[content_type]);
        self.body = body.into();
        self
    }

    /// Adds Content-Length and gives the message.
    pub fn build(self) -> Result<Message, BuildError> {
        self.draft.finish(&self.body)
    }
}

fn put_to(draft: &mut Draft, request: &Message, to_tag: &str) {
    let to = request.header(Header::To).unwrap_or("");
    if to_tag.is_empty() || request.to().tag().is_some() {
        draft.header(Header::To, &[to]);
    } else {
        draft.injected |= !to_tag.bytes().all(crate::message::is_token);
        draft.header(Header::To, &[to, ";tag=", to_tag]);
    }
}

fn makes_dialog(request: &Message, status: u16) -> bool {
    let method =
        matches!(request.method(), Method::Invite | Method::Subscribe | Method::Refer | Method::Notify);
    method && (101..300).contains(&status)
}
