//! A disk that does what disks do wrong, switched while it runs: full, slow, failing, and losing at a crash what was
//! never synced. Test builds only.
//!
//! It keeps account of what a power cut would leave: of each file the bytes of its last good sync, of each directory the
//! names of its last. A failed sync drops what was written since the last good one *for good*, as Linux does: later
//! syncs of that file report success and save nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Disk, DiskFile, system};

/// The switch. Clones are handles of the same.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    full: bool,
    sync_delay: Duration,
    failing_syncs: u32,
    idle_syncs: bool,
    frozen: bool,
    files: BTreeMap<PathBuf, Account>,
    /// Files whose names no sync of their directory has seen.
    unnamed: BTreeSet<PathBuf>,
}

type Account = Arc<Mutex<Kept>>;

/// What a power cut leaves of a file.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    written: u64,
    synced: u64,
    /// A sync failed: nothing beyond `synced` is kept, until it is written again.
    spoilt: bool,
}

impl Kept {
    fn wrote(&mut self, offset: u64, bytes: usize) {
        self.spoilt &= offset > self.synced;
        self.synced = self.synced.min(offset);
        self.written = self.written.max(offset.saturating_add(bytes as u64));
    }

    fn cut(&mut self, length: u64) {
        self.written = length;
        self.synced = self.synced.min(length);
    }

    fn sync(&mut self, fails: bool) {
        self.spoilt |= fails;
        if !self.spoilt {
            self.synced = self.written;
        }
    }

    fn left(&self, torn: u64) -> u64 {
        let torn = if self.spoilt { 0 } else { torn };
        self.written.min(self.synced.saturating_add(torn))
    }
}

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

impl Faults {
    /// Nothing can be written (`true`), or it can again.
    pub fn full(&self, full: bool) {
        self.state().full = full;
    }

    /// Each sync takes so long.
    pub fn slow_sync(&self, delay: Duration) {
        self.state().sync_delay = delay;
    }

    pub(crate) fn sync_delay(&self) -> Duration {
        self.state().sync_delay
    }

    /// The next syncs fail.
    pub fn fail_syncs(&self, count: u32) {
        self.state().failing_syncs = count;
    }

    /// Syncs say that they went well and do nothing (`true`), as on a disk that lies, or they work.
    pub fn ignore_syncs(&self, ignore: bool) {
        self.state().idle_syncs = ignore;
    }

    /// Nothing reaches the disk any more (`true`): a process that is killed does no work at its end, as its destructors would.
    pub fn freeze(&self, frozen: bool) {
        self.state().frozen = frozen;
    }

    /// What a power cut does to the files: what was never synced is gone, but for the first `torn` bytes of each tail.
    /// Their process must be ended, or must not touch them again, by who calls this.
    pub fn cut_power(&self, torn: u64) -> io::Result<()> {
        let (files, unnamed) = {
            let mut state = self.state();
            (std::mem::take(&mut state.files), std::mem::take(&mut state.unnamed))
        };
        for path in unnamed.iter().filter(|path| path.exists()) {
            std::fs::remove_file(path)?;
        }
        for (path, account) in files.iter().filter(|(path, _)| path.exists()) {
            let left = lock(account).left(torn);
            std::fs::OpenOptions::new().write(true).open(path)?.set_len(left)?;
        }
        Ok(())
    }

    /// The system's disk with these faults.
    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(FaultyDisk { below: system(), faults: self.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn room(&self) -> io::Result<()> {
        if self.state().full { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(()) }
    }

    fn alive(&self) -> io::Result<()> {
        if self.state().frozen { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
    }

    /// Whether the sync that begins now fails, once it took its time.
    fn sync_fails(&self) -> bool {
        // On a simulated machine its own time passes ([`crate::sim::sync_takes_time`]).
        if !crate::thread::is_simulated() {
            std::thread::sleep(self.sync_delay());
        }
        let mut state = self.state();
        let fails = state.failing_syncs > 0;
        state.failing_syncs = state.failing_syncs.saturating_sub(1);
        fails
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct FaultyDisk {
    below: Arc<dyn Disk>,
    faults: Faults,
}

#[derive(Debug)]
struct FaultyFile {
    below: Box<dyn DiskFile>,
    account: Account,
    faults: Faults,
}

impl FaultyDisk {
    fn file(&self, below: Box<dyn DiskFile>, account: Account) -> Box<dyn DiskFile> {
        Box::new(FaultyFile { below, account, faults: self.faults.clone() })
    }
}

impl Disk for FaultyDisk {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.below.make_directory(path)
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.below.names(directory)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.below.read(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let below = self.below.open(path)?;
        let length = std::fs::metadata(path)?.len();
        let found = || Arc::new(Mutex::new(Kept { written: length, synced: length, spoilt: false }));
        let account = Arc::clone(self.faults.state().files.entry(path.to_owned()).or_insert_with(found));
        Ok(self.file(below, account))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.faults.alive()?;
        self.faults.room()?;
        let below = self.below.create(path)?;
        let account = Account::default();
        let mut state = self.faults.state();
        state.files.insert(path.to_owned(), Arc::clone(&account));
        state.unnamed.insert(path.to_owned());
        drop(state);
        Ok(self.file(below, account))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.alive()?;
        self.below.rename(from, to)?;
        let mut state = self.faults.state();
        let kept = state.files.remove(from).unwrap_or_default();
        state.files.insert(to.to_owned(), kept);
        state.unnamed.remove(from);
        state.unnamed.insert(to.to_owned());
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.faults.alive()?;
        self.below.remove(path)?;
        let mut state = self.faults.state();
        state.files.remove(path);
        state.unnamed.remove(path);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.faults.alive()?;
        self.below.sync_directory(path)?;
        self.faults.state().unnamed.retain(|file| file.parent() != Some(path));
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.faults.alive()?;
        if let Err(full) = self.faults.room() {
            // A full disk takes some of it.
            self.below.write_at(offset, bytes.get(..bytes.len() / 2).unwrap_or_default())?;
            return Err(full);
        }
        self.below.write_at(offset, bytes)?;
        lock(&self.account).wrote(offset, bytes.len());
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.faults.alive()?;
        self.below.truncate(length)?;
        lock(&self.account).cut(length);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.faults.alive()?;
        if self.faults.state().idle_syncs {
            return Ok(());
        }
        let fails = self.faults.sync_fails();
        lock(&self.account).sync(fails);
        if fails { Err(io::Error::from_raw_os_error(EIO)) } else { self.below.sync() }
    }
}
