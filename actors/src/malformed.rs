//! Messages that can't be read: counted, and requests answered 400 as far as they can be, so that whoever builds a phone
//! hears what is wrong. Bounded, because a source address over UDP may be forged.

use bytes::Bytes;
use tandem_sip::message::{ParseError, refuse_malformed};
use tandem_state::Flow;

use crate::shared::Shared;

/// Answers of a node in one second; what comes beyond is only counted.
const ANSWERS_PER_S: u32 = 50;

/// How many answers went out in the present second.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    second: u64,
    given: u32,
}

impl Answers {
    fn take(&mut self, now_ms: u64) -> bool {
        let second = now_ms / 1_000;
        if self.second != second {
            *self = Answers { second, given: 0 };
        }
        self.given = self.given.saturating_add(1);
        self.given <= ANSWERS_PER_S
    }
}

/// Takes a message that could not be read.
pub(crate) fn refuse(
    shared: &Shared,
    answers: &mut Answers,
    now_ms: u64,
    flow: &Flow,
    (bytes, error): (&Bytes, ParseError),
) {
    tracing::debug!(%error, remote = %flow.remote, "not a SIP message");
    metrics::counter!("tandem_sip_malformed_total").increment(1);
    let Some(answer) = refuse_malformed(bytes, error, flow.remote, &shared.settings.product) else { return };
    if !answers.take(now_ms) {
        return metrics::counter!("tandem_sip_malformed_unanswered_total").increment(1);
    }
    // Nothing is remembered of it: a lost answer is asked for by the next retransmission.
    let _ = shared.send(flow, answer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_answers_are_given_in_a_second_and_no_more() {
        let mut answers = Answers::default();
        let given = |answers: &mut Answers, ms| (0..60).filter(|_| answers.take(ms)).count();
        assert_eq!(given(&mut answers, 999), 50);
        assert_eq!(given(&mut answers, 1_000), 50);
        assert_eq!(given(&mut answers, 1_999), 0);
    }
}
