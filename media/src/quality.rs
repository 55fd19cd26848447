//! How a call sounded: loss, jitter, longest gap and a mean opinion score, in integers.
//!
//! The score is ITU-T G.107's E-model with its default values, of which three terms are known here: delay (Id), the
//! codec and its packet loss (Ie,eff). Loss is taken as random. All arithmetic is in thousandths.

use crate::stream::Received;

/// What a call detail record says about its media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quality {
    /// Mean opinion score times 100: 100 to 450.
    pub mos_x100: u32,
    /// Lost packets in parts per million of the expected.
    pub loss_ppm: u32,
    /// Interarrival jitter.
    pub jitter_us: u32,
    /// Longest time without a packet.
    pub longest_gap_ms: u32,
}

/// How a codec sounds without loss (Ie) and how it bears loss (Bpl), both times 10 (ITU-T G.113 appendix I).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impairment {
    /// Equipment impairment factor times 10.
    pub ie_x10: u32,
    /// Packet-loss robustness factor times 10.
    pub bpl_x10: u32,
}

impl Impairment {
    /// G.711 with packet loss concealment; also what a codec without published values is taken for.
    pub const G711: Self = Self { ie_x10: 0, bpl_x10: 251 };

    /// The factors of a codec by its encoding name.
    pub fn of(codec: &str) -> Self {
        let is = |name: &str| codec.eq_ignore_ascii_case(name);
        if is("G729") {
            Self { ie_x10: 110, bpl_x10: 190 }
        } else if is("G723") {
            Self { ie_x10: 150, bpl_x10: 161 }
        } else if is("GSM") {
            Self { ie_x10: 200, bpl_x10: 430 }
        } else if is("iLBC") {
            Self { ie_x10: 110, bpl_x10: 320 }
        } else {
            Self::G711
        }
    }
}

/// Rating factor of a connection without any impairment that is known here, in thousandths.
const R_BEST: i64 = 93_200;
/// Packetization and the least that a jitter buffer adds.
const BUFFER_MS: u64 = 40;

/// The quality of one direction. `rtt_us` is the round-trip time from RTCP, 0 when it is not known. `None` when nothing
/// was received.
pub fn quality(received: &Received, rtt_us: u64, codec: Impairment) -> Option<Quality> {
    if received.packets == 0 {
        return None;
    }
    let expected = received.packets.saturating_add(received.lost);
    let loss_ppm = saturate(u128::from(received.lost) * 1_000_000 / u128::from(expected));
    let delay_us = (rtt_us / 2).saturating_add(received.jitter_us.saturating_mul(2));
    Some(Quality {
        mos_x100: mos_x100(loss_ppm, delay_us / 1000 + BUFFER_MS, codec),
        loss_ppm,
        jitter_us: saturate(u128::from(received.jitter_us)),
        longest_gap_ms: saturate(u128::from(received.longest_gap_ms)),
    })
}

/// Of two directions the worse value in each figure; the one that is there when only one is.
pub fn worse(a: Option<Quality>, b: Option<Quality>) -> Option<Quality> {
    let (Some(a), Some(b)) = (a, b) else { return a.or(b) };
    Some(Quality {
        mos_x100: a.mos_x100.min(b.mos_x100),
        loss_ppm: a.loss_ppm.max(b.loss_ppm),
        jitter_us: a.jitter_us.max(b.jitter_us),
        longest_gap_ms: a.longest_gap_ms.max(b.longest_gap_ms),
    })
}

/// Mean opinion score times 100 (G.107 annex B) for random loss and a one-way delay from mouth to ear.
pub fn mos_x100(loss_ppm: u32, delay_ms: u64, codec: Impairment) -> u32 {
    let r = R_BEST - delay_impairment(delay_ms) - loss_impairment(loss_ppm, codec);
    if r <= 0 {
        return 100;
    }
    let r = r.min(100_000);
    // MOS = 1 + 0.035 R + R (R - 60)(100 - R) 7e-6, times 100, with R in thousandths.
    let bend = r * (r - 60_000) / 1000 * (100_000 - r) / 1000 * 7 / 10_000;
    let mos_x100_000 = 100_000 + r * 35 / 10 + bend;
    u32::try_from((mos_x100_000 + 500) / 1000).unwrap_or(100).clamp(100, 450)
}

/// Id in thousandths: 0.024 d + 0.11 (d - 177.3) above 177.3 ms.
fn delay_impairment(delay_ms: u64) -> i64 {
    let delay_ms = i64::try_from(delay_ms.min(10_000)).unwrap_or(10_000);
    24 * delay_ms + 110 * (delay_ms * 10 - 1773).max(0) / 10
}

/// Ie,eff in thousandths: Ie + (95 - Ie) Ppl / (Ppl + Bpl), with Ppl in percent.
fn loss_impairment(loss_ppm: u32, codec: Impairment) -> i64 {
    let ie = i64::from(codec.ie_x10) * 100;
    let loss = i64::from(loss_ppm);
    let robustness = i64::from(codec.bpl_x10) * 1000;
    ie + (95_000 - ie) * loss / (loss + robustness).max(1)
}

fn saturate(value: u128) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_g711_call_scores_441_at_no_delay_and_439_with_an_ordinary_buffer() {
        assert_eq!(mos_x100(0, 0, Impairment::G711), 441);
        assert_eq!(mos_x100(0, 40, Impairment::G711), 439);
    }

    #[test]
    fn the_score_falls_with_loss_and_delay_and_ends_at_one() {
        let of_loss =
            [0, 10_000, 50_000, 100_000, 300_000, 1_000_000].map(|p| mos_x100(p, 40, Impairment::G711));
        assert_eq!(of_loss, [439, 430, 388, 336, 209, 115]);
        assert!(mos_x100(0, 200, Impairment::G711) > mos_x100(0, 400, Impairment::G711));
        assert_eq!(mos_x100(1_000_000, 2000, Impairment::G711), 100);
    }

    #[test]
    fn g729_is_below_g711() {
        assert_eq!(mos_x100(0, 40, Impairment::of("g729")), 407);
    }

    #[test]
    fn nothing_received_has_no_quality_and_the_worse_direction_counts() {
        assert_eq!(quality(&Received::default(), 0, Impairment::G711), None);
        let good = Received { packets: 1000, longest_gap_ms: 900, ..Received::default() };
        let bad =
            Received { packets: 950, lost: 50, jitter_us: 7000, longest_gap_ms: 60, ..Received::default() };
        let both = worse(quality(&good, 0, Impairment::G711), quality(&bad, 0, Impairment::G711));
        let bad = quality(&bad, 0, Impairment::G711).expect("packets were received");
        assert_eq!(both, Some(Quality { longest_gap_ms: 900, ..bad }));
        assert_eq!((bad.loss_ppm, bad.jitter_us), (50_000, 7000));
        assert_eq!(worse(None, Some(bad)), Some(bad));
    }
}
