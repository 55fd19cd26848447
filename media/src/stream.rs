//! Streams: what one end receives, validated and counted, and what one end sends, under a name of our own.

mod incoming;
mod outgoing;
mod sequence;

pub use incoming::{IncomingStream, Received};
pub use outgoing::{OutgoingStream, Sent, Source, StreamSeed};
pub use sequence::Verdict;
