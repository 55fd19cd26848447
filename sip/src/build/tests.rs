use super::*;
use crate::method::Method;

fn invite() -> Message {
    RequestBuilder::new(Method::Invite, "sip:102@acme.example")
        .via("UDP", "10.0.0.1:5062", "z9hG4bK1")
        .header(Header::Route, "<sip:edge;lr>")
        .header(Header::RecordRoute, "<sip:p1;lr>")
        .dialog_headers("<sip:101@acme.example>;tag=a", "<sip:102@acme.example>", "c1", 7)
        .body("application/sdp", "v=0\r\n")
        .build()
        .unwrap()
}

fn text(message: &Message) -> &str {
    std::str::from_utf8(message.bytes()).unwrap()
}

#[test]
fn a_request_reads_as_it_was_built() {
    assert_eq!(
        text(&invite()),
        "INVITE sip:102@acme.example SIP/2.0\r\n\
         Via: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK1;rport\r\n\
         Route: <sip:edge;lr>\r\nRecord-Route: <sip:p1;lr>\r\n\
         From: <sip:101@acme.example>;tag=a\r\nTo: <sip:102@acme.example>\r\nCall-ID: c1\r\nCSeq: 7 INVITE\r\n\
         Content-Type: application/sdp\r\nMax-Forwards: 70\r\nContent-Length: 5\r\n\r\nv=0\r\n"
    );
}

#[test]
fn a_response_copies_what_it_must() {
    let ringing = ResponseBuilder::to(&invite(), 180, "b").build().unwrap();
    assert_eq!(
        text(&ringing),
        "SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK1;rport\r\n\
         Record-Route: <sip:p1;lr>\r\nFrom: <sip:101@acme.example>;tag=a\r\nTo: <sip:102@acme.example>;tag=b\r\n\
         Call-ID: c1\r\nCSeq: 7 INVITE\r\nContent-Length: 0\r\n\r\n"
    );
    let trying = ResponseBuilder::to(&invite(), 100, "").build().unwrap();
    assert_eq!((trying.to().tag(), trying.header(Header::RecordRoute)), (None, None));
    let busy = ResponseBuilder::to(&invite(), 486, "b").build().unwrap();
    assert_eq!(busy.header(Header::RecordRoute), None);
}

#[test]
fn ack_and_cancel_are_made_of_the_invite() {
    let busy = ResponseBuilder::to(&invite(), 486, "b").build().unwrap();
    let ack = ack_for(&invite(), &busy).unwrap();
    assert_eq!((ack.method(), ack.cseq().number, ack.to().tag()), (&Method::Ack, 7, Some("b")));
    assert_eq!((ack.via_top_text(), ack.via_count()), (invite().via_top_text(), 1));
    assert_eq!(
        (ack.request_uri(), ack.header(Header::Route)),
        ("sip:102@acme.example", Some("<sip:edge;lr>"))
    );
    let cancel = cancel_for(&invite(), Some("SIP;cause=200")).unwrap();
    assert_eq!((cancel.method(), cancel.to().tag()), (&Method::Cancel, None));
    assert_eq!(cancel.header(Header::Reason), Some("SIP;cause=200"));
    assert!(cancel.body().is_empty());
}

#[test]
fn no_value_can_add_a_header() {
    let base = || RequestBuilder::new(Method::Bye, "sip:a@b");
    let evil = "x\r\nX-Evil: 1";
    for builder in [
        base().header(Header::Subject, evil),
        base().header("X: y\r\nZ", "1"),
        base().header("X Y", "1"),
        base().dialog_headers(evil, "<sip:a@b>", "c", 1),
        base().via("UDP", "h\n", "z9hG4bK1"),
        base().body(evil, ""),
        RequestBuilder::new(Method::Bye, "sip:a@b SIP/2.0\r\nX: y"),
        RequestBuilder::new(Method::Bye, "sip:a b"),
        RequestBuilder::new(Method::Other("BYE x".into()), "sip:a@b").header("X", "\0"),
    ] {
        assert_eq!(builder.build(), Err(BuildError::Injection));
    }
    assert_eq!(ResponseBuilder::to(&invite(), 200, "b\r\nX: y").build(), Err(BuildError::Injection));
    assert_eq!(ResponseBuilder::to(&invite(), 200, "b;c=d").build(), Err(BuildError::Injection));
    assert_eq!(
        ResponseBuilder::with_reason(&invite(), 200, "a\r\nb", "b").build(),
        Err(BuildError::Injection)
    );
    assert_eq!(base().build(), Err(BuildError::Incomplete(ParseError::Missing("From"))));
}
