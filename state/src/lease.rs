//! Leases: until when a node may act, and from when on others may say that it is gone.
//!
//! Two pure machines that never agree about time and need not: [`Holder`] counts its lease from the instant *before* it
//! sent the renewal that committed, [`Watcher`] counts the same lease and a margin from its own apply of that renewal,
//! which can only be later. So, by any clocks that drift within [`DRIFT_PER_MILLE`], the holder has stopped before
//! anybody may propose the end. LIFECYCLE.md beside these files has inputs, outputs, timers and bounds.
//!
//! Times are milliseconds of the boot-time clock, which goes on while a process is stopped or a machine sleeps.

mod holder;
mod terms;
mod watcher;

pub use holder::{Belief, Holder, Standing};
pub use terms::{BadTerms, DRIFT_PER_MILLE, Terms};
pub use watcher::{Expire, Watcher};

/// A lease counts as ended so long before it does: what was allowed at the last moment still has to leave.
pub const AUTHORITY_EARLY_MS: u64 = 200;
