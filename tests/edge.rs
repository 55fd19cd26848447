//! What the edge refuses: copies of credentials, credentials for another number, requests that can't be read.

mod support;

use std::sync::LazyLock;
use std::time::Duration;
use support::SOON;
use support::demo::Demo;
use support::phone::{Message, Phone};
use tandem_phones::digest::{Algorithm, Challenge, Credentials};

static DEMO: LazyLock<Demo> = LazyLock::new(|| Demo::start(29));

/// A request outside of a dialog, from the phone's user to itself.
fn request(phone: &Phone, method: &str, uri: &str, cseq: &str) -> Message {
    let record = format!("<sip:{}@{}>", phone.account.number, phone.account.domain);
    Message::request(method, uri)
        .with("Via", &phone.via())
        .with("Max-Forwards", "70")
        .with("From", &format!("{record};tag=edge"))
        .with("To", &record)
        .with("Call-ID", &format!("edge-{}", phone.account.number))
        .with("CSeq", cseq)
        .with("Contact", &phone.contact())
}

#[track_caller]
fn answer(phone: &mut Phone, request: &Message) -> Message {
    phone.send(request);
    let (number, method) = request.cseq().expect("a CSeq");
    let fits = |m: &Message| m.status().is_some_and(|s| s >= 200) && m.cseq() == Some((number, method));
    phone.next(SOON, fits).expect("a final response")
}

/// The challenge of a REGISTER.
fn challenge(phone: &mut Phone, uri: &str) -> Challenge {
    let first = request(phone, "REGISTER", uri, "1 REGISTER");
    let refusal = answer(phone, &first);
    Challenge::of(&refusal, Algorithm::First).expect("a challenge")
}

fn credentials(phone: &Phone) -> Credentials {
    Credentials { user: phone.account.number.clone(), password: phone.account.password.clone() }
}

#[test]
fn a_copy_of_a_registrations_credentials_is_challenged_anew_and_the_next_use_of_the_nonce_is_taken() {
    let account = DEMO.account();
    let mut phone = Phone::new(&DEMO, &account, 1);
    let uri = format!("sip:{}", account.domain);
    let mut challenge = challenge(&mut phone, &uri);
    let (name, proof) = challenge.answer(&credentials(&phone), "REGISTER", &uri);
    let with = |phone: &Phone, cseq: &str, proof: &str| {
        request(phone, "REGISTER", &uri, cseq).with("Expires", "60").with(name, proof)
    };
    let first = with(&phone, "2 REGISTER", &proof);
    assert_eq!(answer(&mut phone, &first).status(), Some(200));
    let copy = with(&phone, "3 REGISTER", &proof);
    let refusal = answer(&mut phone, &copy);
    assert_eq!(refusal.status(), Some(401), "{refusal:?}");
    let stale = refusal.all("WWW-Authenticate").all(|challenge| challenge.contains("stale=true"));
    assert!(stale, "{refusal:?}");
    let (_, proof) = challenge.answer(&credentials(&phone), "REGISTER", &uri);
    let second = with(&phone, "4 REGISTER", &proof);
    assert_eq!(answer(&mut phone, &second).status(), Some(200));
}

#[test]
fn credentials_for_one_number_call_no_other() {
    let account = DEMO.account();
    let mut phone = Phone::new(&DEMO, &account, 2);
    let mut challenge = challenge(&mut phone, &format!("sip:{}", account.domain));
    let signed = format!("sip:102@{}", account.domain);
    let (name, proof) = challenge.answer(&credentials(&phone), "INVITE", &signed);
    let asked = format!("sip:999@{}", account.domain);
    let invite = request(&phone, "INVITE", &asked, "2 INVITE").with(name, &proof);
    let refusal = answer(&mut phone, &invite);
    assert_eq!(refusal.status(), Some(400), "{refusal:?}");
}

#[test]
fn a_request_that_cannot_be_read_is_told_what_is_wrong_over_udp_and_tcp_and_an_ack_is_not() {
    let account = DEMO.account();
    for mut phone in [Phone::new(&DEMO, &account, 3), Phone::over_tcp(&DEMO, &account, 3)] {
        let uri = format!("sip:101@{}", account.domain);
        let odd = request(&phone, "INVITE", &uri, "7 BYE").with("Content-Length", "0");
        let refusal = answer(&mut phone, &odd);
        assert_eq!(refusal.status(), Some(400), "{refusal:?}");
        assert!(refusal.start.ends_with("bad CSeq"), "{}", refusal.start);
        assert_eq!(refusal.branch(), odd.branch());
        let odd = request(&phone, "ACK", &uri, "7 BYE").with("Content-Length", "0");
        phone.send(&odd);
        assert!(phone.next(Duration::from_millis(300), |m| m.branch() == odd.branch()).is_none());
    }
}
