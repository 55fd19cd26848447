//! The threads that stores have for themselves. Under simulation their work is a task: no time passes while it is done,
//! and a power cut finds them between two of its steps.

use std::io;

/// What such a thread does.
pub(crate) trait Worker: Sized + Send + 'static {
    /// The thread's name.
    const NAME: &'static str;

    /// Works until told to stop.
    fn run(self);

    /// The same by simulated time.
    #[cfg(feature = "faults")]
    fn simulate(self) -> impl Future<Output = ()> + Send;
}

/// Whether this runs on a simulated machine.
#[cfg(feature = "faults")]
pub(crate) fn is_simulated() -> bool {
    crate::sim::host().is_some()
}

/// Only test builds have simulated machines.
#[cfg(not(feature = "faults"))]
pub(crate) fn is_simulated() -> bool {
    false
}

/// Starts it.
pub(crate) fn start<W: Worker>(worker: W) -> io::Result<()> {
    #[cfg(feature = "faults")]
    if is_simulated() {
        drop(tokio::spawn(worker.simulate()));
        return Ok(());
    }
    std::thread::Builder::new().name(W::NAME.into()).spawn(move || worker.run()).map(drop)
}
