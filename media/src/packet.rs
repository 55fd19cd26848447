//! The fixed RTP header (RFC 3550 section 5.1): read through `rtp-rs`, written in place.

use rtp_rs::RtpReader;

/// Length of the fixed header in octets.
pub const HEADER_LEN: usize = 12;

/// The fields of the fixed header that a relay looks at or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Start of a talk spurt, in audio.
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// In units of the payload type's clock.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
}

/// Reads the header of a packet and checks that contributing sources, extension and padding lie within it.
/// `None` for anything that is not a whole RTP packet of version 2.
pub fn read(packet: &[u8]) -> Option<Header> {
    let reader = RtpReader::new(packet).ok()?;
    Some(Header {
        marker: reader.mark(),
        payload_type: reader.payload_type(),
        sequence: reader.sequence_number().into(),
        timestamp: reader.timestamp(),
        ssrc: reader.ssrc(),
    })
}

/// Writes a header over that of a packet; version, padding, extension and contributing sources stay as they are. A
/// packet shorter than a header is left alone.
pub fn write(header: Header, packet: &mut [u8]) {
    let Some(fixed) = packet.first_chunk_mut::<HEADER_LEN>() else { return };
    let [s0, s1] = header.sequence.to_be_bytes();
    let [t0, t1, t2, t3] = header.timestamp.to_be_bytes();
    let [i0, i1, i2, i3] = header.ssrc.to_be_bytes();
    let second = (u8::from(header.marker) << 7) | (header.payload_type & 0x7f);
    *fixed = [fixed[0], second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3];
}

/// On a port that carries both, whether a datagram is RTCP (RFC 5761 section 4: packet types 192 to 223).
pub fn is_rtcp(packet: &[u8]) -> bool {
    matches!(packet, [first, kind, ..] if first >> 6 == 2 && (192..=223).contains(kind))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtp_rs::RtpPacketBuilder;

    /// A packet of 160 octets of silence.
    pub(crate) fn packet(header: Header) -> Vec<u8> {
        RtpPacketBuilder::new()
            .payload_type(header.payload_type)
            .marked(header.marker)
            .sequence(header.sequence.into())
            .timestamp(header.timestamp)
            .ssrc(header.ssrc)
            .payload(&[0xd5; 160])
            .build()
            .expect("a header and 160 octets fit")
    }

    #[test]
    fn a_written_header_is_read_back_and_the_rest_is_untouched() {
        let old = Header { marker: true, payload_type: 8, sequence: 7, timestamp: 160, ssrc: 9 };
        let new = Header {
            marker: false,
            payload_type: 101,
            sequence: 65535,
            timestamp: u32::MAX,
            ssrc: 0xdead_beef,
        };
        let mut bytes = packet(old);
        write(new, &mut bytes);
        assert_eq!(read(&bytes), Some(new));
        assert_eq!(bytes, packet(new));
    }

    #[test]
    fn what_is_cut_short_or_of_another_version_is_not_rtp() {
        let whole = packet(Header { marker: false, payload_type: 0, sequence: 1, timestamp: 1, ssrc: 1 });
        assert_eq!(read(&whole[..11]), None);
        assert_eq!(read(&[0x40; 40]), None);
        assert_eq!(read(b"OPTIONS sip:a SIP/2.0\r\n"), None);
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_its_packet_type() {
        assert!(is_rtcp(&[0x80, 200, 0, 6]));
        assert!(!is_rtcp(&[0x80, 0x80 | 8, 0, 6]));
        assert!(!is_rtcp(&[0x80]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(header) = read(&bytes) {
                let before = bytes.clone();
                write(header, &mut bytes);
                prop_assert_eq!(before, bytes);
            }
        }
    }
}
