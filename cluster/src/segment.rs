//! Append-only, checksummed segment files: the Raft log and the archive stand on them.
//!
//! A store is a directory of files named by the number of their first record. Records are numbered without gaps and
//! never changed; each carries a checksum and the *durable mark*: every record below it had been synced when this one
//! was written. So, when a record is found damaged, a later intact one tells whether the damaged one had been
//! acknowledged (rot: the node stops) or was lost in a crash while being written (a torn tail: it is cut).
//!
//! A file whose sync failed is believed up to its last good sync and no further: what was written after that goes to a
//! new file, which begins with the first of those records, so a file's end is where the next one begins, whatever
//! stands behind it. After a start the records that no mark vouches for are written and synced once more, because a
//! process before this one may have seen their sync fail.
//!
//! What it can't tell: rot in the very last batch before a crash, when nothing was written after it. A mark is
//! written when the store falls idle and when it is closed, so that this is short.

mod frame;
mod reader;
mod scan;
mod store;

pub(crate) use reader::Reader;
pub(crate) use reader::{Cursor, Passed};
pub(crate) use store::{Location, Segments};

use std::path::{Path, PathBuf};

/// What to do about a node whose disk lost what it had acknowledged.
const REBUILD: &str = "records that were acknowledged are lost on this node, and its peers have them: `tandem cluster \
    remove` it at one of those, then join with an empty data directory and a new name (deploy/runbooks/disk-rot.md); or \
    restore the file";

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
    /// Acknowledged records are damaged: nothing here repairs that.
    #[error("{path} is damaged at byte {offset}: {what}; {}", REBUILD)]
    Rot {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// Files with what was acknowledged are gone: nothing here brings them back.
    #[error("{path} lacks {what}; {}", REBUILD)]
    Missing {
        /// Which directory.
        path: PathBuf,
        /// What is not in it.
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

/// Puts a whole file in place, for its owner alone.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), SegmentError> {
    crate::disk::replace_file(&*crate::disk::system(), path, bytes).map_err(|e| SegmentError::io(path, e))
}

/// Makes a directory's entries durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), SegmentError> {
    crate::disk::system().sync_directory(path).map_err(|e| SegmentError::io(path, e))
}
