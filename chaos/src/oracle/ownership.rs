//! Which node speaks for a call.

use tandem_state::{CallEpoch, NodeId};

use super::Model;

/// One call: nobody's yet, or one node's under an epoch.
#[derive(Debug)]
pub struct Ownership;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnershipOp {
    /// The call becomes a node's.
    Take(NodeId, CallEpoch),
    /// A node speaks for it.
    Act(NodeId, CallEpoch),
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnershipSaid {
    /// It was done.
    Done,
    /// It is another's, or another epoch's turn.
    Refused,
}

impl Model for Ownership {
    type State = Option<(NodeId, CallEpoch)>;
    type Op = OwnershipOp;
    type Said = OwnershipSaid;

    fn step(owner: &Self::State, op: &OwnershipOp) -> (Self::State, OwnershipSaid) {
        let next = CallEpoch(owner.map_or(0, |(_, epoch)| epoch.0) + 1);
        match *op {
            OwnershipOp::Take(node, epoch) if epoch == next => (Some((node, epoch)), OwnershipSaid::Done),
            OwnershipOp::Act(node, epoch) if *owner == Some((node, epoch)) => (*owner, OwnershipSaid::Done),
            OwnershipOp::Take(..) | OwnershipOp::Act(..) => (*owner, OwnershipSaid::Refused),
        }
    }
}
