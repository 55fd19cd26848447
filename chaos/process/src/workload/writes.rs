//! Clients of the API make tokens, each at a node of its own, under an idempotency key that stays the same while it is tried
//! again elsewhere. What was acknowledged is sent once more under its key, which must do nothing.

use super::{Told, lock};
use crate::api::Order;
use crate::history::Write;
use crate::world::World;
use crate::world::content::VILLAGE;
use std::time::{Duration, Instant};

/// A node that does not answer for so long is left for the next one.
const ANSWER: Duration = Duration::from_secs(2);
/// One write is tried for so long; then its outcome stays open.
const TRIED: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

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
            // 409: an earlier try of this key has made it.
            Some(201 | 409) => {
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

fn sent(world: &World, node: usize, write: &Write) -> Option<u16> {
    let body = format!(r#"{{"id":"{}","tenant":"{}"}}"#, write.token, VILLAGE.name);
    let order = Order { method: "POST", path: "/v1/tokens", body: &body, key: &write.key };
    world.api(node).order(order, ANSWER).ok().map(|(status, _)| status)
}
