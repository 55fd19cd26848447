//! A call that another node owned goes on here: what is missing is said again, and each phone is told by a re-INVITE
//! where the call is now.
//!
//! The dialogs come from the log, so their latest CSeq and description may not be in it: this ownership's numbers begin
//! with a block of their own, above anything that the former owner can have sent. Nothing here is in a hurry to end a
//! call: what can't be reached is tried again, for the phones may still hear each other.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tandem_media::plan::EndId;
use tandem_sip::dialog::Dialog;
use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::name_addr::NameAddr;
use tandem_sip::sdp::Sdp;
use tandem_sip::sdp::relay;
use tandem_sip::transaction::ServerKey;
use tandem_sip::uri::Uri;
use tandem_state::{
    self as state, Cause, Flow, LegDirection, LegId, LegRecord, NodeEpoch, NodeId, State, Transport,
};

use super::leg::{Hold, Leg, LegMedia, Stage};
use super::setup::{CSEQ_BLOCK, VERSION_BLOCK, leg};
use super::{Call, Creation, Output, Phase, Settings, Telling};
use crate::machine::Now;
use crate::routing::Phone;

/// What a call is taken over from.
#[derive(Debug, Clone)]
pub struct Takeover {
    /// Its record, of the new ownership.
    pub call: state::Call,
    /// Its legs, with what was found for each.
    pub legs: Vec<TakenLeg>,
    /// The new owner.
    pub node: NodeId,
    /// Under which lease.
    pub node_epoch: NodeEpoch,
    /// The former owner's process has ended. Else the call's media may still run through it, and one phone is told after the
    /// other, so that a call that works is made no worse.
    pub is_proven: bool,
    /// Numbers that shape the call.
    pub settings: Settings,
    /// What began it, if the log has it: the caller's 200 may be missing.
    pub invite: Option<Message>,
}

/// A leg that is taken over.
#[derive(Debug, Clone)]
pub struct TakenLeg {
    /// As the log has it.
    pub record: LegRecord,
    /// Our RTP address towards its phone.
    pub media: SocketAddr,
    /// How the phone may be reached now, the best first.
    pub ways: Vec<Way>,
}

/// A way to a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The flow.
    pub flow: Flow,
    /// `host:port` of the flow's node as the phone knows it.
    pub sent_by: String,
}

/// Whether a leg's phone knows where its call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Refresh {
    /// It does.
    #[default]
    Done,
    /// Its turn comes after the other leg's.
    Waiting,
    /// It is told then.
    Due { at_ms: u64, tries: u32 },
    /// Our re-INVITE of this CSeq number is open.
    Asked { cseq: u32, tries: u32 },
}

/// A 2xx or an ACK that is younger than this may still be missing (RFC 3261 section 13.3.1.4: 64 T1).
const UNSETTLED_MS: u64 = 32_000;
/// The first wait before a phone is tried again, and the longest.
const AGAIN_MS: u64 = 1_000;
const AGAIN_MAX_MS: u64 = 30_000;
/// A re-INVITE of ours waits so long for what the phone has open itself.
const BUSY_MS: u64 = 250;
/// And so long after a 200 that the phone may not have had.
const ANSWERED_MS: u64 = 200;
/// What a transport that fails stands for (RFC 3261 section 8.1.3.1).
const UNAVAILABLE: u16 = 503;

impl Call {
    /// The call as this node goes on with it; its first outputs wait. `None` for one that is not between two legs.
    pub fn take_over(now: Now, takeover: Takeover) -> Option<Call> {
        let Takeover { call: record, legs, node, node_epoch, is_proven, settings, invite } = takeover;
        let [one, other] = <[TakenLeg; 2]>::try_from(legs).ok()?;
        let (caller, callee) = match other.record.direction {
            LegDirection::In => (other, one),
            LegDirection::Out => (one, other),
        };
        let attempt = record.attempts.values().rev().find(|attempt| attempt.answer.is_some())?.clone();
        let epoch = record.epoch;
        let block = u32::try_from(epoch.0).unwrap_or(u32::MAX);
        let answered_cseq = callee.record.dialog.local_cseq;
        let (caller, callee) = (taken(caller, EndId(0), block), taken(callee, EndId(1), block));
        let talked_ms = now.cluster.since_ms(record.answer.unwrap_or(record.start));
        let until_ms = now.steady_ms + settings.talk_max_ms.saturating_sub(talked_ms);
        let mut call = Call {
            id: record.id,
            interaction: record.interaction,
            tenant: record.tenant,
            node,
            node_epoch,
            epoch,
            direction: record.direction,
            from: record.from,
            to: record.to,
            start: record.start,
            settings,
            phase: Phase::Talking { winner: callee.id, until_ms },
            create: Creation::Created,
            recorded: false,
            best_cause: state::Cause::Unreachable,
            max_forwards: 70,
            caller,
            callees: vec![callee],
            attempt,
            early: None,
            exchange: None,
            infos: Vec::new(),
            outputs: VecDeque::new(),
            gone: Vec::new(),
            keeps_invite: false,
            telling: Telling::Nothing,
            frozen: None,
        };
        let ids: Vec<LegId> = call.leg_ids().collect();
        ids.iter().for_each(|id| call.put(Output::Listen(*id)));
        call.set_media();
        let is_unanswered = call.hold_offer(answered_cseq);
        if talked_ms < UNSETTLED_MS {
            if !is_unanswered {
                call.acknowledge_again(answered_cseq);
            }
            invite.into_iter().for_each(|invite| call.answer_again(now, invite));
        }
        match is_unanswered {
            true => call.begin_refresh_by_caller(now),
            false => call.begin_refresh(now, is_proven),
        }
        Some(call)
    }

    /// The callee's first 2xx has an offer that the caller has not answered, by what the log knows: its ACK waits for that
    /// answer. True if it is so.
    fn hold_offer(&mut self, cseq: u32) -> bool {
        let is_unanswered = self.caller.media.remote.is_none();
        let callee =
            self.callees.first_mut().filter(|leg| is_unanswered && leg.direction == LegDirection::Out);
        let Some(callee) = callee.filter(|leg| leg.media.local.is_none() && leg.media.remote.is_some())
        else {
            return false;
        };
        callee.ack_due = Some(cseq);
        true
    }

    /// The callee's first 2xx may be without its ACK.
    fn acknowledge_again(&mut self, cseq: u32) {
        let product = self.settings.product.clone();
        let Some(callee) = self.callees.first() else { return };
        let ack = callee.ack(cseq, None, &product);
        let flow = callee.flow.clone();
        if let Some(message) = ack.filter(|_| callee.direction == LegDirection::Out) {
            self.put(Output::Send { message, flow });
        }
    }

    /// The caller may be without its 200, whose Contact was the lost node: it gets one from here, until it acknowledges that or
    /// knows better where its call is.
    fn answer_again(&mut self, now: Now, invite: Message) {
        let (description, flow) = (self.caller.renewed_offer(), self.caller.flow.clone());
        let response =
            self.caller.response(&invite, 200, None, description.as_deref(), &self.settings.product);
        let Some(response) = response else { return };
        let (key, cseq) = (ServerKey::of(&invite), invite.cseq().number);
        self.caller.await_ack(now.steady_ms, key.clone(), response.clone(), cseq);
        if let Some(wait) = &mut self.caller.unacknowledged {
            wait.is_first = false;
        }
        self.put(Output::Adopt { invite, flow });
        self.put(Output::Respond { key, message: response });
    }

    /// Legs that a former owner rang: each stops by a CANCEL as that owner would have sent it. Its answer goes to the lost node,
    /// so that it is sent once; the INVITE's `Expires` ends what it does not reach.
    pub(super) fn stop_ringing(&mut self, rang: Vec<(LegRecord, Way)>) {
        let product = self.settings.product.clone();
        for (record, way) in rang {
            self.gone.push(record.id);
            let (flow, sent_by) = (way.flow, host_port_of(&record.dialog.contact));
            let Some(sent_by) = sent_by else { continue };
            let (media, cseq) = (self.caller.media.here, record.dialog.local_cseq);
            let mut leg = taken(TakenLeg { record, media, ways: Vec::new() }, EndId(0), 0);
            (leg.sent_by, leg.dialog.local_cseq) = (sent_by, cseq.saturating_sub(1));
            let invite = leg.invite(None, 0, &product, 70);
            let cancel = invite.and_then(|invite| super::wire::cancel(&invite, Cause::NodeLost));
            if let Some(message) = cancel {
                self.put(Output::Send { message, flow });
            }
        }
    }

    /// Both at once where nothing can be made worse; else first the one that is harder to reach.
    fn begin_refresh(&mut self, now: Now, is_proven: bool) {
        let hard = |leg: &Leg| leg.ways.is_empty() || leg.flow.transport != Transport::Udp;
        let callee_first = self.callees.first().is_some_and(hard) && !hard(&self.caller);
        let due = Refresh::Due { at_ms: now.steady_ms, tries: 0 };
        let later = if is_proven { due } else { Refresh::Waiting };
        self.caller.refresh = match (callee_first, is_proven) {
            (true, false) => Refresh::Waiting,
            (true, true) | (false, _) => self.caller_is_due(now),
        };
        for callee in &mut self.callees {
            callee.refresh = if callee_first { due } else { later };
        }
        self.refresh_due(now);
    }

    /// The caller alone can say what the callee is to be told.
    fn begin_refresh_by_caller(&mut self, now: Now) {
        self.caller.refresh = self.caller_is_due(now);
        self.callees.iter_mut().for_each(|callee| callee.refresh = Refresh::Waiting);
        self.refresh_due(now);
    }

    /// A caller that may only learn of its answer now is told where the call is a moment after that.
    fn caller_is_due(&self, now: Now) -> Refresh {
        let wait_ms = if self.caller.unacknowledged.is_some() { ANSWERED_MS } else { 0 };
        Refresh::Due { at_ms: now.steady_ms + wait_ms, tries: 0 }
    }

    /// Tells each phone whose turn it is.
    pub(super) fn refresh_due(&mut self, now: Now) {
        let ids: Vec<LegId> = self.leg_ids().collect();
        for id in ids {
            let busy = self.is_busy(id);
            let Some(leg) = self.leg(id) else { continue };
            let Refresh::Due { at_ms, tries } = leg.refresh else { continue };
            if at_ms > now.steady_ms {
                continue;
            }
            if busy {
                leg.refresh = Refresh::Due { at_ms: now.steady_ms + BUSY_MS, tries };
                continue;
            }
            let offer = leg.renewed_offer();
            let body = offer.as_deref().map(|offer| ("application/sdp", offer));
            match self.ask(id, &Method::Invite, body) {
                Some(cseq) => self.set_refresh(id, Refresh::Asked { cseq, tries }),
                None => self.refresh_later(now, id, tries, None),
            }
        }
    }

    fn is_busy(&mut self, id: LegId) -> bool {
        self.exchange.is_some() || self.leg(id).is_none_or(|leg| leg.awaits_ack())
    }

    fn set_refresh(&mut self, id: LegId, refresh: Refresh) {
        if let Some(leg) = self.leg(id) {
            leg.refresh = refresh;
        }
    }

    /// Whether a response or silence is about the re-INVITE by which this leg was told.
    pub(super) fn is_refresh(&mut self, id: LegId, number: u32) -> bool {
        self.leg(id).is_some_and(|leg| matches!(leg.refresh, Refresh::Asked { cseq, .. } if cseq == number))
    }

    /// What a phone says to being told.
    pub(super) fn refresh_response(&mut self, now: Now, id: LegId, message: &Message) {
        let Some(Refresh::Asked { tries, .. }) = self.leg(id).map(|leg| leg.refresh) else { return };
        match message.status().unwrap_or(500) {
            0..=199 => {}
            200..=299 => self.refreshed(now, id, message),
            // It may not have seen the 200 yet, which goes out once more before it is asked again.
            481 if tries == 0 && self.leg(id).is_some_and(|leg| leg.unacknowledged.is_some()) => {
                self.refresh_later(now, id, tries, None);
            }
            // It has hung up when nobody heard it.
            481 => {
                self.leg_over(id);
                self.finish(now, Cause::NormalClearing);
            }
            491 => {
                let wait_ms = self.leg(id).map_or(0, |leg| leg.glare_ms(tries));
                self.set_refresh(id, Refresh::Due { at_ms: now.steady_ms + wait_ms, tries: tries + 1 });
            }
            _ => {
                let after_s = message.header(Header::RetryAfter).and_then(|text| text.trim().parse().ok());
                self.refresh_later(now, id, tries, after_s);
            }
        }
    }

    /// Nothing was said, or no: it is tried again, by the next way if there is one.
    pub(super) fn refresh_unanswered(&mut self, now: Now, id: LegId) {
        let Some(Refresh::Asked { tries, .. }) = self.leg(id).map(|leg| leg.refresh) else { return };
        if let Some(leg) = self.leg(id) {
            leg.turn_to_next_way();
        }
        self.refresh_later(now, id, tries, None);
    }

    fn refresh_later(&mut self, now: Now, id: LegId, tries: u32, after_s: Option<u64>) {
        let backoff_ms = AGAIN_MS.saturating_mul(1 << tries.min(8)).min(AGAIN_MAX_MS);
        let wait_ms = after_s.map_or(backoff_ms, |s| s.saturating_mul(1_000).clamp(AGAIN_MS, AGAIN_MAX_MS));
        self.set_refresh(id, Refresh::Due { at_ms: now.steady_ms + wait_ms, tries: tries.saturating_add(1) });
    }

    /// A leg's path is its owner and its flow's node: without the latter its phone is told another Contact. Its media stays.
    pub(super) fn flow_lost(&mut self, now: Now, id: LegId, ways: Vec<Way>) {
        if !matches!(self.phase, Phase::Talking { .. }) {
            return;
        }
        let Some(leg) = self.leg(id).filter(|leg| leg.stage == Stage::Confirmed) else { return };
        leg.ways = ways.into();
        leg.take_way();
        leg.refresh = Refresh::Due { at_ms: now.steady_ms, tries: 0 };
        self.give_up_asking(now, id);
        self.refresh_due(now);
    }

    /// What was asked by a flow that is lost has no answer. That says nothing of the phone, and must not end its dialog.
    fn give_up_asking(&mut self, now: Now, id: LegId) {
        if let Some(exchange) = self.asked_exchange(id) {
            self.exchange_refused(now, exchange, UNAVAILABLE);
        }
        for cseq in self.asked_infos(id) {
            self.info_answered(now, id, cseq, UNAVAILABLE);
        }
    }

    /// The legs that talk by a flow of this node.
    pub fn legs_by(&self, node: NodeId) -> impl Iterator<Item = &Leg> {
        let legs = std::iter::once(&self.caller).chain(&self.callees);
        legs.filter(move |leg| leg.flow.node == node && leg.stage == Stage::Confirmed)
    }

    /// The phone of a leg that does not know where its call is has come back by this way: it is told at once.
    pub(super) fn reachable(&mut self, now: Now, id: LegId, way: Way) {
        let Some(leg) = self.leg(id) else { return };
        if matches!(leg.refresh, Refresh::Done | Refresh::Waiting) {
            return;
        }
        leg.ways.retain(|known| *known != way);
        leg.ways.push_front(way);
        leg.take_way();
        leg.refresh = Refresh::Due { at_ms: now.steady_ms, tries: 0 };
        self.refresh_due(now);
    }

    /// The phone knows.
    fn refreshed(&mut self, now: Now, id: LegId, message: &Message) {
        let answer = super::wire::description(message);
        let Some(leg) = self.leg(id) else { return };
        leg.refresh_target(message);
        leg.media.remote = answer.clone().or(leg.media.remote.take());
        leg.refresh = Refresh::Done;
        leg.unacknowledged = None;
        self.acknowledge(id, None);
        let held = self.peer_of(id).filter(|peer| self.leg(*peer).is_some_and(|leg| leg.ack_due.is_some()));
        match held {
            Some(peer) => self.answer_held_offer(now, id, peer, answer),
            None => {
                self.update_hold();
                self.set_media();
            }
        }
        for leg in std::iter::once(&mut self.caller).chain(&mut self.callees) {
            if leg.refresh == Refresh::Waiting {
                leg.refresh = Refresh::Due { at_ms: now.steady_ms, tries: 0 };
            }
        }
        self.refresh_due(now);
        if !self.is_moving() {
            self.checkpoint(None);
        }
    }

    /// The legs whose phones do not know yet where their call is.
    pub fn legs_adrift(&self) -> impl Iterator<Item = &Leg> {
        let talking = matches!(self.phase, Phase::Talking { .. });
        let legs = std::iter::once(&self.caller).chain(&self.callees).filter(move |_| talking);
        legs.filter(|leg| leg.refresh != Refresh::Done)
    }

    pub(super) fn is_moving(&self) -> bool {
        self.legs_adrift().next().is_some()
    }
}

impl Leg {
    /// Who is at the other end, and where.
    pub fn phone(&self) -> Phone<'_> {
        let (number, contact) = (&self.party.number, &self.dialog.remote_target);
        Phone { number, contact, flow: &self.flow }
    }

    /// When our next word about the move is due.
    pub(super) fn refresh_at(&self) -> Option<u64> {
        match self.refresh {
            Refresh::Due { at_ms, .. } => Some(at_ms),
            Refresh::Done | Refresh::Waiting | Refresh::Asked { .. } => None,
        }
    }

    fn turn_to_next_way(&mut self) {
        self.ways.rotate_left(usize::from(self.ways.len() > 1));
        self.take_way();
    }

    fn take_way(&mut self) {
        if let Some(way) = self.ways.front() {
            (self.flow, self.sent_by) = (way.flow.clone(), way.sent_by.clone());
        }
    }

    /// RFC 3261 section 14.1: who drew the Call-ID waits 2.1 to 4 s after a glare, the other up to 2 s; by chance, which here is
    /// the leg's.
    fn glare_ms(&self, tries: u32) -> u64 {
        let chance = u64::try_from((self.id.0 >> (8 * (tries % 8))) & 0xff).unwrap_or(0);
        match self.direction {
            LegDirection::Out => 2_100 + chance * 1_900 / 255,
            LegDirection::In => chance * 2_000 / 255,
        }
    }

    /// What this leg was told last, as an offer from here, of the formats that were agreed.
    fn renewed_offer(&mut self) -> Option<std::sync::Arc<str>> {
        let last = Sdp::parse(self.media.local.as_deref()?).ok()?;
        let theirs = self.media.remote.as_deref().and_then(|text| Sdp::parse(text).ok());
        let version = self.media.version;
        let mut sdp = self.said_from_here(&last, |ours| relay::renewed(&last, theirs.as_ref(), ours));
        if last.origin.version == version && sdp != last {
            self.media.version += 1;
            sdp.origin.version = self.media.version;
        }
        let text: std::sync::Arc<str> = sdp.to_string().into();
        self.media.local = Some(text.clone());
        Some(text)
    }
}

/// The legs of a call, as the log has them.
pub fn legs_of<'a>(view: &'a State, call: &'a state::Call) -> impl Iterator<Item = &'a LegRecord> {
    call.legs.iter().filter_map(|leg| view.legs.get(leg))
}

/// What began a call, if the log has it.
pub fn invite_of(view: &State, call: &state::Call) -> Option<Message> {
    Message::parse(view.invites.get(&call.id)?.bytes().to_vec().into()).ok()
}

/// The call that this very INVITE began, or the one that this CANCEL means, by the log.
pub fn begun_by<'a>(view: &'a State, request: &Message) -> Option<&'a state::Call> {
    let key = ServerKey::of_invite(request);
    let is_begun =
        |call: &&state::Call| invite_of(view, call).is_some_and(|invite| ServerKey::of(&invite) == key);
    view.calls_from(request.call_id()).find(is_begun)
}

/// `host:port` of a Contact of ours.
fn host_port_of(contact: &str) -> Option<String> {
    let contact = NameAddr::parse(contact).ok()?;
    let uri = Uri::parse(contact.uri).ok()?;
    Some(format!("{}:{}", uri.host, uri.port?))
}

/// A leg as the log has it, with this ownership's numbers.
fn taken(taken: TakenLeg, end: EndId, epoch: u32) -> Leg {
    let TakenLeg { record, media, ways } = taken;
    let block = epoch.saturating_mul(CSEQ_BLOCK);
    let text = |text: String| (!text.is_empty()).then(|| text.into());
    let dialog = Dialog {
        call_id: record.dialog.call_id,
        local: record.dialog.local,
        remote: record.dialog.remote,
        route_set: record.dialog.route_set,
        remote_target: record.dialog.remote_target,
        local_cseq: block,
        remote_cseq: Some(record.dialog.remote_cseq).filter(|cseq| *cseq > 0),
    };
    let media = LegMedia {
        end,
        here: media,
        local: text(record.media.local_sdp),
        remote: text(record.media.remote_sdp),
        session_id: record.media.session_id,
        version: u64::from(epoch).saturating_mul(VERSION_BLOCK),
        codec: record.media.codec,
    };
    let (flow, sent_by) = (record.flow, String::new());
    let mut leg = Leg {
        ways: ways.into(),
        stage: Stage::Confirmed,
        opened_cseq: block,
        hold: if record.held { Hold::Held } else { Hold::Talking },
        answered: record.answered,
        ..leg(record.id, record.direction, record.party, flow, sent_by, dialog, media)
    };
    leg.take_way();
    leg
}
