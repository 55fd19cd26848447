//! Reading a store from beside its writer: single records by their place, or all from a number on.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Location, SegmentError, frame, scan};
use crate::disk::Disk;

/// Files that a store's readers have open, by their first record.
pub(crate) type Files = Arc<Mutex<BTreeMap<u64, Arc<File>>>>;

/// Reads single records by their place.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    files: Files,
}

/// Where reading in order goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The next record that is wanted.
    number: u64,
    /// In which file, at which byte, the record `reached` begins.
    segment: Option<u64>,
    offset: u64,
    reached: u64,
}

impl Cursor {
    /// Begins with a record.
    pub(crate) fn at(number: u64) -> Cursor {
        Cursor { number, segment: None, offset: 0, reached: 0 }
    }

    /// Begins with a record whose place is known.
    pub(crate) fn from(number: u64, location: Location) -> Cursor {
        Cursor { number, segment: Some(location.segment), offset: location.offset, reached: number }
    }

    /// The next record that is wanted.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

/// A record that was read in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) number: u64,
    pub(crate) location: Location,
    pub(crate) payload: Vec<u8>,
}

/// Bytes read at once.
const CHUNK: usize = 1024 * 1024;

/// Open files that a reader keeps.
const FILES_MAX: usize = 32;

impl Reader {
    pub(crate) fn new(disk: &Arc<dyn Disk>, directory: &Path, files: &Files) -> Reader {
        Reader { disk: Arc::clone(disk), directory: directory.to_owned(), files: Arc::clone(files) }
    }

    /// Where its files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// About a chunk's worth of records from a place on, and moves the place behind them. None: nothing more is written.
    pub(crate) fn pass(&self, cursor: &mut Cursor) -> Result<Vec<Passed>, SegmentError> {
        let firsts = scan::list(&*self.disk, &self.directory)?;
        let mut passed = Vec::new();
        while passed.is_empty() {
            let Some(at) = firsts.iter().rposition(|first| *first <= cursor.number) else { break };
            let Some(segment) = firsts.get(at).copied() else { break };
            if cursor.segment != Some(segment) {
                let offset = scan::FILE_HEADER as u64;
                *cursor = Cursor { number: cursor.number, segment: Some(segment), offset, reached: segment };
            }
            let limit = firsts.get(at + 1).copied();
            if !self.pass_chunk(segment, limit, cursor, &mut passed)? {
                break;
            }
        }
        Ok(passed)
    }

    /// False when the last file has no more.
    fn pass_chunk(
        &self,
        segment: u64,
        limit: Option<u64>,
        cursor: &mut Cursor,
        passed: &mut Vec<Passed>,
    ) -> Result<bool, SegmentError> {
        let before = cursor.offset;
        let mut what = "the record is incomplete";
        for size in [CHUNK, frame::HEADER + frame::PAYLOAD_MAX] {
            let bytes = self.bytes(segment, cursor.offset, size)?;
            let mut rest = bytes.as_slice();
            while limit.is_none_or(|limit| cursor.reached < limit) && !rest.is_empty() {
                let frame = match frame::read(rest) {
                    Ok(frame) if frame.number == cursor.reached => frame,
                    Ok(_) => {
                        what = "the record has another's number";
                        break;
                    }
                    Err(why) => {
                        what = why;
                        break;
                    }
                };
                cursor.took(segment, &frame, passed);
                rest = rest.get(frame.size..).unwrap_or_default();
            }
            if cursor.offset > before {
                return Ok(true);
            }
            if bytes.len() < size {
                break;
            }
        }
        match limit {
            None => Ok(false),
            Some(_) => {
                Err(SegmentError::rot(&scan::file_path(&self.directory, segment), cursor.offset, what))
            }
        }
    }

    fn bytes(&self, segment: u64, offset: u64, size: usize) -> Result<Vec<u8>, SegmentError> {
        let path = scan::file_path(&self.directory, segment);
        let file = self.file(segment, &path)?;
        let mut bytes = vec![0; size.min(CHUNK)];
        let mut length = 0;
        loop {
            let at = offset.saturating_add(length as u64);
            let room = bytes.get_mut(length..).unwrap_or_default();
            let read = file.read_at(room, at).map_err(|e| SegmentError::io(&path, e))?;
            length += read;
            if read == 0 || length >= size {
                break;
            }
            if length == bytes.len() {
                bytes.resize(size.min(length.saturating_mul(2)), 0);
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// The payload of the record at `location`, which was written.
    pub(crate) fn read(&self, location: Location) -> Result<Vec<u8>, SegmentError> {
        let path = scan::file_path(&self.directory, location.segment);
        let io = |e| SegmentError::io(&path, e);
        let size = usize::try_from(location.size)
            .ok()
            .filter(|size| *size <= frame::PAYLOAD_MAX + frame::HEADER)
            .ok_or_else(|| SegmentError::rot(&path, location.offset, "its length is impossible"))?;
        let mut bytes = vec![0; size];
        self.file(location.segment, &path)?.read_exact_at(&mut bytes, location.offset).map_err(io)?;
        match frame::read(&bytes) {
            Ok(found) if found.size == size && found.payload.is_some() => Ok(bytes.split_off(frame::HEADER)),
            Ok(_) => Err(SegmentError::rot(&path, location.offset, "another record is here")),
            Err(what) => Err(SegmentError::rot(&path, location.offset, what)),
        }
    }

    fn file(&self, segment: u64, path: &Path) -> Result<Arc<File>, SegmentError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&segment) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(path).map_err(|e| SegmentError::io(path, e))?);
        if files.len() >= FILES_MAX {
            files.pop_first();
        }
        files.insert(segment, Arc::clone(&file));
        Ok(file)
    }
}

impl Cursor {
    fn took(&mut self, segment: u64, frame: &frame::Frame<'_>, passed: &mut Vec<Passed>) {
        let location = Location { segment, offset: self.offset, size: frame.size as u64 };
        self.offset += frame.size as u64;
        let Some(payload) = frame.payload else { return };
        if self.reached >= self.number {
            passed.push(Passed { number: self.reached, location, payload: payload.to_vec() });
            self.number = self.reached + 1;
        }
        self.reached += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::faults::Faults;
    use crate::segment::Segments;

    fn all(reader: &Reader, from: u64) -> Result<Vec<(u64, Vec<u8>)>, SegmentError> {
        let mut cursor = Cursor::at(from);
        let mut found = Vec::new();
        loop {
            let passed = reader.pass(&mut cursor)?;
            if passed.is_empty() {
                return Ok(found);
            }
            for record in passed {
                assert_eq!(reader.read(record.location).unwrap(), record.payload);
                found.push((record.number, record.payload));
            }
        }
    }

    fn numbered(range: std::ops::Range<u64>) -> Vec<(u64, Vec<u8>)> {
        range.map(|number| (number, number.to_string().into_bytes())).collect()
    }

    fn fill(store: &mut Segments, range: std::ops::Range<u64>) {
        for (_, payload) in numbered(range) {
            if store.full() {
                store.roll().unwrap();
            }
            store.append(&payload).unwrap();
        }
    }

    #[test]
    fn records_are_passed_in_order_over_files_and_from_the_middle_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let disk = crate::disk::system();
        let mut store = Segments::open(&disk, dir.path(), 200, true, &mut |_, _, _| Ok(())).unwrap();
        fill(&mut store, 0..20);
        store.sync().unwrap();
        store.mark().unwrap();
        let reader = store.reader();
        assert_eq!(all(&reader, 0).unwrap(), numbered(0..20));
        assert_eq!(all(&reader, 13).unwrap(), numbered(13..20));
        assert_eq!(all(&reader, 20).unwrap(), vec![]);
        fill(&mut store, 20..21);
        store.sync().unwrap();
        assert_eq!(all(&reader, 20).unwrap(), numbered(20..21));
    }

    #[test]
    fn a_file_s_records_end_where_the_next_file_begins() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let mut store =
            Segments::open(&faults.disk(), dir.path(), 9999, true, &mut |_, _, _| Ok(())).unwrap();
        fill(&mut store, 0..3);
        store.sync().unwrap();
        fill(&mut store, 3..6);
        faults.fail_syncs(1);
        assert!(store.sync().is_err());
        store.sync().unwrap();
        assert_eq!(all(&store.reader(), 0).unwrap(), numbered(0..6));
        assert_eq!(all(&store.reader(), 4).unwrap(), numbered(4..6));
    }

    #[test]
    fn a_longer_record_than_a_chunk_is_passed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = crate::disk::system();
        let mut store = Segments::open(&disk, dir.path(), 200, true, &mut |_, _, _| Ok(())).unwrap();
        let long = vec![7; CHUNK * 3];
        store.append(&long).unwrap();
        store.sync().unwrap();
        assert_eq!(all(&store.reader(), 0).unwrap(), vec![(0, long)]);
    }

    #[test]
    fn damage_in_a_closed_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let disk = crate::disk::system();
        let mut store = Segments::open(&disk, dir.path(), 200, true, &mut |_, _, _| Ok(())).unwrap();
        fill(&mut store, 0..20);
        store.sync().unwrap();
        let path = scan::file_path(dir.path(), 0);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[scan::FILE_HEADER + frame::HEADER] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(
            matches!(all(&store.reader(), 0), Err(SegmentError::Rot { path: found, .. }) if found == path)
        );
    }
}
