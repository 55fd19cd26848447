//! The phones' sound: one UDP socket per phone, 20 ms G.711 packets that carry their sending time and number, and a
//! receiver that measures loss, delay and gaps. One thread sends on a 1 ms clock, one receives; nothing is shared but
//! atomics, and both ends of every stream are in this process, so that the clock is the same.

mod receive;

use crate::histogram::Histogram;
use crate::watch::{AUDIBLE_MS, Watch};
use receive::Receiver;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const PACKET_MS: usize = 20;
const HEADER: usize = 12;
const PACKET: usize = HEADER + 160;

/// One phone's socket.
pub(crate) struct Side {
    socket: UdpSocket,
    address: SocketAddrV4,
    /// Where to send: IPv4 address and port, 0 for nowhere.
    to: AtomicU64,
    /// Set at the begin of a call, so that the silence since the last one is no gap.
    fresh: AtomicBool,
    /// When it heard something last, or began to talk: nanoseconds since the base.
    heard_at: AtomicU64,
}

/// What was heard since the last reset.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Packets received.
    pub received: u64,
    /// Packets missing between the first and the last received, all streams.
    pub lost: u64,
    /// Packets received twice or out of order.
    pub late: u64,
    /// Datagrams that are not ours.
    pub foreign: u64,
    /// Phones that should hear something and heard nothing.
    pub silent: u64,
    /// Phones with a gap above 100 ms.
    pub gaps_100_ms: u64,
    /// One way, from the send call to the receive call.
    pub delay: Histogram,
    /// The longest gap of each phone.
    pub gap: Histogram,
}

impl Report {
    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "received": self.received, "lost": self.lost, "late": self.late, "foreign": self.foreign,
            "silent": self.silent, "delay_ms": self.delay.json(), "longest_gap_ms": self.gap.json(),
            "gaps_100_ms": self.gaps_100_ms,
        })
    }
}

pub(crate) enum Command {
    Reset,
    Report(mpsc::Sender<Report>),
}

/// All sockets and both threads.
pub struct Media {
    sides: Arc<Vec<Side>>,
    commands: mpsc::Sender<Command>,
    base: Instant,
    watch: Option<Watch>,
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Media {
    /// Opens `count` sockets at `ip`, on even ports from `port`, and starts the threads.
    ///
    /// # Errors
    /// When there are not enough free ports, or no epoll.
    pub fn open(ip: Ipv4Addr, port: u16, count: usize, watch: Option<Watch>) -> io::Result<Media> {
        let mut sides = Vec::with_capacity(count);
        for port in (port..u16::MAX).step_by(2) {
            if sides.len() == count {
                break;
            }
            let address = SocketAddrV4::new(ip, port);
            let Ok(socket) = UdpSocket::bind(address) else { continue };
            socket.set_nonblocking(true)?;
            let (fresh, heard_at) = (AtomicBool::new(true), AtomicU64::new(0));
            sides.push(Side { socket, address, to: AtomicU64::new(0), fresh, heard_at });
        }
        if sides.len() < count {
            return Err(io::Error::other("not enough free ports for the phones' media"));
        }
        let sides = Arc::new(sides);
        let stop = Arc::new(AtomicBool::new(false));
        let base = Instant::now();
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let (commands, inbox) = mpsc::channel();
        let receiver = Receiver::new(Arc::clone(&sides), inbox, (base, run), watch.clone())?;
        let threads = vec![
            thread::spawn({
                let stop = Arc::clone(&stop);
                move || receiver.run(&stop)
            }),
            thread::spawn({
                let (sides, stop) = (Arc::clone(&sides), Arc::clone(&stop));
                move || send(&sides, &stop, base, run)
            }),
        ];
        Ok(Media { sides, commands, base, watch, stop, threads })
    }

    /// The address of a phone's socket, for its session description.
    pub fn address(&self, side: usize) -> Option<SocketAddrV4> {
        Some(self.sides.get(side)?.address)
    }

    /// A phone starts to talk to this address, or `None`: falls silent.
    pub fn talk(&self, index: usize, to: Option<SocketAddrV4>) {
        let Some(side) = self.sides.get(index) else { return };
        let packed = to.map_or(0, |to| (u64::from(u32::from(*to.ip())) << 16) | u64::from(to.port()));
        let before = side.to.swap(packed, Ordering::Relaxed);
        if before == 0 && packed != 0 {
            side.fresh.store(true, Ordering::Relaxed);
            side.heard_at.store(nanos(self.base), Ordering::Relaxed);
        }
        if let (Some(watch), true, 0) = (&self.watch, before != 0, packed) {
            let since = self.base + Duration::from_nanos(side.heard_at.load(Ordering::Relaxed));
            watch.silent(index, since, Instant::now());
        }
    }

    /// How many of the phones that should hear something now do.
    pub fn audible(&self) -> usize {
        let now = nanos(self.base);
        let talking = self.sides.iter().filter(|side| side.to.load(Ordering::Relaxed) != 0);
        let heard = |side: &&Side| {
            now.saturating_sub(side.heard_at.load(Ordering::Relaxed)) <= AUDIBLE_MS * 1_000_000
        };
        talking.filter(heard).count()
    }

    /// Forgets what was heard.
    pub fn reset(&self) {
        let _ = self.commands.send(Command::Reset);
    }

    /// What was heard since the reset.
    pub fn report(&self) -> Report {
        let (reply, report) = mpsc::channel();
        let _ = self.commands.send(Command::Report(reply));
        report.recv_timeout(Duration::from_secs(5)).unwrap_or_default()
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Runs of one process have numbers, so that a phone knows a stranger's packet even if that is of another run.
static RUNS: AtomicU32 = AtomicU32::new(0);

/// Which phone of which run.
fn sender(run: u32, side: usize) -> u32 {
    (run << 16) | (u32::try_from(side).unwrap_or(u32::MAX) & 0xffff)
}

fn nanos(base: Instant) -> u64 {
    u64::try_from(base.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Each millisecond the next twentieth of the phones sends its packet.
fn send(sides: &[Side], stop: &AtomicBool, base: Instant, run: u32) {
    let mut counters = vec![0_u32; sides.len()];
    let mut tick = 0_usize;
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let at = began + Duration::from_millis(tick as u64);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        for (index, (side, counter)) in
            sides.iter().zip(&mut counters).enumerate().skip(tick % PACKET_MS).step_by(PACKET_MS)
        {
            let to = side.to.load(Ordering::Relaxed);
            if to == 0 {
                continue;
            }
            *counter = counter.wrapping_add(1);
            let to = SocketAddrV4::new(Ipv4Addr::from(low_32(to >> 16)), low_16(to));
            let _ = side.socket.send_to(&packet(sender(run, index), *counter, base), to);
        }
        tick += 1;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
fn low_32(value: u64) -> u32 {
    value as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the low part is wanted")]
fn low_16(value: u64) -> u16 {
    value as u16
}

/// RTP header (RFC 3550 section 5.1, PCMU), then time, phone and number; the rest is silence.
fn packet(sender: u32, counter: u32, base: Instant) -> [u8; PACKET] {
    let now = nanos(base);
    let mut bytes = [0xff_u8; PACKET];
    let fields = [0x80, 0]
        .into_iter()
        .chain(low_16(u64::from(counter)).to_be_bytes())
        .chain(counter.wrapping_mul(160).to_be_bytes())
        .chain(sender.wrapping_add(1).to_be_bytes())
        .chain(now.to_be_bytes())
        .chain(sender.to_be_bytes())
        .chain(counter.to_be_bytes());
    bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_phones_that_talk_directly_hear_each_other_without_loss() {
        let media = Media::open(Ipv4Addr::new(127, 0, 0, 1), 42_000, 2, None).unwrap();
        media.talk(0, media.address(1));
        media.talk(1, media.address(0));
        let deadline = Instant::now() + Duration::from_secs(5);
        while media.report().received < 20 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let report = media.report();
        assert!(report.received >= 20, "{report:?}");
        assert_eq!((report.lost, report.foreign, report.silent), (0, 0, 0));
    }
}
