//! The store itself: one writer, no thread of its own; callers decide when to write and when to sync.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use super::reader::{Files, Reader};
use super::{SegmentError, frame, scan};
use crate::disk::{Disk, DiskFile, put_in_place};

/// Called for each record that a scan passes: its number, its place, its payload.
pub(super) type Visit<'a> = &'a mut dyn FnMut(u64, Location, &[u8]) -> Result<(), SegmentError>;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Location {
    /// The first record of its file.
    pub segment: u64,
    /// Where its frame begins.
    pub offset: u64,
    /// Bytes of its frame.
    pub size: u64,
}

/// Records that went to another file, because a sync of theirs failed: where they were, and where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The first of them.
    pub(crate) number: u64,
    from: (u64, u64),
    to: (u64, u64),
}

impl Moved {
    /// Where a record stands now.
    pub(crate) fn follow(&self, location: Location) -> Location {
        let ((from, begin), (to, begins)) = (self.from, self.to);
        if location.segment != from || location.offset < begin {
            return location;
        }
        Location { segment: to, offset: location.offset - begin + begins, size: location.size }
    }
}

/// A store open for appending. Reading needs a [`Reader`], which other threads may have.
///
/// What is not synced yet is kept in memory, so a write that fails can be tried again, and a sync that fails is
/// followed by a new file ([`Segments::take_moved`]). Callers try again, or give up.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    segment_bytes: u64,
    /// First records of all files, the last of which is written to.
    firsts: Vec<u64>,
    file: Box<dyn DiskFile>,
    /// Frames that are not synced; where they begin in the file; how many bytes of them the kernel has.
    pending: Vec<u8>,
    pending_at: u64,
    written: usize,
    /// A sync of the file failed.
    suspect: bool,
    moved: Vec<Moved>,
    files: Files,
    next: u64,
    durable: u64,
    marked: u64,
}

impl Segments {
    /// Whether a store was ever made in `directory`.
    pub(crate) fn exist(disk: &Arc<dyn Disk>, directory: &Path) -> bool {
        scan::list(&**disk, directory).is_ok_and(|firsts| !firsts.is_empty())
    }

    /// Opens or makes the store in `directory`. With `all`, every record is visited and checked, else those of the last
    /// file; earlier files are then checked as they are read.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        segment_bytes: u64,
        all: bool,
        visit: Visit<'_>,
    ) -> Result<Segments, SegmentError> {
        let made = disk.make_directory(directory);
        made.map_err(|e| SegmentError::io(directory, e))?;
        let mut firsts = scan::list(&**disk, directory)?;
        if all {
            for (first, next) in firsts.iter().zip(firsts.iter().skip(1)) {
                // A last file that was torn while it was made still tells where the one before it ended.
                scan::sealed(&**disk, directory, *first, *next, visit)?;
            }
        }
        let newest = firsts.last().copied();
        let tail = match newest {
            Some(first) => scan::last(&**disk, directory, first, visit)?,
            None => None,
        };
        let (file, tail) = match tail {
            Some(tail) => (open_file(&**disk, directory, newest.unwrap_or_default())?, tail),
            None => {
                let next = newest.unwrap_or_default();
                let file = create_file(&**disk, directory, next)?;
                if newest.is_none() {
                    firsts.push(next);
                }
                let offset = scan::FILE_HEADER as u64;
                (file, scan::Tail { next, durable: next, offset, bytes: Vec::new() })
            }
        };
        let mut store = Segments {
            disk: Arc::clone(disk),
            directory: directory.to_owned(),
            segment_bytes,
            firsts,
            file,
            pending: tail.bytes,
            pending_at: tail.offset,
            written: 0,
            suspect: false,
            moved: Vec::new(),
            files: Files::default(),
            next: tail.next,
            durable: tail.durable,
            marked: 0,
        };
        store.sync()?;
        Ok(store)
    }

    /// The number of the next record.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The number of the oldest record kept.
    pub(crate) fn oldest(&self) -> u64 {
        self.firsts.first().copied().unwrap_or(self.next)
    }

    /// The file being written is long enough: [`Segments::roll`] is due.
    pub(crate) fn full(&self) -> bool {
        self.offset() >= self.segment_bytes && self.firsts.last().is_some_and(|first| *first < self.next)
    }

    /// About how many bytes its files hold.
    pub(crate) fn bytes(&self) -> u64 {
        self.segment_bytes
            .saturating_mul(self.firsts.len().saturating_sub(1) as u64)
            .saturating_add(self.offset())
    }

    /// Bytes that no sync has seen.
    pub(crate) fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// The file's length with everything that is pending.
    fn offset(&self) -> u64 {
        self.pending_at + self.pending.len() as u64
    }

    /// Takes a record; [`Segments::write`] hands it to the kernel.
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<Location, SegmentError> {
        if payload.len() > frame::PAYLOAD_MAX {
            return Err(SegmentError::Stopped("a record is too long".into()));
        }
        let size = (frame::HEADER + payload.len()) as u64;
        let location = Location { segment: self.segment(), offset: self.offset(), size };
        frame::put_record(&mut self.pending, self.next, self.durable, payload);
        self.next += 1;
        Ok(location)
    }

    /// Hands everything to the kernel.
    pub(crate) fn write(&mut self) -> Result<(), SegmentError> {
        if self.suspect {
            self.begin_anew()?;
        }
        let rest = self.pending.get(self.written..).unwrap_or_default();
        if !rest.is_empty() {
            let at = self.pending_at + self.written as u64;
            self.file.write_at(at, rest).map_err(|e| SegmentError::io(&self.path(), e))?;
            self.written = self.pending.len();
        }
        Ok(())
    }

    /// Writes and makes everything durable.
    pub(crate) fn sync(&mut self) -> Result<(), SegmentError> {
        self.write()?;
        if self.durable < self.next {
            if let Err(error) = self.file.sync() {
                self.suspect = true;
                return Err(SegmentError::io(&self.path(), error));
            }
            self.durable = self.next;
            self.pending_at = self.offset();
            self.pending.clear();
            self.pending.shrink_to(1024 * 1024);
            self.written = 0;
        }
        Ok(())
    }

    /// Leaves a durable mark, so that rot in the last records can be told from a torn tail. Not synced.
    pub(crate) fn mark(&mut self) -> Result<(), SegmentError> {
        if self.marked < self.durable && self.durable == self.next {
            frame::put_mark(&mut self.pending, self.next, self.durable);
            self.marked = self.durable;
            self.write()?;
        }
        Ok(())
    }

    /// Closes the file (durable) and begins the next.
    pub(crate) fn roll(&mut self) -> Result<(), SegmentError> {
        self.sync()?;
        self.file = create_file(&*self.disk, &self.directory, self.next)?;
        self.firsts.push(self.next);
        self.pending.clear();
        self.pending_at = scan::FILE_HEADER as u64;
        self.written = 0;
        Ok(())
    }

    /// Writes what is not durable to a new file, which takes the place of the old one's end.
    fn begin_anew(&mut self) -> Result<(), SegmentError> {
        let (old, number) = (self.segment(), self.durable);
        self.file = create_file(&*self.disk, &self.directory, number)?;
        let begins = scan::FILE_HEADER as u64;
        self.moved.push(Moved { number, from: (old, self.pending_at), to: (number, begins) });
        if old != number {
            self.firsts.push(number);
        }
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        self.pending_at = begins;
        self.written = 0;
        self.suspect = false;
        Ok(())
    }

    /// Which records went elsewhere since the last call, in the order in which they did.
    pub(crate) fn take_moved(&mut self) -> Vec<Moved> {
        std::mem::take(&mut self.moved)
    }

    /// Removes the files all of whose records are below `number`; never the one being written.
    pub(crate) fn remove_below(&mut self, number: u64) -> Result<(), SegmentError> {
        let mut removed = false;
        while self.firsts.get(1).is_some_and(|second| *second <= number) {
            let first = self.firsts.remove(0);
            let path = scan::file_path(&self.directory, first);
            self.disk.remove(&path).map_err(|e| SegmentError::io(&path, e))?;
            removed = true;
        }
        if !removed {
            return Ok(());
        }
        self.disk.sync_directory(&self.directory).map_err(|e| SegmentError::io(&self.directory, e))
    }

    /// A reader of this store.
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(&self.disk, &self.directory, &self.files)
    }

    fn segment(&self) -> u64 {
        self.firsts.last().copied().unwrap_or_default()
    }

    fn path(&self) -> PathBuf {
        scan::file_path(&self.directory, self.segment())
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        let _ = self.sync().and_then(|()| self.mark());
    }
}

fn open_file(disk: &dyn Disk, directory: &Path, first: u64) -> Result<Box<dyn DiskFile>, SegmentError> {
    let path = scan::file_path(directory, first);
    disk.open(&path).map_err(|e| SegmentError::io(&path, e))
}

/// A file that is whole when it has its name.
fn create_file(disk: &dyn Disk, directory: &Path, first: u64) -> Result<Box<dyn DiskFile>, SegmentError> {
    let path = scan::file_path(directory, first);
    let beside = path.with_extension("new");
    let make = || {
        let mut file = disk.create(&beside)?;
        file.write_at(0, &scan::file_header(first))?;
        file.sync()?;
        put_in_place(disk, &beside, &path)?;
        Ok(file)
    };
    make().map_err(|e| SegmentError::io(&path, e))
}

#[cfg(test)]
mod tests;
