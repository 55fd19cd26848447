//! What the phones of a call run do: place, answer, acknowledge, end, and answer whatever else is asked of them.

use super::{Due, Ends, Run};
use crate::digest::{Algorithm, Challenge};
use crate::endpoint::Event;
use crate::leg::{Leg, Phase, ack_of_failure};
use crate::message::{Message, audio_address, audio_sdp, tag_of, user_of};
use crate::watch;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

impl Run<'_> {
    pub(super) fn handle(&mut self, event: Event<Due>) {
        match event {
            Event::Response { owner, message, sent } => self.response(owner, &message, sent),
            Event::Request { message, from } => self.request(&message, from),
            Event::Timeout { owner, method } => self.timed_out(owner, &method),
            Event::Due(Due::Answer(leg)) => self.answer(leg),
            Event::Due(Due::Repeat(leg)) => self.repeat(leg),
            Event::Due(Due::Hangup(pair)) => self.hang_up(pair),
        }
    }

    /// A caller places its call.
    pub(super) fn call(&mut self, pair: usize) {
        let from = format!("sip:{}@{}", self.options.callers.number(pair), self.options.callers.domain);
        let uri = format!("sip:{}@{}", self.options.callees.number(pair), self.options.callees.domain);
        let tag = self.endpoint.word();
        let leg = Leg::calling(pair, &from, &tag, &uri, self.target(pair));
        let index = self.keep(leg);
        if let Some(state) = self.pairs.get_mut(pair) {
            state.caller = Some(index);
            state.callee = None;
            state.ending = false;
            state.begun = Some(Instant::now());
        }
        self.show_begin(index, pair);
        self.invite(index);
    }

    fn show_begin(&self, index: usize, pair: usize) {
        if let (Some(watch), Some(leg)) = (&self.options.watch, self.legs.get(index)) {
            watch.begun(watch::Call {
                pair,
                from: self.options.callers.number(pair),
                to: self.options.callees.number(pair),
                domain: self.options.callers.domain.clone(),
                caller_id: leg.call_id.clone(),
                ..watch::Call::default()
            });
        }
    }

    fn note(&self, pair: usize, note: impl FnOnce(&mut watch::Call, u64)) {
        if let Some(watch) = &self.options.watch {
            watch.note(pair, note);
        }
    }

    fn keep(&mut self, leg: Leg) -> usize {
        let index = self.legs.len();
        self.by_tag.insert(leg.tag().to_owned(), index);
        self.legs.push(leg);
        index
    }

    fn invite(&mut self, index: usize) {
        let Some(leg) = self.legs.get(index) else { return };
        let (pair, sdp) = (leg.pair, self.sdp(leg.pair, true));
        let contact = format!("<sip:{}@{}>", self.options.callers.number(pair), self.endpoint.local());
        self.send(index, "INVITE", |request| request.with("Contact", &contact).with_sdp(&sdp));
    }

    /// Sends a request in the leg's dialog, with credentials once it was challenged.
    fn send(&mut self, index: usize, method: &str, complete: impl FnOnce(Message) -> Message) {
        let Some(leg) = self.legs.get_mut(index) else { return };
        let mut request = complete(leg.request(method));
        if let Some(challenge) = &mut leg.challenge {
            let phones = if leg.caller { &self.options.callers } else { &self.options.callees };
            let (name, value) = challenge.answer(&phones.credentials(leg.pair), method, &leg.target);
            request.headers.insert(1, (name.into(), value));
        }
        let to = leg.next_hop();
        self.endpoint.send(request, to, index);
    }

    fn sdp(&self, pair: usize, caller: bool) -> String {
        let side = pair * 2 + usize::from(!caller);
        let silent = SocketAddrV4::new(
            *self.endpoint.local().ip(),
            9000 + u16::try_from(side % 10_000).unwrap_or(0) * 2,
        );
        let address = self.media.as_ref().and_then(|media| media.address(side)).unwrap_or(silent);
        audio_sdp(address, 1, "sendrecv")
    }

    fn talk(&self, index: usize, to: Option<SocketAddrV4>) {
        if let (Some(leg), Some(media)) = (self.legs.get(index), &self.media) {
            media.talk(leg.pair * 2 + usize::from(!leg.caller), to);
        }
    }

    fn response(&mut self, owner: usize, message: &Message, sent: Instant) {
        if owner == usize::MAX {
            return self.acknowledge_again(message);
        }
        let status = message.status().unwrap_or(0);
        let method = message.cseq().map(|(_, method)| method.to_owned()).unwrap_or_default();
        match (method.as_str(), status) {
            (_, 0..200) => {}
            ("INVITE", 200..300) => self.answered(owner, message, sent),
            ("INVITE", 401 | 407) => self.challenged(owner, message),
            ("INVITE", _) => self.refused(owner, message),
            ("BYE", 401 | 407) => {
                self.take_challenge(owner, message);
                self.send(owner, "BYE", |request| request);
            }
            ("BYE", _) => {
                if status >= 300 {
                    self.endpoint.surprise(format!("BYE answered {status}"));
                }
                self.over(owner);
            }
            _ => {}
        }
    }

    fn acknowledge_again(&mut self, message: &Message) {
        let leg = message.get("From").and_then(tag_of).and_then(|tag| self.by_tag.get(tag));
        if let Some((bytes, to)) = leg.and_then(|leg| self.legs.get(*leg)).and_then(|leg| leg.ack.clone()) {
            self.endpoint.send_raw(&bytes, to);
        }
    }

    fn take_challenge(&mut self, owner: usize, message: &Message) -> bool {
        let algorithm: Algorithm = self.options.callers.algorithm;
        let Some(leg) = self.legs.get_mut(owner) else { return false };
        let first = leg.challenge.is_none();
        leg.challenge = Challenge::of(message, algorithm);
        first && leg.challenge.is_some()
    }

    fn challenged(&mut self, owner: usize, message: &Message) {
        self.acknowledge_failure(owner, message);
        if self.take_challenge(owner, message) {
            self.invite(owner);
        } else {
            self.fail_leg(owner, "INVITE refused after its challenge");
        }
    }

    fn acknowledge_failure(&mut self, owner: usize, message: &Message) {
        let Some(leg) = self.legs.get(owner) else { return };
        let (ack, to) = (ack_of_failure(message, &leg.target).to_bytes(), leg.next_hop());
        self.endpoint.send_raw(&ack, to);
    }

    fn refused(&mut self, owner: usize, message: &Message) {
        self.acknowledge_failure(owner, message);
        let reason = message.start.trim_start_matches("SIP/2.0 ").to_owned();
        self.fail_leg(owner, &format!("INVITE: {reason}"));
    }

    fn answered(&mut self, owner: usize, message: &Message, sent: Instant) {
        let (via, _) = self.endpoint.via();
        let Some(leg) = self.legs.get_mut(owner) else { return };
        if leg.phase != Phase::Early {
            return self.endpoint.surprise("a second answer");
        }
        leg.phase = Phase::Up;
        leg.establish(message);
        let mut ack = leg.request("ACK");
        ack.headers.insert(0, ("Via".into(), via));
        let (bytes, to, pair) = (ack.to_bytes(), leg.next_hop(), leg.pair);
        leg.ack = Some((bytes.clone(), to));
        self.endpoint.send_raw(&bytes, to);
        self.answered += 1;
        self.note(pair, |call, now| call.answered_ms = Some(now));
        self.setup.add(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        match audio_address(&message.body) {
            Some(to) => self.talk(owner, Some(to)),
            None => self.endpoint.surprise("an answer without audio"),
        }
        if !self.options.plateau {
            self.endpoint.after(self.options.hold, Due::Hangup(pair));
        }
    }

    fn request(&mut self, message: &Message, from: SocketAddrV4) {
        let leg = message.get("To").and_then(tag_of).and_then(|tag| self.by_tag.get(tag)).copied();
        let method = message.method().unwrap_or_default().to_owned();
        match (method.as_str(), leg) {
            ("INVITE", None) if message.get("To").is_some_and(|to| tag_of(to).is_none()) => {
                self.ring(message, from)
            }
            ("INVITE" | "UPDATE", Some(leg)) if self.is_over(leg) => {
                self.reply(message, 481, "Call/Transaction Does Not Exist", from)
            }
            ("INVITE" | "UPDATE", Some(leg)) => self.renegotiate(leg, message, from),
            ("ACK", Some(leg)) => self.acknowledged(leg),
            ("ACK", None) => {}
            ("BYE", Some(leg)) => self.ended(leg, message, from),
            ("CANCEL", _) => self.cancelled(message, from),
            ("OPTIONS" | "INFO" | "NOTIFY", _) => self.reply(message, 200, "OK", from),
            (method, _) => {
                self.endpoint.surprise(format!("{method} outside any dialog"));
                self.reply(message, 481, "Call/Transaction Does Not Exist", from);
            }
        }
    }

    /// A dialog is over for who sends its BYE (RFC 3261 section 15).
    fn is_over(&self, index: usize) -> bool {
        self.legs.get(index).is_some_and(|leg| matches!(leg.phase, Phase::Ending | Phase::Over))
    }

    fn reply(&mut self, request: &Message, status: u16, reason: &str, to: SocketAddrV4) {
        let tag = self.endpoint.word();
        let response = Message::response(request, status, reason, &tag);
        self.endpoint.respond(request, &response, to);
    }

    fn ring(&mut self, invite: &Message, from: SocketAddrV4) {
        let user = invite.uri().map(user_of).unwrap_or_default();
        let number = user.split('-').next().and_then(|number| number.parse::<u64>().ok());
        let pair = number.and_then(|n| usize::try_from(n.checked_sub(self.options.callees.first)?).ok());
        let tag = self.endpoint.word();
        let leg = pair
            .filter(|pair| *pair < self.pairs.len())
            .and_then(|pair| Leg::called(pair, invite, &tag, from));
        let Some(leg) = leg else {
            self.endpoint.surprise(format!("INVITE for nobody here: {user}"));
            return self.reply(invite, 404, "Not Found", from);
        };
        let pair = leg.pair;
        let index = self.keep(leg);
        if let Some(state) = self.pairs.get_mut(pair)
            && state.callee.replace(index).is_some()
        {
            self.endpoint.surprise("a second INVITE for one call");
        }
        let call_id = invite.get("Call-ID").map(str::to_owned);
        self.note(pair, |call, _| call.callee_id = call_id);
        let ringing = Message::response(invite, 180, "Ringing", &tag);
        self.endpoint.respond(invite, &ringing, from);
        if self.options.ring.is_zero() {
            self.answer(index)
        } else {
            self.endpoint.after(self.options.ring, Due::Answer(index))
        }
    }

    fn answer(&mut self, index: usize) {
        let Some(leg) = self.legs.get(index).filter(|leg| leg.phase == Phase::Early) else { return };
        let Some(invite) = leg.invite.clone() else { return };
        let (pair, tag, to) = (leg.pair, leg.tag().to_owned(), leg.next_hop());
        let contact = format!("<sip:{}@{}>", self.options.callees.number(pair), self.endpoint.local());
        let ok = Message::response(&invite, 200, "OK", &tag)
            .with("Contact", &contact)
            .with_sdp(&self.sdp(pair, false));
        self.endpoint.respond(&invite, &ok, to);
        if let Some(leg) = self.legs.get_mut(index) {
            leg.unacknowledged = Some((ok.to_bytes(), to, 0));
            leg.phase = Phase::Up;
        }
        self.endpoint.after(Duration::from_millis(500), Due::Repeat(index));
        match audio_address(&invite.body) {
            Some(to) => self.talk(index, Some(to)),
            None => self.endpoint.surprise("an offer without audio"),
        }
    }

    /// The 200 goes out until its ACK comes (section 13.3.1.4).
    fn repeat(&mut self, index: usize) {
        let Some(leg) = self.legs.get_mut(index) else { return };
        let Some((bytes, to, times)) = &mut leg.unacknowledged else { return };
        *times += 1;
        let (bytes, to, times) = (bytes.clone(), *to, *times);
        if times > 10 || leg.phase == Phase::Over {
            leg.unacknowledged = None;
            return self.endpoint.surprise("200 never acknowledged");
        }
        self.endpoint.send_raw(&bytes, to);
        self.endpoint.retransmissions += 1;
        self.endpoint.after(Duration::from_millis(500 << times.min(3)), Due::Repeat(index));
    }

    fn acknowledged(&mut self, index: usize) {
        if let Some(leg) = self.legs.get_mut(index) {
            leg.unacknowledged = None;
        }
    }

    /// A re-INVITE or UPDATE moves the sound.
    fn renegotiate(&mut self, index: usize, message: &Message, from: SocketAddrV4) {
        let Some(leg) = self.legs.get_mut(index) else { return };
        leg.refresh(message);
        let (pair, caller, tag) = (leg.pair, leg.caller, leg.tag().to_owned());
        let contact = format!("<sip:{}@{}>", self.options.callees.number(pair), self.endpoint.local());
        let mut ok = Message::response(message, 200, "OK", &tag).with("Contact", &contact);
        if !message.body.is_empty() || message.method() == Some("INVITE") {
            ok = ok.with_sdp(&self.sdp(pair, caller));
        }
        self.endpoint.respond(message, &ok, from);
        if let Some(to) = audio_address(&message.body) {
            self.talk(index, Some(to));
        }
    }

    fn ended(&mut self, index: usize, message: &Message, from: SocketAddrV4) {
        self.reply(message, 200, "OK", from);
        let Some(leg) = self.legs.get(index) else { return };
        let (pair, unexpected) = (leg.pair, !self.pairs.get(leg.pair).is_some_and(|pair| pair.ending));
        if unexpected {
            let reason = message.get("Reason").unwrap_or("no reason").to_owned();
            let cause = format!("ended by the switch: {reason}");
            self.note(pair, |call, now| {
                call.hung_up_ms = Some(now);
                call.failure.get_or_insert(cause.clone());
            });
            *self.failures.entry(cause).or_default() += 1;
            if let Some(pair) = self.pairs.get_mut(pair) {
                pair.ending = true;
            }
        }
        self.over(index);
    }

    fn cancelled(&mut self, message: &Message, from: SocketAddrV4) {
        self.reply(message, 200, "OK", from);
        let branch = message.branch().map(str::to_owned);
        let invited = |leg: &Leg| leg.invite.as_ref().and_then(Message::branch).map(str::to_owned) == branch;
        let Some(index) = self.legs.iter().rposition(|leg| leg.phase == Phase::Early && invited(leg)) else {
            return;
        };
        let Some(invite) = self.legs.get(index).and_then(|leg| leg.invite.clone()) else { return };
        self.endpoint.surprise("CANCEL");
        self.reply(&invite, 487, "Request Terminated", from);
        self.over(index);
    }

    fn timed_out(&mut self, owner: usize, method: &str) {
        if method == "BYE" {
            self.endpoint.surprise("BYE timed out");
            return self.over(owner);
        }
        self.fail_leg(owner, &format!("{method}: timeout"));
    }

    /// One side, by the options, ends a call.
    pub(super) fn hang_up(&mut self, pair: usize) {
        let Some(state) = self.pairs.get_mut(pair) else { return };
        let (Some(caller), false) = (state.caller, state.ending) else { return };
        state.ending = true;
        self.ends += 1;
        let by_caller = match self.options.ends {
            Ends::Caller => true,
            Ends::Callee => false,
            Ends::Both => self.ends.is_multiple_of(2),
        };
        let leg = if by_caller { caller } else { state.callee.unwrap_or(caller) };
        let others = [state.caller, state.callee];
        self.note(pair, |call, now| call.hung_up_ms = Some(now));
        others.into_iter().flatten().for_each(|leg| self.talk(leg, None));
        let Some(state) = self.legs.get_mut(leg).filter(|leg| leg.phase == Phase::Up) else { return };
        state.phase = Phase::Ending;
        self.send(leg, "BYE", |request| request);
    }

    fn fail_leg(&mut self, index: usize, cause: &str) {
        let Some(leg) = self.legs.get_mut(index) else { return };
        leg.phase = Phase::Over;
        let pair = leg.pair;
        self.finish(pair, Some(cause));
    }

    /// One leg is over; with the second the call is.
    fn over(&mut self, index: usize) {
        self.talk(index, None);
        let Some(leg) = self.legs.get_mut(index) else { return };
        leg.phase = Phase::Over;
        leg.unacknowledged = None;
        let pair = leg.pair;
        let Some(state) = self.pairs.get(pair) else { return };
        let legs = [state.caller, state.callee];
        let all_over = legs
            .into_iter()
            .flatten()
            .all(|leg| self.legs.get(leg).is_none_or(|leg| leg.phase == Phase::Over));
        if all_over {
            self.finish(pair, None);
        }
    }

    pub(super) fn finish(&mut self, pair: usize, cause: Option<&str>) {
        let Some(state) = self.pairs.get_mut(pair) else { return };
        let (Some(caller), callee) = (state.caller.take(), state.callee.take()) else { return };
        let failure = cause.map(str::to_owned);
        let begun = state.begun;
        self.note(pair, |call, now| {
            call.ended_ms = Some(now);
            call.failure = call.failure.take().or(failure);
        });
        self.up_seconds += begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        self.finished += 1;
        match cause {
            Some(cause) => *self.failures.entry(cause.to_owned()).or_default() += 1,
            None => self.ok += 1,
        }
        for leg in [Some(caller), callee].into_iter().flatten() {
            self.talk(leg, None);
            if let Some(leg) = self.legs.get_mut(leg) {
                leg.phase = Phase::Over;
                leg.invite = None;
            }
        }
        if !self.options.plateau {
            self.free.insert(0, pair);
        }
    }
}
