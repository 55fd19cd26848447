//! The memory of each node's process comes back to the level that it had before the first fault, when the standing calls
//! were up; what grew with the archive and the tables is within the bound.

use super::Judgement;
use crate::history::History;

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    let mut figures = Vec::new();
    for (node, before_kb) in history.end.iter().zip(&history.memory_before_kb) {
        judgement.looked_at += 1;
        let (before, after) = (before_kb / 1024, node.memory_kb / 1024);
        figures.push(format!("{} {before} to {after} MB", node.name));
        if node.memory_kb == 0 {
            judgement.broken.push(format!("{}: it does not run", node.name));
        }
        if after > before + history.bounds.memory_growth_mb {
            judgement.broken.push(format!("{}: {after} MB, and {before} MB before", node.name));
        }
    }
    judgement.figures = figures.join(", ");
    judgement
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn a_node_that_grows_or_is_gone_is_found() {
        let mut history = made_up::history();
        history.end[1].memory_kb = 900 * 1024;
        assert_eq!(judge(&history).broken, ["n2: 900 MB, and 100 MB before"]);
        history.end[1].memory_kb = 0;
        assert_eq!(judge(&history).broken, ["n2: it does not run"]);
    }
}
