//! What time it is: a monotonic clock that goes on while the machine sleeps, and the wall clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, DynamicClockId, clock_gettime, clock_gettime_dynamic};

/// Seconds from the NTP epoch (1900) to the Unix epoch.
const NTP_OFFSET_S: u64 = 2_208_988_800;

/// The two clocks.
pub trait Clock: Send + Sync {
    /// Microseconds since the machine started (CLOCK_BOOTTIME); never goes back.
    fn monotonic_us(&self) -> u64;
    /// Microseconds since the Unix epoch, as far as the machine knows.
    fn wall_us(&self) -> u64;
    /// The wall clock as RTCP writes it (RFC 3550 section 4).
    fn ntp(&self) -> u64 {
        let wall_us = self.wall_us();
        let fraction = ((wall_us % 1_000_000) << 32) / 1_000_000;
        ((wall_us / 1_000_000 + NTP_OFFSET_S) << 32) | fraction
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// A clock that moves when told; both clocks start at 0 and move together.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_us: AtomicU64,
}

impl Clock for SystemClock {
    fn monotonic_us(&self) -> u64 {
        // Every kernel since 2.6.39 has the boot-time clock; the other one only stands still in sleep.
        let now = clock_gettime_dynamic(DynamicClockId::Boottime)
            .unwrap_or_else(|_| clock_gettime(ClockId::Monotonic));
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        seconds * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
    }

    fn wall_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

impl ManualClock {
    /// Moves both clocks.
    pub fn advance_us(&self, by_us: u64) {
        self.now_us.fetch_add(by_us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic_us(&self) -> u64 {
        self.now_us.load(Ordering::SeqCst)
    }

    fn wall_us(&self) -> u64 {
        self.now_us.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_go_back_and_the_wall_clock_is_after_2020() {
        let clock = SystemClock;
        let first = clock.monotonic_us();
        assert!(clock.monotonic_us() >= first);
        assert!(clock.wall_us() > 1_577_836_800_000_000);
    }

    #[test]
    fn half_a_second_is_half_of_the_ntp_fraction() {
        let clock = ManualClock::default();
        clock.advance_us(1_500_000);
        assert_eq!(clock.ntp(), ((NTP_OFFSET_S + 1) << 32) | 0x8000_0000);
    }
}
