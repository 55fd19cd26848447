//! The places of registrations on their way through the log: `switching::intake` says who gets one, and here they stand in
//! line and are given back, whatever becomes of the registration.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem_switching::intake::{Bounds, Intake, Verdict};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::shared::Shared;

/// See the module.
pub(crate) struct Places {
    intake: Mutex<Intake>,
    turns: Semaphore,
    in_flight_max: usize,
}

/// A place of one registration; given back when it is dropped.
pub(crate) struct Place(Arc<Shared>);

impl Places {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let in_flight_max = bounds.in_flight_max;
        Places {
            intake: Mutex::new(Intake::new(bounds)),
            turns: Semaphore::new(in_flight_max),
            in_flight_max,
        }
    }

    /// Whether registrations are to be looked at before their proof.
    pub(crate) fn is_short(&self, now_ms: u64) -> bool {
        self.intake().is_short(now_ms)
    }

    /// Whether a phone may come in, with its proof or to be asked for one; else after how many seconds it may come again.
    pub(crate) fn look(&self, now_ms: u64, chance: u64, has_proof: bool) -> Result<(), u64> {
        let mut intake = self.intake();
        counted(if has_proof { intake.look(now_ms, chance) } else { intake.challenge(now_ms, chance) })
    }

    /// Brings the gauges up to date.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats; counts stay far below 2^52")]
    pub(crate) fn refresh_gauges(&self) {
        let (in_hand, rate) = {
            let intake = self.intake();
            (intake.in_hand(), intake.rate())
        };
        let in_flight = self.in_flight_max.saturating_sub(self.turns.available_permits());
        metrics::gauge!("tandem_register_in_flight").set(in_flight as f64);
        metrics::gauge!("tandem_register_queue").set(in_hand.saturating_sub(in_flight) as f64);
        metrics::gauge!("tandem_register_rate").set(rate as f64);
    }

    /// No step of the machine panics, so a poisoned lock still guards whole data.
    fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A place for a registration that needs the log; else after how many seconds its phone may come again.
    pub(crate) fn take(shared: &Arc<Shared>, now_ms: u64, chance: u64) -> Result<Place, u64> {
        counted(shared.places.intake().take(now_ms, chance))?;
        metrics::counter!("tandem_register_admitted_total").increment(1);
        Ok(Place(Arc::clone(shared)))
    }

    /// Waits in line for the log.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.0.places.turns.acquire().await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now_ms = self.0.now().steady_ms;
        self.0.places.intake().done(now_ms);
    }
}

fn counted(verdict: Verdict) -> Result<(), u64> {
    match verdict {
        Verdict::Taken => Ok(()),
        Verdict::Deferred { retry_after_s } => {
            metrics::counter!("tandem_register_deferred_total").increment(1);
            Err(retry_after_s)
        }
    }
}
