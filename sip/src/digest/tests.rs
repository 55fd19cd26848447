use super::*;

/// The example of RFC 7616 section 3.9.1.
const USER: &str = "Mufasa";
const REALM: &str = "http-auth@example.org";
const PASSWORD: &str = "Circle of Life";
const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

fn header(algorithm: &str, response: &str) -> String {
    format!(
        "Digest username=\"{USER}\", realm=\"{REALM}\",uri=\"/dir/index.html\", algorithm={algorithm}, \
         nonce=\"{NONCE}\", nc=00000001, cnonce=\"{CNONCE}\", qop=auth, response=\"{response}\", opaque=\"x,=y\""
    )
}

#[test]
fn the_example_of_rfc_7616_verifies() {
    let (md5, sha256) = (ha1_md5(USER, REALM, PASSWORD), ha1_sha256(USER, REALM, PASSWORD));
    let stored = StoredHa1 { md5: Some(&md5), sha256: Some(&sha256) };
    let cases = [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ];
    for (algorithm, response) in cases {
        let text = header(algorithm, response);
        let credentials = Credentials::parse(&text).unwrap();
        assert_eq!(credentials.verify("GET", stored), Verdict::Right);
        assert_eq!(credentials.verify("PUT", stored), Verdict::Wrong);
        assert_eq!(credentials.verify("GET", StoredHa1 { md5: None, sha256: None }), Verdict::NoSecret);
        assert_eq!(credentials.nonce_count(), Some(1));
    }
}

#[test]
fn credentials_that_cannot_be_checked_say_why() {
    let good = header("MD5", "0");
    let error = |from: &str, to: &str| Credentials::parse(&good.replace(from, to)).unwrap_err();
    assert_eq!(error("Digest ", "Basic "), CredentialsError::Scheme);
    assert_eq!(error("qop=auth, ", ""), CredentialsError::Qop);
    assert_eq!(error("qop=auth", "qop=auth-int"), CredentialsError::Qop);
    assert_eq!(error("algorithm=MD5", "algorithm=MD5-sess"), CredentialsError::Algorithm);
    assert_eq!(error("realm=", "rea="), CredentialsError::Parameter("realm"));
    assert_eq!(error("opaque=", "nonce="), CredentialsError::Parameter("nonce"));
    assert_eq!(error("nc=00000001, ", ""), CredentialsError::Parameter("nc"));
}

#[test]
fn a_client_answers_both_challenges_and_the_server_agrees() {
    let key = NonceKey::new([7; 32]);
    let nonce = key.issue("acme.example", 1_000, 1);
    let (md5, sha256) = (ha1_md5("101", "acme.example", "pw"), ha1_sha256("101", "acme.example", "pw"));
    let stored = StoredHa1 { md5: Some(&md5), sha256: Some(&sha256) };
    for (challenge, ha1) in challenges("acme.example", &nonce, false).iter().zip([&sha256, &md5]) {
        let challenge = ServerChallenge::parse(challenge).unwrap();
        assert!(!challenge.stale);
        let client = ClientAnswer { username: "101", ha1, cnonce: "c", nc: 10 };
        let answer = challenge.answer(client, "REGISTER", "sip:acme.example");
        let credentials = Credentials::parse(&answer).unwrap();
        assert_eq!(credentials.verify("REGISTER", stored), Verdict::Right);
        assert_eq!((credentials.username, credentials.nonce_count()), ("101", Some(10)));
    }
    let stale = &challenges("acme.example", &nonce, true)[0];
    assert!(ServerChallenge::parse(stale).unwrap().stale);
    assert!(ServerChallenge::parse("Digest realm=\"r\", nonce=\"n\"").is_err());
}

#[test]
fn sha_256_is_offered_first() {
    assert_eq!(
        challenges("r", "n", false),
        [
            "Digest algorithm = SHA-256, realm=\"r\", nonce=\"n\", qop=\"auth\"",
            "Digest algorithm=MD5, realm=\"r\", nonce=\"n\", qop=\"auth\""
        ]
    );
}

#[test]
fn a_nonce_is_fresh_then_stale_and_nobody_else_can_make_it() {
    let key = NonceKey::new([7; 32]);
    let nonce = key.issue("acme.example", 100_000, 1);
    let fresh = NonceState::Fresh { made_ms: 100_000 };
    assert_eq!(key.check("acme.example", &nonce, 100_000, 60_000), fresh);
    assert_eq!(key.check("acme.example", &nonce, 160_000, 60_000), fresh);
    assert_eq!(key.check("acme.example", &nonce, 99_000, 60_000), fresh);
    assert_eq!(key.check("acme.example", &nonce, 160_001, 60_000), NonceState::Stale);
    assert_eq!(key.check("globex.example", &nonce, 100_000, 60_000), NonceState::Forged);
    assert_eq!(NonceKey::new([8; 32]).check("acme.example", &nonce, 100_000, 60_000), NonceState::Forged);
    assert_ne!(nonce, key.issue("acme.example", 100_000, 2), "those of one moment differ");
    let later = nonce.replacen("186a0", "186a1", 1);
    assert_eq!(key.check("acme.example", &later, 100_000, 60_000), NonceState::Forged);
    for text in ["", "x", &nonce[1..], &"ä".repeat(32), &"0".repeat(64)] {
        assert_eq!(key.check("acme.example", text, 100_000, 60_000), NonceState::Forged);
    }
}
