//! Append-only, checksummed segment files: the Raft log and the archive stand on them.
//!
//! A store is a directory of files named by the number of their first record. Records are numbered without gaps and
//! never changed; each carries a checksum and the *durable mark*: every record below it had been synced when this one
//! was written. So, when a record is found damaged, a later intact one tells whether the damaged one had been
//! acknowledged (rot: the node stops) or was lost in a crash while being written (a torn tail: it is cut).
//!
//! What it can't tell: rot in the very last batch before a crash, when nothing was written after it. A mark is
//! written when the store falls idle and when it is closed, so that this is short.

mod frame;
mod scan;
mod store;

pub use store::{Location, Reader, Segments, Visit};

use std::path::{Path, PathBuf};

/// Why a store can't be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Acknowledged records are damaged or gone: nothing here repairs that.
    #[error(
        "{path} is damaged at byte {offset}: {what}; records that were acknowledged are lost on this node: \
         remove its data directory and join as a new node, or restore the file"
    )]
    Rot {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// An earlier write failed; the store takes nothing more.
    #[error("the store stopped after a failed write: {0}")]
    Stopped(String),
}

impl SegmentError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> SegmentError {
        SegmentError::Io { path: path.to_owned(), source }
    }

    pub(crate) fn rot(path: &Path, offset: u64, what: impl Into<String>) -> SegmentError {
        SegmentError::Rot { path: path.to_owned(), offset, what: what.into() }
    }
}

/// Makes a directory's entries durable after a file in it was made, renamed or removed.
pub(crate) fn sync_directory(path: &Path) -> Result<(), SegmentError> {
    std::fs::File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| SegmentError::io(path, e))
}

/// Puts a whole file in place: written beside, synced, renamed, directory synced.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SegmentError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let beside = path.with_extension("new");
    let write = || {
        let mut file =
            std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|e| SegmentError::io(path, e))?;
    match path.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}
