//! A SIP phone that a test drives step by step, over UDP or TCP: what it expects must come, and what must not come is
//! looked for. It repeats its requests over UDP as RFC 3261 asks, and answers retransmissions as before.

mod calls;
mod line;
mod whole_call;

pub use calls::Call;

use super::SOON;
use super::demo::{Account, Demo};
use line::Line;
use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tandem_phones::digest::{Algorithm, Challenge, Credentials};
pub use tandem_phones::message::Message;
use tandem_phones::message::{audio_sdp, tag_of};

pub struct Phone {
    pub account: Account,
    pub local: SocketAddrV4,
    /// Further headers of its REGISTERs.
    pub registers_with: Vec<(&'static str, &'static str)>,
    /// What the last REGISTER was challenged with and proved itself by; before its proof nothing can have been done.
    pub proved: Option<Challenge>,
    line: Line,
    inbox: VecDeque<Message>,
    answered: HashMap<String, Vec<u8>>,
    repeating: Option<(Vec<u8>, Instant, Duration)>,
    /// Its INVITEs have a description. Else the other side's 200 offers, and its ACK answers.
    pub offers: bool,
    /// It knows no dialog any more.
    forgets: bool,
    call_id: String,
    cseq: u32,
    began: Instant,
    history: VecDeque<String>,
}

fn word() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{}p{}", NEXT.fetch_add(1, Ordering::Relaxed), std::process::id())
}

impl Phone {
    /// A phone that uses UDP through this node.
    pub fn new(demo: &Demo, account: &Account, node: u8) -> Phone {
        let local = SocketAddrV4::new(demo.host(), 5060);
        Phone::at(account, local, demo.sip(node))
    }

    /// A phone at an address of its own that uses UDP.
    pub fn at(account: &Account, local: SocketAddrV4, server: SocketAddrV4) -> Phone {
        // A child that is just being forked may still hold the address of a phone that is gone.
        let socket = super::eventually(super::SOON, "the phone's address", || UdpSocket::bind(local).ok());
        Phone::with(account, local, Line::Udp(socket, server))
    }

    /// A phone that uses TCP through this node.
    pub fn over_tcp(demo: &Demo, account: &Account, node: u8) -> Phone {
        let stream = TcpStream::connect(demo.sip(node)).expect("the node listens on TCP");
        let Ok(SocketAddr::V4(local)) = stream.local_addr() else { panic!("IPv4") };
        Phone::with(account, local, Line::Tcp(stream, Vec::new()))
    }

    fn with(account: &Account, local: SocketAddrV4, line: Line) -> Phone {
        Phone {
            account: account.clone(),
            local,
            registers_with: Vec::new(),
            proved: None,
            line,
            inbox: VecDeque::new(),
            answered: HashMap::new(),
            repeating: None,
            offers: true,
            forgets: false,
            call_id: word(),
            cseq: 0,
            began: Instant::now(),
            history: VecDeque::new(),
        }
    }

    /// A registered phone.
    pub fn registered(demo: &Demo, account: &Account, node: u8) -> Phone {
        let mut phone = Phone::new(demo, account, node);
        phone.register();
        phone
    }

    /// Over UDP: what it sends goes to this node from now on.
    pub fn turn_to(&mut self, server: SocketAddrV4) {
        if let Line::Udp(_, to) = &mut self.line {
            *to = server;
        }
    }

    pub fn contact(&self) -> String {
        let transport = if matches!(self.line, Line::Tcp(..)) { ";transport=tcp" } else { "" };
        format!("<sip:{}@{}{transport}>", self.account.number, self.local)
    }

    /// Registers for ten minutes; must succeed.
    #[track_caller]
    pub fn register(&mut self) -> Message {
        let response = self.register_as(&self.contact(), 600);
        assert_eq!(response.status(), Some(200), "{response:?}");
        response
    }

    /// REGISTER with this Contact (empty: none) and Expires: the final response.
    #[track_caller]
    pub fn register_as(&mut self, contact: &str, expires: u32) -> Message {
        self.try_register(contact, expires, SOON).expect("an answer to REGISTER")
    }

    /// The same, with `None` when no answer came in time.
    pub fn try_register(&mut self, contact: &str, expires: u32, within: Duration) -> Option<Message> {
        self.proved = None;
        for _ in 0..3 {
            self.send_register(contact, expires);
            let response = self.answer_to_register(within)?;
            if response.status() != Some(401) || self.proved.is_some() {
                return Some(response);
            }
            self.proved = Challenge::of(&response, Algorithm::First);
        }
        None
    }

    /// Sends a REGISTER with what the last one proved itself by.
    pub fn send_register(&mut self, contact: &str, expires: u32) {
        let uri = format!("sip:{}", self.account.domain);
        let aor = format!("<sip:{}@{}>", self.account.number, self.account.domain);
        let credentials = self.credentials();
        self.cseq += 1;
        let mut request = Message::request("REGISTER", &uri)
            .with("Via", &self.via())
            .with("Max-Forwards", "70")
            .with("From", &format!("{aor};tag={}", self.call_id))
            .with("To", &aor)
            .with("Call-ID", &self.call_id)
            .with("CSeq", &format!("{} REGISTER", self.cseq));
        if !contact.is_empty() {
            request = request.with("Contact", contact).with("Expires", &expires.to_string());
        }
        for (name, value) in &self.registers_with {
            request.add(name, value);
        }
        if let Some(challenge) = &mut self.proved {
            let (name, value) = challenge.answer(&credentials, "REGISTER", &uri);
            request.add(name, &value);
        }
        self.send(&request);
    }

    /// The final response to it.
    pub fn answer_to_register(&mut self, within: Duration) -> Option<Message> {
        let cseq = self.cseq;
        self.next(within, |m| m.status().is_some_and(|s| s >= 200) && m.cseq() == Some((cseq, "REGISTER")))
    }

    fn credentials(&self) -> Credentials {
        Credentials { user: self.account.number.clone(), password: self.account.password.clone() }
    }

    pub fn via(&self) -> String {
        let transport = if matches!(self.line, Line::Tcp(..)) { "TCP" } else { "UDP" };
        format!("SIP/2.0/{transport} {};branch=z9hG4bK{};rport", self.local, word())
    }

    /// Where this phone takes sound.
    pub fn audio(&self) -> SocketAddrV4 {
        SocketAddrV4::new(*self.local.ip(), 40_000)
    }

    /// The session description of this phone.
    pub fn sdp(&self, direction: &str) -> String {
        audio_sdp(self.audio(), 1, direction)
    }

    /// Sends a message; a request other than ACK is repeated over UDP until something comes back.
    pub fn send(&mut self, message: &Message) {
        let bytes = message.to_bytes();
        self.write(&bytes);
        if message.method().is_some_and(|method| method != "ACK") {
            self.repeat_until_heard(bytes);
        }
    }

    /// Over UDP a request goes out again until a response comes, and a 2xx until its ACK.
    fn repeat_until_heard(&mut self, bytes: Vec<u8>) {
        if self.line.is_udp() {
            let interval = Duration::from_millis(500);
            self.repeating = Some((bytes, Instant::now() + interval, interval));
        }
    }

    /// The last messages sent and received, for the reader of a failure.
    pub fn history(&self) -> String {
        self.history.iter().map(|line| format!("  {}: {line}\n", self.account.number)).collect()
    }

    fn remember(&mut self, arrow: &str, message: &Message) {
        let (call_id, branch) = (message.get("Call-ID").unwrap_or("-"), message.branch().unwrap_or("-"));
        let cseq = message.get("CSeq").unwrap_or("-");
        let line =
            format!("{:?} {arrow} {} | {cseq} | {call_id} | {branch}", self.began.elapsed(), message.start);
        self.history.push_back(line);
        if self.history.len() > 30 {
            self.history.pop_front();
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(message) = Message::parse(bytes) {
            self.remember("->", &message);
        }
        self.line.write(bytes);
    }

    /// Answers any request with this status.
    pub fn reply(&mut self, request: &Message, status: u16, reason: &str) {
        let response = Message::response(request, status, reason, "reply");
        self.respond(request, &response);
    }

    fn respond(&mut self, request: &Message, response: &Message) {
        let bytes = response.to_bytes();
        self.write(&bytes);
        self.answered.insert(key(request), bytes);
    }

    /// Waits until the switch has closed this phone's connection.
    pub fn sees_its_connection_closed(&mut self, within: Duration) -> bool {
        let Line::Tcp(stream, _) = &mut self.line else { return false };
        stream.set_read_timeout(Some(within)).expect("a timeout");
        // What still comes before the end is of no interest here.
        std::io::copy(stream, &mut std::io::sink()).is_ok()
    }

    /// The next request of this method.
    #[track_caller]
    pub fn request(&mut self, method: &str) -> Message {
        let found = self.next(SOON, |m| m.method() == Some(method));
        found.unwrap_or_else(|| panic!("{}: no {method}", self.account.number))
    }

    /// Whether a request of this method comes within this time; it is answered 200.
    pub fn hears(&mut self, method: &str, within: Duration) -> bool {
        let heard = self.next(within, |m| m.method() == Some(method));
        if let Some(request) = &heard {
            self.reply(request, 200, "OK");
        }
        heard.is_some()
    }

    /// Waits for the first message that fits; others stay for later.
    pub fn next(&mut self, within: Duration, fits: impl Fn(&Message) -> bool) -> Option<Message> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = self.inbox.iter().position(&fits) {
                self.repeating = None;
                return self.inbox.remove(found);
            }
            if Instant::now() >= deadline {
                return None;
            }
            self.receive();
            self.repeat();
        }
    }

    fn repeat(&mut self) {
        let Some((bytes, at, interval)) = self.repeating.clone() else { return };
        if Instant::now() >= at {
            self.write(&bytes);
            self.repeating = Some((bytes, at + interval * 2, (interval * 2).min(Duration::from_secs(4))));
        }
    }

    fn receive(&mut self) {
        for message in self.line.read() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        self.remember("<-", &message);
        if message.method() == Some("OPTIONS") {
            return self.reply(&message, 200, "OK");
        }
        let in_dialog = message.get("To").and_then(tag_of).is_some();
        if self.forgets && in_dialog && message.method() == Some("INVITE") {
            let gone = Message::response(&message, 481, "Call/Transaction Does Not Exist", &word());
            return self.line.answer(&message, &gone.to_bytes());
        }
        let again = message
            .method()
            .is_some_and(|m| m != "ACK")
            .then(|| self.answered.get(&key(&message)).cloned())
            .flatten();
        let waiting =
            message.method() == Some("INVITE") && self.inbox.iter().any(|m| m.branch() == message.branch());
        match again {
            Some(bytes) => self.write(&bytes),
            None if waiting => {}
            None => self.inbox.push_back(message),
        }
    }
}

fn key(request: &Message) -> String {
    format!("{:?} {:?}", request.branch(), request.method())
}

/// Whether this is a response to that request.
fn of(response: &Message, request: &Message) -> bool {
    response.status().is_some()
        && response.get("Call-ID") == request.get("Call-ID")
        && response.cseq() == request.cseq()
        && response.get("From").and_then(tag_of) == request.get("From").and_then(tag_of)
}
