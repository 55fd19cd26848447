//! What a node said yes to is there at the end, on all nodes: registrations, and writes of the API. A registration goes
//! with its node when an operator removes that from the cluster; the log's own event has to say so.

use super::Judgement;
use crate::history::{History, NodeEnd, Registration};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    let gone = gone_with_their_node(history);
    let is_kept = |one: &&Registration| {
        one.acknowledged_ms.is_some() && !gone.contains(&(one.number.clone(), one.contact.clone()))
    };
    let registered: Vec<&Registration> = history.registrations.iter().filter(is_kept).collect();
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
    judgement.figures = format!(
        "{} registrations, {} writes, {} registrations went with their node",
        registered.len(),
        written.len(),
        gone.len()
    );
    judgement
}

/// Extension and Contact user of each registration.
fn contacts(node: &NodeEnd) -> BTreeSet<(String, String)> {
    node.registrations.iter().filter_map(contact).collect()
}

fn contact(registration: &Value) -> Option<(String, String)> {
    let text = |key: &str| Some(registration.get(key)?.as_str()?.to_owned());
    let user = text("contact")?.split_once("sip:")?.1.split_once('@')?.0.to_owned();
    Some((text("number")?, user))
}

/// What the log ended when a node was removed.
fn gone_with_their_node(history: &History) -> BTreeSet<(String, String)> {
    if !history.events.iter().any(|event| event.name == "node.removed") {
        return BTreeSet::new();
    }
    let ended = history.events.iter().filter(|event| {
        event.name == "registration.removed"
            && event.body.get("cause").and_then(Value::as_str) == Some("connection_lost")
    });
    ended.filter_map(|event| contact(event.body.get("registration")?)).collect()
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

    #[test]
    fn a_registration_may_go_with_a_node_that_was_removed_and_with_no_other() {
        let event = |name: &str| crate::history::EventSeen {
            name: name.into(),
            body: serde_json::json!({"cause": "connection_lost",
                "registration": {"number": "5000", "contact": "sip:c0@127.0.70.112:5060"}}),
            ..Default::default()
        };
        let mut history = made_up::history();
        history.end.iter_mut().for_each(|node| node.registrations.clear());
        history.events.push(event("registration.removed"));
        assert!(!judge(&history).holds());
        history.events.push(event("node.removed"));
        assert!(judge(&history).holds());
    }
}
