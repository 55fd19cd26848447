//! When all phones have hung up, no call is left over: none in the tables, and no port of the media. Where nobody called,
//! nothing can be left, and that is no proof.

use super::Judgement;
use crate::history::{History, NodeEnd};
use crate::world;
use std::collections::BTreeMap;

/// What is zero when there are no calls.
const ZERO: [&str; 3] = ["tandem_calls_active", "tandem_state_calls", "tandem_rtp_sessions"];
/// What is as many as the config gives then.
const FREE: &str = "tandem_rtp_port_pairs_free";

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    for node in &history.end {
        judgement.looked_at += gauges().filter(|(gauge, _)| node.metrics.contains_key(*gauge)).count();
        judgement.broken.extend(left(node));
    }
    if history.calls().next().is_none() {
        judgement.looked_at = 0;
    }
    judgement.figures = format!("{} pairs of ports free on each node", world::rtp_port_pairs());
    judgement
}

/// Each gauge, and what it shows when nothing is left.
fn gauges() -> impl Iterator<Item = (&'static str, f64)> {
    ZERO.into_iter().map(|gauge| (gauge, 0.0)).chain([(FREE, world::rtp_port_pairs())])
}

/// What a node's metrics show to be left, in words.
pub(crate) fn left_by(metrics: &BTreeMap<String, f64>) -> Vec<String> {
    let mut left = Vec::new();
    for (gauge, wanted) in gauges() {
        match metrics.get(gauge) {
            None => left.push(format!("it shows no {gauge}")),
            Some(shown) if *shown == wanted => {}
            Some(shown) if gauge == FREE => {
                left.push(format!("{shown} pairs of ports are free, not {wanted}"));
            }
            Some(shown) => left.push(format!("{gauge} is {shown}")),
        }
    }
    left
}

fn left(node: &NodeEnd) -> Vec<String> {
    let mut left = left_by(&node.metrics);
    if !node.calls.is_empty() {
        left.insert(0, format!("{} calls in the table", node.calls.len()));
    }
    left.into_iter().map(|what| format!("{}: {what}", node.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    fn broken(change: impl FnOnce(&mut NodeEnd)) -> String {
        made_up::broken(judge, |history| change(&mut history.end[1]))
    }

    #[test]
    fn a_call_a_session_or_a_port_that_is_left_is_found() {
        let found = broken(|node| node.calls.push(serde_json::json!({})));
        assert_eq!(found, "n2: 1 calls in the table");
        let set = |name: &'static str, value| {
            broken(move |node| {
                node.metrics.insert(name.into(), value);
            })
        };
        assert_eq!(set("tandem_rtp_sessions", 2.0), "n2: tandem_rtp_sessions is 2");
        assert_eq!(set("tandem_calls_active", 1.0), "n2: tandem_calls_active is 1");
        assert_eq!(set(FREE, 4_999.0), "n2: 4999 pairs of ports are free, not 5000");
    }

    #[test]
    fn ports_that_all_nodes_lack_are_found() {
        let found = made_up::broken(judge, |history| {
            for node in &mut history.end {
                node.metrics.insert(FREE.into(), 4_998.0);
            }
        });
        assert_eq!(found.lines().count(), 3, "{found}");
    }

    #[test]
    fn where_nobody_called_there_is_nothing_to_judge() {
        let mut history = made_up::history();
        history.phones.clear();
        assert!(!judge(&history).is_of_something());
    }

    #[test]
    fn a_gauge_that_is_not_shown_is_found() {
        let found = broken(|node| {
            node.metrics.remove(FREE);
        });
        assert_eq!(found, "n2: it shows no tandem_rtp_port_pairs_free");
        assert_eq!(broken(|node| node.metrics.clear()).lines().count(), 4);
    }
}
