//! The end: every leg is left as its stage demands, the media session closes, the CDR goes to the log.

use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::ServerKey;
use tandem_state::{Cause, Command, LegId, Quality, Refusal, RefusedCall, Reply};

use super::leg::Stage;
use super::{Call, Output, Phase, Proposal};
use crate::machine::Now;
use crate::refusal;

/// Wait before an end with an unknown outcome is proposed again.
const RETRY_MS: u64 = 2_000;

impl Call {
    /// A party hung up (RFC 3261 section 15.1.2).
    pub(super) fn bye_received(&mut self, now: Now, id: LegId, key: ServerKey, message: &Message) {
        self.refuse(id, key, message, 200, None);
        self.leg_over(id);
        let cause = if self.attempt.answer.is_some() { Cause::NormalClearing } else { Cause::Cancelled };
        self.finish(now, cause);
    }

    /// Ended by us: an operator, a limit, silence, the node's stop.
    pub(super) fn hang_up(&mut self, now: Now, cause: Cause) {
        self.finish(now, cause);
    }

    /// Ends the call for `cause`; the first cause stands.
    pub(super) fn finish(&mut self, now: Now, cause: Cause) {
        if matches!(self.phase, Phase::Ending { .. } | Phase::Over) {
            return;
        }
        self.end_attempt(now.cluster, cause);
        if let Some(exchange_key) = self.open_exchange() {
            let (from, key, request) = exchange_key;
            self.refuse(from, key, &request, 487, None);
        }
        let ids: Vec<LegId> = self.leg_ids().collect();
        for id in ids {
            self.leave(now, id, cause);
        }
        self.phase = Phase::Ending { figures: false, retry_ms: None };
        self.put(Output::CloseMedia);
    }

    /// Leaves one leg as its stage demands.
    pub(super) fn leave(&mut self, _now: Now, id: LegId, cause: Cause) {
        let product = self.settings.product.clone();
        let Some(leg) = self.leg(id) else { return };
        match leg.stage.clone() {
            Stage::Invited { key, invite } => {
                let answer = refusal::answer_for(cause);
                let message = leg.response(&invite, answer.status, answer.retry_after_s, None, &product);
                self.put(Output::Respond { key, message });
                self.leg_over(id);
            }
            Stage::Inviting { invite, provisional: false, .. } => {
                leg.stage = Stage::Inviting { invite, provisional: false, cancel: Some(cause) };
            }
            Stage::Inviting { .. } => self.cancel(id, cause),
            Stage::Confirmed if leg.unacknowledged.is_some() => leg.stage = Stage::Leaving { cause },
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
        let message = super::wire::cancel(invite, cause);
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
        self.put(Output::Request { message, flow });
        self.leg_over(id);
    }

    pub(super) fn leg_over(&mut self, id: LegId) {
        let Some(leg) = self.leg(id) else { return };
        if leg.is_over() {
            return;
        }
        leg.stage = Stage::Over;
        leg.unacknowledged = None;
    }

    /// The media session's figures are the last thing that the CDR waits for.
    pub(super) fn figures(&mut self, _now: Now, quality: Quality) {
        let Phase::Ending { figures, .. } = &mut self.phase else { return };
        *figures = true;
        if self.attempt.answer.is_some() {
            self.attempt.quality = Some(quality);
        }
        self.propose_end_when_ready();
    }

    /// The end follows the creation in the log, never the other way round.
    pub(super) fn propose_end_when_ready(&mut self) {
        if !self.create_pending && matches!(self.phase, Phase::Ending { figures: true, .. }) {
            return self.propose_end();
        }
        if self.create_pending || !self.created {
            return;
        }
        match self.phase {
            Phase::Answering { .. } => self.propose_answer(),
            Phase::Dialling { .. } if std::mem::take(&mut self.note_after_create) => {
                self.note(tandem_state::CallNote::Ringing)
            }
            Phase::Dialling { .. } | Phase::Talking { .. } | Phase::Ending { .. } | Phase::Over => {}
        }
    }

    pub(super) fn propose_end(&mut self) {
        self.phase = Phase::Ending { figures: true, retry_ms: None };
        let command = if self.created {
            Command::EndCall { call: self.id, epoch: self.epoch, change: self.final_change() }
        } else {
            Command::RefuseCall { node_epoch: self.node_epoch, refused: self.refused() }
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

    /// The CDR is in the log, or has to be proposed again: none is ever given up.
    pub(super) fn end_recorded(&mut self, now: Now, outcome: Option<Result<Reply, Refusal>>) {
        let Phase::Ending { retry_ms, .. } = &mut self.phase else { return };
        match outcome {
            Some(_) => {
                self.recorded = true;
                self.over_when_done();
            }
            None => *retry_ms = Some(now.steady_ms + RETRY_MS),
        }
    }

    /// The call is over when its CDR is recorded and no leg can still surprise us.
    pub(super) fn over_when_done(&mut self) {
        if !self.recorded || !self.leg_ids_over() {
            return;
        }
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
