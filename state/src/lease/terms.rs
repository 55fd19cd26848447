//! How long leases are, and what they must be longer than.

use super::AUTHORITY_EARLY_MS;

/// Clocks of two nodes differ in speed by less than this many parts in a thousand.
pub const DRIFT_PER_MILLE: u64 = 10;

/// The spans that leases depend on, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long a renewal holds.
    pub lease_ms: u64,
    /// How often a node renews.
    pub renew_ms: u64,
    /// How much longer than the lease others wait.
    pub margin_ms: u64,
    /// The longest time without a leader when one dies.
    pub election_ms: u64,
    /// The time in which 99 of 100 commands commit.
    pub commit_ms: u64,
}

/// Spans that don't fit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTerms {
    /// A healthy node would lose its lease in an election.
    #[error(
        "a lease of {lease_ms} ms is too short: it must be longer than renew interval, worst election, commit and \
         margin (counted as {early_ms} ms at least) together, {needed_ms} ms; raise the lease or shorten one of them",
        early_ms = AUTHORITY_EARLY_MS
    )]
    LeaseTooShort {
        /// As configured.
        lease_ms: u64,
        /// What it must exceed.
        needed_ms: u64,
    },
    /// Longer than the replicated state takes.
    #[error("a lease of {lease_ms} ms is too long: at most {max_ms} ms")]
    LeaseTooLong {
        /// As configured.
        lease_ms: u64,
        /// The most.
        max_ms: u64,
    },
    /// Clocks that drift would let two nodes act at once.
    #[error(
        "a margin of {margin_ms} ms is too short for clocks that drift: at least {needed_ms} ms for this lease"
    )]
    MarginTooShort {
        /// As configured.
        margin_ms: u64,
        /// The least.
        needed_ms: u64,
    },
    /// A span of nothing.
    #[error("the renew interval must be at least 1 ms")]
    NoInterval,
}

impl Terms {
    /// Whether the spans fit each other.
    pub fn check(&self) -> Result<(), BadTerms> {
        let (lease_ms, margin_ms) = (self.lease_ms, self.margin_ms);
        if self.renew_ms == 0 {
            return Err(BadTerms::NoInterval);
        }
        // Its holder acts on it until a while before its end, however short the margin is.
        let early_ms = margin_ms.max(AUTHORITY_EARLY_MS);
        let spans = [self.renew_ms, self.election_ms, self.commit_ms, early_ms];
        let needed_ms = spans.into_iter().fold(0, u64::saturating_add);
        if lease_ms <= needed_ms {
            return Err(BadTerms::LeaseTooShort { lease_ms, needed_ms });
        }
        let max_ms = crate::bounds::LEASE_MS_MAX;
        if lease_ms > max_ms {
            return Err(BadTerms::LeaseTooLong { lease_ms, max_ms });
        }
        // Both clocks are read in whole milliseconds.
        let needed_ms = (lease_ms * DRIFT_PER_MILLE).div_ceil(1000) + 2;
        if margin_ms < needed_ms {
            return Err(BadTerms::MarginTooShort { margin_ms, needed_ms });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Terms =
        Terms { lease_ms: 1_800, renew_ms: 400, margin_ms: 200, election_ms: 700, commit_ms: 250 };

    #[test]
    fn the_spans_that_we_begin_with_fit_each_other() {
        assert_eq!(FIRST.check(), Ok(()));
    }

    #[test]
    fn a_lease_must_outlast_an_election_between_two_renewals() {
        let short = Terms { lease_ms: 1_550, ..FIRST };
        assert_eq!(short.check(), Err(BadTerms::LeaseTooShort { lease_ms: 1_550, needed_ms: 1_550 }));
        let told = short.check().unwrap_err().to_string();
        assert!(told.contains("1550 ms; raise the lease"), "{told}");
    }

    #[test]
    fn a_short_margin_does_not_make_up_for_authority_that_ends_early() {
        let thin = Terms { margin_ms: 20, ..FIRST };
        let short = Terms { lease_ms: 1_550, ..thin };
        assert_eq!(short.check(), Err(BadTerms::LeaseTooShort { lease_ms: 1_550, needed_ms: 1_550 }));
        assert_eq!(Terms { lease_ms: 1_551, ..thin }.check(), Ok(()));
    }

    #[test]
    fn a_margin_must_outweigh_the_drift_of_clocks() {
        let thin = Terms { margin_ms: 19, ..FIRST };
        assert_eq!(thin.check(), Err(BadTerms::MarginTooShort { margin_ms: 19, needed_ms: 20 }));
        assert_eq!(Terms { margin_ms: 20, ..FIRST }.check(), Ok(()));
    }

    #[test]
    fn spans_out_of_bounds_are_refused() {
        let long = Terms { lease_ms: 60_001, margin_ms: 1_000, ..FIRST };
        assert_eq!(long.check(), Err(BadTerms::LeaseTooLong { lease_ms: 60_001, max_ms: 60_000 }));
        assert_eq!(Terms { renew_ms: 0, ..FIRST }.check(), Err(BadTerms::NoInterval));
        let endless = Terms { election_ms: u64::MAX, ..FIRST };
        assert!(matches!(endless.check(), Err(BadTerms::LeaseTooShort { .. })));
    }
}
