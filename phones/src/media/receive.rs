//! The receiving half of the phones' sound: one thread, level-triggered epoll, one receive call per ready socket.

use super::{Command, HEADER, PACKET, Report, Side, nanos, sender};
use crate::watch::Watch;
use rustix::event::{Timespec, epoll};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// What one phone heard since the last reset.
#[derive(Default, Clone)]
struct Heard {
    received: u64,
    lost: u64,
    late: u64,
    last: Option<u32>,
    last_at: u64,
    longest_gap: u64,
}

pub(super) struct Receiver {
    sides: Arc<Vec<Side>>,
    inbox: mpsc::Receiver<Command>,
    base: Instant,
    run: u32,
    epoll: OwnedFd,
    heard: Vec<Heard>,
    report: Report,
    since: u64,
    watch: Option<Watch>,
}

impl Receiver {
    pub(super) fn new(
        sides: Arc<Vec<Side>>,
        inbox: mpsc::Receiver<Command>,
        (base, run): (Instant, u32),
        watch: Option<Watch>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, side) in sides.iter().enumerate() {
            epoll::add(&epoll, &side.socket, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        }
        let heard = vec![Heard::default(); sides.len()];
        Ok(Receiver { sides, inbox, base, run, epoll, heard, report: Report::default(), since: 0, watch })
    }

    pub(super) fn run(mut self, stop: &AtomicBool) {
        let mut events = Vec::with_capacity(1024);
        let timeout = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        while !stop.load(Ordering::Relaxed) {
            events.clear();
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout));
            for event in &events {
                let data = event.data;
                self.receive(usize::try_from(data.u64()).unwrap_or(usize::MAX));
            }
            while let Ok(command) = self.inbox.try_recv() {
                match command {
                    Command::Reset => self.reset(),
                    Command::Report(reply) => {
                        let _ = reply.send(self.sum());
                    }
                }
            }
        }
    }

    fn now(&self) -> u64 {
        nanos(self.base)
    }

    fn reset(&mut self) {
        self.heard.fill(Heard::default());
        self.report = Report::default();
        self.since = self.now();
    }

    fn receive(&mut self, index: usize) {
        let Some(side) = self.sides.get(index) else { return };
        let mut bytes = [0_u8; 2048];
        let Ok(length) = side.socket.recv(&mut bytes) else { return };
        let now = self.now();
        let (Some(heard), Some(stamp)) = (self.heard.get_mut(index), Stamp::read(&bytes, length)) else {
            self.report.foreign += 1;
            return;
        };
        if side.fresh.swap(false, Ordering::Relaxed) {
            heard.last = None;
        }
        let before = side.heard_at.swap(now, Ordering::Relaxed);
        if let Some(watch) = self.watch.as_ref().filter(|_| side.to.load(Ordering::Relaxed) != 0) {
            let at = |nanos| self.base + Duration::from_nanos(nanos);
            watch.silent(index, at(before), at(now));
            if stamp.sender != sender(self.run, index ^ 1) {
                watch.crossed();
            }
        }
        heard.received += 1;
        match heard.last {
            Some(last) if stamp.counter <= last => heard.late += 1,
            Some(last) => {
                heard.lost += u64::from(stamp.counter - last - 1);
                heard.longest_gap = heard.longest_gap.max(now.saturating_sub(heard.last_at));
                heard.last = Some(stamp.counter);
            }
            None => heard.last = Some(stamp.counter),
        }
        heard.last_at = now;
        self.report.delay.add(now.saturating_sub(stamp.sent));
    }

    fn sum(&self) -> Report {
        let now = self.now();
        let mut report = self.report.clone();
        for (side, heard) in self.sides.iter().zip(&self.heard) {
            let talking = side.to.load(Ordering::Relaxed) != 0;
            if !talking && heard.received == 0 {
                continue;
            }
            report.received += heard.received;
            report.lost += heard.lost;
            report.late += heard.late;
            let mut gap = heard.longest_gap;
            if talking {
                report.silent += u64::from(heard.received == 0);
                gap = gap.max(now.saturating_sub(heard.last_at.max(self.since)));
            }
            report.gap.add(gap);
            report.gaps_100_ms += u64::from(gap > 100_000_000);
        }
        report
    }
}

struct Stamp {
    sent: u64,
    sender: u32,
    counter: u32,
}

impl Stamp {
    fn read(bytes: &[u8], length: usize) -> Option<Stamp> {
        if length != PACKET {
            return None;
        }
        let sent = u64::from_be_bytes(bytes.get(HEADER..HEADER + 8)?.try_into().ok()?);
        let sender = u32::from_be_bytes(bytes.get(HEADER + 8..HEADER + 12)?.try_into().ok()?);
        let counter = u32::from_be_bytes(bytes.get(HEADER + 12..HEADER + 16)?.try_into().ok()?);
        Some(Stamp { sent, sender, counter })
    }
}
