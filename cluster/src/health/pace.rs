//! When flushes are called slow, and when that is over.

use std::time::Duration;

/// A count of slow and of fast flushes in a row.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    slow: bool,
    in_a_row: u32,
}

/// A flush that takes longer is slow: two fit into a lease's renewal and an election's time no more.
const LIMIT: Duration = Duration::from_millis(250);
/// Slow ones in a row that raise the alarm.
const ALARM: u32 = 3;
/// Fast ones in a row that end it.
const ALL_CLEAR: u32 = 20;

impl Pace {
    /// Takes the next flush's length. Whether the disk counts as slow now.
    pub(crate) fn measured(&mut self, took: Duration) -> bool {
        let against = (took > LIMIT) != self.slow;
        self.in_a_row = if against { self.in_a_row + 1 } else { 0 };
        let enough = if self.slow { ALL_CLEAR } else { ALARM };
        if self.in_a_row >= enough {
            self.slow = !self.slow;
            self.in_a_row = 0;
        }
        self.slow
    }

    /// Whether it does.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(2);
    const SLOW: Duration = Duration::from_millis(251);

    #[test]
    fn three_slow_flushes_in_a_row_raise_the_alarm_and_two_do_not() {
        let mut pace = Pace::default();
        let told: Vec<bool> = [SLOW, SLOW, FAST, SLOW, SLOW, SLOW].map(|took| pace.measured(took)).into();
        assert_eq!(told, [false, false, false, false, false, true]);
    }

    #[test]
    fn twenty_fast_ones_in_a_row_end_it() {
        let mut pace = Pace::default();
        for took in [SLOW; 3] {
            pace.measured(took);
        }
        let slow_after = (0..19).map(|_| pace.measured(FAST)).filter(|slow| *slow).count();
        assert_eq!((slow_after, pace.measured(FAST), pace.is_slow()), (19, false, false));
    }
}
