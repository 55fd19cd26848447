//! Ids of this node: its own id above, a counter with a random start below, so that no two nodes or runs meet.

use std::sync::atomic::{AtomicU64, Ordering};

use tandem_state::{CallId, InteractionId, LegId, NodeId};

/// Draws ids.
pub(crate) struct Ids {
    node: NodeId,
    key: u64,
    next: AtomicU64,
}

impl Ids {
    /// For a node, with 16 random bytes.
    pub(crate) fn new(node: NodeId, random: [u8; 16]) -> Self {
        let random = u128::from_le_bytes(random);
        let low = |value: u128| u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0);
        Ids { node, key: low(random >> 64) | 1, next: AtomicU64::new(low(random)) }
    }

    fn draw(&self) -> u128 {
        // A bijection of the counter: unique, and nobody who sees one id can name the next.
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut mixed = count.wrapping_mul(self.key);
        mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
        (u128::from(self.node.0) << 64) | u128::from(mixed)
    }

    /// A secret number for tables whose keys are chosen by strangers.
    pub(crate) fn seed(&self) -> u64 {
        self.key
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

/// The node that drew an id.
pub(crate) fn drawn_by(leg: LegId) -> NodeId {
    NodeId(u64::try_from(leg.0 >> 64).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_name_their_node() {
        let ids = Ids::new(NodeId(7), [3; 16]);
        let drawn: std::collections::BTreeSet<LegId> = (0..10_000).map(|_| ids.leg()).collect();
        assert_eq!(drawn.len(), 10_000);
        assert!(drawn.iter().all(|leg| drawn_by(*leg) == NodeId(7)));
    }
}
