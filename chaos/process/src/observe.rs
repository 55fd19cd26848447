//! Who looks at the nodes while the run goes on: what each says of the cluster, five times a second, and what its event
//! stream tells, taken up again after each break where it was.

use crate::api::Order;
use crate::history::{EventSeen, View};
use crate::world::World;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Observed {
    views: Mutex<Vec<View>>,
    events: Mutex<BTreeMap<(u64, u64), EventSeen>>,
    stop: AtomicBool,
}

const PAUSE: Duration = Duration::from_millis(200);

impl Observed {
    /// Looks no longer.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What was seen, by time.
    pub(crate) fn take(self) -> (Vec<View>, Vec<EventSeen>) {
        let mut views = self.views.into_inner().unwrap_or_else(PoisonError::into_inner);
        views.sort_by_key(|view| view.at_ms);
        let events = self.events.into_inner().unwrap_or_else(PoisonError::into_inner);
        (views, events.into_values().collect())
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks one node again and again.
    pub(crate) fn watch(&self, world: &World, index: usize, clock: Instant) {
        while !self.is_over() {
            if let Some(status) = world.status(index) {
                let view = view(&status, index, ms(clock));
                self.views.lock().unwrap_or_else(PoisonError::into_inner).push(view);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Listens to the event stream of one node.
    pub(crate) fn listen(&self, world: &World, index: usize, clock: Instant) {
        let mut last = String::new();
        while !self.is_over() {
            if self.follow(world, index, clock, &mut last).is_none() {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn follow(&self, world: &World, index: usize, clock: Instant, last: &mut String) -> Option<()> {
        let from = if last.is_empty() { String::new() } else { format!("?last_event_id={last}") };
        let path = format!("/v1/events{from}");
        let order = Order { method: "GET", path: &path, body: "", key: "" };
        let stream = world.api(index).begin(order).ok()?;
        stream.set_read_timeout(Some(PAUSE)).ok()?;
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while !self.is_over() {
            match lines.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) => {
                    if let Some(data) = line.trim().strip_prefix("data:") {
                        self.told(data, ms(clock), last);
                    }
                    line.clear();
                }
                // What came of the line so far stays in it.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    fn told(&self, data: &str, at_ms: u64, last: &mut String) {
        let Ok(body) = serde_json::from_str::<Value>(data) else { return };
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (id, name) = (text("id"), text("event"));
        let Some(place) = place(&id) else { return };
        *last = id;
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.entry(place).or_insert(EventSeen { at_ms, name, body });
    }
}

fn ms(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Position and index of an event's id.
fn place(id: &str) -> Option<(u64, u64)> {
    let (position, index) = id.split_once('.')?;
    Some((position.parse().ok()?, index.parse().ok()?))
}

fn view(status: &Value, asked: usize, at_ms: u64) -> View {
    let nodes = status.get("nodes").and_then(Value::as_array).cloned().unwrap_or_default();
    let number = |node: &Value, key: &str| node.get(key).and_then(Value::as_u64).unwrap_or(0);
    let text = |node: &Value, key: &str| node.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    View {
        at_ms,
        asked,
        leader: status.get("leader").and_then(Value::as_str).map(str::to_owned),
        term: nodes.iter().map(|node| number(node, "term")).max().unwrap_or(0),
        nodes: nodes
            .iter()
            .map(|one| (text(one, "name"), text(one, "state"), number(one, "calls")))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_events_are_in_the_order_of_the_log() {
        let status = serde_json::json!({"leader": "n2", "nodes": [
            {"name": "n1", "state": "down", "term": 0, "calls": 0}, {"name": "n2", "state": "up", "term": 7, "calls": 3}]});
        let seen = view(&status, 1, 5);
        assert_eq!((seen.leader.as_deref(), seen.term), (Some("n2"), 7));
        assert_eq!(seen.nodes, [("n1".into(), "down".into(), 0), ("n2".into(), "up".into(), 3)]);
        assert!(place("9.1") < place("10.0"));
    }
}
