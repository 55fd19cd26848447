//! What every handler needs, and the bounds of the listener.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tandem_cluster::Cluster;
use tokio::sync::{Semaphore, watch};

use crate::audits::Audits;
use crate::liveness::Liveness;
use crate::switch::Switch;

/// Bounds of the API on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; more wait in the listener's backlog.
    pub connections_max: usize,
    /// Event streams at once; more are refused.
    pub streams_max: usize,
    /// A request's head must arrive within this.
    pub head_timeout: Duration,
    /// A request must be answered within this (streams excepted).
    pub request_timeout: Duration,
    /// A wait for a log position ends after this.
    pub wait_timeout: Duration,
    /// A reader of an event stream that takes nothing for so long is cut off.
    pub stream_stall: Duration,
    /// A comment keeps an idle event stream open this often.
    pub heartbeat: Duration,
    /// Length of a body at most.
    pub body_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 1024,
            streams_max: 256,
            head_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            wait_timeout: Duration::from_secs(5),
            stream_stall: Duration::from_secs(20),
            heartbeat: Duration::from_secs(10),
            body_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// What handlers need. Clones are handles of the same.
#[derive(Clone)]
pub struct Api {
    pub(crate) cluster: Cluster,
    pub(crate) switch: Arc<dyn Switch>,
    pub(crate) prometheus: PrometheusHandle,
    pub(crate) limits: Limits,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) audits: Arc<Audits>,
    stopping: Arc<watch::Sender<bool>>,
}

impl Api {
    /// An API over a running cluster and switch. `prometheus` renders what was recorded for `/metrics`.
    pub fn new(
        cluster: Cluster,
        switch: Arc<dyn Switch>,
        prometheus: PrometheusHandle,
        limits: Limits,
    ) -> Api {
        crate::metrics::describe();
        Api {
            liveness: Arc::default(),
            audits: Arc::default(),
            streams: Arc::new(Semaphore::new(limits.streams_max)),
            stopping: Arc::new(watch::Sender::new(false)),
            cluster,
            switch,
            prometheus,
            limits,
        }
    }

    /// Ends event streams and the listener; requests under way are answered. `/readyz` says no from now on.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Returns once [`Api::stop`] was called.
    pub(crate) async fn stopped(&self) {
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }
}
