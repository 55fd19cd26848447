//! One phone's half of a call: the dialog (RFC 3261 section 12) as strings, and the requests made in it.

use crate::digest::Challenge;
use crate::message::{Message, address_of, tag_of, uri_of};
use std::net::SocketAddrV4;

/// Where a leg is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// INVITE sent or received, not answered.
    Early,
    /// Answered.
    Up,
    /// We sent BYE.
    Ending,
    /// Ended.
    Over,
}

/// The dialog of one phone.
#[derive(Debug, Clone)]
pub struct Leg {
    /// Which pair of a load run it belongs to.
    pub pair: usize,
    /// Whether it placed the call.
    pub caller: bool,
    /// Where it is in its life.
    pub phase: Phase,
    /// The dialog's Call-ID.
    pub call_id: String,
    /// From of our requests, tag included.
    pub local: String,
    /// To of our requests, tag included once known.
    pub remote: String,
    /// Request-URI of requests in the dialog.
    pub target: String,
    routes: Vec<String>,
    outbound: SocketAddrV4,
    /// The number of its last request.
    pub cseq: u32,
    /// The INVITE received, for its answer.
    pub invite: Option<Message>,
    /// The ACK sent, to repeat it.
    pub ack: Option<(Vec<u8>, SocketAddrV4)>,
    /// The 200 sent and not yet acknowledged, and how often it was sent.
    pub unacknowledged: Option<(Vec<u8>, SocketAddrV4, u32)>,
    /// The challenge answered last.
    pub challenge: Option<Challenge>,
}

impl Leg {
    /// A leg that calls `uri` through `outbound`.
    pub fn calling(pair: usize, from: &str, tag: &str, uri: &str, outbound: SocketAddrV4) -> Leg {
        Leg {
            pair,
            caller: true,
            phase: Phase::Early,
            call_id: format!("{tag}@phones"),
            local: format!("<{from}>;tag={tag}"),
            remote: format!("<{uri}>"),
            target: uri.to_owned(),
            routes: Vec::new(),
            outbound,
            cseq: 0,
            invite: None,
            ack: None,
            unacknowledged: None,
            challenge: None,
        }
    }

    /// A leg made by a received INVITE.
    pub fn called(pair: usize, invite: &Message, tag: &str, from: SocketAddrV4) -> Option<Leg> {
        Some(Leg {
            pair,
            caller: false,
            phase: Phase::Early,
            call_id: invite.get("Call-ID")?.to_owned(),
            local: format!("{};tag={tag}", invite.get("To")?),
            remote: invite.get("From")?.to_owned(),
            target: uri_of(invite.get("Contact")?).to_owned(),
            routes: invite.routes("Record-Route"),
            outbound: from,
            cseq: 0,
            invite: Some(invite.clone()),
            ack: None,
            unacknowledged: None,
            challenge: None,
        })
    }

    /// The tag that names this leg in requests from the other side.
    pub fn tag(&self) -> &str {
        tag_of(&self.local).unwrap_or_default()
    }

    /// Takes the other side's tag, target and route set from a 2xx.
    pub fn establish(&mut self, ok: &Message) {
        if let Some(to) = ok.get("To") {
            to.clone_into(&mut self.remote);
        }
        self.refresh(ok);
        self.routes = ok.routes("Record-Route");
        self.routes.reverse();
    }

    /// Target refresh (section 12.2.1.2).
    pub fn refresh(&mut self, message: &Message) {
        if let Some(contact) = message.get("Contact") {
            uri_of(contact).clone_into(&mut self.target);
        }
    }

    /// Where requests in the dialog go: the first route, else the target.
    pub fn next_hop(&self) -> SocketAddrV4 {
        let uri = self.routes.first().map_or(self.target.as_str(), String::as_str);
        if self.phase == Phase::Early { self.outbound } else { address_of(uri).unwrap_or(self.outbound) }
    }

    /// A request in the dialog; all but ACK take a new CSeq.
    pub fn request(&mut self, method: &str) -> Message {
        if method != "ACK" {
            self.cseq += 1;
        }
        let mut request = Message::request(method, &self.target).with("Max-Forwards", "70");
        for route in &self.routes {
            request.add("Route", route);
        }
        request
            .with("From", &self.local)
            .with("To", &self.remote)
            .with("Call-ID", &self.call_id)
            .with("CSeq", &format!("{} {method}", self.cseq))
    }
}

/// The ACK of a final response that isn't 2xx: same Via, To from the response (section 17.1.1.3).
pub fn ack_of_failure(response: &Message, uri: &str) -> Message {
    let mut ack = Message::request("ACK", uri).with("Max-Forwards", "70");
    for name in ["Via", "From", "To", "Call-ID"] {
        ack.add(name, response.get(name).unwrap_or_default());
    }
    let number = response.cseq().map_or(0, |(number, _)| number);
    ack.with("CSeq", &format!("{number} ACK"))
}
