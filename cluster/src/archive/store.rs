//! The archive's writing side: apply hands records over, the [`writer`](super::writer) writes and indexes them.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tandem_state::archive::{ArchiveRecord, Stream, StreamHead};
use tokio::sync::oneshot;

use super::index::{By, Index};
use super::queue::Queue;
use super::rebuild::{Rebuild, Step};
use super::record::{STREAMS, Stored, directory, extend, ordinal};
use super::sled_index::SledIndex;
use super::whole::Checked;
use super::writer::Writer;
use super::{Archive, ArchiveError};
use crate::disk::Disk;
use crate::health::Health;
use crate::segment::{Cursor, Reader, SegmentError, Segments};
use crate::thread;

/// What readers share with the thread.
pub(crate) struct ArchiveShared {
    index: RwLock<IndexState>,
    readers: [Reader; 3],
    pub(super) checked: Checked,
    pub(super) queue: Queue,
    progress: Mutex<Progress>,
    pub(super) moved: Condvar,
}

/// Whether the index can be asked.
#[derive(Debug)]
pub(super) enum IndexState {
    Ready(Arc<SledIndex>),
    /// So much of a hundred is done.
    Rebuilding(u8),
    Closed,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Hand-overs by apply, and those indexed.
    handed: u64,
    pub(super) indexed: u64,
    pub(super) failed: Option<String>,
}

/// Apply's end.
pub(crate) struct ArchiveStore {
    heads: [StreamHead; 3],
    shared: Arc<ArchiveShared>,
}

/// A record on its way to the disk.
pub(crate) struct Written {
    pub(crate) stream: Stream,
    pub(crate) by: By,
    pub(crate) stored: Stored,
}

impl ArchiveStore {
    /// Opens or makes the archive in `path`, brings its index up to date and starts its thread.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        health: &Arc<Health>,
        path: &Path,
        segment_bytes: u64,
    ) -> Result<ArchiveStore, ArchiveError> {
        let mut heads = [StreamHead::default(); 3];
        let mut stores = Vec::new();
        for (stream, head) in STREAMS.into_iter().zip(&mut heads) {
            let directory = path.join(directory(stream));
            let store = Segments::open(disk, &directory, segment_bytes, false, &mut |_, _, _| Ok(()))?;
            if store.oldest() > 0 {
                return Err(lacking(&directory, 0, store.oldest()));
            }
            *head = last_head(&store)?;
            stores.push(store);
        }
        let index_at = path.join("index");
        let (index, rebuild) = open_index(&index_at, &stores);
        let readers = reader_array(&stores)?;
        let shared = Arc::new(ArchiveShared {
            index: RwLock::new(index),
            readers,
            checked: Checked::default(),
            queue: Queue::default(),
            progress: Mutex::default(),
            moved: Condvar::new(),
        });
        let health = Arc::clone(health);
        let writer = Writer { stores, shared: Arc::clone(&shared), health, index_at, rebuild };
        thread::start(writer).map_err(|e| ArchiveError::Storage(e.to_string()))?;
        Ok(ArchiveStore { heads, shared })
    }

    /// A handle for readers.
    pub(crate) fn reader(&self) -> Archive {
        Archive { shared: Arc::clone(&self.shared) }
    }

    /// A stream's head with everything handed over.
    pub(crate) fn head(&self, stream: Stream) -> StreamHead {
        self.heads.get(ordinal(stream)).copied().unwrap_or_default()
    }

    /// Whether it has a stream's records up to where a snapshot says that it goes.
    pub(crate) fn check_reaches(&self, stream: Stream, count: u64) -> Result<(), ArchiveError> {
        let found = self.head(stream).count;
        if found >= count {
            return Ok(());
        }
        Err(lacking(self.shared.reader(stream)?.directory(), found, count))
    }

    /// Hands over what `apply` made. Records that are there already (after a restart) are skipped; a gap is an error.
    pub(crate) fn append(&mut self, records: &[ArchiveRecord]) -> Result<(), ArchiveError> {
        let mut written = Vec::new();
        for record in records {
            let head = self.head_mut(record.stream);
            if record.seq < head.count {
                continue;
            }
            if record.seq > head.count {
                let why =
                    format!("{:?} {} follows {}: records are missing", record.stream, record.seq, head.count);
                return Err(ArchiveError::Storage(why));
            }
            let bytes = postcard::to_stdvec(record).map_err(|e| ArchiveError::Storage(e.to_string()))?;
            *head = extend(*head, &bytes);
            let stored = Stored::new(head.chain, &bytes);
            written.push(Written { stream: record.stream, by: By::from(record), stored });
        }
        self.hand_over(written)
    }

    /// Adds records that were fetched from a peer, whose chain was checked by the caller.
    pub(crate) fn append_fetched(
        &mut self,
        stream: Stream,
        records: Vec<Stored>,
    ) -> Result<(), ArchiveError> {
        let mut written = Vec::new();
        for stored in records {
            let record = stored.decode()?;
            let head = self.head_mut(stream);
            let next = extend(*head, stored.record());
            if record.stream != stream || record.seq != head.count || stored.chain() != Some(next.chain) {
                return Err(ArchiveError::Storage("a fetched record is not the next of its stream".into()));
            }
            *head = next;
            written.push(Written { stream, by: By::from(&record), stored });
        }
        self.hand_over(written)
    }

    fn head_mut(&mut self, stream: Stream) -> &mut StreamHead {
        let [cdrs, events, audit] = &mut self.heads;
        match stream {
            Stream::Cdrs => cdrs,
            Stream::Events => events,
            Stream::Audit => audit,
        }
    }

    fn hand_over(&self, written: Vec<Written>) -> Result<(), ArchiveError> {
        if written.is_empty() {
            return Ok(());
        }
        let mut progress = self.shared.progress();
        if let Some(why) = &progress.failed {
            return Err(ArchiveError::Storage(why.clone()));
        }
        progress.handed += 1;
        drop(progress);
        self.shared.queue.push(written).map_err(|_| closed())
    }

    /// A handle that makes everything handed over so far durable.
    pub(crate) fn sync_handle(&self) -> ArchiveSync {
        ArchiveSync { shared: Arc::clone(&self.shared) }
    }
}

/// Records `from` up to `end` are gone, which is to be told where the rest lies.
fn lacking(directory: &Path, from: u64, end: u64) -> ArchiveError {
    let what = format!("the records {from} to {}", end.saturating_sub(1));
    SegmentError::Missing { path: directory.to_owned(), what }.into()
}

fn closed() -> ArchiveError {
    ArchiveError::Storage("the archive is closed".into())
}

/// See [`ArchiveStore::sync_handle`].
#[derive(Clone)]
pub(crate) struct ArchiveSync {
    shared: Arc<ArchiveShared>,
}

impl ArchiveSync {
    pub(crate) async fn sync(&self) -> Result<(), ArchiveError> {
        let (tell, told) = oneshot::channel();
        self.shared.queue.sync(tell).map_err(|_| closed())?;
        told.await.map_err(|_| closed())?.map_err(ArchiveError::Storage)
    }

    /// Syncs and closes the files.
    pub(crate) async fn close(&self) {
        let (tell, told) = oneshot::channel();
        if self.shared.queue.stop(tell).is_ok() {
            let _ = told.await;
        }
    }
}

impl ArchiveShared {
    pub(crate) fn index(&self) -> Result<Arc<dyn Index>, ArchiveError> {
        match &*self.index.read().unwrap_or_else(PoisonError::into_inner) {
            IndexState::Ready(index) => Ok(Arc::clone(index) as Arc<dyn Index>),
            IndexState::Rebuilding(percent) => Err(ArchiveError::Rebuilding { percent: *percent }),
            IndexState::Closed => Err(closed()),
        }
    }

    /// The index with everything that was handed over before this call.
    pub(crate) fn index_now(&self) -> Result<Arc<dyn Index>, ArchiveError> {
        let index = self.index()?;
        self.wait_indexed();
        Ok(index)
    }

    pub(super) fn set_index(&self, state: IndexState) {
        let percent = if let IndexState::Rebuilding(percent) = state { f64::from(percent) } else { 100.0 };
        metrics::gauge!("tandem_archive_index_percent").set(percent);
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// How far the index is, while it is made anew.
    pub(crate) fn rebuilding(&self) -> Option<u8> {
        match &*self.index.read().unwrap_or_else(PoisonError::into_inner) {
            IndexState::Rebuilding(percent) => Some(*percent),
            IndexState::Ready(_) | IndexState::Closed => None,
        }
    }

    pub(super) fn reader(&self, stream: Stream) -> Result<&Reader, ArchiveError> {
        self.readers.get(ordinal(stream)).ok_or_else(closed)
    }

    /// The stored record of a number.
    pub(crate) fn stored(&self, stream: Stream, seq: u64) -> Result<Stored, ArchiveError> {
        match self.index()?.location(stream, seq)? {
            Some(location) => Ok(Stored(self.reader(stream)?.read(location)?)),
            None => Err(ArchiveError::Storage(format!("{stream:?} {seq} is not in the index"))),
        }
    }

    /// Records from `seq` on, up to about `bytes_max` bytes; fewer when there are no more. Needs no index.
    pub(crate) fn stored_from(
        &self,
        stream: Stream,
        seq: u64,
        bytes_max: usize,
    ) -> Result<Vec<Stored>, ArchiveError> {
        self.wait_indexed();
        let mut cursor = match self.index().and_then(|index| index.location(stream, seq)) {
            Ok(Some(location)) => Cursor::from(seq, location),
            Ok(None) | Err(_) => Cursor::at(seq),
        };
        let mut found = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max {
            let passed = self.reader(stream)?.pass(&mut cursor)?;
            if passed.first().is_none_or(|first| first.number != seq + found.len() as u64) {
                break;
            }
            bytes += passed.iter().map(|record| record.payload.len()).sum::<usize>();
            found.extend(passed.into_iter().map(|record| Stored(record.payload)));
        }
        Ok(found)
    }

    /// Waits (a little) until everything that was handed over before this call can be found.
    pub(crate) fn wait_indexed(&self) {
        self.queue.hurry();
        let progress = self.progress();
        let target = progress.handed;
        let behind = |progress: &mut Progress| progress.indexed < target && progress.failed.is_none();
        let waited = self.moved.wait_timeout_while(progress, Duration::from_secs(2), behind);
        drop(waited);
    }

    pub(super) fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reader_array(stores: &[Segments]) -> Result<[Reader; 3], ArchiveError> {
    let readers: Vec<Reader> = stores.iter().map(Segments::reader).collect();
    readers.try_into().map_err(|_| ArchiveError::Storage("a stream is missing".into()))
}

/// A stream's head by its last record.
fn last_head(store: &Segments) -> Result<StreamHead, ArchiveError> {
    let last = store.next().saturating_sub(1).max(store.oldest());
    let passed = store.reader().pass(&mut Cursor::at(last))?.pop();
    let chain = passed.and_then(|record| Stored(record.payload).chain());
    Ok(StreamHead { count: store.next(), chain: chain.unwrap_or_default() })
}

/// A difference that is made up for before the node starts.
const STEP_AT_START: u64 = 20_000;

/// The index as it is, brought up to date if that is quick; else its rebuilding begins. That it can't be opened or
/// fails is no reason for a node not to start.
fn open_index(path: &Path, stores: &[Segments]) -> (IndexState, Option<Rebuild>) {
    // What a process set aside and did not come to replace.
    if let Err(error) = SledIndex::forget_aside(path) {
        tracing::warn!(%error, "an index that was set aside stays");
    }
    let opened = SledIndex::open(path).and_then(|index| fit(Arc::new(index), path, stores));
    opened.unwrap_or_else(|error| {
        tracing::warn!(%error, "the archive's index is of no use and is made anew");
        (IndexState::Rebuilding(0), Some(Rebuild::anew(path)))
    })
}

fn fit(
    index: Arc<SledIndex>,
    path: &Path,
    stores: &[Segments],
) -> Result<(IndexState, Option<Rebuild>), ArchiveError> {
    let mut behind = 0;
    for (stream, store) in STREAMS.into_iter().zip(stores) {
        let (oldest, next) = index.range(stream)?;
        if next > store.next() || (oldest < next && oldest > store.oldest()) {
            return Err(ArchiveError::Storage(format!("it does not fit the {stream:?} that there are")));
        }
        behind += store.next() - next.max(store.oldest());
    }
    if index.is_bloated(stores.iter().map(Segments::bytes).sum()) {
        return Err(ArchiveError::Storage("it takes more room than what it is an index of".into()));
    }
    let mut rebuild = Rebuild::of(Arc::clone(&index), path, stores)?;
    if behind > STEP_AT_START {
        tracing::warn!(records = behind, "the archive's index is behind and is made up while the node works");
        return Ok((IndexState::Rebuilding(0), Some(rebuild)));
    }
    // Each step takes a chunk of a file: it ends.
    while let Step::On(_, pause) = rebuild.step(stores) {
        if !pause.is_zero() {
            return Err(ArchiveError::Storage("it can't be brought up to date".into()));
        }
    }
    Ok((IndexState::Ready(index), None))
}
