//! A SIP phone that a test drives step by step, over UDP or TCP: what it expects must come, and what must not come is
//! looked for. It repeats its requests over UDP as RFC 3261 asks, and answers retransmissions as before.

use super::SOON;
use super::demo::{Account, Demo};
use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tandem_phones::digest::{Algorithm, Challenge, Credentials};
use tandem_phones::leg::{Leg, Phase, ack_of_failure};
pub use tandem_phones::message::Message;
use tandem_phones::message::{audio_address, audio_sdp, tag_of};

enum Line {
    Udp(UdpSocket, SocketAddrV4),
    Tcp(TcpStream, Vec<u8>),
}

pub struct Phone {
    pub account: Account,
    pub local: SocketAddrV4,
    /// Further headers of its REGISTERs.
    pub registers_with: Vec<(&'static str, &'static str)>,
    line: Line,
    inbox: VecDeque<Message>,
    answered: HashMap<String, Vec<u8>>,
    repeating: Option<(Vec<u8>, Instant, Duration)>,
    call_id: String,
    cseq: u32,
    began: Instant,
    history: VecDeque<String>,
}

/// One call as this phone sees it.
pub struct Call {
    pub leg: Leg,
    /// The INVITE that made it, sent or received.
    pub invite: Message,
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
            line,
            inbox: VecDeque::new(),
            answered: HashMap::new(),
            repeating: None,
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
        assert_eq!(response.status(), Some(200), "{}", response.start);
        response
    }

    /// REGISTER with this Contact (empty: none) and Expires: the final response.
    #[track_caller]
    pub fn register_as(&mut self, contact: &str, expires: u32) -> Message {
        self.try_register(contact, expires, SOON).expect("an answer to REGISTER")
    }

    /// The same, with `None` when no answer came in time.
    pub fn try_register(&mut self, contact: &str, expires: u32, within: Duration) -> Option<Message> {
        let uri = format!("sip:{}", self.account.domain);
        let aor = format!("<sip:{}@{}>", self.account.number, self.account.domain);
        let mut challenge: Option<Challenge> = None;
        for _ in 0..3 {
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
            if let Some(challenge) = &mut challenge {
                let (name, value) = challenge.answer(&self.credentials(), "REGISTER", &uri);
                request.add(name, &value);
            }
            self.send(&request);
            let cseq = self.cseq;
            let response = self.next(within, |m| {
                m.status().is_some_and(|s| s >= 200) && m.cseq() == Some((cseq, "REGISTER"))
            })?;
            if response.status() != Some(401) || challenge.is_some() {
                return Some(response);
            }
            challenge = Challenge::of(&response, Algorithm::First);
        }
        None
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
        if matches!(self.line, Line::Udp(..)) {
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
        match &mut self.line {
            Line::Udp(socket, server) => drop(socket.send_to(bytes, *server)),
            Line::Tcp(stream, _) => drop(stream.write_all(bytes)),
        }
    }

    /// Calls a number and goes through the challenge: the call, whose INVITE is under way.
    pub fn call(&mut self, number: &str) -> Call {
        let uri = format!("sip:{number}@{}", self.account.domain);
        self.call_uri(&uri)
    }

    pub fn call_uri(&mut self, uri: &str) -> Call {
        let from = format!("sip:{}@{}", self.account.number, self.account.domain);
        let server = match &self.line {
            Line::Udp(_, server) => *server,
            Line::Tcp(..) => self.local,
        };
        let mut leg = Leg::calling(0, &from, &word(), uri, server);
        let invite = self.invite(&mut leg, "sendrecv");
        let mut call = Call { leg, invite };
        let challenge = self
            .next(SOON, |m| of(m, &call.invite) && m.status().is_some_and(|s| s != 100))
            .expect("an answer to INVITE");
        if !matches!(challenge.status(), Some(401 | 407)) {
            self.inbox.push_front(challenge);
            return call;
        }
        self.acknowledge_failure(&call, &challenge);
        call.leg.challenge = Challenge::of(&challenge, Algorithm::First);
        call.invite = self.invite(&mut call.leg, "sendrecv");
        call
    }

    fn invite(&mut self, leg: &mut Leg, direction: &str) -> Message {
        let mut request = leg.request("INVITE").with("Contact", &self.contact());
        request.headers.insert(0, ("Via".into(), self.via()));
        if let Some(challenge) = &mut leg.challenge {
            let (name, value) = challenge.answer(&self.credentials(), "INVITE", &leg.target);
            request.add(name, &value);
        }
        let request = request.with_sdp(&self.sdp(direction));
        self.send(&request);
        request
    }

    fn acknowledge_failure(&mut self, call: &Call, response: &Message) {
        let ack = ack_of_failure(response, &call.leg.target);
        self.send(&ack);
    }

    /// The next response to the call's INVITE of at least this status; a final one is acknowledged.
    #[track_caller]
    pub fn response(&mut self, call: &mut Call, at_least: u16) -> Message {
        let found = self.next(SOON, |m| of(m, &call.invite) && m.status().is_some_and(|s| s >= at_least));
        let response =
            found.unwrap_or_else(|| panic!("{}: no response of at least {at_least}", self.account.number));
        match response.status() {
            Some(200..300) => {
                call.leg.phase = Phase::Up;
                call.leg.establish(&response);
                let mut ack = call.leg.request("ACK");
                ack.headers.insert(0, ("Via".into(), self.via()));
                self.send(&ack);
            }
            Some(300..) => self.acknowledge_failure(call, &response),
            _ => {}
        }
        response
    }

    /// The final response, which must be this one.
    #[track_caller]
    pub fn expect(&mut self, call: &mut Call, status: u16) -> Message {
        let response = self.response(call, 200);
        assert_eq!(response.status(), Some(status), "{}", response.start);
        response
    }

    /// A re-INVITE with this direction; its 200.
    #[track_caller]
    pub fn renegotiate(&mut self, call: &mut Call, direction: &str) -> Message {
        let mut leg = call.leg.clone();
        call.invite = self.invite(&mut leg, direction);
        call.leg = leg;
        self.expect(call, 200)
    }

    /// Takes back the INVITE; its CANCEL must be answered 200.
    #[track_caller]
    pub fn cancel(&mut self, call: &Call) {
        let cancel = cancel_of(call);
        self.send(&cancel);
        let number = call.invite.cseq().map_or(0, |(number, _)| number);
        let answer = self.next(SOON, |m| m.status().is_some() && m.cseq() == Some((number, "CANCEL")));
        assert_eq!(answer.expect("an answer to CANCEL").status(), Some(200));
    }

    /// A whole short call to another phone of the same test, for when it may fail: both answered, then ended with 200.
    pub fn try_call(&mut self, other: &mut Phone, within: Duration) -> Result<(), String> {
        while let Some(stale) = other.next(Duration::from_millis(30), |m| m.method() == Some("INVITE")) {
            other.reply(&stale, 486, "Busy Here");
        }
        let call = self.try_until_ended(other, within);
        self.inbox.clear();
        other.inbox.clear();
        call
    }

    fn try_until_ended(&mut self, other: &mut Phone, within: Duration) -> Result<(), String> {
        let none = |what: &str| format!("no {what}");
        let is_final =
            |m: &Message, of_request: &Message| of(m, of_request) && m.status().is_some_and(|s| s >= 200);
        let uri = format!("sip:{}@{}", other.account.number, other.account.domain);
        let from = format!("sip:{}@{}", self.account.number, self.account.domain);
        let mut leg = Leg::calling(0, &from, &word(), &uri, self.local);
        let mut invite = self.invite(&mut leg, "sendrecv");
        let challenge = self.next(within, |m| is_final(m, &invite)).ok_or_else(|| none("challenge"))?;
        self.acknowledge_failure(&Call { leg: leg.clone(), invite: invite.clone() }, &challenge);
        leg.challenge = Some(Challenge::of(&challenge, Algorithm::First).ok_or(challenge.start)?);
        invite = self.invite(&mut leg, "sendrecv");
        let deadline = Instant::now() + within;
        let mut inc = loop {
            if let Some(received) = other.next(Duration::from_millis(5), |m| m.method() == Some("INVITE")) {
                let leg =
                    Leg::called(0, &received, &word(), other.local).ok_or_else(|| none("usable INVITE"))?;
                break Call { leg, invite: received };
            }
            let refusal = self.next(Duration::from_millis(5), |m| is_final(m, &invite));
            if let Some(refusal) = refusal {
                self.acknowledge_failure(&Call { leg, invite }, &refusal);
                return Err(refusal.start);
            }
            if Instant::now() > deadline {
                self.send(&cancel_of(&Call { leg, invite }));
                return Err(none("INVITE at the other phone"));
            }
        };
        let ok = Message::response(&inc.invite, 200, "OK", inc.leg.tag())
            .with("Contact", &other.contact())
            .with_sdp(&other.sdp("sendrecv"));
        other.respond(&inc.invite, &ok);
        other.repeat_until_heard(ok.to_bytes());
        inc.leg.phase = Phase::Up;
        let deadline = Instant::now() + within;
        let answer = loop {
            if let Some(answer) = self.next(Duration::from_millis(5), |m| is_final(m, &invite)) {
                break answer;
            }
            if Instant::now() > deadline {
                self.send(&cancel_of(&Call { leg, invite }));
                return Err(format!("no answer\n{}{}", self.history(), other.history()));
            }
            other.receive();
            other.repeat();
        };
        if answer.status() != Some(200) {
            self.acknowledge_failure(&Call { leg, invite }, &answer);
            return Err(answer.start);
        }
        leg.establish(&answer);
        let ack = leg.request("ACK").with("Via", &self.via());
        self.send(&ack);
        let bye = leg.request("BYE").with("Via", &self.via());
        self.send(&bye);
        let theirs = other
            .next(within, |m| m.method() == Some("BYE"))
            .ok_or_else(|| none("BYE at the other phone"))?;
        other.reply(&theirs, 200, "OK");
        let ended = self.next(within, |m| is_final(m, &bye)).ok_or_else(|| none("answer to BYE"))?;
        if ended.status() == Some(200) { Ok(()) } else { Err(ended.start) }
    }

    /// The next incoming call.
    #[track_caller]
    pub fn incoming(&mut self) -> Call {
        let invite = self.request("INVITE");
        let (from, tag) = (self.local, word());
        let leg = Leg::called(0, &invite, &tag, from).expect("an INVITE with Contact");
        Call { leg, invite }
    }

    /// Answers the call's INVITE; a refusal waits for its ACK (that of a 2xx is awaited when the call ends).
    #[track_caller]
    pub fn answer(&mut self, call: &mut Call, status: u16, reason: &str) {
        let described = status == 183 || (200..300).contains(&status);
        let sdp = if described { self.sdp("sendrecv") } else { String::new() };
        self.answer_as(call, status, reason, &sdp);
    }

    /// Takes a re-INVITE with this description.
    #[track_caller]
    pub fn answer_with(&mut self, call: &mut Call, sdp: &str) {
        self.answer_as(call, 200, "OK", sdp);
    }

    #[track_caller]
    fn answer_as(&mut self, call: &mut Call, status: u16, reason: &str, sdp: &str) {
        let mut response = Message::response(&call.invite, status, reason, call.leg.tag());
        if !sdp.is_empty() {
            response = response.with("Contact", &self.contact()).with_sdp(sdp);
        }
        self.respond(&call.invite, &response);
        if (200..300).contains(&status) {
            self.repeat_until_heard(response.to_bytes());
        }
        if status >= 200 {
            call.leg.phase = Phase::Up;
        }
        if status >= 300 {
            self.acknowledged(call);
        }
    }

    /// Waits for the ACK of this side's final answer.
    #[track_caller]
    pub fn acknowledged(&mut self, call: &Call) {
        let id = call.leg.call_id.clone();
        let ack = self.next(SOON, |m| m.method() == Some("ACK") && m.get("Call-ID") == Some(&id));
        assert!(ack.is_some(), "{}: no ACK", self.account.number);
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

    /// Ends the call; the BYE must be answered 200.
    #[track_caller]
    pub fn hang_up(&mut self, call: &mut Call) {
        if !call.leg.caller {
            self.acknowledged(call);
        }
        let answer = self.bye(call);
        assert_eq!(answer.status(), Some(200), "{}", answer.start);
    }

    /// Sends BYE; the final answer to it.
    #[track_caller]
    pub fn bye(&mut self, call: &mut Call) -> Message {
        let mut bye = call.leg.request("BYE");
        bye.headers.insert(0, ("Via".into(), self.via()));
        self.send(&bye);
        let answer = self.next(SOON, |m| of(m, &bye) && m.status().is_some_and(|s| s >= 200));
        answer.expect("an answer to BYE")
    }

    /// Waits until the switch has closed this phone's connection.
    pub fn sees_its_connection_closed(&mut self, within: Duration) -> bool {
        let Line::Tcp(stream, _) = &mut self.line else { return false };
        stream.set_read_timeout(Some(within)).expect("a timeout");
        // What still comes before the end is of no interest here.
        std::io::copy(stream, &mut std::io::sink()).is_ok()
    }

    /// Waits for the other side's BYE and answers it.
    #[track_caller]
    pub fn ended(&mut self, call: &Call) -> Message {
        if !call.leg.caller {
            self.acknowledged(call);
        }
        let id = call.leg.call_id.clone();
        let bye = self.next(SOON, |m| m.method() == Some("BYE") && m.get("Call-ID") == Some(&id));
        let bye = bye.unwrap_or_else(|| panic!("{}: no BYE", self.account.number));
        self.reply(&bye, 200, "OK");
        bye
    }

    /// The next request of this method.
    #[track_caller]
    pub fn request(&mut self, method: &str) -> Message {
        let found = self.next(SOON, |m| m.method() == Some(method));
        found.unwrap_or_else(|| panic!("{}: no {method}", self.account.number))
    }

    /// Answers a CANCEL and its INVITE, as RFC 3261 section 9.2 asks; gives the CANCEL.
    #[track_caller]
    pub fn cancelled(&mut self, call: &Call) -> Message {
        let cancel = self.request("CANCEL");
        assert_eq!(cancel.branch(), call.invite.branch());
        self.reply(&cancel, 200, "OK");
        self.refuse_cancelled(call);
        cancel
    }

    /// Ends the INVITE of a call whose CANCEL was already seen.
    pub fn refuse_cancelled(&mut self, call: &Call) {
        let terminated = Message::response(&call.invite, 487, "Request Terminated", call.leg.tag());
        self.respond(&call.invite, &terminated);
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
        let wait = Some(Duration::from_millis(20));
        let mut buffer = [0_u8; 65_536];
        match &mut self.line {
            Line::Udp(socket, _) => {
                socket.set_read_timeout(wait).expect("a timeout");
                let Ok(length) = socket.recv(&mut buffer) else { return };
                let message = Message::parse(&buffer[..length]).expect("the switch sends SIP");
                self.take(message);
            }
            Line::Tcp(stream, bytes) => {
                stream.set_read_timeout(wait).expect("a timeout");
                match stream.read(&mut buffer) {
                    Ok(length) => bytes.extend(&buffer[..length]),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => {
                        panic!("{}: the switch closed the connection: {error}", self.account.number)
                    }
                }
                while let Some(message) = self.frame() {
                    self.take(message);
                }
            }
        }
    }

    /// One message off the stream, by Content-Length (RFC 3261 section 18.3).
    fn frame(&mut self) -> Option<Message> {
        let Line::Tcp(_, bytes) = &mut self.line else { return None };
        let junk = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        bytes.drain(..junk);
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let message = Message::parse(&bytes[..head]).expect("the switch sends SIP");
        let length: usize =
            message.get("Content-Length").expect("Content-Length on a stream").parse().expect("a length");
        if bytes.len() < head + length {
            return None;
        }
        let whole: Vec<u8> = bytes.drain(..head + length).collect();
        Message::parse(&whole)
    }

    fn take(&mut self, message: Message) {
        self.remember("<-", &message);
        if message.method() == Some("OPTIONS") {
            return self.reply(&message, 200, "OK");
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

impl Call {
    /// Where the other side wants this phone's sound, by the description of a message.
    pub fn audio_of(message: &Message) -> SocketAddrV4 {
        audio_address(&message.body).expect("a description with audio")
    }
}

fn cancel_of(call: &Call) -> Message {
    let mut cancel = Message::request("CANCEL", &call.leg.target);
    for name in ["Via", "Max-Forwards", "From", "To", "Call-ID"] {
        cancel.add(name, call.invite.get(name).unwrap_or_default());
    }
    let number = call.invite.cseq().map_or(0, |(number, _)| number);
    cancel.with("CSeq", &format!("{number} CANCEL"))
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
