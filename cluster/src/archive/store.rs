//! The archive's writing side: apply hands records over, the [`writer`](super::writer) writes and indexes them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tandem_state::archive::{ArchiveRecord, Stream, StreamHead};
use tokio::sync::oneshot;

use super::index::{By, Index, Indexed};
use super::queue::Queue;
use super::record::{STREAMS, Stored, directory, extend, ordinal};
use super::sled_index::SledIndex;
use super::writer::Writer;
use super::{Archive, ArchiveError};
use crate::segment::{Reader, SegmentError, Segments};

/// What readers share with the thread.
pub(crate) struct ArchiveShared {
    /// Gone once the archive is closed.
    pub(super) index: RwLock<Option<Arc<SledIndex>>>,
    readers: [Reader; 3],
    pub(super) queue: Queue,
    progress: Mutex<Progress>,
    pub(super) moved: Condvar,
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
    pub(crate) fn open(path: &Path, segment_bytes: u64) -> Result<ArchiveStore, ArchiveError> {
        let index = SledIndex::open(&path.join("index"))?;
        let mut heads = [StreamHead::default(); 3];
        let mut stores = Vec::new();
        for (stream, head) in STREAMS.into_iter().zip(&mut heads) {
            let store =
                Segments::open(&path.join(directory(stream)), segment_bytes, false, &mut |_, _, _| Ok(()))?;
            *head = last_head(&store)?;
            stores.push(store);
        }
        bring_up_to_date(&index, &stores)?;
        let readers = reader_array(&stores)?;
        let index = RwLock::new(Some(Arc::new(index)));
        let shared = Arc::new(ArchiveShared {
            index,
            readers,
            queue: Queue::default(),
            progress: Mutex::default(),
            moved: Condvar::new(),
        });
        let writer = Writer { stores, shared: Arc::clone(&shared) };
        std::thread::Builder::new()
            .name("archive".into())
            .spawn(move || writer.run())
            .map_err(|e| ArchiveError::Storage(e.to_string()))?;
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
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(index.as_ref().ok_or_else(closed)?) as Arc<dyn Index>)
    }

    /// The stored record of a number.
    pub(crate) fn stored(&self, stream: Stream, seq: u64) -> Result<Stored, ArchiveError> {
        let location = self.index()?.location(stream, seq)?;
        let reader = self.readers.get(ordinal(stream));
        match location.zip(reader) {
            Some((location, reader)) => Ok(Stored(reader.read(location)?)),
            None => Err(ArchiveError::Storage(format!("{stream:?} {seq} is not in the index"))),
        }
    }

    /// Records from `seq` on, up to about `bytes_max` bytes; fewer when there are no more.
    pub(crate) fn stored_from(
        &self,
        stream: Stream,
        seq: u64,
        bytes_max: usize,
    ) -> Result<Vec<Stored>, ArchiveError> {
        self.wait_indexed();
        let (_, next) = self.index()?.range(stream)?;
        let mut found = Vec::new();
        let mut bytes = 0;
        for seq in seq..next {
            let stored = self.stored(stream, seq)?;
            bytes += stored.0.len();
            found.push(stored);
            if bytes >= bytes_max {
                break;
            }
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
    let mut chain = None;
    let last = store.next().saturating_sub(1).max(store.oldest());
    store.visit_from(last, &mut |_, _, payload| {
        chain = Stored(payload.to_vec()).chain();
        Ok(())
    })?;
    Ok(StreamHead { count: store.next(), chain: chain.unwrap_or_default() })
}

fn bring_up_to_date(index: &SledIndex, stores: &[Segments]) -> Result<(), ArchiveError> {
    let mut stale = false;
    let mut from = BTreeMap::new();
    for (stream, store) in STREAMS.into_iter().zip(stores) {
        let (oldest, next) = index.range(stream)?;
        stale |= next > store.next() || (oldest < next && oldest > store.oldest());
        from.insert(stream, next.max(store.oldest()));
    }
    if stale {
        tracing::warn!("the archive's index does not fit its segments and is made anew");
        index.clear()?;
    }
    for (stream, store) in STREAMS.into_iter().zip(stores) {
        let from = if stale { store.oldest() } else { from.get(&stream).copied().unwrap_or_default() };
        if from < store.next() {
            index_from(index, stream, store, from)?;
        }
    }
    Ok(())
}

fn index_from(index: &SledIndex, stream: Stream, store: &Segments, from: u64) -> Result<(), ArchiveError> {
    let mut waiting = Vec::new();
    let mut refused = Ok(());
    store.visit_from(from, &mut |seq, location, payload| {
        match Stored(payload.to_vec()).decode() {
            Ok(record) => waiting.push(Indexed { stream, seq, location, by: By::from(&record) }),
            Err(error) => refused = Err(error),
        }
        if waiting.len() >= 1000 {
            let put = index.put(&waiting);
            waiting.clear();
            put.map_err(|e| SegmentError::Stopped(e.to_string()))?;
        }
        Ok(())
    })?;
    refused?;
    index.put(&waiting)
}
