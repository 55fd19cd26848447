//! Ids of this node: its own id above, 64 random bits below. Leg ids stand in tags, and who can name a tag can speak in
//! its dialog, so they must not be guessed from others: they come from the kernel's generator.

use tandem_state::{CallId, InteractionId, LegId, NodeId};

/// Draws ids.
pub(crate) struct Ids {
    node: NodeId,
}

impl Ids {
    /// For a node.
    pub(crate) fn new(node: NodeId) -> Self {
        Ids { node }
    }

    fn random() -> u64 {
        getrandom::u64().expect("the kernel has randomness once the machine is up")
    }

    fn draw(&self) -> u128 {
        (u128::from(self.node.0) << 64) | u128::from(Self::random())
    }

    /// A secret number for tables whose keys are chosen by strangers.
    pub(crate) fn seed(&self) -> u64 {
        Self::random()
    }

    pub(crate) fn call(&self) -> CallId {
        CallId(self.draw())
    }

    pub(crate) fn interaction(&self) -> InteractionId {
        InteractionId(self.draw())
    }

    pub(crate) fn leg(&self) -> LegId {
        LegId(self.draw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_switching::authority::drawn_by;

    #[test]
    fn ids_differ_and_name_their_node() {
        let ids = Ids::new(NodeId(7));
        let drawn: std::collections::BTreeSet<LegId> = (0..10_000).map(|_| ids.leg()).collect();
        assert_eq!(drawn.len(), 10_000);
        assert!(drawn.iter().all(|leg| drawn_by(*leg) == NodeId(7)));
    }
}
