//! Makes an index from the segments, a piece at a time, between the rounds of the archive's thread: so apply goes on.
//!
//! Until it is done the index answers nothing, and readers are told how far it is ([`ArchiveError::Rebuilding`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tandem_state::archive::Stream;
use tokio::time::Instant;

use super::ArchiveError;
use super::index::{By, Index, Indexed};
use super::record::{STREAMS, Stored};
use super::sled_index::SledIndex;
use crate::segment::{Cursor, Passed, Segments};

/// See the module.
pub(crate) struct Rebuild {
    directory: PathBuf,
    work: Work,
}

enum Work {
    /// The index can't be had now.
    Wait(Instant),
    /// From an index that may have something, to all that is written.
    Index { index: Arc<SledIndex>, cursors: [Cursor; 3], already: u64 },
}

/// What came of a step.
pub(crate) enum Step {
    /// So much of a hundred is done; go on, after this long.
    On(u8, Duration),
    /// The index has everything.
    Done(Arc<SledIndex>),
}

/// A disk that gave no index is asked again after this.
const AGAIN: Duration = Duration::from_secs(2);

impl Rebuild {
    /// Goes on with an index that is behind.
    pub(crate) fn of(
        index: Arc<SledIndex>,
        directory: &Path,
        stores: &[Segments],
    ) -> Result<Rebuild, ArchiveError> {
        let work = Work::begin(index, stores)?;
        Ok(Rebuild { directory: directory.to_owned(), work })
    }

    /// Makes one anew, after a pause: who reads the old one lets it go first. It has lost its place at once.
    pub(crate) fn anew(directory: &Path) -> Rebuild {
        if let Err(error) = SledIndex::set_aside(directory) {
            tracing::warn!(%error, "an index that is of no use stays where it is for now");
        }
        Rebuild { directory: directory.to_owned(), work: Work::Wait(Instant::now() + AGAIN) }
    }

    /// Does a piece of it.
    pub(crate) fn step(&mut self, stores: &[Segments]) -> Step {
        match self.try_step(stores) {
            Ok(step) => step,
            Err(error) => {
                tracing::warn!(%error, "the archive's index can't be made now");
                self.work = Work::Wait(Instant::now() + AGAIN);
                Step::On(0, AGAIN)
            }
        }
    }

    fn try_step(&mut self, stores: &[Segments]) -> Result<Step, ArchiveError> {
        match &mut self.work {
            Work::Wait(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let index = Arc::new(SledIndex::anew(&self.directory)?);
                    self.work = Work::begin(index, stores)?;
                }
                Ok(Step::On(0, left))
            }
            Work::Index { index, cursors, already } => {
                let mut some = false;
                for ((stream, store), cursor) in STREAMS.into_iter().zip(stores).zip(cursors.iter_mut()) {
                    let passed = store.reader().pass(cursor)?;
                    some |= !passed.is_empty();
                    index.put(&indexed(stream, passed)?)?;
                }
                if !some {
                    return Ok(Step::Done(Arc::clone(index)));
                }
                let done = cursors.iter().map(Cursor::number).sum::<u64>().saturating_sub(*already);
                let whole = stores.iter().map(Segments::next).sum::<u64>().saturating_sub(*already);
                let percent = done.saturating_mul(100).checked_div(whole).unwrap_or(100);
                Ok(Step::On(u8::try_from(percent).unwrap_or(100), Duration::ZERO))
            }
        }
    }
}

impl Work {
    fn begin(index: Arc<SledIndex>, stores: &[Segments]) -> Result<Work, ArchiveError> {
        let mut cursors = [Cursor::at(0); 3];
        for ((stream, store), cursor) in STREAMS.into_iter().zip(stores).zip(&mut cursors) {
            let (_, next) = index.range(stream)?;
            *cursor = Cursor::at(next.max(store.oldest()));
        }
        let already = cursors.iter().map(Cursor::number).sum();
        Ok(Work::Index { index, cursors, already })
    }
}

/// What the index needs of records.
pub(crate) fn indexed(stream: Stream, passed: Vec<Passed>) -> Result<Vec<Indexed>, ArchiveError> {
    let of = |record: Passed| {
        let by = By::from(&Stored(record.payload).decode()?);
        Ok(Indexed { stream, seq: record.number, location: record.location, by })
    };
    passed.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tandem_state::archive::{ArchiveRecord, AuditRecord, Fact};
    use tandem_state::{ClusterTime, NodeId, Principal};

    use super::*;
    use crate::archive::store::ArchiveStore;
    use crate::archive::{Archive, Page};
    use crate::disk::system;

    fn audit(seq: u64) -> ArchiveRecord {
        let fact = Fact::Audit(AuditRecord {
            at: ClusterTime(seq),
            principal: Principal::Node(NodeId(1)),
            action: format!("action {seq}"),
        });
        ArchiveRecord { stream: Stream::Audit, seq, position: seq + 1, fact }
    }

    fn open(dir: &Path) -> ArchiveStore {
        ArchiveStore::open(&system(), &Arc::default(), dir, 64 * 1024).unwrap()
    }

    fn newest(archive: &Archive) -> Result<Page<AuditRecord>, ArchiveError> {
        archive.audit(None, 1)
    }

    async fn filled(dir: &Path, count: u64) {
        let mut store = open(dir);
        for seq in 0..count {
            store.append(&[audit(seq)]).unwrap();
        }
        store.sync_handle().close().await;
    }

    /// Asks until the index is there; what it answers before says how far it is.
    fn when_there(archive: &Archive) -> (usize, Page<AuditRecord>) {
        let mut told = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match newest(archive) {
                Ok(page) => return (told, page),
                Err(ArchiveError::Rebuilding { percent }) if percent <= 100 => told += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(Instant::now() < deadline, "the index is never there");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_damaged_index_is_made_anew_while_records_come_and_are_fetched() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 1500).await;
        let index = dir.path().join("index");
        std::fs::remove_dir_all(&index).unwrap();
        std::fs::write(&index, b"no directory").unwrap();
        let mut store = open(dir.path());
        let archive = store.reader();
        assert_eq!(newest(&archive), Err(ArchiveError::Rebuilding { percent: 0 }));
        store.append(&[audit(1500)]).unwrap();
        let fetched = archive.shared.stored_from(Stream::Audit, 1499, 1000).unwrap();
        assert_eq!(fetched.len(), 2, "peers need no index");
        let (told, page) = when_there(&archive);
        assert!(told > 0);
        assert_eq!(page.items[0].action, "action 1500");
        store.append(&[audit(1501)]).unwrap();
        assert_eq!(newest(&archive).unwrap().items[0].action, "action 1501");
        store.sync_handle().close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_index_that_was_ahead_of_its_records_is_not_believed_by_the_next_start_either() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 10).await;
        // A power cut took the records and left the index; the same numbers come again, at other places.
        std::fs::remove_dir_all(dir.path().join("audit")).unwrap();
        let mut store = open(dir.path());
        for seq in 0..12 {
            store.append(&[audit(seq * 1_000_000)].map(|record| ArchiveRecord { seq, ..record })).unwrap();
        }
        assert_eq!(newest(&store.reader()), Err(ArchiveError::Rebuilding { percent: 0 }));
        store.sync_handle().close().await;
        let store = open(dir.path());
        let page = store.reader().audit(None, 100).unwrap();
        assert_eq!(page.items.len(), 12);
        assert_eq!(page.items[5].action, "action 6000000");
        store.sync_handle().close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_index_that_is_a_little_behind_is_made_up_for_before_the_start() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 10).await;
        std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        let store = open(dir.path());
        assert_eq!(newest(&store.reader()).unwrap().items[0].action, "action 9");
        store.sync_handle().close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn records_that_are_gone_are_missed_by_the_name_of_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 3000).await;
        let store = open(dir.path());
        store.check_reaches(Stream::Audit, 3000).unwrap();
        let told = store.check_reaches(Stream::Audit, 3001).unwrap_err().to_string();
        let audit = dir.path().join("audit");
        assert!(told.contains(&format!("{} lacks the records 3000 to 3000", audit.display())), "{told}");
        store.sync_handle().close().await;
        std::fs::remove_file(audit.join("00000000000000000000.seg")).unwrap();
        let told =
            ArchiveStore::open(&system(), &Arc::default(), dir.path(), 64 * 1024).err().unwrap().to_string();
        assert!(told.contains("lacks the records 0 to ") && told.contains("cluster remove"), "{told}");
    }
}
