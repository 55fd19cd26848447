//! What relaying costs: `cargo run --release -p tandem-transport --example relay_load -- CALLS SECONDS`.
//!
//! Two phones per call send G.711 every 20 ms through an engine in this process. Printed are the processor time of the
//! engine's workers (from /proc, by thread name), per packet and per call-minute, the loss, and the delay that relaying
//! adds, from the hand-over to the kernel at one phone to the read at the other.

#![allow(clippy::print_stdout, reason = "a measuring program prints what it measured")]

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rtp_rs::RtpPacketBuilder;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use tandem_media::plan::{EndId, EndPlan, MediaPlan};
use tandem_transport::rtp::{Engine, RtpConfig, Session};

/// Phases of the 20 ms between two packets, so that phones are not in step.
const PHASES: usize = 20;
const WORKER_PREFIX: &str = "rtp-";

struct Phone {
    socket: UdpSocket,
    relay: SocketAddr,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let calls: usize = arguments.next().map_or(Ok(400), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let workers: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let listen = IpAddr::from([127, 0, 5, 1]);
    let silence = Duration::from_secs(60);
    let config = RtpConfig { listen, advertise: listen, ports: 20_000..=29_999, workers, silence };
    let (engine, _events) = Engine::start(config)?;
    let (mut phones, mut sessions) = (Vec::new(), Vec::new());
    for _ in 0..calls {
        let (session, pair) = call(&engine)?;
        sessions.push(session);
        phones.extend(pair);
    }
    let phones: Arc<[Phone]> = phones.into();
    let began = Instant::now();
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sender = {
        let (phones, stop, sent) = (Arc::clone(&phones), Arc::clone(&stop), Arc::clone(&sent));
        thread::spawn(move || send(&phones, began, &stop, &sent))
    };
    let receiver = {
        let (phones, stop) = (Arc::clone(&phones), Arc::clone(&stop));
        thread::spawn(move || receive(&phones, began, &stop))
    };
    thread::sleep(Duration::from_secs(1));
    let (cpu_before, packets_before) = (worker_cpu_ns()?, engine.counters().received);
    thread::sleep(Duration::from_secs(seconds));
    let (cpu, packets) = (worker_cpu_ns()? - cpu_before, engine.counters().received - packets_before);
    stop.store(true, Ordering::SeqCst);
    sender.join().map_err(|_| "the sender failed")?;
    let mut delays_us = receiver.join().map_err(|_| "the receiver failed")??;
    delays_us.sort_unstable();
    let at = |per_mille: usize| delays_us.get(delays_us.len() * per_mille / 1000).copied().unwrap_or(0);
    let call_minutes = calls as f64 * seconds as f64 / 60.0;
    println!("calls {calls}, workers {workers}, relayed {} packets/s", packets / seconds);
    println!(
        "worker CPU: {:.2} us a packet, {:.4} s a call-minute",
        cpu as f64 / 1e3 / packets as f64,
        cpu as f64 / 1e9 / call_minutes
    );
    println!(
        "sent {}, heard {}, added delay p50 {} us, p99 {} us, max {} us",
        sent.load(Ordering::SeqCst),
        delays_us.len(),
        at(500),
        at(990),
        at(999)
    );
    Ok(())
}

fn call(engine: &Engine) -> Result<(Session, [Phone; 2]), Box<dyn std::error::Error>> {
    let session = engine.open(2)?;
    let phone = |end| -> Result<Phone, Box<dyn std::error::Error>> {
        let socket = UdpSocket::bind((IpAddr::from([127, 0, 6, 1]), 0))?;
        socket.set_nonblocking(true)?;
        Ok(Phone { socket, relay: session.local_rtp(EndId(end)).ok_or("no such end")? })
    };
    let (a, b) = (phone(0)?, phone(1)?);
    let end = |n, phone: &Phone| {
        Ok::<_, std::io::Error>(EndPlan::symmetric(EndId(n), Some(phone.socket.local_addr()?)))
    };
    session.apply(MediaPlan::bridge(end(0, &a)?, end(1, &b)?))?;
    Ok((session, [a, b]))
}

fn send(phones: &[Phone], began: Instant, stop: &AtomicBool, sent: &AtomicU64) {
    let mut payload = [0xd5; 160];
    for tick in 0u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = began + Duration::from_millis(u64::from(tick));
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let sequence = tick / 20;
        for (n, phone) in phones.iter().enumerate().skip(tick as usize % PHASES).step_by(PHASES) {
            let now_us = began.elapsed().as_micros() as u64;
            payload[..8].copy_from_slice(&now_us.to_be_bytes());
            let packet = RtpPacketBuilder::new()
                .payload_type(8)
                .ssrc(n as u32)
                .sequence((sequence as u16).into())
                .timestamp(sequence.wrapping_mul(160))
                .payload(&payload)
                .build();
            if packet.is_ok_and(|packet| phone.socket.send_to(&packet, phone.relay).is_ok()) {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The delay of every packet that was heard.
fn receive(phones: &[Phone], began: Instant, stop: &AtomicBool) -> std::io::Result<Vec<u32>> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (n, phone) in phones.iter().enumerate() {
        epoll::add(&epoll, &phone.socket, epoll::EventData::new_u64(n as u64), epoll::EventFlags::IN)?;
    }
    let mut ready = Vec::with_capacity(256);
    let mut delays_us = Vec::new();
    let mut buffer = [0; 2048];
    let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    while !stop.load(Ordering::Relaxed) {
        ready.clear();
        epoll::wait(&epoll, spare_capacity(&mut ready), Some(&wait))?;
        for event in &ready {
            let Some(phone) = phones.get(event.data.u64() as usize) else { continue };
            let Ok((len, _)) = phone.socket.recv_from(&mut buffer) else { continue };
            if let Some(stamp) = buffer.get(12..len).and_then(<[u8]>::first_chunk) {
                let now_us = began.elapsed().as_micros() as u64;
                delays_us.push(now_us.saturating_sub(u64::from_be_bytes(*stamp)) as u32);
            }
        }
    }
    Ok(delays_us)
}

/// Processor time of the engine's threads so far.
fn worker_cpu_ns() -> std::io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        if fs::read_to_string(path.join("comm"))?.starts_with(WORKER_PREFIX) {
            let times = fs::read_to_string(path.join("schedstat"))?;
            total += times.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(total)
}
