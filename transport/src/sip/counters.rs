//! What the SIP sockets have carried and refused.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reading of the counters; all but `connections` only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SipCounters {
    /// Messages received.
    pub received: u64,
    /// Messages handed to the kernel.
    pub sent: u64,
    /// Datagrams dropped because the consumer was behind.
    pub dropped: u64,
    /// Messages refused because a connection or socket was congested.
    pub congested: u64,
    /// Messages that the gate stopped.
    pub fenced: u64,
    /// Keep-alives.
    pub keepalives: u64,
    /// Datagrams and streams that were too long or could not be framed.
    pub malformed: u64,
    /// Connections closed because a message on them did not come whole in time.
    pub partial: u64,
    /// Connections accepted or opened.
    pub connections_opened: u64,
    /// Connections refused by a limit.
    pub connections_refused: u64,
    /// Connections that are open now.
    pub connections: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: Counter,
    pub(super) sent: Counter,
    pub(super) dropped: Counter,
    pub(super) congested: Counter,
    pub(super) fenced: Counter,
    pub(super) keepalives: Counter,
    pub(super) malformed: Counter,
    pub(super) partial: Counter,
    pub(super) connections_opened: Counter,
    pub(super) connections_refused: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn read(&self) -> SipCounters {
        SipCounters {
            received: self.received.get(),
            sent: self.sent.get(),
            dropped: self.dropped.get(),
            congested: self.congested.get(),
            fenced: self.fenced.get(),
            keepalives: self.keepalives.get(),
            malformed: self.malformed.get(),
            partial: self.partial.get(),
            connections_opened: self.connections_opened.get(),
            connections_refused: self.connections_refused.get(),
            connections: 0,
        }
    }
}
