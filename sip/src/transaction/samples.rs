//! Messages for the tests of the machines.

use bytes::Bytes;

use super::Peer;
use crate::build::ResponseBuilder;
use crate::message::Message;

/// A peer of the tests: a name, and whether it loses nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Phone(pub(super) &'static str, pub(super) bool);

impl Peer for Phone {
    fn is_reliable(&self) -> bool {
        self.1
    }
}

pub(super) fn request(method: &str, branch: &str) -> Message {
    let text = format!(
        "{method} sip:102@acme.example SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5062;branch={branch};rport\r\n\
         Route: <sip:edge.example;lr>\r\nMax-Forwards: 70\r\nFrom: <sip:101@acme.example>;tag=a\r\n\
         To: <sip:102@acme.example>\r\nCall-ID: c1\r\nCSeq: 7 {method}\r\nContent-Length: 0\r\n\r\n"
    );
    Message::parse(Bytes::from(text)).unwrap()
}

/// An ACK or CANCEL with the CSeq of the INVITE it belongs to.
pub(super) fn ack(branch: &str) -> Message {
    request("ACK", branch)
}

pub(super) fn response(request: &Message, status: u16) -> Message {
    ResponseBuilder::to(request, status, "b").build().unwrap()
}
