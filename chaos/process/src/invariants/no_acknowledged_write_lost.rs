//! What a node said yes to is there at the end, on all nodes: registrations, and writes of the API.

use super::Judgement;
use crate::history::{History, NodeEnd, Registration};
use std::collections::BTreeSet;

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    let registered: Vec<&Registration> =
        history.registrations.iter().filter(|one| one.acknowledged_ms.is_some()).collect();
    let written: Vec<&str> = history
        .writes
        .iter()
        .filter(|write| write.acknowledged_ms.is_some())
        .map(|write| write.token.as_str())
        .collect();
    for node in &history.end {
        let (contacts, tokens) =
            (contacts(node), node.tokens.iter().map(String::as_str).collect::<BTreeSet<_>>());
        let lost =
            registered.iter().filter(|one| !contacts.contains(&(one.number.clone(), one.contact.clone())));
        judgement.broken.extend(lost.map(|one| {
            let when = history.time(one.acknowledged_ms.unwrap_or(0));
            format!(
                "{}: the registration of {} by {}, acknowledged at {when}, is gone",
                node.name, one.number, one.contact
            )
        }));
        let lost = written.iter().filter(|token| !tokens.contains(*token));
        judgement.broken.extend(lost.map(|token| format!("{}: the token {token} is gone", node.name)));
    }
    judgement.looked_at = (registered.len() + written.len()) * history.end.len();
    judgement.figures = format!("{} registrations, {} writes", registered.len(), written.len());
    judgement
}

/// Extension and Contact user of each registration.
fn contacts(node: &NodeEnd) -> BTreeSet<(String, String)> {
    let text = |value: &serde_json::Value, key: &str| Some(value.get(key)?.as_str()?.to_owned());
    let of = |one: &serde_json::Value| {
        let contact = text(one, "contact")?;
        let user = contact.split_once("sip:")?.1.split_once('@')?.0.to_owned();
        Some((text(one, "number")?, user))
    };
    node.registrations.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn a_registration_that_one_node_lacks_is_found() {
        let mut history = made_up::history();
        history.registrations.truncate(1);
        history.end[1].registrations.clear();
        assert!(judge(&history).broken[0].starts_with("n2: the registration of 5000 by c0"));
    }

    #[test]
    fn a_write_that_one_node_lacks_is_found() {
        let mut history = made_up::history();
        history.end[2].tokens.remove(0);
        assert_eq!(judge(&history).broken, ["n3: the token chaos-0 is gone"]);
    }

    #[test]
    fn what_was_never_acknowledged_may_be_missing() {
        let mut history = made_up::history();
        history.writes.push(crate::history::Write { token: "open".into(), ..Default::default() });
        assert!(judge(&history).holds());
    }
}
