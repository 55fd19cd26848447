use super::*;
use crate::build::ack_for;
use crate::transaction::samples::{Phone, ack, request, response};

const ANN: Phone = Phone("ann", false);
const BOB: Phone = Phone("bob", false);

fn table() -> Table<Phone> {
    Table::new(Limits { server_max: 3, client_max: 2 }, Timers::default(), 1)
}

fn outputs(table: &mut Table<Phone>) -> Vec<Output<Phone>> {
    std::iter::from_fn(|| table.poll_output()).collect()
}

fn received(table: &mut Table<Phone>, message: &Message) -> Vec<Output<Phone>> {
    table.receive(0, ANN, message.clone());
    outputs(table)
}

fn send(peer: Phone, message: &Message) -> Output<Phone> {
    Output::Send { peer, bytes: message.bytes().clone() }
}

#[test]
fn a_request_reaches_the_user_once_and_copies_get_the_last_response() {
    let mut table = table();
    let register = request("REGISTER", "z9hG4bK1");
    let key = ServerKey::of(&register);
    let first = Output::Request { key: key.clone(), message: register.clone(), peer: ANN };
    assert_eq!(received(&mut table, &register), [first]);
    assert_eq!(received(&mut table, &register), []);
    let ok = response(&register, 200);
    table.respond(5, &key, ok.clone()).unwrap();
    assert_eq!(outputs(&mut table), [send(ANN, &ok)]);
    assert_eq!(received(&mut table, &register), [send(ANN, &ok)]);
    assert_eq!((table.len(), table.poll_timeout()), (1, Some(32_005)));
    table.handle_timeout(32_005);
    assert_eq!((table.len(), table.poll_timeout()), (0, None));
    assert_eq!(table.respond(32_006, &key, ok), Err(Gone));
}

#[test]
fn an_ack_for_a_refusal_ends_here_and_one_for_a_2xx_reaches_the_user() {
    let mut table = table();
    let invite = request("INVITE", "z9hG4bK1");
    received(&mut table, &invite);
    table.respond(0, &ServerKey::of(&invite), response(&invite, 486)).unwrap();
    outputs(&mut table);
    assert_eq!(received(&mut table, &ack("z9hG4bK1")), []);
    let other = ack("z9hG4bK2");
    assert_eq!(received(&mut table, &other), [Output::Ack { message: other.clone(), peer: ANN }]);
}

#[test]
fn a_cancel_is_answered_and_told_while_the_invite_has_no_final_response() {
    let mut table = table();
    let invite = request("INVITE", "z9hG4bK1");
    let key = ServerKey::of(&invite);
    received(&mut table, &invite);
    table.respond(0, &key, response(&invite, 180)).unwrap();
    outputs(&mut table);
    let cancel = request("CANCEL", "z9hG4bK1");
    let answer = send(ANN, &response(&cancel, 200));
    let told = Output::Cancel { invite: key.clone(), message: cancel.clone() };
    assert_eq!(received(&mut table, &cancel), [answer.clone(), told]);
    assert_eq!(received(&mut table, &cancel), [answer]);
    table.respond(1, &key, response(&invite, 487)).unwrap();
    assert_eq!(outputs(&mut table), [send(ANN, &response(&invite, 487))]);
}

#[test]
fn a_cancel_after_answer_is_answered_and_ignored() {
    let mut table = table();
    let invite = request("INVITE", "z9hG4bK1");
    received(&mut table, &invite);
    table.respond(0, &ServerKey::of(&invite), response(&invite, 200)).unwrap();
    outputs(&mut table);
    let cancel = request("CANCEL", "z9hG4bK1");
    assert_eq!(received(&mut table, &cancel), [send(ANN, &response(&cancel, 200))]);
}

#[test]
fn a_cancel_of_nothing_is_answered_481() {
    let mut table = table();
    let cancel = request("CANCEL", "z9hG4bK9");
    let [Output::Send { bytes, .. }] = &received(&mut table, &cancel)[..] else { panic!("one answer") };
    assert_eq!(Message::parse(bytes.clone()).unwrap().status(), Some(481));
}

#[test]
fn a_full_table_answers_503_without_keeping_anything_but_still_takes_acks() {
    let mut table = table();
    for branch in ["z9hG4bK1", "z9hG4bK2", "z9hG4bK3"] {
        received(&mut table, &request("OPTIONS", branch));
    }
    let [Output::Send { bytes, .. }] = &received(&mut table, &request("INVITE", "z9hG4bK4"))[..] else {
        panic!("one answer")
    };
    let busy = Message::parse(bytes.clone()).unwrap();
    assert_eq!((busy.status(), busy.header(Header::RetryAfter)), (Some(503), Some("2")));
    assert_eq!((table.len(), table.refused_total()), (3, 1));
    assert!(matches!(received(&mut table, &ack("z9hG4bK4"))[..], [Output::Ack { .. }]));
    table.send_request(0, request("BYE", "z9hG4bK5"), BOB).unwrap();
    table.send_request(0, request("BYE", "z9hG4bK6"), BOB).unwrap();
    assert_eq!(table.send_request(0, request("BYE", "z9hG4bK7"), BOB), Err(Refusal::Full));
}

#[test]
fn responses_find_their_request_by_branch_and_method() {
    let mut table = table();
    let invite = request("INVITE", "z9hG4bK1");
    let key = table.send_request(0, invite.clone(), BOB).unwrap();
    assert_eq!(outputs(&mut table), [send(BOB, &invite)]);
    let ringing = response(&invite, 180);
    let told = Output::Response { key: key.clone(), message: ringing.clone() };
    assert_eq!(received(&mut table, &ringing), [told]);
    let stray = response(&request("INVITE", "z9hG4bK2"), 200);
    assert_eq!(received(&mut table, &stray), [Output::Stray { message: stray.clone(), peer: ANN }]);
    let wrong = response(&request("BYE", "z9hG4bK1"), 200);
    assert_eq!(received(&mut table, &wrong), [Output::Stray { message: wrong.clone(), peer: ANN }]);
    let busy = response(&invite, 486);
    let ack = ack_for(&invite, &busy).unwrap();
    let told = Output::Response { key, message: busy.clone() };
    assert_eq!(received(&mut table, &busy), [send(BOB, &ack), told]);
}

#[test]
fn an_invite_whose_cancel_is_answered_and_which_itself_is_not_is_given_up() {
    let mut table = table();
    let invite = request("INVITE", "z9hG4bK1");
    let key = table.send_request(0, invite.clone(), BOB).unwrap();
    table.receive(10, BOB, response(&invite, 180));
    let cancel = cancel_for(&invite, None).unwrap();
    table.send_request(1_000, cancel.clone(), BOB).unwrap();
    table.receive(1_010, BOB, response(&cancel, 200));
    outputs(&mut table);
    table.handle_timeout(32_999);
    assert_eq!(outputs(&mut table), []);
    table.handle_timeout(33_000);
    assert_eq!(outputs(&mut table), [Output::Timeout { key: Key::Client(key) }]);
    assert!(table.is_empty());
}

#[test]
fn our_cancel_goes_out_after_the_first_provisional_response_with_its_reason() {
    let mut table = table();
    let invite = request("INVITE", "z9hG4bK1");
    let key = table.send_request(0, invite.clone(), BOB).unwrap();
    outputs(&mut table);
    table.cancel(1, &key, Some("SIP;cause=200;text=\"Call completed elsewhere\"")).unwrap();
    assert_eq!(outputs(&mut table), []);
    let trying = response(&invite, 100);
    let cancel = cancel_for(&invite, Some("SIP;cause=200;text=\"Call completed elsewhere\"")).unwrap();
    let told = Output::Response { key: key.clone(), message: trying.clone() };
    assert_eq!(received(&mut table, &trying), [told, send(BOB, &cancel)]);
    assert_eq!(table.len(), 2);
    table.cancel(2, &key, None).unwrap();
    assert_eq!(outputs(&mut table), []);
}

#[test]
fn what_is_no_new_request_is_not_sent() {
    let mut table = table();
    let bye = request("BYE", "z9hG4bK1");
    table.send_request(0, bye.clone(), BOB).unwrap();
    assert_eq!(table.send_request(0, bye.clone(), BOB), Err(Refusal::BranchInUse));
    assert_eq!(table.send_request(0, response(&bye, 200), BOB), Err(Refusal::Unfit));
    assert_eq!(table.send_request(0, request("ACK", "z9hG4bK2"), BOB), Err(Refusal::Unfit));
    assert_eq!(table.send_request(0, request("BYE", "old"), BOB), Err(Refusal::Unfit));
}

#[test]
fn a_lost_peer_ends_what_speaks_to_it_and_nothing_else() {
    let mut table = table();
    let lost = table.send_request(0, request("BYE", "z9hG4bK1"), BOB).unwrap();
    table.send_request(0, request("BYE", "z9hG4bK2"), ANN).unwrap();
    outputs(&mut table);
    table.transport_error(1, &BOB);
    assert_eq!(outputs(&mut table), [Output::TransportError { key: Key::Client(lost), peer: BOB }]);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_connection_that_closes_ends_what_is_still_open_on_it() {
    const CAROL: Phone = Phone("carol", true);
    let mut table = table();
    let done = request("REGISTER", "z9hG4bK1");
    let key = ServerKey::of(&done);
    table.receive(0, CAROL, done.clone());
    table.respond(0, &key, response(&done, 200)).unwrap();
    let open = table.send_request(0, request("BYE", "z9hG4bK2"), CAROL).unwrap();
    table.send_request(0, request("BYE", "z9hG4bK3"), Phone("dave", true)).unwrap();
    outputs(&mut table);
    table.transport_error(1, &CAROL);
    assert_eq!(outputs(&mut table), [Output::TransportError { key: Key::Client(open), peer: CAROL }]);
    table.transport_error(2, &CAROL);
    assert_eq!((outputs(&mut table), table.len()), (vec![], 1));
}

#[test]
fn timers_of_many_transactions_fire_in_order_of_time() {
    let limits = Limits { server_max: 10, client_max: 5_000 };
    let mut table: Table<Phone> = Table::new(limits, Timers::default(), 7);
    for n in 0..5_000_u64 {
        table.send_request(n, request("BYE", &format!("z9hG4bK{n}")), BOB).unwrap();
    }
    assert_eq!(outputs(&mut table).len(), 5_000);
    let mut last = 0;
    let mut timeouts = 0;
    while let Some(at) = table.poll_timeout() {
        assert!(at >= last);
        last = at;
        table.handle_timeout(at);
        timeouts += outputs(&mut table).iter().filter(|o| matches!(o, Output::Timeout { .. })).count();
    }
    assert_eq!((timeouts, last, table.len()), (5_000, 36_999, 0));
}

#[test]
fn a_peer_without_magic_cookie_is_matched_by_its_headers() {
    let mut table = table();
    let old = request("OPTIONS", "1");
    assert!(matches!(received(&mut table, &old)[..], [Output::Request { .. }]));
    assert_eq!(received(&mut table, &old), []);
    assert!(matches!(received(&mut table, &request("OPTIONS", "2"))[..], [Output::Request { .. }]));
}

#[test]
fn an_abandoned_branch_says_nothing_more_and_the_others_go_on() {
    let mut table = table();
    table.send_request(0, request("INVITE", "z9hG4bK1"), BOB).unwrap();
    table.send_request(0, request("OPTIONS", "z9hG4bK2"), BOB).unwrap();
    outputs(&mut table);
    table.abandon(|branch| branch == "z9hG4bK1");
    assert_eq!(outputs(&mut table), []);
    table.handle_timeout(500);
    assert_eq!(outputs(&mut table), [send(BOB, &request("OPTIONS", "z9hG4bK2"))]);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_refusal_under_an_abandoned_tag_is_not_repeated_and_the_others_are() {
    let mut table = table();
    let [gone, stays] = ["z9hG4bK1", "z9hG4bK2"].map(|branch| {
        let invite = request("INVITE", branch);
        received(&mut table, &invite);
        invite
    });
    table.respond(0, &ServerKey::of(&gone), response(&gone, 491)).unwrap();
    outputs(&mut table);
    let tag = response(&gone, 491).to().tag().unwrap_or_default().to_owned();
    table.abandon_invites(|other| other == "another");
    assert_eq!(table.len(), 2);
    table.abandon_invites(|other| other == tag);
    table.handle_timeout(500);
    let said = outputs(&mut table);
    assert!(said.iter().all(|output| !format!("{output:?}").contains("z9hG4bK1")), "{said:?}");
    assert_eq!(table.len(), 1);
    table.respond(600, &ServerKey::of(&stays), response(&stays, 491)).unwrap();
    assert_eq!(outputs(&mut table), [send(ANN, &response(&stays, 491))]);
}

#[test]
fn a_forgotten_invite_that_rang_says_nothing_more_and_its_copy_is_a_new_one() {
    let mut table = table();
    let invite = request("INVITE", "z9hG4bK1");
    let key = ServerKey::of(&invite);
    received(&mut table, &invite);
    table.respond(5, &key, response(&invite, 180)).unwrap();
    outputs(&mut table);
    table.forget(&key);
    assert_eq!((outputs(&mut table), table.len(), table.poll_timeout()), (vec![], 0, None));
    assert_eq!(table.respond(9, &key, response(&invite, 200)), Err(Gone));
    assert!(matches!(received(&mut table, &invite)[..], [Output::Request { .. }]));
}

#[test]
fn what_is_answered_once_is_forgotten_but_for_an_invite_whose_ack_is_awaited() {
    let mut table = table();
    let register = request("REGISTER", "z9hG4bK1");
    let key = ServerKey::of(&register);
    received(&mut table, &register);
    let later = response(&register, 503);
    table.respond_once(5, &key, later.clone()).unwrap();
    assert_eq!((outputs(&mut table), table.len(), table.poll_timeout()), (vec![send(ANN, &later)], 0, None));
    let again = Output::Request { key, message: register.clone(), peer: ANN };
    assert_eq!(received(&mut table, &register), [again], "a copy is a new request");
    let invite = request("INVITE", "z9hG4bK2");
    received(&mut table, &invite);
    table.respond_once(5, &ServerKey::of(&invite), response(&invite, 486)).unwrap();
    outputs(&mut table);
    assert_eq!(received(&mut table, &ack("z9hG4bK2")), []);
}
