//! Which seeds a test runs: the ordinary ones, or the one that is to be repeated.
#![allow(clippy::disallowed_methods, reason = "the seed to repeat comes from the environment")]

use std::ops::RangeInclusive;

/// The one of the environment, if there is one; else so many.
pub(crate) fn seeds(ordinary: u64) -> RangeInclusive<u64> {
    match repeated() {
        Some(seed) => seed..=seed,
        None => 1..=ordinary,
    }
}

/// `SEED`.
pub(crate) fn repeated() -> Option<u64> {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok())
}
