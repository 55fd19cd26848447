//! A node's proposing side: it counts its requests, asks again until it is answered, and forgets all when it dies.

use std::collections::BTreeMap;

use tandem_state::{Command, Incarnation, NodeId, Origin, Principal, Proposal};

/// What a node waits for in one incarnation.
#[derive(Debug, Default)]
pub struct Client {
    last_seq: u64,
    in_flight: BTreeMap<u64, Proposal>,
}

impl Client {
    /// A new request.
    pub fn ask(&mut self, node: NodeId, incarnation: Incarnation, command: Command) -> u64 {
        self.last_seq += 1;
        let origin = Origin { node, incarnation, seq: self.last_seq, low_water: 0 };
        let proposal = Proposal { origin, principal: Principal::Node(node), idempotency: None, command };
        self.in_flight.insert(self.last_seq, proposal);
        self.last_seq
    }

    /// The request as it is sent now: it says what is still waited for.
    pub fn to_send(&self, seq: u64) -> Option<Proposal> {
        let mut proposal = self.in_flight.get(&seq)?.clone();
        proposal.origin.low_water = *self.in_flight.keys().next()?;
        Some(proposal)
    }

    /// An answer came; `None` if nobody waits for it any more.
    pub fn answered(&mut self, seq: u64) -> Option<Proposal> {
        self.in_flight.remove(&seq)
    }

    /// How many are waited for.
    pub fn waiting(&self) -> usize {
        self.in_flight.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_water_mark_is_the_oldest_request_that_is_waited_for() {
        let mut client = Client::default();
        let mut ask = || client.ask(NodeId(1), Incarnation(1), Command::Tick);
        assert_eq!((ask(), ask(), ask()), (1, 2, 3));
        assert!(client.answered(1).is_some() && client.answered(1).is_none());
        assert_eq!(client.to_send(3).unwrap().origin.low_water, 2);
        assert_eq!(client.to_send(1), None);
        assert_eq!(client.waiting(), 2);
    }
}
