//! What a phone says, as text.

use std::net::SocketAddr;

use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::status::reason_phrase;
use tandem_state::NodeId;

/// Who says it.
pub(super) struct Text {
    pub(super) number: String,
    pub(super) address: SocketAddr,
}

/// A request in a dialog.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) call_id: &'a str,
    pub(super) own: &'a str,
    pub(super) far: &'a str,
    pub(super) cseq: u32,
    pub(super) branch: u32,
    pub(super) description: Option<&'a str>,
}

impl Text {
    pub(super) fn request(&self, asked: &Asked<'_>) -> Option<Message> {
        let Asked { method, call_id, own, far, cseq, branch, description } = asked;
        let (number, address) = (&self.number, self.address);
        let text = format!(
            "{method} sip:x@acme.example SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bKp{call_id}n{branch}\r\n\
             From: {own}\r\nTo: {far}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\n\
             Contact: <sip:{number}@{address}>\r\n{}",
            body(*description),
        );
        Message::parse(text.into()).ok()
    }

    pub(super) fn response(
        &self,
        request: &Message,
        status: u16,
        description: Option<&str>,
    ) -> Option<Message> {
        let to = request.header(Header::To).unwrap_or_default();
        let (number, address) = (&self.number, self.address);
        let tag = if request.to().tag().is_some() { String::new() } else { format!(";tag=p{number}") };
        let text = format!(
            "SIP/2.0 {status} {}\r\nVia: {}\r\nFrom: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: <sip:{number}@{address}>\r\n{}",
            reason_phrase(status),
            request.via_top_text(),
            request.header(Header::From).unwrap_or_default(),
            request.call_id(),
            request.header(Header::CSeq).unwrap_or_default(),
            body(description),
        );
        Message::parse(text.into()).ok()
    }

    /// A description of its own; every now and then with the other side on hold.
    pub(super) fn description(&self, version: u32, hold: bool) -> String {
        let (ip, direction) = (self.address.ip(), if hold { "sendonly" } else { "sendrecv" });
        format!(
            "v=0\r\no=- 1 {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio 4000 RTP/AVP 8\r\na={direction}\r\n"
        )
    }
}

fn body(description: Option<&str>) -> String {
    match description {
        Some(sdp) => format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len()),
        None => "Content-Length: 0\r\n\r\n".to_owned(),
    }
}

/// The node behind an address of ours, 127.0.0.n.
fn node_of(text: &str) -> Option<NodeId> {
    let (_, rest) = text.split_once("127.0.0.")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(NodeId)
}

/// The node that a message names as Contact.
pub(super) fn contact_node(message: &Message) -> Option<NodeId> {
    node_of(message.header(Header::Contact)?)
}

/// The node that a message's description sends media to.
pub(super) fn media_node(message: &Message) -> Option<NodeId> {
    node_of(message.body_text()?.split("c=IN").nth(1)?)
}
