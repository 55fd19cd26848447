//! The answer: the winner's ACK, the checkpoint, the caller's 200 and its repeats.

use std::sync::Arc;

use tandem_sip::message::Message;
use tandem_state::{CallNote, Cause, LegId, Refusal, Reply};

use super::leg::Stage;
use super::{Call, Creation, Output, Phase, Proposal, Telling};
use crate::machine::Now;
use crate::refusal;

impl Call {
    /// A 2xx to the first INVITE of a callee's leg.
    pub(super) fn answered(&mut self, now: Now, id: LegId, message: &Message) {
        let Some(leg) = self.leg(id) else { return };
        match leg.stage {
            Stage::Inviting { cancel: None, .. } => {}
            Stage::Inviting { cancel: Some(cause), .. } | Stage::Cancelling { cause } => {
                return self.refuse_late_answer(now, id, cause, message);
            }
            Stage::Over if leg.answered.is_none() => {
                return self.refuse_late_answer(now, id, Cause::Cancelled, message);
            }
            Stage::Confirmed | Stage::Over | Stage::Leaving { .. } => {
                return self.answered_again(id, message);
            }
            Stage::Invited { .. } => return,
        }
        leg.confirm(message);
        leg.answered = Some(now.cluster);
        leg.media.remote = super::wire::description(message);
        let description = leg.media.remote.clone();
        self.attempt.answer = Some(now.cluster);
        self.phase = Phase::Answering { winner: id };
        self.leave_dial(now, id);
        if let Some(leg) = self.leg(id) {
            leg.ack_due = Some(leg.first_cseq());
        }
        let Some(description) = description else {
            return self.finish(now, Cause::MediaNotAcceptable);
        };
        self.caller.local_answer(&description);
        self.note_codec();
        self.update_hold();
        self.set_media();
        if self.create == Creation::Created && self.telling == Telling::Nothing {
            self.propose_answer();
        }
    }

    /// The checkpoint of the answer; the caller's 200 goes out after it.
    pub(super) fn propose_answer(&mut self) {
        self.propose_checkpoint(Proposal::Answer, self.change(Some(CallNote::Answered)));
    }

    /// The answer is recorded: both hear of it. A phone that was acknowledged before would stay in a dialog that nobody knows, if
    /// the answer never came into the log.
    pub(super) fn answer_recorded(&mut self, now: Now, outcome: Option<Result<Reply, Refusal>>) {
        let Phase::Answering { winner } = self.phase else { return };
        match outcome {
            Some(Ok(_)) => {}
            Some(Err(refused)) => return self.finish(now, refusal::cause_of_refusal(&refused)),
            None => return self.finish(now, Cause::Internal),
        }
        let Stage::Invited { key, invite } = &self.caller.stage else { return };
        let (key, invite) = (key.clone(), invite.clone());
        if self.caller.media.remote.is_some() {
            self.acknowledge(winner, None);
        }
        let description = self.caller.media.local.clone();
        let response =
            self.caller.response(&invite, 200, None, description.as_deref(), &self.settings.product);
        let Some(response) = response else { return self.finish(now, Cause::Internal) };
        self.caller.stage = Stage::Confirmed;
        self.caller.answered = Some(now.cluster);
        let cseq = invite.cseq().number;
        self.caller.await_ack(now.steady_ms, key.clone(), response.clone(), cseq);
        self.phase = Phase::Talking { winner, until_ms: now.steady_ms + self.settings.talk_max_ms };
        self.set_media();
        self.put(Output::Respond { key, message: response });
    }

    /// A phone that answered although it was told to stop: it is thanked and left (RFC 3261 section 13.2.2.4).
    fn refuse_late_answer(&mut self, now: Now, id: LegId, cause: Cause, message: &Message) {
        if let Some(leg) = self.leg(id) {
            leg.confirm(message);
            leg.answered = Some(now.cluster);
            leg.ack_due = Some(leg.first_cseq());
        }
        self.acknowledge(id, None);
        self.bye(id, cause);
        self.over_when_done();
    }

    /// A 2xx that nobody waits for (any more): our ACK was lost, or there was none. One whose ACK waits for the other
    /// side's answer goes on waiting.
    pub(super) fn repeat_ack(&mut self, id: LegId, message: &Message) {
        let product = self.settings.product.clone();
        let Some(leg) = self.leg(id) else { return };
        let cseq = message.cseq().number;
        if leg.ack_due == Some(cseq) {
            return;
        }
        let sent = leg.ack.clone().filter(|(acknowledged, _)| *acknowledged == cseq).map(|(_, ack)| ack);
        let Some(message) = sent.or_else(|| leg.ack(cseq, None, &product)) else { return };
        let flow = leg.flow.clone();
        self.put(Output::Send { message, flow });
    }

    /// Sends the ACK to a 2xx of the leg's last INVITE.
    pub(super) fn acknowledge(&mut self, id: LegId, description: Option<&str>) {
        let product = self.settings.product.clone();
        let Some(leg) = self.leg(id) else { return };
        let cseq = leg.ack_due.take().unwrap_or(leg.dialog.local_cseq);
        let Some(message) = leg.ack(cseq, description, &product) else { return };
        leg.ack = Some((cseq, message.clone()));
        let flow = leg.flow.clone();
        self.put(Output::Send { message, flow });
    }

    /// The ACK to a 2xx of ours; with a delayed offer it carries the answer that the other side waits for.
    pub(super) fn acknowledged(&mut self, now: Now, id: LegId, message: &Message) {
        let peer = self.peer_of(id);
        let Some(leg) = self.leg(id).filter(|leg| leg.holds(message)) else { return };
        let cseq = message.cseq().number;
        match &leg.unacknowledged {
            Some(wait) if wait.cseq == cseq => leg.unacknowledged = None,
            Some(_) | None => return,
        }
        if let Stage::Leaving { cause } = leg.stage {
            self.bye(id, cause);
            return self.over_when_done();
        }
        self.end_exchange(id);
        let Some(peer) = peer else { return };
        if self.leg(peer).is_none_or(|leg| leg.ack_due.is_none()) {
            return;
        }
        self.answer_held_offer(now, id, peer, super::wire::description(message));
    }

    /// What `id` says to the offer in the 2xx of `peer`, whose ACK waited for it. The log learns of it: who takes the call over
    /// has to know what both agreed on.
    pub(super) fn answer_held_offer(&mut self, now: Now, id: LegId, peer: LegId, answer: Option<Arc<str>>) {
        let Some(answer) = answer else {
            return self.finish(now, Cause::MediaNotAcceptable);
        };
        if let Some(leg) = self.leg(id) {
            leg.media.remote = Some(answer.clone());
        }
        let local = self.leg(peer).and_then(|leg| leg.local_answer(&answer));
        self.acknowledge(peer, local.as_deref());
        self.note_codec();
        let note = self.update_hold();
        self.set_media();
        self.checkpoint(note);
    }

    /// Repeats each 2xx that is due; one that was never acknowledged ends the call (section 13.3.1.4).
    pub(super) fn repeat_unacknowledged(&mut self, now: Now) {
        let ids: Vec<LegId> = self.leg_ids().collect();
        for id in ids {
            let Some(leg) = self.leg(id) else { continue };
            let Some(wait) = &mut leg.unacknowledged else { continue };
            if now.steady_ms >= wait.until_ms {
                self.never_acknowledged(now, id);
            } else if now.steady_ms >= wait.next_ms {
                wait.back_off(now.steady_ms);
                let (key, message) = (wait.key.clone(), wait.response.clone());
                self.put(Output::Respond { key, message });
            }
        }
    }

    fn never_acknowledged(&mut self, now: Now, id: LegId) {
        let Some(leg) = self.leg(id) else { return };
        let is_first = leg.awaits_ack();
        leg.unacknowledged = None;
        if !is_first {
            return;
        }
        if let Stage::Leaving { cause } = leg.stage {
            self.bye(id, cause);
            return self.over_when_done();
        }
        if self.has_moved() {
            // It rang at a node that was lost: the caller may have given up there.
            self.attempt.answer = None;
        }
        self.finish(now, Cause::Unreachable);
    }
}
