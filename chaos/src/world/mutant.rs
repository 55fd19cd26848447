//! Rules broken on purpose: a simulator that does not notice these within its ordinary seeds is not worth running.

use tandem_state::tables::Window;
use tandem_state::{Batch, ClusterTime, State};

/// A broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// All rules hold.
    None,
    /// A retried proposal is applied again.
    RetryNotDeduplicated,
    /// Outcomes are forgotten that their node still waits for.
    WindowTrimmedTooEarly,
    /// A leader whose clock is behind takes cluster time back.
    TimeGoesBack,
    /// One replica believes its own clock.
    OneReplicaHasItsOwnTime,
    /// A restart from a snapshot forgets which proposals were answered.
    SnapshotWithoutWindows,
    /// A replica skips an entry after a restart.
    EntrySkippedAfterRestart,
}

impl Mutant {
    /// Breaks a state just before it applies an entry.
    pub(super) fn before_apply(self, state: &mut State, replica: u64, batch: &Batch) {
        match self {
            Mutant::RetryNotDeduplicated => each_window(state, |window| window.outcomes.clear()),
            Mutant::TimeGoesBack => state.time = batch.stamp,
            Mutant::OneReplicaHasItsOwnTime if replica == 2 => state.time = state.time.plus_ms(1),
            Mutant::None
            | Mutant::OneReplicaHasItsOwnTime
            | Mutant::WindowTrimmedTooEarly
            | Mutant::SnapshotWithoutWindows
            | Mutant::EntrySkippedAfterRestart => {}
        }
    }

    /// Breaks a state just after it applied an entry.
    pub(super) fn after_apply(self, state: &mut State) {
        if self == Mutant::WindowTrimmedTooEarly {
            each_window(state, |window| {
                let newest = window.outcomes.get_max().map_or(0, |(seq, _)| *seq);
                window.low_water = window.low_water.max(newest);
                window.outcomes = window.outcomes.split(&newest).1;
            });
        }
    }

    /// Breaks a state that was just read from a snapshot.
    pub(super) fn after_restart(self, state: &mut State) {
        match self {
            Mutant::SnapshotWithoutWindows => each_window(state, |window| window.outcomes.clear()),
            Mutant::EntrySkippedAfterRestart => state.position += 1,
            Mutant::None
            | Mutant::RetryNotDeduplicated
            | Mutant::WindowTrimmedTooEarly
            | Mutant::TimeGoesBack
            | Mutant::OneReplicaHasItsOwnTime => {}
        }
    }
}

fn each_window(state: &mut State, edit: impl Fn(&mut Window)) {
    let nodes: Vec<_> = state.windows.keys().copied().collect();
    for node in nodes {
        if let Some(window) = state.windows.get_mut(&node) {
            edit(window);
        }
    }
}

/// Cluster time of an entry as the leader's clock says it.
pub(super) fn stamp(now_ms: u64, offset_ms: i64) -> ClusterTime {
    ClusterTime(1_000_000_u64.saturating_add(now_ms).saturating_add_signed(offset_ms))
}
