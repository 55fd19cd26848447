//! The step `dial`: rings all targets at once; the first answer wins.

use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_state::{Cause, Command, LegId, Refusal, Reply};

use super::leg::Stage;
use super::{Call, Creation, Output, Phase, Proposal, Ringing, Telling};
use crate::machine::Now;
use crate::refusal;

/// The flow that the request was to take is gone (RFC 5626 section 11.5).
const FLOW_FAILED: u16 = 430;

/// How long a target rings before the log is told.
const RINGING_NOTE_MS: u64 = 250;

impl Call {
    /// Enters the step: the call is made known to the log, and beside that every target is sent its INVITE, which
    /// carries `Expires`, so that one that nobody remembers stops by itself.
    pub(super) fn enter_dial(&mut self, now: Now) {
        let said = self.outputs.len();
        self.put(Output::Listen(self.caller.id));
        for index in 0..self.callees.len() {
            self.ring(index);
        }
        let (what, command) = match self.create {
            Creation::Pending | Creation::Missing => (Proposal::Create, self.create_command()),
            // Another node made it known. An answer waits for this, which would undo it.
            Creation::Created => {
                let (call, epoch) = (self.id, self.epoch);
                self.telling = Telling::Once;
                (Proposal::Shape, Command::Checkpoint { call, epoch, change: self.begun() })
            }
        };
        self.outputs.insert(said, Output::Propose { what, command: Box::new(command) });
        let ring_until_ms = now.steady_ms.saturating_add(self.settings.ring_ms);
        self.phase = Phase::Dialling { ringing: Ringing::No, ring_until_ms };
        if !self.callees.iter().any(super::Leg::is_open_attempt) {
            self.finish(now, self.best_cause);
        }
    }

    /// False when there is nothing to say to that phone.
    fn ring(&mut self, index: usize) -> bool {
        let offer = self.caller.media.remote.clone();
        let expires_s = u32::try_from(self.settings.ring_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
        let Some(leg) = self.callees.get_mut(index) else { return false };
        let body = offer.as_deref().and_then(|offer| leg.local_description(offer));
        let invite = leg.invite(body.as_deref(), expires_s, &self.settings.product, self.max_forwards);
        let Some(invite) = invite else { return false };
        leg.opened = Some(invite.clone());
        leg.stage = Stage::Inviting { invite: invite.clone(), provisional: false, cancel: None };
        let (id, flow) = (leg.id, leg.flow.clone());
        self.put(Output::Listen(id));
        self.put(Output::Request { message: invite, flow });
        true
    }

    /// The phone behind a flow that failed is rung by its next one; false when there is none, or the ringing is over. Only
    /// one flow of a phone rings at a time.
    fn ring_by_next_flow(&mut self, id: LegId) -> bool {
        let dialling = matches!(self.phase, Phase::Dialling { .. });
        let Some(index) = self.callees.iter().position(|leg| leg.id == id && leg.is_open_attempt()) else {
            return false;
        };
        while dialling && self.callees.get_mut(index).is_some_and(super::Leg::turn_to_next_flow) {
            if self.ring(index) {
                self.early = self.early.filter(|early| *early != id);
                return true;
            }
        }
        false
    }

    /// What the log says to the call's record.
    pub(super) fn created(&mut self, now: Now, outcome: Option<Result<Reply, Refusal>>) {
        if self.create != Creation::Pending {
            return;
        }
        self.create = match &outcome {
            Some(Ok(_)) => Creation::Created,
            Some(Err(_)) | None => Creation::Missing,
        };
        match outcome {
            Some(Ok(_)) if matches!(self.phase, Phase::Answering { .. }) => self.propose_answer(),
            Some(Ok(_)) => {}
            Some(Err(refused)) => self.finish(now, refusal::cause_of_refusal(&refused)),
            None => self.finish(now, Cause::Internal),
        }
        self.propose_end_when_ready();
    }

    /// Tells the log that a target rings, when it is time and the call is there.
    pub(super) fn note_ringing(&mut self, now: Now) {
        let created = self.create == Creation::Created;
        let Phase::Dialling { ringing, .. } = &mut self.phase else { return };
        if let Ringing::Since { note_ms } = *ringing
            && created
            && now.steady_ms >= note_ms
        {
            *ringing = Ringing::Noted;
            // It may come after the answer's checkpoint, of which it must undo nothing.
            self.propose_checkpoint(Proposal::Note, self.ringing_change());
        }
    }

    /// A response to the first INVITE of a callee's leg.
    pub(super) fn dial_response(&mut self, now: Now, id: LegId, message: Message) {
        match message.status().unwrap_or(500) {
            0..=199 => self.progress(now, id, &message),
            200..=299 => self.answered(now, id, &message),
            FLOW_FAILED if self.ring_by_next_flow(id) => {}
            status @ 300..=599 => self.target_failed(now, id, refusal::cause_of_status(status)),
            status => self.refused_for_all(now, id, refusal::cause_of_status(status)),
        }
    }

    fn progress(&mut self, now: Now, id: LegId, message: &Message) {
        let Some(leg) = self.callees.iter_mut().find(|leg| leg.id == id) else { return };
        let Stage::Inviting { provisional, cancel, .. } = &mut leg.stage else { return };
        *provisional = true;
        if let Some(cause) = *cancel {
            return self.cancel(id, cause);
        }
        let status = message.status().unwrap_or(100);
        let Phase::Dialling { ringing, .. } = &mut self.phase else { return };
        if status <= 100 {
            return;
        }
        if *ringing == Ringing::No {
            *ringing = Ringing::Since { note_ms: now.steady_ms.saturating_add(RINGING_NOTE_MS) };
        }
        let description = self.early_media(id, message);
        self.tell_caller(status, description.as_deref());
    }

    /// The first target that sends a description before its answer is heard by the caller.
    fn early_media(&mut self, id: LegId, message: &Message) -> Option<std::sync::Arc<str>> {
        let offered = self.caller.media.remote.is_some();
        let description = super::wire::description(message)?;
        if !offered || *self.early.get_or_insert(id) != id {
            return None;
        }
        let leg = self.leg(id)?;
        if leg.media.remote.as_deref() == Some(description.as_ref()) {
            return self.caller.media.local.clone();
        }
        leg.media.remote = Some(description.clone());
        let local = self.caller.local_answer(&description);
        self.set_media();
        local
    }

    fn tell_caller(&mut self, status: u16, description: Option<&str>) {
        let Stage::Invited { key, invite } = &self.caller.stage else { return };
        let status = if matches!(status, 180..=183) { status } else { 183 };
        let message = self.caller.response(invite, status, None, description, &self.settings.product);
        let (key, Some(message)) = (key.clone(), message) else { return };
        self.put(Output::Respond { key, message });
    }

    /// A target is out; when it was the last, the cause that weighs most speaks for the call.
    fn target_failed(&mut self, now: Now, id: LegId, cause: Cause) {
        let Some(leg) = self.leg(id) else { return };
        if !matches!(leg.stage, Stage::Inviting { .. } | Stage::Cancelling { .. }) {
            return;
        }
        let open = leg.is_open_attempt();
        self.leg_over(id);
        self.early = self.early.filter(|early| *early != id);
        if !open || !matches!(self.phase, Phase::Dialling { .. }) {
            return self.over_when_done();
        }
        if refusal::weight(cause) >= refusal::weight(self.best_cause) {
            self.best_cause = cause;
        }
        if !self.callees.iter().any(super::Leg::is_open_attempt) {
            self.finish(now, self.best_cause);
        }
    }

    /// A 6xx speaks for the user and not for the phone (RFC 3261 section 16.7 step 5): the others stop, and its cause is the
    /// call's.
    fn refused_for_all(&mut self, now: Now, id: LegId, cause: Cause) {
        let dialling = matches!(self.phase, Phase::Dialling { .. });
        if !dialling || !self.leg(id).is_some_and(|leg| leg.is_open_attempt()) {
            return self.target_failed(now, id, cause);
        }
        self.leg_over(id);
        self.finish(now, cause);
    }

    /// No final response to a request of ours.
    pub(super) fn unanswered(&mut self, now: Now, id: LegId, method: &Method, cseq: u32) {
        let Some(leg) = self.leg(id) else { return };
        // What became of an INVITE by a flow that was given up says nothing about the present one.
        let former = *method == Method::Invite && cseq != leg.first_cseq();
        let first = !former && matches!(leg.stage, Stage::Inviting { .. } | Stage::Cancelling { .. });
        match method {
            Method::Invite if first && self.ring_by_next_flow(id) => {}
            Method::Invite | Method::Cancel if first => self.target_failed(now, id, Cause::Unreachable),
            Method::Info => self.info_unanswered(now, id, cseq),
            Method::Invite if self.is_refresh(id, cseq) => self.refresh_unanswered(now, id),
            Method::Invite | Method::Update => self.exchange_unanswered(now, id, cseq),
            _ => {}
        }
    }

    /// The targets rang to the end.
    pub(super) fn rang_out(&mut self, now: Now) {
        self.finish(now, Cause::NoAnswer);
    }

    /// The caller gave up; a winner that the caller never heard of is left too.
    pub(super) fn cancelled(&mut self, now: Now) {
        if !matches!(self.caller.stage, Stage::Invited { .. }) {
            return;
        }
        self.finish(now, Cause::Cancelled);
    }

    /// The caller can't be told any more, and knows it. With its node's loss its connection went too.
    pub(super) fn caller_gone(&mut self, now: Now) {
        if !matches!(self.caller.stage, Stage::Invited { .. }) {
            return;
        }
        self.finish(now, if self.has_moved() { Cause::NodeLost } else { Cause::Cancelled });
    }

    /// Leaves the step by an answer: everyone else stops ringing.
    pub(super) fn leave_dial(&mut self, now: Now, winner: LegId) {
        let losers: Vec<LegId> = self.callees.iter().map(|leg| leg.id).filter(|id| *id != winner).collect();
        for id in losers {
            self.leave(now, id, Cause::AnsweredElsewhere);
        }
    }

    /// A response by its request.
    pub(super) fn response(&mut self, now: Now, id: LegId, message: Message) {
        let Some(leg) = self.leg(id) else { return };
        let cseq = message.cseq().number;
        let first = leg.opened.is_some() && cseq == leg.first_cseq();
        match message.method() {
            Method::Invite if first => self.dial_response(now, id, message),
            Method::Invite if self.is_refresh(id, cseq) => self.refresh_response(now, id, &message),
            Method::Invite | Method::Update => self.exchange_response(now, id, cseq, &message),
            Method::Info => self.info_response(now, id, cseq, &message),
            _ => {}
        }
    }
}
