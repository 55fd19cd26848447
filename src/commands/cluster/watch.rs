//! What happened in the cluster last, for `tandem cluster status --watch`: calls that moved and what became of nodes, from the
//! event stream. A stream that is cut is taken up again after the last event that it told, at whatever node answers.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, ensure};
use tandem_api::views::{EventView, ResetView, StatusView};
use tandem_state::EventId;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::client::Client;

/// Lines that are shown.
const LINES_MAX: usize = 8;
/// Events waiting to be shown.
const QUEUE: usize = 1024;
/// A stream that says nothing for so long is cut: a node says at least that it is there every ten seconds.
const QUIET: Duration = Duration::from_secs(25);
/// Before a stream is taken up again.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of one line of the stream.
const LINE_MAX: usize = 64 * 1024;

/// The last lines: one for each second and pair of nodes between which calls moved, one for each happening at a node.
#[derive(Debug, Default)]
pub(super) struct Happened(VecDeque<Line>);

#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// The second, UTC.
    at: String,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Moved { from: String, to: String, calls: usize },
    Node(String),
}

impl Happened {
    pub(super) fn take(&mut self, event: &EventView) {
        let at = event.at.get(11..19).unwrap_or(&event.at).to_owned();
        match (&event.call, &event.from_node, &event.node) {
            (Some(call), Some(from), _) => self.moved(at, from, &call.node),
            (None, _, Some(node)) => self.of_node(at, node, event),
            _ => {}
        }
    }

    /// The lines, below a heading; empty when nothing happened.
    pub(super) fn told(&self) -> String {
        let lines = self.0.iter().map(|line| format!("{} {}\n", line.at, line.what.told()));
        let lines: String = lines.collect();
        if lines.is_empty() { lines } else { format!("\nhappened last (UTC)\n{lines}") }
    }

    fn moved(&mut self, at: String, left: &str, took: &str) {
        for line in self.0.iter_mut().filter(|line| line.at == at) {
            if let What::Moved { from, to, calls } = &mut line.what
                && from == left
                && to == took
            {
                *calls += 1;
                return;
            }
        }
        self.push(at, What::Moved { from: left.to_owned(), to: took.to_owned(), calls: 1 });
    }

    /// `node.fenced` says no more than that it is down as a node that fell silent, and `node.returned` more than
    /// `node.up`, which it follows.
    fn of_node(&mut self, at: String, node: &str, event: &EventView) {
        let what = match event.event.as_str() {
            "node.down" => match event.cause.as_deref() {
                Some("expired") => "down (silent)".to_owned(),
                why => format!("down ({})", why.unwrap_or("no cause")),
            },
            "node.returned" => {
                let up = Line { at: at.clone(), what: What::Node(format!("{node} up")) };
                self.0.retain(|line| *line != up);
                let restarted = if event.restarted == Some(true) { " (restarted)" } else { "" };
                format!("returned, epoch {}{restarted}", event.epoch.unwrap_or_default())
            }
            "node.up" | "node.draining" | "node.undrained" | "node.removed" => {
                event.event.trim_start_matches("node.").to_owned()
            }
            _ => return,
        };
        self.push(at, What::Node(format!("{node} {what}")));
    }

    fn push(&mut self, at: String, what: What) {
        if self.0.len() == LINES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Line { at, what });
    }
}

impl What {
    fn told(&self) -> String {
        match self {
            What::Moved { from, to, calls: 1 } => format!("1 call {from} -> {to}"),
            What::Moved { from, to, calls } => format!("{calls} calls {from} -> {to}"),
            What::Node(what) => what.clone(),
        }
    }
}

/// The cluster's events from now on, until nobody takes them any more.
pub(super) fn follow(client: Client) -> mpsc::Receiver<EventView> {
    let (to, events) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut after = None;
        while !to.is_closed() {
            // Why it is cut shows in the status, which is asked for at the same nodes.
            let _ = read(&client, &mut after, &to).await;
            tokio::time::sleep(PAUSE).await;
        }
    });
    events
}

/// Reads one stream until it is cut; `after` is the last event that was told.
async fn read(
    client: &Client,
    after: &mut Option<EventId>,
    to: &mpsc::Sender<EventView>,
) -> anyhow::Result<()> {
    let begin = match *after {
        Some(last) => last,
        None => now(client).await?,
    };
    *after = Some(begin);
    let begin = begin.to_string();
    let mut stream = timeout(QUIET, client.stream("/v1/events", &[("last_event_id", &begin)])).await??;
    let mut lines = Lines::default();
    while let Some(piece) = timeout(QUIET, stream.chunk()).await?? {
        for line in lines.of(&piece)? {
            let Some(data) = line.strip_prefix("data:") else { continue };
            if let Ok(event) = serde_json::from_str::<EventView>(data) {
                *after = event.id.parse().ok();
                to.send(event).await.context("nobody looks")?;
            } else if serde_json::from_str::<ResetView>(data).is_ok() {
                *after = None;
            }
        }
    }
    Ok(())
}

/// The place of an event that all of the log so far is before.
async fn now(client: &Client) -> anyhow::Result<EventId> {
    let status: StatusView = client.get("/v1/cluster", &[]).await?;
    let position = status.nodes.iter().map(|node| node.applied).max().unwrap_or(0);
    Ok(EventId { position, index: u32::MAX })
}

/// Lines out of the pieces in which they come.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// The lines that are whole with this piece.
    fn of(&mut self, piece: &[u8]) -> anyhow::Result<Vec<String>> {
        let mut whole = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.0.extend_from_slice(part);
            ensure!(self.0.len() <= LINE_MAX, "a line of the stream has no end");
            if part.ends_with(b"\n") {
                whole.push(String::from_utf8_lossy(&self.0).trim_end().to_owned());
                self.0.clear();
            }
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn happened(events: &[(&str, Value)]) -> String {
        let mut happened = Happened::default();
        for (at, event) in events {
            let mut body = json!({"id": "7.0", "at": format!("2026-11-29T{at}.250Z"), "tenant": null});
            body.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
            happened.take(&serde_json::from_value(body).unwrap());
        }
        happened.told()
    }

    fn moved(from: &str, to: &str) -> Value {
        let call = json!({"id": "1", "interaction": "1", "node": to, "from": "101", "from_name": "", "to": "102",
            "to_name": ""});
        json!({"event": "call.moved", "call": call, "from_node": from})
    }

    #[test]
    fn what_happened_is_told_by_second_and_pair_of_nodes() {
        let (down, fenced) = (
            json!({"event": "node.down", "node": "n1", "cause": "expired"}),
            json!({"event": "node.fenced", "node": "n1", "epoch": 2, "cause": "expired"}),
        );
        let (up, returned) = (
            json!({"event": "node.up", "node": "n1"}),
            json!({"event": "node.returned", "node": "n1", "epoch": 3, "restarted": false}),
        );
        let told = happened(&[
            ("06:12:03", fenced),
            ("06:12:03", down),
            ("06:12:03", moved("n1", "n2")),
            ("06:12:03", moved("n1", "n3")),
            ("06:12:03", moved("n1", "n2")),
            ("06:12:04", moved("n1", "n2")),
            ("06:12:05", up),
            ("06:12:05", returned),
            ("06:12:06", json!({"event": "node.up", "node": "n4"})),
            ("06:12:07", json!({"event": "tenant.changed"})),
            ("06:12:07", json!({"event": "node.down", "node": "n3", "cause": "died"})),
        ]);
        let golden = "
happened last (UTC)
06:12:03 n1 down (silent)
06:12:03 2 calls n1 -> n2
06:12:03 1 call n1 -> n3
06:12:04 1 call n1 -> n2
06:12:05 n1 returned, epoch 3
06:12:06 n4 up
06:12:07 n3 down (died)
";
        assert_eq!(told, golden);
    }

    #[test]
    fn the_last_lines_are_kept_and_nothing_is_told_of_nothing() {
        assert_eq!(happened(&[]), "");
        let events: Vec<_> =
            (10..30).map(|s| (format!("06:12:{s}"), json!({"event": "node.up", "node": "n1"}))).collect();
        let events: Vec<_> = events.iter().map(|(at, event)| (at.as_str(), event.clone())).collect();
        let told = happened(&events);
        assert_eq!(told.matches(" up").count(), LINES_MAX);
        assert!(told.ends_with("06:12:29 n1 up\n"), "{told}");
    }

    #[test]
    fn lines_come_whole_out_of_any_pieces_and_none_is_endless() {
        let mut lines = Lines::default();
        let mut told = Vec::new();
        for piece in ["da", "ta: a\nid: 7.0\n\nda", "ta: b", "\r\n"] {
            told.extend(lines.of(piece.as_bytes()).unwrap());
        }
        assert_eq!(told, ["data: a", "id: 7.0", "", "data: b"]);
        assert!(lines.of(&vec![b'x'; LINE_MAX + 1]).is_err());
    }
}
