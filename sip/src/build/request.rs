//! Building requests, with the two that are made from an INVITE.

use bytes::Bytes;

use super::{BuildError, Draft};
use crate::header::Header;
use crate::message::Message;
use crate::method::Method;

/// Builds a request. Headers stand in the order of the calls; CSeq carries the method by itself.
#[derive(Clone, Debug)]
pub struct RequestBuilder {
    draft: Draft,
    method: Method,
    max_forwards: bool,
    body: Bytes,
}

impl RequestBuilder {
    /// Begins with the request line.
    pub fn new(method: Method, uri: &str) -> Self {
        let mut draft = Draft::new(&[method.as_str(), " ", uri, " SIP/2.0"]);
        draft.injected |= uri.bytes().any(|b| b == b' ') || uri.is_empty();
        Self { draft, method, max_forwards: false, body: Bytes::new() }
    }

    /// Adds `Via: SIP/2.0/TRANSPORT sent-by;branch=...;rport`.
    pub fn via(mut self, transport: &str, sent_by: &str, branch: &str) -> Self {
        self.draft.header(Header::Via, &["SIP/2.0/", transport, " ", sent_by, ";branch=", branch, ";rport"]);
        self
    }

    /// Adds From, To, Call-ID and CSeq; `from` and `to` are whole header values with their tags.
    pub fn dialog_headers(mut self, from: &str, to: &str, call_id: &str, cseq: u32) -> Self {
        self.draft.header(Header::From, &[from]);
        self.draft.header(Header::To, &[to]);
        self.draft.header(Header::CallId, &[call_id]);
        self.draft.header(Header::CSeq, &[&cseq.to_string(), " ", self.method.as_str()]);
        self
    }

    /// Adds Max-Forwards; without a call it is 70.
    pub fn max_forwards(mut self, hops: u8) -> Self {
        self.draft.header(Header::MaxForwards, &[&hops.to_string()]);
        self.max_forwards = true;
        self
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
    pub fn build(mut self) -> Result<Message, BuildError> {
        if !self.max_forwards {
            self.draft.header(Header::MaxForwards, &["70"]);
        }
        self.draft.finish(&self.body)
    }
}

/// The ACK for a non-2xx final response (RFC 3261 section 17.1.1.3): the INVITE's branch, the response's To.
pub fn ack_for(invite: &Message, response: &Message) -> Result<Message, BuildError> {
    let to = response.header(Header::To).unwrap_or("");
    hop_by_hop(invite, Method::Ack, to).build()
}

/// The CANCEL of an INVITE (RFC 3261 section 9.1), with a Reason (RFC 3326) when given.
pub fn cancel_for(invite: &Message, reason: Option<&str>) -> Result<Message, BuildError> {
    let to = invite.header(Header::To).unwrap_or("");
    hop_by_hop(invite, Method::Cancel, to).maybe(Header::Reason, reason).build()
}

fn hop_by_hop(invite: &Message, method: Method, to: &str) -> RequestBuilder {
    let from = invite.header(Header::From).unwrap_or("");
    let request =
        RequestBuilder::new(method, invite.request_uri()).header(Header::Via, invite.via_top_text());
    let routes = invite.headers(Header::Route);
    let request = routes.fold(request, |request, route| request.header(Header::Route, route));
    request.dialog_headers(from, to, invite.call_id(), invite.cseq().number)
}
