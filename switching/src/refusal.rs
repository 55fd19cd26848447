//! One table from causes to what a phone hears and what is counted.

use tandem_state::{Cause, NodeEpoch, Refusal};

/// What a phone is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// SIP status.
    pub status: u16,
    /// Reason phrase.
    pub reason: &'static str,
    /// Seconds for `Retry-After`, where trying again makes sense.
    pub retry_after_s: Option<u32>,
    /// Label in `tandem_calls_total{result}`.
    pub metric: &'static str,
}

const fn answer(status: u16, reason: &'static str, metric: &'static str) -> Answer {
    Answer { status, reason, retry_after_s: None, metric }
}

const fn later(status: u16, reason: &'static str, metric: &'static str, seconds: u32) -> Answer {
    Answer { status, reason, retry_after_s: Some(seconds), metric }
}

/// What a caller is told when a call that was not answered ends for `cause`.
pub fn answer_for(cause: Cause) -> Answer {
    match cause {
        Cause::NormalClearing => answer(487, "Request Terminated", "normal_clearing"),
        Cause::Cancelled => answer(487, "Request Terminated", "cancelled"),
        Cause::AnsweredElsewhere => answer(487, "Request Terminated", "answered_elsewhere"),
        Cause::Busy => answer(486, "Busy Here", "busy"),
        Cause::Declined => answer(603, "Decline", "declined"),
        Cause::NoAnswer => answer(480, "Temporarily Unavailable", "no_answer"),
        Cause::NotRegistered => answer(480, "Temporarily Unavailable", "not_registered"),
        Cause::UnknownNumber => answer(404, "Not Found", "unknown_number"),
        Cause::Unreachable => answer(480, "Temporarily Unavailable", "unreachable"),
        Cause::Failed => answer(500, "Server Internal Error", "failed"),
        Cause::LimitReached => later(503, "Service Unavailable", "limit_reached", 10),
        Cause::Forbidden => answer(403, "Forbidden", "forbidden"),
        Cause::MediaNotAcceptable => answer(488, "Not Acceptable Here", "media_not_acceptable"),
        Cause::NoMedia => answer(408, "Request Timeout", "no_media"),
        Cause::MaxDuration => answer(408, "Request Timeout", "max_duration"),
        Cause::SessionExpired => answer(408, "Request Timeout", "session_expired"),
        Cause::AdminHangup => answer(480, "Temporarily Unavailable", "admin_hangup"),
        Cause::NodeShutdown => later(503, "Service Unavailable", "node_shutdown", 1),
        Cause::NodeLost => later(503, "Service Unavailable", "node_lost", 1),
        Cause::Internal => later(503, "Service Unavailable", "internal", 5),
    }
}

/// Why a callee's final response ended its leg.
pub fn cause_of_status(status: u16) -> Cause {
    match status {
        486 | 600 => Cause::Busy,
        603 | 607 | 608 => Cause::Declined,
        480 | 487 => Cause::NoAnswer,
        404 | 604 | 484 | 485 => Cause::UnknownNumber,
        // Where a phone would send us instead (3xx) is not asked.
        300..=399 | 408 | 410 | 430 | 502 | 503 | 504 => Cause::Unreachable,
        415 | 488 | 606 => Cause::MediaNotAcceptable,
        401 | 403 | 407 => Cause::Forbidden,
        _ => Cause::Failed,
    }
}

/// What one side answered to a request inside its dialog, as the other side may hear it: what is between neighbours
/// only (a challenge, a redirection, an extension, an overload) means nothing there.
pub fn passed_on(status: u16) -> u16 {
    match status {
        401 | 407 => 403,
        300..=399 | 405 | 416 | 420 | 421 | 422 | 423 | 494 | 501 => 488,
        503 => 500,
        other => other,
    }
}

/// Which of several failed targets speaks for the call: the higher wins (a callee who decides beats one who is away).
pub fn weight(cause: Cause) -> u8 {
    match cause {
        Cause::Declined => 9,
        Cause::Busy => 8,
        Cause::MediaNotAcceptable => 7,
        Cause::NoAnswer => 6,
        Cause::UnknownNumber => 4,
        Cause::Forbidden => 3,
        Cause::Failed => 2,
        Cause::Unreachable => 1,
        Cause::NormalClearing
        | Cause::Cancelled
        | Cause::AnsweredElsewhere
        | Cause::NotRegistered
        | Cause::LimitReached
        | Cause::NoMedia
        | Cause::MaxDuration
        | Cause::SessionExpired
        | Cause::AdminHangup
        | Cause::NodeShutdown
        | Cause::NodeLost
        | Cause::Internal => 0,
    }
}

/// Q.850 cause for the `Reason` header (RFC 3326) of a BYE.
pub fn q850(cause: Cause) -> u8 {
    match cause {
        Cause::NormalClearing | Cause::Cancelled | Cause::AdminHangup => 16,
        Cause::Busy => 17,
        Cause::NoAnswer => 19,
        Cause::Declined => 21,
        Cause::UnknownNumber => 1,
        Cause::NotRegistered => 20,
        Cause::AnsweredElsewhere => 26,
        Cause::Unreachable => 27,
        Cause::MediaNotAcceptable => 88,
        Cause::LimitReached | Cause::Forbidden => 21,
        Cause::NoMedia | Cause::MaxDuration | Cause::SessionExpired => 102,
        Cause::NodeShutdown | Cause::NodeLost => 41,
        Cause::Failed | Cause::Internal => 127,
    }
}

/// Why a call can't go on when the replicated state refuses its command.
pub fn cause_of_refusal(refusal: &Refusal) -> Cause {
    match refusal {
        Refusal::LimitReached { .. } => Cause::LimitReached,
        Refusal::NoTenant(_) | Refusal::NoExtension(_) | Refusal::NoNumber(_) => Cause::Forbidden,
        Refusal::StaleCallEpoch { .. }
        | Refusal::StaleNodeEpoch { .. }
        | Refusal::StaleIncarnation
        | Refusal::NoLease { .. } => Cause::NodeLost,
        Refusal::OutcomeForgotten
        | Refusal::StaleRevision { .. }
        | Refusal::OutOfOrder
        | Refusal::NotInForce { .. }
        | Refusal::NoBinding
        | Refusal::NoCall
        | Refusal::Exists(_)
        | Refusal::Taken { .. }
        | Refusal::Busy(_)
        | Refusal::Invalid { .. }
        | Refusal::KeyReused
        | Refusal::StaleAttempt { .. }
        | Refusal::LeaseRenewed { .. }
        | Refusal::TooOld { .. }
        | Refusal::StaleClusterKey { .. } => Cause::Internal,
    }
}

/// The epoch under which a node may propose once more what was refused only because its lease had ended.
pub fn next_epoch(refusal: &Refusal) -> Option<NodeEpoch> {
    let (Refusal::StaleNodeEpoch { current: epoch } | Refusal::NoLease { epoch }) = refusal else {
        return None;
    };
    Some(*epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_phone_outweighs_one_that_is_away() {
        assert!(weight(Cause::Busy) > weight(Cause::Unreachable));
        assert_eq!(answer_for(cause_of_status(600)).status, 486);
    }

    #[test]
    fn a_refusal_by_a_limit_says_when_to_try_again() {
        let limit = Refusal::LimitReached { name: "calls".into(), limit: 3 };
        let answer = answer_for(cause_of_refusal(&limit));
        assert_eq!((answer.status, answer.retry_after_s), (503, Some(10)));
    }
}
