//! Whether this node knows of a quorum right now: what it may answer at once instead of after a proposal's deadline.
//!
//! It is a hint, and gives no authority: a leader that lost its quorum still calls itself one for a while, so its role is
//! not looked at, only when a quorum last answered it; a follower goes by the last append that it took. In a cluster of
//! more than three voters a leader that lost its quorum but not this follower is believed until it steps down: then, as
//! ever, the proposal's deadline says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::RaftMetrics;
use openraft::raft::AppendEntriesResponse;
use tokio::time::Instant;

use crate::config::Timing;
use crate::node::Node;
use crate::raft::Types;

/// An ordinary election ends within two election timeouts (the dead leader's lease, then a candidate's wait): requests
/// that come meanwhile wait for it.
const ELECTIONS: u32 = 3;

/// When this node last heard its leader.
#[derive(Debug)]
pub(crate) struct Heard {
    started: Instant,
    /// Milliseconds since `started`, and one; 0: never.
    at_ms: AtomicU64,
}

impl Heard {
    pub(crate) fn never() -> Heard {
        Heard { started: Instant::now(), at_ms: AtomicU64::new(0) }
    }

    /// An append was answered: one with a higher vote comes from no leader of ours.
    pub(crate) fn answered(&self, response: &AppendEntriesResponse<Types>) {
        if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
            self.now();
        }
    }

    fn now(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.at_ms.store(ms + 1, Ordering::Relaxed);
    }

    fn age(&self) -> Option<Duration> {
        let at_ms = self.at_ms.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.started.elapsed().saturating_sub(Duration::from_millis(at_ms)))
    }
}

impl Node {
    /// See `Cluster::has_quorum`.
    pub(crate) fn has_quorum(&self) -> bool {
        use openraft::async_runtime::WatchReceiver;
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        is_alone(&metrics) || is_known(self.timing, [acknowledged(&metrics), self.heard.age()])
    }
}

/// A cluster of this node alone needs nobody's answer.
fn is_alone(metrics: &RaftMetrics<Types>) -> bool {
    metrics.current_leader == Some(metrics.id) && metrics.membership_config.voter_ids().eq([metrics.id])
}

/// As a leader: how long ago a quorum answered.
fn acknowledged(metrics: &RaftMetrics<Types>) -> Option<Duration> {
    use openraft::Instant as _;
    let last = metrics.last_quorum_acked?;
    Some(last.elapsed())
}

fn is_known(timing: Timing, ages: [Option<Duration>; 2]) -> bool {
    ages.into_iter().flatten().any(|age| age <= timing.election_max * ELECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_known_for_three_elections_after_its_last_sign_on_either_side() {
        let timing = Timing { election_max: Duration::from_millis(100), ..Timing::default() };
        let ms = |ms| Some(Duration::from_millis(ms));
        assert!(!is_known(timing, [None, None]));
        assert!(is_known(timing, [ms(300), None]));
        assert!(is_known(timing, [ms(9_000), ms(0)]));
        assert!(!is_known(timing, [ms(301), ms(301)]));
    }

    #[test]
    fn a_sender_of_a_lower_vote_is_not_heard_as_the_leader() {
        let heard = Heard::never();
        assert_eq!(heard.age(), None);
        heard.answered(&AppendEntriesResponse::HigherVote(crate::raft::Vote::new(2, 1)));
        assert_eq!(heard.age(), None);
        heard.answered(&AppendEntriesResponse::Success);
        assert!(heard.age().is_some());
    }
}
