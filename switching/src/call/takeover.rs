//! A call that another node owned goes on here: what is missing is said again, and each phone is told where the call is now
//! ([`super::refresh`]).
//!
//! The dialogs come from the log, so their latest CSeq and description may not be in it: this ownership's numbers begin
//! with a block of their own, above anything that the former owner can have sent.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tandem_media::plan::EndId;
use tandem_sip::dialog::Dialog;
use tandem_sip::message::Message;
use tandem_sip::name_addr::NameAddr;
use tandem_sip::transaction::ServerKey;
use tandem_sip::uri::Uri;
use tandem_state::{self as state, Cause, LegDirection, LegId, LegRecord, NodeEpoch, NodeId, State};

use super::leg::{Hold, Leg, LegMedia, Stage};
use super::refresh::Way;
use super::setup::{CSEQ_BLOCK, VERSION_BLOCK, leg};
use super::{Call, Creation, Output, Phase, Settings, Telling};
use crate::machine::Now;

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

/// A 2xx or an ACK that is younger than this may still be missing (RFC 3261 section 13.3.1.4: 64 T1).
const UNSETTLED_MS: u64 = 32_000;

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
    let is_it = |invite: &Message| ServerKey::of(invite) == ServerKey::of_invite(request);
    view.calls_from(request.call_id()).find(|call| invite_of(view, call).as_ref().is_some_and(is_it))
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
