//! New registrations at all nodes in turn, each with a Contact of its own, so that one which was acknowledged and is gone is
//! missed.

use super::{REGISTERING_HOST, Told, lock};
use crate::history::Registration;
use crate::world::World;
use crate::world::content::{PASSWORD, REGISTERING, REGISTERING_COUNT, TOWN};
use serde_json::Value;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};
use tandem_phones::digest::{Algorithm, Challenge, Credentials};
use tandem_phones::endpoint::{Endpoint, Event};
use tandem_phones::message::Message;
use tandem_phones::watch::Watch;

/// A phone that is not answered tries no longer; the next one does.
const PATIENCE: Duration = Duration::from_secs(3);

struct Phones<'a> {
    world: &'a World,
    endpoint: Endpoint<()>,
    tried: Vec<Attempt>,
}

struct Attempt {
    number: String,
    contact: String,
    node: usize,
    tag: String,
    cseq: u32,
    challenge: Option<Challenge>,
}

/// Registers at this rate until told to stop.
pub(super) fn keep_on(
    world: &World,
    rate: f64,
    told: &Told,
    (clock, watch): (Instant, Watch),
) -> std::io::Result<Value> {
    let local = SocketAddrV4::new(world.place().phones(REGISTERING_HOST), 5060);
    let mut endpoint = Endpoint::bind(local)?;
    endpoint.set_life(PATIENCE);
    endpoint.watch = Some(watch);
    let mut phones = Phones { world, endpoint, tried: Vec::new() };
    let began = Instant::now();
    while !told.is_over() || phones.endpoint.is_busy() {
        let next = began + Duration::from_secs_f64(phones.tried.len() as f64 / rate);
        if !told.is_over() && next <= Instant::now() {
            let (number, contact) = phones.begin();
            lock(&told.registrations).push(Registration { number, contact, acknowledged_ms: None });
        }
        for event in phones.endpoint.poll(Instant::now() + Duration::from_millis(20)) {
            if let Some(attempt) = phones.handle(event) {
                let now = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
                if let Some(one) = lock(&told.registrations).get_mut(attempt) {
                    one.acknowledged_ms.get_or_insert(now);
                }
            }
        }
    }
    Ok(Value::Null)
}

impl Phones<'_> {
    fn begin(&mut self) -> (String, String) {
        let index = self.tried.len();
        let number = (REGISTERING + index as u64 % REGISTERING_COUNT).to_string();
        let contact = format!("c{index}");
        let tag = self.endpoint.word();
        self.tried.push(Attempt {
            number: number.clone(),
            contact: contact.clone(),
            node: index % 3,
            tag,
            cseq: 0,
            challenge: None,
        });
        self.send(index);
        (number, contact)
    }

    fn send(&mut self, index: usize) {
        let local = self.endpoint.local();
        let Some(attempt) = self.tried.get_mut(index) else { return };
        attempt.cseq += 1;
        let uri = format!("sip:{}", TOWN.domain);
        let aor = format!("<sip:{}@{}>", attempt.number, TOWN.domain);
        let mut request = Message::request("REGISTER", &uri)
            .with("Max-Forwards", "70")
            .with("From", &format!("{aor};tag={}", attempt.tag))
            .with("To", &aor)
            .with("Call-ID", &format!("{}@registrations", attempt.tag))
            .with("CSeq", &format!("{} REGISTER", attempt.cseq))
            .with("Contact", &format!("<sip:{}@{local}>", attempt.contact))
            .with("Expires", "3600");
        if let Some(challenge) = &mut attempt.challenge {
            let who = Credentials { user: attempt.number.clone(), password: PASSWORD.to_owned() };
            let (name, value) = challenge.answer(&who, "REGISTER", &uri);
            request.add(name, &value);
        }
        let to = self.world.sip(attempt.node);
        self.endpoint.send(request, to, index);
    }

    /// Gives the attempt that was acknowledged by this.
    fn handle(&mut self, event: Event<()>) -> Option<usize> {
        match event {
            Event::Response { owner, message, .. } => self.answered(owner, &message),
            Event::Request { message, from } => {
                let response = Message::response(&message, 200, "OK", "registrations");
                self.endpoint.respond(&message, &response, from);
                None
            }
            Event::Timeout { .. } | Event::Due(()) => None,
        }
    }

    fn answered(&mut self, owner: usize, message: &Message) -> Option<usize> {
        let attempt = self.tried.get_mut(owner)?;
        match message.status()? {
            200..300 => return Some(owner),
            401 if attempt.cseq < 3 => {
                attempt.challenge = Challenge::of(message, Algorithm::First);
                self.send(owner);
            }
            _ => {}
        }
        None
    }
}
