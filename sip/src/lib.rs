//! SIP as pure machines: messages, URIs, building, stream framing, the transactions of RFC 3261 section 17, dialogs, digest
//! and SDP. The same input gives the same output bytes.
//!
//! It never knows sockets, clocks, randomness, threads or logs: time is a `u64` of milliseconds that only goes
//! forward, ids and keys come in as values, and what is to be sent goes out as values. It doesn't know calls, tenants or
//! registrations either; those are `switching`.
//!
//! Start reading at [`message::Message`], then [`transaction::Table`], the one door for a node's messages.
//!
//! # The border to `rsip`
//!
//! What comes from the wire is read by our own scanner, because rsip's parser refuses valid messages (unknown
//! methods, folded lines, quoted parameters) and copies every header. rsip is the vocabulary of status codes here
//! ([`status`]); in tests its builders generate messages that our scanner must read alike, and it is the peer in the
//! bench. Its URI and digest types are not used: the first can't hold a user with parameters or an escaped
//! host, the second needs the clear password where we keep only HA1.

pub mod build;
pub mod dialog;
pub mod digest;
pub mod framing;
pub mod header;
pub mod message;
pub mod method;
pub mod name_addr;
pub mod params;
pub mod sdp;
pub mod status;
pub mod transaction;
pub mod uri;
pub mod via;

pub use build::{BuildError, RequestBuilder, ResponseBuilder};
pub use dialog::Dialog;
pub use header::Header;
pub use message::{CSeq, Contacts, Message, ParseError};
pub use method::Method;
pub use name_addr::NameAddr;
pub use uri::Uri;
pub use via::Via;
