//! Sequence numbers of one incoming stream: which packet is next, late, doubled or out of bounds
//! (RFC 3550 appendix A.1, with a window for doubles and without its delay of the first packet).

/// A forward jump of at least this many is not loss but a restart (A.1 `MAX_DROPOUT`).
pub(crate) const DROPOUT_MAX: u16 = 3000;
/// How far back a packet may be and still belong to the stream (A.1 `MAX_MISORDER`, here the window's size).
const MISORDER_MAX: u64 = 64;

/// What a packet is to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first packet of all, or of a new SSRC.
    First,
    /// In order, perhaps after a gap.
    Next,
    /// Late, and not seen before.
    Late,
    /// Seen before.
    Duplicate,
    /// Far outside of what was expected, or of another SSRC while the current one is alive: not to be passed on yet
    /// (A.1: two in sequence make a restart).
    OutOfBounds,
    /// The second of two packets in sequence on a new count: the sender has restarted.
    Restarted,
}

/// The count of one SSRC.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    /// Extended highest sequence number: cycles in the upper bits.
    highest: u64,
    /// Extended first sequence number.
    base: u64,
    /// Bit n: `highest - n` was received.
    window: u64,
    /// What would come next if a jump was a restart (A.1 `bad_seq`).
    restart_at: Option<u16>,
}

impl Sequence {
    pub(crate) fn new(first: u16) -> Self {
        // One cycle of head room, so that a packet from before the first one has a place.
        let base = 0x1_0000 + u64::from(first);
        Self { highest: base, base, window: 1, restart_at: None }
    }

    /// Extended highest sequence number, as a report block wants it.
    pub(crate) fn highest_u32(&self) -> u32 {
        u32::try_from((self.highest - 0x1_0000) & 0xffff_ffff).unwrap_or(u32::MAX)
    }

    /// How many packets there should have been so far (A.3).
    pub(crate) fn expected(&self) -> u64 {
        self.highest - self.base + 1
    }

    /// Notes one packet. After `Restarted` this count has ended, and the caller begins a new one.
    pub(crate) fn update(&mut self, sequence: u16) -> Verdict {
        let [.., high, low] = self.highest.to_be_bytes();
        let ahead = sequence.wrapping_sub(u16::from_be_bytes([high, low]));
        if ahead == 0 {
            Verdict::Duplicate
        } else if ahead < DROPOUT_MAX {
            self.advance(u64::from(ahead))
        } else {
            self.behind_or_jump(sequence, u64::from(ahead.wrapping_neg()))
        }
    }

    fn advance(&mut self, ahead: u64) -> Verdict {
        self.highest += ahead;
        self.window = if ahead < MISORDER_MAX { (self.window << ahead) | 1 } else { 1 };
        self.restart_at = None;
        Verdict::Next
    }

    fn behind_or_jump(&mut self, sequence: u16, behind: u64) -> Verdict {
        if behind < MISORDER_MAX {
            let bit = 1 << behind;
            if self.window & bit != 0 {
                return Verdict::Duplicate;
            }
            self.window |= bit;
            self.base = self.base.min(self.highest - behind);
            return Verdict::Late;
        }
        if self.restart_at == Some(sequence) {
            return Verdict::Restarted;
        }
        self.restart_at = Some(sequence.wrapping_add(1));
        Verdict::OutOfBounds
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::*;
    use super::*;

    fn verdicts(numbers: &[u16]) -> Vec<Verdict> {
        let mut sequence = Sequence::new(numbers[0]);
        numbers[1..].iter().map(|n| sequence.update(*n)).collect()
    }

    #[test]
    fn order_loss_lateness_and_doubles_are_told_apart() {
        assert_eq!(verdicts(&[10, 11, 13, 12, 12, 13, 14]), [Next, Next, Late, Duplicate, Duplicate, Next]);
    }

    #[test]
    fn the_count_goes_over_the_wrap() {
        let mut sequence = Sequence::new(65534);
        assert_eq!([65535, 0, 1, 65535].map(|n| sequence.update(n)), [Next, Next, Next, Duplicate]);
        assert_eq!(sequence.expected(), 4);
        assert_eq!(sequence.highest_u32(), 0x1_0001);
    }

    #[test]
    fn a_packet_from_before_the_first_counts_as_expected() {
        let mut sequence = Sequence::new(10);
        assert_eq!(sequence.update(9), Late);
        assert_eq!(sequence.expected(), 2);
    }

    #[test]
    fn two_in_sequence_after_a_jump_are_a_restart_and_one_is_not() {
        assert_eq!(verdicts(&[10, 40000, 11]), [OutOfBounds, Next]);
        assert_eq!(verdicts(&[10, 40000, 40001]), [OutOfBounds, Restarted]);
    }
}
