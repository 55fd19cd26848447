//! The end: every leg is left as its stage demands, the media session closes, the CDR goes to the log.

use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::ServerKey;
use tandem_state::{Cause, Command, LegId, NodeEpoch, Quality, Refusal, RefusedCall, Reply};

use super::leg::Stage;
use super::refresh::Refresh;
use super::{Call, Creation, Output, Phase, Proposal};
use crate::machine::Now;
use crate::refusal;

/// Wait before an end with an unknown outcome is proposed again.
const RETRY_MS: u64 = 2_000;
/// The longest wait for the media's figures.
const FIGURES_MS: u64 = 5_000;

impl Call {
    /// A party hung up (RFC 3261 section 15.1.2).
    pub(super) fn bye_received(&mut self, now: Now, id: LegId, key: ServerKey, message: &Message) {
        let Some(leg) = self.leg(id) else { return };
        let cause = match leg.stage {
            Stage::Invited { .. } => Cause::Cancelled,
            // A callee may not leave a dialog that is not confirmed (section 15).
            Stage::Inviting { .. } | Stage::Cancelling { .. } => {
                return self.refuse(id, key, message, 481, None);
            }
            Stage::Confirmed | Stage::Leaving { .. } | Stage::Over => self.cause_of_bye(),
        };
        self.refuse(id, key, message, 200, None);
        if cause != Cause::Cancelled {
            self.leg_over(id);
        }
        self.finish(now, cause);
        self.over_when_done();
    }

    /// A callee that leaves before the caller heard of its answer was never reached.
    fn cause_of_bye(&self) -> Cause {
        match self.phase {
            Phase::Dialling { .. } | Phase::Answering { .. } => Cause::Unreachable,
            Phase::Talking { .. } | Phase::Ending { .. } | Phase::Over => Cause::NormalClearing,
        }
    }

    /// No media: the end of a call that talks. On hold or before the answer silence is no sign; a report may cross them.
    pub(super) fn silent(&mut self, now: Now) {
        if matches!(self.phase, Phase::Talking { .. }) && !self.is_held() {
            self.finish(now, Cause::NoMedia);
        }
    }

    /// Ends the call for `cause`; the first cause stands.
    pub(super) fn finish(&mut self, now: Now, cause: Cause) {
        if matches!(self.phase, Phase::Ending { .. } | Phase::Over) {
            return;
        }
        if matches!(self.caller.stage, Stage::Invited { .. }) {
            // What the caller never heard of is no answer.
            self.attempt.answer = None;
        }
        self.end_attempt(now.cluster, cause);
        for (from, key, request) in self.open_requests() {
            self.refuse(from, key, &request, 487, None);
        }
        let ids: Vec<LegId> = self.leg_ids().collect();
        for id in ids {
            self.leave(now, id, cause);
        }
        let retry_ms = Some(now.steady_ms.saturating_add(FIGURES_MS));
        self.phase = Phase::Ending { figures: false, retry_ms };
        self.put(Output::CloseMedia);
    }

    /// Requests that were passed on and have no answer yet.
    fn open_requests(&mut self) -> Vec<(LegId, ServerKey, Message)> {
        self.open_exchange().into_iter().chain(self.open_infos()).collect()
    }

    /// Leaves one leg as its stage demands.
    pub(super) fn leave(&mut self, _now: Now, id: LegId, cause: Cause) {
        let product = self.settings.product.clone();
        let Some(leg) = self.leg(id) else { return };
        match leg.stage.clone() {
            Stage::Invited { key, invite } => {
                let answer = refusal::answer_for(cause);
                let message = leg.response(&invite, answer.status, answer.retry_after_s, None, &product);
                if let Some(message) = message {
                    self.put(Output::Respond { key, message });
                }
                self.leg_over(id);
            }
            Stage::Inviting { invite, provisional: false, .. } => {
                leg.stage = Stage::Inviting { invite, provisional: false, cancel: Some(cause) };
            }
            Stage::Inviting { .. } => self.cancel(id, cause),
            Stage::Confirmed if leg.awaits_ack() => leg.stage = Stage::Leaving { cause },
            Stage::Confirmed => {
                if leg.ack_due.is_some() {
                    self.acknowledge(id, None);
                }
                self.bye(id, cause);
            }
            Stage::Cancelling { .. } | Stage::Leaving { .. } | Stage::Over => {}
        }
    }

    /// CANCEL, once the target has been heard (section 9.1).
    pub(super) fn cancel(&mut self, id: LegId, cause: Cause) {
        let Some(leg) = self.leg(id) else { return };
        let Stage::Inviting { invite, .. } = &leg.stage else { return };
        let Some(message) = super::wire::cancel(invite, cause) else { return };
        leg.stage = Stage::Cancelling { cause };
        let flow = leg.flow.clone();
        self.put(Output::Request { message, flow });
    }

    /// BYE; the leg is over with it, whatever is answered.
    pub(super) fn bye(&mut self, id: LegId, cause: Cause) {
        let product = self.settings.product.clone();
        let Some(leg) = self.leg(id) else { return };
        let reason = super::wire::reason(cause);
        let message = leg.request(&Method::Bye, None, Some(&reason), &product);
        let flow = leg.flow.clone();
        if let Some(message) = message {
            self.put(Output::Request { message, flow });
        }
        self.leg_over(id);
    }

    pub(super) fn leg_over(&mut self, id: LegId) {
        let Some(leg) = self.leg(id) else { return };
        if leg.is_over() {
            return;
        }
        leg.stage = Stage::Over;
        leg.unacknowledged = None;
        leg.refresh = Refresh::Done;
    }

    /// The lease ended under which everything was asked: the transactions went with it, and no answer will come any more.
    fn leave_all_legs(&mut self) {
        let ids: Vec<LegId> = self.leg_ids().collect();
        for id in ids {
            self.leg_over(id);
        }
    }

    /// A call that has ended waits for no answer that can't come any more. Of one that has not, the log says what becomes of it.
    pub(super) fn leased(&mut self, epoch: NodeEpoch) {
        if epoch > self.node_epoch && matches!(self.phase, Phase::Ending { .. }) {
            self.leave_all_legs();
            self.over_when_done();
        }
    }

    /// The call is somebody else's, or nobody's: no leg is left, nobody is told, and its CDR is written already.
    pub(super) fn lost(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        let wanted = self.unrecorded_wish();
        self.outputs.clear();
        self.leave_to_successor();
        wanted.into_iter().for_each(|cause| self.put(Output::PassOnHangUp(cause)));
        self.forget_all();
    }

    /// Somebody ended the call, and the log has not heard of it.
    fn unrecorded_wish(&self) -> Option<Cause> {
        let ends = matches!(self.phase, Phase::Ending { .. }) && !self.recorded;
        let cause = self.attempt.end.as_ref().filter(|_| ends)?.cause;
        matches!(cause, Cause::Cancelled | Cause::NormalClearing | Cause::AdminHangup).then_some(cause)
    }

    /// As [`Call::lost`], heard from the log's answer to a proposal before anybody else here knows: what was asked and answered
    /// for this call would go on being repeated.
    pub(super) fn lost_by_outcome(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        self.lost();
        self.outputs.push_front(Output::Abandon);
    }

    /// The media session's figures are the last thing that the CDR waits for.
    pub(super) fn figures(&mut self, _now: Now, quality: Quality) {
        let Phase::Ending { figures: figures @ false, retry_ms } = &mut self.phase else { return };
        (*figures, *retry_ms) = (true, None);
        if self.attempt.answer.is_some() {
            self.attempt.quality = Some(quality);
        }
        self.propose_end_when_ready();
    }

    /// The end follows the creation in the log, never the other way round.
    pub(super) fn propose_end_when_ready(&mut self) {
        if self.create != Creation::Pending && matches!(self.phase, Phase::Ending { figures: true, .. }) {
            self.propose_end();
        }
    }

    /// The media's figures did not come in time, or the end is to be proposed again.
    pub(super) fn end_is_due(&mut self) {
        self.phase = Phase::Ending { figures: true, retry_ms: None };
        self.propose_end_when_ready();
    }

    fn propose_end(&mut self) {
        self.phase = Phase::Ending { figures: true, retry_ms: None };
        let command = match self.create {
            Creation::Created => {
                Command::EndCall { call: self.id, epoch: self.epoch, change: self.final_change() }
            }
            Creation::Pending | Creation::Missing => {
                Command::RefuseCall { node_epoch: self.node_epoch, refused: self.refused() }
            }
        };
        self.put(Output::Propose { what: Proposal::End, command: Box::new(command) });
    }

    fn refused(&self) -> RefusedCall {
        RefusedCall {
            id: self.id,
            tenant: self.tenant,
            direction: self.direction,
            from: self.from.clone(),
            to: self.to.clone(),
            start: self.start,
            cause: self.attempt.end.as_ref().map_or(Cause::Internal, |end| end.cause),
        }
    }

    /// The CDR is in the log, or has to be proposed again, under the next lease if this one ended: none is ever given up.
    pub(super) fn end_recorded(&mut self, now: Now, outcome: Option<Result<Reply, Refusal>>) {
        let Phase::Ending { figures: true, retry_ms } = &mut self.phase else { return };
        let again_ms = Some(now.steady_ms.saturating_add(RETRY_MS));
        if let Some(Err(refused)) = &outcome
            && let Some(epoch) = refusal::next_epoch(refused)
        {
            (self.node_epoch, *retry_ms) = (epoch, again_ms);
            return self.leave_all_legs();
        }
        match (outcome, self.create) {
            (Some(Err(Refusal::OutcomeForgotten)) | None, _) => *retry_ms = again_ms,
            // Its creation was carried out, and nobody heard of it.
            (Some(Err(Refusal::Exists(_))), Creation::Missing) => {
                self.create = Creation::Created;
                self.propose_end();
            }
            (Some(_), _) => {
                self.recorded = true;
                self.over_when_done();
            }
        }
    }

    /// The call is over when its CDR is recorded and no leg can still surprise us.
    pub(super) fn over_when_done(&mut self) {
        if !self.recorded || !self.leg_ids_over() || self.phase == Phase::Over {
            return;
        }
        self.forget_all();
    }

    fn forget_all(&mut self) {
        let ids: Vec<LegId> = self.leg_ids().collect();
        for id in ids {
            self.put(Output::Forget(id));
        }
        self.phase = Phase::Over;
    }

    fn leg_ids_over(&self) -> bool {
        self.caller.is_over() && self.callees.iter().all(super::Leg::is_over)
    }
}
