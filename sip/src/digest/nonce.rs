//! Nonces that need no memory: the time they were made, a salt that tells those of one moment apart, and a keyed hash over
//! both and the realm.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::hex;

const TIME_DIGITS: usize = 16;
const SALT_DIGITS: usize = 16;
const PROOF_DIGITS: usize = 32;

/// The cluster's secret for nonces.
#[derive(Clone)]
pub struct NonceKey([u8; 32]);

/// What a nonce that came back is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceState {
    /// Ours and young enough.
    Fresh {
        /// When it was made.
        made_ms: u64,
    },
    /// Ours but too old (or from a clock far ahead): ask again with `stale=true`.
    Stale,
    /// Not ours.
    Forged,
}

impl NonceKey {
    /// A key from 32 random bytes.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// A nonce for this realm, made at `now_ms` (any clock that the checking nodes share); `salt` is another one each time.
    pub fn issue(&self, realm: &str, now_ms: u64, salt: u64) -> String {
        let made = format!("{now_ms:0TIME_DIGITS$x}{salt:0SALT_DIGITS$x}");
        let proof = self.proof(realm, &made);
        made + proof.get(..PROOF_DIGITS).unwrap_or_default()
    }

    /// Judges a nonce. One from up to `lifetime_ms` ahead is fresh, because nodes' clocks differ a little.
    pub fn check(&self, realm: &str, nonce: &str, now_ms: u64, lifetime_ms: u64) -> NonceState {
        let Some((made, proof)) = nonce.split_at_checked(TIME_DIGITS + SALT_DIGITS) else {
            return NonceState::Forged;
        };
        if proof.len() != PROOF_DIGITS || !self.is_mine(realm, made, proof) {
            return NonceState::Forged;
        }
        match u64::from_str_radix(made.get(..TIME_DIGITS).unwrap_or_default(), 16) {
            Ok(made_ms) if now_ms.abs_diff(made_ms) <= lifetime_ms => NonceState::Fresh { made_ms },
            Ok(_) => NonceState::Stale,
            Err(_) => NonceState::Forged,
        }
    }

    fn is_mine(&self, realm: &str, made: &str, proof: &str) -> bool {
        let own = self.proof(realm, made);
        let own = own.get(..PROOF_DIGITS).unwrap_or_default();
        subtle::ConstantTimeEq::ct_eq(own.as_bytes(), proof.as_bytes()).into()
    }

    fn proof(&self, realm: &str, made: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(made.as_bytes());
        mac.update(realm.as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey(..)")
    }
}
