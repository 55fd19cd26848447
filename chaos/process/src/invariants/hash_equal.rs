//! `cluster hash` says that all nodes have the same state and archive.

use super::Judgement;
use crate::history::History;

pub(super) fn judge(history: &History) -> Judgement {
    let (broken, figures) = match &history.hash {
        Some(Ok(said)) => (Vec::new(), said.clone()),
        Some(Err(said)) => (vec![said.clone()], String::new()),
        None => (vec!["nobody was asked".to_owned()], String::new()),
    };
    Judgement { looked_at: history.end.len(), broken, figures }
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn hashes_that_differ_or_were_never_asked_for_are_found() {
        let mut history = made_up::history();
        history.hash = Some(Err("the hashes differ".into()));
        assert_eq!(judge(&history).broken, ["the hashes differ"]);
        history.hash = None;
        assert!(!judge(&history).holds());
    }
}
