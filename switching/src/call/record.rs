//! The call as the replicated state keeps it.

use std::collections::BTreeMap;

use tandem_state::{
    AttemptEnd, BridgeRole, CallChange, CallNote, CallPhase, Cause, ClusterTime, Command, DialogRecord,
    LegRecord, MediaRecord, NewCall, Program, Step, StepKind,
};

use super::leg::{Hold, Leg};
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
            change: CallChange {
                phase: Some(CallPhase::Trying),
                legs: vec![self.leg_record(&self.caller)],
                attempts: vec![self.attempt.clone()],
                ..CallChange::default()
            },
        };
        Command::CreateCall { node_epoch: self.node_epoch, call }
    }

    /// What the shape of the call is now.
    pub(super) fn change(&self, note: Option<CallNote>) -> CallChange {
        let talking = self.winner();
        let legs = std::iter::once(&self.caller).chain(talking).map(|leg| self.leg_record(leg)).collect();
        CallChange {
            phase: Some(self.recorded_phase()),
            legs,
            attempts: vec![self.attempt.clone()],
            bridge: talking.map(|winner| bridge(&self.caller, winner)),
            note,
            ..CallChange::default()
        }
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
                local_sdp: leg.media.local.as_deref().unwrap_or_default().to_owned(),
                remote_sdp: leg.media.remote.as_deref().unwrap_or_default().to_owned(),
                session_id: leg.media.session_id,
                session_version: leg.media.version,
                codec: leg.media.codec.clone(),
            },
        }
    }
}

fn bridge(caller: &Leg, winner: &Leg) -> BTreeMap<tandem_state::LegId, BridgeRole> {
    [(caller.id, BridgeRole::Talk), (winner.id, BridgeRole::Talk)].into()
}
