//! A node without authority sends no request, and no final response but 503 with Retry-After to new requests and 200 to a
//! BYE (DESIGN 3), as the phones see it. It is without authority at least from when the log called it down, as the others
//! told, to when the log called it up again. What it carries for the owner of another's call, as the node that has the
//! phone's flow, is that owner's word: its session description names the owner's host.

use super::{Judgement, one_owner::epoch};
use crate::history::{History, PhonesSeen};
use std::net::Ipv4Addr;
use tandem_phones::watch::{Heard, Kind};

/// An event is heard later than the node itself knows: what it says just before `node.up` is not held against it.
const EARLIER_MS: u64 = 500;

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    let mut allowed = 0;
    for (index, host) in history.hosts.iter().enumerate() {
        for (from, until) in history.down(index) {
            judgement.looked_at += 1;
            let until = until.saturating_sub(EARLIER_MS);
            for phones in &history.phones {
                let said = phones
                    .seen
                    .heard
                    .iter()
                    .filter(|heard| heard.from.ip() == host && heard.at_ms > from && heard.at_ms < until);
                for heard in said {
                    if may(phones, heard, *host) {
                        allowed += 1;
                    } else {
                        judgement.broken.push(told(history, heard, index, from));
                    }
                }
            }
        }
    }
    judgement.figures =
        format!("{} times without authority, {allowed} messages that are allowed", judgement.looked_at);
    judgement
}

fn may(phones: &PhonesSeen, heard: &Heard, host: Ipv4Addr) -> bool {
    match heard.kind {
        Kind::Response(..200) => true,
        Kind::Response(503) => heard.retry_after,
        Kind::Response(200) if heard.method == "BYE" => true,
        Kind::Request | Kind::Response(_) => owner(phones, heard).is_some_and(|owner| owner != host),
    }
}

/// Who speaks: the host in this session description, or in the last one of the same dialog and epoch.
fn owner(phones: &PhonesSeen, heard: &Heard) -> Option<Ipv4Addr> {
    let before = phones.seen.heard.iter().rev().filter(|other| {
        let is_same = other.call_id == heard.call_id && epoch(other) == epoch(heard);
        is_same && other.kind == Kind::Request && other.at_ms <= heard.at_ms
    });
    let media = heard.media.or_else(|| before.filter_map(|other| other.media).next());
    media.map(|media| *media.ip())
}

fn told(history: &History, heard: &Heard, index: usize, from: u64) -> String {
    let what = match heard.kind {
        Kind::Request => heard.method.clone(),
        Kind::Response(status) => format!("{status} to {}", heard.method),
    };
    format!(
        "n{} was called down at {} and sent {what} (CSeq {}) at {}",
        index + 1,
        history.time(from),
        heard.cseq,
        history.time(heard.at_ms)
    )
}

#[cfg(test)]
mod tests {
    use super::super::{made_up, one_owner::BLOCK};
    use super::*;

    /// What is made of a message that n1 sends while it is down.
    fn judged(kind: Kind, change: impl FnOnce(&mut Heard)) -> Vec<String> {
        let mut history = made_up::history();
        let heard = &mut history.phones[0].seen.heard;
        let mut late = heard[0].clone();
        late.from = "127.0.70.1:5060".parse().unwrap();
        (late.at_ms, late.kind, late.cseq) = (7_000, kind, BLOCK + 7);
        change(&mut late);
        heard.push(late);
        judge(&history).broken
    }

    #[test]
    fn a_request_or_a_final_answer_of_a_fenced_node_is_found() {
        let found = judged(Kind::Request, |heard| heard.method = "BYE".into());
        assert!(found[0].contains("sent BYE"), "{found:?}");
        let found = judged(Kind::Response(200), |_| {});
        assert!(found[0].contains("200 to INVITE"), "{found:?}");
        assert_eq!(judged(Kind::Response(503), |heard| heard.retry_after = false).len(), 1);
    }

    #[test]
    fn what_a_fenced_node_may_say_and_what_it_carries_for_another_owner_is_none() {
        assert_eq!(judged(Kind::Response(503), |heard| heard.retry_after = true), [""; 0]);
        assert_eq!(judged(Kind::Response(200), |heard| heard.method = "BYE".into()), [""; 0]);
        assert_eq!(judged(Kind::Response(100), |_| {}), [""; 0]);
        let other = |heard: &mut Heard| heard.media = "127.0.70.2:20000".parse().ok();
        assert_eq!(judged(Kind::Request, other), [""; 0]);
        assert_eq!(judged(Kind::Request, |_| {}).len(), 1, "the same of its own");
    }
}
