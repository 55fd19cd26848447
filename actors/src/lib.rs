//! The supervision tree of a node: `Node` -> `Endpoint`, `Follower`, `MediaControl`, `Tenants` -> `Tenant` -> calls and
//! registrations. Each actor owns one pure machine and no logic: a message becomes an input, the machine runs, its
//! outputs are carried out.
//!
//! The only crate that names ractor. Start reading at [`start`] and `endpoint`, then `machine_actor` (the shared loop) and
//! `tenants` (restarts). RTP never passes through here; media does not share an actor's fate.

mod answers;
mod auth;
mod drain;
mod endpoint;
mod flow;
mod follower;
mod gate;
mod held;
mod ids;
mod intensity;
mod invite;
mod machine_actor;
mod malformed;
mod media;
mod node;
mod peers;
mod places;
mod ports;
mod proposal;
mod questions;
mod register;
mod registrations;
mod shared;
mod slot;
mod switch;
mod takeover;
mod tenants;
mod wire;

pub use held::Held;
pub use switch::{Config, HangUpError, StartError, Switch, start};
