//! Keep-alives of phones that hold flows over UDP: a STUN Binding request on the SIP socket, answered with the address that
//! it came from (RFC 5626 section 8, RFC 5389 sections 6 and 15.2). No other STUN is spoken here.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

/// Type and length.
const REQUEST: [u8; 2] = [0, 1];
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_OCTETS: usize = 20;
/// Header, attribute header, family, port and an IPv6 address.
const ANSWER_OCTETS_MAX: usize = HEADER_OCTETS + 4 + 4 + 16;
const COOKIE_AND_ID: std::ops::Range<usize> = 4..HEADER_OCTETS;

/// Octets that are no SIP message: those begin with a letter.
pub(super) fn is_one(datagram: &[u8]) -> bool {
    datagram.starts_with(&REQUEST) && datagram.get(4..8) == Some(COOKIE.as_slice())
}

/// The answer to a Binding request; `None` for what only begins like one.
pub(super) fn answer(request: &[u8], remote: SocketAddr) -> Option<Bytes> {
    let length = u16::from_be_bytes([*request.get(2)?, *request.get(3)?]);
    if !is_one(request) || request.len() != HEADER_OCTETS + usize::from(length) {
        return None;
    }
    let mask = request.get(COOKIE_AND_ID)?;
    let (family, value_octets) = if remote.is_ipv4() { (1, 8) } else { (2, 20) };
    let mut answer = Vec::with_capacity(ANSWER_OCTETS_MAX);
    answer.extend_from_slice(&[1, 1, 0, 4 + value_octets]);
    answer.extend_from_slice(mask);
    // XOR-MAPPED-ADDRESS.
    answer.extend_from_slice(&[0, 0x20, 0, value_octets, 0, family]);
    let mut add_masked = |octets: &[u8]| answer.extend(octets.iter().zip(mask).map(|(o, mask)| o ^ mask));
    add_masked(&remote.port().to_be_bytes());
    match remote.ip() {
        IpAddr::V4(v4) => add_masked(&v4.octets()),
        IpAddr::V6(v6) => add_masked(&v6.octets()),
    }
    Some(Bytes::from(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Vec<u8> {
        let id = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
        [&[0, 1, 0, 0][..], &COOKIE, &id].concat()
    }

    #[test]
    fn a_binding_request_is_answered_with_the_address_it_came_from() {
        // The addresses and their masked forms are those of RFC 5769 sections 2.2 and 2.3.
        let v4 = answer(&request(), "192.0.2.1:32853".parse().unwrap()).unwrap();
        assert_eq!(v4[..4], [1, 1, 0, 12]);
        assert_eq!(v4[4..20], request()[4..]);
        assert_eq!(v4[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let v6 = answer(&request(), "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap()).unwrap();
        let masked =
            [0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9];
        assert_eq!((&v6[20..28], &v6[28..]), (&[0, 0x20, 0, 20, 0, 2, 0xa1, 0x47][..], &masked[..]));
    }

    #[test]
    fn what_is_no_whole_binding_request_is_not_answered() {
        let phone = "192.0.2.1:32853".parse().unwrap();
        let mut longer = request();
        longer[3] = 4;
        let mut response = request();
        response[0] = 1;
        for other in [&request()[..19], &longer, &response, b"OPTIONS sip:a SIP/2.0\r\n\r\n", b""] {
            assert_eq!(answer(other, phone), None);
        }
    }
}
