//! Snapshots as plain files: `TANDEMP1 | sha256 of the rest | meta length u32 | meta | state`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Snapshot, SnapshotMeta};
use crate::segment::{SegmentError, replace_file, sync_directory};

const MAGIC: &[u8; 8] = b"TANDEMP1";
const HEADER: usize = 8 + 32;

/// Where snapshots are kept.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFiles {
    directory: PathBuf,
}

impl SnapshotFiles {
    pub(crate) fn open(directory: &Path) -> Result<SnapshotFiles, SegmentError> {
        std::fs::create_dir_all(directory).map_err(|e| SegmentError::io(directory, e))?;
        Ok(SnapshotFiles { directory: directory.to_owned() })
    }

    /// Stores a snapshot durably and removes older ones. A newer one stays and wins.
    pub(crate) fn store(&self, meta: &SnapshotMeta, state: &[u8]) -> Result<(), SegmentError> {
        let position = position(meta);
        let encoded = encode(meta, state).map_err(|e| SegmentError::Stopped(e.to_string()))?;
        replace_file(&self.path(position), &encoded, 0o600)?;
        for older in self.list()?.into_iter().filter(|other| *other < position) {
            let path = self.path(older);
            std::fs::remove_file(&path).map_err(|e| SegmentError::io(&path, e))?;
        }
        sync_directory(&self.directory)
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> Result<Option<Snapshot>, SegmentError> {
        let Some(position) = self.list()?.pop() else { return Ok(None) };
        let path = self.path(position);
        let bytes = std::fs::read(&path).map_err(|e| SegmentError::io(&path, e))?;
        decode(&bytes).map(Some).map_err(|what| SegmentError::rot(&path, 0, what))
    }

    fn list(&self) -> Result<Vec<u64>, SegmentError> {
        let io = |e| SegmentError::io(&self.directory, e);
        let mut found: Vec<u64> = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            found.extend(
                name.to_str().and_then(|n| n.strip_suffix(".snap")).and_then(|n| n.parse::<u64>().ok()),
            );
        }
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

fn encode(meta: &SnapshotMeta, state: &[u8]) -> Result<Vec<u8>, postcard::Error> {
    let meta = postcard::to_stdvec(meta)?;
    let length = u32::try_from(meta.len()).map_err(|_| postcard::Error::SerializeBufferFull)?;
    let mut hash = Sha256::new();
    hash.update(length.to_le_bytes());
    hash.update(&meta);
    hash.update(state);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&hash.finalize());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&meta);
    bytes.extend_from_slice(state);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Snapshot, &'static str> {
    let checksum =
        bytes.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk::<32>()).ok_or("this is no snapshot")?;
    let body = bytes.get(HEADER..).ok_or("the snapshot is incomplete")?;
    if Sha256::digest(body).as_slice() != checksum {
        return Err("the snapshot's checksum does not match");
    }
    let (length, rest) = body.split_first_chunk::<4>().ok_or("the snapshot is incomplete")?;
    let length =
        usize::try_from(u32::from_le_bytes(*length)).map_err(|_| "the snapshot's length is impossible")?;
    let (meta, state) = rest.split_at_checked(length).ok_or("the snapshot is incomplete")?;
    let meta = postcard::from_bytes(meta).map_err(|_| "the snapshot's head makes no sense")?;
    Ok(Snapshot { meta, snapshot: Bytes::copy_from_slice(state) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{LogId, StoredMembership};

    fn meta(index: u64) -> SnapshotMeta {
        let log_id = LogId::new(openraft::vote::RaftLeaderId::new(1, 1), index);
        SnapshotMeta { last_log_id: Some(log_id), last_membership: StoredMembership::default() }
    }

    #[test]
    fn the_newest_snapshot_is_kept_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let files = SnapshotFiles::open(dir.path()).unwrap();
        assert!(files.newest().unwrap().is_none());
        files.store(&meta(5), b"five").unwrap();
        files.store(&meta(9), b"nine").unwrap();
        files.store(&meta(7), b"seven, built late").unwrap();
        let found = files.newest().unwrap().unwrap();
        assert_eq!((found.meta, &found.snapshot[..]), (meta(9), b"nine".as_slice()));
    }

    #[test]
    fn a_damaged_snapshot_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let files = SnapshotFiles::open(dir.path()).unwrap();
        files.store(&meta(5), b"five").unwrap();
        let path = files.path(5);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(files.newest().unwrap_err().to_string().contains("00005.snap"));
    }
}
