//! At most one owner acts per call and epoch. The owner is read from the packets that reach the phones: an owner relays the
//! sound itself, so its session descriptions name its own host; and the epoch is the CSeq block of its requests (DESIGN 4:
//! the CSeq of an epoch begins at epoch x 65,536). What an older owner sends after a newer one was heard is a breach too.

use super::Judgement;
use crate::history::{History, PhonesSeen};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tandem_phones::watch::{Call, Heard, Kind};

/// Numbers of CSeq that one epoch has.
pub(super) const BLOCK: u32 = 65_536;

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    let mut moved = 0;
    for phones in &history.phones {
        for call in &phones.seen.calls {
            let requests = requests(phones, call);
            judgement.looked_at += requests.len();
            moved += usize::from(requests.iter().any(|heard| epoch(heard) > 1));
            let who = format!("{}, {} to {}", phones.tenant, call.from, call.to);
            judgement.broken.extend(two_owners(history, &requests, &who));
            judgement.broken.extend(old_after_new(history, &requests, &who));
        }
    }
    judgement.figures = format!("{} requests at phones, {moved} calls moved", judgement.looked_at);
    judgement
}

pub(super) fn epoch(heard: &Heard) -> u32 {
    heard.cseq / BLOCK
}

/// The requests that the phones of a call got.
fn requests<'a>(phones: &'a PhonesSeen, call: &Call) -> Vec<&'a Heard> {
    phones.seen.heard.iter().filter(|heard| heard.kind == Kind::Request && heard.is_of(call)).collect()
}

fn two_owners(history: &History, requests: &[&Heard], who: &str) -> Vec<String> {
    let mut owners: BTreeMap<u32, Ipv4Addr> = BTreeMap::new();
    let mut broken = Vec::new();
    for heard in requests {
        let Some(host) = heard.media.map(|media| *media.ip()) else { continue };
        let first = *owners.entry(epoch(heard)).or_insert(host);
        if first != host {
            let when = history.time(heard.at_ms);
            broken
                .push(format!("{who}: in epoch {} both {first} and, at {when}, {host} acted", epoch(heard)));
        }
    }
    broken
}

fn old_after_new(history: &History, requests: &[&Heard], who: &str) -> Vec<String> {
    let mut newest: BTreeMap<&str, u32> = BTreeMap::new();
    let mut broken = Vec::new();
    for heard in requests {
        let newest = newest.entry(&heard.call_id).or_default();
        if epoch(heard) < *newest && heard.method != "ACK" {
            let (when, method, from) = (history.time(heard.at_ms), &heard.method, heard.from);
            broken.push(format!(
                "{who}: {method} of epoch {} from {from} at {when}, after epoch {newest} was heard",
                epoch(heard)
            ));
        }
        *newest = (*newest).max(epoch(heard));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn two_hosts_in_one_epoch_are_found() {
        let mut history = made_up::history();
        let heard = &mut history.phones[0].seen.heard;
        let mut second = heard[0].clone();
        second.media = "127.0.70.3:20000".parse().ok();
        heard.push(second);
        assert!(judge(&history).broken[0].contains("both 127.0.70.1 and"), "{:?}", judge(&history));
    }

    #[test]
    fn an_old_owner_that_speaks_after_the_new_one_is_found() {
        let mut history = made_up::history();
        let heard = &mut history.phones[0].seen.heard;
        let mut late = heard[0].clone();
        (late.method, late.cseq, late.media) = ("BYE".into(), BLOCK + 9, None);
        heard.push(late);
        assert!(judge(&history).broken[0].contains("BYE of epoch 1"), "{:?}", judge(&history));
    }
}
