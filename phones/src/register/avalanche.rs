//! All phones at once, as after a power cut: each registers until it is registered, and comes again when it is told to
//! (`Retry-After`, to the second) or when nothing was heard.

use super::{Run, nanos};
use crate::endpoint::Event;
use crate::histogram::Histogram;
use crate::message::Message;
use std::time::{Duration, Instant};

/// A phone that heard nothing in 32 seconds, or no time with a refusal, comes again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// What an avalanche has come to.
#[derive(Default)]
pub(super) struct Avalanche {
    back: usize,
    waits: Histogram,
    deferred: u64,
    retry_after_max: u64,
    challenged: u64,
    unanswered: u64,
}

impl Run<'_> {
    /// Sends everybody at once and waits until all are registered, or until `patience` is over.
    pub(super) fn avalanche(&mut self, patience: Duration) -> serde_json::Value {
        let began = Instant::now();
        let mut seen = Avalanche::default();
        let mut begun = 0;
        while seen.back < self.phones.len() && began.elapsed() < patience {
            // Between the sends what comes is read, or the answers to the first would be lost here.
            let next = (begun + 64).min(self.phones.len());
            (begun..next).for_each(|index| self.begin(index, 0, self.options.expires));
            begun = next;
            let now = Instant::now();
            let until = if begun < self.phones.len() { now } else { now + Duration::from_millis(100) };
            for event in self.endpoint.poll(until) {
                self.take(event, &mut seen);
            }
        }
        serde_json::json!({
            "phones": self.phones.len(), "back": seen.back, "seconds": began.elapsed().as_secs_f64(),
            "wait_ms": seen.waits.json(), "deferred": seen.deferred, "retry_after_max_s": seen.retry_after_max,
            "challenged": seen.challenged, "unanswered": seen.unanswered,
            "retransmissions": self.endpoint.retransmissions,
        })
    }

    fn take(&mut self, event: Event<usize>, seen: &mut Avalanche) {
        let expires = self.options.expires;
        match event {
            Event::Response { owner, message, .. } => self.told(owner, &message, seen),
            Event::Timeout { owner, .. } => {
                seen.unanswered += 1;
                self.endpoint.after(AGAIN, owner);
            }
            Event::Due(owner) => self.send(owner, 0, expires),
            Event::Request { message, from } => self.requested(&message, from),
        }
    }

    fn told(&mut self, owner: usize, message: &Message, seen: &mut Avalanche) {
        let Some(phone) = self.phones.get_mut(owner) else { return };
        match message.status().unwrap_or(0) {
            0..200 => {}
            200..300 => {
                seen.back += 1;
                seen.waits.add(phone.begun.map_or(0, nanos));
            }
            401 | 407 => {
                seen.challenged += 1;
                phone.challenge = crate::digest::Challenge::of(message, self.options.phones.algorithm);
                match phone.challenge {
                    Some(_) => self.send(owner, 0, self.options.expires),
                    None => self.fail("no challenge that we know"),
                }
            }
            503 => {
                seen.deferred += 1;
                let told = message.get("Retry-After").and_then(|value| value.trim().parse().ok());
                seen.retry_after_max = seen.retry_after_max.max(told.unwrap_or(0));
                self.endpoint.after(told.map_or(AGAIN, Duration::from_secs), owner);
            }
            status => {
                self.fail(&status.to_string());
                self.endpoint.after(AGAIN, owner);
            }
        }
    }
}
