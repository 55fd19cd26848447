//! Snapshots as plain files: `TANDEMP1 | sha256 of the rest | meta length u32 | meta | state`.
//!
//! They are written and sent piece by piece: a large state is never in memory a second time as bytes, but for a moment on
//! a node that reads one.

mod parts;
mod writing;

pub(crate) use parts::Incoming;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tandem_state::State;

use super::{Snapshot, SnapshotMeta};
use crate::disk::{Disk, put_in_place};
use crate::segment::SegmentError;
use writing::Writing;

const MAGIC: &[u8; 8] = b"TANDEMP1";
const HEADER: usize = 8 + 32;

/// Where snapshots are kept.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFiles {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
}

/// A snapshot's file, open for reading: it can be read to its end after it was removed.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    path: PathBuf,
    file: Arc<File>,
    pub(crate) bytes: u64,
}

impl SnapshotFile {
    fn open(path: &Path) -> Result<SnapshotFile, SegmentError> {
        let io = |e| SegmentError::io(path, e);
        let file = File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        Ok(SnapshotFile { path: path.to_owned(), file: Arc::new(file), bytes })
    }

    /// Up to `size` bytes from `offset` on.
    pub(crate) fn read_at(&self, offset: u64, size: usize) -> std::io::Result<Vec<u8>> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; size.min(left)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Its meta and its state, checked.
    pub(crate) fn read(&self) -> Result<(SnapshotMeta, State), SegmentError> {
        let whole = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let bytes = self.read_at(0, whole).map_err(|e| SegmentError::io(&self.path, e))?;
        let (meta, state) = split(&bytes).map_err(|what| SegmentError::rot(&self.path, 0, what))?;
        let state = State::decode_snapshot(state);
        Ok((meta, state.map_err(|e| SegmentError::rot(&self.path, 0, e.to_string()))?))
    }

    /// Whether its checksum is right.
    pub(crate) fn is_sound(&self) -> std::io::Result<bool> {
        let head = self.read_at(0, HEADER)?;
        let (mut hash, mut at) = (Sha256::new(), HEADER as u64);
        while at < self.bytes {
            let piece = self.read_at(at, 256 * 1024)?;
            hash.update(&piece);
            at += piece.len() as u64;
        }
        Ok(head.get(8..) == Some(hash.finalize().as_slice()))
    }

    /// Its meta.
    fn meta(&self) -> Result<SnapshotMeta, SegmentError> {
        const LONG: usize = 64 * 1024;
        let head = self.read_at(0, LONG).map_err(|e| SegmentError::io(&self.path, e))?;
        let meta = parse_meta(&head).map(|(meta, _)| meta);
        meta.map_err(|what| SegmentError::rot(&self.path, 0, what))
    }
}

impl SnapshotFiles {
    pub(crate) fn open(disk: &Arc<dyn Disk>, directory: &Path) -> Result<SnapshotFiles, SegmentError> {
        let io = |e| SegmentError::io(directory, e);
        disk.make_directory(directory).map_err(io)?;
        // What a process before this one did not finish.
        for name in disk.names(directory).map_err(io)?.iter().filter(|name| !name.ends_with(".snap")) {
            disk.remove(&directory.join(name)).map_err(io)?;
        }
        Ok(SnapshotFiles { disk: Arc::clone(disk), directory: directory.to_owned() })
    }

    /// Stores a snapshot durably and removes older ones. A newer one stays and wins.
    pub(crate) fn store(&self, meta: &SnapshotMeta, state: &State) -> Result<Snapshot, SegmentError> {
        let encoded = postcard::to_stdvec(meta).map_err(|e| SegmentError::Stopped(e.to_string()))?;
        self.put(meta, |writing| {
            writing.rest(&u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_le_bytes())?;
            writing.rest(&encoded)?;
            state.write_snapshot(writing)
        })
    }

    /// Keeps one that came from elsewhere and was [read](SnapshotFile::read).
    pub(crate) fn keep(&self, meta: &SnapshotMeta, from: &SnapshotFile) -> Result<Snapshot, SegmentError> {
        self.put(meta, |writing| {
            let mut at = HEADER as u64;
            while at < from.bytes {
                let piece = from.read_at(at, 256 * 1024)?;
                writing.rest(&piece)?;
                at += piece.len() as u64;
            }
            Ok(())
        })
    }

    fn put(
        &self,
        meta: &SnapshotMeta,
        write: impl FnOnce(&mut Writing) -> std::io::Result<()>,
    ) -> Result<Snapshot, SegmentError> {
        let position = position(meta);
        let path = self.path(position);
        let beside = path.with_extension("new");
        let made = || {
            let mut writing = Writing::begin(self.disk.create(&beside)?)?;
            write(&mut writing)?;
            writing.end()?;
            put_in_place(&*self.disk, &beside, &path)
        };
        made().map_err(|e| SegmentError::io(&path, e))?;
        let file = SnapshotFile::open(&path)?;
        for older in self.list()?.into_iter().filter(|other| *other < position) {
            let path = self.path(older);
            self.disk.remove(&path).map_err(|e| SegmentError::io(&path, e))?;
        }
        self.disk.sync_directory(&self.directory).map_err(|e| SegmentError::io(&self.directory, e))?;
        Ok(Snapshot { meta: meta.clone(), snapshot: file })
    }

    /// The newest snapshot. Its state is checked when it is read.
    pub(crate) fn newest(&self) -> Result<Option<Snapshot>, SegmentError> {
        let Some(position) = self.list()?.pop() else { return Ok(None) };
        let file = SnapshotFile::open(&self.path(position))?;
        Ok(Some(Snapshot { meta: file.meta()?, snapshot: file }))
    }

    /// Whether the newest one holds what the log has not: everything up to entry `last`.
    pub(crate) fn check_covers(&self, last: u64) -> Result<(), SegmentError> {
        if self.list()?.last().copied().unwrap_or_default() >= last {
            return Ok(());
        }
        let what = format!("a snapshot of the entries up to {last}, and the log (raft/) begins after them");
        Err(SegmentError::Missing { path: self.directory.clone(), what })
    }

    /// A file for one that is being received.
    pub(crate) fn incoming(&self) -> Result<(PathBuf, Box<dyn crate::disk::DiskFile>), SegmentError> {
        let path = self.directory.join("incoming.part");
        let file = self.disk.create(&path).map_err(|e| SegmentError::io(&path, e))?;
        Ok((path, file))
    }

    fn list(&self) -> Result<Vec<u64>, SegmentError> {
        let names = self.disk.names(&self.directory).map_err(|e| SegmentError::io(&self.directory, e))?;
        let position = |name: &String| name.strip_suffix(".snap").and_then(|n| n.parse::<u64>().ok());
        let mut found: Vec<u64> = names.iter().filter_map(position).collect();
        found.sort_unstable();
        Ok(found)
    }

    fn path(&self, position: u64) -> PathBuf {
        self.directory.join(format!("{position:020}.snap"))
    }
}

fn position(meta: &SnapshotMeta) -> u64 {
    meta.last_log_id.map_or(0, |id| id.index)
}

fn parse_meta(bytes: &[u8]) -> Result<(SnapshotMeta, usize), &'static str> {
    let rest = bytes.strip_prefix(MAGIC).and_then(|rest| rest.get(32..)).ok_or("this is no snapshot")?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or("the snapshot is incomplete")?;
    let length =
        usize::try_from(u32::from_le_bytes(*length)).map_err(|_| "the snapshot's length is impossible")?;
    let meta = rest.get(..length).ok_or("the snapshot is incomplete")?;
    let meta = postcard::from_bytes(meta).map_err(|_| "the snapshot's head makes no sense")?;
    Ok((meta, HEADER + 4 + length))
}

fn split(bytes: &[u8]) -> Result<(SnapshotMeta, &[u8]), &'static str> {
    let checksum = bytes.get(8..HEADER).ok_or("this is no snapshot")?;
    let body = bytes.get(HEADER..).ok_or("the snapshot is incomplete")?;
    if Sha256::digest(body).as_slice() != checksum {
        return Err("the snapshot's checksum does not match");
    }
    let (meta, at) = parse_meta(bytes)?;
    Ok((meta, bytes.get(at..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use tandem_state::ClusterTime;

    use super::*;
    use crate::disk::system;
    use crate::raft::{LogId, StoredMembership};

    fn meta(index: u64) -> SnapshotMeta {
        let log_id = LogId::new(openraft::vote::RaftLeaderId::new(1, 1), index);
        SnapshotMeta { last_log_id: Some(log_id), last_membership: StoredMembership::default() }
    }

    fn state(time: u64) -> State {
        State { time: ClusterTime(time), ..State::default() }
    }

    #[test]
    fn the_newest_snapshot_is_kept_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let files = SnapshotFiles::open(&system(), dir.path()).unwrap();
        assert!(files.newest().unwrap().is_none());
        for (index, time) in [(5, 50), (9, 90), (7, 70)] {
            files.store(&meta(index), &state(time)).unwrap();
        }
        let found = files.newest().unwrap().unwrap();
        assert_eq!(found.meta, meta(9));
        assert_eq!(found.snapshot.read().unwrap(), (meta(9), state(90)));
    }

    #[test]
    fn one_from_elsewhere_is_kept_as_it_is() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sent = SnapshotFiles::open(&system(), there.path())
            .unwrap()
            .store(&meta(5), &state(50))
            .unwrap()
            .snapshot;
        let files = SnapshotFiles::open(&system(), here.path()).unwrap();
        let kept = files.keep(&meta(5), &sent).unwrap().snapshot;
        assert!(sent.is_sound().unwrap() && kept.is_sound().unwrap());
        assert_eq!(kept.read().unwrap(), (meta(5), state(50)));
        let bytes = |file: &SnapshotFile| file.read_at(0, usize::MAX).unwrap();
        assert_eq!(bytes(&kept), bytes(&sent));
    }

    #[test]
    fn a_snapshot_that_is_gone_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let files = SnapshotFiles::open(&system(), dir.path()).unwrap();
        files.check_covers(0).unwrap();
        files.store(&meta(5), &state(50)).unwrap();
        files.check_covers(5).unwrap();
        let told = files.check_covers(6).unwrap_err().to_string();
        assert!(told.starts_with(&dir.path().display().to_string()), "{told}");
        assert!(
            told.contains("a snapshot of the entries up to 6") && told.contains("cluster remove"),
            "{told}"
        );
    }

    #[test]
    fn a_damaged_snapshot_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let files = SnapshotFiles::open(&system(), dir.path()).unwrap();
        files.store(&meta(5), &state(50)).unwrap();
        let path = files.path(5);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let found = files.newest().unwrap().unwrap();
        assert!(!found.snapshot.is_sound().unwrap());
        assert!(found.snapshot.read().unwrap_err().to_string().contains("00005.snap"));
    }
}
