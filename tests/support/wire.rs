//! The wire between one phone and the switch, in a thread: it loses and doubles datagrams, by count and not by chance, and
//! changes none.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the wire does to datagrams, both ways.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Of this many datagrams the last is lost; 0: none.
    pub lose_one_in: u64,
    /// Of this many the last comes twice; 0: none.
    pub double_one_in: u64,
}

pub struct Wire {
    /// The address that the phone takes for the switch.
    pub front: SocketAddrV4,
    stop: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// A wire at `host` between a phone at `phone` and the switch at `server`.
    pub fn lay(host: Ipv4Addr, phone: SocketAddrV4, server: SocketAddrV4, faults: Faults) -> Wire {
        let front = UdpSocket::bind((host, 5060)).expect("the wire's phone end");
        let back = UdpSocket::bind((host, 0)).expect("the wire's switch end");
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        }
        let (stop, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pump = |input: &UdpSocket, output: &UdpSocket, to: SocketAddrV4| {
            let (input, output) =
                (input.try_clone().expect("a socket"), output.try_clone().expect("a socket"));
            let (stop, lost) = (Arc::clone(&stop), Arc::clone(&lost));
            std::thread::spawn(move || carry(&input, &output, to, faults, &stop, &lost))
        };
        let threads = vec![pump(&front, &back, server), pump(&back, &front, phone)];
        Wire { front: SocketAddrV4::new(host, 5060), stop, lost, threads }
    }

    /// How many datagrams were lost so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn carry(
    input: &UdpSocket,
    output: &UdpSocket,
    to: SocketAddrV4,
    faults: Faults,
    stop: &AtomicBool,
    lost: &AtomicU64,
) {
    let mut buffer = [0_u8; 65_536];
    let mut count = 0_u64;
    let hits = |every: u64, count: u64| every > 0 && count % every == every - 1;
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, SocketAddr::V4(_))) = input.recv_from(&mut buffer) else { continue };
        if length < 5 {
            continue;
        }
        count += 1;
        if hits(faults.lose_one_in, count) {
            lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let _ = output.send_to(&buffer[..length], to);
        if hits(faults.double_one_in, count) {
            let _ = output.send_to(&buffer[..length], to);
        }
    }
}
