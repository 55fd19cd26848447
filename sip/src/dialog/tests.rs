use bytes::Bytes;

use super::*;
use crate::build::ResponseBuilder;

fn request(method: &str, cseq: u32, to_tag: &str, more: &str) -> Message {
    let text = format!(
        "{method} sip:102@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK{cseq}\r\n\
         From: \"Ann\" <sip:101@acme.example>;tag=a\r\nTo: <sip:102@acme.example>{to_tag}\r\nCall-ID: c1\r\n\
         CSeq: {cseq} {method}\r\n{more}\r\n"
    );
    Message::parse(Bytes::from(text)).unwrap()
}

fn invite() -> Message {
    request("INVITE", 7, "", "Contact: <sip:101@10.0.0.1>\r\nRecord-Route: <sip:p1;lr>, <sip:p2;lr>\r\n")
}

fn ok() -> Message {
    ResponseBuilder::to(&invite(), 200, "b").header(Header::Contact, "<sip:102@10.0.0.2>").build().unwrap()
}

#[test]
fn both_sides_see_the_same_dialog_mirrored() {
    let callee = Dialog::uas(&invite(), "b").unwrap();
    let caller = Dialog::uac(&invite(), &ok()).unwrap();
    assert_eq!((callee.local_tag(), callee.remote_tag()), ("b", "a"));
    assert_eq!((&callee.local, &callee.remote), (&caller.remote, &caller.local));
    assert_eq!(callee.route_set, ["<sip:p1;lr>", "<sip:p2;lr>"]);
    assert_eq!(caller.route_set, ["<sip:p2;lr>", "<sip:p1;lr>"]);
    assert_eq!(
        (callee.remote_target.as_str(), caller.remote_target.as_str()),
        ("sip:101@10.0.0.1", "sip:102@10.0.0.2")
    );
    assert_eq!((callee.local_cseq, callee.remote_cseq), (0, Some(7)));
    assert_eq!((caller.local_cseq, caller.remote_cseq), (7, None));
}

#[test]
fn without_contact_or_tag_there_is_no_dialog() {
    assert_eq!(Dialog::uas(&request("INVITE", 1, "", ""), "b"), Err(DialogError::NoContact));
    let untagged =
        ResponseBuilder::to(&invite(), 180, "").header(Header::Contact, "<sip:x@y>").build().unwrap();
    assert_eq!(Dialog::uac(&invite(), &untagged), Err(DialogError::NoTag));
}

#[test]
fn an_old_cseq_is_refused_and_an_ack_is_not() {
    let mut dialog = Dialog::uas(&invite(), "b").unwrap();
    assert_eq!(dialog.receive(&request("ACK", 7, ";tag=b", "")), Ok(()));
    assert_eq!(dialog.receive(&request("INFO", 7, ";tag=b", "")), Err(OutOfOrder));
    assert_eq!(dialog.receive(&request("BYE", 9, ";tag=b", "")), Ok(()));
    assert_eq!(dialog.remote_cseq, Some(9));
}

#[test]
fn a_target_refresh_moves_the_target_and_other_requests_do_not() {
    let mut dialog = Dialog::uas(&invite(), "b").unwrap();
    let moved = "Contact: <sip:101@10.9.9.9>\r\n";
    dialog.receive(&request("INFO", 8, ";tag=b", moved)).unwrap();
    assert_eq!(dialog.remote_target, "sip:101@10.0.0.1");
    dialog.receive(&request("INVITE", 9, ";tag=b", moved)).unwrap();
    assert_eq!(dialog.remote_target, "sip:101@10.9.9.9");
}

#[test]
fn a_message_is_matched_by_call_id_and_both_tags() {
    let callee = Dialog::uas(&invite(), "b").unwrap();
    let caller = Dialog::uac(&invite(), &ok()).unwrap();
    assert!(callee.holds(&request("BYE", 8, ";tag=b", "")));
    assert!(!callee.holds(&request("BYE", 8, ";tag=x", "")));
    assert!(!callee.holds(&invite()));
    assert!(caller.holds(&ok()));
    assert!(!callee.holds(&ok()));
}

#[test]
fn requests_go_by_loose_routes_with_the_next_cseq() {
    let mut dialog = Dialog::uac(&invite(), &ok()).unwrap();
    let bye = dialog.request(Method::Bye).via("UDP", "10.0.0.1", "z9hG4bK2").build().unwrap();
    assert_eq!((bye.request_uri(), bye.cseq().number, dialog.local_cseq), ("sip:102@10.0.0.2", 8, 8));
    let routes: Vec<_> = bye.headers(Header::Route).collect();
    assert_eq!(routes, ["<sip:p2;lr>", "<sip:p1;lr>"]);
    assert_eq!((bye.from().tag(), bye.to().tag()), (Some("a"), Some("b")));
    let ack = dialog.ack(7).via("UDP", "10.0.0.1", "z9hG4bK3").build().unwrap();
    assert_eq!((ack.cseq().number, dialog.local_cseq), (7, 8));
    assert_eq!(dialog.target().next_hop, "sip:p2;lr");
}

#[test]
fn a_strict_router_takes_the_place_of_the_target() {
    let mut dialog = Dialog::uac(&invite(), &ok()).unwrap();
    dialog.route_set = vec!["<sip:old>".into(), "<sip:p1;lr>".into()];
    assert_eq!(
        dialog.target(),
        Target {
            request_uri: "sip:old".into(),
            routes: vec!["<sip:p1;lr>".into(), "<sip:102@10.0.0.2>".into()],
            next_hop: "sip:old".into(),
        }
    );
    dialog.route_set.clear();
    let direct = "sip:102@10.0.0.2".to_owned();
    assert_eq!(dialog.target(), Target { request_uri: direct.clone(), routes: vec![], next_hop: direct });
}
