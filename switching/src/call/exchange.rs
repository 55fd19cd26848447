//! Requests inside the dialogs: re-INVITE and UPDATE pass from one side to the other, one at a time (RFC 3264, 3311).

use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::ServerKey;
use tandem_state::{CallNote, Cause, Command, Flow, LegId};

use super::leg::{Hold, Stage};
use super::{Call, Output, Phase, Proposal};
use crate::machine::Now;

/// A request that was passed on and waits.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    /// Who asked.
    from: LegId,
    /// Who is asked.
    to: LegId,
    key: ServerKey,
    request: Message,
    method: Method,
    /// Of our request to `to`.
    cseq: u32,
    stage: ExchangeStage,
}

#[derive(Debug, Clone, PartialEq)]
enum ExchangeStage {
    /// The other side has it.
    Asked,
    /// It agreed; the checkpoint is on its way, the answer waits for it.
    Recording { response: Message },
    /// Our 2xx waits for its ACK.
    Answered,
}

impl Call {
    /// A request inside a leg's dialog.
    pub(super) fn request(&mut self, now: Now, id: LegId, key: ServerKey, message: Message, flow: Flow) {
        let Some(leg) = self.leg(id) else { return };
        if !leg.accept_cseq(&message) {
            return self.refuse(id, key, &message, 500, None);
        }
        leg.flow = flow;
        match message.method() {
            Method::Bye => self.bye_received(now, id, key, &message),
            Method::Invite | Method::Update => self.offer(id, key, message),
            Method::Info => self.pass_info(id, key, message),
            Method::Options => self.refuse(id, key, &message, 200, None),
            Method::Other(_) => self.refuse(id, key, &message, 501, None),
            _ => self.refuse(id, key, &message, 405, None),
        }
    }

    /// Answers a request of leg `id` at once; without a description, so also right for a bare 200.
    pub(super) fn refuse(
        &mut self,
        id: LegId,
        key: ServerKey,
        request: &Message,
        status: u16,
        retry_after_s: Option<u32>,
    ) {
        let product = self.settings.product.clone();
        let Some(leg) = self.leg(id) else { return };
        let message = leg.response(request, status, retry_after_s, None, &product);
        self.put(Output::Respond { key, message });
    }

    /// A new offer, or an INVITE that asks for one.
    fn offer(&mut self, id: LegId, key: ServerKey, message: Message) {
        let description = super::wire::description(&message);
        if *message.method() == Method::Update && description.is_none() {
            if let Some(leg) = self.leg(id) {
                leg.refresh_target(&message);
            }
            return self.refuse(id, key, &message, 200, None);
        }
        let Some(peer) = self.peer_of(id) else {
            return self.refuse(id, key, &message, 491, None);
        };
        if let Some(busy) = &self.exchange {
            let (status, retry) = if busy.from == id { (500, Some(1)) } else { (491, None) };
            return self.refuse(id, key, &message, status, retry);
        }
        let waits = |leg: Option<&mut super::Leg>| {
            leg.is_none_or(|leg| leg.unacknowledged.is_some() || leg.stage != Stage::Confirmed)
        };
        if waits(self.leg(id)) || waits(self.leg(peer)) {
            return self.refuse(id, key, &message, 491, None);
        }
        if let Some(leg) = self.leg(id) {
            leg.refresh_target(&message);
        }
        let local = description.as_deref().and_then(|offer| self.leg(peer)?.local_description(offer));
        let method = message.method().clone();
        let cseq = self.ask(peer, &method, local.as_deref());
        self.exchange = Some(Exchange {
            from: id,
            to: peer,
            key,
            request: message,
            method,
            cseq,
            stage: ExchangeStage::Asked,
        });
    }

    /// Sends a request in the dialog of leg `id`; gives its CSeq number.
    fn ask(&mut self, id: LegId, method: &Method, description: Option<&str>) -> u32 {
        let product = self.settings.product.clone();
        let Some(leg) = self.leg(id) else { return 0 };
        let message = leg.request(method, description.map(|sdp| ("application/sdp", sdp)), None, &product);
        let (cseq, flow) = (leg.dialog.local_cseq, leg.flow.clone());
        self.put(Output::Request { message, flow });
        cseq
    }

    /// A response to a request that was passed on.
    pub(super) fn exchange_response(&mut self, now: Now, id: LegId, cseq: u32, message: Message) {
        let current = self
            .exchange
            .as_ref()
            .filter(|e| e.to == id && e.cseq == cseq && e.stage == ExchangeStage::Asked);
        let Some(exchange) = current.cloned() else {
            if message.status().is_some_and(|status| (200..300).contains(&status)) {
                self.repeat_ack(id, &message);
            }
            return;
        };
        match message.status().unwrap_or(500) {
            0..=199 => {}
            200..=299 if exchange.method == Method::Info => {
                self.exchange = None;
                self.refuse(exchange.from, exchange.key, &exchange.request, 200, None);
            }
            200..=299 => self.exchange_agreed(now, exchange, &message),
            status => self.exchange_refused(now, exchange, status),
        }
    }

    /// Both agree on new descriptions. A change of hold is recorded before it is answered.
    fn exchange_agreed(&mut self, now: Now, exchange: Exchange, message: &Message) {
        let offer = super::wire::description(&exchange.request);
        let answer = super::wire::description(message);
        if let Some(leg) = self.leg(exchange.to) {
            leg.refresh_target(message);
            leg.media.remote = answer.clone().or(leg.media.remote.take());
            leg.ack_due = (exchange.method == Method::Invite).then_some(exchange.cseq);
        }
        if let Some(leg) = self.leg(exchange.from) {
            leg.media.remote = offer.clone().or(leg.media.remote.take());
        }
        let local = answer.and_then(|answer| {
            let leg = self.leg(exchange.from)?;
            if offer.is_some() { leg.local_answer(&answer) } else { leg.local_description(&answer) }
        });
        if offer.is_some() && exchange.method == Method::Invite {
            self.acknowledge(exchange.to, None);
        }
        let product = self.settings.product.clone();
        let Some(leg) = self.leg(exchange.from) else { return };
        let response = leg.response(&exchange.request, 200, None, local.as_deref(), &product);
        self.note_codec();
        self.set_media();
        let note = self.update_hold();
        self.exchange = Some(Exchange { stage: ExchangeStage::Recording { response }, ..exchange });
        let Some(note) = note else { return self.exchange_recorded(now) };
        let command =
            Command::Checkpoint { call: self.id, epoch: self.epoch, change: self.change(Some(note)) };
        self.put(Output::Propose { what: Proposal::Exchange, command: Box::new(command) });
    }

    /// The change is in the log, or its outcome is unknown, which must not silence two people: it is answered.
    pub(super) fn exchange_recorded(&mut self, now: Now) {
        let Some(exchange) = self.exchange.take() else { return };
        let ExchangeStage::Recording { response } = exchange.stage else {
            self.exchange = Some(exchange);
            return;
        };
        self.put(Output::Respond { key: exchange.key.clone(), message: response.clone() });
        if exchange.method != Method::Invite {
            return;
        }
        let cseq = exchange.request.cseq().number;
        let key = exchange.key.clone();
        if let Some(leg) = self.leg(exchange.from) {
            leg.await_ack(now.steady_ms, key, response, cseq);
        }
        self.exchange = Some(Exchange { stage: ExchangeStage::Answered, ..exchange });
    }

    /// The ACK came.
    pub(super) fn end_exchange(&mut self, from: LegId) {
        if self.exchange.as_ref().is_some_and(|e| e.from == from && e.stage == ExchangeStage::Answered) {
            self.exchange = None;
        }
    }

    /// Takes the request that waits for an answer of ours, if one does.
    pub(super) fn open_exchange(&mut self) -> Option<(LegId, ServerKey, Message)> {
        let exchange = self.exchange.take()?;
        let open = exchange.stage != ExchangeStage::Answered;
        open.then_some((exchange.from, exchange.key, exchange.request))
    }

    /// The other side said no; 481 and 408 end its dialog (RFC 3261 section 12.2.1.2).
    fn exchange_refused(&mut self, now: Now, exchange: Exchange, status: u16) {
        self.exchange = None;
        self.refuse(exchange.from, exchange.key, &exchange.request, status, None);
        if matches!(status, 408 | 481) {
            self.leg_over(exchange.to);
            self.finish(now, Cause::Unreachable);
        }
    }

    /// The other side said nothing.
    pub(super) fn exchange_unanswered(&mut self, now: Now, id: LegId, cseq: u32) {
        let Some(exchange) = self.exchange.take() else { return };
        if exchange.to == id && exchange.cseq == cseq {
            self.exchange_refused(now, exchange, 408);
        } else {
            self.exchange = Some(exchange);
        }
    }

    /// INFO (RFC 6086) passes as it is: digits of phones that send them so.
    fn pass_info(&mut self, id: LegId, key: ServerKey, message: Message) {
        let product = self.settings.product.clone();
        let peer = self
            .peer_of(id)
            .filter(|_| self.exchange.is_none() && matches!(self.phase, Phase::Talking { .. }));
        let Some(peer) = peer else { return self.refuse(id, key, &message, 491, None) };
        let body = std::str::from_utf8(message.body()).ok().filter(|body| !body.is_empty());
        let kind = message.header(Header::ContentType).unwrap_or("application/dtmf-relay").to_owned();
        let Some(leg) = self.leg(peer) else { return };
        let info = leg.request(&Method::Info, body.map(|body| (kind.as_str(), body)), None, &product);
        let (cseq, flow) = (leg.dialog.local_cseq, leg.flow.clone());
        self.put(Output::Request { message: info, flow });
        self.exchange = Some(Exchange {
            from: id,
            to: peer,
            key,
            request: message,
            method: Method::Info,
            cseq,
            stage: ExchangeStage::Asked,
        });
    }

    /// Compares both descriptions with what is known of hold; a change has a name.
    fn update_hold(&mut self) -> Option<CallNote> {
        let before = self.is_held();
        let ids: Vec<LegId> = self.leg_ids().collect();
        for id in ids {
            if let Some(leg) = self.leg(id) {
                let held = leg.media.remote.as_deref().is_some_and(super::media::is_hold);
                leg.hold = if held { Hold::Held } else { Hold::Talking };
            }
        }
        match (before, self.is_held()) {
            (false, true) => Some(CallNote::Held),
            (true, false) => Some(CallNote::Resumed),
            (true, true) | (false, false) => None,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.caller.hold == Hold::Held || self.winner().is_some_and(|leg| leg.hold == Hold::Held)
    }
}
