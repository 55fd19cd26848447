//! A phone of the tests: it knows its dialog with the switch and writes what it is told to.

use std::collections::BTreeMap;

use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_state::LegId;

/// One end of one leg.
#[derive(Debug, Clone)]
pub(super) struct Phone {
    pub(super) name: String,
    pub(super) leg: LegId,
    number: u8,
    is_caller: bool,
    cseq: u32,
    /// The To-tag of the switch, once known (caller only).
    switch_tag: Option<String>,
    /// The last request of each method that the switch sent.
    asked: BTreeMap<Method, Message>,
    /// The first INVITE of the switch.
    opened: Option<Message>,
    /// CSeq of the phone's last INVITE.
    invite_cseq: u32,
    requests: u32,
}

/// What follows a status or method in a line: `sdp`, `sdp=sendonly`, `name=value`.
#[derive(Debug, Clone, Default)]
pub(super) struct Words(pub(super) Vec<String>);

impl Words {
    pub(super) fn has(&self, word: &str) -> bool {
        self.0.iter().any(|w| w == word)
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('='))
    }

    /// Headers given as `Name:value`; an underscore stands for a blank.
    fn headers(&self) -> String {
        let headers = self.0.iter().filter_map(|w| w.split_once(':')).filter(|(name, _)| !name.contains('='));
        headers.map(|(name, value)| format!("{name}: {}\r\n", value.replace('_', " "))).collect()
    }
}

impl Phone {
    pub(super) fn new(name: &str, leg: LegId, number: u8, is_caller: bool) -> Self {
        Phone {
            name: name.to_owned(),
            leg,
            number,
            is_caller,
            cseq: 0,
            switch_tag: None,
            asked: BTreeMap::new(),
            opened: None,
            invite_cseq: 0,
            requests: 0,
        }
    }

    /// It was told to stop and rings for another leg of the switch.
    pub(super) fn rung_anew(&mut self, leg: LegId) {
        (self.leg, self.opened) = (leg, None);
    }

    pub(super) fn address(&self) -> String {
        format!("192.0.2.{}:5060", self.number)
    }

    fn user(&self) -> &str {
        self.name.get(..3).unwrap_or(&self.name)
    }

    pub(super) fn contact(&self) -> String {
        format!("sip:{}@{}", self.user(), self.address())
    }

    /// The switch sent a request or response to this phone.
    pub(super) fn hears(&mut self, message: &Message) {
        if message.is_request() {
            self.opened.get_or_insert_with(|| message.clone());
            self.asked.insert(message.method().clone(), message.clone());
        } else if let Some(tag) = message.to().tag().filter(|_| self.is_caller) {
            self.switch_tag = Some(tag.to_owned());
        }
    }

    /// A response to the last request of a method, or to the first INVITE (`of=first`).
    pub(super) fn response(&self, status: u16, words: &Words) -> Option<Message> {
        let request = match words.value("of").unwrap_or("INVITE") {
            "first" => self.opened.as_ref()?,
            method => self.asked.get(&Method::parse(method))?,
        };
        let tag = words.value("tag").map_or_else(|| format!("t{}", self.name), str::to_owned);
        let to = request.header(Header::To).unwrap_or_default();
        let to = if request.to().tag().is_some() { to.to_owned() } else { format!("{to};tag={tag}") };
        let contact = match words.value("contact") {
            Some("none") => String::new(),
            Some(other) => format!("Contact: <{other}>\r\n"),
            None => format!("Contact: <{}>\r\n", self.contact()),
        };
        let text = format!(
            "SIP/2.0 {status} {}\r\nVia: {}\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n{contact}{}{}",
            tandem_sip::status::reason_phrase(status),
            request.via_top_text(),
            request.header(Header::From).unwrap_or_default(),
            request.call_id(),
            request.header(Header::CSeq).unwrap_or_default(),
            words.headers(),
            self.body(words),
        );
        Message::parse(text.into()).ok()
    }

    /// A request of the phone in its dialog; an ACK takes the CSeq of its last INVITE.
    pub(super) fn try_request(&mut self, method: &str, words: &Words) -> Option<Message> {
        match method {
            "ACK" => {}
            _ if words.has("again") => {}
            _ => self.cseq += 1,
        }
        let cseq = match words.value("cseq") {
            Some(cseq) => cseq.parse().unwrap(),
            None if method == "ACK" => self.invite_cseq,
            None => self.cseq,
        };
        if method == "INVITE" {
            self.invite_cseq = cseq;
        }
        self.requests += 1;
        let (from, to, call_id, uri) = self.dialog();
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{}x{}\r\nFrom: {from}\r\nTo: {to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <{}>\r\n{}{}",
            self.address(),
            self.name,
            self.requests,
            words.value("contact").map_or_else(|| self.contact(), str::to_owned),
            words.headers(),
            self.body(words),
        );
        Message::parse(text.into()).ok()
    }

    fn dialog(&self) -> (String, String, String, String) {
        if let Some(invite) = self.opened.as_ref().filter(|_| !self.is_caller) {
            let own = format!("{};tag=t{}", invite.header(Header::To).unwrap(), self.name);
            let far = invite.header(Header::From).unwrap().to_owned();
            let uri = invite.contact().unwrap().uri.to_owned();
            return (own, far, invite.call_id().to_owned(), uri);
        }
        let own = format!("\"Ann\" <sip:{}@acme.example>;tag=t{}", self.user(), self.name);
        let to = self.switch_tag.as_ref().map_or(String::new(), |tag| format!(";tag={tag}"));
        (own, format!("<sip:102@acme.example>{to}"), "c1@ann".to_owned(), "sip:102@acme.example".to_owned())
    }

    fn body(&self, words: &Words) -> String {
        if let Some(text) = words.value("body") {
            let length = text.len();
            return format!("Content-Type: application/dtmf-relay\r\nContent-Length: {length}\r\n\r\n{text}");
        }
        let kind = match words.value("sdp") {
            Some(kind) => kind,
            None if words.has("sdp") => "sendrecv",
            None => return "Content-Length: 0\r\n\r\n".to_owned(),
        };
        let text = self.description(kind);
        format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{text}", text.len())
    }

    /// `sendrecv`, `sendonly`, `recvonly`, `inactive`; `nowhere` is the hold of RFC 2543; `pcmu` and `video`.
    fn description(&self, kind: &str) -> String {
        let host = if kind == "nowhere" { "0.0.0.0".into() } else { format!("192.0.2.{}", self.number) };
        let (formats, maps) = match kind {
            "pcmu" => ("0", "a=rtpmap:0 PCMU/8000\r\n"),
            _ => ("8 0", "a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"),
        };
        let direction = match kind {
            "sendonly" | "recvonly" | "inactive" => kind,
            _ => "sendrecv",
        };
        let video =
            if kind == "video" { "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n" } else { "" };
        format!(
            "v=0\r\no=phone 7 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n\
             m=audio 4000 RTP/AVP {formats}\r\n{maps}a={direction}\r\n{video}"
        )
    }
}
