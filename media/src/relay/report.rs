//! RTCP of a session: what the far parties report is noted, our own reports are made when they are due.

use std::net::SocketAddr;

use super::end::End;
use super::{Relay, Rtcp};
use crate::plan::EndId;
use crate::rtcp::{self, Feedback, Packet, Report, ReportBlock, Request, SenderPart};

/// The mean time between reports (RFC 3550 section 6.2: 5 s for the few members of a call).
const INTERVAL_US: u64 = 5_000_000;
/// The fixed RTP header, which a sender report's octet count leaves out.
const HEADER_OCTETS: u64 = 12;

/// What one end has reported and is to be reported.
#[derive(Debug, Default)]
pub(super) struct Reports {
    described: Option<SocketAddr>,
    seen: Option<SocketAddr>,
    next_us: Option<u64>,
    /// How many reports were sent; varies the interval.
    sent: u32,
    /// Middle of the far party's last sender report and when it came.
    last_report: Option<(u32, u64)>,
    /// Expected and received at our last report (RFC 3550 appendix A.3).
    prior: (u64, u64),
    rtt_us: u64,
    intra_requests: u8,
}

impl Relay {
    /// Takes a datagram from the RTCP port of `end`, or one from its RTP port that [`crate::packet::is_rtcp`] picked
    /// out. `ntp` is the wall clock in NTP format. The result is feedback for the source, written into `out`.
    pub fn handle_rtcp(
        &mut self,
        now_us: u64,
        ntp: u64,
        end: EndId,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Option<Rtcp> {
        let state = self.end_mut(end)?;
        let Ok(compound) = rtcp::read(datagram) else {
            state.refused.invalid += 1;
            return None;
        };
        if !state.takes_rtcp_of(from) {
            state.refused.strays += 1;
            return None;
        }
        state.reports.seen = Some(from);
        let mut request = None;
        for packet in compound {
            state.note(now_us, ntp, packet);
            request = request.or_else(|| state.request_in(packet));
        }
        self.pass_on(end, request?, out)
    }

    /// The report that is due at `end`, written into `out`. To be asked about once a second.
    pub fn poll_rtcp(&mut self, now_us: u64, ntp: u64, end: EndId, out: &mut [u8]) -> Option<Rtcp> {
        let cname = self.cname;
        let state = self.end_mut(end)?;
        if !state.is_planned() || state.reports.next_us.is_none_or(|next| now_us < next) {
            return None;
        }
        state.reports.schedule(now_us, state.outgoing.ssrc());
        let to = state.rtcp_target()?;
        let report = state.report(now_us, ntp, cname)?;
        let len = rtcp::write_report(&report, out)?;
        Some(Rtcp { end, to, muxed: state.rtcp_mux, len })
    }

    fn pass_on(&mut self, sink: EndId, request: Request, out: &mut [u8]) -> Option<Rtcp> {
        let state = self.end_mut(sink)?;
        let source = state.outgoing.source()?;
        let request = match request {
            Request::Packets { sequence, following } => {
                Request::Packets { sequence: state.outgoing.source_sequence(sequence), following }
            }
            Request::PictureLoss | Request::FullIntra { .. } => request,
        };
        let source_end = self.end_mut(source.end)?;
        let request = match request {
            Request::FullIntra { .. } => Request::FullIntra { number: source_end.reports.next_intra() },
            Request::PictureLoss | Request::Packets { .. } => request,
        };
        let to = source_end.rtcp_target()?;
        let feedback = Feedback { sender: source_end.outgoing.ssrc(), media: source.ssrc, request };
        let len = rtcp::write_feedback(&feedback, out)?;
        Some(Rtcp { end: source.end, to, muxed: source_end.rtcp_mux, len })
    }
}

impl Reports {
    pub(super) fn describe(&mut self, now_us: u64, remote: Option<SocketAddr>, ssrc: u32) {
        if self.described != remote {
            self.described = remote;
            self.seen = None;
        }
        if self.next_us.is_none() {
            self.schedule(now_us, ssrc);
        }
    }

    pub(super) fn rtt_us(&self) -> u64 {
        self.rtt_us
    }

    /// Half to one and a half intervals from now (RFC 3550 section 6.3.1), spread by our SSRC.
    fn schedule(&mut self, now_us: u64, ssrc: u32) {
        self.sent = self.sent.wrapping_add(1);
        let spread = u64::from((ssrc ^ self.sent).wrapping_mul(0x9e37_79b1) >> 16);
        self.next_us = Some(now_us + INTERVAL_US / 2 + INTERVAL_US * spread / 0xffff);
    }

    fn next_intra(&mut self) -> u8 {
        self.intra_requests = self.intra_requests.wrapping_add(1);
        self.intra_requests
    }
}

impl End {
    /// RTCP is taken of the host that sends the media, or that was described to receive it.
    fn takes_rtcp_of(&self, from: SocketAddr) -> bool {
        let known = [self.latch.seen(), self.latch.target(), self.reports.described];
        known.into_iter().flatten().any(|address| address.ip() == from.ip())
    }

    fn rtcp_target(&self) -> Option<SocketAddr> {
        let rtp = self.latch.target()?;
        if self.rtcp_mux {
            return Some(rtp);
        }
        self.reports.seen.or(self.reports.described).or_else(|| {
            let port = rtp.port().checked_add(1)?;
            Some(SocketAddr::new(rtp.ip(), port))
        })
    }

    fn note(&mut self, now_us: u64, ntp: u64, packet: Packet<'_>) {
        if let Packet::SenderReport { ssrc, ntp: theirs, .. } = packet
            && self.incoming.ssrc() == Some(ssrc)
        {
            self.reports.last_report = Some((rtcp::middle(theirs), now_us));
        }
        let ours = self.outgoing.ssrc();
        for block in packet.blocks().filter(|block| block.ssrc == ours && block.last_report != 0) {
            // RFC 3550 section 6.4.1: A - LSR - DLSR, in 1/65536 s.
            let rtt = rtcp::middle(ntp).wrapping_sub(block.last_report).wrapping_sub(block.delay);
            if rtt.cast_signed() >= 0 {
                self.reports.rtt_us = u64::from(rtt) * 1_000_000 / 65_536;
            }
        }
    }

    /// A request to the source of what we send here.
    fn request_in(&self, packet: Packet<'_>) -> Option<Request> {
        let Packet::Feedback { payload_specific, format, media, control, .. } = packet else { return None };
        let ours = self.outgoing.ssrc();
        match (payload_specific, format, control) {
            (false, 1, [s0, s1, f0, f1, ..]) if media == ours => Some(Request::Packets {
                sequence: u16::from_be_bytes([*s0, *s1]),
                following: u16::from_be_bytes([*f0, *f1]),
            }),
            (true, 1, _) if media == ours => Some(Request::PictureLoss),
            (true, 4, [a, b, c, d, number, ..]) if u32::from_be_bytes([*a, *b, *c, *d]) == ours => {
                Some(Request::FullIntra { number: *number })
            }
            _ => None,
        }
    }

    /// Our report, or `None` when nothing was sent or received yet.
    fn report(&mut self, now_us: u64, ntp: u64, cname: u64) -> Option<Report> {
        let sent = self.outgoing.counters();
        let sender = self.outgoing.timestamp_at(now_us, self.sent_clock_rate).map(|timestamp| SenderPart {
            ntp,
            timestamp,
            packets: low(sent.packets),
            octets: low(sent.octets.saturating_sub(sent.packets * HEADER_OCTETS)),
        });
        let block = self.block(now_us);
        if sender.is_none() && block.is_none() {
            return None;
        }
        Some(Report { ssrc: self.outgoing.ssrc(), sender, block, cname })
    }

    fn block(&mut self, now_us: u64) -> Option<ReportBlock> {
        let reception = self.incoming.reception()?;
        let (expected, received) = (reception.expected, reception.received);
        let since = |now: u64, prior: u64| now.checked_sub(prior).unwrap_or(now);
        let expected_since = since(expected, self.reports.prior.0);
        let lost_since = expected_since.saturating_sub(since(received, self.reports.prior.1));
        self.reports.prior = (expected, received);
        let fraction = (lost_since * 256).checked_div(expected_since).unwrap_or(0);
        let lost = i64::try_from(expected).unwrap_or(0) - i64::try_from(received).unwrap_or(0);
        let (last_report, delay) = self.reports.last_report.map_or((0, 0), |(middle, at_us)| {
            (middle, low(now_us.saturating_sub(at_us) * 65_536 / 1_000_000))
        });
        Some(ReportBlock {
            ssrc: reception.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(255),
            lost: i32::try_from(lost).unwrap_or(i32::MAX),
            highest_sequence: reception.highest_sequence,
            jitter: reception.jitter_ticks,
            last_report,
            delay,
        })
    }
}

/// The lower 32 bits: these counters wrap (RFC 3550 section 6.4.1).
fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}
