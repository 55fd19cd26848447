//! One direction of media as we send it: SSRC, sequence and timestamp are ours and never break.
//!
//! Within one source the rewrite adds constants, so what was lost or out of order on the way to us stays visible to the
//! receiver. When the source changes (another end, another SSRC, a restarted count), the constants are chosen anew: the
//! next sequence number, a timestamp advanced by the time that has passed, and a marker, as at the start of a talk spurt.

use crate::packet::Header;
use crate::plan::EndId;

/// Random values that a stream begins with (RFC 3550 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSeed {
    /// Our synchronization source.
    pub ssrc: u32,
    /// First sequence number.
    pub sequence: u16,
    /// First timestamp.
    pub timestamp: u32,
}

/// Where the media of an outgoing stream comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The end it was received on.
    pub end: EndId,
    /// The sender's SSRC.
    pub ssrc: u32,
}

/// What one end has been sent, since the session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Packets.
    pub packets: u64,
    /// Octets of those, headers included.
    pub octets: u64,
    /// How often the source changed under the stream.
    pub source_changes: u64,
}

/// The outgoing stream of one end.
#[derive(Debug, Clone)]
pub struct OutgoingStream {
    ssrc: u32,
    source: Option<Source>,
    sequence_offset: u16,
    timestamp_offset: u32,
    /// Highest sequence number sent and its timestamp; before the first packet: the ones before the seed's.
    sequence: u16,
    timestamp: u32,
    /// When the highest was sent; `None` before the first packet.
    sent_us: Option<u64>,
    /// Timestamp distance of the last two packets in order: how much media a packet holds.
    spacing: u32,
    counters: Sent,
}

impl OutgoingStream {
    /// A stream that has sent nothing yet.
    pub fn new(seed: StreamSeed) -> Self {
        Self {
            ssrc: seed.ssrc,
            source: None,
            sequence_offset: 0,
            timestamp_offset: 0,
            sequence: seed.sequence.wrapping_sub(1),
            timestamp: seed.timestamp,
            sent_us: None,
            spacing: 0,
            counters: Sent::default(),
        }
    }

    /// Our SSRC on this end.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// What was sent so far.
    pub fn counters(&self) -> Sent {
        self.counters
    }

    /// The source that is heard now.
    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// Timestamp that stands for `now_us`, for a sender report; `None` before the first packet.
    pub fn timestamp_at(&self, now_us: u64, clock_rate: u32) -> Option<u32> {
        let sent_us = self.sent_us?;
        Some(self.timestamp.wrapping_add(elapsed_ticks(sent_us, now_us, clock_rate)))
    }

    /// Our sequence number as the present source counts it: for feedback about single packets (RFC 4585 NACK).
    pub fn source_sequence(&self, ours: u16) -> u16 {
        ours.wrapping_sub(self.sequence_offset)
    }

    /// The next packet of `source` belongs to a new count of it: treat it as another source.
    pub fn source_restarted(&mut self) {
        self.source = None;
    }

    /// The header that a packet of `source` goes out with, under `payload_type`. `octets` is the packet's length.
    pub fn rewrite(
        &mut self,
        now_us: u64,
        source: Source,
        header: Header,
        payload_type: u8,
        clock_rate: u32,
        octets: usize,
    ) -> Header {
        let switched = self.source != Some(source);
        if switched {
            self.switch(now_us, source, header, clock_rate);
        }
        let sequence = header.sequence.wrapping_add(self.sequence_offset);
        let timestamp = header.timestamp.wrapping_add(self.timestamp_offset);
        self.note(now_us, sequence, timestamp, switched);
        self.counters.packets += 1;
        self.counters.octets += octets as u64;
        let marker = header.marker || switched;
        Header { marker, payload_type, sequence, timestamp, ssrc: self.ssrc }
    }

    fn switch(&mut self, now_us: u64, source: Source, header: Header, clock_rate: u32) {
        let advance = match self.sent_us {
            Some(sent_us) => elapsed_ticks(sent_us, now_us, clock_rate).max(self.spacing).max(1),
            None => 0,
        };
        self.counters.source_changes += u64::from(self.sent_us.is_some());
        self.source = Some(source);
        self.sequence_offset = self.sequence.wrapping_add(1).wrapping_sub(header.sequence);
        self.timestamp_offset = self.timestamp.wrapping_add(advance).wrapping_sub(header.timestamp);
    }

    /// Remembers the highest packet, from which the next source goes on.
    fn note(&mut self, now_us: u64, sequence: u16, timestamp: u32, switched: bool) {
        let ahead = sequence.wrapping_sub(self.sequence).cast_signed();
        if ahead <= 0 && !switched {
            return;
        }
        let step = timestamp.wrapping_sub(self.timestamp);
        if ahead == 1 && !switched && step != 0 && step.cast_signed() > 0 {
            self.spacing = step;
        }
        self.sequence = sequence;
        self.timestamp = timestamp;
        self.sent_us = Some(now_us);
    }
}

fn elapsed_ticks(from_us: u64, to_us: u64, clock_rate: u32) -> u32 {
    let ticks = u128::from(to_us.saturating_sub(from_us)) * u128::from(clock_rate) / 1_000_000;
    // Timestamps wrap (RFC 3550 section 5.1), so the lower half is the right answer for any length of time.
    u32::try_from(ticks & u128::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: StreamSeed = StreamSeed { ssrc: 0xaaaa, sequence: 100, timestamp: 5000 };

    fn source(end: u32, ssrc: u32) -> Source {
        Source { end: EndId(end), ssrc }
    }

    fn send(
        stream: &mut OutgoingStream,
        ms: u64,
        from: Source,
        sequence: u16,
        timestamp: u32,
    ) -> (u16, u32, bool) {
        let header = Header { marker: false, payload_type: 8, sequence, timestamp, ssrc: from.ssrc };
        let out = stream.rewrite(ms * 1000, from, header, 8, 8000, 172);
        assert_eq!(out.ssrc, SEED.ssrc);
        (out.sequence, out.timestamp, out.marker)
    }

    #[test]
    fn the_first_packet_starts_at_the_seed_and_loss_and_order_stay_visible() {
        let mut out = OutgoingStream::new(SEED);
        let a = source(0, 1);
        assert_eq!(send(&mut out, 0, a, 65535, 1_000_000), (100, 5000, true));
        assert_eq!(send(&mut out, 20, a, 0, 1_000_160), (101, 5160, false));
        assert_eq!(send(&mut out, 60, a, 2, 1_000_480), (103, 5480, false));
        assert_eq!(send(&mut out, 61, a, 1, 1_000_320), (102, 5320, false));
        assert_eq!(send(&mut out, 80, a, 3, 1_000_640), (104, 5640, false));
    }

    #[test]
    fn another_source_continues_by_the_time_that_has_passed() {
        let mut out = OutgoingStream::new(SEED);
        send(&mut out, 0, source(0, 1), 7, 0);
        send(&mut out, 20, source(0, 1), 8, 160);
        assert_eq!(send(&mut out, 520, source(1, 9), 60000, 77), (102, 5160 + 4000, true));
        assert_eq!(send(&mut out, 540, source(1, 9), 60001, 237), (103, 5160 + 4160, false));
        assert_eq!(out.counters(), Sent { packets: 4, octets: 688, source_changes: 1 });
    }

    #[test]
    fn a_switch_at_the_same_moment_still_advances_by_one_packet() {
        let mut out = OutgoingStream::new(SEED);
        send(&mut out, 0, source(0, 1), 7, 0);
        send(&mut out, 20, source(0, 1), 8, 160);
        assert_eq!(send(&mut out, 20, source(0, 2), 1, 0), (102, 5320, true));
    }

    #[test]
    fn a_late_packet_of_the_present_source_does_not_move_the_point_of_continuation() {
        let mut out = OutgoingStream::new(SEED);
        let a = source(0, 1);
        send(&mut out, 0, a, 7, 0);
        send(&mut out, 40, a, 9, 320);
        send(&mut out, 41, a, 8, 160);
        assert_eq!(send(&mut out, 60, source(1, 1), 1, 0), (103, 5000 + 320 + 160, true));
    }

    #[test]
    fn an_event_keeps_its_one_timestamp_over_all_its_packets() {
        // RFC 4733: marker on the first, one timestamp, growing duration; the audio after it goes on in step.
        let mut out = OutgoingStream::new(SEED);
        let a = source(0, 1);
        send(&mut out, 0, a, 1, 0);
        let event =
            |n: u16, marker| Header { marker, payload_type: 96, sequence: n, timestamp: 160, ssrc: 1 };
        let first = out.rewrite(20_000, a, event(2, true), 101, 8000, 16);
        let second = out.rewrite(40_000, a, event(3, false), 101, 8000, 16);
        assert_eq!((first.timestamp, first.marker, first.payload_type), (5160, true, 101));
        assert_eq!((second.timestamp, second.marker, second.sequence), (5160, false, 102));
        assert_eq!(send(&mut out, 60, a, 4, 480), (103, 5480, false));
    }

    #[test]
    fn feedback_about_our_numbers_is_turned_into_the_sources() {
        let mut out = OutgoingStream::new(SEED);
        send(&mut out, 0, source(0, 1), 65535, 0);
        assert_eq!(out.source_sequence(101), 0);
    }
}
