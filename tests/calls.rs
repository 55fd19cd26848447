//! Calls between phones of one cluster, step by step, with the facts that the operator sees of them.

mod support;

use std::sync::LazyLock;
use std::time::Duration;
use support::demo::Demo;
use support::phone::{Call, Phone};
use support::talk::renegotiated;
use support::{SOON, eventually};

static DEMO: LazyLock<Demo> = LazyLock::new(|| Demo::start(21));

/// A caller at n1 and a registered phone at n2, that all nodes know.
fn two_phones() -> (Phone, Phone) {
    let (a, b) = (DEMO.account(), DEMO.account());
    let caller = Phone::registered(&DEMO, &a, 1);
    let callee = Phone::registered(&DEMO, &b, 2);
    DEMO.await_registrations(1, &b, 1);
    (caller, callee)
}

/// The same two, talking.
fn talking() -> (Phone, Call, Phone, Call) {
    let (mut caller, mut callee) = two_phones();
    let mut out = caller.call(&callee.account.number);
    let mut inc = callee.incoming();
    callee.answer(&mut inc, 180, "Ringing");
    assert_eq!(caller.response(&mut out, 180).status(), Some(180));
    callee.answer(&mut inc, 200, "OK");
    caller.expect(&mut out, 200);
    (caller, out, callee, inc)
}

#[test]
fn a_call_across_nodes_rings_is_answered_and_ended_by_the_caller_with_one_cdr() {
    let (mut caller, mut out, mut callee, inc) = talking();
    let path = "/v1/tenants/acme/calls";
    let shown = eventually(SOON, "the call in the list of n3", || {
        DEMO.items(3, path)
            .into_iter()
            .find(|call| call["from"] == caller.account.number.as_str() && call["state"] == "answered")
    });
    assert_eq!(shown["to"], callee.account.number.as_str());
    assert_eq!(shown["node"], "n1");
    caller.hang_up(&mut out);
    callee.ended(&inc);
    DEMO.await_no_calls(&caller.account);
    let cdr = DEMO.cdr(&caller.account, &callee.account.number);
    assert_eq!(cdr["status"], "answered", "{cdr}");
    assert_eq!(cdr["tenant"], "acme");
    assert_eq!(cdr["node"], "n1");
    assert!(cdr["billed_s"].as_u64().is_some_and(|seconds| (1..=3).contains(&seconds)), "{cdr}");
    let printed = DEMO.json(2, &["cdrs", "--tenant", "acme"]);
    let same =
        printed.as_array().is_some_and(|all| all.iter().filter(|one| one["id"] == cdr["id"]).count() == 1);
    assert!(same, "{printed}");
}

#[test]
fn the_called_side_can_end_the_call() {
    let (mut caller, out, mut callee, mut inc) = talking();
    callee.hang_up(&mut inc);
    caller.ended(&out);
    DEMO.await_no_calls(&caller.account);
    assert_eq!(DEMO.cdr(&caller.account, &callee.account.number)["status"], "answered");
}

#[test]
fn each_leg_has_its_own_call_id_tags_and_contact_and_no_route_set() {
    let (mut caller, mut out, mut callee, inc) = talking();
    assert_ne!(out.leg.call_id, inc.leg.call_id);
    assert_ne!(out.invite.get("From"), inc.invite.get("From"));
    assert_eq!(inc.invite.get("Record-Route"), None);
    assert_eq!(inc.invite.all("Via").count(), 1);
    assert!(
        inc.invite.get("Contact").is_some_and(|c| c.contains(&DEMO.sip(2).ip().to_string())),
        "{:?}",
        inc.invite
    );
    caller.hang_up(&mut out);
    callee.ended(&inc);
}

#[test]
fn the_media_of_both_sides_runs_through_one_node() {
    let (mut caller, mut callee) = two_phones();
    let mut out = caller.call(&callee.account.number);
    let mut inc = callee.incoming();
    callee.answer(&mut inc, 200, "OK");
    let ok = caller.expect(&mut out, 200);
    let (of_caller, of_callee) = (Call::audio_of(&ok), Call::audio_of(&inc.invite));
    assert_eq!(of_caller.ip(), DEMO.sip(1).ip());
    assert_eq!(of_callee.ip(), of_caller.ip());
    assert_ne!(of_callee.port(), of_caller.port());
    caller.hang_up(&mut out);
    callee.ended(&inc);
}

#[test]
fn early_media_reaches_the_caller_as_183_with_a_description() {
    let (mut caller, mut callee) = two_phones();
    let mut out = caller.call(&callee.account.number);
    let mut inc = callee.incoming();
    callee.answer(&mut inc, 183, "Session Progress");
    let progress = caller.response(&mut out, 180);
    assert_eq!(progress.status(), Some(183));
    assert_eq!(Call::audio_of(&progress).ip(), DEMO.sip(1).ip());
    callee.answer(&mut inc, 200, "OK");
    let ok = caller.expect(&mut out, 200);
    assert_eq!(Call::audio_of(&ok), Call::audio_of(&progress));
    caller.hang_up(&mut out);
    callee.ended(&inc);
}

#[test]
fn a_cancelled_call_ends_on_both_sides_and_has_a_cdr() {
    let (mut caller, mut callee) = two_phones();
    let mut out = caller.call(&callee.account.number);
    let mut inc = callee.incoming();
    callee.answer(&mut inc, 180, "Ringing");
    caller.response(&mut out, 180);
    caller.cancel(&out);
    callee.cancelled(&inc);
    caller.expect(&mut out, 487);
    let cdr = DEMO.cdr(&caller.account, &callee.account.number);
    assert_eq!(cdr["billed_s"], 0, "{cdr}");
    assert_ne!(cdr["status"], "answered");
}

#[test]
fn busy_and_decline_reach_the_caller_as_they_are() {
    for (status, reason) in [(486, "Busy Here"), (603, "Decline")] {
        let (mut caller, mut callee) = two_phones();
        let mut out = caller.call(&callee.account.number);
        let mut inc = callee.incoming();
        callee.answer(&mut inc, status, reason);
        caller.expect(&mut out, status);
        DEMO.cdr(&caller.account, &callee.account.number);
    }
}

#[test]
fn an_unknown_number_is_404_and_an_unregistered_one_480() {
    let (a, b) = (DEMO.account(), DEMO.account());
    let mut caller = Phone::new(&DEMO, &a, 3);
    let mut out = caller.call("999000");
    caller.expect(&mut out, 404);
    let mut out = caller.call(&b.number);
    caller.expect(&mut out, 480);
    DEMO.cdr(&a, "999000");
    DEMO.cdr(&a, &b.number);
}

#[test]
fn a_wrong_password_gets_nowhere() {
    let account = DEMO.account();
    let mut wrong = account.clone();
    wrong.password = "not-it".into();
    let mut phone = Phone::new(&DEMO, &wrong, 1);
    let response = phone.register_as(&phone.contact(), 600);
    assert!(matches!(response.status(), Some(401 | 403)), "{}", response.start);
    let mut out = phone.call("101");
    assert!(matches!(phone.response(&mut out, 200).status(), Some(401 | 403 | 407)));
    assert!(
        DEMO.items(1, "/v1/tenants/acme/registrations")
            .iter()
            .all(|one| one["number"] != account.number.as_str())
    );
}

#[test]
fn a_call_can_be_held_and_taken_back() {
    let (mut caller, mut out, mut callee, inc) = talking();
    let (hold, _) = renegotiated(&mut caller, &mut out, &mut callee, &inc, "sendonly");
    assert!(hold.body.contains("a=sendonly"), "{}", hold.body);
    eventually(SOON, "the leg is shown as held", || {
        let calls = DEMO.items(2, "/v1/tenants/acme/calls");
        let call = calls.into_iter().find(|call| call["from"] == caller.account.number.as_str())?;
        call["legs"].as_array()?.iter().any(|leg| leg["held"] == true).then_some(())
    });
    let (back, _) = renegotiated(&mut caller, &mut out, &mut callee, &inc, "sendrecv");
    assert!(!back.body.contains("a=sendonly") && !back.body.contains("a=inactive"), "{}", back.body);
    caller.hang_up(&mut out);
    callee.ended(&inc);
}

#[test]
fn of_several_phones_the_first_to_answer_wins_and_the_others_hear_why() {
    let (a, b) = (DEMO.account(), DEMO.account());
    let mut caller = Phone::registered(&DEMO, &a, 1);
    let mut phones: Vec<Phone> = (1..=3).map(|node| Phone::registered(&DEMO, &b, node)).collect();
    DEMO.await_registrations(1, &b, 3);
    let mut out = caller.call(&b.number);
    let mut calls: Vec<Call> = phones.iter_mut().map(Phone::incoming).collect();
    for (phone, call) in phones.iter_mut().zip(&mut calls) {
        phone.answer(call, 180, "Ringing");
    }
    phones[1].answer(&mut calls[1], 200, "OK");
    caller.expect(&mut out, 200);
    for loser in [0, 2] {
        let cancel = phones[loser].cancelled(&calls[loser]);
        let reason = cancel.get("Reason").unwrap_or_default();
        assert!(reason.contains("cause=200"), "RFC 3326: {reason:?}");
    }
    caller.hang_up(&mut out);
    phones[1].ended(&calls[1]);
    DEMO.cdr(&a, &b.number);
}

#[test]
fn a_call_nobody_answers_ends_when_every_phone_refuses() {
    let (a, b) = (DEMO.account(), DEMO.account());
    let mut caller = Phone::registered(&DEMO, &a, 1);
    let mut phones: Vec<Phone> = (1..=2).map(|node| Phone::registered(&DEMO, &b, node)).collect();
    DEMO.await_registrations(1, &b, 2);
    let mut out = caller.call(&b.number);
    for phone in &mut phones {
        let mut call = phone.incoming();
        phone.answer(&mut call, 486, "Busy Here");
    }
    caller.expect(&mut out, 486);
}

#[test]
fn phones_over_tcp_and_udp_call_each_other() {
    let (a, b) = (DEMO.account(), DEMO.account());
    let mut caller = Phone::over_tcp(&DEMO, &a, 1);
    caller.register();
    let mut callee = Phone::registered(&DEMO, &b, 2);
    DEMO.await_registrations(1, &b, 1);
    DEMO.await_registrations(2, &a, 1);
    let mut out = caller.call(&b.number);
    let mut inc = callee.incoming();
    callee.answer(&mut inc, 200, "OK");
    caller.expect(&mut out, 200);
    caller.hang_up(&mut out);
    callee.ended(&inc);

    let mut out = callee.call(&a.number);
    let mut inc = caller.incoming();
    caller.answer(&mut inc, 200, "OK");
    callee.expect(&mut out, 200);
    caller.hang_up(&mut inc);
    callee.ended(&out);
}

#[test]
fn a_registration_can_be_asked_for_listed_and_taken_back() {
    let account = DEMO.account();
    let mut phone = Phone::registered(&DEMO, &account, 2);
    let asked = phone.register_as("", 0);
    assert_eq!(asked.status(), Some(200));
    assert_eq!(asked.all("Contact").count(), 1);
    for node in 1..=3 {
        DEMO.await_registrations(node, &account, 1);
    }
    let shown = DEMO.json(3, &["registrations", "--tenant", "acme"]);
    let ours = shown
        .as_array()
        .and_then(|all| all.iter().find(|one| one["number"] == account.number.as_str()))
        .cloned();
    let ours = ours.unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(ours["node"], "n2");
    assert_eq!(ours["transport"], "udp");
    for node in 1..=3 {
        let shown = DEMO.items(node, "/v1/tenants/acme/registrations");
        let ours = shown.iter().find(|one| one["number"] == account.number.as_str()).expect("it is listed");
        let ends: jiff::Timestamp =
            ours["expires_at"].as_str().and_then(|text| text.parse().ok()).expect("a time");
        let left_s = ends.duration_since(jiff::Timestamp::now()).as_secs();
        assert!((580..=601).contains(&left_s), "by n{node} it ends in {left_s} s: {ours}");
    }
    assert_eq!(phone.register_as("*", 0).status(), Some(200));
    for node in 1..=3 {
        DEMO.await_registrations(node, &account, 0);
    }
}

#[test]
fn the_operator_can_end_a_call() {
    let (mut caller, out, mut callee, inc) = talking();
    let id = eventually(SOON, "the call in the list", || {
        let calls = DEMO.items(1, "/v1/tenants/acme/calls");
        let call = calls.into_iter().find(|call| call["from"] == caller.account.number.as_str())?;
        Some(call["id"].as_str()?.to_owned())
    });
    let shown = DEMO.json(1, &["call", "show", &id]);
    assert_eq!(shown["legs"].as_array().map(Vec::len), Some(2), "{shown}");
    let (code, _, error) = DEMO.cli(3, &["call", "hangup", &id]);
    assert_eq!(code, 0, "{error}");
    caller.ended(&out);
    callee.ended(&inc);
    DEMO.await_no_calls(&caller.account);
    eventually(SOON, "the hang-up stands in the audit", || {
        let audit = DEMO.items(2, "/v1/audit");
        let named = |one: &serde_json::Value| one["action"] == format!("hang up call {id}").as_str();
        let record = audit.into_iter().find(named)?;
        (record["principal"] == "token:admin").then_some(())
    });
}

#[test]
fn a_request_in_no_dialog_is_481_and_a_strange_method_is_refused() {
    let account = DEMO.account();
    let mut phone = Phone::new(&DEMO, &account, 1);
    for (method, expected) in [("BYE", vec![481]), ("DANCE", vec![405, 501])] {
        let request = support::phone::Message::request(method, &format!("sip:101@{}", account.domain))
            .with("Via", &phone.via())
            .with("Max-Forwards", "70")
            .with("From", &format!("<sip:{}@{}>;tag=1", account.number, account.domain))
            .with("To", &format!("<sip:101@{}>;tag=2", account.domain))
            .with("Call-ID", &format!("{method}-{}", account.number))
            .with("CSeq", &format!("1 {method}"));
        phone.send(&request);
        let answer = phone.next(SOON, |m| m.status().is_some_and(|s| s >= 200)).expect("an answer");
        assert!(
            answer.status().is_some_and(|status| expected.contains(&status)),
            "{method}: {}",
            answer.start
        );
    }
}

#[test]
fn an_unanswered_call_rings_until_the_caller_gives_up() {
    let (mut caller, mut callee) = two_phones();
    let mut out = caller.call(&callee.account.number);
    let mut inc = callee.incoming();
    callee.answer(&mut inc, 180, "Ringing");
    caller.response(&mut out, 180);
    assert!(!callee.hears("CANCEL", Duration::from_secs(3)), "it may ring for three seconds");
    caller.cancel(&out);
    callee.cancelled(&inc);
    caller.expect(&mut out, 487);
}

#[test]
fn a_call_that_nobody_answers_ends_after_a_minute_with_480() {
    let (mut caller, mut callee) = two_phones();
    let mut out = caller.call(&callee.account.number);
    let mut inc = callee.incoming();
    callee.answer(&mut inc, 180, "Ringing");
    assert!(callee.hears("CANCEL", Duration::from_secs(75)), "the switch gives up by itself");
    callee.refuse_cancelled(&inc);
    caller.expect(&mut out, 480);
    let cdr = DEMO.cdr(&caller.account, &callee.account.number);
    assert_eq!(cdr["status"], "not_answered", "{cdr}");
    assert!(cdr["duration_s"].as_u64().is_some_and(|seconds| (58..=65).contains(&seconds)), "{cdr}");
}

#[test]
fn no_log_holds_a_password_or_token() {
    let (mut caller, mut out, mut callee, inc) = talking();
    caller.hang_up(&mut out);
    callee.ended(&inc);
    DEMO.cdr(&caller.account, &callee.account.number);
    let logs = DEMO.logs();
    assert!(logs.len() > 100, "the nodes write logs");
    assert!(!logs.contains(DEMO.token()), "the operator's token is in a log");
    let leaked = DEMO.accounts().iter().find(|account| logs.contains(&account.password));
    assert_eq!(leaked, None);
    assert!(!logs.contains("response=\""), "an answer to a challenge is in a log");
}

#[test]
fn a_register_is_answered_with_the_time_that_it_was_granted_also_when_it_is_a_refresh() {
    let account = DEMO.account();
    let mut phone = Phone::new(&DEMO, &account, 1);
    for _ in 0..2 {
        let contact = phone.contact();
        let response = phone.register_as(&contact, 60);
        assert_eq!(response.status(), Some(200));
        let granted = response.get("Contact").unwrap_or_default().to_owned();
        assert!(granted.contains("expires=60"), "{granted}");
    }
}

#[test]
fn a_bye_from_a_stranger_who_knows_the_tag_alone_ends_no_call() {
    let (mut caller, mut out, mut callee, inc) = talking();
    let account = DEMO.account();
    let mut stranger = Phone::new(&DEMO, &account, 1);
    let tag =
        inc.invite.get("From").and_then(|from| from.split("tag=").nth(1)).unwrap_or_default().to_owned();
    let bye = support::phone::Message::request("BYE", &format!("sip:{tag}@{}", account.domain))
        .with("Via", &stranger.via())
        .with("Max-Forwards", "70")
        .with("From", "<sip:evil@acme.example>;tag=evil")
        .with("To", &format!("<sip:101@acme.example>;tag={tag}"))
        .with("Call-ID", "evil")
        .with("CSeq", "70000 BYE");
    stranger.send(&bye);
    let answer = stranger.next(SOON, |m| m.status().is_some_and(|s| s >= 200)).expect("an answer");
    assert_eq!(answer.status(), Some(481), "{}", answer.start);
    caller.hang_up(&mut out);
    callee.ended(&inc);
}
