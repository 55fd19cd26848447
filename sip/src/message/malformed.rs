//! The answer to a request that can't be read, made of the parts that can be (RFC 3261 section 8.2.7: without a
//! transaction).

use std::net::SocketAddr;

use bytes::Bytes;

use super::ParseError;
use super::edit::stamped_value;
use super::scan::{Head, as_text, is_token};
use crate::header::{Header, Id};
use crate::name_addr::NameAddr;
use crate::params::Split;
use crate::via::Via;

/// Our tag where the To has none: the same for every repeat, because nothing is remembered.
const TAG: &str = "malformed";

/// 400 (505 for another version of SIP) to bytes that [`super::Message::parse`] refused with `error`. `None` when there is
/// nobody to answer: a response, an ACK, no SIP at all, headers that can't be told apart, or no Via and CSeq by which its
/// sender would know the answer. The answer is about as long as the request.
pub fn refuse_malformed(
    bytes: &Bytes,
    error: ParseError,
    source: SocketAddr,
    product: &str,
) -> Option<Bytes> {
    let first = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let bytes = bytes.slice(first..);
    let head = Head::walk(&bytes).ok()?;
    let request = Readable { bytes: as_text(bytes, &head), head };
    if !request.may_be_answered() {
        return None;
    }
    let status = if error == ParseError::Version { "505 Version Not Supported" } else { "400 Bad Request" };
    let mut answer = format!("SIP/2.0 {status}: {error}\r\n");
    let mut line = |name: Header<'_>, value: &str| {
        answer.extend([name.as_str(), ": ", value, "\r\n"]);
    };
    line(Header::Via, &request.top_via_line(source)?);
    request.values(Id::Via).skip(1).for_each(|via| line(Header::Via, via));
    request.values(Id::From).take(1).for_each(|from| line(Header::From, from));
    request.values(Id::To).take(1).for_each(|to| line(Header::To, &tagged(to)));
    request.values(Id::CallId).take(1).for_each(|call_id| line(Header::CallId, call_id));
    request.values(Id::CSeq).take(1).for_each(|cseq| line(Header::CSeq, cseq));
    line(Header::Server, product);
    line(Header::ContentLength, "0");
    answer.push_str("\r\n");
    Some(answer.into())
}

/// A header section whose lines can be told apart.
struct Readable {
    bytes: Bytes,
    head: Head,
}

impl Readable {
    fn text(&self, range: std::ops::Range<usize>) -> &str {
        self.bytes.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }

    fn values(&self, id: Id) -> impl Iterator<Item = &str> {
        let lines = self.head.lines.iter().filter(move |line| line.id == id);
        lines.map(|line| self.text(line.value.range()))
    }

    /// A request of SIP other than ACK, by its start line and by its CSeq.
    fn may_be_answered(&self) -> bool {
        let start = self.text(self.head.start_line.clone());
        let Some((method, rest)) = start.split_once(' ') else { return false };
        let version = rest.trim_end().rsplit(' ').next().unwrap_or("");
        let is_request = !method.is_empty() && method.bytes().all(is_token) && version.starts_with("SIP/");
        let Some(cseq) = self.values(Id::CSeq).next() else { return false };
        is_request && method != "ACK" && !cseq.trim_end().ends_with("ACK")
    }

    /// The first Via line, whose first value says where the answer belongs.
    fn top_via_line(&self, source: SocketAddr) -> Option<String> {
        let line = self.values(Id::Via).next()?;
        let top = Split::new(line, b',').next()?;
        let via = Via::parse(top).ok()?;
        let behind = Split::new(line, b',').skip(1);
        let stamped = stamped_value(top, &via, source).unwrap_or_else(|| top.to_owned());
        Some(behind.fold(stamped, |line, value| line + ", " + value))
    }
}

fn tagged(to: &str) -> String {
    match NameAddr::parse(to) {
        Ok(address) if address.tag().is_none() => format!("{to};tag={TAG}"),
        Ok(_) | Err(_) => to.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    fn answer(request: &str) -> Option<String> {
        let bytes = Bytes::from(request.to_owned());
        let error = Message::parse(bytes.clone()).expect_err("malformed");
        let source = "192.0.2.9:5090".parse().unwrap();
        let answer = refuse_malformed(&bytes, error, source, "Tandem")?;
        Some(String::from_utf8(answer.to_vec()).unwrap())
    }

    fn request(start: &str, cseq: &str, more: &str) -> String {
        format!(
            "{start}\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx;rport, SIP/2.0/UDP b\r\nVia: SIP/2.0/UDP c\r\n\
             From: <sip:a@b>;tag=1\r\nTo: Bob\r\n <sip:b@b>\r\nCall-ID: c1\r\nCSeq: {cseq}\r\n{more}\r\n"
        )
    }

    #[test]
    fn what_can_be_read_of_a_request_is_in_the_answer_and_so_is_what_was_wrong() {
        let answer = answer(&request("INVITE sip:b@b SIP/2.0", "1 BYE", "")).unwrap();
        assert_eq!(
            answer,
            "SIP/2.0 400 Bad Request: bad CSeq\r\n\
             Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx;received=192.0.2.9;rport=5090, SIP/2.0/UDP b\r\n\
             Via: SIP/2.0/UDP c\r\nFrom: <sip:a@b>;tag=1\r\nTo: Bob   <sip:b@b>;tag=malformed\r\nCall-ID: c1\r\n\
             CSeq: 1 BYE\r\nServer: Tandem\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_datagram_that_was_cut_off_and_another_version_are_told_so() {
        let cut = answer(&request("INVITE sip:b@b SIP/2.0", "1 INVITE", "Content-Length: 9\r\n")).unwrap();
        assert!(cut.starts_with("SIP/2.0 400 Bad Request: message cut off\r\n"), "{cut}");
        let newer = answer(&request("INVITE sip:b@b SIP/7.0", "1 INVITE", "")).unwrap();
        assert!(newer.starts_with("SIP/2.0 505 Version Not Supported: not SIP/2.0\r\n"), "{newer}");
    }

    #[test]
    fn an_ack_a_response_and_what_nobody_could_match_are_never_answered() {
        assert_eq!(answer(&request("ACK sip:b@b SIP/2.0", "1 INVITE", "")), None);
        assert_eq!(answer(&request("INVITE sip:b@b SIP/2.0", "1 ACK", "")), None);
        assert_eq!(answer(&request("SIP/2.0 99 Odd", "1 INVITE", "")), None);
        assert_eq!(answer(&request("GET /index.html HTTP/1.1", "1 INVITE", "")), None);
        let no_via = "INVITE sip:b@b SIP/2.0\r\nFrom: <sip:a@b>\r\nTo: <sip:b@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n";
        assert_eq!(answer(no_via), None);
        assert_eq!(answer("INVITE sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\n\r\n"), None);
        assert_eq!(answer("\r\n\r\n"), None);
    }
}
