//! A phone of one call: what it does is drawn when it is asked.

use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::status::reason_phrase;
use tandem_state::LegId;

use crate::world::random::Random;

/// One end of a call.
#[derive(Debug, Clone)]
pub(super) struct Phone {
    pub(super) leg: LegId,
    number: String,
    is_caller: bool,
    cseq: u32,
    invite_cseq: u32,
    requests: u32,
    /// The switch's INVITE.
    invite: Option<Message>,
    /// To, of the caller's dialog, with the tag of the switch.
    far: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before any answer.
    Early,
    /// It said 200 and waits for the ACK.
    Answered,
    /// In a dialog.
    Talking,
    Over,
}

/// What a phone does next, and in how many milliseconds.
#[derive(Debug, Clone)]
pub(super) enum Next {
    Respond(u64, Message),
    Ask(u64, Message),
    Acknowledge(u64, Message),
    /// It thinks again then.
    Wake(u64),
    /// It never answers the INVITE.
    Silent(u64),
}

impl Phone {
    pub(super) fn caller(leg: LegId, number: &str) -> Self {
        Self::new(leg, number, true)
    }

    pub(super) fn callee(leg: LegId, number: &str) -> Self {
        Self::new(leg, number, false)
    }

    fn new(leg: LegId, number: &str, is_caller: bool) -> Self {
        Phone {
            leg,
            number: number.to_owned(),
            is_caller,
            cseq: 0,
            invite_cseq: 0,
            requests: 0,
            invite: None,
            far: "<sip:x@acme.example>".to_owned(),
            state: State::Early,
        }
    }

    pub(super) fn first_invite(&mut self) -> Option<Message> {
        self.request("INVITE", true)
    }

    /// The switch sent something.
    pub(super) fn hears(&mut self, message: &Message, random: &mut Random) -> Vec<Next> {
        match (message.status(), message.method()) {
            (Some(status), Method::Invite) => self.invite_answered(status, message, random),
            (Some(_), _) => Vec::new(),
            (None, Method::Invite) if self.invite.is_none() => self.is_called(message, random),
            (None, Method::Invite) => self.offered(message, random),
            (None, Method::Cancel) => self.is_cancelled(random),
            (None, Method::Ack) => self.talks(random),
            (None, Method::Bye) => {
                self.state = State::Over;
                Vec::new()
            }
            (None, _) => self
                .response(message, 200, false)
                .map(|m| Next::Respond(delay(random), m))
                .into_iter()
                .collect(),
        }
    }

    fn is_called(&mut self, invite: &Message, random: &mut Random) -> Vec<Next> {
        self.invite = Some(invite.clone());
        let mut next = Vec::new();
        let is_heard = random.chance(700);
        if is_heard {
            let early = random.chance(300);
            let status = if early { 183 } else { 180 };
            next.extend(self.response(invite, status, early).map(|m| Next::Respond(delay(random), m)));
        }
        match random.between(0, 9) {
            0 => next.push(Next::Silent(random.between(600, 900))),
            1 => next.extend(self.final_response(486, random)),
            2 => next.extend(self.final_response(603, random)),
            3 if is_heard => {}
            3 => next.push(Next::Silent(random.between(600, 900))),
            _ => next.push(Next::Wake(random.between(20, 900))),
        }
        next
    }

    /// The number of the INVITE that it was rung by.
    pub(super) fn rung_cseq(&self) -> u32 {
        self.invite.as_ref().map_or(0, |invite| invite.cseq().number)
    }

    fn final_response(&mut self, status: u16, random: &mut Random) -> Option<Next> {
        let invite = self.invite.clone()?;
        self.state = State::Over;
        self.response(&invite, status, false).map(|m| Next::Respond(random.between(100, 500), m))
    }

    fn is_cancelled(&mut self, random: &mut Random) -> Vec<Next> {
        if self.state != State::Early {
            return Vec::new();
        }
        self.final_response(487, random).into_iter().collect()
    }

    /// Its time has come: it answers (again, while no ACK comes), holds or hangs up.
    pub(super) fn wakes(&mut self, random: &mut Random) -> Vec<Next> {
        match self.state {
            State::Early if !self.is_caller => {
                self.state = State::Answered;
                self.answer(random)
            }
            State::Answered => self.answer(random),
            State::Talking => {
                let method = match random.between(0, 5) {
                    0 => "INVITE",
                    1 => "INFO",
                    _ => "BYE",
                };
                if method == "BYE" {
                    self.state = State::Over;
                }
                let asked = self.request(method, method == "INVITE").map(|m| Next::Ask(delay(random), m));
                asked.into_iter().chain([Next::Wake(random.between(100, 900))]).collect()
            }
            State::Early | State::Over => Vec::new(),
        }
    }

    fn answer(&mut self, random: &mut Random) -> Vec<Next> {
        let Some(invite) = self.invite.clone() else { return Vec::new() };
        let answer = self.response(&invite, 200, true).filter(|_| random.chance(900));
        let answer = answer.map(|m| Next::Respond(delay(random), m));
        answer.into_iter().chain([Next::Wake(500)]).collect()
    }

    fn talks(&mut self, random: &mut Random) -> Vec<Next> {
        if self.state != State::Answered {
            return Vec::new();
        }
        self.state = State::Talking;
        vec![Next::Wake(random.between(100, 1_500))]
    }

    /// A re-INVITE of the switch.
    fn offered(&mut self, message: &Message, random: &mut Random) -> Vec<Next> {
        let status = match random.between(0, 9) {
            _ if self.state == State::Over => 481,
            0 => 488,
            1 => 491,
            _ => 200,
        };
        self.response(message, status, status == 200)
            .map(|m| Next::Respond(delay(random), m))
            .into_iter()
            .collect()
    }

    /// The caller hears of its INVITE, or either of its re-INVITE.
    fn invite_answered(&mut self, status: u16, message: &Message, random: &mut Random) -> Vec<Next> {
        let first = self.is_caller && message.cseq().number == 1;
        match status {
            0..=199 => Vec::new(),
            200..=299 => {
                let mut next = Vec::new();
                if first && self.state == State::Early {
                    self.far = message.header(Header::To).unwrap_or_default().to_owned();
                    self.state = State::Talking;
                    next.push(Next::Wake(random.between(100, 1_500)));
                }
                self.invite_cseq = message.cseq().number;
                let ack = self.request("ACK", false).filter(|_| random.chance(900));
                next.extend(ack.map(|m| Next::Acknowledge(delay(random), m)));
                next
            }
            _ => {
                if first && self.state == State::Early {
                    self.state = State::Over;
                }
                Vec::new()
            }
        }
    }

    fn response(&self, request: &Message, status: u16, description: bool) -> Option<Message> {
        let to = request.header(Header::To).unwrap_or_default();
        let tag = if request.to().tag().is_some() { String::new() } else { format!(";tag=p{}", self.leg) };
        let text = format!(
            "SIP/2.0 {status} {}\r\nVia: {}\r\nFrom: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: <sip:{}@192.0.2.1>\r\n{}",
            reason_phrase(status),
            request.via_top_text(),
            request.header(Header::From).unwrap_or_default(),
            request.call_id(),
            request.header(Header::CSeq).unwrap_or_default(),
            self.number,
            body(description, self.requests),
        );
        Message::parse(text.into()).ok()
    }

    fn request(&mut self, method: &str, description: bool) -> Option<Message> {
        if method != "ACK" {
            self.cseq += 1;
        }
        self.requests += 1;
        let cseq = if method == "ACK" { self.invite_cseq } else { self.cseq };
        let (own, far, call_id) = match &self.invite {
            Some(invite) => {
                let own = format!("{};tag=p{}", invite.header(Header::To).unwrap_or_default(), self.leg);
                let far = invite.header(Header::From).unwrap_or_default().to_owned();
                (own, far, invite.call_id().to_owned())
            }
            None => {
                let own = format!("<sip:{}@acme.example>;tag=p{}", self.number, self.leg);
                (own, self.far.clone(), format!("c{}", self.leg))
            }
        };
        let text = format!(
            "{method} sip:x@acme.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKp{}n{}\r\n\
             From: {own}\r\nTo: {far}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:{}@192.0.2.1>\r\n{}",
            self.leg,
            self.requests,
            self.number,
            body(description, self.requests),
        );
        Message::parse(text.into()).ok()
    }
}

pub(super) fn delay(random: &mut Random) -> u64 {
    random.between(1, 60)
}

/// Every second offer is a hold.
fn body(description: bool, nth: u32) -> String {
    if !description {
        return "Content-Length: 0\r\n\r\n".to_owned();
    }
    let direction = if nth % 2 == 1 { "sendrecv" } else { "sendonly" };
    let sdp = format!(
        "v=0\r\no=- 1 {nth} IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 4000 RTP/AVP 8\r\na={direction}\r\n"
    );
    format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len())
}
