//! When all phones have hung up, no call is left over: none in the tables, no actor, no port of the media.

use super::Judgement;
use crate::history::{History, NodeEnd};

/// What is zero when there are no calls.
pub(crate) const GAUGES: [&str; 3] = ["tandem_calls_active", "tandem_state_calls", "tandem_rtp_sessions"];
/// What is the same on all nodes then.
const FREE: &str = "tandem_rtp_port_pairs_free";
/// The actors of calls.
const ACTORS: &str = "tandem_actors{kind=\"call\"}";

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    let free = history.end.iter().filter_map(|node| node.gauges.get(FREE)).copied().fold(0.0, f64::max);
    for node in &history.end {
        judgement.looked_at += GAUGES.iter().filter(|name| node.gauges.contains_key(**name)).count();
        judgement.broken.extend(left(node, free));
    }
    judgement.figures = format!("{free} pairs of ports free on each node");
    judgement
}

fn left(node: &NodeEnd, free: f64) -> Vec<String> {
    let name = &node.name;
    let mut broken = Vec::new();
    if !node.calls.is_empty() {
        broken.push(format!("{name}: {} calls in the table", node.calls.len()));
    }
    for gauge in GAUGES.into_iter().chain([ACTORS]) {
        if let Some(count) = node.gauges.get(gauge).filter(|count| **count != 0.0) {
            broken.push(format!("{name}: {gauge} is {count}"));
        }
    }
    if let Some(own) = node.gauges.get(FREE).filter(|own| **own != free) {
        broken.push(format!("{name}: {own} pairs of ports are free, not {free}"));
    }
    if !GAUGES.iter().all(|gauge| node.gauges.contains_key(*gauge)) {
        broken.push(format!("{name}: it shows no gauges"));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    fn broken(change: impl FnOnce(&mut NodeEnd)) -> String {
        let mut history = made_up::history();
        change(&mut history.end[1]);
        judge(&history).broken.join("\n")
    }

    #[test]
    fn a_call_a_session_a_port_or_an_actor_that_is_left_is_found() {
        let found = broken(|node| node.calls.push(serde_json::json!({})));
        assert_eq!(found, "n2: 1 calls in the table");
        let set = |name: &'static str, value| {
            broken(move |node| {
                node.gauges.insert(name.into(), value);
            })
        };
        assert_eq!(set("tandem_rtp_sessions", 2.0), "n2: tandem_rtp_sessions is 2");
        assert_eq!(set(FREE, 4_999.0), "n2: 4999 pairs of ports are free, not 5000");
        assert!(set(ACTORS, 1.0).contains("is 1"));
        assert_eq!(broken(|node| node.gauges.clear()), "n2: it shows no gauges");
    }
}
