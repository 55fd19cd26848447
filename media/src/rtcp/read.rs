//! Reading compound RTCP. Nothing is copied, and every length is checked before it is used; a compound packet is
//! bounded by the datagram that holds it.

use super::{
    APPLICATION, BYE, DESCRIPTION, PAYLOAD_FEEDBACK, RECEIVER_REPORT, SENDER_REPORT, TRANSPORT_FEEDBACK,
};

/// Why a datagram is not RTCP (RFC 3550 appendix A.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A header or body reaches over the end.
    #[error("truncated")]
    Truncated,
    /// Not version 2.
    #[error("not version 2")]
    Version,
    /// The body is too short for what its header announces.
    #[error("body too short for its kind")]
    Body,
}

/// One packet of a compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RFC 3550 section 6.4.1.
    SenderReport {
        /// The reporter.
        ssrc: u32,
        /// Wall clock of the sender, NTP format.
        ntp: u64,
        /// The same moment in RTP timestamp units.
        timestamp: u32,
        /// Packets sent.
        packets: u32,
        /// Payload octets sent.
        octets: u32,
        /// Report blocks of 24 octets each.
        blocks: &'a [u8],
    },
    /// RFC 3550 section 6.4.2.
    ReceiverReport {
        /// The reporter.
        ssrc: u32,
        /// Report blocks of 24 octets each.
        blocks: &'a [u8],
    },
    /// RFC 3550 section 6.5; the items are not looked into.
    Description,
    /// RFC 3550 section 6.6; the first source that leaves.
    Bye {
        /// `None` when the packet names nobody.
        ssrc: Option<u32>,
    },
    /// RFC 3550 section 6.7.
    Application,
    /// RFC 4585 section 6.1.
    Feedback {
        /// Payload-specific (206) rather than transport-layer (205).
        payload_specific: bool,
        /// The kind, `FMT`.
        format: u8,
        /// Who asks.
        sender: u32,
        /// About which stream.
        media: u32,
        /// Feedback control information.
        control: &'a [u8],
    },
    /// A packet type that is not known here.
    Unknown(u8),
}

/// One report block (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream that is reported on.
    pub ssrc: u32,
    /// Loss since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Loss since the beginning, 24 bits, signed.
    pub lost: i32,
    /// Extended highest sequence number.
    pub highest_sequence: u32,
    /// In timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time, 0 for none.
    pub last_report: u32,
    /// Time since that report in 1/65536 s.
    pub delay: u32,
}

/// The packets of one datagram, in order.
#[derive(Debug, Clone)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

/// Checks a whole datagram and gives its packets. Reduced-size RTCP (RFC 5506) is accepted.
pub fn read(datagram: &[u8]) -> Result<Compound<'_>, Malformed> {
    let mut rest = datagram;
    if rest.is_empty() {
        return Err(Malformed::Truncated);
    }
    while !rest.is_empty() {
        let (_, after) = split(rest)?;
        rest = after;
    }
    Ok(Compound { rest: datagram })
}

/// The report blocks of a sender's or receiver's report.
fn report_blocks(blocks: &[u8]) -> impl Iterator<Item = ReportBlock> + '_ {
    blocks.chunks_exact(ReportBlock::LEN).filter_map(ReportBlock::read)
}

impl<'a> Packet<'a> {
    /// The report blocks, of the kinds that have any.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> + 'a {
        let blocks = match *self {
            Self::SenderReport { blocks, .. } | Self::ReceiverReport { blocks, .. } => blocks,
            Self::Description | Self::Bye { .. } | Self::Application => &[],
            Self::Feedback { .. } | Self::Unknown(_) => &[],
        };
        report_blocks(blocks)
    }
}

impl ReportBlock {
    /// Octets of a block.
    pub const LEN: usize = 24;

    fn read(block: &[u8]) -> Option<Self> {
        let word = |index: usize| word(block, index);
        let loss = word(1)?;
        let [fraction_lost, ..] = loss.to_be_bytes();
        Some(Self {
            ssrc: word(0)?,
            fraction_lost,
            // Sign extension of 24 bits.
            lost: (loss << 8).cast_signed() >> 8,
            highest_sequence: word(2)?,
            jitter: word(3)?,
            last_report: word(4)?,
            delay: word(5)?,
        })
    }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Packet<'a>;

    fn next(&mut self) -> Option<Packet<'a>> {
        let (packet, after) = split(self.rest).ok()?;
        self.rest = after;
        Some(packet)
    }
}

/// The first packet of a compound, and what comes after it.
fn split(bytes: &[u8]) -> Result<(Packet<'_>, &[u8]), Malformed> {
    let [first, kind, l0, l1, ..] = *bytes else { return Err(Malformed::Truncated) };
    if first >> 6 != 2 {
        return Err(Malformed::Version);
    }
    let len = (usize::from(u16::from_be_bytes([l0, l1])) + 1) * 4;
    let whole = bytes.get(..len).ok_or(Malformed::Truncated)?;
    let body = whole.get(4..).ok_or(Malformed::Truncated)?;
    let packet = decode(first & 0x1f, kind, body).ok_or(Malformed::Body)?;
    Ok((packet, bytes.get(len..).unwrap_or_default()))
}

fn decode(count: u8, kind: u8, body: &[u8]) -> Option<Packet<'_>> {
    let blocks_len = usize::from(count) * ReportBlock::LEN;
    Some(match kind {
        SENDER_REPORT => Packet::SenderReport {
            ssrc: word(body, 0)?,
            ntp: (u64::from(word(body, 1)?) << 32) | u64::from(word(body, 2)?),
            timestamp: word(body, 3)?,
            packets: word(body, 4)?,
            octets: word(body, 5)?,
            blocks: body.get(24..24 + blocks_len)?,
        },
        RECEIVER_REPORT => {
            Packet::ReceiverReport { ssrc: word(body, 0)?, blocks: body.get(4..4 + blocks_len)? }
        }
        DESCRIPTION => Packet::Description,
        BYE => {
            body.get(..usize::from(count) * 4)?;
            Packet::Bye { ssrc: if count == 0 { None } else { word(body, 0) } }
        }
        APPLICATION => Packet::Application,
        TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK => Packet::Feedback {
            payload_specific: kind == PAYLOAD_FEEDBACK,
            format: count,
            sender: word(body, 0)?,
            media: word(body, 1)?,
            control: body.get(8..)?,
        },
        other => Packet::Unknown(other),
    })
}

/// The 32-bit word at an index.
fn word(body: &[u8], index: usize) -> Option<u32> {
    body.get(index * 4..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_receiver_report_with_a_block_and_a_goodbye_are_read() {
        let mut bytes = vec![0x81, 201, 0, 7, 0, 0, 0, 5];
        bytes.extend([0, 0, 0, 9, 0x40, 0xff, 0xff, 0xfe, 0, 1, 0, 7, 0, 0, 0, 80, 0, 0, 0, 3, 0, 1, 0, 0]);
        bytes.extend([0x81, 203, 0, 1, 0, 0, 0, 5]);
        let packets: Vec<_> = read(&bytes).expect("well-formed").collect();
        assert_eq!(packets.len(), 2);
        let block = ReportBlock {
            ssrc: 9,
            fraction_lost: 64,
            lost: -2,
            highest_sequence: 0x1_0007,
            jitter: 80,
            last_report: 3,
            delay: 65536,
        };
        assert_eq!(packets[0].blocks().collect::<Vec<_>>(), [block]);
        assert_eq!(packets[1], Packet::Bye { ssrc: Some(5) });
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        assert_eq!(read(&[]).err(), Some(Malformed::Truncated));
        assert_eq!(read(&[0x80, 200, 0]).err(), Some(Malformed::Truncated));
        assert_eq!(read(&[0x80, 201, 0, 9, 0, 0, 0, 5]).err(), Some(Malformed::Truncated));
        assert_eq!(read(&[0x9f, 201, 0, 1, 0, 0, 0, 5]).err(), Some(Malformed::Body));
        assert_eq!(read(&[0x40, 201, 0, 1, 0, 0, 0, 5]).err(), Some(Malformed::Version));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            kinds in proptest::collection::vec((any::<u8>(), 196u8..212, 0u8..12), 0..4),
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = Vec::new();
            for (first, kind, len) in kinds {
                bytes.extend([0x80 | (first & 0x3f), kind, 0, len]);
                bytes.extend(noise.iter().take(usize::from(len) * 4));
            }
            bytes.extend(&noise);
            for datagram in [&bytes, &noise] {
                if let Ok(compound) = read(datagram) {
                    let blocks: usize = compound.map(|packet| packet.blocks().count()).sum();
                    prop_assert!(blocks * ReportBlock::LEN <= datagram.len());
                }
            }
        }
    }
}
