//! What is known of phones that can't do what the RFCs ask of them. Each entry says what was seen, and where.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_phones_known_to_fail_are_spared_sha256() {
        assert!(!takes_sha256("baresip v1.0.0 (x86_64/linux)"));
        assert!(takes_sha256("baresip v3.5.0 (x86_64/linux)"));
        assert!(takes_sha256(""));
    }
}
