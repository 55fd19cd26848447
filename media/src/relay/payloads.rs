//! Payload type numbers of a leg, and their translation from leg to leg. Made when a plan is applied, so that a packet
//! costs one look into a table.

use crate::plan::PayloadType;

/// Clock rate that is assumed where nothing is agreed.
const CLOCK_RATE: u32 = 8000;

/// The payload types of one leg.
#[derive(Debug, Clone, Default)]
pub(super) struct Payloads {
    agreed: Vec<PayloadType>,
}

/// From the numbers of a source's leg to those of a sink's.
#[derive(Debug, Clone)]
pub(super) struct Translation {
    /// 255: no counterpart.
    numbers: Box<[u8; 128]>,
}

impl Payloads {
    pub(super) fn new(agreed: &[PayloadType]) -> Self {
        Self { agreed: agreed.to_vec() }
    }

    /// The clock rate of a number; `None` when it is not agreed here.
    pub(super) fn clock_rate(&self, number: u8) -> Option<u32> {
        if self.agreed.is_empty() {
            return Some(CLOCK_RATE);
        }
        self.agreed.iter().find(|agreed| agreed.number == number).map(|agreed| agreed.codec.clock_rate)
    }

    fn counterpart(&self, theirs: &Self, number: u8) -> Option<u8> {
        if self.agreed.is_empty() || theirs.agreed.is_empty() {
            return Some(number);
        }
        let mine = self.agreed.iter().find(|mine| mine.number == number)?;
        let same = |their: &&PayloadType| their.codec == mine.codec;
        // The same number first: a codec may be agreed twice with different parameters.
        let number_too = theirs.agreed.iter().filter(same).find(|their| their.number == number);
        number_too.or_else(|| theirs.agreed.iter().find(same)).map(|their| their.number)
    }
}

impl Translation {
    pub(super) fn new(from: &Payloads, to: &Payloads) -> Self {
        let mut numbers = Box::new([255; 128]);
        for (number, entry) in (0..).zip(numbers.iter_mut()) {
            *entry = from.counterpart(to, number).filter(|number| *number < 128).unwrap_or(255);
        }
        Self { numbers }
    }

    /// The sink's number, or `None` when it has not agreed to that codec.
    pub(super) fn number(&self, number: u8) -> Option<u8> {
        self.numbers.get(usize::from(number)).copied().filter(|number| *number != 255)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_translated_by_codec_and_unknown_ones_have_no_counterpart() {
        let from = Payloads::new(&[
            PayloadType::new(8, "PCMA", 8000),
            PayloadType::new(96, "telephone-event", 8000),
        ]);
        let to = Payloads::new(&[
            PayloadType::new(8, "pcma", 8000),
            PayloadType::new(101, "telephone-event", 8000),
        ]);
        let translation = Translation::new(&from, &to);
        assert_eq!([8, 96, 101, 0].map(|n| translation.number(n)), [Some(8), Some(101), None, None]);
        assert_eq!((from.clock_rate(96), from.clock_rate(0)), (Some(8000), None));
    }

    #[test]
    fn without_an_agreement_numbers_pass() {
        let translation =
            Translation::new(&Payloads::default(), &Payloads::new(&[PayloadType::new(8, "PCMA", 8000)]));
        assert_eq!([0, 127].map(|n| translation.number(n)), [Some(0), Some(127)]);
        assert_eq!(Payloads::default().clock_rate(3), Some(8000));
    }
}
