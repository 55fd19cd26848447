//! Bounds of what an owner says about its call.

use crate::bounds::*;
use crate::ids::CallId;
use crate::outcome::Refusal;
use crate::records::*;

pub(super) fn program(program: &Program) -> Result<(), Refusal> {
    at_most("program.flow", &program.flow, SHOWN_NAME_MAX)?;
    if program.path.len() > STEPS_MAX {
        return Err(invalid("program.path", format!("has more than {STEPS_MAX} steps")));
    }
    for step in &program.path {
        at_most("program.path", &step.id, SHOWN_NAME_MAX)?;
        match &step.kind {
            StepKind::Dial { number, .. } => at_most("program.path.dial", number, URI_MAX)?,
        }
    }
    Ok(())
}

pub(super) fn attempts(attempts: &[Attempt]) -> Result<(), Refusal> {
    if attempts.iter().all(|attempt| (1..=ATTEMPTS_MAX).contains(&attempt.number)) {
        return Ok(());
    }
    Err(invalid("change.attempts", format!("are numbered from 1 to {ATTEMPTS_MAX}")))
}

pub(super) fn leg(leg: &LegRecord, call: CallId) -> Result<(), Refusal> {
    if leg.call != call {
        return Err(invalid("change.legs", "name another call"));
    }
    dialog(&leg.dialog)?;
    at_most("leg.media.local_sdp", &leg.media.local_sdp, SDP_MAX)?;
    at_most("leg.media.remote_sdp", &leg.media.remote_sdp, SDP_MAX)?;
    at_most("leg.media.codec", &leg.media.codec, NAME_MAX)
}

fn dialog(dialog: &DialogRecord) -> Result<(), Refusal> {
    at_most("leg.dialog.call_id", &dialog.call_id, CALL_ID_MAX)?;
    at_most("leg.dialog.local", &dialog.local, URI_MAX)?;
    at_most("leg.dialog.remote", &dialog.remote, URI_MAX)?;
    at_most("leg.dialog.contact", &dialog.contact, URI_MAX)?;
    at_most("leg.dialog.remote_target", &dialog.remote_target, URI_MAX)?;
    if dialog.route_set.len() > ROUTES_MAX {
        return Err(invalid("leg.dialog.route_set", format!("has more than {ROUTES_MAX} entries")));
    }
    dialog.route_set.iter().try_for_each(|route| at_most("leg.dialog.route_set", route, URI_MAX))
}
