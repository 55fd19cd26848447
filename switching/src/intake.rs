//! How many registrations that need the log are taken at once, and when the others come back.
//!
//! After a power cut all phones of a town register in the same second. Each new binding is a log entry, and a log that is
//! asked for more than it can commit makes everybody wait until they ask again, which is worse. So a bounded number is in
//! hand (on its way through the log, or next in line for that), and who comes then is given a turn: the first free one
//! at the rate that the log was seen to commit, and somewhat later by chance, so that no second brings them all again.
//!
//! A turn is no promise: it costs no memory here, and who comes while there is room is taken. What costs no log entry
//! (a refresh) is never asked about. While the log is short, phones without credentials are let in to be challenged at
//! its rate too: else each would be asked for a proof that nobody has the time to look at.

/// Bounds of an intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Registrations on their way through the log at once.
    pub in_flight_max: usize,
    /// More wait in line for no longer than about this: below the time after which a phone asks again.
    pub waiting_ms: u64,
    /// And no more than this many, however fast the log is.
    pub waiting_max: usize,
    /// The commits per second that are believed in before any were seen.
    pub first_rate: u64,
    /// Nobody is sent away for longer, chance aside.
    pub turn_max_ms: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            in_flight_max: 256,
            waiting_ms: 500,
            waiting_max: 2_048,
            first_rate: 500,
            turn_max_ms: 120_000,
        }
    }
}

/// The rate is measured over so long,
const WINDOW_MS: u64 = 1_000;
/// or over this when half as many are through as may be in flight: commits come in groups, so a look at fewer would see
/// all or nothing.
const WINDOW_MIN_MS: u64 = 100;
/// So long after the last refusal the log still counts as short.
const SHORT_MS: u64 = 1_000;
/// The lowest rate that is believed: a log that stands still is no reason to send phones away for a day.
const RATE_MIN_MILLI: u64 = 10_000;
/// Turns are spread by at least this.
const SPREAD_MIN_US: u64 = 1_000_000;
/// And by this part of the time until the turn.
const SPREAD_PART: u64 = 4;

/// What is said to a registration that needs the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has a place, until [`Intake::done`].
    Taken,
    /// It is to come again.
    Deferred {
        /// For `Retry-After`.
        retry_after_s: u64,
    },
}

/// See the module. Times are of the steady clock.
#[derive(Debug, Clone)]
pub struct Intake {
    bounds: Bounds,
    in_hand: usize,
    /// Commits per 1,000 seconds.
    rate_milli: u64,
    measured: bool,
    /// Open while the log has all that it can do: only then its commits are its rate.
    window: Option<Window>,
    /// All turns that were given lie before this, in microseconds.
    booked_us: u64,
    /// Those who were let in to be challenged and may be on their way back, in thousandths, as of a time.
    expected_milli: u64,
    expected_at_ms: u64,
    short_until_ms: u64,
}

/// Commits that are being counted.
#[derive(Debug, Clone, Copy)]
struct Window {
    since_ms: u64,
    done: u64,
}

impl Intake {
    /// Nothing is in hand.
    pub fn new(bounds: Bounds) -> Self {
        Intake {
            bounds,
            in_hand: 0,
            rate_milli: bounds.first_rate.saturating_mul(1_000).max(RATE_MIN_MILLI),
            measured: false,
            window: None,
            booked_us: 0,
            expected_milli: 0,
            expected_at_ms: 0,
            short_until_ms: 0,
        }
    }

    /// How many are in hand.
    pub fn in_hand(&self) -> usize {
        self.in_hand
    }

    /// Commits per second, as last measured while the log had all that it could do.
    pub fn rate(&self) -> u64 {
        self.rate_milli / 1_000
    }

    /// Whether somebody was sent away a moment ago: then it is worth a look at a registration before its proof.
    pub fn is_short(&self, now_ms: u64) -> bool {
        now_ms < self.short_until_ms
    }

    /// Takes a registration, if there is room. `chance` is any random number.
    pub fn take(&mut self, now_ms: u64, chance: u64) -> Verdict {
        let verdict = self.look(now_ms, chance);
        self.in_hand += usize::from(verdict == Verdict::Taken);
        verdict
    }

    /// Whether there is room, asked before the work of a proof. Takes no place.
    pub fn look(&mut self, now_ms: u64, chance: u64) -> Verdict {
        if self.in_hand >= self.in_hand_max() {
            return self.defer(now_ms, chance);
        }
        Verdict::Taken
    }

    /// Whether a registration without credentials may be challenged, while the log [is short](Intake::is_short). Takes no
    /// place.
    pub fn challenge(&mut self, now_ms: u64, chance: u64) -> Verdict {
        let back = now_ms.saturating_sub(self.expected_at_ms).saturating_mul(self.rate_milli) / 1_000;
        self.expected_at_ms = now_ms;
        self.expected_milli = self.expected_milli.saturating_sub(back);
        let expected = usize::try_from(self.expected_milli.div_ceil(1_000)).unwrap_or(usize::MAX);
        if self.in_hand.saturating_add(expected) >= self.in_hand_max() {
            return self.defer(now_ms, chance);
        }
        self.expected_milli += 1_000;
        Verdict::Taken
    }

    /// One that was taken is through, whatever came of it.
    pub fn done(&mut self, now_ms: u64) {
        let busy = self.in_hand >= self.bounds.in_flight_max;
        self.in_hand = self.in_hand.saturating_sub(1);
        let window = self.window.map(|window| Window { done: window.done + 1, ..window });
        let length_ms = window.map_or(0, |window| now_ms.saturating_sub(window.since_ms));
        self.window = match window {
            Some(window) if self.is_enough(window.done, length_ms) => {
                self.measured(window.done, length_ms);
                None
            }
            window => window,
        };
        if !busy {
            self.window = None;
        } else if self.window.is_none() {
            self.window = Some(Window { since_ms: now_ms, done: 0 });
        }
    }

    fn is_enough(&self, done: u64, length_ms: u64) -> bool {
        let many = usize::try_from(done).unwrap_or(usize::MAX) >= self.bounds.in_flight_max / 2;
        length_ms >= WINDOW_MS || (many && length_ms >= WINDOW_MIN_MS)
    }

    fn measured(&mut self, done: u64, length_ms: u64) {
        let seen = (done.saturating_mul(1_000_000) / length_ms.max(1)).max(RATE_MIN_MILLI);
        self.rate_milli = if self.measured { (self.rate_milli + seen) / 2 } else { seen };
        self.measured = true;
    }

    /// In flight, and what follows them within the time that a phone waits.
    fn in_hand_max(&self) -> usize {
        let waiting = self.rate_milli.saturating_mul(self.bounds.waiting_ms) / 1_000_000;
        let waiting = usize::try_from(waiting).unwrap_or(usize::MAX).min(self.bounds.waiting_max);
        self.bounds.in_flight_max.saturating_add(waiting)
    }

    /// The next free turn, later by chance.
    fn defer(&mut self, now_ms: u64, chance: u64) -> Verdict {
        self.short_until_ms = now_ms.saturating_add(SHORT_MS);
        let now_us = now_ms.saturating_mul(1_000);
        let turn_us = 1_000_000_000 / self.rate_milli;
        let in_hand_us = turn_us.saturating_mul(u64::try_from(self.in_hand).unwrap_or(u64::MAX));
        let latest_us = now_us.saturating_add(self.bounds.turn_max_ms.saturating_mul(1_000));
        let free_us = self.booked_us.max(now_us.saturating_add(in_hand_us)).saturating_add(turn_us);
        self.booked_us = free_us.min(latest_us);
        let wait_us = self.booked_us.saturating_sub(now_us);
        let spread_us = (wait_us / SPREAD_PART).max(SPREAD_MIN_US);
        let wait_us = wait_us.saturating_add(chance % spread_us);
        Verdict::Deferred { retry_after_s: wait_us.div_ceil(1_000_000) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two in flight, one more in line, ten commits a second, turns up to 20 s away.
    fn intake() -> Intake {
        Intake::new(Bounds {
            in_flight_max: 2,
            waiting_ms: 100,
            waiting_max: 1,
            first_rate: 10,
            turn_max_ms: 20_000,
        })
    }

    fn filled() -> Intake {
        let mut intake = intake();
        for _ in 0..3 {
            assert_eq!(intake.take(0, 0), Verdict::Taken);
        }
        intake
    }

    fn later(retry_after_s: u64) -> Verdict {
        Verdict::Deferred { retry_after_s }
    }

    #[test]
    fn a_bounded_number_is_in_hand_and_a_place_that_is_given_back_is_taken_again() {
        let mut intake = filled();
        assert!(!intake.is_short(0));
        assert_eq!((intake.take(0, 0), intake.in_hand(), intake.is_short(999)), (later(1), 3, true));
        assert_eq!(intake.look(0, 0), later(1));
        intake.done(10);
        assert_eq!((intake.look(10, 0), intake.in_hand()), (Verdict::Taken, 2));
        assert_eq!((intake.take(10, 0), intake.in_hand()), (Verdict::Taken, 3));
        assert!(!intake.is_short(1_000));
    }

    #[test]
    fn turns_follow_each_other_at_the_rate_of_the_log() {
        let mut intake = filled();
        let turns: Vec<Verdict> = (0..60).map(|_| intake.take(0, 0)).collect();
        // Three in hand are 0.3 s; the n-th turn is n tenths of a second after them.
        let expected: Vec<Verdict> =
            (1..=60).map(|nth: u64| later((300 + nth * 100).div_ceil(1_000))).collect();
        assert_eq!(turns, expected);
        assert_eq!(intake.take(5_000, 0), later(2), "time has used up five seconds of them");
    }

    #[test]
    fn turns_are_spread_by_chance_over_a_second_or_a_quarter_of_the_wait() {
        let mut intake = filled();
        assert_eq!(intake.take(0, 999_999), later(2), "0.4 s and up to one");
        (0..100).for_each(|_| _ = intake.take(0, 0));
        // The 102nd turn: 10.5 s, and up to 2.6 s.
        let mut other = intake.clone();
        assert_eq!((intake.take(0, 0), other.take(0, 2_624_999)), (later(11), later(14)));
    }

    #[test]
    fn no_turn_is_farther_than_the_bound_and_the_spread() {
        let mut intake = filled();
        (0..10_000).for_each(|_| _ = intake.take(0, 0));
        assert_eq!((intake.take(0, 0), intake.take(0, u64::MAX)), (later(20), later(25)));
    }

    #[test]
    fn the_rate_is_what_a_busy_log_commits() {
        let mut intake = filled();
        // The first commit opens the window, and is not counted.
        for at in 0..=200 {
            intake.done(500 + at * 5);
            assert_eq!(intake.take(500 + at * 5, 0), Verdict::Taken);
        }
        assert_eq!(intake.rate(), 200, "one in 5 ms");
        for at in 0..200 {
            intake.done(1_505 + at * 10);
            assert_eq!(intake.take(1_505 + at * 10, 0), Verdict::Taken);
        }
        assert_eq!(intake.rate(), 100, "one in 10 ms, for two seconds");
    }

    #[test]
    fn commits_that_come_in_groups_are_averaged_and_an_idle_log_says_nothing() {
        let mut intake = filled();
        for group in 0..=10 {
            for _ in 0..30 {
                intake.done(group * 200);
                assert_eq!(intake.take(group * 200, 0), Verdict::Taken);
            }
        }
        assert!((140..=180).contains(&intake.rate()), "thirty in 200 ms, seen {}", intake.rate());
        let busy = intake.rate();
        (0..3).for_each(|_| intake.done(2_010));
        for at in 1..100 {
            assert_eq!(intake.take(3_000 + at * 200, 0), Verdict::Taken);
            intake.done(3_000 + at * 200);
        }
        assert_eq!(intake.rate(), busy, "five a second was all that was asked");
    }

    #[test]
    fn a_log_that_nearly_stands_still_is_believed_to_be_slow_and_not_dead() {
        let mut intake = filled();
        for at in [0, 60_000] {
            intake.done(at);
            assert_eq!(intake.take(at, 0), Verdict::Taken);
        }
        assert_eq!(intake.rate(), 10);
    }

    #[test]
    fn phones_without_a_proof_are_challenged_at_the_rate_of_the_log() {
        let mut intake = filled();
        assert_eq!(intake.challenge(0, 0), later(1), "who is challenged would find no room");
        (0..3).for_each(|_| intake.done(100));
        let let_in =
            |intake: &mut Intake, at| (0..9).filter(|_| intake.challenge(at, 0) == Verdict::Taken).count();
        assert_eq!(let_in(&mut intake, 100), 3);
        assert_eq!(let_in(&mut intake, 199), 0);
        assert_eq!(let_in(&mut intake, 300), 2, "two more in a fifth of a second");
        assert_eq!(intake.in_hand(), 0, "a challenge takes no place");
    }
}
