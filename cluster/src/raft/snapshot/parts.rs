//! A snapshot that is being received: parts go to a file, and a sender that lost its connection goes on where that ends.

use std::path::PathBuf;

use super::{SnapshotFile, SnapshotFiles};
use crate::disk::DiskFile;
use crate::raft::SnapshotMeta;
use crate::segment::SegmentError;

/// See the module.
#[derive(Debug)]
pub(crate) struct Incoming {
    meta: SnapshotMeta,
    total: u64,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    pub(crate) received: u64,
}

impl Incoming {
    /// Begins to receive one.
    pub(crate) fn begin(
        files: &SnapshotFiles,
        meta: SnapshotMeta,
        total: u64,
    ) -> Result<Incoming, SegmentError> {
        let (path, file) = files.incoming()?;
        Ok(Incoming { meta, total, path, file, received: 0 })
    }

    /// It is this one: equal metas have equal bytes, whoever sends them.
    pub(crate) fn is(&self, meta: &SnapshotMeta, total: u64) -> bool {
        self.meta == *meta && self.total == total
    }

    /// Adds a part that begins where the last one ended; others are passed by.
    pub(crate) fn add(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SegmentError> {
        if offset == self.received {
            self.file.write_at(offset, bytes).map_err(|e| SegmentError::io(&self.path, e))?;
            self.received += bytes.len() as u64;
        }
        Ok(())
    }

    /// The whole file, once it is there.
    pub(crate) fn whole(&self) -> Option<Result<SnapshotFile, SegmentError>> {
        (self.received >= self.total).then(|| SnapshotFile::open(&self.path))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "what was received of a snapshot stays for now");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::system;

    #[test]
    fn a_sender_that_begins_again_finds_what_was_received() {
        let dir = tempfile::tempdir().unwrap();
        let files = SnapshotFiles::open(&system(), dir.path()).unwrap();
        let meta = SnapshotMeta::default();
        let mut incoming = Incoming::begin(&files, meta.clone(), 5).unwrap();
        incoming.add(0, b"abc").unwrap();
        assert!(incoming.whole().is_none());
        // The connection breaks here; the same snapshot is offered again, from its beginning.
        assert!(incoming.is(&meta, 5) && !incoming.is(&meta, 6));
        incoming.add(0, b"abc").unwrap();
        assert_eq!(incoming.received, 3);
        incoming.add(3, b"de").unwrap();
        let whole = incoming.whole().unwrap().unwrap();
        assert_eq!(whole.read_at(0, 100).unwrap(), b"abcde");
    }
}
