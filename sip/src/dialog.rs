//! Dialogs (RFC 3261 section 12): plain fields that can be kept, replicated and taken over by another node.

use serde::{Deserialize, Serialize};

use crate::build::RequestBuilder;
use crate::header::Header;
use crate::message::Message;
use crate::method::Method;
use crate::uri::Uri;

/// The state of one side of a dialog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Our whole From value (To, where the peer asked first), with our tag.
    pub local: String,
    /// The peer's whole value, with its tag.
    pub remote: String,
    /// URIs of the route set as whole `<uri>` values, nearest first.
    pub route_set: Vec<String>,
    /// Where in-dialog requests go: the peer's last Contact URI.
    pub remote_target: String,
    /// The CSeq of our last request; 0 before the first.
    pub local_cseq: u32,
    /// The CSeq of the peer's last request.
    pub remote_cseq: Option<u32>,
}

/// Why no dialog came of a request or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialogError {
    /// No Contact, or one that is no address.
    #[error("no Contact to speak to")]
    NoContact,
    /// The tag that makes it a dialog is missing.
    #[error("no tag")]
    NoTag,
}

/// A request of the peer that comes with an old CSeq: answered by 500 (RFC 3261 section 12.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CSeq out of order")]
pub struct OutOfOrder;

/// Where an in-dialog request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The Request-URI.
    pub request_uri: String,
    /// The Route values, in order.
    pub routes: Vec<String>,
    /// The URI whose host is the next hop.
    pub next_hop: String,
}

impl Dialog {
    /// The answering side's dialog from the request that made it, with our To-tag (section 12.1.1).
    pub fn uas(request: &Message, local_tag: &str) -> Result<Self, DialogError> {
        let contact = request.contact().ok_or(DialogError::NoContact)?;
        let to = request.header(Header::To).unwrap_or("");
        let local = match request.to().tag() {
            Some(_) => to.to_owned(),
            None => format!("{to};tag={local_tag}"),
        };
        Ok(Self {
            call_id: request.call_id().to_owned(),
            local,
            remote: request.header(Header::From).unwrap_or("").to_owned(),
            route_set: request.values(Header::RecordRoute).map(str::to_owned).collect(),
            remote_target: contact.uri.to_owned(),
            local_cseq: 0,
            remote_cseq: Some(request.cseq().number),
        })
    }

    /// The asking side's dialog from its request and a response with a To-tag (section 12.1.2).
    pub fn uac(request: &Message, response: &Message) -> Result<Self, DialogError> {
        let contact = response.contact().ok_or(DialogError::NoContact)?;
        response.to().tag().ok_or(DialogError::NoTag)?;
        let mut route_set: Vec<String> = response.values(Header::RecordRoute).map(str::to_owned).collect();
        route_set.reverse();
        Ok(Self {
            call_id: request.call_id().to_owned(),
            local: request.header(Header::From).unwrap_or("").to_owned(),
            remote: response.header(Header::To).unwrap_or("").to_owned(),
            route_set,
            remote_target: contact.uri.to_owned(),
            local_cseq: request.cseq().number,
            remote_cseq: None,
        })
    }

    /// Our tag.
    pub fn local_tag(&self) -> &str {
        tag_of(&self.local)
    }

    /// The peer's tag; empty for a peer of RFC 2543.
    pub fn remote_tag(&self) -> &str {
        tag_of(&self.remote)
    }

    /// True when an incoming request or a response to ours belongs to this dialog (section 12.2.2).
    pub fn holds(&self, message: &Message) -> bool {
        let (from, to) = (message.from(), message.to());
        let (local, remote) = if message.is_request() { (to, from) } else { (from, to) };
        message.call_id() == self.call_id
            && local.tag().unwrap_or("") == self.local_tag()
            && remote.tag().unwrap_or("") == self.remote_tag()
    }

    /// Takes an in-dialog request of the peer: its CSeq must be above the last (ACK and CANCEL carry an old one
    /// rightly), and a target refresh moves the remote target.
    pub fn receive(&mut self, request: &Message) -> Result<(), OutOfOrder> {
        if matches!(request.method(), Method::Ack | Method::Cancel) {
            return Ok(());
        }
        let number = request.cseq().number;
        if self.remote_cseq.is_some_and(|last| number <= last) {
            return Err(OutOfOrder);
        }
        self.remote_cseq = Some(number);
        self.refresh_target(request);
        Ok(())
    }

    /// Moves the remote target to the Contact of a target refresh request of the peer, or of its 2xx to ours.
    pub fn refresh_target(&mut self, message: &Message) {
        let refreshes =
            matches!(message.method(), Method::Invite | Method::Update | Method::Subscribe | Method::Refer);
        let counts = message.status().is_none_or(|status| (200..300).contains(&status));
        if let Some(contact) = message.contact().filter(|_| refreshes && counts) {
            self.remote_target = contact.uri.to_owned();
        }
    }

    /// Request-URI, Route values and next hop of the next request (section 12.2.1.1): a strict first router takes the
    /// place of the target, which then goes last.
    pub fn target(&self) -> Target {
        let remote = self.remote_target.clone();
        let Some(first) = self.route_set.first().map(|route| route_uri(route)) else {
            return Target { next_hop: remote.clone(), request_uri: remote, routes: Vec::new() };
        };
        let loose = Uri::parse(first).is_ok_and(|uri| uri.is_loose_router());
        let next_hop = first.to_owned();
        if loose {
            return Target { request_uri: remote, routes: self.route_set.clone(), next_hop };
        }
        let mut routes: Vec<String> = self.route_set.iter().skip(1).cloned().collect();
        routes.push(format!("<{remote}>"));
        Target { request_uri: first.split('?').next().unwrap_or(first).to_owned(), routes, next_hop }
    }

    /// Begins the next request of this dialog: Request-URI, Route, From, To, Call-ID and the next CSeq. Via, Contact and
    /// body are the caller's to add.
    pub fn request(&mut self, method: Method) -> RequestBuilder {
        self.local_cseq = self.local_cseq.saturating_add(1);
        self.request_with(method, self.local_cseq)
    }

    /// Begins the ACK of a 2xx, which carries the CSeq number of its INVITE (section 13.2.2.4).
    pub fn ack(&self, invite_cseq: u32) -> RequestBuilder {
        self.request_with(Method::Ack, invite_cseq)
    }

    fn request_with(&self, method: Method, cseq: u32) -> RequestBuilder {
        let target = self.target();
        let request = RequestBuilder::new(method, &target.request_uri);
        let request = request.dialog_headers(&self.local, &self.remote, &self.call_id, cseq);
        target.routes.iter().fold(request, |request, route| request.header(Header::Route, route))
    }
}

fn tag_of(value: &str) -> &str {
    crate::name_addr::NameAddr::parse(value).ok().and_then(|addr| addr.tag()).unwrap_or("")
}

fn route_uri(route: &str) -> &str {
    crate::name_addr::NameAddr::parse(route).map_or("", |addr| addr.uri)
}

#[cfg(test)]
mod tests;
