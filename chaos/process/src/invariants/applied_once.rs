//! A write was applied once, by the audit of each node, though it was tried at several nodes and sent once more after its
//! acknowledgement; that last time did nothing.

use super::Judgement;
use crate::history::History;

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
        if write.again.is_some_and(|status| status == 201) {
            judgement.broken.push(format!("{} made a second token under one key", write.key));
        }
    }
    judgement.looked_at = history.writes.len() * history.end.len();
    let again = history.writes.iter().filter(|write| write.again.is_some()).count();
    judgement.figures = format!("{} writes, {again} of them sent again", history.writes.len());
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
        history.writes[0].again = Some(201);
        assert_eq!(judge(&history).broken, ["key-0 made a second token under one key"]);
    }
}
