//! Transactions (RFC 3261 section 17 with the corrections of RFC 6026), without I/O.
//!
//! [`Table`] is the door: every message of a node goes in by [`Table::receive`], [`Table::send_request`] or
//! [`Table::respond`], and what is to be done comes out of [`Table::poll_output`]. Behind it stand four machines of one
//! shape, a file each.
//!
//! Not here: 2xx responses to INVITE are sent again, and acknowledged, by the transaction user (RFC 6026 section
//! 7.1), so by the call; and no transaction is kept for an ACK to a 2xx.

mod client_invite;
mod client_non_invite;
mod key;
mod machine;
mod server_invite;
mod server_non_invite;
mod slots;
mod table;

pub use client_invite::ClientInvite;
pub use client_non_invite::ClientNonInvite;
pub use key::{ClientKey, Key, ServerKey};
pub use machine::{ClientInput, Output as MachineOutput, ServerInput, Timers};
pub use server_invite::ServerInvite;
pub use server_non_invite::ServerNonInvite;
pub use table::{Gone, Limits, Output, Refusal, Table};

/// Where messages come from and go to: a flow or an address.
pub trait Peer: Clone + Eq + std::hash::Hash {
    /// True when the transport below loses nothing (TCP, TLS, WebSocket): nothing is sent twice then.
    fn is_reliable(&self) -> bool;
}

#[cfg(test)]
mod samples;
