//! RTCP (RFC 3550 section 6, RFC 4585): reading what a far party reports, writing our own reports.
//!
//! Why reports are our own and not relayed: each leg is an RTP session of its own. We send under our SSRC, with our
//! sequence numbers and our count of packets, and we see loss on the caller's side that the callee never learns of. A
//! report passed through would name SSRCs and counts that the receiver has never seen, and the round-trip time computed
//! from it would be of the wrong path. So sender and receiver reports, descriptions and goodbyes end here, and each end
//! gets reports about the leg it is on (a back-to-back RTP session, RFC 7667 section 3.2.1). Only feedback that asks
//! the *source* for something (a picture refresh, a lost packet) is passed on, with SSRCs and sequence numbers turned
//! into those that the source knows.

mod read;
mod write;

pub use read::{Compound, Malformed, Packet, ReportBlock, read};
pub use write::{Feedback, Report, Request, SenderPart, write_feedback, write_report};

/// Sender report.
pub(crate) const SENDER_REPORT: u8 = 200;
/// Receiver report.
pub(crate) const RECEIVER_REPORT: u8 = 201;
/// Source description.
pub(crate) const DESCRIPTION: u8 = 202;
/// Goodbye.
pub(crate) const BYE: u8 = 203;
/// Application-defined.
pub(crate) const APPLICATION: u8 = 204;
/// Transport-layer feedback (RFC 4585 section 6.2).
pub(crate) const TRANSPORT_FEEDBACK: u8 = 205;
/// Payload-specific feedback (RFC 4585 section 6.3).
pub(crate) const PAYLOAD_FEEDBACK: u8 = 206;

/// The middle 32 bits of an NTP timestamp, as report blocks carry it.
pub fn middle(ntp: u64) -> u32 {
    u32::try_from((ntp >> 16) & 0xffff_ffff).unwrap_or(0)
}
