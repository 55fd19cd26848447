//! A whole short call between two phones of one test, for when it may fail at any step.

use std::time::{Duration, Instant};

use tandem_phones::digest::{Algorithm, Challenge};
use tandem_phones::leg::{Leg, Phase};
use tandem_phones::message::Message;

use super::calls::{Call, cancel_of};
use super::{Phone, of, word};

impl Phone {
    /// A whole short call to another phone of the same test, for when it may fail: both answered, then ended with 200.
    pub fn try_call(&mut self, other: &mut Phone, within: Duration) -> Result<(), String> {
        // Each call is over with its BYE: who asks for it later (a successor of the node that died at its end) is told.
        (self.forgets, other.forgets) = (true, true);
        while let Some(stale) = other.next(Duration::from_millis(30), |m| m.method() == Some("INVITE")) {
            other.reply(&stale, 486, "Busy Here");
        }
        let call = self.try_until_ended(other, within);
        self.inbox.clear();
        other.inbox.clear();
        call
    }

    fn try_until_ended(&mut self, other: &mut Phone, within: Duration) -> Result<(), String> {
        let none = |what: &str| format!("no {what}");
        let is_final =
            |m: &Message, of_request: &Message| of(m, of_request) && m.status().is_some_and(|s| s >= 200);
        let uri = format!("sip:{}@{}", other.account.number, other.account.domain);
        let from = format!("sip:{}@{}", self.account.number, self.account.domain);
        let mut leg = Leg::calling(0, &from, &word(), &uri, self.local);
        let mut invite = self.invite(&mut leg, "sendrecv");
        let challenge = self.next(within, |m| is_final(m, &invite)).ok_or_else(|| none("challenge"))?;
        self.acknowledge_failure(&Call { leg: leg.clone(), invite: invite.clone() }, &challenge);
        leg.challenge = Some(Challenge::of(&challenge, Algorithm::First).ok_or(challenge.start)?);
        invite = self.invite(&mut leg, "sendrecv");
        let deadline = Instant::now() + within;
        let mut inc = loop {
            if let Some(received) = other.next(Duration::from_millis(5), |m| m.method() == Some("INVITE")) {
                let leg =
                    Leg::called(0, &received, &word(), other.local).ok_or_else(|| none("usable INVITE"))?;
                break Call { leg, invite: received };
            }
            let refusal = self.next(Duration::from_millis(5), |m| is_final(m, &invite));
            if let Some(refusal) = refusal {
                self.acknowledge_failure(&Call { leg, invite }, &refusal);
                return Err(refusal.start);
            }
            if Instant::now() > deadline {
                self.send(&cancel_of(&Call { leg, invite }));
                return Err(none("INVITE at the other phone"));
            }
        };
        let ok = Message::response(&inc.invite, 200, "OK", inc.leg.tag())
            .with("Contact", &other.contact())
            .with_sdp(&other.sdp("sendrecv"));
        other.respond(&inc.invite, &ok);
        other.repeat_until_heard(ok.to_bytes());
        inc.leg.phase = Phase::Up;
        let deadline = Instant::now() + within;
        let answer = loop {
            if let Some(answer) = self.next(Duration::from_millis(5), |m| is_final(m, &invite)) {
                break answer;
            }
            if Instant::now() > deadline {
                self.send(&cancel_of(&Call { leg, invite }));
                return Err(format!("no answer\n{}{}", self.history(), other.history()));
            }
            other.receive();
            other.repeat();
        };
        if answer.status() != Some(200) {
            self.acknowledge_failure(&Call { leg, invite }, &answer);
            return Err(answer.start);
        }
        leg.establish(&answer);
        let ack = leg.request("ACK").with("Via", &self.via());
        self.send(&ack);
        let bye = leg.request("BYE").with("Via", &self.via());
        self.send(&bye);
        let theirs = other
            .next(within, |m| m.method() == Some("BYE"))
            .ok_or_else(|| none("BYE at the other phone"))?;
        other.reply(&theirs, 200, "OK");
        let ended = self.next(within, |m| is_final(m, &bye)).ok_or_else(|| none("answer to BYE"))?;
        if ended.status() == Some(200) { Ok(()) } else { Err(ended.start) }
    }
}
