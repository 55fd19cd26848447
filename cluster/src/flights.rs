//! Group commit: how many groups may be under way at once.
//!
//! A small group goes alone: what comes while it is under way gathers into the next one and shares its hand-overs
//! between threads, its messages and its flush, which cost far more than what a proposal itself does. Large groups go
//! beside each other, so that the disk and the network never wait for the processor.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// See the module.
pub(crate) struct Flights(Arc<Semaphore>);

/// Lets the next group go when it is dropped.
pub(crate) type Flight = OwnedSemaphorePermit;

/// Large groups under way at once.
const FLIGHTS_MAX: u32 = 4;
/// Proposals that make a group large.
pub(crate) const LARGE: usize = 32;

impl Flights {
    pub(crate) fn new() -> Flights {
        Flights(Arc::new(Semaphore::new(FLIGHTS_MAX as usize)))
    }

    /// For a small group: waits until nothing else is under way.
    pub(crate) async fn alone(&self) -> Option<Flight> {
        Arc::clone(&self.0).acquire_many_owned(FLIGHTS_MAX).await.ok()
    }

    /// For a large group: waits until few enough are under way.
    pub(crate) async fn beside(&self) -> Option<Flight> {
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_open(flight: impl Future<Output = Option<Flight>>) -> bool {
        tokio::select! { biased; flight = flight => flight.is_some(), () = std::future::ready(()) => false }
    }

    #[tokio::test]
    async fn a_small_group_waits_for_every_other_and_large_ones_go_beside_each_other() {
        let flights = Flights::new();
        let small = flights.alone().await;
        assert!(!is_open(flights.alone()).await && !is_open(flights.beside()).await);
        drop(small);
        let mut large = Vec::new();
        for _ in 0..FLIGHTS_MAX {
            large.push(flights.beside().await);
        }
        assert!(!is_open(flights.beside()).await && !is_open(flights.alone()).await);
        large.pop();
        assert!(is_open(flights.beside()).await && !is_open(flights.alone()).await);
    }
}
