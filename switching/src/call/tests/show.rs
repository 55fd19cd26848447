//! Outputs as a reader of a transcript wants them.

use tandem_media::plan::{EndPlan, MediaPlan};
use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_state::{Attempt, CallChange, Command, LegRecord};

/// Headers that a transcript shows, in this order.
const SHOWN: [Header<'static>; 14] = [
    Header::Via,
    Header::Route,
    Header::From,
    Header::To,
    Header::CallId,
    Header::CSeq,
    Header::Contact,
    Header::MaxForwards,
    Header::Expires,
    Header::Reason,
    Header::RetryAfter,
    Header::Unsupported,
    Header::Allow,
    Header::ContentType,
];

/// Start line, the shown headers that say something new, and the description's telling lines.
pub(super) fn message(message: &Message, whole: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(message.bytes()).into_owned();
    let mut lines = vec![text.lines().next().unwrap_or_default().to_owned()];
    for header in SHOWN {
        let always =
            matches!(header, Header::CSeq | Header::Reason | Header::RetryAfter | Header::Unsupported);
        let dull = matches!(header, Header::Allow | Header::ContentType | Header::MaxForwards);
        for value in message.headers(header).filter(|_| always || (whole && !dull)) {
            lines.push(format!("  {}: {value}", header.as_str()));
        }
    }
    let body = message.body_text().unwrap_or_default();
    let sdp = message.has_body_of("application/sdp");
    let telling =
        |line: &&str| !sdp || ["o=", "c=", "m="].iter().any(|p| line.starts_with(p)) || is_direction(line);
    lines.extend(body.lines().filter(telling).map(|line| format!("  | {line}")));
    lines
}

fn is_direction(line: &str) -> bool {
    matches!(line, "a=sendrecv" | "a=sendonly" | "a=recvonly" | "a=inactive")
}

pub(super) fn plan(plan: &MediaPlan) -> String {
    let ends: Vec<String> = plan.ends.iter().map(end).collect();
    let watched = if plan.watch_silence { ", silence is watched" } else { "" };
    format!("media {}{watched}", ends.join(" <> "))
}

fn end(end: &EndPlan) -> String {
    let remote = end.remote.map_or("?".to_owned(), |remote| remote.to_string());
    let way = match (end.may_send, end.may_receive) {
        (true, true) => "",
        (true, false) => " only sends",
        (false, true) => " only receives",
        (false, false) => " is silent",
    };
    format!("{}={remote}{way}", end.end.0)
}

pub(super) fn command(command: &Command) -> String {
    match command {
        Command::CreateCall { call, .. } | Command::CreateCallFrom { call, .. } => {
            format!("CreateCall {} to {}: {}", call.from.number, call.to.number, change(&call.change))
        }
        Command::Checkpoint { change: it, .. } => format!("Checkpoint: {}", change(it)),
        Command::MoveCall { to, change: it, .. } => format!("MoveCall to node {}: {}", to.0, change(it)),
        Command::EndCall { change: it, .. } => format!("EndCall: {}", change(it)),
        Command::RefuseCall { node_epoch, refused } => {
            let under = if node_epoch.0 == 1 { String::new() } else { format!(" under epoch {node_epoch}") };
            format!("RefuseCall {} to {}: {:?}{under}", refused.from.number, refused.to.number, refused.cause)
        }
        other => format!("{other:?}"),
    }
}

fn change(change: &CallChange) -> String {
    let phase = change.phase.map(|phase| format!("{phase:?}"));
    let note = change.note.map(|note| format!("note {note:?}"));
    let legs = change.legs.iter().map(leg);
    let attempts = change.attempts.iter().map(attempt);
    let parts: Vec<String> = phase.into_iter().chain(note).chain(legs).chain(attempts).collect();
    parts.join("; ")
}

fn leg(leg: &LegRecord) -> String {
    let held = if leg.held { " held" } else { "" };
    let answered = leg.answered.map(|at| format!(" answered {}", at.0)).unwrap_or_default();
    let codec = if leg.media.codec.is_empty() { String::new() } else { format!(" {}", leg.media.codec) };
    let cseq = (leg.dialog.local_cseq, leg.dialog.remote_cseq);
    format!("leg {} cseq {cseq:?}{answered}{held}{codec}", leg.id)
}

fn attempt(attempt: &Attempt) -> String {
    let answer = attempt.answer.map(|at| format!(" answered {}", at.0)).unwrap_or_default();
    let end =
        attempt.end.as_ref().map(|end| format!(" ended {} {:?}", end.at.0, end.cause)).unwrap_or_default();
    format!("attempt {} from {}{answer}{end}", attempt.number, attempt.start.0)
}
