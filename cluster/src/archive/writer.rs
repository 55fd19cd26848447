//! The archive's thread: writes what apply handed over to the segments, then indexes it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::ArchiveError;
use super::index::Indexed;
use super::queue::Round;
use super::rebuild::{Rebuild, Step, indexed};
use super::record::{STREAMS, ordinal};
use super::store::{ArchiveShared, IndexState, Written};
use crate::health::{Health, Part};
use crate::segment::{Cursor, Segments};
use crate::thread::Worker;

/// One segment store per stream, and whom to tell.
pub(crate) struct Writer {
    pub(crate) stores: Vec<Segments>,
    pub(crate) shared: Arc<ArchiveShared>,
    pub(crate) health: Arc<Health>,
    pub(crate) index_at: PathBuf,
    /// While the index is behind or of no use.
    pub(crate) rebuild: Option<Rebuild>,
}

/// Bytes of a stream that are written and not synced, at most: they are kept in memory.
const UNSYNCED_MAX: usize = 1024 * 1024;

impl Worker for Writer {
    const NAME: &'static str = "archive";

    /// Serves until told to stop; while an index is made it waits for work no longer than that takes.
    fn run(mut self) {
        let mut patience = Duration::ZERO;
        loop {
            let queue = &self.shared.queue;
            let round = if self.rebuild.is_some() { queue.take_within(patience) } else { queue.take() };
            if let Some(tell) = self.round(round) {
                return self.close(tell);
            }
            patience = self.rebuild_some();
        }
    }

    #[cfg(feature = "faults")]
    async fn simulate(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            shared.queue.gathered().await;
            if let Some(tell) = self.round(shared.queue.take_within(Duration::ZERO)) {
                return self.close(tell);
            }
            self.rebuild_some();
        }
    }
}

impl Writer {
    fn close(self, tell: oneshot::Sender<()>) {
        self.shared.set_index(IndexState::Closed);
        drop(self);
        let _ = tell.send(());
    }

    fn round(&mut self, round: Round) -> Option<oneshot::Sender<()>> {
        let Round { appends, syncs, stop } = round;
        let handed = appends.len() as u64;
        let result = self.write(appends, !syncs.is_empty() || stop.is_some()).map_err(|e| e.to_string());
        if let Err(why) = &result {
            tracing::error!(why, "the archive can't be written");
        }
        let mut progress = self.shared.progress();
        progress.indexed += handed;
        progress.failed = progress.failed.take().or(result.err());
        let outcome = progress.failed.clone().map_or(Ok(()), Err);
        drop(progress);
        self.shared.moved.notify_all();
        for tell in syncs {
            let _ = tell.send(outcome.clone());
        }
        stop
    }

    /// A piece of an index's rebuilding. How long the next may wait.
    fn rebuild_some(&mut self) -> Duration {
        let Some(rebuild) = &mut self.rebuild else { return Duration::ZERO };
        match rebuild.step(&self.stores) {
            Step::On(percent, pause) => {
                self.shared.set_index(IndexState::Rebuilding(percent));
                pause
            }
            Step::Done(index) => {
                tracing::warn!("the archive's index is whole again");
                self.shared.set_index(IndexState::Ready(index));
                self.rebuild = None;
                Duration::ZERO
            }
        }
    }

    /// Adds to the index. One that refuses is of no use any more.
    fn index(&mut self, records: &[Indexed]) {
        if self.rebuild.is_some() || records.is_empty() {
            return;
        }
        let put = self.shared.index().and_then(|index| index.put(records));
        if let Err(error) = put {
            tracing::error!(%error, "the archive's index fails and is made anew while the node works");
            metrics::counter!("tandem_archive_index_lost_total").increment(1);
            self.shared.set_index(IndexState::Rebuilding(0));
            self.rebuild = Some(Rebuild::anew(&self.index_at));
        }
    }

    fn write(&mut self, appends: Vec<Vec<Written>>, sync: bool) -> Result<(), ArchiveError> {
        let health = &self.health;
        for store in self.stores.iter_mut().filter(|store| store.full()) {
            health.persist(Part::Archive, || store.roll())?;
        }
        let mut records = Vec::new();
        for written in appends.into_iter().flatten() {
            let Some(store) = self.stores.get_mut(ordinal(written.stream)) else { continue };
            let seq = store.next();
            let location = store.append(&written.stored.0)?;
            records.push(Indexed { stream: written.stream, seq, location, by: written.by });
        }
        for store in &mut self.stores {
            let sync = sync || store.unsynced() > UNSYNCED_MAX;
            health.persist(Part::Archive, || {
                if sync { store.sync().and_then(|()| store.mark()) } else { store.write() }
            })?;
        }
        metrics::counter!("tandem_archive_records_total").increment(records.len() as u64);
        self.index(&records);
        self.follow_moves()
    }

    /// Records that went to a new file are found there, those of earlier rounds too. A rebuilding index may have their
    /// old places: it begins anew.
    fn follow_moves(&mut self) -> Result<(), ArchiveError> {
        let mut again = Vec::new();
        for (stream, store) in STREAMS.into_iter().zip(&mut self.stores) {
            let first = store.take_moved().iter().map(|moved| moved.number).min();
            if let Some(first) = first {
                let mut cursor = Cursor::at(first);
                while cursor.number() < store.next() {
                    again.extend(indexed(stream, store.reader().pass(&mut cursor)?)?);
                }
            }
        }
        if self.rebuild.is_some() && !again.is_empty() {
            self.rebuild = Some(Rebuild::anew(&self.index_at));
        }
        self.index(&again);
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}
