//! What the end-to-end tests share: a three-node demo on addresses of its own, phones in Rust, SIPp and baresip, a lossy
//! wire, and waiting with a deadline instead of sleeping.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it expects must fail"
)]

pub mod baresip;
pub mod demo;
pub mod phone;
pub mod proxy;
pub mod rtp;
pub mod sipp;
pub mod talk;
pub mod tone;
pub mod town;
pub mod wire;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Asks `check` again and again until it gives a value; panics with `what` when the time is over.
#[track_caller]
pub fn eventually<T>(within: Duration, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A new, empty directory below the build directory; it is left there for a look after a failure.
pub fn scratch(name: &str) -> PathBuf {
    let base = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a directory for the test");
    dir
}

/// Ten seconds: for what happens at once unless the machine is very busy.
pub const SOON: Duration = Duration::from_secs(10);
