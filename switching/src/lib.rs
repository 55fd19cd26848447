//! What the switch decides: who is admitted, where a call goes, what a call does next, and what is refused how.
//!
//! Every decision is a pure function or machine over the replicated state; time, ids and messages come in as values and
//! the same input gives the same output. Start reading at [`call::Call`], whose `Input` and `Output` are the
//! specification of a call, then [`routing`] and [`registrar`].
//!
//! It must never know: sockets, actors, Raft, disks, clocks.

pub mod admission;
pub mod authority;
pub mod call;
#[cfg(test)]
mod fixture;
pub mod intake;
pub mod machine;
pub mod qualify;
pub mod quirks;
pub mod refusal;
pub mod registrar;
pub mod registration;
pub mod routing;

pub use call::Call;
pub use machine::{Machine, Now};
pub use registration::Registration;
