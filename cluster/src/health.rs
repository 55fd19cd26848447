//! How this node's disk is, by what its stores meet, and how long they keep trying.
//!
//! A store that can't write waits here with its reply withheld: an error given back to Raft would end it for good, and a
//! reply would acknowledge what is on no disk. A full disk is waited for as long as it takes; one that fails is tried for
//! [`FAILING_MAX`], then the node stops. A slow one is only told of: who leads hands over (`abdicate::tend`).

mod pace;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::segment::SegmentError;
use crate::status::StorageState;
use pace::Pace;

/// What writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Log,
    Archive,
    Snapshots,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Health {
    stopping: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What each part met and has not got over.
    troubles: [Option<Trouble>; 3],
    pace: Pace,
    /// When the log's flush that is under way began.
    flushing: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Trouble {
    state: StorageState,
    why: String,
    since: Instant,
}

/// A disk that fails is tried for so long.
const FAILING_MAX: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// A flush that has not ended by then counts as slow.
const STALLED: Duration = Duration::from_secs(1);

impl Health {
    /// Does `step` until it succeeds, the node stops, or the trouble is none that passes.
    pub(crate) fn persist<T>(
        &self,
        part: Part,
        mut step: impl FnMut() -> Result<T, SegmentError>,
    ) -> Result<T, SegmentError> {
        loop {
            match step() {
                Ok(done) => {
                    self.got_over(part);
                    return Ok(done);
                }
                Err(error) => self.met(part, error)?,
            }
            self.pause();
        }
    }

    /// Notes a trouble; gives it back when there is no use in trying again.
    fn met(&self, part: Part, error: SegmentError) -> Result<(), SegmentError> {
        let SegmentError::Io { source, .. } = &error else { return Err(error) };
        let state = if is_full(source) { StorageState::Full } else { StorageState::Failing };
        let mut inner = self.inner();
        let Some(slot) = inner.troubles.get_mut(part as usize) else { return Err(error) };
        let since = slot.as_ref().filter(|known| known.state == state).map(|known| known.since);
        if since.is_none() {
            tracing::error!(?part, %error, state = state.word(), "the disk takes no writes: nothing is acknowledged");
        }
        let since = since.unwrap_or_else(Instant::now);
        *slot = Some(Trouble { state, why: error.to_string(), since });
        drop(inner);
        metrics::counter!("tandem_storage_errors_total", "kind" => state.word()).increment(1);
        self.gauge();
        let hopeless = state == StorageState::Failing && since.elapsed() > FAILING_MAX;
        if hopeless || self.stopping.load(Ordering::Relaxed) { Err(error) } else { Ok(()) }
    }

    fn got_over(&self, part: Part) {
        let over = self.inner().troubles.get_mut(part as usize).and_then(Option::take);
        if let Some(Trouble { state, since, .. }) = over {
            let seconds = since.elapsed().as_secs();
            tracing::warn!(?part, was = state.word(), seconds, "the disk takes writes again");
            self.gauge();
        }
    }

    fn pause(&self) {
        // By simulated time nothing would change meanwhile.
        if !crate::thread::is_simulated() {
            std::thread::sleep(PAUSE);
        }
    }

    /// A flush of the log begins.
    pub(crate) fn flush_begins(&self) {
        self.inner().flushing = Some(Instant::now());
    }

    /// It has ended.
    pub(crate) fn flush_ended(&self) {
        let mut inner = self.inner();
        let Some(took) = inner.flushing.take().map(|began| began.elapsed()) else { return };
        let was = inner.pace.is_slow();
        let is = inner.pace.measured(took);
        drop(inner);
        if was != is {
            let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            match is {
                true => tracing::error!(ms, "the disk is slow: its flushes hold up the cluster"),
                false => tracing::warn!(ms, "the disk is as fast as it should be again"),
            }
            self.gauge();
        }
    }

    /// The worst of what is known, and what it is.
    pub(crate) fn state(&self) -> (StorageState, Option<String>) {
        let inner = self.inner();
        let trouble = inner.troubles.iter().flatten().max_by_key(|trouble| trouble.state);
        if let Some(trouble) = trouble {
            return (trouble.state, Some(trouble.why.clone()));
        }
        let stalled = inner.flushing.is_some_and(|began| began.elapsed() > STALLED);
        if stalled || inner.pace.is_slow() { (StorageState::Slow, None) } else { (StorageState::Ok, None) }
    }

    /// The node is being stopped: who waits gives up.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Figures for the metrics page.
    pub(crate) fn gauge(&self) {
        let (now, _) = self.state();
        for state in [StorageState::Slow, StorageState::Full, StorageState::Failing] {
            let on = f64::from(u8::from(now == state));
            metrics::gauge!("tandem_storage_trouble", "kind" => state.word()).set(on);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn refused(code: i32) -> SegmentError {
        SegmentError::io(Path::new("a.seg"), std::io::Error::from_raw_os_error(code))
    }

    #[test]
    fn a_full_disk_is_waited_for_and_told_of_meanwhile() {
        let health = Health::default();
        let mut tries = 0;
        let done = health.persist(Part::Log, || {
            tries += 1;
            if tries > 2 {
                let (state, why) = health.state();
                assert_eq!(state, StorageState::Full);
                assert!(why.is_some_and(|why| why.contains("a.seg")));
                return Ok(tries);
            }
            Err(refused(28))
        });
        assert_eq!(done.unwrap(), 3);
        assert_eq!(health.state(), (StorageState::Ok, None));
    }

    #[test]
    fn a_node_that_stops_waits_no_longer() {
        let health = Health::default();
        health.stop();
        let done: Result<(), _> = health.persist(Part::Archive, || Err(refused(28)));
        assert!(matches!(done, Err(SegmentError::Io { .. })));
    }

    #[test]
    fn rot_is_never_tried_again() {
        let health = Health::default();
        let rot = || Err(SegmentError::rot(Path::new("a.seg"), 0, "it is damaged"));
        let done: Result<(), _> = health.persist(Part::Log, rot);
        assert!(matches!(done, Err(SegmentError::Rot { .. })));
        assert_eq!(health.state().0, StorageState::Ok);
    }
}
