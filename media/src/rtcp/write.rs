//! Writing our own reports and feedback into a given buffer; `None` when it is too small.

use super::read::ReportBlock;
use super::{DESCRIPTION, PAYLOAD_FEEDBACK, RECEIVER_REPORT, SENDER_REPORT, TRANSPORT_FEEDBACK};

/// A report of ours, followed by our canonical name: the least compound that RFC 3550 section 6.1 allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Our SSRC on this end.
    pub ssrc: u32,
    /// What we send, if we send.
    pub sender: Option<SenderPart>,
    /// What we receive, if we do.
    pub block: Option<ReportBlock>,
    /// Canonical name (RFC 7022: random, for the session only); written as 16 hexadecimal digits.
    pub cname: u64,
}

/// The sender's part of a report (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderPart {
    /// Wall clock, NTP format.
    pub ntp: u64,
    /// The same moment as a timestamp of the stream.
    pub timestamp: u32,
    /// Packets sent, modulo 2^32.
    pub packets: u32,
    /// Payload octets sent, modulo 2^32.
    pub octets: u32,
}

/// Feedback to a source (RFC 4585, RFC 5104).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feedback {
    /// Our SSRC on the source's end.
    pub sender: u32,
    /// The source's SSRC.
    pub media: u32,
    /// What is asked.
    pub request: Request,
}

/// What may be asked of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Packets again (RFC 4585 section 6.2.1): a sequence number and the mask of the 16 after it.
    Packets {
        /// First lost packet, in the source's numbers.
        sequence: u16,
        /// Bit n: `sequence + n + 1` is lost too.
        following: u16,
    },
    /// A whole picture, because one was damaged (RFC 4585 section 6.3.1).
    PictureLoss,
    /// A whole picture, for a newcomer (RFC 5104 section 4.3.1).
    FullIntra {
        /// Counts the requests.
        number: u8,
    },
}

/// Writes a sender's report, or a receiver's when nothing is sent, and the description. Gives the octets written.
pub fn write_report(report: &Report, out: &mut [u8]) -> Option<usize> {
    let mut writer = Writer { out, at: 0 };
    let blocks = u8::from(report.block.is_some());
    let block_words = u16::from(blocks) * 6;
    match report.sender {
        Some(sender) => {
            writer.header(blocks, SENDER_REPORT, 6 + block_words)?;
            writer.word(report.ssrc)?;
            writer.put(&sender.ntp.to_be_bytes())?;
            writer.words(&[sender.timestamp, sender.packets, sender.octets])?;
        }
        None => {
            writer.header(blocks, RECEIVER_REPORT, 1 + block_words)?;
            writer.word(report.ssrc)?;
        }
    }
    if let Some(block) = report.block {
        writer.block(&block)?;
    }
    writer.description(report.ssrc, report.cname)?;
    Some(writer.at)
}

/// Writes an empty receiver's report and the feedback. Gives the octets written.
pub fn write_feedback(feedback: &Feedback, out: &mut [u8]) -> Option<usize> {
    let mut writer = Writer { out, at: 0 };
    writer.header(0, RECEIVER_REPORT, 1)?;
    writer.word(feedback.sender)?;
    match feedback.request {
        Request::Packets { sequence, following } => {
            writer.header(1, TRANSPORT_FEEDBACK, 3)?;
            let control = (u32::from(sequence) << 16) | u32::from(following);
            writer.words(&[feedback.sender, feedback.media, control])?;
        }
        Request::PictureLoss => {
            writer.header(1, PAYLOAD_FEEDBACK, 2)?;
            writer.words(&[feedback.sender, feedback.media])?;
        }
        Request::FullIntra { number } => {
            writer.header(4, PAYLOAD_FEEDBACK, 4)?;
            writer.words(&[feedback.sender, 0, feedback.media, u32::from(number) << 24])?;
        }
    }
    Some(writer.at)
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len())?;
        self.out.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    fn word(&mut self, word: u32) -> Option<()> {
        self.put(&word.to_be_bytes())
    }

    fn words(&mut self, words: &[u32]) -> Option<()> {
        words.iter().try_for_each(|word| self.word(*word))
    }

    fn header(&mut self, count: u8, kind: u8, words: u16) -> Option<()> {
        let [l0, l1] = words.to_be_bytes();
        self.put(&[0x80 | (count & 0x1f), kind, l0, l1])
    }

    fn block(&mut self, block: &ReportBlock) -> Option<()> {
        let lost = block.lost.clamp(-0x80_0000, 0x7f_ffff).cast_unsigned() & 0xff_ffff;
        self.words(&[
            block.ssrc,
            (u32::from(block.fraction_lost) << 24) | lost,
            block.highest_sequence,
            block.jitter,
            block.last_report,
            block.delay,
        ])
    }

    /// One chunk with a CNAME of 16 digits: 4 + 2 + 16 octets, ended and padded by 2 zeros.
    fn description(&mut self, ssrc: u32, cname: u64) -> Option<()> {
        self.header(1, DESCRIPTION, 6)?;
        self.word(ssrc)?;
        self.put(&[1, 16])?;
        for shift in (0..16).rev() {
            let digit = (cname >> (shift * 4)) & 0xf;
            let digit = u32::try_from(digit).ok().and_then(|digit| char::from_digit(digit, 16))?;
            self.put(&[u8::try_from(digit).ok()?])?;
        }
        self.put(&[0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::{Packet, read};
    use super::*;

    const BLOCK: ReportBlock = ReportBlock {
        ssrc: 7,
        fraction_lost: 12,
        lost: -3,
        highest_sequence: 0x1_0002,
        jitter: 5,
        last_report: 0x1234_5678,
        delay: 9,
    };

    #[test]
    fn a_report_is_read_back_as_it_was_written() {
        let sender = SenderPart { ntp: 0x0102_0304_0506_0708, timestamp: 160, packets: 10, octets: 1600 };
        let report = Report { ssrc: 3, sender: Some(sender), block: Some(BLOCK), cname: 0xabc };
        let mut out = [0; 128];
        let len = write_report(&report, &mut out).expect("room enough");
        assert_eq!(len, 28 + 24 + 28);
        let packets: Vec<_> = read(&out[..len]).expect("well-formed").collect();
        assert!(matches!(
            packets[0],
            Packet::SenderReport { ssrc: 3, ntp: 0x0102_0304_0506_0708, octets: 1600, .. }
        ));
        assert_eq!(packets[0].blocks().collect::<Vec<_>>(), [BLOCK]);
        assert_eq!(packets[1], Packet::Description);
        assert_eq!(&out[len - 18..len], b"0000000000000abc\0\0");
    }

    #[test]
    fn a_receiver_only_writes_a_receivers_report_and_a_small_buffer_is_refused() {
        let report = Report { ssrc: 3, sender: None, block: None, cname: 1 };
        let mut out = [0; 36];
        assert_eq!(write_report(&report, &mut out), Some(36));
        assert_eq!(&out[..8], [0x80, 201, 0, 1, 0, 0, 0, 3]);
        assert_eq!(write_report(&report, &mut out[..35]), None);
    }

    #[test]
    fn feedback_names_the_source_and_asks_one_thing() {
        let ask = |request| {
            let mut out = [0; 64];
            let len =
                write_feedback(&Feedback { sender: 1, media: 2, request }, &mut out).expect("room enough");
            out[8..len].to_vec()
        };
        assert_eq!(ask(Request::PictureLoss), [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(
            ask(Request::Packets { sequence: 258, following: 3 }),
            [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 0, 3]
        );
        assert_eq!(
            ask(Request::FullIntra { number: 5 }),
            [0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 5, 0, 0, 0]
        );
    }
}
