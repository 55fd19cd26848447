//! What a phone does in a call, step by step: each step must go as it is asked for.

use std::net::SocketAddrV4;

use tandem_phones::digest::{Algorithm, Challenge};
use tandem_phones::leg::{Leg, Phase, ack_of_failure};
use tandem_phones::message::{Message, audio_address};

use super::line::Line;
use super::{Phone, SOON, of, word};

/// One call as this phone sees it.
pub struct Call {
    pub leg: Leg,
    /// The INVITE that made it, sent or received.
    pub invite: Message,
}

impl Phone {
    /// Calls a number and goes through the challenge: the call, whose INVITE is under way.
    pub fn call(&mut self, number: &str) -> Call {
        let uri = format!("sip:{number}@{}", self.account.domain);
        self.call_uri(&uri)
    }

    pub fn call_uri(&mut self, uri: &str) -> Call {
        let from = format!("sip:{}@{}", self.account.number, self.account.domain);
        let server = match &self.line {
            Line::Udp(_, server) => *server,
            Line::Tcp(..) => self.local,
        };
        let mut leg = Leg::calling(0, &from, &word(), uri, server);
        let invite = self.invite(&mut leg, "sendrecv");
        let mut call = Call { leg, invite };
        let challenge = self
            .next(SOON, |m| of(m, &call.invite) && m.status().is_some_and(|s| s != 100))
            .expect("an answer to INVITE");
        if !matches!(challenge.status(), Some(401 | 407)) {
            self.inbox.push_front(challenge);
            return call;
        }
        self.acknowledge_failure(&call, &challenge);
        call.leg.challenge = Challenge::of(&challenge, Algorithm::First);
        call.invite = self.invite(&mut call.leg, "sendrecv");
        call
    }

    pub(super) fn invite(&mut self, leg: &mut Leg, direction: &str) -> Message {
        let mut request = leg.request("INVITE").with("Contact", &self.contact());
        request.headers.insert(0, ("Via".into(), self.via()));
        if let Some(challenge) = &mut leg.challenge {
            let (name, value) = challenge.answer(&self.credentials(), "INVITE", &leg.target);
            request.add(name, &value);
        }
        let request = if self.offers { request.with_sdp(&self.sdp(direction)) } else { request };
        self.send(&request);
        request
    }

    pub(super) fn acknowledge_failure(&mut self, call: &Call, response: &Message) {
        let ack = ack_of_failure(response, &call.leg.target);
        self.send(&ack);
    }

    /// The next response to the call's INVITE of at least this status; a final one is acknowledged.
    #[track_caller]
    pub fn response(&mut self, call: &mut Call, at_least: u16) -> Message {
        let found = self.next(SOON, |m| of(m, &call.invite) && m.status().is_some_and(|s| s >= at_least));
        let response =
            found.unwrap_or_else(|| panic!("{}: no response of at least {at_least}", self.account.number));
        match response.status() {
            Some(200..300) => {
                call.leg.phase = Phase::Up;
                call.leg.establish(&response);
                let mut ack = call.leg.request("ACK");
                ack.headers.insert(0, ("Via".into(), self.via()));
                let ack = if self.offers { ack } else { ack.with_sdp(&self.sdp("sendrecv")) };
                self.send(&ack);
            }
            Some(300..) => self.acknowledge_failure(call, &response),
            _ => {}
        }
        response
    }

    /// The final response, which must be this one.
    #[track_caller]
    pub fn expect(&mut self, call: &mut Call, status: u16) -> Message {
        let response = self.response(call, 200);
        assert_eq!(response.status(), Some(status), "{}", response.start);
        response
    }

    /// The 200 to the call's INVITE, which is left without its ACK.
    #[track_caller]
    pub fn hears_answer(&mut self, call: &Call) -> Message {
        let found = self.next(SOON, |m| of(m, &call.invite) && m.status() == Some(200));
        found.unwrap_or_else(|| panic!("{}: no 200", self.account.number))
    }

    /// A re-INVITE with this direction; its 200.
    #[track_caller]
    pub fn renegotiate(&mut self, call: &mut Call, direction: &str) -> Message {
        let mut leg = call.leg.clone();
        call.invite = self.invite(&mut leg, direction);
        call.leg = leg;
        self.expect(call, 200)
    }

    /// Takes back the INVITE; its CANCEL must be answered 200.
    #[track_caller]
    pub fn cancel(&mut self, call: &Call) {
        let cancel = cancel_of(call);
        self.send(&cancel);
        let number = call.invite.cseq().map_or(0, |(number, _)| number);
        let answer = self.next(SOON, |m| m.status().is_some() && m.cseq() == Some((number, "CANCEL")));
        assert_eq!(answer.expect("an answer to CANCEL").status(), Some(200));
    }

    /// The next incoming call.
    #[track_caller]
    pub fn incoming(&mut self) -> Call {
        let invite = self.request("INVITE");
        let (from, tag) = (self.local, word());
        let leg = Leg::called(0, &invite, &tag, from).expect("an INVITE with Contact");
        Call { leg, invite }
    }

    /// The next incoming call, for which it says that it rings.
    #[track_caller]
    pub fn rings(&mut self) -> Call {
        let mut call = self.incoming();
        self.answer(&mut call, 180, "Ringing");
        call
    }

    /// Answers the call's INVITE; a refusal waits for its ACK (that of a 2xx is awaited when the call ends).
    #[track_caller]
    pub fn answer(&mut self, call: &mut Call, status: u16, reason: &str) {
        let described = status == 183 || (200..300).contains(&status);
        let sdp = if described { self.sdp("sendrecv") } else { String::new() };
        self.answer_as(call, status, reason, &sdp);
    }

    /// Takes a re-INVITE with this description.
    #[track_caller]
    pub fn answer_with(&mut self, call: &mut Call, sdp: &str) {
        self.answer_as(call, 200, "OK", sdp);
    }

    #[track_caller]
    fn answer_as(&mut self, call: &mut Call, status: u16, reason: &str, sdp: &str) {
        let mut response = Message::response(&call.invite, status, reason, call.leg.tag());
        if !sdp.is_empty() {
            response = response.with("Contact", &self.contact()).with_sdp(sdp);
        }
        self.respond(&call.invite, &response);
        if (200..300).contains(&status) {
            self.repeat_until_heard(response.to_bytes());
        }
        if status >= 200 {
            call.leg.phase = Phase::Up;
        }
        if status >= 300 {
            self.acknowledged(call);
        }
    }

    /// Waits for the ACK of this side's final answer.
    #[track_caller]
    pub fn acknowledged(&mut self, call: &Call) -> Message {
        let id = call.leg.call_id.clone();
        let ack = self.next(SOON, |m| m.method() == Some("ACK") && m.get("Call-ID") == Some(&id));
        ack.unwrap_or_else(|| panic!("{}: no ACK", self.account.number))
    }

    /// Takes the re-INVITE by which the node that goes on with this call says where it is now; gives that.
    #[track_caller]
    pub fn is_told(&mut self, call: &Call) -> Message {
        let mut again = self.incoming();
        assert_eq!(again.leg.call_id, call.leg.call_id, "it is told in the dialog that it has");
        again.leg = call.leg.clone();
        self.answer(&mut again, 200, "OK");
        self.acknowledged(&again);
        again.invite
    }

    /// Ends the call; the BYE must be answered 200.
    #[track_caller]
    pub fn hang_up(&mut self, call: &mut Call) {
        if !call.leg.caller {
            self.acknowledged(call);
        }
        let answer = self.bye(call);
        assert_eq!(answer.status(), Some(200), "{}", answer.start);
    }

    /// Sends BYE; the final answer to it.
    #[track_caller]
    pub fn bye(&mut self, call: &mut Call) -> Message {
        let mut bye = call.leg.request("BYE");
        bye.headers.insert(0, ("Via".into(), self.via()));
        self.send(&bye);
        let answer = self.next(SOON, |m| of(m, &bye) && m.status().is_some_and(|s| s >= 200));
        answer.expect("an answer to BYE")
    }

    /// Waits for the other side's BYE and answers it.
    #[track_caller]
    pub fn ended(&mut self, call: &Call) -> Message {
        if !call.leg.caller {
            self.acknowledged(call);
        }
        let id = call.leg.call_id.clone();
        let bye = self.next(SOON, |m| m.method() == Some("BYE") && m.get("Call-ID") == Some(&id));
        let bye = bye.unwrap_or_else(|| panic!("{}: no BYE", self.account.number));
        self.reply(&bye, 200, "OK");
        bye
    }

    /// Answers a CANCEL and its INVITE, as RFC 3261 section 9.2 asks; gives the CANCEL.
    #[track_caller]
    pub fn cancelled(&mut self, call: &Call) -> Message {
        let cancel = self.request("CANCEL");
        assert_eq!(cancel.branch(), call.invite.branch());
        self.reply(&cancel, 200, "OK");
        self.refuse_cancelled(call);
        cancel
    }

    /// Ends the INVITE of a call whose CANCEL was already seen.
    pub fn refuse_cancelled(&mut self, call: &Call) {
        let terminated = Message::response(&call.invite, 487, "Request Terminated", call.leg.tag());
        self.respond(&call.invite, &terminated);
    }
}

impl Call {
    /// Where the other side wants this phone's sound, by the description of a message.
    pub fn audio_of(message: &Message) -> SocketAddrV4 {
        audio_address(&message.body).expect("a description with audio")
    }
}

pub(super) fn cancel_of(call: &Call) -> Message {
    let mut cancel = Message::request("CANCEL", &call.leg.target);
    for name in ["Via", "Max-Forwards", "From", "To", "Call-ID"] {
        cancel.add(name, call.invite.get(name).unwrap_or_default());
    }
    let number = call.invite.cseq().map_or(0, |(number, _)| number);
    cancel.with("CSeq", &format!("{number} CANCEL"))
}
