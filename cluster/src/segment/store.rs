//! The store itself: one writer, no thread of its own; callers decide when to write and when to sync.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{SegmentError, frame, scan, sync_directory};

/// Called for each record that a scan passes: its number, its place, its payload.
pub type Visit<'a> = &'a mut dyn FnMut(u64, Location, &[u8]) -> Result<(), SegmentError>;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The first record of its file.
    pub segment: u64,
    /// Where its frame begins.
    pub offset: u64,
    /// Bytes of its frame.
    pub size: u64,
}

/// A store open for appending. Reading needs a [`Reader`], which other threads may have.
#[derive(Debug)]
pub struct Segments {
    directory: PathBuf,
    segment_bytes: u64,
    /// First records of all files, the last of which is written to.
    firsts: Vec<u64>,
    file: File,
    /// The file's length with everything in `buffer`.
    offset: u64,
    buffer: Vec<u8>,
    next: u64,
    durable: u64,
    marked: u64,
}

impl Segments {
    /// Opens or makes the store in `directory`. With `all`, every record is visited and checked, else those of the last
    /// file; earlier files are then checked as they are read.
    pub fn open(
        directory: &Path,
        segment_bytes: u64,
        all: bool,
        visit: Visit<'_>,
    ) -> Result<Segments, SegmentError> {
        std::fs::create_dir_all(directory).map_err(|e| SegmentError::io(directory, e))?;
        let mut firsts = scan::list(directory)?;
        if all {
            for (first, next) in firsts.iter().zip(firsts.iter().skip(1)) {
                // A last file that was torn while it was made still tells where the one before it ended.
                scan::sealed(directory, *first, *next, visit)?;
            }
        }
        let mut tail = None;
        if let Some(first) = firsts.last().copied() {
            tail = scan::last(directory, first, visit)?;
            if tail.is_none() {
                firsts.pop();
                let next = first;
                let file = create_file(directory, next)?;
                firsts.push(next);
                return Ok(Segments::at(
                    directory,
                    segment_bytes,
                    firsts,
                    file,
                    scan::FILE_HEADER as u64,
                    next,
                ));
            }
        }
        let Some((tail, first)) = tail.zip(firsts.last().copied()) else {
            let file = create_file(directory, 0)?;
            return Ok(Segments::at(directory, segment_bytes, vec![0], file, scan::FILE_HEADER as u64, 0));
        };
        let path = scan::file_path(directory, first);
        let file = File::options().append(true).open(&path).map_err(|e| SegmentError::io(&path, e))?;
        // What a crash left in the page cache counts as durable only once it is synced.
        file.sync_all().map_err(|e| SegmentError::io(&path, e))?;
        Ok(Segments::at(directory, segment_bytes, firsts, file, tail.offset, tail.next))
    }

    fn at(dir: &Path, segment_bytes: u64, firsts: Vec<u64>, file: File, offset: u64, next: u64) -> Segments {
        Segments {
            directory: dir.to_owned(),
            segment_bytes,
            firsts,
            file,
            offset,
            buffer: Vec::new(),
            next,
            durable: next,
            marked: 0,
        }
    }

    /// The number of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The number of the oldest record kept.
    pub fn oldest(&self) -> u64 {
        self.firsts.first().copied().unwrap_or(self.next)
    }

    /// All records below this are synced.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The file being written is long enough: [`Segments::roll`] is due.
    pub fn full(&self) -> bool {
        self.offset >= self.segment_bytes && self.firsts.last().is_some_and(|first| *first < self.next)
    }

    /// Adds a record to the buffer; [`Segments::write`] hands it to the kernel.
    pub fn append(&mut self, payload: &[u8]) -> Result<Location, SegmentError> {
        if payload.len() > frame::PAYLOAD_MAX {
            return Err(SegmentError::Stopped("a record is too long".into()));
        }
        let segment = self.firsts.last().copied().unwrap_or_default();
        let size = (frame::HEADER + payload.len()) as u64;
        let location = Location { segment, offset: self.offset, size };
        frame::put_record(&mut self.buffer, self.next, self.durable, payload);
        self.next += 1;
        self.offset += size;
        Ok(location)
    }

    /// Hands the buffer to the kernel.
    pub fn write(&mut self) -> Result<(), SegmentError> {
        if !self.buffer.is_empty() {
            self.file.write_all(&self.buffer).map_err(|e| SegmentError::io(&self.path(), e))?;
            self.buffer.clear();
            self.buffer.shrink_to(1024 * 1024);
        }
        Ok(())
    }

    /// Writes and makes everything durable.
    pub fn sync(&mut self) -> Result<(), SegmentError> {
        self.write()?;
        if self.durable < self.next {
            self.file.sync_data().map_err(|e| SegmentError::io(&self.path(), e))?;
            self.durable = self.next;
        }
        Ok(())
    }

    /// Leaves a durable mark, so that rot in the last records can be told from a torn tail. Not synced.
    pub fn mark(&mut self) -> Result<(), SegmentError> {
        if self.marked < self.durable && self.buffer.is_empty() {
            frame::put_mark(&mut self.buffer, self.next, self.durable);
            self.offset += frame::HEADER as u64;
            self.marked = self.durable;
            self.write()?;
        }
        Ok(())
    }

    /// Closes the file (durable) and begins the next.
    pub fn roll(&mut self) -> Result<(), SegmentError> {
        self.sync()?;
        self.file = create_file(&self.directory, self.next)?;
        self.firsts.push(self.next);
        self.offset = scan::FILE_HEADER as u64;
        Ok(())
    }

    /// Removes the files all of whose records are below `number`; never the one being written.
    pub fn remove_below(&mut self, number: u64) -> Result<(), SegmentError> {
        let mut removed = false;
        while self.firsts.get(1).is_some_and(|second| *second <= number) {
            let first = self.firsts.remove(0);
            let path = scan::file_path(&self.directory, first);
            std::fs::remove_file(&path).map_err(|e| SegmentError::io(&path, e))?;
            removed = true;
        }
        if removed { sync_directory(&self.directory) } else { Ok(()) }
    }

    /// Visits the records from `from` on in the files' order. Needs [`Segments::write`] before it.
    pub fn visit_from(&self, from: u64, visit: Visit<'_>) -> Result<(), SegmentError> {
        let ends = self.firsts.iter().skip(1).copied().chain([self.next]);
        for (first, end) in self.firsts.iter().copied().zip(ends) {
            if end > from {
                scan::sealed(&self.directory, first, end, &mut |number, location, payload| {
                    if number < from { Ok(()) } else { visit(number, location, payload) }
                })?;
            }
        }
        Ok(())
    }

    /// A reader of this store.
    pub fn reader(&self) -> Reader {
        Reader { directory: self.directory.clone(), files: Arc::default() }
    }

    fn path(&self) -> PathBuf {
        scan::file_path(&self.directory, self.firsts.last().copied().unwrap_or_default())
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        let _ = self.sync().and_then(|()| self.mark());
    }
}

fn create_file(directory: &Path, first: u64) -> Result<File, SegmentError> {
    let path = scan::file_path(directory, first);
    let make = || {
        let mut file = File::options().append(true).create_new(true).open(&path)?;
        file.write_all(&scan::file_header(first))?;
        file.sync_all()?;
        Ok(file)
    };
    let file = make().map_err(|e| SegmentError::io(&path, e))?;
    sync_directory(directory)?;
    Ok(file)
}

/// Reads single records by their place.
#[derive(Debug, Clone)]
pub struct Reader {
    directory: PathBuf,
    files: Arc<Mutex<BTreeMap<u64, Arc<File>>>>,
}

/// Open files that a reader keeps.
const FILES_MAX: usize = 32;

impl Reader {
    /// The payload of the record at `location`, which was written.
    pub fn read(&self, location: Location) -> Result<Vec<u8>, SegmentError> {
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

#[cfg(test)]
mod tests;
