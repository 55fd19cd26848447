//! One end of a session: who it faces, what it receives, what it is sent.

use std::net::SocketAddr;

use super::payloads::{Payloads, Translation};
use super::report::Reports;
use super::{EndCounters, Fan};
use crate::latch::Latch;
use crate::packet::Header;
use crate::plan::{EndId, EndPlan};
use crate::stream::{IncomingStream, OutgoingStream, StreamSeed};

/// The state of one end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) incoming: IncomingStream,
    pub(super) outgoing: OutgoingStream,
    /// Whom this end's media goes to.
    pub(super) sinks: Vec<(EndId, Translation)>,
    pub(super) payloads: Payloads,
    pub(super) latch: Latch,
    pub(super) reports: Reports,
    pub(super) refused: Refused,
    /// Clock of what was sent last.
    pub(super) sent_clock_rate: u32,
    pub(super) rtcp_mux: bool,
    may_send: bool,
    may_receive: bool,
    /// The next packet sent or taken starts a new source: it was held before.
    resumed: bool,
}

/// Datagrams that were not taken, by reason.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Refused {
    pub(super) invalid: u64,
    pub(super) strays: u64,
    pub(super) unmapped: u64,
    pub(super) held: u64,
}

impl End {
    pub(super) fn new(seed: StreamSeed) -> Self {
        Self {
            incoming: IncomingStream::default(),
            outgoing: OutgoingStream::new(seed),
            sinks: Vec::new(),
            payloads: Payloads::default(),
            latch: Latch::default(),
            reports: Reports::default(),
            refused: Refused::default(),
            sent_clock_rate: 8000,
            rtcp_mux: false,
            may_send: false,
            may_receive: false,
            resumed: false,
        }
    }

    /// Takes this end's part of a plan; `None` silences it both ways.
    pub(super) fn apply(&mut self, now_us: u64, plan: Option<&EndPlan>) {
        let may_send = plan.is_some_and(|plan| plan.may_send);
        let may_receive = plan.is_some_and(|plan| plan.may_receive);
        if !may_send || !self.may_send {
            self.incoming.pause();
        }
        self.resumed |= (may_receive && !self.may_receive) || (may_send && !self.may_send);
        self.may_send = may_send;
        self.may_receive = may_receive;
        let Some(plan) = plan else { return };
        self.latch.describe(plan.remote, plan.symmetric);
        self.payloads = Payloads::new(&plan.payloads);
        self.rtcp_mux = plan.rtcp_mux;
        self.reports.describe(now_us, plan.remote_rtcp, self.outgoing.ssrc());
    }

    /// Whether a packet is the far party's and may be passed on; gives its clock rate.
    pub(super) fn admit(&mut self, now_us: u64, from: SocketAddr, header: Header) -> Option<u32> {
        let Some(clock_rate) = self.payloads.clock_rate(header.payload_type) else {
            self.refused.unmapped += 1;
            return None;
        };
        let incoming = &self.incoming;
        if !self.latch.accept(now_us, from, || incoming.continues(header)) {
            self.refused.strays += 1;
            return None;
        }
        if !self.may_send {
            self.refused.held += 1;
            return None;
        }
        Some(clock_rate)
    }

    /// Where this end is sent to, if it may be.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        if self.may_receive { self.latch.target() } else { None }
    }

    pub(super) fn rewrite(&mut self, fan: &Fan, payload_type: u8, octets: usize) -> Header {
        if fan.restarted || std::mem::take(&mut self.resumed) {
            self.outgoing.source_restarted();
        }
        self.sent_clock_rate = fan.clock_rate;
        self.outgoing.rewrite(fan.now_us, fan.source, fan.header, payload_type, fan.clock_rate, octets)
    }

    pub(super) fn is_planned(&self) -> bool {
        self.may_send || self.may_receive
    }

    pub(super) fn counters(&self, now_us: u64) -> EndCounters {
        EndCounters {
            received: self.incoming.counters(now_us),
            sent: self.outgoing.counters(),
            rtt_us: self.reports.rtt_us(),
            remote: self.latch.seen(),
            invalid: self.refused.invalid,
            strays: self.refused.strays,
            unmapped: self.refused.unmapped,
            held: self.refused.held,
        }
    }
}
