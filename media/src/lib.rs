//! Media machines: RTP and RTCP without sockets, clocks or threads.
//!
//! A [`plan::MediaPlan`] says which ends of a session exist and which end is heard by which; a [`relay::Relay`] carries
//! it out, one packet at a time. Each end's incoming stream is validated and counted ([`stream::IncomingStream`]); each
//! end's outgoing stream has an SSRC, sequence and timestamp of our own ([`stream::OutgoingStream`]), so a receiver never
//! notices that its source was replaced. RTCP ends at each leg ([`rtcp`]). [`quality`] makes figures for the call detail
//! record of the counters.
//!
//! The crate never knows what time it is, which socket a packet came from, or who the parties are: time (microseconds of
//! any monotonic clock), addresses and random seeds are arguments. Packets are handled without allocation or locks.
//!
//! Start reading at [`plan`], then [`relay`].

pub mod latch;
pub mod packet;
pub mod plan;
pub mod quality;
pub mod relay;
pub mod rtcp;
pub mod stream;

pub use plan::{EndId, EndPlan, Link, MediaPlan};
pub use relay::{EndCounters, Forward, Relay};
