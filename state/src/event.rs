//! What subscribers are told, in log order.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::*;
use crate::records::*;

/// Where an event stands: log position, then its count within that entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct EventId {
    /// The log entry.
    pub position: u64,
    /// From 0 within it.
    pub index: u32,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.position, self.index)
    }
}

impl FromStr for EventId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let (position, index) = text.split_once('.').ok_or(BadId)?;
        Ok(EventId {
            position: position.parse().map_err(|_| BadId)?,
            index: index.parse().map_err(|_| BadId)?,
        })
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place.
    pub id: EventId,
    /// When, in cluster time.
    pub at: ClusterTime,
    /// Whose; `None` is the operator's.
    pub tenant: Option<TenantId>,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// `call.created`
    CallCreated(CallFacts),
    /// `call.ringing`
    CallRinging(CallFacts),
    /// `call.answered`
    CallAnswered(CallFacts),
    /// `call.held`
    CallHeld(CallFacts),
    /// `call.resumed`
    CallResumed(CallFacts),
    /// `call.ended`, with the cause of its last attempt
    CallEnded(CallFacts, Cause),
    /// `call.refused`: no call was made of it
    CallRefused(CallFacts, Cause),
    /// `registration.added`
    RegistrationAdded(Box<Binding>),
    /// `registration.changed`: a new contact, flow or node under the same key
    RegistrationChanged(Box<Binding>),
    /// `registration.removed`
    RegistrationRemoved(Box<Binding>, UnbindReason),
    /// `node.up`
    NodeUp(Box<NodeRecord>),
    /// `node.removed`
    NodeRemoved(NodeId),
    /// `tenant.changed`: it, its extensions or numbers
    TenantChanged(String),
    /// `tenant.removed`
    TenantRemoved(String),
    /// `limit.hit`, by the limit's name
    LimitHit(String),
    /// `node.down`: its lease ended; the record has the epoch of the next one
    NodeDown(Box<NodeRecord>, LeaseEnd),
    /// `call.moved`: it goes on at the node that the facts name
    CallMoved(CallFacts, Move),
    /// `node.draining`, or `node.undrained`
    NodeDraining(NodeId, bool),
    /// `node.fenced`: its lease ended and nobody knows that its process did, so it may be alive and must do nothing for what
    /// moved on; the record has the epoch that ended
    NodeFenced(Box<NodeRecord>, LeaseEnd),
    /// `node.returned`: it holds a lease again, under the record's epoch; whether another process of it does
    NodeReturned(Box<NodeRecord>, bool),
}

impl EventKind {
    /// The name that subscribers see.
    pub fn name(&self) -> &'static str {
        match self {
            EventKind::CallCreated(_) => "call.created",
            EventKind::CallRinging(_) => "call.ringing",
            EventKind::CallAnswered(_) => "call.answered",
            EventKind::CallHeld(_) => "call.held",
            EventKind::CallResumed(_) => "call.resumed",
            EventKind::CallEnded(..) => "call.ended",
            EventKind::CallRefused(..) => "call.refused",
            EventKind::RegistrationAdded(_) => "registration.added",
            EventKind::RegistrationChanged(_) => "registration.changed",
            EventKind::RegistrationRemoved(..) => "registration.removed",
            EventKind::NodeUp(_) => "node.up",
            EventKind::NodeRemoved(_) => "node.removed",
            EventKind::TenantChanged(_) => "tenant.changed",
            EventKind::TenantRemoved(_) => "tenant.removed",
            EventKind::LimitHit(_) => "limit.hit",
            EventKind::NodeDown(..) => "node.down",
            EventKind::CallMoved(..) => "call.moved",
            EventKind::NodeDraining(_, true) => "node.draining",
            EventKind::NodeDraining(_, false) => "node.undrained",
            EventKind::NodeFenced(..) => "node.fenced",
            EventKind::NodeReturned(..) => "node.returned",
        }
    }
}

/// How a call came to a new owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Its former owner.
    pub from: NodeId,
    /// The new ownership.
    pub epoch: CallEpoch,
    /// The former owner's process is known to have ended. One that only fell silent may still carry the call's media.
    pub is_proven: bool,
}

/// What every call event says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFacts {
    /// Which.
    pub id: CallId,
    /// Kept over transfers.
    pub interaction: InteractionId,
    /// Its owner.
    pub node: NodeId,
    /// Who called.
    pub from: Party,
    /// Who was called.
    pub to: Party,
}
