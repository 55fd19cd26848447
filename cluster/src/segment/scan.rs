//! Opening a store: which files belong to it, what they hold, and where the last one ends.

use std::path::{Path, PathBuf};

use super::store::{Location, Visit};
use super::{SegmentError, frame, sync_directory};

/// Bytes at the start of each file: a magic and the number of its first record.
pub(crate) const FILE_HEADER: usize = 16;
const FILE_MAGIC: [u8; 8] = *b"TANDEMS1";

/// What a scan found of the last file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) next: u64,
    pub(crate) offset: u64,
    /// Bytes of a torn tail that were cut.
    pub(crate) cut: u64,
}

/// The file that begins with record `first`.
pub(crate) fn file_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.seg"))
}

/// A new file's first bytes.
pub(crate) fn file_header(first: u64) -> Vec<u8> {
    let mut header = FILE_MAGIC.to_vec();
    header.extend_from_slice(&first.to_le_bytes());
    header
}

/// The first record numbers of the files in `directory`, in order.
pub(crate) fn list(directory: &Path) -> Result<Vec<u64>, SegmentError> {
    let io = |e| SegmentError::io(directory, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let first: Option<u64> =
            name.to_str().and_then(|n| n.strip_suffix(".seg")).and_then(|n| n.parse().ok());
        found.extend(first);
    }
    found.sort_unstable();
    Ok(found)
}

/// Scans a file that was closed in order: everything in it was acknowledged.
pub(crate) fn sealed(
    directory: &Path,
    first: u64,
    next_file: u64,
    visit: Visit<'_>,
) -> Result<(), SegmentError> {
    let path = file_path(directory, first);
    let bytes = std::fs::read(&path).map_err(|e| SegmentError::io(&path, e))?;
    check_header(&path, &bytes, first)?;
    let (next, offset, problem) = walk(&bytes, first, visit)?;
    if let Some(what) = problem {
        return Err(SegmentError::rot(&path, offset, what));
    }
    if next != next_file {
        return Err(SegmentError::rot(&path, offset, format!("records {next} to {next_file} are missing")));
    }
    Ok(())
}

/// Scans the last file and cuts a torn tail. `None`: the file itself was torn while it was made, and is removed.
pub(crate) fn last(directory: &Path, first: u64, visit: Visit<'_>) -> Result<Option<Tail>, SegmentError> {
    let path = file_path(directory, first);
    let io = |e| SegmentError::io(&path, e);
    let bytes = std::fs::read(&path).map_err(io)?;
    if bytes.len() < FILE_HEADER {
        std::fs::remove_file(&path).map_err(io)?;
        sync_directory(directory)?;
        return Ok(None);
    }
    check_header(&path, &bytes, first)?;
    let (next, offset, problem) = walk(&bytes, first, visit)?;
    let mut tail = Tail { next, offset, cut: 0 };
    let Some(what) = problem else { return Ok(Some(tail)) };
    let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    if frame::greatest_mark(rest.get(1..).unwrap_or_default()).is_some_and(|mark| mark > next) {
        return Err(SegmentError::rot(&path, offset, what));
    }
    tail.cut = rest.len().try_into().unwrap_or(u64::MAX);
    let file = std::fs::OpenOptions::new().write(true).open(&path).map_err(io)?;
    file.set_len(offset).and_then(|()| file.sync_all()).map_err(io)?;
    tracing::warn!(file = %path.display(), offset, bytes = tail.cut, "cut a torn tail that was never acknowledged");
    Ok(Some(tail))
}

fn check_header(path: &Path, bytes: &[u8], first: u64) -> Result<(), SegmentError> {
    match bytes.get(..FILE_HEADER) {
        Some(header) if header == file_header(first) => Ok(()),
        _ => Err(SegmentError::rot(path, 0, "the file header is not this file's")),
    }
}

/// Visits intact records in order. Returns the next number, where the walk ended, and what is wrong there.
fn walk(
    bytes: &[u8],
    first: u64,
    visit: Visit<'_>,
) -> Result<(u64, u64, Option<&'static str>), SegmentError> {
    let mut next = first;
    let mut at = FILE_HEADER;
    loop {
        let offset = u64::try_from(at).unwrap_or(u64::MAX);
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok((next, offset, None));
        }
        let found = match frame::read(rest) {
            Ok(found) if found.number == next => found,
            Ok(_) => return Ok((next, offset, Some("the record has another's number"))),
            Err(what) => return Ok((next, offset, Some(what))),
        };
        if let Some(payload) = found.payload {
            visit(next, Location { segment: first, offset, size: found.size as u64 }, payload)?;
            next += 1;
        }
        at += found.size;
    }
}
