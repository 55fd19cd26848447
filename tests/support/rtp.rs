//! Sound as a test hears it: packets every 20 ms from both ends of some calls, with what came through of them and how even.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

/// Time between packets.
const PACE: Duration = Duration::from_millis(20);
/// What is under way when the last packet was sent is waited for.
const GRACE: Duration = Duration::from_millis(300);

/// One end of a call: its socket, and where the switch takes its sound.
pub struct End {
    socket: UdpSocket,
    node: SocketAddrV4,
}

/// What one end heard of the other in one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// Packets that never came.
    pub lost: usize,
    /// The longest time between two packets, less what the sender itself was late.
    pub longest: Duration,
}

impl End {
    pub fn new(local: SocketAddrV4, node: SocketAddrV4) -> End {
        let socket = UdpSocket::bind(local).expect("the phone's media address");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        End { socket, node }
    }

    fn send(&self, began: Instant, run: u32, count: u32) {
        for index in 0..count {
            std::thread::sleep((began + PACE * index).saturating_duration_since(Instant::now()));
            let sent = u64::try_from(began.elapsed().as_micros()).expect("a short test");
            self.socket
                .send_to(&packet(run, run * count + index, index, sent), self.node)
                .expect("RTP is sent");
        }
    }

    fn listen(&self, began: Instant, run: u32, count: u32) -> Heard {
        let until = began + PACE * count + GRACE;
        let (mut seen, mut last, mut longest) = (vec![false; count as usize], None, Duration::ZERO);
        let mut buffer = [0; 2048];
        while Instant::now() < until && seen.contains(&false) {
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            let Some((index, sent)) = mark(&buffer[..length], run) else { continue };
            let came = began.elapsed();
            if let Some((came_before, sent_before, before)) = last.replace((came, sent, index)) {
                let due = PACE * index.saturating_sub(before);
                let late = sent.saturating_sub(sent_before).saturating_sub(due);
                longest = longest.max((came - came_before).saturating_sub(late));
            }
            seen[index as usize] = true;
        }
        Heard { lost: seen.iter().filter(|seen| !**seen).count(), longest }
    }
}

/// Both ends of each call talk for `time`; what the worse end of each call heard. Runs are numbered one after the other.
pub fn talk(calls: &[[End; 2]], run: u32, time: Duration) -> Vec<Heard> {
    let began = Instant::now() + PACE;
    let count = u32::try_from(time.as_millis() / PACE.as_millis()).expect("a short test");
    std::thread::scope(|scope| {
        let mut listeners = Vec::new();
        for ends in calls {
            listeners.push(ends.each_ref().map(|end| {
                scope.spawn(move || end.send(began, run, count));
                scope.spawn(move || end.listen(began, run, count))
            }));
        }
        listeners.into_iter().map(|both| worse(both.map(|one| one.join().expect("a listener")))).collect()
    })
}

fn worse([a, b]: [Heard; 2]) -> Heard {
    Heard { lost: a.lost.max(b.lost), longest: a.longest.max(b.longest) }
}

/// G.711 of one stream over all runs (another start would be another sender to the switch), whose first 16 octets say which packet it is, and when it was sent in microseconds of the run.
fn packet(run: u32, number: u32, index: u32, sent: u64) -> Vec<u8> {
    let sequence = u16::try_from(number).expect("a short test").to_be_bytes();
    let mut packet =
        [&[0x80, 0][..], &sequence, &(number * 160).to_be_bytes(), &[0xca, 0xfe, 0xba, 0xbe]].concat();
    packet.extend(run.to_be_bytes());
    packet.extend(index.to_be_bytes());
    packet.extend(sent.to_be_bytes());
    packet.resize(12 + 160, 0x55);
    packet
}

fn mark(packet: &[u8], run: u32) -> Option<(u32, Duration)> {
    let mark = packet.get(12..28)?;
    let (of_run, rest) = mark.split_first_chunk()?;
    let (index, sent) = rest.split_first_chunk()?;
    let sent = u64::from_be_bytes(sent.try_into().ok()?);
    (u32::from_be_bytes(*of_run) == run).then_some((u32::from_be_bytes(*index), Duration::from_micros(sent)))
}
