//! openraft's log storage over the segment store.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::index::{Found, LogIndex};
use super::log_io::{Ask, Head, LogIo, LogRecord};
use super::{Entry, LogId, Types, Vote};
use crate::disk::Disk;
use crate::health::Health;
use crate::identity;
use crate::segment::{Location, Reader, SegmentError, Segments};
use crate::thread;

/// The Raft log and vote. Clones are handles of the same.
#[derive(Clone)]
pub(crate) struct Log {
    index: Arc<Mutex<LogIndex>>,
    tickets: Arc<Mutex<u64>>,
    asks: Sender<Ask>,
    reader: Reader,
}

/// [`LogRecord`] without what entries hold, for the scan at start.
#[derive(Deserialize)]
enum ScannedRecord {
    Head(Head),
    Vote(Vote),
    Entry(LogId),
    Truncate(Option<LogId>),
    Purge(LogId),
    Committed(Option<LogId>),
}

/// Bytes of entries read at once for a follower.
const READ_BYTES_MAX: u64 = 4 * 1024 * 1024;

impl Log {
    /// Opens the log of the node in `data`, or makes it for one that never ran: an empty one in the place of what it had
    /// acknowledged would let it begin anew.
    pub(crate) fn of_node(
        disk: &Arc<dyn Disk>,
        health: &Arc<Health>,
        data: &Path,
        segment_bytes: u64,
    ) -> Result<Log, SegmentError> {
        let directory = data.join("raft");
        if identity::has_run(data) && !Segments::exist(disk, &directory) {
            let what = "all of its log, and this node has run before".to_owned();
            return Err(SegmentError::Missing { path: directory, what });
        }
        Log::open(disk, health, &directory, segment_bytes)
    }

    /// Opens or makes the log in `directory` and starts its thread.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        health: &Arc<Health>,
        directory: &Path,
        segment_bytes: u64,
    ) -> Result<Log, SegmentError> {
        let mut index = LogIndex::default();
        let mut oldest_hole = None;
        let segments =
            Segments::open(disk, directory, segment_bytes, true, &mut |number, location, payload| {
                let scanned = postcard::take_from_bytes::<ScannedRecord>(payload);
                let Ok((record, _)) = scanned else {
                    let path = directory.join(format!("{:020}.seg", location.segment));
                    return Err(SegmentError::rot(&path, location.offset, "the record makes no sense"));
                };
                scan(&mut index, record, number, location, &mut oldest_hole)
                    .map_err(|what| SegmentError::rot(directory, location.offset, what))
            })?;
        // A round notes how far the log is committed while entries up to there still wait for the next one.
        index.committed = index.committed.min(index.last_log_id());
        let head = Head { vote: index.vote, committed: index.committed, purged: index.purged };
        let reader = segments.reader();
        let index = Arc::new(Mutex::new(index));
        let (asks, receiver) = channel();
        let health = Arc::clone(health);
        let io = LogIo { segments, head, index: Arc::clone(&index), asks: receiver, health };
        thread::start(io).map_err(|e| SegmentError::io(directory, e))?;
        Ok(Log { index, tickets: Arc::default(), asks, reader })
    }

    /// Term of the vote and last log position, as they are now; when just opened, as they are on disk.
    pub(crate) fn end(&self) -> (u64, u64) {
        let index = self.index();
        let term = index.vote.map_or(0, |vote| vote.leader_id.term);
        (term, index.last_log_id().map_or(0, |last| last.index))
    }

    /// The last entry before its first: up to there it has none. 0 when it has all.
    pub(crate) fn begins_after(&self) -> u64 {
        let index = self.index();
        let purged = index.purged.map_or(0, |purged| purged.index);
        index.first_index().map_or(purged, |first| first.saturating_sub(1))
    }

    /// Term and position of the last entry that is on disk; what an entry's term is, the vote is at least.
    pub(crate) fn durable(&self) -> (u64, u64) {
        self.index().durable().map_or((0, 0), |last| (last.leader_id.term, last.index))
    }

    /// Syncs and closes the files.
    pub(crate) async fn close(&self) {
        let (stopped, wait) = oneshot::channel();
        if self.asks.send(Ask::Stop(stopped)).is_ok() {
            let _ = wait.await;
        }
    }

    fn index(&self) -> MutexGuard<'_, LogIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, ask: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Ask) -> io::Result<()> {
        let (tell, told) = oneshot::channel();
        self.asks.send(ask(tell)).map_err(|_| closed())?;
        told.await.unwrap_or_else(|_| Err(closed()))
    }

    fn read_disk(&self, log_id: LogId, location: Location) -> io::Result<Entry> {
        let payload = self.reader.read(location).map_err(io::Error::other)?;
        match postcard::from_bytes(&payload) {
            Ok(LogRecord::Entry(found, payload)) if found == log_id => Ok(Entry { log_id, payload }),
            _ => Err(io::Error::other(format!("log entry {log_id} is not where it was written"))),
        }
    }
}

fn scan(
    index: &mut LogIndex,
    record: ScannedRecord,
    number: u64,
    location: Location,
    hole: &mut Option<u64>,
) -> Result<(), String> {
    match record {
        ScannedRecord::Head(head) => {
            index.vote = head.vote;
            index.committed = head.committed;
            if let Some(purged) = head.purged {
                index.purge(purged);
            }
        }
        ScannedRecord::Vote(vote) => index.vote = Some(vote),
        // Entries of files before the purge, which were not removed in time, may begin anywhere.
        ScannedRecord::Entry(log_id) => {
            if !index.push(log_id, number, Some(location), None) {
                *hole = Some(log_id.index);
            }
        }
        ScannedRecord::Truncate(after) => index.truncate_after(after),
        ScannedRecord::Purge(upto) => index.purge(upto),
        ScannedRecord::Committed(committed) => index.committed = committed,
    }
    match hole {
        Some(at) if index.first_index().is_some_and(|first| first < *at) => {
            Err(format!("the log has a hole before entry {at}"))
        }
        _ => Ok(()),
    }
}

fn closed() -> io::Error {
    io::Error::other("the raft log is closed")
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(at) => *at,
            Bound::Excluded(at) => *at + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(at) => at.saturating_add(1),
            Bound::Excluded(at) => *at,
            Bound::Unbounded => u64::MAX,
        };
        let found = self.index().find(start..end);
        let read = |(log_id, found)| match found {
            Found::Memory(entry) => Ok(entry),
            Found::Disk(location) => self.read_disk(log_id, location),
        };
        found.into_iter().map(read).collect()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let found = self.index().find(start..end);
        let mut entries = Vec::with_capacity(found.len());
        let mut read_bytes = 0;
        for (log_id, found) in found {
            entries.push(match found {
                Found::Memory(entry) => entry,
                Found::Disk(location) => {
                    read_bytes += location.size;
                    self.read_disk(log_id, location)?
                }
            });
            if read_bytes > READ_BYTES_MAX {
                break;
            }
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.index().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let index = self.index();
        Ok(LogState { last_purged_log_id: index.purged, last_log_id: index.last_log_id() })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.index().vote = Some(*vote);
        self.ask(|tell| Ask::Vote(*vote, tell)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // The log's thread writes it down beside the next entries, or when it is idle: nobody is woken for it.
        self.index().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.index().committed)
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let first_ticket = *tickets;
        *tickets += entries.len() as u64;
        {
            let mut index = self.index();
            for (entry, ticket) in entries.iter().zip(first_ticket..) {
                index.push(entry.log_id, ticket, None, Some(entry.clone()));
            }
        }
        self.asks.send(Ask::Append { first_ticket, entries, done }).map_err(|_| closed())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.index().truncate_after(last);
        self.ask(|tell| Ask::Truncate(last, tell)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.index().purge(upto);
        self.ask(|tell| Ask::Purge(upto, tell)).await
    }
}

#[cfg(test)]
mod tests {
    use openraft::async_runtime::{AsyncRuntime, Oneshot};
    use openraft::vote::RaftLeaderId;
    use openraft_rt_tokio::TokioRuntime;

    use super::*;
    use crate::disk::faults::Faults;

    fn entry(index: u64) -> Entry {
        Entry { log_id: LogId::new(RaftLeaderId::new(1, 1), index), payload: openraft::EntryPayload::Blank }
    }

    async fn append(log: &mut Log, indexes: std::ops::RangeInclusive<u64>) -> io::Result<()> {
        let (tell, told) = <TokioRuntime as AsyncRuntime>::Oneshot::channel();
        log.append(indexes.map(entry), IOFlushed::signal(tell)).await?;
        told.await.unwrap_or_else(|_| Err(closed()))
    }

    fn open(faults: &Faults, directory: &Path) -> Log {
        Log::open(&faults.disk(), &Arc::default(), directory, 400).unwrap()
    }

    async fn indexes(log: &mut Log) -> Vec<u64> {
        let found = log.try_get_log_entries(..).await.unwrap();
        found.iter().map(|entry| entry.log_id.index).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn acknowledged_votes_and_entries_outlive_failed_syncs_a_purge_and_a_power_cut() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let mut log = open(&faults, dir.path());
        let vote = Vote::new(7, 3);
        log.save_vote(&vote).await.unwrap();
        append(&mut log, 0..=9).await.unwrap();
        faults.fail_syncs(2);
        append(&mut log, 10..=14).await.unwrap();
        // The vote was in a file that goes now.
        log.purge(entry(11).log_id).await.unwrap();
        append(&mut log, 15..=15).await.unwrap();
        faults.cut_power(0).unwrap();
        drop(log);
        let mut log = open(&Faults::default(), dir.path());
        assert_eq!(log.read_vote().await.unwrap(), Some(vote));
        assert_eq!(indexes(&mut log).await, [12, 13, 14, 15]);
        assert_eq!(log.get_log_state().await.unwrap().last_purged_log_id, Some(entry(11).log_id));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_committed_beyond_the_entries_that_a_power_cut_left_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let mut log = open(&faults, dir.path());
        append(&mut log, 0..=3).await.unwrap();
        // By the leader's word, while the entries up to there wait for the next sync.
        log.save_committed(Some(entry(6).log_id)).await.unwrap();
        log.save_vote(&Vote::new(1, 1)).await.unwrap();
        faults.cut_power(0).unwrap();
        drop(log);
        let mut log = open(&Faults::default(), dir.path());
        assert_eq!(log.read_committed().await.unwrap(), Some(entry(3).log_id));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_full_disk_withholds_the_reply_until_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let (faults, health) = (Faults::default(), Arc::new(Health::default()));
        let mut log = Log::open(&faults.disk(), &health, dir.path(), 400).unwrap();
        append(&mut log, 0..=0).await.unwrap();
        faults.full(true);
        let mut appending = log.clone();
        let appended = tokio::spawn(async move { append(&mut appending, 1..=1).await });
        let mut voting = log.clone();
        let voted = tokio::spawn(async move { voting.save_vote(&Vote::new(2, 1)).await });
        while health.state().0 != crate::StorageState::Full {
            tokio::task::yield_now().await;
        }
        assert!(!appended.is_finished() && !voted.is_finished());
        faults.full(false);
        appended.await.unwrap().unwrap();
        voted.await.unwrap().unwrap();
        log.close().await;
        assert_eq!(indexes(&mut open(&Faults::default(), dir.path())).await, [0, 1]);
    }
}
