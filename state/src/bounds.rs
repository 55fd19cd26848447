//! How large anything in the state may be, and the checks against it. `apply` refuses what is larger, so that no
//! client, phone or faulty node can make a replica grow without end.

use crate::outcome::Refusal;
use crate::records::Party;

/// Outcomes kept for one node; the oldest are forgotten first.
pub const OUTCOMES_MAX: usize = 4096;
/// Nodes that may propose, former ones included.
pub const WINDOWS_MAX: usize = 1024;
/// Members at once.
pub const NODES_MAX: usize = 64;
/// The longest lease that a node may take.
pub const LEASE_MS_MAX: u64 = 60_000;
/// The lease that each member is given when leases begin; nobody counts on it.
pub const FIRST_LEASE_MS: u64 = 5_000;
/// API tokens.
pub const TOKENS_MAX: usize = 10_000;
/// Idempotency keys of API clients kept at once (before the third rules: of nodes too).
pub const KEYS_MAX: usize = 100_000;
/// How long an idempotency key is kept.
pub const KEY_KEPT_MS: u64 = 24 * 3600 * 1000;
/// Keys of nodes for what they do by themselves. Not less than [`KEYS_MAX`], as all of those kept when the third rules come
/// into force may be of nodes.
pub const NODE_KEYS_MAX: usize = 100_000;
/// How long such a key is kept: longer than its node goes on repeating the command.
pub const NODE_KEY_KEPT_MS: u64 = 600 * 1000;
/// Changes in one `Configure`.
pub const CHANGES_MAX: usize = 65_536;
/// Rows that one `Tick` removes at most; the next one goes on.
pub const EXPIRED_PER_TICK_MAX: usize = 5_000;
/// Bindings of one extension.
pub const BINDINGS_PER_EXTENSION_MAX: usize = 32;
/// The farthest coarse expiry, from the stamp.
pub const BINDING_KEPT_MS: u64 = 30 * 24 * 3600 * 1000;
/// Legs of one call.
pub const LEGS_MAX: usize = 32;
/// Attempts of one call, and so the highest attempt number.
pub const ATTEMPTS_MAX: u32 = 64;
/// Steps on a program's path.
pub const STEPS_MAX: usize = 16;
/// `Path` entries of a binding.
pub const PATH_MAX: usize = 8;
/// Entries of a dialog's route set.
pub const ROUTES_MAX: usize = 16;
/// Bytes of a session description.
pub const SDP_MAX: usize = 16_384;
/// Bytes of an INVITE that is kept.
pub const INVITE_MAX: usize = 8_192;
/// Bytes of a URI or a name-addr as it stands in a SIP header.
pub const URI_MAX: usize = 512;
/// Bytes of a Call-ID.
pub const CALL_ID_MAX: usize = 256;
/// Bytes of a `User-Agent`; longer ones are cut.
pub const USER_AGENT_MAX: usize = 128;
/// Bytes of a party's number; longer ones are cut.
pub const PARTY_NUMBER_MAX: usize = 64;
/// Bytes of a name that is shown; longer ones of parties are cut.
pub const SHOWN_NAME_MAX: usize = 128;
/// Bytes of a name by which something is known (tenant, node, site, token).
pub const NAME_MAX: usize = 63;
/// Bytes of an action in the audit that no other command makes.
pub const ACTION_MAX: usize = 256;
/// Bytes of a domain or host.
pub const HOST_MAX: usize = 253;

/// A refusal of a value.
pub(crate) fn invalid(field: impl Into<String>, why: impl Into<String>) -> Refusal {
    Refusal::Invalid { field: field.into(), why: why.into() }
}

/// Refuses a text that is longer than `max` bytes.
pub(crate) fn at_most(field: &str, text: &str, max: usize) -> Result<(), Refusal> {
    if text.len() > max {
        return Err(invalid(field, format!("is longer than {max} bytes")));
    }
    Ok(())
}

/// Refuses a text that is empty or longer than `max` bytes.
pub(crate) fn some_at_most(field: &str, text: &str, max: usize) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(invalid(field, "is empty"));
    }
    at_most(field, text, max)
}

/// The longest part of a text that fits into `max` bytes and ends between characters.
pub fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// A party as the state keeps it.
pub(crate) fn cut_party(party: &Party) -> Party {
    Party {
        number: cut(&party.number, PARTY_NUMBER_MAX).to_owned(),
        name: cut(&party.name, SHOWN_NAME_MAX).to_owned(),
    }
}

/// A text from outside as it may stand in a refusal.
pub(crate) fn shown(text: &str) -> String {
    cut(text, PARTY_NUMBER_MAX).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("aéb", 2), "a");
        assert_eq!(cut("aéb", 3), "aé");
        assert_eq!(cut("ab", 9), "ab");
        assert_eq!(cut("é", 0), "");
    }
}
