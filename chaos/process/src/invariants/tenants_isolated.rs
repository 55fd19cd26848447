//! Two tenants have the same numbers, and nobody hears or sees anything of the other: no phone rings for a call of another
//! domain, gets a message of a dialog or sound of a call that is not its own, and no CDR of a tenant tells of a call that
//! its phones never made.

use super::Judgement;
use crate::history::{History, PhonesSeen};
use serde_json::Value;
use std::collections::BTreeSet;
use tandem_phones::watch::{Heard, Kind};

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    for phones in &history.phones {
        judgement.looked_at += phones.seen.heard.len();
        judgement.broken.extend(strangers(history, phones));
        if phones.seen.crossed > 0 {
            let (count, what) = (phones.seen.crossed, &phones.what);
            judgement.broken.push(format!("{what}: {count} packets of sound that are of another call"));
        }
    }
    let called: BTreeSet<(&str, &str, &str)> =
        history.calls().map(|(tenant, call)| (tenant, call.from.as_str(), call.to.as_str())).collect();
    for node in &history.end {
        for cdr in &node.cdrs {
            let text = |key: &str| cdr.get(key).and_then(Value::as_str).unwrap_or_default();
            if !called.contains(&(text("tenant"), text("from"), text("to"))) {
                let name = &node.name;
                judgement.broken.push(format!("{name}: nobody made the call of this CDR: {cdr}"));
            }
        }
    }
    judgement.figures = format!("{} messages at phones", judgement.looked_at);
    judgement
}

fn strangers(history: &History, phones: &PhonesSeen) -> Vec<String> {
    let calls = &phones.seen.calls;
    let domain = calls.first().map(|call| call.domain.as_str()).unwrap_or_default();
    let own: BTreeSet<&str> = calls
        .iter()
        .flat_map(|call| [Some(call.caller_id.as_str()), call.callee_id.as_deref()])
        .flatten()
        .collect();
    let is_strange = |heard: &&Heard| {
        let is_call = heard.kind == Kind::Request && heard.method != "OPTIONS" && heard.method != "NOTIFY";
        is_call && (!own.contains(heard.call_id.as_str()) || heard.from_host != domain)
    };
    let strange = phones.seen.heard.iter().filter(is_strange);
    strange
        .map(|heard| {
            let (when, Heard { method, from, from_host, .. }) = (history.time(heard.at_ms), heard);
            format!("{}: {method} from {from} at {when} is of nobody here (From: {from_host})", phones.what)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    fn broken(change: impl FnOnce(&mut History)) -> String {
        made_up::broken(judge, change)
    }

    #[test]
    fn a_call_of_another_domain_is_found() {
        let found = broken(|history| history.phones[0].seen.heard[0].from_host = "village.example".into());
        assert!(found.contains("From: village.example"), "{found}");
    }

    #[test]
    fn a_message_of_a_dialog_that_is_not_ones_own_is_found() {
        let found = broken(|history| history.phones[0].seen.heard[0].call_id = "theirs".into());
        assert!(found.contains("is of nobody here"), "{found}");
    }

    #[test]
    fn sound_of_another_call_is_found() {
        assert!(broken(|history| history.phones[0].seen.crossed = 3).contains("3 packets"));
    }

    #[test]
    fn a_cdr_in_the_wrong_tenant_is_found() {
        let found = broken(|history| history.end[0].cdrs[0]["tenant"] = "village".into());
        assert!(found.contains("nobody made the call"), "{found}");
    }
}
