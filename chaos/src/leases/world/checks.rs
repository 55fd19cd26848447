//! What must hold.

use tandem_state::lease::Belief;
use tandem_state::{NodeEpoch, NodeId, State};

use super::{Work, World};
use crate::leases::node::Node;

impl<W: Work> World<W> {
    /// While a node may believe that its lease holds, to its very end, no replica has applied the end of it.
    pub(super) fn no_two_brains(&self, just_applied: NodeId) -> Result<(), String> {
        for node in self.nodes.values().filter(|node| node.up) {
            let Belief::Until { epoch, until_ms } = node.belief() else { continue };
            if node.clock(self.agenda.now_ms()) >= until_ms {
                continue;
            }
            let beyond = |other: &&Node| epoch_of(&other.state, node.id) > epoch;
            if let Some(other) = self.nodes.values().find(beyond) {
                return Err(format!(
                    "at {} ms, as n{} applied, n{} believes in epoch {epoch} for {} ms more and n{} is past it",
                    self.agenda.now_ms(),
                    just_applied,
                    node.id,
                    until_ms - node.clock(self.agenda.now_ms()),
                    other.id,
                ));
            }
        }
        Ok(())
    }

    pub(super) fn count_lapses(&mut self) {
        let now_ms = self.agenda.now_ms();
        for node in self.nodes.values_mut().filter(|node| node.up) {
            let holds = node.belief().holds(node.clock(now_ms));
            self.report.lapses += usize::from(node.held && !holds);
            node.held = holds;
        }
    }

    /// There was peace: everybody holds a lease, and all replicas agree.
    pub(super) fn settled(&self) -> Result<(), String> {
        for node in self.nodes.values() {
            if !node.up || !node.belief().holds(node.clock(self.agenda.now_ms())) {
                return Err(format!("n{} holds no lease after a time of peace", node.id));
            }
            node.state.check_invariants().map_err(|broken| broken.to_string())?;
        }
        Ok(())
    }
}

fn epoch_of(state: &State, node: NodeId) -> NodeEpoch {
    state.nodes.get(&node).map_or(NodeEpoch(0), |record| record.epoch)
}
