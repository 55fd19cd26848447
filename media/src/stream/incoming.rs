//! One direction of media as it arrives: which SSRC is current, and the counters of RFC 3550.

use super::sequence::{Sequence, Verdict};
use crate::packet::Header;

/// A new SSRC takes over at once when the current one has been quiet for this long.
const QUIET_US: u64 = 100_000;
/// A larger difference of transit times is a clock step of the sender and not jitter.
const TRANSIT_STEP_US: i64 = 1_000_000;

/// What one end has received, since the session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Packets taken, doubles not counted.
    pub packets: u64,
    /// Octets of those, headers included.
    pub octets: u64,
    /// Expected and not received (A.3); late packets are not lost.
    pub lost: u64,
    /// Seen more than once.
    pub duplicates: u64,
    /// Arrived after a later one.
    pub reordered: u64,
    /// When the first one came, by the clock of the arrivals.
    pub first_us: Option<u64>,
    /// Interarrival jitter (A.8), the present value.
    pub jitter_us: u64,
    /// The highest jitter seen.
    pub jitter_max_us: u64,
    /// Longest time between two packets while the party was to send; pauses that the sender marks as silence are none.
    pub longest_gap_ms: u64,
    /// How often the sender took another SSRC or started its count anew.
    pub ssrc_changes: u64,
    /// Packets that fitted no count, and were not passed on.
    pub out_of_bounds: u64,
}

/// The incoming stream of one end.
#[derive(Debug, Clone, Default)]
pub struct IncomingStream {
    current: Option<Current>,
    candidate: Option<Candidate>,
    counters: Received,
    /// Lost in counts that have ended.
    lost_before: u64,
    last_arrival_us: Option<u64>,
    /// Jitter in 1/16 us (A.8).
    jitter_x16: u64,
}

#[derive(Debug, Clone)]
struct Current {
    ssrc: u32,
    sequence: Sequence,
    /// Packets of this count.
    packets: u64,
    /// Arrival and timestamp of the last packet in order.
    arrival_us: u64,
    timestamp: u32,
    clock_rate: u32,
}

/// Another SSRC that has sent one packet and is not believed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    ssrc: u32,
    next: u16,
}

/// What the reception report block of a stream is made of (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reception {
    pub(crate) ssrc: u32,
    pub(crate) expected: u64,
    pub(crate) received: u64,
    pub(crate) highest_sequence: u32,
    pub(crate) jitter_ticks: u32,
}

impl IncomingStream {
    /// Takes note of one packet of `octets` octets that arrived at `now_us`. `clock_rate` is that of its payload type.
    pub fn receive(&mut self, now_us: u64, header: Header, octets: usize, clock_rate: u32) -> Verdict {
        let verdict = self.judge(now_us, header);
        match verdict {
            Verdict::OutOfBounds => self.counters.out_of_bounds += 1,
            Verdict::Duplicate => self.counters.duplicates += 1,
            Verdict::Late => {
                self.counters.reordered += 1;
                self.count(now_us, octets, false);
            }
            Verdict::Next => {
                self.count(now_us, octets, header.marker);
                self.update_jitter(now_us, header, clock_rate);
            }
            Verdict::First | Verdict::Restarted => {
                self.begin(now_us, header, clock_rate);
                self.count(now_us, octets, header.marker);
            }
        }
        verdict
    }

    /// The party is not to send for now: the pause that follows is no gap.
    pub fn pause(&mut self) {
        self.last_arrival_us = None;
    }

    /// The counters as they are at `now_us`: a gap that has not ended yet counts too.
    pub fn counters(&self, now_us: u64) -> Received {
        let open_gap_ms = self.last_arrival_us.map_or(0, |last| now_us.saturating_sub(last) / 1000);
        let lost = self.lost_before + self.current.as_ref().map_or(0, Current::lost);
        let longest_gap_ms = self.counters.longest_gap_ms.max(open_gap_ms);
        Received { lost, longest_gap_ms, jitter_us: self.jitter_x16 / 16, ..self.counters }
    }

    /// When the last packet arrived, unless the stream is paused.
    pub fn last_arrival_us(&self) -> Option<u64> {
        self.last_arrival_us
    }

    /// The SSRC that is current.
    pub fn ssrc(&self) -> Option<u32> {
        self.current.as_ref().map(|current| current.ssrc)
    }

    /// Whether a packet would carry the current stream on: same SSRC, and a sequence number close ahead.
    pub fn continues(&self, header: Header) -> bool {
        self.current.as_ref().is_some_and(|current| {
            let mut sequence = current.sequence.clone();
            current.ssrc == header.ssrc && sequence.update(header.sequence) == Verdict::Next
        })
    }

    pub(crate) fn reception(&self) -> Option<Reception> {
        self.current.as_ref().map(|current| Reception {
            ssrc: current.ssrc,
            expected: current.sequence.expected(),
            received: current.packets,
            highest_sequence: current.sequence.highest_u32(),
            jitter_ticks: ticks(self.jitter_x16 / 16, current.clock_rate),
        })
    }

    fn judge(&mut self, now_us: u64, header: Header) -> Verdict {
        let Some(current) = &mut self.current else { return Verdict::First };
        if current.ssrc == header.ssrc {
            self.candidate = None;
            return current.sequence.update(header.sequence);
        }
        let offered = Candidate { ssrc: header.ssrc, next: header.sequence };
        let quiet = self.last_arrival_us.is_none_or(|last| now_us.saturating_sub(last) > QUIET_US);
        if quiet || self.candidate == Some(offered) {
            self.counters.ssrc_changes += 1;
            return Verdict::First;
        }
        self.candidate = Some(Candidate { next: header.sequence.wrapping_add(1), ..offered });
        Verdict::OutOfBounds
    }

    fn begin(&mut self, now_us: u64, header: Header, clock_rate: u32) {
        if let Some(ended) = self.current.take() {
            self.lost_before += ended.lost();
            self.counters.ssrc_changes += u64::from(ended.ssrc == header.ssrc);
        }
        self.candidate = None;
        self.current = Some(Current {
            ssrc: header.ssrc,
            sequence: Sequence::new(header.sequence),
            packets: 0,
            arrival_us: now_us,
            timestamp: header.timestamp,
            clock_rate,
        });
    }

    fn count(&mut self, now_us: u64, octets: usize, after_silence: bool) {
        if let Some(current) = &mut self.current {
            current.packets += 1;
        }
        self.counters.first_us.get_or_insert(now_us);
        self.counters.packets += 1;
        self.counters.octets += octets as u64;
        if let Some(last) = self.last_arrival_us.filter(|_| !after_silence) {
            let gap_ms = now_us.saturating_sub(last) / 1000;
            self.counters.longest_gap_ms = self.counters.longest_gap_ms.max(gap_ms);
        }
        self.last_arrival_us = Some(now_us);
    }

    /// A.8, in microseconds instead of clock ticks. Packets with the timestamp of the one before (RFC 4733 events,
    /// video frames) say nothing about transit time.
    fn update_jitter(&mut self, now_us: u64, header: Header, clock_rate: u32) {
        let Some(current) = &mut self.current else { return };
        let timestamp_delta = header.timestamp.wrapping_sub(current.timestamp).cast_signed();
        if timestamp_delta == 0 {
            return;
        }
        let sent_us = i64::from(timestamp_delta) * 1_000_000 / i64::from(clock_rate.max(1));
        let arrived_us = i64::try_from(now_us.saturating_sub(current.arrival_us)).unwrap_or(i64::MAX);
        let same_clock = current.clock_rate == clock_rate;
        current.arrival_us = now_us;
        current.timestamp = header.timestamp;
        current.clock_rate = clock_rate;
        let difference = arrived_us.saturating_sub(sent_us).saturating_abs();
        if difference < TRANSIT_STEP_US && same_clock {
            self.jitter_x16 = self.jitter_x16 + difference.unsigned_abs() - ((self.jitter_x16 + 8) >> 4);
            self.counters.jitter_max_us = self.counters.jitter_max_us.max(self.jitter_x16 / 16);
        }
    }
}

impl Current {
    fn lost(&self) -> u64 {
        self.sequence.expected().saturating_sub(self.packets)
    }
}

/// Microseconds as ticks of a clock.
fn ticks(us: u64, clock_rate: u32) -> u32 {
    u32::try_from(us.saturating_mul(u64::from(clock_rate)) / 1_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(ssrc: u32, sequence: u16) -> Header {
        Header { marker: false, payload_type: 8, sequence, timestamp: u32::from(sequence) * 160, ssrc }
    }

    fn feed(stream: &mut IncomingStream, packets: &[(u64, u32, u16)]) -> Vec<Verdict> {
        packets.iter().map(|(ms, ssrc, n)| stream.receive(ms * 1000, header(*ssrc, *n), 172, 8000)).collect()
    }

    #[test]
    fn a_clean_stream_counts_packets_and_nothing_else() {
        let mut stream = IncomingStream::default();
        feed(&mut stream, &[(0, 1, 10), (20, 1, 11), (40, 1, 12)]);
        let expected = Received {
            packets: 3,
            octets: 516,
            first_us: Some(0),
            longest_gap_ms: 20,
            ..Received::default()
        };
        assert_eq!(stream.counters(40_000), expected);
    }

    #[test]
    fn loss_lateness_and_doubles_are_counted_apart() {
        let mut stream = IncomingStream::default();
        feed(&mut stream, &[(0, 1, 1), (20, 1, 2), (60, 1, 4), (61, 1, 3), (61, 1, 3), (120, 1, 7)]);
        let counters = stream.counters(120_000);
        assert_eq!((counters.packets, counters.lost, counters.reordered, counters.duplicates), (5, 2, 1, 1));
        assert_eq!(counters.longest_gap_ms, 59);
    }

    #[test]
    fn jitter_is_the_running_sixteenth_of_rfc_3550() {
        let mut stream = IncomingStream::default();
        feed(&mut stream, &[(0, 1, 1), (36, 1, 2), (40, 1, 3)]);
        // 16 ms early and late: (0 + 16000)/16 = 1000, then 1000 + (16000 - 1000)/16 = 1937.
        assert_eq!(stream.counters(40_000).jitter_us, 1937);
    }

    #[test]
    fn one_stray_of_another_ssrc_does_not_take_over_and_two_in_sequence_do() {
        let mut stream = IncomingStream::default();
        let verdicts = feed(&mut stream, &[(0, 1, 1), (5, 2, 70), (20, 1, 2), (25, 2, 71), (30, 2, 72)]);
        use Verdict::*;
        assert_eq!(verdicts, [First, OutOfBounds, Next, OutOfBounds, First]);
        let counters = stream.counters(30_000);
        assert_eq!((counters.ssrc_changes, counters.out_of_bounds, counters.packets), (1, 2, 3));
        assert_eq!(stream.ssrc(), Some(2));
    }

    #[test]
    fn a_new_ssrc_after_a_pause_takes_over_at_once() {
        let mut stream = IncomingStream::default();
        assert_eq!(feed(&mut stream, &[(0, 1, 1), (101, 2, 70)]), [Verdict::First, Verdict::First]);
    }

    #[test]
    fn loss_is_kept_over_a_restart_of_the_count() {
        let mut stream = IncomingStream::default();
        feed(&mut stream, &[(0, 1, 1), (40, 1, 3), (60, 1, 9000), (80, 1, 9001), (120, 1, 9003)]);
        let counters = stream.counters(120_000);
        assert_eq!((counters.lost, counters.ssrc_changes), (2, 1));
    }

    #[test]
    fn marked_silence_and_hold_are_no_gaps_but_an_open_gap_is() {
        let mut stream = IncomingStream::default();
        feed(&mut stream, &[(0, 1, 1)]);
        stream.receive(900_000, Header { marker: true, ..header(1, 2) }, 172, 8000);
        assert_eq!(stream.counters(900_000).longest_gap_ms, 0);
        assert_eq!(stream.counters(950_000).longest_gap_ms, 50);
        stream.pause();
        feed(&mut stream, &[(5000, 1, 3)]);
        assert_eq!(stream.counters(5_000_000).longest_gap_ms, 0);
    }
}
