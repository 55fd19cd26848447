//! The replicated state of a cluster: what every node agrees on.
//!
//! [`Batch`]es of [`Proposal`]s come out of the Raft log; [`State::apply`] turns each into an [`Outcome`]. It is
//! total and deterministic: it refuses, it never fails, and it knows no clock, randomness, float or unordered map.
//! Start reading at [`command`], then [`tables`], then [`apply`].
//!
//! It must never know: Raft, disks, sockets, actors, SIP messages.

pub mod apply;
pub mod archive;
pub mod bounds;
pub mod command;
pub mod config;
pub mod event;
#[cfg(test)]
mod fixture;
pub mod ids;
pub mod invariants;
pub mod lease;
pub mod outcome;
pub mod records;
pub mod snapshot;
pub mod tables;

pub use command::{Batch, Command, Origin, Principal, Proposal};
pub use event::{Event, EventId, EventKind};
pub use ids::*;
pub use invariants::Broken;
pub use outcome::{Applied, Outcome, Refusal, Reply};
pub use records::*;
pub use tables::State;
