//! Requests inside the dialogs: re-INVITE and UPDATE pass from one side to the other, one at a time (RFC 3264, 3311).

use std::sync::Arc;

use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::ServerKey;
use tandem_state::{CallNote, Cause, Flow, LegId};

use super::leg::{Hold, Stage};
use super::refresh::Refresh;
use super::setup::CSEQ_BLOCK;
use super::{Call, Output, Phase, Proposal};
use crate::machine::Now;
use crate::refusal;

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
    /// What `to` had been told before, to which a refusal takes it back.
    before: Option<Arc<str>>,
    /// Where both were before.
    known: [Option<Place>; 2],
    stage: ExchangeStage,
}

/// Where a phone is, by its own word: for requests, and for media.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    target: String,
    description: Option<Arc<str>>,
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
        if matches!(message.method(), Method::Ack | Method::Cancel) {
            // Neither is ever answered here: the transaction layer does what there is to do.
            return;
        }
        if !leg.holds(&message) {
            return self.refuse(id, key, &message, 481, None);
        }
        if !leg.accept_cseq(&message) {
            return self.refuse(id, key, &message, 500, None);
        }
        leg.flow = flow;
        if message.headers(Header::Require).next().is_some() && *message.method() != Method::Bye {
            return self.refuse(id, key, &message, 420, None);
        }
        let lost = leg.is_over();
        match message.method() {
            Method::Bye => self.bye_received(now, id, key, &message),
            _ if lost => self.refuse(id, key, &message, 481, None),
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
        let Some(message) = leg.response(request, status, retry_after_s, None, &product) else { return };
        self.put(Output::Respond { key, message });
    }

    /// A new offer, or an INVITE that asks for one.
    fn offer(&mut self, id: LegId, key: ServerKey, message: Message) {
        let description = super::wire::description(&message);
        if *message.method() == Method::Update && description.is_none() {
            return self.refresh_target(id, key, &message);
        }
        let (Some(peer), None) = (self.peer_of(id), self.must_wait(id)) else {
            let (status, retry) = self.must_wait(id).unwrap_or((491, None));
            return self.refuse(id, key, &message, status, retry);
        };
        let known = [self.place(id), self.place(peer)];
        if let Some(leg) = self.leg(id) {
            leg.refresh_target(&message);
        }
        let before = self.leg(peer).and_then(|leg| leg.media.local.clone());
        let local = description.as_deref().and_then(|offer| self.leg(peer)?.local_description(offer));
        if description.is_some() && local.is_none() {
            return self.refuse(id, key, &message, 488, None);
        }
        let method = message.method().clone();
        let body = local.as_deref().map(|sdp| ("application/sdp", sdp));
        let Some(cseq) = self.ask(peer, &method, body) else {
            return self.refuse(id, key, &message, 500, None);
        };
        let stage = ExchangeStage::Asked;
        let (from, to, request) = (id, peer, message);
        self.exchange = Some(Exchange { from, to, key, request, method, cseq, before, known, stage });
    }

    /// An UPDATE that says nothing of media: where its sender is now (RFC 3311 section 5.2).
    fn refresh_target(&mut self, id: LegId, key: ServerKey, update: &Message) {
        let known = self.place(id);
        if let Some(leg) = self.leg(id) {
            leg.refresh_target(update);
        }
        if self.place(id) != known && matches!(self.phase, Phase::Talking { .. }) {
            self.checkpoint(None);
        }
        self.refuse(id, key, update, 200, None);
    }

    fn place(&mut self, id: LegId) -> Option<Place> {
        let leg = self.leg(id)?;
        Some(Place { target: leg.dialog.remote_target.clone(), description: leg.media.remote.clone() })
    }

    /// Why a leg's offer can't be passed on now: its own request is open (500 and Retry-After), or one of ours or of the
    /// other side (491; RFC 3261 section 14.2, RFC 3311 section 5.2).
    fn must_wait(&self, id: LegId) -> Option<(u16, Option<u32>)> {
        const OWN_IS_OPEN: (u16, Option<u32>) = (500, Some(1));
        const OTHER_IS_OPEN: (u16, Option<u32>) = (491, None);
        if id == self.caller.id && matches!(self.caller.stage, Stage::Invited { .. }) {
            return Some(OWN_IS_OPEN);
        }
        if let Some(busy) = &self.exchange {
            return Some(if busy.from == id { OWN_IS_OPEN } else { OTHER_IS_OPEN });
        }
        let waits = |leg: &super::Leg| {
            let told = matches!(leg.refresh, Refresh::Asked { .. });
            told || leg.awaits_ack() || leg.stage != Stage::Confirmed
        };
        let winner = self.winner().is_none_or(waits);
        (winner || waits(&self.caller)).then_some(OTHER_IS_OPEN)
    }

    /// Sends a request in the dialog of leg `id`; gives its CSeq number.
    pub(super) fn ask(&mut self, id: LegId, method: &Method, body: Option<(&str, &str)>) -> Option<u32> {
        let product = self.settings.product.clone();
        let leg = self.leg(id)?;
        let message = leg.request(method, body, None, &product)?;
        let (cseq, flow) = (leg.dialog.local_cseq, leg.flow.clone());
        self.put(Output::Request { message, flow });
        Some(cseq)
    }

    /// A response to a request that was passed on.
    pub(super) fn exchange_response(&mut self, now: Now, id: LegId, cseq: u32, message: &Message) {
        let current = self
            .exchange
            .as_ref()
            .filter(|e| e.to == id && e.cseq == cseq && e.stage == ExchangeStage::Asked);
        let Some(exchange) = current.cloned() else {
            let agreed = message.status().is_some_and(|status| (200..300).contains(&status));
            if agreed && *message.method() == Method::Invite && self.has_asked(id, cseq) {
                self.repeat_ack(id, message);
            }
            return;
        };
        match message.status().unwrap_or(500) {
            0..=199 => {}
            200..=299 => self.exchange_agreed(now, exchange, message),
            status => self.exchange_refused(now, exchange, status),
        }
    }

    /// A request with this CSeq was ours, or a former owner's, which may not have lived to acknowledge its 200.
    fn has_asked(&mut self, id: LegId, cseq: u32) -> bool {
        self.leg(id).is_some_and(|leg| cseq > CSEQ_BLOCK && cseq <= leg.dialog.local_cseq)
    }

    /// Both agree on new descriptions. What has changed by them is recorded before it is answered.
    fn exchange_agreed(&mut self, now: Now, exchange: Exchange, message: &Message) {
        let offer = super::wire::description(&exchange.request);
        let answer = super::wire::description(message);
        if let Some(leg) = self.leg(exchange.to) {
            leg.refresh_target(message);
            leg.media.remote = answer.clone().or(leg.media.remote.take());
            leg.ack_due = (exchange.method == Method::Invite).then_some(exchange.cseq);
        }
        if answer.is_none() {
            if exchange.method == Method::Invite {
                self.acknowledge(exchange.to, None);
            }
            return self.exchange_refused(now, exchange, 488);
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
        let Some(response) = leg.response(&exchange.request, 200, None, local.as_deref(), &product) else {
            return self.exchange_refused(now, exchange, 500);
        };
        self.note_codec();
        let note = self.update_hold();
        self.set_media();
        let is_same = exchange.known == [self.place(exchange.from), self.place(exchange.to)];
        self.exchange = Some(Exchange { stage: ExchangeStage::Recording { response }, ..exchange });
        if is_same && note.is_none() {
            return self.exchange_recorded(now);
        }
        self.telling.outdate(None);
        self.propose_checkpoint(Proposal::Exchange, self.change(note));
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

    /// The exchange that waits for this leg's answer.
    pub(super) fn asked_exchange(&self, id: LegId) -> Option<Exchange> {
        self.exchange.clone().filter(|exchange| exchange.to == id && exchange.stage == ExchangeStage::Asked)
    }

    /// The other side said no.
    pub(super) fn exchange_refused(&mut self, now: Now, exchange: Exchange, status: u16) {
        self.exchange = None;
        if let Some(leg) = self.leg(exchange.to) {
            leg.media.local = exchange.before;
        }
        self.refuse(exchange.from, exchange.key, &exchange.request, refusal::passed_on(status), None);
        self.dialog_lost(now, exchange.to, status);
    }

    /// 481 and 408 end a dialog (RFC 3261 section 12.2.1.2); a phone that said 481 needs no BYE.
    pub(super) fn dialog_lost(&mut self, now: Now, id: LegId, status: u16) {
        if !matches!(status, 408 | 481) {
            return;
        }
        if status == 481 {
            self.leg_over(id);
        }
        self.finish(now, Cause::Unreachable);
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

    /// Compares both descriptions with what is known of hold; a change has a name.
    pub(super) fn update_hold(&mut self) -> Option<CallNote> {
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
