//! Clients of the API make tokens, each at a node of its own, under an idempotency key that stays the same while it is tried
//! again elsewhere. What was acknowledged is sent once more under its key, which must do nothing. No try alone can make the
//! token twice, whatever becomes of the key: its id is taken, and the secret of another try is refused. So a try that the key
//! has stopped is told from one that the state refuses by the words of the answer.

use super::{Told, lock};
use crate::api::Order;
use crate::history::{Again, Write};
use crate::world::World;
use crate::world::content::VILLAGE;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A node that does not answer for so long is left for the next one.
const ANSWER: Duration = Duration::from_secs(2);
/// One write is tried for so long; then its outcome stays open.
const TRIED: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// How a node says that the key has done its work (`api/src/routes/tokens.rs`).
const REPLAYED: &str = "an earlier request with this Idempotency-Key made the token";

/// Writes at this rate until told to stop.
pub(super) fn keep_on(world: &World, (client, rate): (usize, f64), told: &Told, clock: Instant) {
    let began = Instant::now();
    let mut count = 0_usize;
    while !told.is_over() {
        let at = began + Duration::from_secs_f64(count as f64 / rate);
        std::thread::sleep(at.saturating_duration_since(Instant::now()).min(Duration::from_millis(200)));
        if Instant::now() >= at {
            let write = written(world, &format!("{client}-{count}"), client, clock);
            lock(&told.writes).push(write);
            count += 1;
        }
    }
}

fn written(world: &World, name: &str, first: usize, clock: Instant) -> Write {
    let mut write = Write { key: format!("key-{name}"), token: format!("chaos-{name}"), ..Write::default() };
    let deadline = Instant::now() + TRIED;
    let mut node = first;
    while write.acknowledged_ms.is_none() && Instant::now() < deadline {
        match sent(world, node, &write) {
            Some(Again::Other(201) | Again::Replayed) => {
                write.acknowledged_ms = u64::try_from(clock.elapsed().as_millis()).ok();
            }
            _ => {
                node = (node + 1) % 3;
                std::thread::sleep(PAUSE);
            }
        }
    }
    if write.acknowledged_ms.is_some() {
        write.again = sent(world, (node + 1) % 3, &write);
    }
    write
}

fn sent(world: &World, node: usize, write: &Write) -> Option<Again> {
    let body = format!(r#"{{"id":"{}","tenant":"{}"}}"#, write.token, VILLAGE.name);
    let order = Order { method: "POST", path: "/v1/tokens", body: &body, key: &write.key };
    let (status, body) = world.api(node).order(order, ANSWER).ok()?;
    meant(status, &body)
}

/// What an answer says; `None` when it was cut short.
fn meant(status: u16, body: &str) -> Option<Again> {
    if status != 409 {
        return Some(Again::Other(status));
    }
    let problem: Value = serde_json::from_str(body).ok()?;
    let detail = problem.get("detail").and_then(Value::as_str).unwrap_or_default();
    Some(if detail.starts_with(REPLAYED) { Again::Replayed } else { Again::Other(status) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_told_from_a_refusal_by_its_words() {
        let replay = r#"{"status":409,"detail":"an earlier request with this Idempotency-Key made the token; its secret"}"#;
        assert_eq!(meant(409, replay), Some(Again::Replayed));
        assert_eq!(meant(409, r#"{"detail":"token chaos-1 is there already"}"#), Some(Again::Other(409)));
        assert_eq!(meant(409, &replay[..30]), None);
        assert_eq!(meant(201, ""), Some(Again::Other(201)));
        assert_eq!(meant(503, replay), Some(Again::Other(503)));
    }
}
