//! The index in sled. Its flush does not survive a power loss, so it is rebuilt whenever it is behind or damaged.
//!
//! Keys: `L stream seq` -> location; `T tenant start seq`, `A start seq` (CDRs by time); `C call attempt seq`;
//! `E position index` -> seq; `N stream` -> next number. Numbers are big endian, so that order is order.

use std::path::Path;
use std::time::Duration;

use tandem_state::archive::Stream;
use tandem_state::{CallId, ClusterTime, EventId};

use super::ArchiveError;
use super::index::{By, CdrRange, Index, Indexed};
use super::record::ordinal;
use crate::segment::Location;

/// sled, one tree.
#[derive(Debug)]
pub(crate) struct SledIndex {
    db: sled::Db,
}

const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// An index may always take this much.
const BLOATED_BYTES: u64 = 256 * 1024 * 1024;

fn config(directory: &Path) -> sled::Config {
    sled::Config::new().path(directory).cache_capacity(CACHE_BYTES).flush_every_ms(Some(1000))
}

/// sled panics on some damage and on some errors of the disk. Nothing is only in it, so that counts as an error too.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, ArchiveError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(failed),
        Err(_) => Err(ArchiveError::Storage("the index's library panicked".into())),
    }
}

impl SledIndex {
    /// Opens or makes the index.
    pub(crate) fn open(directory: &Path) -> Result<SledIndex, ArchiveError> {
        let mut opened = guarded(|| config(directory).open());
        for _ in 0..20 {
            // An index that was closed a moment ago in this process lets its lock go a little later.
            if opened.is_ok() || !directory.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            opened = guarded(|| config(directory).open());
        }
        Ok(SledIndex { db: opened? })
    }

    /// Removes what was set aside.
    pub(crate) fn forget_aside(directory: &Path) -> std::io::Result<()> {
        remove(&directory.with_extension("old"))
    }

    /// Takes an index that is of no use from its place, and durably: whoever starts next must not believe it, for it may
    /// name places that other records have by then. Who reads it still can.
    pub(crate) fn set_aside(directory: &Path) -> std::io::Result<()> {
        Self::forget_aside(directory)?;
        if directory.exists() {
            std::fs::rename(directory, directory.with_extension("old"))?;
        }
        directory.parent().map_or(Ok(()), |parent| std::fs::File::open(parent)?.sync_all())
    }

    /// Removes what is there and makes an empty one.
    pub(crate) fn anew(directory: &Path) -> Result<SledIndex, ArchiveError> {
        let removed = remove(&directory.with_extension("old")).and_then(|()| remove(directory));
        removed.map_err(|e| ArchiveError::Storage(format!("{}: {e}", directory.display())))?;
        SledIndex::open(directory)
    }

    /// It takes much more room than the records that it is an index of.
    pub(crate) fn is_bloated(&self, records_bytes: u64) -> bool {
        let room = BLOATED_BYTES.saturating_add(records_bytes.saturating_mul(4));
        self.db.size_on_disk().is_ok_and(|bytes| bytes > room)
    }

    fn get_u64(&self, key: &[u8]) -> Result<Option<u64>, ArchiveError> {
        Ok(self.db.get(key).map_err(failed)?.and_then(|value| number(&value, 0)))
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    }
}

impl Index for SledIndex {
    fn put(&self, records: &[Indexed]) -> Result<(), ArchiveError> {
        let mut batch = sled::Batch::default();
        for record in records {
            let location =
                postcard::to_stdvec(&record.location).map_err(|e| ArchiveError::Storage(e.to_string()))?;
            batch.insert(location_key(record.stream, record.seq), location);
            batch.insert(next_key(record.stream), &(record.seq + 1).to_be_bytes());
            match record.by {
                By::Cdr { tenant, start, call, attempt } => {
                    batch.insert(join(b'T', &[&tenant.0.to_be_bytes(), &time(start), &seq(record.seq)]), &[]);
                    batch.insert(join(b'A', &[&time(start), &seq(record.seq)]), &[]);
                    batch.insert(
                        join(b'C', &[&call.0.to_be_bytes(), &attempt.to_be_bytes(), &seq(record.seq)]),
                        &[],
                    );
                }
                By::Event(id) => batch.insert(event_key(id), &seq(record.seq)),
                By::Audit => {}
            }
        }
        guarded(|| self.db.apply_batch(batch))
    }

    fn range(&self, stream: Stream) -> Result<(u64, u64), ArchiveError> {
        let next = self.get_u64(&next_key(stream))?.unwrap_or(0);
        let mut prefix = self.db.scan_prefix(stream_prefix(stream));
        let oldest = match prefix.next() {
            Some(row) => number(&row.map_err(failed)?.0, 2).unwrap_or(next),
            None => next,
        };
        Ok((oldest, next))
    }

    fn location(&self, stream: Stream, seq: u64) -> Result<Option<Location>, ArchiveError> {
        let found = self.db.get(location_key(stream, seq)).map_err(failed)?;
        Ok(found.and_then(|bytes| postcard::from_bytes(&bytes).ok()))
    }

    fn cdrs(&self, range: &CdrRange, limit: usize) -> Result<Vec<(ClusterTime, u64)>, ArchiveError> {
        let prefix = match range.tenant {
            Some(tenant) => join(b'T', &[&tenant.0.to_be_bytes()]),
            None => vec![b'A'],
        };
        let since = range.since.unwrap_or_default();
        let until = range.until.unwrap_or(ClusterTime(u64::MAX));
        let end = (until, 0).min(range.before.unwrap_or((ClusterTime(u64::MAX), u64::MAX)));
        let from = [prefix.as_slice(), &time(since), &seq(0)].concat();
        let to = [prefix.as_slice(), &time(end.0), &seq(end.1)].concat();
        if from >= to {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for row in self.db.range(from..to).rev().take(limit) {
            let (key, _) = row.map_err(failed)?;
            let start = number(&key, prefix.len()).zip(number(&key, prefix.len() + 8));
            found.extend(start.map(|(start, seq)| (ClusterTime(start), seq)));
        }
        Ok(found)
    }

    fn cdrs_of_call(&self, call: CallId) -> Result<Vec<u64>, ArchiveError> {
        let mut found = Vec::new();
        for row in self.db.scan_prefix(join(b'C', &[&call.0.to_be_bytes()])) {
            found.extend(number(&row.map_err(failed)?.0, 1 + 16 + 4));
        }
        Ok(found)
    }

    fn events_after(
        &self,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<(EventId, u64)>, ArchiveError> {
        let from = match after {
            Some(id) => [event_key(id).as_slice(), &[0]].concat(),
            None => vec![b'E'],
        };
        let mut found = Vec::new();
        for row in self.db.range(from..vec![b'F']).take(limit) {
            let (key, value) = row.map_err(failed)?;
            found.extend(event_id(&key).zip(number(&value, 0)));
        }
        Ok(found)
    }

    fn oldest_event(&self) -> Result<Option<(EventId, u64)>, ArchiveError> {
        Ok(self.events_after(None, 1)?.pop())
    }
}

fn failed(error: sled::Error) -> ArchiveError {
    ArchiveError::Storage(error.to_string())
}

fn join(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

fn stream_prefix(stream: Stream) -> [u8; 2] {
    [b'L', stream_byte(stream)]
}

fn stream_byte(stream: Stream) -> u8 {
    u8::try_from(ordinal(stream)).unwrap_or(u8::MAX)
}

fn location_key(stream: Stream, number: u64) -> Vec<u8> {
    join(b'L', &[&[stream_byte(stream)], &seq(number)])
}

fn next_key(stream: Stream) -> Vec<u8> {
    join(b'N', &[&[stream_byte(stream)]])
}

fn event_key(id: EventId) -> Vec<u8> {
    join(b'E', &[&id.position.to_be_bytes(), &id.index.to_be_bytes()])
}

fn event_id(key: &[u8]) -> Option<EventId> {
    let position = number(key, 1)?;
    let index = u32::from_be_bytes(*key.get(9..)?.first_chunk()?);
    Some(EventId { position, index })
}

fn time(at: ClusterTime) -> [u8; 8] {
    at.0.to_be_bytes()
}

fn seq(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
