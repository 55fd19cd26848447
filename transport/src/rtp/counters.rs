//! What the media workers have carried and dropped.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reading of the counters; `sessions` and `ports_free` are of now, the rest only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtpCounters {
    /// Datagrams received.
    pub received: u64,
    /// Octets of those.
    pub received_octets: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Octets of those.
    pub sent_octets: u64,
    /// Datagrams received and not passed on: strays, doubles, held, unknown.
    pub dropped: u64,
    /// Datagrams that the kernel did not take.
    pub send_failed: u64,
    /// Events lost because their consumer was behind.
    pub events_dropped: u64,
    /// Sessions that met a fault of ours.
    pub failed: u64,
    /// Sessions that are open.
    pub sessions: u64,
    /// Pairs of ports that could be taken now or after their rest.
    pub ports_free: usize,
}

/// Shared by all workers; each adds to it once per wake-up.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: AtomicU64,
    pub(super) received_octets: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) sent_octets: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) send_failed: AtomicU64,
    pub(super) events_dropped: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) sessions: AtomicU64,
}

/// What one worker has carried since it last told.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) received: u64,
    pub(super) received_octets: u64,
    pub(super) sent: u64,
    pub(super) sent_octets: u64,
    pub(super) dropped: u64,
    pub(super) send_failed: u64,
}

impl Counters {
    pub(super) fn add(&self, tally: &mut Tally) {
        let tally = std::mem::take(tally);
        let pairs = [
            (&self.received, tally.received),
            (&self.received_octets, tally.received_octets),
            (&self.sent, tally.sent),
            (&self.sent_octets, tally.sent_octets),
            (&self.dropped, tally.dropped),
            (&self.send_failed, tally.send_failed),
        ];
        for (counter, value) in pairs.into_iter().filter(|(_, value)| *value > 0) {
            counter.fetch_add(value, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> RtpCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RtpCounters {
            received: get(&self.received),
            received_octets: get(&self.received_octets),
            sent: get(&self.sent),
            sent_octets: get(&self.sent_octets),
            dropped: get(&self.dropped),
            send_failed: get(&self.send_failed),
            events_dropped: get(&self.events_dropped),
            failed: get(&self.failed),
            sessions: get(&self.sessions),
            ports_free: 0,
        }
    }
}
