//! The HTTP API of a node: what operators, tenants' admins and programs see of the cluster.
//!
//! Reads answer from this node's immutable view of the replicated state; writes become commands and are answered once
//! this node has applied them. [`Api`] holds what handlers need, [`serve`] is the listener. Start reading at `router`,
//! then `session` (who asks, how fresh), `change` (writes), `routes` (one file per resource), `views` (JSON shapes).
//!
//! It must never know: SIP messages, RTP, actors, Raft. What needs the running switch goes through [`Switch`].

mod answer;
mod api;
mod audits;
mod change;
pub mod file;
mod freshness;
mod liveness;
mod metrics;
mod page;
mod problem;
mod query;
mod router;
mod routes;
mod server;
mod session;
mod switch;
pub mod time;
pub mod token;
pub mod views;

pub use api::{Api, Limits};
pub use page::List;
pub use problem::Problem;
pub use router::openapi;
pub use server::serve;
pub use switch::{HangupError, HangupFuture, Held, HeldFuture, NoSwitch, Switch};
