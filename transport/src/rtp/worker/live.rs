//! A session as its worker has it: the relay machine and the sockets that it speaks through.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use tandem_media::packet::is_rtcp;
use tandem_media::plan::EndId;
use tandem_media::relay::{Relay, Rtcp};

use super::super::counters::Tally;
use super::super::io::PacketIo;
use super::super::ports::EndSockets;
use super::super::session::{SessionCounters, Shared};
use super::super::{Event, lock};
use crate::clock::Clock;

/// One open session.
pub(super) struct Live {
    pub(super) shared: Arc<Shared>,
    pub(super) relay: Relay,
    pub(super) ends: Vec<EndSockets>,
    /// The present silence was reported.
    pub(super) silence_told: bool,
}

/// What a session borrows of its worker for one packet.
pub(super) struct Hands<'a, I> {
    pub(super) clock: &'a dyn Clock,
    pub(super) io: &'a mut I,
    pub(super) out: &'a mut [u8],
    pub(super) tally: &'a mut Tally,
}

/// One of a worker's sockets, packed into the token that `epoll` gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) slot: usize,
    pub(super) end: u32,
    pub(super) rtcp: bool,
}

impl Socket {
    /// Slot in the upper bits, end in 15, RTCP in the lowest.
    pub(super) fn token(self) -> u64 {
        ((self.slot as u64) << 16) | (u64::from(self.end & 0x7fff) << 1) | u64::from(self.rtcp)
    }

    pub(super) fn from_token(token: u64) -> Self {
        let end = u32::try_from((token >> 1) & 0x7fff).unwrap_or(0);
        Self { slot: usize::try_from(token >> 16).unwrap_or(usize::MAX), end, rtcp: token & 1 == 1 }
    }
}

impl Live {
    pub(super) fn socket(&self, at: Socket) -> Option<&UdpSocket> {
        let end = self.ends.get(usize::try_from(at.end).ok()?)?;
        Some(if at.rtcp { &end.rtcp } else { &end.rtp })
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.ends.iter().flat_map(|end| [&end.rtp, &end.rtcp])
    }

    /// Passes on one datagram that came from `from` to one of the session's sockets.
    pub(super) fn relay<I: PacketIo>(
        &mut self,
        hands: &mut Hands<'_, I>,
        at: Socket,
        from: SocketAddr,
        packet: &mut [u8],
    ) {
        let now_us = hands.clock.monotonic_us();
        let end = EndId(at.end);
        if at.rtcp || is_rtcp(packet) {
            let ntp = hands.clock.ntp();
            if let Some(rtcp) = self.relay.handle_rtcp(now_us, ntp, end, from, packet, hands.out) {
                self.send_rtcp(hands, rtcp);
            }
            return;
        }
        let Some(mut fan) = self.relay.handle_rtp(now_us, end, from, packet) else {
            hands.tally.dropped += 1;
            return;
        };
        while let Some(forward) = self.relay.forward(&mut fan, packet) {
            let from = Socket { slot: 0, end: forward.end.0, rtcp: false };
            if let Some(socket) = self.socket(from) {
                send(hands.io, hands.tally, socket, packet, forward.to);
            }
        }
    }

    pub(super) fn send_reports<I: PacketIo>(&mut self, hands: &mut Hands<'_, I>, now_us: u64) {
        let ntp = hands.clock.ntp();
        for end in (0..).map(EndId).take(self.ends.len()) {
            if let Some(rtcp) = self.relay.poll_rtcp(now_us, ntp, end, hands.out) {
                self.send_rtcp(hands, rtcp);
            }
        }
    }

    /// The event, when a silence has lasted long enough and was not told.
    pub(super) fn silence(&mut self, now_us: u64, limit_us: u64) -> Option<Event> {
        let since_us = self.relay.silent_since_us().map_or(0, |since| now_us.saturating_sub(since));
        if since_us < limit_us || self.relay.silent_since_us().is_none() {
            self.silence_told = false;
            return None;
        }
        (!self.silence_told).then_some(Event::Silent { session: self.shared.id, since_ms: since_us / 1000 })
    }

    pub(super) fn counters(&self, now_us: u64) -> SessionCounters {
        let ends = (0..).map(EndId).take(self.ends.len());
        SessionCounters { ends: ends.filter_map(|end| self.relay.counters(now_us, end)).collect() }
    }

    pub(super) fn publish(&self, now_us: u64) {
        *lock(&self.shared.published) = self.counters(now_us);
    }

    fn send_rtcp<I: PacketIo>(&self, hands: &mut Hands<'_, I>, rtcp: Rtcp) {
        let from = Socket { slot: 0, end: rtcp.end.0, rtcp: !rtcp.muxed };
        if let (Some(socket), Some(packet)) = (self.socket(from), hands.out.get(..rtcp.len)) {
            send(hands.io, hands.tally, socket, packet, rtcp.to);
        }
    }
}

fn send<I: PacketIo>(io: &mut I, tally: &mut Tally, socket: &UdpSocket, packet: &[u8], to: SocketAddr) {
    if io.send(socket, packet, to) {
        tally.sent += 1;
        tally.sent_octets += packet.len() as u64;
    } else {
        tally.send_failed += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_socket() {
        let socket = Socket { slot: 70_000, end: 63, rtcp: true };
        assert_eq!(Socket::from_token(socket.token()), socket);
        let other = Socket { slot: 0, end: 0, rtcp: false };
        assert_eq!(Socket::from_token(other.token()), other);
    }
}
