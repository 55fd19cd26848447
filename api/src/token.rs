//! API tokens: 256 random bits, shown once, kept as SHA-256.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tandem_state::{ClusterTime, TokenRecord, TokenScope};

/// What every token begins with, so that scanners for leaked secrets can find them.
const PREFIX: &str = "tandem_";

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRandomness;

/// A fresh token with its record. The secret is in no log and no state: whoever asked for it must keep it.
pub fn generate(id: String, scope: TokenScope) -> Result<(String, TokenRecord), NoRandomness> {
    let mut bits = [0_u8; 32];
    getrandom::fill(&mut bits).map_err(|_| NoRandomness)?;
    let secret = format!("{PREFIX}{}", hex(&bits));
    let record = TokenRecord { id, hash: hash(&secret), scope, created: ClusterTime::default() };
    Ok((secret, record))
}

/// Random digits for an id that nobody chose.
pub fn random_id() -> Result<String, NoRandomness> {
    let mut bits = [0_u8; 6];
    getrandom::fill(&mut bits).map_err(|_| NoRandomness)?;
    Ok(format!("tok-{}", hex(&bits)))
}

/// What the state keeps of a token.
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The record of a presented token. Every record is compared in constant time, a match doesn't end the walk.
pub(crate) fn find<'a>(
    records: impl Iterator<Item = &'a TokenRecord>,
    secret: &str,
) -> Option<&'a TokenRecord> {
    let presented = hash(secret);
    records.fold(
        None,
        |found, record| if bool::from(record.hash.ct_eq(&presented)) { Some(record) } else { found },
    )
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_secret_alone() {
        let (secret, record) = generate("one".into(), TokenScope::Operator).unwrap();
        let (_, other) = generate("two".into(), TokenScope::Operator).unwrap();
        let records = [other, record.clone()];
        assert_eq!(find(records.iter(), &secret), Some(&record));
        assert_eq!(find(records.iter(), "tandem_wrong"), None);
        assert_eq!(secret.len(), "tandem_".len() + 64);
    }
}
