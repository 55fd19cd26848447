//! Digest authentication (RFC 3261 section 22, RFC 7616, RFC 8760): SHA-256 is offered first, MD5 after it for old phones.
//!
//! We keep only HA1 (the hash of user, realm and password), never the password. Nonces carry their own time and a
//! proof that we made them, so that any node of the cluster can check any nonce and none is stored. Which uses of a nonce a
//! node has seen is kept in [`UsedNonces`], by each node for itself.

mod client;
mod credentials;
mod nonce;
mod used;

use md5::{Digest, Md5};
use sha2::Sha256;

pub use client::{ChallengeError, ClientAnswer, ServerChallenge};
pub use credentials::{Credentials, CredentialsError, StoredHa1, Verdict};
pub use nonce::{NonceKey, NonceState};
pub use used::UsedNonces;

/// The hash of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// RFC 8760.
    Sha256,
    /// RFC 3261; what old phones know.
    Md5,
}

impl Algorithm {
    /// The token in the `algorithm` parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    /// The algorithm of this token, without case; the `-sess` variants are not ours.
    pub fn parse(token: &str) -> Option<Self> {
        [Self::Sha256, Self::Md5].into_iter().find(|a| a.as_str().eq_ignore_ascii_case(token))
    }

    fn hash(self, parts: &[&str]) -> String {
        match self {
            Self::Sha256 => joined::<Sha256>(parts),
            Self::Md5 => joined::<Md5>(parts),
        }
    }
}

/// HA1 with MD5, lowercase hex.
pub fn ha1_md5(user: &str, realm: &str, password: &str) -> String {
    Algorithm::Md5.hash(&[user, realm, password])
}

/// HA1 with SHA-256, lowercase hex.
pub fn ha1_sha256(user: &str, realm: &str, password: &str) -> String {
    Algorithm::Sha256.hash(&[user, realm, password])
}

/// The values of the two WWW-Authenticate (or Proxy-Authenticate) headers of a 401 (407), strongest first.
pub fn challenges(realm: &str, nonce: &str, stale: bool) -> [String; 2] {
    [Algorithm::Sha256, Algorithm::Md5].map(|algorithm| challenge(realm, nonce, algorithm, stale))
}

/// One challenge. Realm and nonce are ours and hold no quotes.
pub fn challenge(realm: &str, nonce: &str, algorithm: Algorithm, stale: bool) -> String {
    let stale = if stale { ", stale=true" } else { "" };
    // Blanks around `=` are legal (RFC 3261 section 25.1, EQUAL). SIPp 3.6 takes the first `algorithm=` of all challenges
    // and gives up when it isn't MD5: it passes over this form, as every parser that knows no blanks falls back to MD5.
    let algorithm = match algorithm {
        Algorithm::Sha256 => "algorithm = SHA-256",
        Algorithm::Md5 => "algorithm=MD5",
    };
    format!("Digest {algorithm}, realm=\"{realm}\", nonce=\"{nonce}\", qop=\"auth\"{stale}")
}

/// The hash of the parts joined by colons, lowercase hex.
fn joined<D: Digest>(parts: &[&str]) -> String {
    let mut hash = D::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            hash.update(b":");
        }
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// RFC 7616 section 3.4.1 with qop=auth.
fn response(algorithm: Algorithm, ha1: &str, fresh: [&str; 3], method: &str, uri: &str) -> String {
    let [nonce, nc, cnonce] = fresh;
    let ha2 = algorithm.hash(&[method, uri]);
    algorithm.hash(&[ha1, nonce, nc, cnonce, "auth", &ha2])
}

#[cfg(test)]
mod tests;
