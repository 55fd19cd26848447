//! One UDP socket that many phones share: client transactions with retransmission (RFC 3261 section 17.1), a memory of
//! responses for retransmitted requests, and a timer queue. One thread; `poll` gives what happened.

use crate::message::Message;
use crate::watch::Watch;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
/// How long an answered request is remembered (timer J), and the default life of a client transaction (timer B).
const LIFE: Duration = Duration::from_secs(32);

/// What `poll` saw. `owner` is what was given to `send`.
#[derive(Debug)]
pub enum Event<Due> {
    /// A response to a request of ours; final ones end its transaction.
    Response {
        /// Given to `send`.
        owner: usize,
        /// The response.
        message: Message,
        /// When the request was first sent.
        sent: Instant,
    },
    /// No final response came in time.
    Timeout {
        /// Given to `send`.
        owner: usize,
        /// The request's method.
        method: String,
    },
    /// A request, not seen before.
    Request {
        /// The request.
        message: Message,
        /// Where it came from.
        from: SocketAddrV4,
    },
    /// A timer set by `after`.
    Due(Due),
}

enum Timer<Due> {
    Retransmit(String),
    Forget(String),
    Due(Due),
}

struct Client {
    bytes: Vec<u8>,
    to: SocketAddrV4,
    owner: usize,
    method: String,
    interval: Duration,
    sent: Instant,
    give_up: Instant,
    provisional: bool,
}

/// The shared socket.
pub struct Endpoint<Due> {
    socket: UdpSocket,
    local: SocketAddrV4,
    clients: HashMap<String, Client>,
    servers: HashMap<String, (Vec<u8>, SocketAddrV4)>,
    timers: BTreeMap<(Instant, u64), Timer<Due>>,
    serial: u64,
    life: Duration,
    /// Who is shown each message that arrives.
    pub watch: Option<Watch>,
    /// How often a request had to be sent again.
    pub retransmissions: u64,
    /// Things that a correct peer doesn't send, by kind.
    pub surprises: BTreeMap<String, u64>,
}

impl<Due> Endpoint<Due> {
    /// Binds `local`; port 0 takes any.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub fn bind(local: SocketAddrV4) -> io::Result<Self> {
        let socket = UdpSocket::bind(local)?;
        socket.set_nonblocking(true)?;
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20);
        let SocketAddr::V4(local) = socket.local_addr()? else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        Ok(Endpoint {
            socket,
            local,
            clients: HashMap::new(),
            servers: HashMap::new(),
            timers: BTreeMap::new(),
            serial: u64::from(std::process::id()) << 32,
            life: LIFE,
            watch: None,
            retransmissions: 0,
            surprises: BTreeMap::new(),
        })
    }

    /// The bound address.
    pub fn local(&self) -> SocketAddrV4 {
        self.local
    }

    /// How long to wait for a final response.
    pub fn set_life(&mut self, life: Duration) {
        self.life = life;
    }

    /// A word not given before, for tags, branches and Call-IDs.
    pub fn word(&mut self) -> String {
        self.serial += 1;
        format!("{:x}", self.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The topmost Via of a new request, with its branch.
    pub fn via(&mut self) -> (String, String) {
        let branch = format!("z9hG4bK{}", self.word());
        (format!("SIP/2.0/UDP {};branch={branch};rport", self.local), branch)
    }

    /// Counts a surprise.
    pub fn surprise(&mut self, what: impl Into<String>) {
        *self.surprises.entry(what.into()).or_default() += 1;
    }

    /// Sends a request in a transaction of its own; a Via is put on top. Gives what was sent.
    pub fn send(&mut self, mut request: Message, to: SocketAddrV4, owner: usize) -> Message {
        let (via, branch) = self.via();
        request.headers.insert(0, ("Via".into(), via));
        let now = Instant::now();
        let client = Client {
            bytes: request.to_bytes(),
            to,
            owner,
            method: request.method().unwrap_or_default().to_owned(),
            interval: T1,
            sent: now,
            give_up: now + self.life,
            provisional: false,
        };
        self.send_raw(&client.bytes, to);
        self.set(now + T1, Timer::Retransmit(branch.clone()));
        self.clients.insert(branch, client);
        request
    }

    /// Sends bytes outside any transaction, such as the ACK of a 2xx.
    pub fn send_raw(&mut self, bytes: &[u8], to: SocketAddrV4) {
        if let Err(error) = self.socket.send_to(bytes, to) {
            self.surprise(format!("send: {:?}", error.kind()));
        }
    }

    /// Answers a request; the answer is remembered for its retransmissions.
    pub fn respond(&mut self, request: &Message, response: &Message, to: SocketAddrV4) {
        let bytes = response.to_bytes();
        self.send_raw(&bytes, to);
        let Some(key) = server_key(request) else { return };
        if self.servers.insert(key.clone(), (bytes, to)).is_none() {
            self.set(Instant::now() + LIFE, Timer::Forget(key));
        }
    }

    /// Sets a timer.
    pub fn after(&mut self, delay: Duration, due: Due) {
        self.set(Instant::now() + delay, Timer::Due(due));
    }

    fn set(&mut self, at: Instant, timer: Timer<Due>) {
        self.serial += 1;
        self.timers.insert((at, self.serial), timer);
    }

    /// Whether a request of ours still waits for its final response.
    pub fn is_busy(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Waits for datagrams and timers, no longer than `until`, and gives all that happened.
    pub fn poll(&mut self, until: Instant) -> Vec<Event<Due>> {
        let next = self.timers.keys().next().map_or(until, |(at, _)| until.min(*at));
        let wait = next.saturating_duration_since(Instant::now());
        if let Ok(timeout) = Timespec::try_from(wait) {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            let _ = rustix::event::poll(&mut fds, Some(&timeout));
        }
        let mut events = Vec::new();
        let mut buffer = [0_u8; 65_536];
        for _ in 0..256 {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, SocketAddr::V4(from))) => {
                    let message = buffer.get(..length).and_then(Message::parse);
                    match message {
                        Some(message) => {
                            self.show(&message, from);
                            self.take(message, from, &mut events);
                        }
                        None if length < 5 => {}
                        None => self.surprise("not SIP"),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
        self.expire(&mut events);
        events
    }

    fn show(&self, message: &Message, from: SocketAddrV4) {
        if let Some(watch) = &self.watch {
            watch.hear(message, from);
        }
    }

    fn take(&mut self, message: Message, from: SocketAddrV4, events: &mut Vec<Event<Due>>) {
        let Some(status) = message.status() else {
            let known = server_key(&message).and_then(|key| self.servers.get(&key).cloned());
            match known {
                Some((bytes, to)) if message.method() != Some("ACK") => self.send_raw(&bytes, to),
                _ => events.push(Event::Request { message, from }),
            }
            return;
        };
        let Some(branch) = message.branch().map(str::to_owned) else {
            return self.surprise("response without branch");
        };
        let Some(client) = self.clients.get_mut(&branch) else {
            // The 2xx of an INVITE comes again until its ACK arrives; its owner must send that again.
            if message.cseq().is_some_and(|(_, method)| method == "INVITE") && status >= 200 {
                events.push(Event::Response { owner: usize::MAX, message, sent: Instant::now() });
            }
            return;
        };
        if status < 200 {
            client.provisional = true;
        }
        events.push(Event::Response { owner: client.owner, message, sent: client.sent });
        if status >= 200 {
            self.clients.remove(&branch);
        }
    }

    fn expire(&mut self, events: &mut Vec<Event<Due>>) {
        let now = Instant::now();
        while self.timers.keys().next().is_some_and(|(at, _)| *at <= now) {
            match self.timers.pop_first() {
                Some((_, Timer::Due(due))) => events.push(Event::Due(due)),
                Some((_, Timer::Forget(key))) => {
                    self.servers.remove(&key);
                }
                Some((_, Timer::Retransmit(branch))) => self.retransmit(branch, now, events),
                None => break,
            }
        }
    }

    fn retransmit(&mut self, branch: String, now: Instant, events: &mut Vec<Event<Due>>) {
        let Some(client) = self.clients.get_mut(&branch) else { return };
        if now >= client.give_up {
            events.push(Event::Timeout { owner: client.owner, method: client.method.clone() });
            self.clients.remove(&branch);
            return;
        }
        let invite = client.method == "INVITE";
        client.interval = if invite { client.interval * 2 } else { (client.interval * 2).min(T2) };
        let again = now + client.interval;
        if !(invite && client.provisional) {
            let (bytes, to) = (client.bytes.clone(), client.to);
            self.retransmissions += 1;
            self.send_raw(&bytes, to);
        }
        self.set(again, Timer::Retransmit(branch));
    }
}

fn server_key(request: &Message) -> Option<String> {
    Some(format!("{} {}", request.branch()?, request.method()?))
}
