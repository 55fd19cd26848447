//! The cluster: one replicated [`tandem_state::State`] on several nodes.
//!
//! It keeps the Raft log and the archive in its own [`segment`] store, drives openraft, speaks to the other nodes over
//! its own framed RPC, gathers and stamps proposals on the leader, and hands out immutable views of the state, a feed
//! of its events and reads of its archive. Start reading at [`Cluster`], then `propose`, `raft` and `rpc`.
//!
//! It must never know: SIP, RTP, actors, HTTP. It is the only crate that names openraft and sled.

mod abdicate;
mod acquaintances;
pub mod archive;
mod backup;
mod checkup;
mod clock;
mod cluster;
mod config;
mod death;
pub mod disk;
mod election;
mod feed;
mod fetch;
mod flights;
mod health;
mod holding;
mod identity;
mod invitation;
mod keys;
mod leader;
mod lease;
mod lost;
mod member;
mod net;
mod node;
mod peer;
mod pending;
mod preference;
mod propose;
mod quorum;
mod raft;
mod renewal;
mod rescue;
mod rpc;
mod rules;
mod salvage;
mod secrets;
mod segment;
mod service;
mod setup;
mod shared;
#[cfg(feature = "faults")]
pub mod sim;
mod status;
mod survey;
mod thread;
mod tls;

pub use archive::Archive;
pub use backup::{BackupError, BackupHead, RestoreError, restore};
pub use checkup::{Finding, Level};
#[cfg(feature = "faults")]
pub use clock::set_wall_off;
pub use cluster::{
    Cluster, Committed, HashError, InviteError, MemberError, ProposeError, ReadError, RotateError, StartError,
};
pub use config::{NodeConfig, Timing};
pub use death::{Testament, tell_death};
pub use feed::{Feed, FeedClosed, FeedItem};
pub use invitation::invited_node;
pub use lease::Lease;
pub use net::bound;
pub use peer::{PeerError, PeerFuture, PeerHandler};
pub use rescue::{Forced, Other, Remains, RescueError, examine, force_quorum};
#[cfg(any(test, feature = "faults"))]
pub use rpc::faults::{Way, heal_ways, set_way};
pub use salvage::{Salvaged, cdr_of_text, cdr_to_text, salvage};
pub use setup::{InitError, Initialised, JoinError, Joined, init, init_with, join};
pub use status::{
    HashReport, JoinStep, Joining, MemberState, NodeHash, NodeStatus, RaftRole, Status, StorageState,
    Survives,
};
