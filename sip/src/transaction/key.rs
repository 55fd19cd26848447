//! What names a transaction (RFC 3261 sections 17.1.3 and 17.2.3).

use std::fmt;
use std::fmt::Write;
use std::sync::Arc;

use crate::message::Message;
use crate::method::Method;

/// Names a client transaction: our branch and the method.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(pub(super) Arc<str>);

/// Names a server transaction: the peer's branch and sent-by, and the method.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerKey(pub(super) Arc<str>);

/// Names a transaction of either kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// We asked.
    Client(ClientKey),
    /// We are asked.
    Server(ServerKey),
}

impl ClientKey {
    /// The transaction that this request of ours begins, or this response belongs to.
    pub fn of(message: &Message) -> Self {
        let mut text = String::new();
        write_client(&mut text, message);
        Self(text.into())
    }

    /// The branch of our Via.
    pub fn branch(&self) -> &str {
        branch_of(&self.0)
    }

    /// The request's method.
    pub fn method(&self) -> Method {
        Method::parse(self.0.split(' ').nth(1).unwrap_or(""))
    }
}

impl ServerKey {
    /// The transaction that this request begins or belongs to; for an ACK and a CANCEL see [`ServerKey::of_invite`].
    pub fn of(request: &Message) -> Self {
        let mut text = String::new();
        write_server(&mut text, request, request.method());
        Self(text.into())
    }

    /// The INVITE transaction that an ACK or a CANCEL means.
    pub fn of_invite(request: &Message) -> Self {
        let mut text = String::new();
        write_server(&mut text, request, &Method::Invite);
        Self(text.into())
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The branch in a client transaction's key.
pub(super) fn branch_of(client_key: &str) -> &str {
    client_key.rsplit(' ').next().unwrap_or("")
}

pub(super) fn write_client(text: &mut String, message: &Message) {
    write_client_as(text, message, message.method());
}

/// The transaction of this method that a message of ours, an INVITE or its CANCEL, shares its branch with.
pub(super) fn write_client_as(text: &mut String, message: &Message, method: &Method) {
    text.clear();
    text.push_str("c ");
    text.push_str(method.as_str());
    text.push(' ');
    text.push_str(message.via_top().branch.unwrap_or(""));
}

/// A branch without the magic cookie names nothing, so peers of RFC 2543 are told apart by Call-ID, CSeq, From tag and
/// the whole Via.
pub(super) fn write_server(text: &mut String, request: &Message, method: &Method) {
    text.clear();
    text.push_str("s ");
    text.push_str(method.as_str());
    let via = request.via_top();
    let written = if via.has_magic_cookie() {
        let (host, port) = (via.host, via.port.unwrap_or(5060));
        write!(text, " {host}:{port} {}", via.branch.unwrap_or(""))
    } else {
        let tag = request.from().tag().unwrap_or("");
        write!(text, " {} {} {tag} {}", request.call_id(), request.cseq().number, request.via_top_text())
    };
    written.expect("writing to a String can't fail");
}
