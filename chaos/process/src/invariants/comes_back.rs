//! A node whose fault is over is up again in time, by the word of another node; and at the end all are.

use super::Judgement;
use crate::history::{FaultSeen, History, node_of};

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    let mut slowest = 0;
    let faults = history.faults.iter().flat_map(|fault| fault.nodes.iter().map(move |node| (fault, *node)));
    for (fault, node) in faults.filter(|(fault, node)| is_last(history, fault, *node)) {
        judgement.looked_at += 1;
        let within = history.bounds.back_s * 1_000;
        match up_after(history, node, fault.until_ms) {
            Some(at) if at - fault.until_ms <= within => slowest = slowest.max(at - fault.until_ms),
            Some(at) => {
                let after = at - fault.until_ms;
                judgement.broken.push(format!(
                    "n{} was up {after} ms after {} was over",
                    node + 1,
                    fault.what
                ));
            }
            None => judgement.broken.push(format!("n{} was never up again after {}", node + 1, fault.what)),
        }
    }
    judgement.figures = format!("back after {slowest} ms at most");
    judgement
}

/// Whether no later fault of the same node begins before it could be back.
fn is_last(history: &History, fault: &FaultSeen, node: usize) -> bool {
    let within = history.bounds.back_s * 1_000;
    !history.faults.iter().any(|other| {
        other.nodes.contains(&node)
            && other.from_ms >= fault.from_ms
            && other != fault
            && other.from_ms < fault.until_ms + within
    })
}

/// When another node said first that this one is up and stays so for a second.
fn up_after(history: &History, node: usize, after_ms: u64) -> Option<u64> {
    let views = history.views.iter().filter(|view| view.at_ms >= after_ms && view.asked != node);
    let mut since = None;
    for view in views {
        let found = view.nodes.iter().find(|(name, _, _)| node_of(name) == Some(node));
        since =
            if found.is_some_and(|(_, state, _)| state == "up") { since.or(Some(view.at_ms)) } else { None };
        if since.is_some_and(|since| view.at_ms >= since + 1_000) {
            break;
        }
    }
    since
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn a_node_that_stays_away_or_comes_late_is_found() {
        let mut history = made_up::history();
        for view in &mut history.views {
            view.nodes[0].1 = "down".into();
        }
        assert!(judge(&history).broken[0].contains("never up again"));
        history = made_up::history();
        for view in history.views.iter_mut().filter(|view| view.at_ms > 5_000) {
            view.at_ms += 20_000;
        }
        assert!(judge(&history).broken[0].contains("n1 was up"), "{:?}", judge(&history));
    }
}
