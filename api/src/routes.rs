//! One file per resource: handlers and their OpenAPI description.

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod calls;
pub(crate) mod cdrs;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod events;
pub(crate) mod extensions;
pub(crate) mod health;
pub(crate) mod members;
pub(crate) mod numbers;
pub(crate) mod registrations;
pub(crate) mod salvage;
pub(crate) mod tenants;
pub(crate) mod tokens;

use axum::extract::State;
use tokio::sync::Semaphore;

use crate::api::Api;
use crate::problem::Problem;

/// What every handler is given.
pub(crate) type Shared = State<Api>;

/// Reads of files under way at once. Others wait: there are as many as connections at most, and each has a deadline.
static READS: Semaphore = Semaphore::const_new(4);

/// Runs a read of files off the threads that serve connections and calls.
pub(crate) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    if READS.available_permits() == 0 {
        metrics::counter!("tandem_api_reads_waited_total").increment(1);
    }
    let _place = READS.acquire().await.map_err(|_| Problem::internal())?;
    tokio::task::spawn_blocking(read).await.map_err(|_| Problem::internal())
}
