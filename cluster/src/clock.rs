//! Cluster time: how the leader stamps, and what the others reckon in between. Pure; see DESIGN section 2.

use tandem_state::ClusterTime;

/// Reckons cluster time from stamps seen and the boot-time clock.
///
/// Stamps are seen late (by a commit), never early, so the greatest of recent differences between stamp and clock is
/// the best one. It leaks slowly, so that clocks of different speed don't carry it away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    /// Cluster time minus boot time, in microseconds, and the boot time at which it was right.
    offset_us: i128,
    at_us: i128,
    told_ms: u64,
    /// Before the first stamp it is 0 o'clock.
    begun: bool,
}

/// Slew and leak: one part in so many.
const SLEW: i128 = 1000;
const LEAK: i128 = 500;

/// More missing than this is stepped, not slewed.
pub(crate) const STEP_MS: u64 = 5_000;

impl Clock {
    /// A stamp was applied at `boot_us` of the boot-time clock.
    pub(crate) fn saw(&mut self, stamp: ClusterTime, boot_us: u64) {
        let boot = i128::from(boot_us);
        let seen = i128::from(stamp.0) * 1000 - boot;
        let leaked = self.offset_us - (boot - self.at_us).max(0) / LEAK;
        self.offset_us = if self.begun { leaked.max(seen) } else { seen };
        self.at_us = boot;
        self.begun = true;
    }

    /// Cluster time at `boot_us`; never less than it said before.
    pub(crate) fn now(&mut self, boot_us: u64) -> ClusterTime {
        self.begin(boot_us);
        let ms = u64::try_from((self.offset_us + i128::from(boot_us)) / 1000).unwrap_or(0);
        self.told_ms = self.told_ms.max(ms);
        ClusterTime(self.told_ms)
    }

    /// How far cluster time is behind a wall clock; 0 when it is ahead.
    pub(crate) fn missing_ms(&mut self, boot_us: u64, wall_ms: u64) -> u64 {
        self.begin(boot_us);
        let now_ms = (self.offset_us + i128::from(boot_us)) / 1000;
        u64::try_from(i128::from(wall_ms) - now_ms).unwrap_or(0)
    }

    /// The leader's stamp: time went on by the boot-time clock, drawn towards the wall clock at a bounded rate.
    pub(crate) fn stamp(&mut self, boot_us: u64, wall_ms: u64) -> ClusterTime {
        self.begin(boot_us);
        let boot = i128::from(boot_us);
        let bound = (boot - self.at_us).clamp(0, 3_600_000_000) / SLEW;
        let wrong = i128::from(wall_ms) * 1000 - (self.offset_us + boot);
        self.offset_us += wrong.clamp(-bound, bound);
        self.at_us = boot;
        self.now(boot_us)
    }

    fn begin(&mut self, boot_us: u64) {
        if !self.begun {
            self.saw(ClusterTime(0), boot_us);
        }
    }
}

/// The boot-time clock in microseconds: goes on while the machine sleeps, is never set.
pub(crate) fn boot_us() -> u64 {
    #[cfg(feature = "faults")]
    if let Some(boot_us) = crate::sim::boot_us() {
        return boot_us;
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

/// The wall clock in milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> u64 {
    #[cfg(feature = "faults")]
    if let Some(wall_ms) = crate::sim::wall_ms() {
        return wall_ms;
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    #[cfg(feature = "faults")]
    let ms = ms.saturating_add_signed(SET_OFF_MS.load(std::sync::atomic::Ordering::Relaxed));
    ms
}

#[cfg(feature = "faults")]
static SET_OFF_MS: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

/// Sets this process's wall clock off by so much, as somebody does who sets a machine's clock. Test builds only.
#[cfg(feature = "faults")]
pub fn set_wall_off(by_ms: i64) {
    SET_OFF_MS.store(by_ms, std::sync::atomic::Ordering::Relaxed);
}

/// The wall clock in seconds since the Unix epoch.
pub(crate) fn wall_s() -> u64 {
    wall_ms() / 1000
}

/// The median of a quorum's wall clocks, if those of a quorum agree with it within 2 s.
pub(crate) fn median_of_quorum(mut walls_ms: Vec<u64>, quorum: usize) -> Option<u64> {
    const AGREE_MS: u64 = 2_000;
    walls_ms.sort_unstable();
    let median = *walls_ms.get(walls_ms.len().checked_sub(1)? / 2)?;
    let agreeing = walls_ms.iter().filter(|wall| wall.abs_diff(median) <= AGREE_MS).count();
    (agreeing >= quorum).then_some(median)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    #[test]
    fn time_goes_on_by_the_boot_clock_between_stamps() {
        let mut clock = Clock::default();
        clock.saw(ClusterTime(5_000), 100 * S);
        assert_eq!(clock.now(103 * S), ClusterTime(8_000));
    }

    #[test]
    fn a_stamp_that_was_seen_late_does_not_set_time_back() {
        let mut clock = Clock::default();
        clock.saw(ClusterTime(5_000), 100 * S);
        clock.saw(ClusterTime(5_900), 101 * S);
        assert_eq!(clock.now(101 * S), ClusterTime(5_998));
        assert_eq!(Clock::default().now(101 * S), ClusterTime(0));
    }

    #[test]
    fn the_leader_slews_at_most_one_in_a_thousand_either_way() {
        for (wall, expected) in [(20_000, 15_010), (10_000, 14_990)] {
            let mut clock = Clock::default();
            clock.saw(ClusterTime(5_000), 100 * S);
            assert_eq!(clock.stamp(110 * S, wall), ClusterTime(expected));
        }
    }

    #[test]
    fn time_never_goes_back() {
        let mut clock = Clock::default();
        clock.saw(ClusterTime(5_000), 100 * S);
        assert_eq!(clock.now(110 * S), ClusterTime(15_000));
        assert_eq!(clock.stamp(110 * S, 0), ClusterTime(15_000));
    }

    #[test]
    fn missing_time_is_measured_against_the_wall() {
        let mut clock = Clock::default();
        clock.saw(ClusterTime(5_000), 100 * S);
        assert_eq!((clock.missing_ms(101 * S, 16_000), clock.missing_ms(101 * S, 10)), (10_000, 0));
    }

    #[test]
    fn the_median_counts_only_with_an_agreeing_quorum() {
        assert_eq!(median_of_quorum(vec![10_000, 90_000, 10_500], 2), Some(10_500));
        assert_eq!(median_of_quorum(vec![10_000, 90_000], 2), None);
        assert_eq!(median_of_quorum(vec![10_000, 50_000, 90_000], 2), None);
        assert_eq!(median_of_quorum(vec![7], 1), Some(7));
        assert_eq!(median_of_quorum(vec![], 1), None);
    }
}
