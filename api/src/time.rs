//! Times and amounts as text: RFC 3339 in UTC with milliseconds, decimal strings.

use jiff::Timestamp;
use tandem_state::ClusterTime;

/// Micro-units of a currency in one unit.
const MICROS: u64 = 1_000_000;

/// A time as RFC 3339 in UTC, such as `2026-11-22T13:16:22.000Z`.
pub fn rfc3339(time: ClusterTime) -> String {
    let milliseconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    let stamp = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX);
    format!("{stamp:.3}")
}

/// A time from RFC 3339; `None` when it is none, or before 1970.
pub fn parse_rfc3339(text: &str) -> Option<ClusterTime> {
    let stamp: Timestamp = text.parse().ok()?;
    u64::try_from(stamp.as_millisecond()).ok().map(ClusterTime)
}

/// An amount in 1/1,000,000 of the unit as a decimal string with two to six places: `1.50`, `-0.000001`.
pub fn money(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let (units, rest) = (micros.unsigned_abs() / MICROS, micros.unsigned_abs() % MICROS);
    let places = format!("{rest:06}");
    let kept = places.trim_end_matches('0').len().max(2);
    format!("{sign}{units}.{}", places.get(..kept).unwrap_or("00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds_and_come_back_the_same() {
        let time = ClusterTime(1_411_305_382_007);
        assert_eq!(rfc3339(time), "2014-09-21T13:16:22.007Z");
        assert_eq!(parse_rfc3339("2014-09-21T13:16:22.007Z"), Some(time));
        assert_eq!(parse_rfc3339("2014-09-21T14:16:22.007+01:00"), Some(time));
        assert_eq!(parse_rfc3339("yesterday"), None);
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59Z"), None);
    }

    #[test]
    fn times_past_the_calendar_are_its_last_day() {
        assert!(rfc3339(ClusterTime(u64::MAX)).starts_with("9999-12-30"));
    }

    #[test]
    fn amounts_keep_every_micro_and_at_least_two_places() {
        assert_eq!(money(0), "0.00");
        assert_eq!(money(1_500_000), "1.50");
        assert_eq!(money(12_000), "0.012");
        assert_eq!(money(-1), "-0.000001");
        assert_eq!(money(i64::MIN), "-9223372036854.775808");
    }
}
