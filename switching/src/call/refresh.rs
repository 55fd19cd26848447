//! Each phone of a call that came here, or whose flow is lost, is told where its call is now: by a re-INVITE, again and again
//! until it knows. Nothing here is in a hurry to end a call: what can't be reached is tried again, for the phones may still
//! hear each other.

use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::sdp::Sdp;
use tandem_sip::sdp::relay;
use tandem_state::{Cause, Flow, LegDirection, LegId, NodeId, Transport};

use super::leg::{Leg, Stage};
use super::{Call, Phase};
use crate::machine::Now;
use crate::routing::Phone;

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

/// The first wait before a phone is tried again, and the longest.
const AGAIN_MS: u64 = 1_000;
const AGAIN_MAX_MS: u64 = 30_000;
/// After so many re-INVITEs in a row that nobody answered, each given 32 s, a phone on hold counts as gone.
const UNHEARD_MAX: u32 = 3;
/// A re-INVITE of ours waits so long for what the phone has open itself.
const BUSY_MS: u64 = 250;
/// And so long after a 200 that the phone may not have had.
const ANSWERED_MS: u64 = 200;
/// What a transport that fails stands for (RFC 3261 section 8.1.3.1).
const UNAVAILABLE: u16 = 503;

impl Call {
    /// Both at once where nothing can be made worse; else first the one that is harder to reach.
    pub(super) fn begin_refresh(&mut self, now: Now, is_proven: bool) {
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
    pub(super) fn begin_refresh_by_caller(&mut self, now: Now) {
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
        let Some(leg) = self.leg(id) else { return };
        let Refresh::Asked { tries, .. } = leg.refresh else { return };
        leg.unheard = 0;
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
            leg.unheard = leg.unheard.saturating_add(1);
        }
        self.refresh_later(now, id, tries, None);
        self.give_up_unheard(now);
    }

    /// On hold nobody misses media, so that a call whose phones both are gone would stand until the longest talk is over. The
    /// phone whose turn was to come when the first knows is told now: no talk can be made worse by that.
    fn give_up_unheard(&mut self, now: Now) {
        let is_gone = |leg: &Leg| leg.refresh != Refresh::Done && leg.unheard >= UNHEARD_MAX;
        if !self.is_held() || !self.legs_adrift().any(is_gone) {
            return;
        }
        let mut legs = std::iter::once(&self.caller).chain(&self.callees);
        if legs.all(|leg| leg.stage != Stage::Confirmed || is_gone(leg)) {
            return self.finish(now, Cause::Unreachable);
        }
        self.others_are_due(now);
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
        leg.unheard = 0;
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
        self.others_are_due(now);
        if !self.is_moving() {
            self.checkpoint(None);
        }
    }

    /// Who waited for its turn has it.
    fn others_are_due(&mut self, now: Now) {
        for leg in std::iter::once(&mut self.caller).chain(&mut self.callees) {
            if leg.refresh == Refresh::Waiting {
                leg.refresh = Refresh::Due { at_ms: now.steady_ms, tries: 0 };
            }
        }
        self.refresh_due(now);
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

    pub(super) fn take_way(&mut self) {
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
    pub(super) fn renewed_offer(&mut self) -> Option<std::sync::Arc<str>> {
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
