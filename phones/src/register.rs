//! `tandem-phones register`: many phones register with digest, at a rate or all at once, as new bindings or refreshes.

mod avalanche;

use crate::digest::{Algorithm, Challenge, Credentials};
use crate::endpoint::{Endpoint, Event};
use crate::histogram::Histogram;
use crate::measure;
use crate::message::Message;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

/// Who the phones are and where they register.
#[derive(Debug, Clone)]
pub struct Phones {
    /// The phones' own address.
    pub local: SocketAddrV4,
    /// The SIP servers; phone `n` uses `targets[n % len]`.
    pub targets: Vec<SocketAddrV4>,
    /// The digest realm and the host of the addresses of record.
    pub domain: String,
    /// The number of phone 0; the others follow.
    pub first: u64,
    /// How many.
    pub count: usize,
    /// The password of all.
    pub password: String,
    /// Which challenge they answer.
    pub algorithm: Algorithm,
}

impl Phones {
    /// The number of a phone.
    pub fn number(&self, index: usize) -> String {
        (self.first + index as u64).to_string()
    }

    /// The server of a phone.
    pub fn target(&self, index: usize) -> SocketAddrV4 {
        self.targets.get(index % self.targets.len().max(1)).copied().unwrap_or(self.local)
    }

    /// The credentials of a phone.
    pub fn credentials(&self, index: usize) -> Credentials {
        Credentials { user: self.number(index), password: self.password.clone() }
    }
}

/// One measured run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The phones.
    pub phones: Phones,
    /// REGISTERs begun per second.
    pub rate: f64,
    /// Measured rounds over all phones.
    pub rounds: u32,
    /// Each round makes new bindings; otherwise an unmeasured first round makes them and the measured ones refresh.
    pub fresh: bool,
    /// The first round is an avalanche: all at once, until all are registered or this is over.
    pub avalanche: Option<Duration>,
    /// Answer the last nonce at once in later rounds instead of waiting for a challenge.
    pub keep_nonce: bool,
    /// Unregister everything at the end, unmeasured.
    pub unregister: bool,
    /// The Expires asked for, seconds.
    pub expires: u32,
    /// The process trees whose CPU and memory are measured.
    pub pids: Vec<u32>,
}

#[derive(Default)]
struct Phone {
    call_id: String,
    tag: String,
    cseq: u32,
    challenge: Option<Challenge>,
    /// Challenges answered in this attempt; a stale nonce may cost a second.
    challenges: u32,
    begun: Option<Instant>,
}

struct Run<'a> {
    options: &'a Options,
    endpoint: Endpoint<usize>,
    phones: Vec<Phone>,
    latency: Histogram,
    registered: u64,
    failures: BTreeMap<String, u64>,
}

/// Runs it and gives one JSON object.
///
/// # Errors
/// When the local address can't be bound.
pub fn run(options: &Options) -> io::Result<serde_json::Value> {
    let mut run = Run {
        options,
        endpoint: Endpoint::bind(options.phones.local)?,
        phones: (0..options.phones.count).map(|_| Phone::default()).collect(),
        latency: Histogram::default(),
        registered: 0,
        failures: BTreeMap::new(),
    };
    let start = measure::usage(&options.pids);
    let avalanche = match options.avalanche {
        Some(patience) => Some(run.avalanche(patience)),
        None => {
            if !options.fresh {
                run.round(0, options.expires);
            }
            None
        }
    };
    run.reset();
    let before = measure::usage(&options.pids);
    let own = measure::usage(&[std::process::id()]);
    let began = Instant::now();
    for round in 1..=options.rounds {
        run.round(if options.fresh { round } else { 0 }, options.expires);
    }
    let seconds = began.elapsed().as_secs_f64();
    let after = measure::usage(&options.pids);
    let own = measure::usage(&[std::process::id()]).cpu_s - own.cpu_s;
    let (registered, failures) = (run.registered, std::mem::take(&mut run.failures));
    if options.unregister {
        run.round(if options.fresh { options.rounds } else { 0 }, 0);
    }
    let cpu = after.cpu_s - before.cpu_s;
    Ok(serde_json::json!({
        "tool": "register",
        "avalanche": avalanche,
        "registered": registered,
        "failed": failures.values().sum::<u64>(),
        "failures": failures,
        "seconds": seconds,
        "per_second": registered as f64 / seconds,
        "latency_ms": run.latency.json(),
        "retransmissions": run.endpoint.retransmissions,
        "surprises": run.endpoint.surprises,
        "peer_cpu_s": cpu,
        "peer_cpu_s_per_1000": if registered == 0 { 0.0 } else { cpu * 1000.0 / registered as f64 },
        "own_cpu_s": own,
        "peer_rss_kb_before": start.rss_kb,
        "peer_rss_kb_after": after.rss_kb,
    }))
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Run<'_> {
    /// Every phone registers once; ends when all have their answer.
    fn round(&mut self, contact: u32, expires: u32) {
        let began = Instant::now();
        let mut begun = 0;
        while begun < self.phones.len() || self.endpoint.is_busy() {
            let mut until = Instant::now() + Duration::from_millis(100);
            while begun < self.phones.len() {
                let at = began + Duration::from_secs_f64(begun as f64 / self.options.rate);
                if at > Instant::now() {
                    until = at;
                    break;
                }
                self.begin(begun, contact, expires);
                begun += 1;
            }
            for event in self.endpoint.poll(until) {
                self.handle(event, contact, expires);
            }
        }
    }

    fn reset(&mut self) {
        self.latency = Histogram::default();
        self.registered = 0;
        if !self.failures.is_empty() {
            self.endpoint.surprise(format!("first round: {:?}", std::mem::take(&mut self.failures)));
        }
    }

    fn begin(&mut self, index: usize, contact: u32, expires: u32) {
        let word = self.endpoint.word();
        if let Some(phone) = self.phones.get_mut(index) {
            if phone.call_id.is_empty() {
                phone.call_id = format!("{word}@phones");
                phone.tag = word;
            }
            if !self.options.keep_nonce {
                phone.challenge = None;
            }
            phone.challenges = 0;
            phone.begun = Some(Instant::now());
        }
        self.send(index, contact, expires);
    }

    fn send(&mut self, index: usize, contact: u32, expires: u32) {
        let Some(phone) = self.phones.get_mut(index) else { return };
        let who = self.options.phones.credentials(index);
        let (domain, local) = (&self.options.phones.domain, self.endpoint.local());
        let uri = format!("sip:{domain}");
        let aor = format!("<sip:{}@{domain}>", who.user);
        phone.cseq += 1;
        let suffix = if contact == 0 { String::new() } else { format!("-{contact}") };
        let mut request = Message::request("REGISTER", &uri)
            .with("Max-Forwards", "70")
            .with("From", &format!("{aor};tag={}", phone.tag))
            .with("To", &aor)
            .with("Call-ID", &phone.call_id)
            .with("CSeq", &format!("{} REGISTER", phone.cseq))
            .with("Contact", &format!("<sip:{}{suffix}@{local}>", who.user))
            .with("Expires", &expires.to_string());
        if let Some(challenge) = &mut phone.challenge {
            let (name, value) = challenge.answer(&who, "REGISTER", &uri);
            request.add(name, &value);
        }
        self.endpoint.send(request, self.options.phones.target(index), index);
    }

    fn handle(&mut self, event: Event<usize>, contact: u32, expires: u32) {
        match event {
            Event::Response { owner, message, .. } => self.response(owner, &message, contact, expires),
            Event::Timeout { .. } => self.fail("timeout"),
            Event::Request { message, from } => self.requested(&message, from),
            Event::Due(_) => {}
        }
    }

    /// The server asks whether a phone is there, or wants to call it.
    fn requested(&mut self, message: &Message, from: SocketAddrV4) {
        let response = Message::response(message, 200, "OK", "phones");
        self.endpoint.respond(message, &response, from);
    }

    fn response(&mut self, owner: usize, message: &Message, contact: u32, expires: u32) {
        let Some(phone) = self.phones.get_mut(owner) else { return };
        match message.status().unwrap_or(0) {
            0..200 => {}
            200..300 => {
                self.registered += 1;
                self.latency.add(phone.begun.map_or(0, nanos));
            }
            401 | 407 if phone.challenges < 2 => {
                phone.challenges += 1;
                phone.challenge = Challenge::of(message, self.options.phones.algorithm);
                match phone.challenge {
                    Some(_) => self.send(owner, contact, expires),
                    None => self.fail("no challenge that we know"),
                }
            }
            status => self.fail(&status.to_string()),
        }
    }

    fn fail(&mut self, cause: &str) {
        *self.failures.entry(cause.to_owned()).or_default() += 1;
    }
}
