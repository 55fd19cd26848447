//! No phone of a standing call that goes on hears nothing for longer than the bound, whatever happens meanwhile.

use super::Judgement;
use crate::history::History;

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    let mut longest = Vec::new();
    for phones in history.standing() {
        for call in
            phones.seen.calls.iter().filter(|call| call.failure.is_none() && call.answered_ms.is_some())
        {
            judgement.looked_at += 2;
            for caller in [true, false] {
                let silence = history.longest_silence(phones, call, caller);
                let gap_ms = silence.map_or(0, |silence| silence.length_ms());
                longest.push(gap_ms);
                if gap_ms > history.bounds.audio_gap_ms {
                    let from = history.time(silence.map_or(0, |silence| silence.from_ms));
                    let who = if caller { &call.from } else { &call.to };
                    let tenant = &phones.tenant;
                    judgement
                        .broken
                        .push(format!("{tenant}: {who} heard nothing for {gap_ms} ms from {from}"));
                }
            }
        }
    }
    longest.sort_unstable();
    let at = |share: usize| longest.get(longest.len() * share / 100).or(longest.last()).copied().unwrap_or(0);
    if let Some(bound) = history.bounds.audio_gap_p99_ms.filter(|bound| at(99) > *bound) {
        judgement.broken.push(format!("more than one phone in a hundred heard nothing for {bound} ms"));
    }
    judgement.figures =
        format!("longest silence of a phone: median {} ms, p99 {} ms, worst {} ms", at(50), at(99), at(100));
    judgement
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn a_silence_above_the_bound_is_found() {
        let mut history = made_up::history();
        history.phones[0].seen.silences[0].until_ms += 1_000;
        assert_eq!(judge(&history).broken, ["town: 1400 heard nothing for 1700 ms from 3.000 s"]);
    }

    #[test]
    fn a_bound_for_most_phones_is_one_of_its_own() {
        let mut history = made_up::history();
        history.bounds.audio_gap_p99_ms = Some(600);
        assert_eq!(judge(&history).broken, ["more than one phone in a hundred heard nothing for 600 ms"]);
    }

    #[test]
    fn a_call_that_was_lost_is_not_judged_here() {
        let mut history = made_up::history();
        history.phones[0].seen.calls[0].failure = Some("lost".into());
        assert_eq!(judge(&history).looked_at, 0);
    }
}
