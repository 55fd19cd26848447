//! What was done and is still to be written into the audit: one place for each token and call, and not many.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem_state::CallId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hang-ups under way or waiting for the audit at most. With a quorum each takes one commit.
pub(crate) const PLACES: usize = 64;

/// Whose order, for which call.
type Order = (String, CallId);

/// The hang-ups that wait to be written down.
#[derive(Debug)]
pub(crate) struct Audits {
    places: Arc<Semaphore>,
    waiting: Mutex<BTreeSet<Order>>,
}

/// Room for one hang-up in the audit.
#[derive(Debug)]
pub(crate) struct Place {
    audits: Arc<Audits>,
    permit: OwnedSemaphorePermit,
}

/// One hang-up that was done and is being written down; the only one of its token for its call.
#[derive(Debug)]
pub(crate) struct Writing {
    audits: Arc<Audits>,
    order: Order,
    _permit: OwnedSemaphorePermit,
}

impl Default for Audits {
    fn default() -> Audits {
        Audits { places: Arc::new(Semaphore::new(PLACES)), waiting: Mutex::default() }
    }
}

impl Audits {
    /// A place, to be had before anything is done that has to be written down.
    pub(crate) fn place(self: &Arc<Self>) -> Option<Place> {
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            metrics::counter!("tandem_api_audits_refused_total").increment(1);
            return None;
        };
        Some(Place { audits: Arc::clone(self), permit })
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        PLACES.saturating_sub(self.places.available_permits())
    }

    /// A set is whole between any two calls of its methods.
    fn waiting(&self) -> MutexGuard<'_, BTreeSet<Order>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It was done. `None` while the same order is being written down already.
    pub(crate) fn done(self, token_id: &str, call: CallId) -> Option<Writing> {
        let order = (token_id.to_owned(), call);
        let is_first = self.audits.waiting().insert(order.clone());
        is_first.then_some(Writing { audits: self.audits, order, _permit: self.permit })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.audits.waiting().remove(&self.order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_is_repeated_is_written_once_and_takes_one_place() {
        let audits = Arc::new(Audits::default());
        let done = |token: &str, call| audits.place().expect("a place").done(token, CallId(call));
        let first = done("ann", 1);
        assert!(first.is_some() && done("ann", 1).is_none());
        assert_eq!(audits.taken(), 1);
        assert!(done("bob", 1).is_some() && done("ann", 2).is_some(), "others are not in its way");
        drop(first);
        assert!(done("ann", 1).is_some(), "it was written down, and is ordered anew");
        assert_eq!(audits.taken(), 0);
    }

    #[test]
    fn past_the_bound_there_is_no_place_until_one_was_written_down() {
        let audits = Arc::new(Audits::default());
        let places: Vec<Place> = std::iter::from_fn(|| audits.place()).take(1_000).collect();
        assert_eq!((places.len(), audits.taken()), (PLACES, PLACES));
        drop(places);
        assert!(audits.place().is_some());
    }
}
