use super::*;
use crate::fixture::*;
use tandem_sip::digest::{Algorithm, ClientAnswer, ServerChallenge, challenge, ha1_md5, ha1_sha256};

const NOW_MS: u64 = 1_000_000;

fn key() -> NonceKey {
    NonceKey::new([7; 32])
}

/// A REGISTER of 101 to a domain, whose credentials are for a user, password, realm and nonce.
fn proved(
    domain: &str,
    user: &str,
    password: &str,
    realm: &str,
    nonce: &str,
    algorithm: Algorithm,
) -> Message {
    let text = challenge(realm, nonce, algorithm, false);
    let asked = ServerChallenge::parse(&text).unwrap();
    let ha1 = match algorithm {
        Algorithm::Md5 => ha1_md5(user, realm, password),
        Algorithm::Sha256 => ha1_sha256(user, realm, password),
    };
    let client = ClientAnswer { username: user, ha1: &ha1, cnonce: "c", nc: 1 };
    let proof = asked.answer(client, "REGISTER", &format!("sip:{domain}"));
    register("101", domain, 1, &[&format!("Authorization: {proof}")])
}

fn asked(request: &Message) -> Admission {
    asked_with(&mut UsedNonces::since(0, 9), request)
}

fn asked_with(used: &mut UsedNonces, request: &Message) -> Admission {
    authenticate(&state(), Nonces { key: &key(), used }, now(NOW_MS), request)
}

fn of_acme(user: &str, password: &str) -> Message {
    let nonce = key().issue("acme.example", NOW_MS, 1);
    proved("acme.example", user, password, "acme.example", &nonce, Algorithm::Sha256)
}

fn wrong() -> Admission {
    Admission::Refused { status: 403, reason: "wrong_credentials" }
}

#[test]
fn a_request_without_credentials_is_challenged_for_its_tenants_realm() {
    let challenged = |realm: &str| Admission::Challenged { realm: realm.into(), stale: false };
    assert_eq!(asked(&register("101", "acme.example", 1, &[])), challenged("acme.example"));
    assert_eq!(asked(&register("101", "GLOBEX.example", 1, &[])), challenged("globex.example"));
    assert_eq!(
        asked(&register("999", "acme.example", 1, &[])),
        challenged("acme.example"),
        "nobody is told who exists"
    );
}

#[test]
fn the_right_password_admits_with_either_hash() {
    let nonce = key().issue("acme.example", NOW_MS, 1);
    for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
        let request = proved("acme.example", "101", "pw-acme-101", "acme.example", &nonce, algorithm);
        let Admission::Admitted(user) = asked(&request) else { panic!("not admitted by {algorithm:?}") };
        assert_eq!(
            (user.tenant, user.party.number.as_str(), user.domain.as_str()),
            (TenantId(1), "101", "acme.example")
        );
    }
}

#[test]
fn a_wrong_password_and_an_unknown_user_hear_the_same() {
    assert_eq!(asked(&of_acme("101", "guess")), wrong());
    assert_eq!(asked(&of_acme("999", "guess")), wrong());
    assert_eq!(asked(&of_acme("999", &"-".repeat(32))), wrong());
}

#[test]
fn a_stale_nonce_with_the_right_password_is_asked_again_and_with_a_wrong_one_refused() {
    let old = key().issue("acme.example", NOW_MS - NONCE_MS - 1_000, 1);
    let with = |password| proved("acme.example", "101", password, "acme.example", &old, Algorithm::Sha256);
    assert_eq!(
        asked(&with("pw-acme-101")),
        Admission::Challenged { realm: "acme.example".into(), stale: true }
    );
    assert_eq!(asked(&with("guess")), wrong());
}

#[test]
fn a_nonce_that_is_not_ours_or_of_another_realm_is_asked_again() {
    for nonce in [
        "forged".to_owned(),
        key().issue("globex.example", NOW_MS, 1),
        NonceKey::new([8; 32]).issue("acme.example", NOW_MS, 1),
    ] {
        let request = proved("acme.example", "101", "pw-acme-101", "acme.example", &nonce, Algorithm::Sha256);
        assert_eq!(
            asked(&request),
            Admission::Challenged { realm: "acme.example".into(), stale: true },
            "{nonce}"
        );
    }
}

#[test]
fn a_user_of_one_tenant_is_nobody_at_another_with_the_same_number() {
    let nonce = key().issue("acme.example", NOW_MS, 1);
    let at_globex = proved("globex.example", "101", "pw-acme-101", "acme.example", &nonce, Algorithm::Sha256);
    assert_eq!(asked(&at_globex), Admission::Challenged { realm: "globex.example".into(), stale: false });
    let nonce = key().issue("globex.example", NOW_MS, 1);
    let with_acmes =
        proved("globex.example", "101", "pw-acme-101", "globex.example", &nonce, Algorithm::Sha256);
    assert_eq!(asked(&with_acmes), wrong());
}

#[test]
fn a_domain_of_nobody_is_refused_but_a_phone_with_a_bare_address_is_known_by_its_realm() {
    let nobody = register("101", "nobody.example", 1, &[]);
    assert_eq!(asked(&nobody), Admission::Refused { status: 403, reason: "unknown_domain" });
    let nonce = key().issue("acme.example", NOW_MS, 1);
    let bare = proved("192.0.2.200", "101", "pw-acme-101", "acme.example", &nonce, Algorithm::Md5);
    assert!(matches!(asked(&bare), Admission::Admitted(user) if user.tenant == TenantId(1)));
}

#[test]
fn credentials_for_another_method_prove_nothing() {
    let request = of_acme("101", "pw-acme-101");
    let text = String::from_utf8(request.bytes().to_vec()).unwrap();
    let invite = text
        .replace("REGISTER sip:acme.example SIP", "INVITE sip:acme.example SIP")
        .replace("1 REGISTER", "1 INVITE");
    assert_eq!(asked(&Message::parse(invite.into()).unwrap()), wrong());
}

#[test]
fn credentials_for_another_uri_are_a_bad_request_whoever_sends_them() {
    for password in ["pw-acme-101", "guess"] {
        let text = String::from_utf8(of_acme("101", password).bytes().to_vec()).unwrap();
        let moved = text.replace("uri=\"sip:acme.example\"", "uri=\"sip:102@acme.example\"");
        assert_ne!(text, moved);
        let refused = Admission::Refused { status: 400, reason: "wrong_uri" };
        assert_eq!(asked(&Message::parse(moved.into()).unwrap()), refused);
    }
}

#[test]
fn credentials_that_were_used_are_asked_for_anew_and_a_wrong_password_uses_nothing() {
    let (mut used, stale) =
        (UsedNonces::since(0, 9), Admission::Challenged { realm: "acme.example".into(), stale: true });
    assert_eq!(asked_with(&mut used, &of_acme("101", "guess")), wrong());
    let request = of_acme("101", "pw-acme-101");
    assert!(matches!(asked_with(&mut used, &request), Admission::Admitted(_)));
    assert_eq!(asked_with(&mut used, &request), stale);
    let text = String::from_utf8(request.bytes().to_vec()).unwrap();
    let odd = text.replace("nc=00000001", "nc=1");
    assert_ne!(text, odd);
    assert_eq!(
        asked_with(&mut used, &Message::parse(odd.into()).unwrap()),
        wrong(),
        "the count is signed too"
    );
}

#[test]
fn challenges_of_one_moment_are_answered_each() {
    let mut used = UsedNonces::since(0, 9);
    for salt in [1, 2] {
        let nonce = key().issue("acme.example", NOW_MS, salt);
        let request = proved("acme.example", "101", "pw-acme-101", "acme.example", &nonce, Algorithm::Sha256);
        assert!(matches!(asked_with(&mut used, &request), Admission::Admitted(_)));
    }
}

#[test]
fn a_tenant_may_make_so_many_calls_in_a_second_and_no_more() {
    let mut rates = CallRates::default();
    let mut take = |at| rates.take(at, TenantId(1), Some(2));
    assert_eq!([take(0), take(0), take(0), take(499), take(500)], [true, true, false, false, true]);
    assert!(rates.take(500, TenantId(2), Some(2)), "another tenant has its own");
    assert!(rates.take(500, TenantId(1), None), "no limit");
}
