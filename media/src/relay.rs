//! The relay machine: carries out a media plan for one session, packet by packet.
//!
//! Its owner feeds it every datagram of the session's ports with [`Relay::handle_rtp`] or [`Relay::handle_rtcp`] and
//! sends what it is told to. No call allocates except [`Relay::add_end`] and [`Relay::apply`].
//!
//! Not here: mixing, prompts, recording, transcoding, encryption. They come as further kinds of node in the plan.

mod end;
mod payloads;
mod report;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use crate::packet::{self, Header};
use crate::plan::{EndId, MediaPlan};
use crate::stream::{Received, Sent, Source, StreamSeed, Verdict};
use end::End;
use payloads::{Payloads, Translation};

/// Ends that one session may have.
pub const ENDS_MAX: usize = 64;

/// One session's relay.
#[derive(Debug)]
pub struct Relay {
    ends: Vec<End>,
    cname: u64,
    watch_since_us: Option<u64>,
    last_media_us: Option<u64>,
}

/// A packet that was taken, on its way to its sinks.
#[derive(Debug, Clone, Copy)]
pub struct Fan {
    header: Header,
    source: Source,
    now_us: u64,
    clock_rate: u32,
    restarted: bool,
    next_sink: usize,
}

/// Send the packet from this end's RTP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Whose port it leaves from.
    pub end: EndId,
    /// Where it goes.
    pub to: SocketAddr,
}

/// Send the first `len` octets of the output buffer as RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtcp {
    /// Whose port it leaves from.
    pub end: EndId,
    /// Where it goes.
    pub to: SocketAddr,
    /// It leaves from the RTP port (RFC 5761), not from the RTCP port.
    pub muxed: bool,
    /// Octets of the output buffer.
    pub len: usize,
}

/// Counters of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndCounters {
    /// What the far party sent us.
    pub received: Received,
    /// What we sent it.
    pub sent: Sent,
    /// Round-trip time to the far party, by its last report; 0 while unknown.
    pub rtt_us: u64,
    /// Where its packets come from.
    pub remote: Option<SocketAddr>,
    /// Datagrams that were no RTP.
    pub invalid: u64,
    /// Packets from elsewhere.
    pub strays: u64,
    /// Packets of a payload type that is not agreed here or has no counterpart at a sink.
    pub unmapped: u64,
    /// Packets that came while the party was not to send.
    pub held: u64,
}

impl Relay {
    /// A session without ends. `cname` is a random value that names it in RTCP (RFC 7022).
    pub fn new(cname: u64) -> Self {
        Self { ends: Vec::new(), cname, watch_since_us: None, last_media_us: None }
    }

    /// Adds the next end; `None` when there are [`ENDS_MAX`]. It does nothing before a plan names it.
    pub fn add_end(&mut self, seed: StreamSeed) -> Option<EndId> {
        let id = EndId(u32::try_from(self.ends.len()).ok().filter(|_| self.ends.len() < ENDS_MAX)?);
        self.ends.push(End::new(seed));
        Some(id)
    }

    /// Replaces the plan. Ends and links that the session does not have are ignored.
    pub fn apply(&mut self, now_us: u64, plan: &MediaPlan) {
        for (id, end) in (0..).map(EndId).zip(&mut self.ends) {
            end.apply(now_us, plan.end(id));
        }
        let payloads: Vec<Payloads> = self.ends.iter().map(|end| end.payloads.clone()).collect();
        for (id, payload) in (0..).map(EndId).zip(&payloads) {
            let sinks = (0..).map(EndId).zip(&payloads).filter(|(sink, _)| plan.source_of(*sink) == Some(id));
            let sinks = sinks.map(|(sink, theirs)| (sink, Translation::new(payload, theirs))).collect();
            if let Some(end) = self.end_mut(id) {
                end.sinks = sinks;
            }
        }
        self.watch_since_us = plan.watch_silence.then_some(now_us);
    }

    /// Takes a datagram that arrived at the RTP port of `end`. When it is the far party's media, hand the result to
    /// [`Relay::forward`] until that gives `None`. RTCP on the same port must have been told apart before
    /// ([`packet::is_rtcp`]).
    pub fn handle_rtp(&mut self, now_us: u64, end: EndId, from: SocketAddr, packet: &[u8]) -> Option<Fan> {
        let end_state = self.end_mut(end)?;
        let Some(header) = packet::read(packet) else {
            end_state.refused.invalid += 1;
            return None;
        };
        let clock_rate = end_state.admit(now_us, from, header)?;
        let verdict = end_state.incoming.receive(now_us, header, packet.len(), clock_rate);
        let restarted = match verdict {
            Verdict::OutOfBounds | Verdict::Duplicate => return None,
            Verdict::Restarted => true,
            Verdict::First | Verdict::Next | Verdict::Late => false,
        };
        self.last_media_us = Some(now_us);
        let source = Source { end, ssrc: header.ssrc };
        Some(Fan { header, source, now_us, clock_rate, restarted, next_sink: 0 })
    }

    /// Rewrites the packet for its next sink: send it there, and ask again. The same buffer serves every sink.
    pub fn forward(&mut self, fan: &mut Fan, packet: &mut [u8]) -> Option<Forward> {
        loop {
            let source = self.end_mut(fan.source.end)?;
            let (sink, translation) = source.sinks.get(fan.next_sink)?;
            let (end, payload_type) = (*sink, translation.number(fan.header.payload_type));
            fan.next_sink += 1;
            let Some(payload_type) = payload_type else {
                source.refused.unmapped += 1;
                continue;
            };
            let Some(sink) = self.end_mut(end) else { continue };
            let Some(to) = sink.target() else { continue };
            let header = sink.rewrite(fan, payload_type, packet.len());
            packet::write(header, packet);
            return Some(Forward { end, to });
        }
    }

    /// Since when no end has sent anything, while the plan asks for that; `None` when it does not. A plan starts the
    /// count anew.
    pub fn silent_since_us(&self) -> Option<u64> {
        let watch_since = self.watch_since_us?;
        Some(self.last_media_us.map_or(watch_since, |last| last.max(watch_since)))
    }

    /// The counters of one end.
    pub fn counters(&self, now_us: u64, end: EndId) -> Option<EndCounters> {
        self.end(end).map(|end| end.counters(now_us))
    }

    /// How many ends there are.
    pub fn ends_len(&self) -> usize {
        self.ends.len()
    }

    fn end(&self, id: EndId) -> Option<&End> {
        self.ends.get(usize::try_from(id.0).ok()?)
    }

    fn end_mut(&mut self, id: EndId) -> Option<&mut End> {
        self.ends.get_mut(usize::try_from(id.0).ok()?)
    }
}
