//! Where rsip is right, it and we must read the same: messages made by its types, and messages made by our builders.
#![cfg(test)]

use proptest::prelude::*;
use rsip::headers::{ToTypedHeader, UntypedHeader};
use rsip::prelude::{HasHeaders, HeadersExt};
use tandem_sip::{Contacts, Header, Message, Method, RequestBuilder};

fn register(user: &str, host: &str, branch: &str, cseq: u32, expires: u32) -> rsip::Request {
    let uri = |text: String| rsip::Uri::try_from(text.as_str()).unwrap();
    let address = format!("sip:{user}@{host}");
    let headers: rsip::Headers = vec![
        rsip::headers::Via::new(format!("SIP/2.0/UDP {host}:5060;branch=z9hG4bK{branch}")).into(),
        rsip::headers::MaxForwards::default().into(),
        rsip::headers::From::new(format!("<{address}>;tag={branch}")).into(),
        rsip::headers::To::new(format!("<{address}>")).into(),
        rsip::headers::CallId::new(format!("{branch}@{host}")).into(),
        rsip::headers::CSeq::new(format!("{cseq} REGISTER")).into(),
        rsip::headers::Contact::new(format!("<{address}>;expires={expires}")).into(),
        rsip::headers::Expires::new(expires.to_string()).into(),
        rsip::headers::ContentLength::default().into(),
    ]
    .into();
    rsip::Request {
        method: rsip::Method::Register,
        uri: uri(format!("sip:{host}")),
        version: rsip::Version::V2,
        headers,
        body: Vec::new(),
    }
}

proptest! {
    #[test]
    fn what_rsip_generates_we_read_alike(
        user in "[a-z0-9]{1,12}",
        host in "[a-z]{1,10}\\.example",
        branch in "[a-zA-Z0-9]{1,16}",
        cseq in 1..1_u32 << 31,
        expires in 0..100_000_u32,
    ) {
        let theirs = register(&user, &host, &branch, cseq, expires);
        let ours = Message::parse(theirs.to_string().into_bytes().into()).unwrap();
        prop_assert_eq!(ours.method().as_str(), theirs.method().to_string());
        prop_assert_eq!(ours.request_uri(), theirs.uri().to_string());
        prop_assert_eq!(ours.call_id(), theirs.call_id_header().unwrap().value());
        prop_assert_eq!(ours.cseq().number, theirs.cseq_header().unwrap().typed().unwrap().seq);
        let from = theirs.from_header().unwrap().typed().unwrap();
        prop_assert_eq!(ours.from().uri, from.uri.to_string());
        prop_assert_eq!(ours.from().tag().map(str::to_owned), from.tag().map(|tag| tag.value().to_owned()));
        let via = theirs.via_header().unwrap().typed().unwrap();
        prop_assert_eq!(ours.via_top().branch.map(str::to_owned), via.branch().map(|b| b.value().to_owned()));
        prop_assert_eq!(ours.via_top().port, via.uri.port().map(|port| *port.value()));
        let Contacts::List(contacts) = ours.contacts() else { panic!("a list") };
        prop_assert_eq!(contacts[0].expires(), Some(expires));
        prop_assert_eq!(ours.expires(), Some(expires));
    }

    #[test]
    fn what_we_build_rsip_reads_alike(
        user in "[a-z0-9]{1,12}",
        host in "[a-z]{1,10}\\.example",
        branch in "[a-zA-Z0-9]{1,16}",
        cseq in 1..1_u32 << 31,
        body in "[ -~]{0,40}",
    ) {
        let ours = RequestBuilder::new(Method::Invite, &format!("sip:{user}@{host}"))
            .via("TCP", &host, &format!("z9hG4bK{branch}"))
            .dialog_headers(&format!("<sip:a@{host}>;tag=1"), &format!("<sip:{user}@{host}>"), &branch, cseq)
            .header(Header::Contact, &format!("<sip:a@{host}:5061>"))
            .body("application/sdp", body.clone().into_bytes())
            .build()
            .unwrap();
        let theirs = rsip::Request::try_from(ours.bytes().as_ref()).unwrap();
        prop_assert_eq!(theirs.method(), &rsip::Method::Invite);
        prop_assert_eq!(theirs.uri().to_string(), ours.request_uri());
        prop_assert_eq!(theirs.call_id_header().unwrap().value(), ours.call_id());
        prop_assert_eq!(theirs.cseq_header().unwrap().typed().unwrap().seq, ours.cseq().number);
        prop_assert_eq!(theirs.contact_header().unwrap().typed().unwrap().uri.to_string(), ours.contact().unwrap().uri);
        prop_assert_eq!(theirs.headers().iter().count(), ours.all_headers().count());
        prop_assert_eq!(theirs.body, body.into_bytes());
    }
}

#[test]
fn every_status_code_of_rsip_has_a_phrase_in_words() {
    for code in 100..700_u16 {
        let known = !matches!(rsip::StatusCode::from(code), rsip::StatusCode::Other(..));
        let phrase = tandem_sip::status::reason_phrase(code);
        assert!(!phrase.is_empty() && (!known || phrase != "Other"), "{code}");
    }
}
