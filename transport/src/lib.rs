//! Sockets and clocks: everything that Tandem hears and says outside of its own cluster, and what time it is.
//!
//! [`sip`] carries SIP messages over UDP and TCP as whole byte strings between a bounded channel and a [`sip::Path`]; it
//! never looks into a message beyond its framing. [`rtp`] owns the media sockets on threads of its own and drives one
//! `tandem_media` relay per session; packets never pass a mailbox. [`clock`] is the only place that reads a clock.
//!
//! The crate never knows tenants, calls or dialogs, and takes no decision but "this can't be carried": every queue and
//! table has a limit, a refusal when it is full, and a counter.
//!
//! Start reading at [`sip::SipTransport`] and [`rtp::Engine`].

pub mod clock;
pub mod rtp;
pub mod sip;
