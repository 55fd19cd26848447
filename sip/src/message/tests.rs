use super::*;

const INVITE: &str = "INVITE sip:102@acme.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK1;rport, SIP/2.0/TCP b.example;branch=z9hG4bK0\r\n\
    v: SIP/2.0/UDP c.example;branch=z9hG4bKx\r\n\
    Max-Forwards: 70\r\n\
    f: \"Ann, A\" <sip:101@acme.example>;tag=a\r\n\
    To: Bob\r\n <sip:102@acme.example>\r\n\
    i: c1@10.0.0.1\r\n\
    CSeq: 7 INVITE\r\n\
    m: <sip:101@10.0.0.1:5062>;expires=60, \"x, y\" <sip:z@h>\r\n\
    Record-Route: <sip:p1;lr>,<sip:p2;lr>\r\n\
    X-Own: 1\r\n\
    Expires: 180\r\n\
    c: application/sdp; charset=utf-8\r\n\
    Content-Length: 5\r\n\r\nv=0\r\ntrailing bytes";

fn parse(text: &str) -> Result<Message, ParseError> {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn invite() -> Message {
    parse(INVITE).unwrap()
}

#[test]
fn every_accessor_reads_what_stands_there() {
    let m = invite();
    assert!(m.is_request());
    assert_eq!((m.method(), m.request_uri()), (&Method::Invite, "sip:102@acme.example"));
    assert_eq!((m.status(), m.reason()), (None, ""));
    assert_eq!((m.call_id(), m.cseq().number), ("c1@10.0.0.1", 7));
    assert_eq!(
        (m.from().display, m.from().uri, m.from().tag()),
        ("Ann, A", "sip:101@acme.example", Some("a"))
    );
    assert_eq!((m.to().display, m.to().uri, m.to().tag()), ("Bob", "sip:102@acme.example", None));
    let via = m.via_top();
    assert_eq!(
        (via.transport, via.host, via.port, via.branch),
        ("UDP", "10.0.0.1", Some(5062), Some("z9hG4bK1"))
    );
    assert_eq!(m.via_count(), 3);
    assert_eq!((m.max_forwards(), m.expires(), m.header("x-OWN")), (Some(70), Some(180), Some("1")));
    assert_eq!(m.header("X-Other"), None);
    let routes: Vec<_> = m.routes(Header::RecordRoute).map(|r| r.uri).collect();
    assert_eq!(routes, ["sip:p1;lr", "sip:p2;lr"]);
    let Contacts::List(contacts) = m.contacts() else { panic!("a list") };
    assert_eq!(
        (contacts[0].uri, contacts[0].expires(), contacts[1].display),
        ("sip:101@10.0.0.1:5062", Some(60), "x, y")
    );
    assert!(m.has_body_of("application/SDP"));
    assert_eq!(m.body(), b"v=0\r\n");
    assert!(m.bytes().ends_with(b"\r\n\r\nv=0\r\n"));
}

#[test]
fn a_response_has_status_reason_and_the_method_of_its_cseq() {
    let text = "SIP/2.0 486 Busy  Here\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContact: *\r\n\r\n";
    let m = parse(text).unwrap();
    assert_eq!((m.status(), m.reason(), m.method()), (Some(486), "Busy  Here", &Method::Invite));
    assert_eq!((m.request_uri(), m.contacts(), m.contact()), ("", Contacts::Star, None));
    assert_eq!(parse(&text.replace(" Busy  Here", "")).unwrap().reason(), "");
}

#[test]
fn bare_line_feeds_and_leading_line_ends_are_tolerated() {
    let text =
        format!("\r\n\r\n{}", INVITE.replace("\r\n", "\n").replace("Content-Length: 5", "Content-Length: 4"));
    let m = parse(&text).unwrap();
    assert_eq!((m.to().uri, m.body()), ("sip:102@acme.example", &b"v=0\n"[..]));
}

#[test]
fn bytes_that_are_not_utf8_become_question_marks() {
    let latin = INVITE.replace("\"Ann, A\"", "\"J?rg\"").into_bytes();
    let latin: Vec<u8> = latin.iter().map(|b| if *b == b'?' { 0xf6 } else { *b }).collect();
    assert_eq!(Message::parse(latin.into()).unwrap().from().display, "J?rg");
    let utf8 = INVITE.replace("Ann, A", "Jörg ☎");
    assert_eq!(parse(&utf8).unwrap().from().display, "Jörg ☎");
}

#[test]
fn what_is_missing_twice_or_wrong_is_named() {
    let error = |from: &str, to: &str| parse(&INVITE.replace(from, to)).unwrap_err();
    assert_eq!(error("i: c1@10.0.0.1\r\n", ""), ParseError::Missing("Call-ID"));
    assert_eq!(error("CSeq: 7 INVITE", "CSeq: 7 BYE"), ParseError::Invalid("CSeq"));
    assert_eq!(error("CSeq: 7", "CSeq: 2147483648"), ParseError::Invalid("CSeq"));
    assert_eq!(error("CSeq: 7", "CSeq: -7"), ParseError::Invalid("CSeq"));
    assert_eq!(error("X-Own: 1", "From: <sip:x@y>"), ParseError::Repeated("From"));
    assert_eq!(error("X-Own: 1", "Content-Length: 4"), ParseError::Repeated("Content-Length"));
    assert_eq!(error("Content-Length: 5", "Content-Length: 999"), ParseError::Truncated);
    assert_eq!(error("Content-Length: 5", "Content-Length: -5"), ParseError::Invalid("Content-Length"));
    assert_eq!(error("Via: SIP/2.0/UDP 10", "Via: SIP/2.0 10"), ParseError::Invalid("Via"));
    assert_eq!(error("X-Own: 1", "X Own: 1"), ParseError::HeaderLine);
    assert_eq!(error("X-Own: 1", "X-Own: 1\r2"), ParseError::HeaderLine);
    assert_eq!(error("X-Own: 1", "X-Own: 1\0"), ParseError::HeaderLine);
    assert_eq!(error("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"), ParseError::Version);
    assert_eq!(error("INVITE sip", "INVITE <sip"), ParseError::StartLine);
    assert_eq!(parse("\r\n\r\n").unwrap_err(), ParseError::Empty);
    assert_eq!(parse("INVITE sip:a SIP/2.0\r\nVia: x\r\n").unwrap_err(), ParseError::Truncated);
}

#[test]
fn every_size_has_a_limit() {
    let with = |extra: &str| parse(&INVITE.replace("X-Own: 1\r\n", extra));
    assert_eq!(with(&"X: y\r\n".repeat(HEADERS_MAX)).unwrap_err(), ParseError::TooManyHeaders);
    assert_eq!(with(&format!("X: {}\r\n", "y".repeat(LINE_MAX))).unwrap_err(), ParseError::LineTooLong);
    assert_eq!(
        with(&format!("X: y\r\n{}", " y\r\n".repeat(LINE_MAX / 3))).unwrap_err(),
        ParseError::LineTooLong
    );
    assert_eq!(parse(&"x".repeat(MESSAGE_MAX + 1)).unwrap_err(), ParseError::TooLong);
    assert!(with(&format!("X: {}\r\n", "y".repeat(LINE_MAX - 10))).is_ok());
}

#[test]
fn a_stamp_tells_the_source_and_moves_everything_behind_it() {
    let source = "192.0.2.7:1024".parse().unwrap();
    let stamped = invite().stamped(source);
    let via = stamped.via_top();
    assert_eq!((via.received, via.rport), (Some("192.0.2.7"), crate::via::Rport::Port(1024)));
    let again = Message::parse(stamped.bytes().clone()).unwrap();
    let all = |m: &Message| m.all_headers().map(|(n, v)| format!("{n}: {v}")).collect::<Vec<_>>();
    assert_eq!(all(&again), all(&stamped));
    assert_eq!((stamped.body(), stamped.request_uri()), (&b"v=0\r\n"[..], "sip:102@acme.example"));
    let plain = parse(&INVITE.replace(";rport", "")).unwrap();
    assert_eq!(plain.stamped("10.0.0.1:9".parse().unwrap()).bytes(), plain.bytes());
    assert_eq!(plain.stamped(source).via_top().received, Some("192.0.2.7"));
    let lying = parse(&INVITE.replace(";rport", ";received=1.1.1.1")).unwrap();
    assert_eq!(lying.stamped(source).via_top().received, Some("192.0.2.7"));
}

#[test]
fn the_top_via_can_be_replaced_but_no_header_can_be_added() {
    let m = invite().with_top_via("SIP/2.0/TCP n2.example;branch=z9hG4bK9").unwrap();
    assert_eq!((m.via_top().host, m.via_count()), ("n2.example", 3));
    assert!(invite().with_top_via("SIP/2.0/TCP h\r\nX: y").is_err());
    assert!(invite().with_top_via("SIP/2.0/TCP h, SIP/2.0/TCP h").is_err());
    assert!(invite().with_top_via("nothing").is_err());
}
