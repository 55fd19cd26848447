//! A write was applied once, by the audit of each node, though it was tried at several nodes and sent once more after its
//! acknowledgement; that last time did nothing, and the node said that an earlier request had done it.

use super::Judgement;
use crate::history::{Again, History};

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    for node in &history.end {
        for write in &history.writes {
            let action = format!("put token {}", write.token);
            let times = node.audit.iter().filter(|done| **done == action).count();
            let is_right = if write.acknowledged_ms.is_some() { times == 1 } else { times <= 1 };
            if !is_right {
                judgement.broken.push(format!("{}: \"{action}\" was applied {times} times", node.name));
            }
        }
    }
    for write in &history.writes {
        match write.again {
            Some(Again::Other(201)) => {
                judgement.broken.push(format!("{} made a second token under one key", write.key));
            }
            // A node that can't do anything now says nothing of the key.
            Some(Again::Other(500..) | Again::Replayed) | None => {}
            Some(Again::Other(status)) => {
                judgement.broken.push(format!(
                    "{} was answered {status} when sent again: its key is forgotten",
                    write.key
                ));
            }
        }
    }
    judgement.looked_at = history.writes.len() * history.end.len();
    let replayed = history.writes.iter().filter(|write| write.again == Some(Again::Replayed)).count();
    judgement.figures = format!("{} writes, {replayed} of them sent again and known", history.writes.len());
    judgement
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn a_write_that_was_applied_twice_is_found() {
        let mut history = made_up::history();
        history.end[0].audit.push("put token chaos-0".into());
        assert_eq!(judge(&history).broken, ["n1: \"put token chaos-0\" was applied 2 times"]);
    }

    #[test]
    fn an_acknowledged_write_that_was_never_applied_is_found() {
        let mut history = made_up::history();
        history.end[0].audit.remove(0);
        assert_eq!(judge(&history).broken.len(), 1);
    }

    #[test]
    fn a_key_that_works_twice_is_found() {
        let mut history = made_up::history();
        history.writes[0].again = Some(Again::Other(201));
        assert_eq!(judge(&history).broken, ["key-0 made a second token under one key"]);
    }

    #[test]
    fn a_key_that_is_forgotten_is_found_and_a_node_that_can_say_nothing_is_none() {
        let mut history = made_up::history();
        history.writes[0].again = Some(Again::Other(409));
        let found = judge(&history).broken;
        assert_eq!(found, ["key-0 was answered 409 when sent again: its key is forgotten"]);
        history.writes[0].again = Some(Again::Other(503));
        assert!(judge(&history).holds());
    }
}
