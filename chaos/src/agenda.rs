//! What is to happen in a simulation, in the order of simulated time; at one instant, in the order of its entry.

use std::collections::BTreeMap;

/// See the module.
#[derive(Debug)]
pub struct Agenda<H> {
    now_ms: u64,
    queue: BTreeMap<(u64, u64), H>,
    entered: u64,
}

impl<H> Agenda<H> {
    /// With nothing on it, at 0 o'clock.
    #[expect(clippy::new_without_default, reason = "an agenda is begun, not defaulted")]
    pub fn new() -> Self {
        Agenda { now_ms: 0, queue: BTreeMap::new(), entered: 0 }
    }

    /// Simulated time.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Enters what is to happen after a while.
    pub fn enter(&mut self, delay_ms: u64, happening: H) {
        self.entered += 1;
        self.queue.insert((self.now_ms + delay_ms, self.entered), happening);
    }

    /// What happens next, no later than `end_ms`; it is then that time. `None` leaves the rest for later.
    pub fn next(&mut self, end_ms: u64) -> Option<H> {
        let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= end_ms) else {
            self.now_ms = end_ms;
            return None;
        };
        self.now_ms = first.key().0;
        Some(first.remove())
    }
}
