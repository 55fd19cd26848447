//! Torture messages after RFC 4475 and RFC 5118, each a file of our own writing in `tests/data/sip`.
#![cfg(test)]

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use tandem_sip::message::ParseError;
use tandem_sip::{Contacts, Header, Message, Method, Uri};

fn files(kind: &str) -> BTreeMap<String, Bytes> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/sip").join(kind);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries.map(|path| (name(&path), Bytes::from(std::fs::read(&path).unwrap()))).collect()
}

fn valid(name: &str) -> Message {
    Message::parse(files("valid")[name].clone()).unwrap()
}

#[test]
fn every_valid_message_is_read_and_reads_the_same_again() {
    let files = files("valid");
    assert!(files.len() >= 28);
    for (name, bytes) in files {
        let message = Message::parse(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = Message::parse(message.bytes().clone()).unwrap();
        let lines = |m: &Message| m.all_headers().map(|(n, v)| format!("{n}: {v}")).collect::<Vec<_>>();
        assert_eq!(lines(&message), lines(&again), "{name}");
        assert_eq!(message.cseq(), again.cseq(), "{name}");
        if message.is_request() {
            let answer = tandem_sip::ResponseBuilder::to(&message, 400, "t").build();
            assert!(answer.is_ok(), "{name}: {answer:?}");
        }
    }
}

#[test]
fn every_invalid_message_is_refused_for_its_reason() {
    use ParseError::*;
    let expected = [
        ("bare_cr_in_header", HeaderLine),
        ("content_length_negative", Invalid("Content-Length")),
        ("content_length_too_long", Truncated),
        ("content_length_twice", Repeated("Content-Length")),
        ("cseq_of_another_method", Invalid("CSeq")),
        ("cseq_of_another_unknown_method", Invalid("CSeq")),
        ("cseq_too_large", Invalid("CSeq")),
        ("cseq_without_method", Invalid("CSeq")),
        ("display_name_with_comma", Invalid("From")),
        ("empty_call_id", Invalid("Call-ID")),
        ("fold_before_any_header", HeaderLine),
        ("header_without_colon", HeaderLine),
        ("header_without_name", HeaderLine),
        ("headers_without_end", Truncated),
        ("line_too_long", LineTooLong),
        ("no_call_id", Missing("Call-ID")),
        ("no_cseq", Missing("CSeq")),
        ("no_from", Missing("From")),
        ("no_to", Missing("To")),
        ("no_version", StartLine),
        ("no_via", Missing("Via")),
        ("nul_in_header", HeaderLine),
        ("quote_not_closed", Invalid("To")),
        ("request_uri_in_brackets", StartLine),
        ("request_uri_with_space", StartLine),
        ("separators_in_via", Invalid("Via")),
        ("space_in_address", Invalid("To")),
        ("space_in_header_name", HeaderLine),
        ("status_code_of_no_class", StartLine),
        ("status_code_too_big", StartLine),
        ("status_line_without_code", StartLine),
        ("too_many_headers", TooManyHeaders),
        ("two_call_ids", Repeated("Call-ID")),
        ("two_from", Repeated("From")),
        ("two_spaces_in_start_line", StartLine),
        ("unknown_version", Version),
        ("via_ipv6_without_brackets", Invalid("Via")),
        ("via_port_too_large", Invalid("Via")),
    ];
    let expected: BTreeMap<String, ParseError> =
        expected.into_iter().map(|(n, e)| (n.to_owned(), e)).collect();
    let refused = |bytes: Bytes| Message::parse(bytes).expect_err("must be refused");
    let seen: BTreeMap<String, ParseError> =
        files("invalid").into_iter().map(|(n, b)| (n, refused(b))).collect();
    assert_eq!(seen, expected);
}

#[test]
fn folded_lines_and_compact_forms_are_joined_and_named() {
    let m = valid("odd_white_space_and_folding");
    assert_eq!((m.to().uri, m.to().tag()), ("sip:bob@acme.example", Some("19f03n")));
    assert_eq!((m.from().display_text().as_ref(), m.from().tag()), ("Ann \\ \" Other", Some("98xyz")));
    assert_eq!((m.max_forwards(), m.cseq().number, m.method()), (Some(68), 9, &Method::Invite));
    assert_eq!((m.via_top().transport, m.via_top().host, m.via_count()), ("UDP", "192.0.2.2", 3));
    assert_eq!((m.header(Header::Subject), m.body()), (Some(""), &b"0123456789"[..]));
    let contact = m.contact().unwrap();
    assert_eq!((contact.q_thousandths(), contact.param("newparam")), (330, Some("newvalue")));
    assert!(m.header("NewFangledHeader").unwrap().ends_with("continued newfangled value"));
}

#[test]
fn unknown_methods_are_kept() {
    let m = valid("every_token_character");
    assert_eq!(m.method().as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
    assert_eq!(m.from().tag(), Some("_token~1'+`*%!-."));
    assert_eq!(m.max_forwards(), Some(255));
    assert_eq!(valid("percent_in_tokens").method().as_str(), "RE%47IST%45R");
    assert_eq!(valid("percent_in_tokens").values(Header::Contact).count(), 2);
}

#[test]
fn escapes_are_resolved_only_on_demand() {
    let m = valid("escapes_in_uris");
    assert_eq!(Uri::parse(m.request_uri()).unwrap().user_text().as_deref(), Some("sips:user@acme.example"));
    assert_eq!(m.to().parse_uri().unwrap().user_text().as_deref(), Some("user"));
    assert_eq!(valid("escaped_nul_in_uri").values(Header::Contact).count(), 2);
    let semi = valid("semicolon_in_user");
    assert_eq!(
        Uri::parse(semi.request_uri()).unwrap().user_text().as_deref(),
        Some("user;par=u@example.net")
    );
    assert_eq!(semi.values(Header::Accept).count(), 6);
}

#[test]
fn only_the_first_message_of_a_datagram_counts() {
    let m = valid("second_request_in_the_datagram");
    assert_eq!((m.method(), m.body().len()), (&Method::Register, 0));
    assert!(m.bytes().ends_with(b"\r\n\r\n"));
}

#[test]
fn bodies_are_bytes_and_reasons_are_text() {
    assert_eq!(valid("binary_body").body().len(), 296);
    assert_eq!(valid("binary_body").body_text(), None);
    assert!(valid("utf8_reason").reason().contains("простое"));
    assert_eq!((valid("no_reason").status(), valid("no_reason").reason()), (Some(100), ""));
}

#[test]
fn numbers_out_of_range_are_the_largest() {
    assert_eq!(valid("broken_date_and_unknown_extensions").expires(), Some(u32::MAX));
    assert!(
        valid("broken_date_and_unknown_extensions").has_token(Header::Require, "nothingSupportsThisEither")
    );
    assert_eq!(valid("zero_max_forwards_and_unknown_authorization").max_forwards(), Some(0));
}

#[test]
fn uris_that_the_message_does_not_judge_are_judged_as_uris() {
    use tandem_sip::uri::UriError;
    let error = |name: &str| Uri::parse(valid(name).request_uri()).map(|_| ()).unwrap_err();
    assert_eq!(error("unknown_scheme_in_request_uri"), UriError::Scheme);
    assert_eq!(error("ipv6_without_brackets_in_request_uri"), UriError::Host);
    assert!(!valid("branch_is_only_the_cookie").via_top().has_magic_cookie());
    assert_eq!(valid("invite_of_rfc_2543").via_top().branch, None);
}

#[test]
fn addresses_of_ipv6_are_read_everywhere() {
    let m = valid("ipv6_with_port");
    assert_eq!((m.via_top().host, m.via_top().port), ("[2001:db8::9:1]", Some(5090)));
    let contact = m.contact().unwrap();
    assert_eq!(contact.parse_uri().unwrap().port, Some(5070));
    assert_eq!(valid("ipv6_received_without_brackets").via_top().received, Some("2001:db8::9:255"));
    assert_eq!(valid("ipv6_received_with_brackets").via_top().received, Some("[2001:db8::9:255]"));
    let ambiguous = valid("ipv6_port_that_reads_as_address");
    assert_eq!(Uri::parse(ambiguous.request_uri()).unwrap().port, None);
    let mapped = valid("ipv4_mapped_ipv6");
    assert!(Uri::parse(mapped.request_uri()).unwrap().ip().is_some());
}

#[test]
fn a_desk_phones_contact_is_read_with_its_quoted_parameters() {
    let m = valid("instance_in_contact");
    let Contacts::List(contacts) = m.contacts() else { panic!("a list") };
    let [contact] = contacts[..] else { panic!("one contact, {contacts:?}") };
    assert_eq!(contact.param("+sip.instance"), Some("<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"));
    assert_eq!((contact.param("methods"), contact.expires()), (Some("INVITE, ACK, BYE"), Some(300)));
}
