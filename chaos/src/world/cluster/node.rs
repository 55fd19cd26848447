//! One simulated node: its process, its clock, its replica.

use tandem_state::{Incarnation, NodeId};

use crate::world::client::Client;
use crate::world::mutant::Mutant;
use crate::world::replica::Replica;

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    /// Of the process that runs or ran last.
    pub(super) incarnation: Incarnation,
    pub(super) up: bool,
    /// Its `NodeStarted` was acknowledged in this incarnation.
    pub(super) announced: bool,
    /// How far its wall clock is from the simulated one.
    pub(super) clock_offset_ms: i64,
    pub(super) slow_until_ms: u64,
    pub(super) client: Client,
    pub(super) replica: Replica,
}

impl Node {
    pub(super) fn new(number: u64, mutant: Mutant) -> Self {
        Node {
            id: NodeId(number),
            incarnation: Incarnation(0),
            up: false,
            announced: false,
            clock_offset_ms: 0,
            slow_until_ms: 0,
            client: Client::default(),
            replica: Replica::new(number, mutant),
        }
    }

    /// Whether this very process still runs.
    pub(super) fn is_alive(&self, incarnation: Incarnation) -> bool {
        self.up && self.incarnation == incarnation
    }
}
