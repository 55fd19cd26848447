//! Symmetric RTP (RFC 4961): learning where a far party really is, from where its packets come.
//!
//! Rules, in order:
//! 1. Not symmetric: packets of the described host are taken, and we send to the described address.
//! 2. Before anything is learned, the first valid packet is believed.
//! 3. Once learned, packets from elsewhere are strays, except: the very address that signalling described always wins;
//!    a packet that carries the same stream on (SSRC and next sequence) is believed after a short silence (the
//!    translator changed its port); any other valid packet is believed after a long one.
//! 4. A new description forgets what was learned.
//!
//! So an outsider who sprays packets at our ports can neither cut into a talking party nor redirect it.

use std::net::SocketAddr;

/// Silence after which the same stream may come from a new address.
pub const REBIND_US: u64 = 200_000;
/// Silence after which any valid stream may.
pub const RELEARN_US: u64 = 2_000_000;

/// Where one end's far party is described to be and where it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latch {
    described: Option<SocketAddr>,
    symmetric: bool,
    learned: Option<Learned>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Learned {
    address: SocketAddr,
    last_us: u64,
}

impl Latch {
    /// What signalling says now. Only a changed description forgets what was learned: a hold or a refresh does not.
    pub fn describe(&mut self, remote: Option<SocketAddr>, symmetric: bool) {
        if self.described != remote || self.symmetric != symmetric {
            *self = Self { described: remote, symmetric, learned: None };
        }
    }

    /// Whether a valid packet from `from` is the far party's, and if so remembers it. `continues` is asked only when
    /// it matters: does the packet carry the current stream on?
    pub fn accept(&mut self, now_us: u64, from: SocketAddr, continues: impl FnOnce() -> bool) -> bool {
        let believed = self.believes(now_us, from, continues);
        if believed {
            self.learned = Some(Learned { address: from, last_us: now_us });
        }
        believed
    }

    /// Where to send.
    pub fn target(&self) -> Option<SocketAddr> {
        match self.learned {
            Some(learned) if self.symmetric => Some(learned.address),
            _ => self.described,
        }
    }

    /// Where the far party was seen last.
    pub fn seen(&self) -> Option<SocketAddr> {
        self.learned.map(|learned| learned.address)
    }

    fn believes(&self, now_us: u64, from: SocketAddr, continues: impl FnOnce() -> bool) -> bool {
        if !self.symmetric {
            return self.described.is_some_and(|described| described.ip() == from.ip());
        }
        let Some(learned) = self.learned else { return true };
        let quiet_us = now_us.saturating_sub(learned.last_us);
        learned.address == from
            || self.described == Some(from)
            || quiet_us >= RELEARN_US
            || (quiet_us >= REBIND_US && continues())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("a literal address")
    }

    fn symmetric(remote: &str) -> Latch {
        let mut latch = Latch::default();
        latch.describe(Some(address(remote)), true);
        latch
    }

    #[test]
    fn the_first_packet_is_believed_and_a_stray_is_not() {
        let mut latch = symmetric("10.0.0.1:4000");
        assert_eq!(latch.target(), Some(address("10.0.0.1:4000")));
        assert!(latch.accept(0, address("192.0.2.7:61000"), || false));
        assert!(!latch.accept(20_000, address("192.0.2.66:5"), || true));
        assert_eq!(latch.target(), Some(address("192.0.2.7:61000")));
    }

    #[test]
    fn the_described_address_wins_over_whoever_came_first() {
        let mut latch = symmetric("10.0.0.1:4000");
        assert!(latch.accept(0, address("192.0.2.66:5"), || false));
        assert!(latch.accept(1_000, address("10.0.0.1:4000"), || false));
        assert!(!latch.accept(2_000, address("192.0.2.66:5"), || false));
        assert_eq!(latch.target(), Some(address("10.0.0.1:4000")));
    }

    #[test]
    fn the_same_stream_may_move_after_a_short_silence_and_another_after_a_long_one() {
        let mut latch = symmetric("10.0.0.1:4000");
        assert!(latch.accept(0, address("192.0.2.7:1"), || false));
        assert!(!latch.accept(REBIND_US - 1, address("192.0.2.7:2"), || true));
        assert!(latch.accept(REBIND_US, address("192.0.2.7:2"), || true));
        assert!(!latch.accept(REBIND_US + RELEARN_US - 1, address("192.0.2.8:3"), || false));
        assert!(latch.accept(REBIND_US + RELEARN_US, address("192.0.2.8:3"), || false));
    }

    #[test]
    fn a_new_description_forgets_and_the_same_one_does_not() {
        let mut latch = symmetric("10.0.0.1:4000");
        assert!(latch.accept(0, address("192.0.2.7:1"), || false));
        latch.describe(Some(address("10.0.0.1:4000")), true);
        assert_eq!(latch.target(), Some(address("192.0.2.7:1")));
        latch.describe(Some(address("10.0.0.2:4000")), true);
        assert_eq!(latch.target(), Some(address("10.0.0.2:4000")));
    }

    #[test]
    fn without_symmetry_only_the_described_host_is_heard_and_it_is_sent_to_as_described() {
        let mut latch = Latch::default();
        latch.describe(Some(address("10.0.0.1:4000")), false);
        assert!(!latch.accept(0, address("192.0.2.7:1"), || true));
        assert!(latch.accept(0, address("10.0.0.1:9"), || false));
        assert_eq!(latch.target(), Some(address("10.0.0.1:4000")));
    }
}
