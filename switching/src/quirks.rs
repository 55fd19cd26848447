//! What is known of phones that can't do what the RFCs ask of them. Each entry says what was seen, and where.

use tandem_sip::uri::Uri;

/// Phones that give up on a challenge when any `WWW-Authenticate` of it names another algorithm than MD5, instead of
/// passing over it (RFC 8760 section 2.4). By the beginning of their `User-Agent`.
///
/// Seen: baresip 1.0 with libre 1.1 (Debian 12) answers a SHA-256 challenge with «Function not implemented», in either
/// order of the two.
const MD5_ALONE: [&str; 2] = ["baresip v0.", "baresip v1."];

/// Whether a phone with this `User-Agent` may be offered SHA-256 beside MD5.
pub fn takes_sha256(user_agent: &str) -> bool {
    !MD5_ALONE.iter().any(|old| user_agent.starts_with(old))
}

/// Whether the `uri` in a phone's credentials stands for the URI that its request asks for (RFC 7616 section 3.4.6): so
/// proof for one number is none for another. What differs on the way of honest requests is passed over:
/// - Port, parameters and headers: phones and proxies add and drop them.
/// - A host, where one of both is an address: the URI was rewritten by a router on the way.
/// - All of it, when no user was signed: such a phone names the server that it sends to, which protects no number, and
///   a phone that signs a user is not weakened by it.
///
/// Seen: SIPp 3.6 signs `sip:` with the address and port that it sends to, in every request.
pub fn signs(signed: &str, asked: &str) -> bool {
    if signed == asked {
        return true;
    }
    let (Ok(signed), Ok(asked)) = (Uri::parse(signed), Uri::parse(asked)) else { return false };
    let same_host =
        signed.host.eq_ignore_ascii_case(asked.host) || signed.ip().is_some() || asked.ip().is_some();
    match signed.user_text() {
        Some(user) => asked.user_text() == Some(user) && same_host,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_phones_known_to_fail_are_spared_sha256() {
        assert!(!takes_sha256("baresip v1.0.0 (x86_64/linux)"));
        assert!(takes_sha256("baresip v3.5.0 (x86_64/linux)"));
        assert!(takes_sha256(""));
    }

    #[test]
    fn credentials_for_one_number_are_none_for_another() {
        assert!(signs("sip:102@acme.example", "sip:102@acme.example"));
        assert!(!signs("sip:102@acme.example", "sip:+449000@acme.example"));
        assert!(!signs("sip:102@acme.example", "sip:102@globex.example"));
        assert!(!signs("sip:101@acme.example", "sip:acme.example"));
        assert!(!signs("no uri", "sip:acme.example"));
        assert!(signs("*", "*"), "what neither side can read is at least the same");
    }

    #[test]
    fn what_phones_and_routers_change_on_the_way_is_passed_over() {
        assert!(signs("sip:102@ACME.example;user=phone", "sip:102@acme.example:5060;transport=tcp"));
        assert!(signs("sip:%31%302@acme.example", "sip:102@192.0.2.7"));
        assert!(signs("sip:127.0.0.1:5060", "sip:102@acme.example"), "SIPp");
    }
}
