//! What the stores need of a file system, so that test builds can put a faulty one in its place.
//!
//! Writing goes through here alone: the segment stores, snapshots, and nothing else. Reading single records does not
//! ([`crate::segment::Reader`] has a handle of the system's). What a disk may do wrong is in `faults`, in test builds.

#[cfg(any(test, feature = "faults"))]
pub mod faults;

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// A file system.
pub(crate) trait Disk: Debug + Send + Sync {
    /// Makes a directory and those above it.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, as far as they are text.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// A whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// A file that is there, for writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// A new file for its owner alone, in place of one that is there: never the same file again, for a sync of that one may
    /// have failed, and who reads it goes on.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name, in place of one that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory's entries durable after a file in it was made, renamed or removed.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// An open file.
pub(crate) trait DiskFile: Debug + Send {
    /// Hands bytes to the kernel. After an error some of them may be there.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Makes what was written durable. After an error the kernel may have dropped it: this file can't be believed any
    /// more beyond the last sync that went well, not even after another one that does.
    fn sync(&mut self) -> io::Result<()>;
}

/// Puts a whole file in place: written beside, synced, renamed, directory synced.
pub(crate) fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = disk.create(&beside)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    put_in_place(disk, &beside, path)
}

/// The end of [`replace_file`], for a file that was written and synced piece by piece.
pub(crate) fn put_in_place(disk: &dyn Disk, beside: &Path, path: &Path) -> io::Result<()> {
    disk.rename(beside, path)?;
    path.parent().map_or(Ok(()), |parent| disk.sync_directory(parent))
}

/// The system's own file system.
pub(crate) fn system() -> Arc<dyn Disk> {
    Arc::new(System)
}

#[derive(Debug)]
struct System;

#[derive(Debug)]
struct SystemFile(File);

impl Disk for System {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SystemFile(OpenOptions::new().write(true).open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        Ok(Box::new(SystemFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl DiskFile for SystemFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}
