//! A simulated machine for a node to run on: its clocks, its network and its disk. Test builds only.
//!
//! Each machine has a runtime of its own, whose time is tokio's paused one. Whoever simulates lets all of them run, one after
//! the other, for the same small span, and calls [`Network::advance`] before each: so time is the same everywhere, and goes on
//! only when nobody has anything to do. A power cut is the drop of a runtime.
//!
//! The doors are four: [`crate::clock`], [`crate::net`], [`crate::thread`] and [`crate::disk`]. Each asks whether the running
//! thread belongs to a [`Host`]. What is not simulated: files themselves (they are real, and only cut), the index in sled,
//! randomness, TLS.

mod network;
mod stream;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use network::{Listener, MachineId, Network};
pub use stream::Stream;

use crate::disk::faults::Faults;

/// A machine. Clones are handles of the same.
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    machine: MachineId,
    network: Network,
    faults: Faults,
    clocks: Mutex<Clocks>,
}

/// How a machine's clocks differ from real (simulated) time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clocks {
    /// When it was switched on, in microseconds of simulated time: the boot-time clock was 0 then.
    pub booted_us: u64,
    /// How much faster the boot-time clock runs, in millionths; slower if negative.
    pub drift_ppm: i64,
    /// How far the wall clock is ahead.
    pub wall_ahead_ms: i64,
}

thread_local! {
    static HERE: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// While this lives, its thread works for a machine.
#[derive(Debug)]
pub struct Entered(Option<Host>);

impl Drop for Entered {
    fn drop(&mut self) {
        HERE.set(self.0.take());
    }
}

impl Host {
    /// A machine in a network.
    pub fn new(network: &Network, machine: MachineId) -> Host {
        let (network, faults, clocks) = (network.clone(), Faults::default(), Mutex::default());
        Host(Arc::new(Inner { machine, network, faults, clocks }))
    }

    /// Makes the thread work for this machine.
    #[must_use]
    pub fn enter(&self) -> Entered {
        Entered(HERE.replace(Some(self.clone())))
    }

    /// What its disk does wrong.
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Its power goes: nobody hears of it, and of its files is left what was synced and the first `torn` bytes of what
    /// was not. Its process must be gone.
    pub fn cut_power(&self, torn: u64) -> io::Result<()> {
        self.0.network.power_off(self.0.machine);
        self.0.faults.cut_power(torn)
    }

    /// Its power is back: it knows nothing of its connections, and its boot-time clock begins anew.
    pub fn power_on(&self) {
        self.0.network.power_on(self.0.machine);
        let now_us = self.0.network.now_us();
        self.set_clocks(|clocks| clocks.booted_us = now_us);
    }

    /// Sets its clocks right or wrong.
    pub fn set_clocks(&self, set: impl FnOnce(&mut Clocks)) {
        set(&mut self.clocks());
    }

    /// What its boot-time clock shows.
    pub fn boot_us(&self) -> u64 {
        let clocks = *self.clocks();
        let since_us = self.0.network.now_us().saturating_sub(clocks.booted_us);
        let drifted = i128::from(since_us) * i128::from(1_000_000 + clocks.drift_ppm) / 1_000_000;
        u64::try_from(drifted).unwrap_or(0)
    }

    pub(crate) async fn connect(&self, address: &str) -> io::Result<Stream> {
        let address = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        self.0.network.connect(self.0.machine, address).await
    }

    pub(crate) fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        self.0.network.listen(self.0.machine, address)
    }

    fn clocks(&self) -> MutexGuard<'_, Clocks> {
        self.0.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The machine that the thread works for.
pub(crate) fn host() -> Option<Host> {
    HERE.with_borrow(Clone::clone)
}

/// Its boot-time clock, in microseconds.
pub(crate) fn boot_us() -> Option<u64> {
    HERE.with_borrow(|here| here.as_ref().map(Host::boot_us))
}

/// Its wall clock, in milliseconds.
pub(crate) fn wall_ms() -> Option<u64> {
    HERE.with_borrow(|here| {
        let host = here.as_ref()?;
        let ahead_ms = host.clocks().wall_ahead_ms;
        Some(host.0.network.wall_ms().saturating_add_signed(ahead_ms))
    })
}

/// The faults of its disk.
pub(crate) fn disk_faults() -> Option<Faults> {
    HERE.with_borrow(|here| here.as_ref().map(|host| host.faults().clone()))
}

/// Lets the time pass that a sync of the log takes.
pub(crate) async fn sync_takes_time() {
    let delay = host().map(|host| host.faults().sync_delay()).unwrap_or_default();
    tokio::time::sleep(delay).await;
}
