//! Which uses of nonces have been seen (RFC 7616 section 3.4, `nc`), in bounded memory.
//!
//! A nonce itself needs no memory; what is kept here is one small window for each nonce with which somebody proved a
//! password. Windows go when their nonce is stale anyway. When there are too many the oldest goes early, and with it every
//! nonce that is as old and not known here: those are asked anew, so that nothing forgotten can be repeated.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// Uses behind the latest one that are still told apart: requests may overtake each other on their way.
const WINDOW: u32 = 64;

/// A nonce with the user who answered it: by the time it was made, then by a hash of both.
type Used = (u64, [u8; 16]);

/// The nonces that were answered here.
#[derive(Debug)]
pub struct UsedNonces {
    windows: BTreeMap<Used, Window>,
    windows_max: usize,
    /// Nonces made before this and not known here are not taken.
    floor_ms: u64,
}

/// The uses of one nonce: bit `n` is the use `n` before the latest.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    latest: u32,
    seen: u64,
}

impl UsedNonces {
    /// Nothing is known of nonces made before `now_ms`, so those are not taken; at most `windows_max` (and one) are known
    /// at a time.
    pub fn since(now_ms: u64, windows_max: usize) -> Self {
        Self { windows: BTreeMap::new(), windows_max, floor_ms: now_ms }
    }

    /// Takes the `nc`-th use of a nonce by a user who has proved the password; false when it was taken before, or when
    /// that is not known. `stale_before_ms` is the making time below which nonces are refused anyway.
    pub fn take(&mut self, stale_before_ms: u64, made_ms: u64, nonce: &str, user: &str, nc: u32) -> bool {
        self.forget_before(stale_before_ms);
        let used = (made_ms, digest(nonce, user));
        if !self.windows.contains_key(&used) && made_ms < self.floor_ms {
            return false;
        }
        let fresh = self.windows.entry(used).or_default().take(nc);
        if self.windows.len() > self.windows_max.max(1)
            && let Some(((oldest_ms, _), _)) = self.windows.pop_first()
        {
            self.floor_ms = self.floor_ms.max(oldest_ms.saturating_add(1));
        }
        fresh
    }

    fn forget_before(&mut self, stale_before_ms: u64) {
        while self.windows.first_key_value().is_some_and(|((made_ms, _), _)| *made_ms < stale_before_ms) {
            self.windows.pop_first();
        }
    }

    /// How many nonces are known.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }
}

impl Window {
    fn take(&mut self, nc: u32) -> bool {
        if nc > self.latest {
            let ahead = nc - self.latest;
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.latest = nc;
            return true;
        }
        let bit = 1u64.checked_shl(self.latest - nc).filter(|_| nc > 0 && self.latest - nc < WINDOW);
        let Some(bit) = bit.filter(|bit| self.seen & bit == 0) else { return false };
        self.seen |= bit;
        true
    }
}

/// The user too, so that nobody uses up what another was asked with.
fn digest(nonce: &str, user: &str) -> [u8; 16] {
    let hash = Sha256::new().chain_update(nonce).chain_update(":").chain_update(user).finalize();
    let mut short = [0; 16];
    short.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(used: &mut UsedNonces, made_ms: u64, nonce: &str, nc: u32) -> bool {
        used.take(0, made_ms, nonce, "101", nc)
    }

    #[test]
    fn each_use_of_a_nonce_is_taken_once_also_out_of_order() {
        let mut used = UsedNonces::since(0, 9);
        let mut taken = |nc| take(&mut used, 5, "a", nc);
        assert_eq!(
            [taken(1), taken(1), taken(3), taken(2), taken(2), taken(3)],
            [true, false, true, true, false, false]
        );
        assert_eq!(
            [taken(70), taken(6), taken(7), taken(7)],
            [true, false, true, false],
            "behind the window: not known"
        );
        assert_eq!([taken(0), taken(u32::MAX), taken(u32::MAX), taken(70)], [false, true, false, false]);
    }

    #[test]
    fn users_with_the_same_nonce_count_by_themselves() {
        let mut used = UsedNonces::since(0, 9);
        assert!(used.take(0, 5, "a", "101", 1));
        assert!(used.take(0, 5, "a", "102", 1));
        assert!(!used.take(0, 5, "a", "101", 1));
    }

    #[test]
    fn nonces_from_before_the_start_are_not_taken() {
        let mut used = UsedNonces::since(100, 9);
        assert!(!take(&mut used, 99, "a", 1));
        assert!(take(&mut used, 100, "b", 1));
    }

    #[test]
    fn stale_nonces_are_forgotten() {
        let mut used = UsedNonces::since(0, 9);
        assert!(take(&mut used, 5, "a", 1));
        assert!(used.take(6, 7, "b", "101", 1));
        assert_eq!(used.len(), 1);
    }

    #[test]
    fn what_is_forgotten_for_want_of_room_cannot_be_repeated() {
        let mut used = UsedNonces::since(0, 2);
        assert!(take(&mut used, 5, "a", 1) && take(&mut used, 6, "b", 1) && take(&mut used, 7, "c", 1));
        assert_eq!(used.len(), 2);
        assert!(!take(&mut used, 5, "a", 1), "forgotten");
        assert!(!take(&mut used, 5, "d", 1), "as old as what was forgotten");
        assert!(take(&mut used, 6, "b", 2) && take(&mut used, 8, "e", 1), "known, and younger");
    }
}
