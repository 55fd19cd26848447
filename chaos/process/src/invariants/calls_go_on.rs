//! Standing calls end by their phones alone: each came up, and none was ended by the switch or by nobody, but for as many as
//! the script allows.

use super::Judgement;
use crate::history::History;

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    let mut lost = Vec::new();
    for phones in history.standing() {
        for call in &phones.seen.calls {
            judgement.looked_at += 1;
            let why = match (&call.failure, call.answered_ms, call.ended_ms) {
                (Some(failure), _, _) => failure.clone(),
                (None, None, _) => "never answered".to_owned(),
                (None, Some(_), None) => "never ended".to_owned(),
                (None, Some(_), Some(_)) => continue,
            };
            let when = history.time(call.hung_up_ms.or(call.ended_ms).unwrap_or(history.until_ms));
            lost.push(format!("{}, {} to {}, at {when}: {why}", phones.tenant, call.from, call.to));
        }
    }
    judgement.figures = format!("{} standing calls, {} lost", judgement.looked_at, lost.len());
    if lost.len() > history.bounds.calls_lost {
        judgement.broken = lost;
    }
    judgement
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn a_call_that_the_switch_ended_is_found_beyond_what_is_allowed() {
        let mut history = made_up::history();
        history.phones[0].seen.calls[0].failure = Some("ended by the switch: no reason".into());
        assert_eq!(judge(&history).broken.len(), 1);
        history.bounds.calls_lost = 1;
        assert!(judge(&history).holds());
    }

    #[test]
    fn a_call_that_never_came_up_or_never_ended_is_found() {
        let mut history = made_up::history();
        history.phones[0].seen.calls[0].ended_ms = None;
        assert!(judge(&history).broken[0].contains("never ended"));
        history.phones[0].seen.calls[0].answered_ms = None;
        assert!(judge(&history).broken[0].contains("never answered"));
    }
}
