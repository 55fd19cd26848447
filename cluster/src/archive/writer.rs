//! The archive's thread: writes what apply handed over to the segments, then indexes it.

use std::sync::{Arc, PoisonError};

use super::ArchiveError;
use super::index::Indexed;
use super::queue::Round;
use super::record::ordinal;
use super::store::{ArchiveShared, Written};
use crate::segment::Segments;

/// One segment store per stream, and whom to tell.
pub(crate) struct Writer {
    pub(crate) stores: Vec<Segments>,
    pub(crate) shared: Arc<ArchiveShared>,
}

impl Writer {
    /// Serves until told to stop.
    pub(crate) fn run(mut self) {
        loop {
            if let Some(tell) = self.round() {
                self.shared.index.write().unwrap_or_else(PoisonError::into_inner).take();
                drop(self);
                let _ = tell.send(());
                return;
            }
        }
    }

    fn round(&mut self) -> Option<tokio::sync::oneshot::Sender<()>> {
        let Round { appends, syncs, stop } = self.shared.queue.take();
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

    fn write(&mut self, appends: Vec<Vec<Written>>, sync: bool) -> Result<(), ArchiveError> {
        let mut indexed = Vec::new();
        for written in appends.into_iter().flatten() {
            let Some(store) = self.stores.get_mut(ordinal(written.stream)) else { continue };
            if store.full() {
                store.roll()?;
            }
            let seq = store.next();
            let location = store.append(&written.stored.0)?;
            indexed.push(Indexed { stream: written.stream, seq, location, by: written.by });
        }
        for store in &mut self.stores {
            if sync {
                store.sync()?;
                store.mark()?;
            } else {
                store.write()?;
            }
        }
        metrics::counter!("tandem_archive_records_total").increment(indexed.len() as u64);
        if indexed.is_empty() { Ok(()) } else { self.shared.index()?.put(&indexed) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}
