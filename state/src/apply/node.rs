//! Nodes start and are taken out.
//!
//! A higher incarnation proves that the former process is gone: its lease ends, and with it the connections that it held;
//! its calls go on elsewhere ([`super::moving`]). Its UDP bindings stay, for the address is the same.

use super::Step;
use crate::bounds::{HOST_MAX, NAME_MAX, NODES_MAX, invalid, some_at_most};
use crate::event::EventKind;
use crate::ids::*;
use crate::outcome::{Outcome, Refusal, Reply};
use crate::records::*;
use crate::tables::State;

impl State {
    pub(super) fn node_started(&mut self, step: &mut Step<'_>, node: &NodeRecord) -> Outcome {
        if node.id != step.origin.node || node.incarnation != step.origin.incarnation {
            return Err(invalid("node", "only a node itself says that it started"));
        }
        check_node(node)?;
        if self.has_marks() && node.apply_version < self.apply_version {
            return Err(Refusal::TooOld { in_force: self.apply_version, newest: node.apply_version });
        }
        if let Some(other) = self.nodes.values().find(|other| other.name == node.name && other.id != node.id)
        {
            return Err(Refusal::Taken {
                what: format!("node name {}", node.name),
                owner: format!("node {}", other.id),
            });
        }
        let known = self.nodes.get(&node.id).cloned();
        if known.is_none() && self.nodes.len() >= NODES_MAX {
            let limit = u32::try_from(NODES_MAX).unwrap_or(u32::MAX);
            return Err(Refusal::LimitReached { name: "nodes".to_owned(), limit });
        }
        let is_risen = known.as_ref().is_none_or(|known| known.incarnation < node.incarnation);
        if is_risen && self.has_leases() {
            self.begin_anew(step, node.id);
        }
        let epoch = self.nodes.get(&node.id).map_or(NodeEpoch(1), |known| known.epoch);
        let record = NodeRecord { epoch, ..node.clone() };
        self.nodes.insert(node.id, record.clone());
        if is_risen && !self.has_leases() {
            if known.is_some() {
                self.lose(step, node.id, step.now, true, is_connection);
            }
            step.event(None, EventKind::NodeUp(Box::new(record)));
        }
        Ok(Reply::Done)
    }

    pub(super) fn node_removed(&mut self, step: &mut Step<'_>, node: NodeId) -> Outcome {
        if !self.nodes.contains_key(&node) {
            return Err(invalid("node", "no such node"));
        }
        let at = self.lost_at(step, node);
        self.lose(step, node, at, false, |_| true);
        // Nobody is there who could take what waits.
        self.end_calls(step, node, at);
        self.nodes.remove(&node);
        self.leases.remove(&node);
        self.marks.remove(&node);
        self.draining.remove(&node);
        self.close_window(node);
        step.event(None, EventKind::NodeRemoved(node));
        Ok(Reply::Done)
    }

    /// Moves or ends all calls of a node that is lost since `at`, and ends those of its bindings whose flow `is_lost`.
    /// `is_proven`: its process has ended.
    pub(super) fn lose(
        &mut self,
        step: &mut Step<'_>,
        node: NodeId,
        at: ClusterTime,
        is_proven: bool,
        is_lost: impl Fn(&Flow) -> bool,
    ) {
        self.lose_calls(step, node, at, is_proven);
        let lost = |binding: &Binding| binding.spec.flow.node == node && is_lost(&binding.spec.flow);
        self.remove_bindings(step, UnbindReason::ConnectionLost, lost);
    }

    /// Removes the bindings that `is_lost` names, wherever they are. Walks the whole table.
    fn remove_bindings(
        &mut self,
        step: &mut Step<'_>,
        reason: UnbindReason,
        is_lost: impl Fn(&Binding) -> bool,
    ) {
        let lost = self.bindings.iter().filter(|(_, binding)| is_lost(binding));
        let keys: Vec<_> = lost.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.drop_binding(step, &key, reason);
        }
    }
}

/// A flow that ends with the process that held it.
pub(super) fn is_connection(flow: &Flow) -> bool {
    flow.transport != Transport::Udp
}

fn check_node(node: &NodeRecord) -> Result<(), Refusal> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    for (field, text) in [("node.name", &node.name), ("node.site", &node.site)] {
        some_at_most(field, text, NAME_MAX)?;
        if !text.bytes().all(plain) {
            return Err(invalid(field, "may have letters, digits, '.', '_' and '-' only"));
        }
    }
    some_at_most("node.cluster_address", &node.cluster_address, HOST_MAX + 6)?;
    some_at_most("node.sip_advertise", &node.sip_advertise, HOST_MAX)?;
    some_at_most("node.api_url", &node.api_url, 2 * HOST_MAX)?;
    some_at_most("node.version", &node.version, NAME_MAX)
}

#[cfg(test)]
mod tests {
    use crate::command::{Command, Proposal};
    use crate::fixture::*;
    use crate::*;

    fn risen(id: u64, incarnation: u64) -> Proposal {
        let mut node = node(id);
        node.incarnation = Incarnation(incarnation);
        let mut proposal = propose(id, 1, Command::NodeStarted { node });
        proposal.origin.incarnation = Incarnation(incarnation);
        proposal
    }

    #[test]
    fn a_node_that_starts_is_put_with_epoch_one_and_announced() {
        let mut state = State::default();
        let mut asked = node(1);
        asked.epoch = NodeEpoch(7);
        let applied = run(&mut state, propose(1, 1, Command::NodeStarted { node: asked }));
        assert_eq!(applied.outcomes, [Ok(Reply::Done)]);
        assert_eq!(state.nodes[&NodeId(1)], node(1));
        assert_eq!(applied.events[0].kind, EventKind::NodeUp(Box::new(node(1))));
        assert_eq!(applied.events.len(), 1);
    }

    #[test]
    fn the_same_incarnation_said_again_replaces_the_record_quietly() {
        let mut state = started();
        run(&mut state, propose(1, 80, create_call(1)));
        let mut again = node(1);
        again.version = "0.2.0".into();
        let applied = run(&mut state, propose(1, 90, Command::NodeStarted { node: again }));
        assert_eq!(applied.events, []);
        assert_eq!((state.nodes[&NodeId(1)].version.as_str(), state.calls.len()), ("0.2.0", 1));
    }

    #[test]
    fn a_higher_incarnation_ends_the_calls_and_connections_of_the_former_one() {
        let mut state = started();
        run(&mut state, propose(1, 80, bind("101", 1)));
        run(&mut state, propose(1, 81, bind_tcp("102", 1)));
        run(&mut state, propose(1, 82, create_call(1)));
        run(&mut state, propose(2, 80, create_call(2)));
        let applied = run(&mut state, risen(1, 2));
        let names: Vec<&str> = applied.events.iter().map(|e| e.kind.name()).collect();
        assert_eq!(names, ["call.ended", "registration.removed", "node.up"]);
        let cdrs = cdrs(&applied);
        assert_eq!((cdrs.len(), cdrs[0].cause, cdrs[0].node), (1, Cause::NodeLost, NodeId(1)));
        assert_eq!(state.calls.keys().collect::<Vec<_>>(), [&CallId(2)]);
        assert_eq!(state.bindings.values().map(|b| b.spec.number.as_str()).collect::<Vec<_>>(), ["101"]);
    }

    #[test]
    fn a_lower_incarnation_can_not_start() {
        let mut state = started();
        run(&mut state, risen(1, 2));
        assert_eq!(run(&mut state, risen(1, 1)).outcomes, [Err(Refusal::StaleIncarnation)]);
        assert_eq!(state.nodes[&NodeId(1)].incarnation, Incarnation(2));
    }

    #[test]
    fn a_release_that_can_not_follow_the_rules_in_force_does_not_start() {
        let mut state = leased();
        let versioned = |incarnation, apply_version| {
            let mut proposal = risen(1, incarnation);
            if let Command::NodeStarted { node } = &mut proposal.command {
                node.apply_version = apply_version;
            }
            proposal
        };
        assert_eq!(
            run(&mut state, versioned(2, 1)).outcomes,
            [Ok(Reply::Done)],
            "the second rules stay as they were"
        );
        run(&mut state, versioned(3, 3));
        let second = NodeRecord { apply_version: 3, ..node(2) };
        run(&mut state, propose(2, 90, Command::NodeStarted { node: second }));
        assert_eq!(
            run(&mut state, propose(2, 91, Command::RaiseApplyVersion { to: 3 })).outcomes,
            [Ok(Reply::Done)]
        );
        let before = (state.nodes.clone(), state.leases.clone());
        let refused = run(&mut state, versioned(4, 2));
        assert_eq!(refused.outcomes, [Err(Refusal::TooOld { in_force: 3, newest: 2 })]);
        assert_eq!((refused.events, (state.nodes.clone(), state.leases.clone())), (vec![], before));
        assert_eq!(run(&mut state, versioned(5, 4)).outcomes, [Ok(Reply::Done)]);
    }

    #[test]
    fn a_name_that_another_node_has_is_refused() {
        let mut state = started();
        let mut twin = node(3);
        twin.name = "n1".into();
        let outcome = run(&mut state, propose(3, 1, Command::NodeStarted { node: twin })).outcomes;
        let owner = "node 0000000000000001".to_owned();
        assert_eq!(outcome, [Err(Refusal::Taken { what: "node name n1".into(), owner })]);
    }

    #[test]
    fn a_node_speaks_only_for_itself() {
        let mut state = started();
        let outcome = run(&mut state, propose(1, 90, Command::NodeStarted { node: node(2) })).outcomes;
        assert!(matches!(outcome[0], Err(Refusal::Invalid { .. })));
    }

    #[test]
    fn a_removed_node_takes_its_calls_and_bindings_along_and_never_comes_back() {
        let mut state = started();
        run(&mut state, propose(1, 80, bind("101", 1)));
        run(&mut state, propose(1, 81, create_call(1)));
        let applied = run(&mut state, propose(2, 90, Command::NodeRemoved { node: NodeId(1) }));
        let names: Vec<&str> = applied.events.iter().map(|e| e.kind.name()).collect();
        assert_eq!(names, ["call.ended", "registration.removed", "node.removed"]);
        assert!(state.calls.is_empty() && state.bindings.is_empty());
        assert_eq!(run(&mut state, risen(1, 9)).outcomes, [Err(Refusal::StaleIncarnation)]);
        let again = run(&mut state, propose(2, 91, Command::NodeRemoved { node: NodeId(1) })).outcomes;
        assert!(matches!(again[0], Err(Refusal::Invalid { .. })));
    }

    #[test]
    fn a_node_may_remove_itself() {
        let mut state = started();
        let remove = propose(1, 90, Command::NodeRemoved { node: NodeId(1) });
        assert_eq!(run(&mut state, remove.clone()).outcomes, [Ok(Reply::Done)]);
        assert_eq!(run(&mut state, remove).outcomes, [Err(Refusal::StaleIncarnation)]);
    }
}
