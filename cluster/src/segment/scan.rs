//! Opening a store: which files belong to it, what they hold, and where the last one ends.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::store::{Location, Visit};
use super::{SegmentError, frame};
use crate::disk::Disk;

/// Bytes at the start of each file: a magic and the number of its first record.
pub(crate) const FILE_HEADER: usize = 16;
const FILE_MAGIC: [u8; 8] = *b"TANDEMS1";

/// What a scan found of the last file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) next: u64,
    /// The records below this were vouched for by a later mark.
    pub(crate) durable: u64,
    /// Where the last of these ends.
    pub(crate) offset: u64,
    /// The frames behind it: of other records, and of marks, which were not synced either.
    pub(crate) bytes: Vec<u8>,
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
pub(crate) fn list(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, SegmentError> {
    let names = disk.names(directory).map_err(|e| SegmentError::io(directory, e))?;
    let first = |name: &String| name.strip_suffix(".seg").and_then(|n| n.parse::<u64>().ok());
    let mut found: Vec<u64> = names.iter().filter_map(first).collect();
    found.sort_unstable();
    Ok(found)
}

/// Scans a file that another follows: its records below that one's first were acknowledged, others don't count.
pub(crate) fn sealed(
    disk: &dyn Disk,
    directory: &Path,
    first: u64,
    next_file: u64,
    visit: Visit<'_>,
) -> Result<(), SegmentError> {
    let path = file_path(directory, first);
    let bytes = disk.read(&path).map_err(|e| SegmentError::io(&path, e))?;
    check_header(&path, &bytes, first)?;
    let walked = walk(&bytes, first, next_file, visit)?;
    if let Some(what) = walked.problem {
        return Err(SegmentError::rot(&path, walked.offset, what));
    }
    if walked.next != next_file {
        let what = format!("records {} to {next_file} are missing", walked.next);
        return Err(SegmentError::rot(&path, walked.offset, what));
    }
    Ok(())
}

/// Scans the last file and cuts a torn tail. `None`: the file itself was torn while it was made, and is removed.
pub(crate) fn last(
    disk: &dyn Disk,
    directory: &Path,
    first: u64,
    visit: Visit<'_>,
) -> Result<Option<Tail>, SegmentError> {
    let path = file_path(directory, first);
    let io = |e| SegmentError::io(&path, e);
    let mut bytes = disk.read(&path).map_err(io)?;
    if bytes.len() < FILE_HEADER {
        disk.remove(&path).map_err(io)?;
        disk.sync_directory(directory).map_err(io)?;
        return Ok(None);
    }
    check_header(&path, &bytes, first)?;
    let walked = walk(&bytes, first, u64::MAX, visit)?;
    let end = usize::try_from(walked.offset).unwrap_or(bytes.len());
    if let Some(what) = walked.problem {
        let rest = bytes.get(end..).unwrap_or_default();
        if frame::greatest_mark(rest.get(1..).unwrap_or_default()).is_some_and(|mark| mark > walked.next) {
            return Err(SegmentError::rot(&path, walked.offset, what));
        }
        let cut = rest.len();
        disk.open(&path)
            .and_then(|mut file| file.truncate(walked.offset).and_then(|()| file.sync()))
            .map_err(io)?;
        tracing::warn!(file = %path.display(), offset = end, bytes = cut, "cut a torn tail that was never acknowledged");
    }
    bytes.truncate(end);
    let vouched_end = walked.vouched_end;
    let bytes = bytes.split_off(usize::try_from(vouched_end).unwrap_or(end).min(end));
    let durable = walked.durable.clamp(first, walked.next);
    Ok(Some(Tail { next: walked.next, durable, offset: vouched_end, bytes }))
}

fn check_header(path: &Path, bytes: &[u8], first: u64) -> Result<(), SegmentError> {
    match bytes.get(..FILE_HEADER) {
        Some(header) if header == file_header(first) => Ok(()),
        _ => Err(SegmentError::rot(path, 0, "the file header is not this file's")),
    }
}

/// How far a file's records are intact.
struct Walked {
    next: u64,
    offset: u64,
    problem: Option<&'static str>,
    durable: u64,
    /// Where the last record ends that a mark vouches for.
    vouched_end: u64,
    /// Records that none does, and where they end.
    unmarked: VecDeque<(u64, u64)>,
}

impl Walked {
    fn vouched(&mut self, durable: u64) {
        self.durable = self.durable.max(durable);
        while let Some((_, end)) = self.unmarked.front().copied().filter(|(number, _)| *number < durable) {
            self.vouched_end = end;
            self.unmarked.pop_front();
        }
    }
}

/// Visits intact records below `limit` in order.
fn walk(bytes: &[u8], first: u64, limit: u64, visit: Visit<'_>) -> Result<Walked, SegmentError> {
    let begins = FILE_HEADER as u64;
    let mut walked = Walked {
        next: first,
        offset: begins,
        problem: None,
        durable: 0,
        vouched_end: begins,
        unmarked: VecDeque::new(),
    };
    let mut at = FILE_HEADER;
    loop {
        walked.offset = u64::try_from(at).unwrap_or(u64::MAX);
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.is_empty() || walked.next >= limit {
            return Ok(walked);
        }
        let found = match frame::read(rest) {
            Ok(found) if found.number == walked.next => found,
            Ok(_) => {
                walked.problem = Some("the record has another's number");
                return Ok(walked);
            }
            Err(what) => {
                walked.problem = Some(what);
                return Ok(walked);
            }
        };
        walked.vouched(found.durable);
        if let Some(payload) = found.payload {
            let location = Location { segment: first, offset: walked.offset, size: found.size as u64 };
            visit(walked.next, location, payload)?;
            walked.unmarked.push_back((walked.next, walked.offset + found.size as u64));
            walked.next += 1;
        }
        at += found.size;
    }
}
