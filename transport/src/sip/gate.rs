//! The last question before the system call: may this node say this now?
//!
//! Architecture invariant: no byte of a SIP message reaches a socket without [`Gate::may_send`] having been asked for
//! it, after it left every queue. A lease that ends while a message waits is therefore seen.

use std::fmt;

use super::Path;

/// Who is asked before each write.
pub trait Gate: Send + Sync + fmt::Debug {
    /// Whether `message` may be written to `path` now. Called for every message, so it must be quick and must not wait.
    fn may_send(&self, path: &Path, message: &[u8]) -> bool;

    /// The epoch under which this node may speak now, `None` while it may not. When it ends or another begins, what the kernel
    /// still holds for streams was said under one that is over: such connections are reset.
    fn epoch(&self) -> Option<u64>;
}

/// Always yes.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenGate;

impl Gate for OpenGate {
    fn may_send(&self, _: &Path, _: &[u8]) -> bool {
        true
    }

    fn epoch(&self) -> Option<u64> {
        Some(0)
    }
}
