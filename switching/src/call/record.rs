//! The call as the replicated state keeps it.

use std::collections::BTreeMap;

use tandem_state::bounds::INVITE_MAX;
use tandem_state::{
    AttemptEnd, BridgeRole, CallChange, CallNote, CallPhase, Cause, ClusterTime, Command, DialogRecord,
    Invite, LegId, LegRecord, MediaRecord, NewCall, Program, Step, StepKind,
};

use super::leg::{Hold, Leg, Stage};
use super::{Call, Phase, Ringing};

impl Call {
    /// The command that makes the call known to the cluster.
    pub(super) fn create_command(&self) -> Command {
        let call = NewCall {
            id: self.id,
            interaction: self.interaction,
            tenant: self.tenant,
            owner: self.node,
            direction: self.direction,
            from: self.from.clone(),
            to: self.to.clone(),
            start: self.start,
            program: self.program(),
            change: self.begun(),
        };
        let node_epoch = self.node_epoch;
        match self.kept_invite() {
            Some(invite) => Command::CreateCallFrom { node_epoch, call, invite },
            None => Command::CreateCall { node_epoch, call },
        }
    }

    /// The call as it begins to ring. Whom it rings is of use with the INVITE alone.
    pub(super) fn begun(&self) -> CallChange {
        let ringing = self.callees.iter().filter(|leg| self.keeps_invite && leg.is_open_attempt());
        CallChange {
            phase: Some(CallPhase::Trying),
            legs: std::iter::once(&self.caller).chain(ringing).map(|leg| self.leg_record(leg)).collect(),
            legs_gone: self.gone.clone(),
            attempts: vec![self.attempt.clone()],
            ..CallChange::default()
        }
    }

    fn kept_invite(&self) -> Option<Invite> {
        let Stage::Invited { invite, .. } = &self.caller.stage else { return None };
        let bytes = invite.bytes();
        (self.keeps_invite && bytes.len() <= INVITE_MAX).then(|| Invite::from(bytes.as_ref()))
    }

    /// What the shape of the call is now.
    pub(super) fn change(&self, note: Option<CallNote>) -> CallChange {
        let talking = self.winner();
        let legs = std::iter::once(&self.caller).chain(talking).map(|leg| self.leg_record(leg)).collect();
        CallChange {
            phase: Some(self.recorded_phase()),
            legs,
            legs_gone: self.losers(),
            attempts: vec![self.attempt.clone()],
            bridge: talking.map(|winner| bridge(&self.caller, winner)),
            note,
            ..CallChange::default()
        }
    }

    /// The legs that lost to the winner; the log does not mind to hear of them twice.
    fn losers(&self) -> Vec<LegId> {
        let Some(winner) = self.winner().map(|leg| leg.id).filter(|_| self.keeps_invite) else {
            return Vec::new();
        };
        let others = self.callees.iter().map(|leg| leg.id).filter(|id| *id != winner);
        others.chain(self.gone.iter().copied()).collect()
    }

    /// It rings, and nothing else.
    pub(super) fn ringing_change(&self) -> CallChange {
        CallChange { phase: Some(CallPhase::Ringing), note: Some(CallNote::Ringing), ..CallChange::default() }
    }

    /// The last change: the attempt with its end.
    pub(super) fn final_change(&self) -> CallChange {
        CallChange { attempts: vec![self.attempt.clone()], ..CallChange::default() }
    }

    /// Ends the attempt, once; the first cause stands.
    pub(super) fn end_attempt(&mut self, at: ClusterTime, cause: Cause) {
        self.attempt.end.get_or_insert(AttemptEnd { at, cause });
    }

    pub(super) fn winner(&self) -> Option<&Leg> {
        let (Phase::Answering { winner } | Phase::Talking { winner, .. }) = self.phase else { return None };
        self.callees.iter().find(|leg| leg.id == winner)
    }

    fn recorded_phase(&self) -> CallPhase {
        match self.phase {
            Phase::Dialling { ringing: Ringing::No, .. } => CallPhase::Trying,
            Phase::Dialling { .. } => CallPhase::Ringing,
            Phase::Answering { .. } | Phase::Talking { .. } | Phase::Ending { .. } | Phase::Over => {
                let held =
                    self.caller.hold == Hold::Held || self.winner().is_some_and(|w| w.hold == Hold::Held);
                if held { CallPhase::Held } else { CallPhase::Answered }
            }
        }
    }

    fn program(&self) -> Program {
        let ring_until = self.start.plus_ms(self.settings.ring_ms);
        let dial = StepKind::Dial { number: self.to.number.clone(), ring_until };
        Program { flow: String::new(), path: vec![Step { id: "dial".into(), kind: dial }] }
    }

    fn leg_record(&self, leg: &Leg) -> LegRecord {
        let dialog = &leg.dialog;
        LegRecord {
            id: leg.id,
            call: self.id,
            direction: leg.direction,
            party: leg.party.clone(),
            flow: leg.flow.clone(),
            held: leg.hold == Hold::Held,
            answered: leg.answered,
            dialog: DialogRecord {
                call_id: dialog.call_id.to_string(),
                local: dialog.local.to_string(),
                remote: dialog.remote.to_string(),
                contact: leg.contact(),
                route_set: dialog.route_set.iter().map(ToString::to_string).collect(),
                remote_target: dialog.remote_target.to_string(),
                local_cseq: dialog.local_cseq,
                remote_cseq: dialog.remote_cseq.unwrap_or_default(),
            },
            media: MediaRecord {
                // Who only rings is offered anew by another node.
                local_sdp: leg
                    .media
                    .local
                    .as_deref()
                    .filter(|_| !leg.is_open_attempt())
                    .unwrap_or_default()
                    .to_owned(),
                remote_sdp: leg.media.remote.as_deref().unwrap_or_default().to_owned(),
                session_id: leg.media.session_id,
                session_version: leg.media.version,
                codec: leg.media.codec.clone(),
            },
        }
    }
}

fn bridge(caller: &Leg, winner: &Leg) -> BTreeMap<LegId, BridgeRole> {
    [(caller.id, BridgeRole::Talk), (winner.id, BridgeRole::Talk)].into()
}
