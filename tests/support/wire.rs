//! The wire between one phone and the switch, in a thread: it can lose and double datagrams, by count and not by chance,
//! and can take the SHA-256 challenges out of what the switch says, for programs (Debian's SIPp) that stop at the first
//! challenge that they don't know.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
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
        let pump = |input: &UdpSocket, output: &UdpSocket, to: SocketAddrV4, filter: bool| {
            let (input, output) =
                (input.try_clone().expect("a socket"), output.try_clone().expect("a socket"));
            let (stop, lost) = (Arc::clone(&stop), Arc::clone(&lost));
            std::thread::spawn(move || carry(&input, &output, to, faults, filter, &stop, &lost))
        };
        let threads = vec![pump(&front, &back, server, false), pump(&back, &front, phone, true)];
        Wire { front: SocketAddrV4::new(host, 5060), stop, lost, threads }
    }

    /// A wire for TCP, which only takes out the challenges: one connection, in pieces as they come.
    pub fn lay_tcp(host: Ipv4Addr, server: SocketAddrV4) -> Wire {
        let listener = TcpListener::bind((host, 5060)).expect("the wire's phone end");
        let thread = std::thread::spawn(move || {
            let Ok((phone, _)) = listener.accept() else { return };
            let switch = TcpStream::connect(server).expect("the node listens on TCP");
            let (phone_again, switch_again) =
                (phone.try_clone().expect("a socket"), switch.try_clone().expect("a socket"));
            let up = std::thread::spawn(move || stream(phone_again, switch_again, false));
            stream(switch, phone, true);
            let _ = up.join();
        });
        drop(thread); // it ends with its connection
        Wire {
            front: SocketAddrV4::new(host, 5060),
            stop: Arc::default(),
            lost: Arc::default(),
            threads: Vec::new(),
        }
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
    filter: bool,
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
        let datagram = if filter { without_sha256(&buffer[..length]) } else { buffer[..length].to_vec() };
        let _ = output.send_to(&datagram, to);
        if hits(faults.double_one_in, count) {
            let _ = output.send_to(&datagram, to);
        }
    }
}

fn stream(mut input: TcpStream, mut output: TcpStream, filter: bool) {
    let mut buffer = [0_u8; 65_536];
    while let Ok(length @ 1..) = input.read(&mut buffer) {
        let piece = if filter { without_sha256(&buffer[..length]) } else { buffer[..length].to_vec() };
        if output.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = output.shutdown(Shutdown::Write);
}

/// The message without challenges that name SHA-256.
fn without_sha256(datagram: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(datagram) else { return datagram.to_vec() };
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return datagram.to_vec() };
    let unknown = |line: &&str| line.contains("-Authenticate:") && line.contains("SHA-256");
    let lines: Vec<&str> = head.split("\r\n").filter(|line| !unknown(line)).collect();
    format!("{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
}
