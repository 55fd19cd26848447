//! The load phones: many SIP phones in one process, for measuring Tandem beside its peers and for the end-to-end tests.
//! They speak SIP with code of their own (never the switch's, so that a fault can't hide on both sides), send and judge
//! RTP, and read what a process tree costs from /proc. They must never know what they call: any SIP server will do.
//! Start reading at `calls.rs`.

pub mod calls;
pub mod digest;
pub mod endpoint;
pub mod histogram;
pub mod leg;
pub mod measure;
pub mod media;
pub mod message;
pub mod register;
pub mod watch;
