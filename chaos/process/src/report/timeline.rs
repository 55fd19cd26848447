//! The picture of one run's time: faults and absences of each node, who leads and when that changed, who owns how many calls,
//! how many calls are up and phones hear something, and each silence of a phone.

use super::escaped;
use crate::history::{History, View, node_of};
use std::fmt::Write as _;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 90.0;
const COLOURS: [&str; 3] = ["#1f6feb", "#d9822b", "#2a9d5c"];
const LANE: f64 = 18.0;
const CHART: f64 = 90.0;

/// A picture that grows downwards.
struct Picture<'a> {
    history: &'a History,
    from_ms: f64,
    until_ms: f64,
    y: f64,
    body: String,
}

/// The picture as SVG.
pub(super) fn drawn(history: &History) -> String {
    let Some(until_ms) = history.views.last().map(|view| ms(view.at_ms)) else { return String::new() };
    let from_ms = (ms(history.from_ms) - 2_000.0).max(0.0);
    let mut picture =
        Picture { history, from_ms, until_ms: until_ms.max(from_ms + 1.0), y: 6.0, body: String::new() };
    (0..3).for_each(|node| picture.node(node));
    picture.leaders();
    picture.calls();
    picture.owners();
    picture.silences();
    picture.axis();
    let Picture { y, body, .. } = picture;
    format!("<svg viewBox=\"0 0 {WIDTH} {y}\" role=\"img\">{body}</svg>")
}

#[expect(clippy::cast_precision_loss, reason = "minutes in milliseconds are far below 2^52")]
fn ms(at: u64) -> f64 {
    at as f64
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred")]
fn number(count: usize) -> f64 {
    count as f64
}

impl Picture<'_> {
    fn x(&self, at_ms: f64) -> f64 {
        let share =
            (at_ms.clamp(self.from_ms, self.until_ms) - self.from_ms) / (self.until_ms - self.from_ms);
        LEFT + share * (WIDTH - LEFT - 10.0)
    }

    fn label(&mut self, text: &str) {
        let y = self.y + 12.0;
        let _ = write!(self.body, "<text x=\"4\" y=\"{y}\">{}</text>", escaped(text));
    }

    fn bar(&mut self, (from, until): (u64, u64), (y, height): (f64, f64), style: &str, title: &str) {
        let (left, right) = (self.x(ms(from)), self.x(ms(until.min(u64::MAX / 2))));
        let _ = write!(
            self.body,
            "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" {style}><title>{}</title></rect>",
            (right - left).max(1.5),
            escaped(title)
        );
    }

    fn node(&mut self, node: usize) {
        self.label(&format!("n{}", node + 1));
        let history = self.history;
        for (from, until) in history.down(node) {
            self.bar((from, until), (self.y + 10.0, 5.0), "fill=\"#8b949e\"", "called down by the log");
        }
        for fault in history.faults.iter().filter(|fault| fault.nodes.contains(&node)) {
            let style = if fault.is_deadly { "fill=\"#c62828\"" } else { "fill=\"#e39b9b\"" };
            self.bar((fault.from_ms, fault.until_ms), (self.y + 2.0, 7.0), style, &fault.what);
            let (x, y) = (self.x(ms(fault.until_ms.min(u64::MAX / 2))) + 4.0, self.y + 10.0);
            let _ = write!(self.body, "<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(&fault.what));
        }
        self.y += LANE;
    }

    /// A band in the colour of who leads, and a stroke at each new term.
    fn leaders(&mut self) {
        self.label("leader");
        let views = &self.history.views;
        let mut term = 0;
        for (view, next) in views.iter().zip(views.iter().skip(1)) {
            let colour = view.leader.as_deref().and_then(node_of).and_then(|index| COLOURS.get(index));
            if let Some(colour) = colour {
                let who = view.leader.clone().unwrap_or_default();
                self.bar((view.at_ms, next.at_ms), (self.y + 3.0, 9.0), &format!("fill=\"{colour}\""), &who);
            }
            if view.term > term && term > 0 {
                let (x, y) = (self.x(ms(view.at_ms)), self.y);
                let _ = write!(
                    self.body,
                    "<path d=\"M{x:.1} {y:.1}v15\" stroke=\"#1b1f24\"><title>term {}</title></path>",
                    view.term
                );
            }
            term = term.max(view.term);
        }
        self.y += LANE + 4.0;
    }

    fn line(&mut self, points: &[(u64, usize)], most: usize, (colour, name): (&str, &str)) {
        let height = CHART - 12.0;
        let mut path = String::new();
        for (at, count) in points {
            let y = self.y + 6.0 + height * (1.0 - number(*count) / number(most.max(1)));
            let _ = write!(path, "{:.1},{y:.1} ", self.x(ms(*at)));
        }
        let _ = write!(
            self.body,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"><title>{name}</title></polyline>"
        );
    }

    fn legend(&mut self, rows: &[(&str, &str)]) {
        for (row, (colour, name)) in rows.iter().enumerate() {
            let y = self.y + 14.0 + number(row) * 14.0;
            let _ = write!(self.body, "<text x=\"4\" y=\"{y}\" style=\"fill:{colour}\">{name}</text>");
        }
    }

    fn calls(&mut self) {
        let mut sums: std::collections::BTreeMap<u64, (usize, usize)> = std::collections::BTreeMap::new();
        for phones in self.history.standing() {
            for sample in &phones.seen.samples {
                let (up, audible) = sums.entry(sample.at_ms / 100).or_default();
                *up += sample.up;
                *audible += sample.audible;
            }
        }
        let points = |of: fn(&(usize, usize)) -> usize| -> Vec<(u64, usize)> {
            sums.iter().map(|(at, counts)| (at * 100, of(counts))).collect()
        };
        let (up, audible) = (points(|(up, _)| up * 2), points(|(_, audible)| *audible));
        let most = up.iter().chain(&audible).map(|(_, count)| *count).max().unwrap_or(0);
        self.line(&up, most, ("#57606a", "phones in calls that are up"));
        self.line(&audible, most, ("#8250df", "phones that hear something"));
        let top = format!("of {most}");
        self.legend(&[("#57606a", "phones up"), ("#8250df", "that hear"), ("#8b949e", &top)]);
        self.y += CHART;
    }

    fn owners(&mut self) {
        let calls = |view: &View, node: usize| {
            let found = view.nodes.iter().find(|(name, _, _)| node_of(name) == Some(node));
            found.map_or(0, |(_, _, calls)| usize::try_from(*calls).unwrap_or(0))
        };
        let views = self.history.views.iter();
        let lines: Vec<Vec<(u64, usize)>> = (0..3)
            .map(|node| {
                views
                    .clone()
                    .filter(|view| view.leader.is_some())
                    .map(|view| (view.at_ms, calls(view, node)))
                    .collect()
            })
            .collect();
        let most = lines.iter().flatten().map(|(_, count)| *count).max().unwrap_or(0);
        for (points, colour) in lines.iter().zip(COLOURS) {
            self.line(points, most, (colour, "calls owned"));
        }
        self.legend(&[("#1b1f24", "calls of"), (COLOURS[0], "n1"), (COLOURS[1], "n2"), (COLOURS[2], "n3")]);
        self.y += CHART;
    }

    fn silences(&mut self) {
        const ROWS: usize = 40;
        self.label("silences");
        let mut rows = 0;
        for phones in self.history.standing() {
            let silences = phones.seen.silences.iter();
            for silence in silences.filter(|silence| silence.until_ms >= self.history.from_ms) {
                let who = if silence.caller { "caller" } else { "called phone" };
                let gap = silence.length_ms();
                let title = format!("{} {} of pair {}: {gap} ms", phones.tenant, who, silence.pair);
                let y = self.y + 2.0 + number(rows % ROWS) * 2.0;
                self.bar((silence.from_ms, silence.until_ms), (y, 1.6), "fill=\"#c62828\"", &title);
                rows += 1;
            }
        }
        self.y += LANE.max(4.0 + number(rows.min(ROWS)) * 2.0);
    }

    fn axis(&mut self) {
        let y = self.y + 4.0;
        let _ = write!(self.body, "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#8b949e\"/>", WIDTH - 10.0);
        let zero = ms(self.history.from_ms);
        let step = if self.until_ms - self.from_ms > 60_000.0 { 10_000.0 } else { 5_000.0 };
        let mut at = zero;
        while at <= self.until_ms {
            let x = self.x(at);
            let _ = write!(
                self.body,
                "<path d=\"M{x:.1} {y:.1}v4\" stroke=\"#8b949e\"/><text x=\"{x:.1}\" y=\"{:.1}\">{:.0} s</text>",
                y + 15.0,
                (at - zero) / 1_000.0
            );
            at += step;
        }
        self.y += 24.0;
    }
}
