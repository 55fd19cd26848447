//! What a run saw, from outside: the phones' packets and sound, what clients were told, what each node showed, and what is
//! there at the end. Invariants judge this and nothing else. Times are milliseconds of the run's one clock.

use crate::script::Bounds;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tandem_phones::watch::{Call, Seen, Silence};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// How far things may go.
    pub(crate) bounds: Bounds,
    /// When all standing calls were up.
    pub(crate) from_ms: u64,
    /// When the workload was told to end.
    pub(crate) until_ms: u64,
    /// Where nodes 0 to 2 are.
    pub(crate) hosts: Vec<Ipv4Addr>,
    /// The faults as they were carried out.
    pub(crate) faults: Vec<FaultSeen>,
    /// The phones.
    pub(crate) phones: Vec<PhonesSeen>,
    /// What registering phones were told.
    pub(crate) registrations: Vec<Registration>,
    /// What clients of the API were told.
    pub(crate) writes: Vec<Write>,
    /// What nodes said of the cluster.
    pub(crate) views: Vec<View>,
    /// What the event streams told, each event once.
    pub(crate) events: Vec<EventSeen>,
    /// Memory before the first fault, by node.
    pub(crate) memory_before_kb: Vec<u64>,
    /// What each node had at the end, when all were up and still.
    pub(crate) end: Vec<NodeEnd>,
    /// What `cluster hash` said at the end: `Err` with its words when it failed.
    pub(crate) hash: Option<Result<String, String>>,
    /// What of the run itself went wrong; then nothing is proved.
    pub(crate) troubles: Vec<String>,
}

/// One fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FaultSeen {
    /// In words.
    pub(crate) what: String,
    /// The nodes whose fault it is.
    pub(crate) nodes: Vec<usize>,
    /// When it began.
    pub(crate) from_ms: u64,
    /// When it was undone.
    pub(crate) until_ms: u64,
    /// The process was ended by it.
    pub(crate) is_deadly: bool,
}

/// The phones of one run of calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct PhonesSeen {
    /// For the reader.
    pub(crate) what: String,
    /// Their tenant.
    pub(crate) tenant: String,
    /// Calls that stand from the begin to the end.
    pub(crate) are_standing: bool,
    /// What they saw.
    pub(crate) seen: Seen,
}

/// A contact that was registered or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Registration {
    /// The extension.
    pub(crate) number: String,
    /// The user in its Contact.
    pub(crate) contact: String,
    /// When a node said 200.
    pub(crate) acknowledged_ms: Option<u64>,
}

/// A token that was made or not, under an idempotency key of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Write {
    /// The key.
    pub(crate) key: String,
    /// What the token is called.
    pub(crate) token: String,
    /// When a node said that it is made.
    pub(crate) acknowledged_ms: Option<u64>,
    /// The same key was sent once more after that, and this was said.
    pub(crate) again: Option<Again>,
}

/// What is said to a request under an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// An earlier request with this key has done it.
    Replayed,
    /// This status, and nothing of an earlier request.
    Other(u16),
}

/// What one node said of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// When.
    pub(crate) at_ms: u64,
    /// Who was asked.
    pub(crate) asked: usize,
    /// Who leads.
    pub(crate) leader: Option<String>,
    /// The highest Raft term.
    pub(crate) term: u64,
    /// Each member's name, state, and calls.
    pub(crate) nodes: Vec<(String, String, u64)>,
}

/// An event.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct EventSeen {
    /// When it was heard first.
    pub(crate) at_ms: u64,
    /// Such as `call.moved`.
    pub(crate) name: String,
    /// All of it.
    pub(crate) body: Value,
}

/// What a node had at the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NodeEnd {
    /// Its name.
    pub(crate) name: String,
    /// Extension and Contact of each registration.
    pub(crate) registrations: Vec<Value>,
    /// The ids of all tokens.
    pub(crate) tokens: Vec<String>,
    /// What was done, by the audit.
    pub(crate) audit: Vec<String>,
    /// All CDRs.
    pub(crate) cdrs: Vec<Value>,
    /// All calls.
    pub(crate) calls: Vec<Value>,
    /// Its metrics, by name with labels.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// Memory of its process.
    pub(crate) memory_kb: u64,
}

impl History {
    /// The phones of the standing calls.
    pub(crate) fn standing(&self) -> impl Iterator<Item = &PhonesSeen> {
        self.phones.iter().filter(|phones| phones.are_standing)
    }

    /// All calls, with their tenant.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (&str, &Call)> {
        self.phones
            .iter()
            .flat_map(|phones| phones.seen.calls.iter().map(|call| (phones.tenant.as_str(), call)))
    }

    /// Which node has an address.
    pub(crate) fn node_at(&self, host: Ipv4Addr) -> Option<usize> {
        self.hosts.iter().position(|one| *one == host)
    }

    /// When a node was called down by the log, and when up again; what is open goes on to the end.
    pub(crate) fn down(&self, index: usize) -> Vec<(u64, u64)> {
        let mut spans = Vec::new();
        let mut since = None;
        for event in self.events.iter().filter(|event| event.is_of_node(index)) {
            match event.name.as_str() {
                "node.down" => since = since.or(Some(event.at_ms)),
                "node.up" => spans.extend(since.take().map(|from| (from, event.at_ms))),
                _ => {}
            }
        }
        spans.extend(since.map(|from| (from, u64::MAX)));
        spans
    }

    /// The longest silence of a phone while its call stood and the workload went on.
    pub(crate) fn longest_silence(&self, phones: &PhonesSeen, call: &Call, caller: bool) -> Option<Silence> {
        let end = call.hung_up_ms.unwrap_or(u64::MAX);
        let silences = phones.seen.silences.iter().filter(|silence| {
            silence.pair == call.pair
                && silence.caller == caller
                && silence.until_ms >= self.from_ms
                && silence.from_ms <= end
        });
        silences.max_by_key(|silence| silence.length_ms()).copied()
    }

    /// What nobody saw anything of, so that whatever is judged by it would hold for nothing.
    pub(crate) fn unseen(&self) -> Vec<String> {
        let seen = [
            (self.views.is_empty(), "no node ever said anything of the cluster"),
            (self.events.is_empty(), "no event stream ever told anything"),
        ];
        seen.into_iter().filter(|(is_unseen, _)| *is_unseen).map(|(_, what)| what.to_owned()).collect()
    }

    /// A time for the reader: seconds after all calls were up.
    pub(crate) fn time(&self, ms: u64) -> String {
        let from = i64::try_from(self.from_ms).unwrap_or(0);
        let at = i64::try_from(ms).unwrap_or(i64::MAX).saturating_sub(from);
        format!("{}{}.{:03} s", if at < 0 { "-" } else { "" }, at.abs() / 1000, at.abs() % 1000)
    }
}

impl EventSeen {
    fn is_of_node(&self, index: usize) -> bool {
        self.body.get("node").and_then(Value::as_str).and_then(node_of) == Some(index)
    }
}

/// Which node a name is of; one that replaces another has a name that goes on after the old one.
pub(crate) fn node_of(name: &str) -> Option<usize> {
    (0..3).find(|index| name.starts_with(&format!("n{}", index + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up;

    #[test]
    fn a_run_in_which_nobody_saw_the_cluster_or_its_events_is_in_trouble() {
        let mut history = made_up::history();
        assert_eq!(history.unseen(), [""; 0]);
        history.views.clear();
        assert_eq!(history.unseen(), ["no node ever said anything of the cluster"]);
        history.events.clear();
        assert_eq!(history.unseen().len(), 2);
    }

    #[test]
    fn a_node_that_replaces_another_has_its_place() {
        assert_eq!(["n1", "n3", "n2bb", "x"].map(node_of), [Some(0), Some(2), Some(1), None]);
    }
}
