//! `tandem-phones calls`: pairs of registered phones call each other, as a stream of short calls or as a plateau of
//! standing ones, with or without sound.

mod phone;

use crate::endpoint::Endpoint;
use crate::histogram::Histogram;
use crate::leg::{Leg, Phase};
use crate::measure::{self, Usage};
use crate::media::{Media, Report};
use crate::register::{self, Phones};
use crate::watch::Watch;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

/// Who ends the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Always the caller.
    Caller,
    /// Always the called phone.
    Callee,
    /// In turn.
    Both,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The calling phones, and where they send their calls.
    pub callers: Phones,
    /// The called phones; caller `n` calls phone `n` of these.
    pub callees: Phones,
    /// Calls in all; on a plateau, calls at the same time.
    pub calls: usize,
    /// New calls per second.
    pub rate: f64,
    /// How long each call, or the plateau, is held.
    pub hold: Duration,
    /// All calls up, then hold and measure, then all down.
    pub plateau: bool,
    /// With sound.
    pub rtp: bool,
    /// First port of the phones' media.
    pub rtp_port: u16,
    /// How long the called phone rings.
    pub ring: Duration,
    /// Who ends the calls.
    pub ends: Ends,
    /// Register the called phones first.
    pub register: bool,
    /// The process trees whose CPU and memory are measured.
    pub pids: Vec<u32>,
    /// How long a request waits for its final response.
    pub patience: Duration,
    /// Who is shown what happens while it happens.
    pub watch: Option<Watch>,
}

/// Timers of calls.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Due {
    /// The called phone answers.
    Answer(usize),
    /// The 200 goes out again.
    Repeat(usize),
    /// One side hangs up this pair.
    Hangup(usize),
}

#[derive(Debug, Clone, Default)]
struct Pair {
    caller: Option<usize>,
    callee: Option<usize>,
    ending: bool,
    begun: Option<Instant>,
}

struct Run<'a> {
    options: &'a Options,
    endpoint: Endpoint<Due>,
    media: Option<Media>,
    legs: Vec<Leg>,
    by_tag: HashMap<String, usize>,
    pairs: Vec<Pair>,
    free: Vec<usize>,
    started: usize,
    answered: usize,
    finished: usize,
    ok: usize,
    ends: usize,
    setup: Histogram,
    failures: BTreeMap<String, u64>,
    up_seconds: f64,
}

/// Runs it and gives one JSON object.
///
/// # Errors
/// When addresses can't be bound, or the phones can't register.
pub fn run(options: &Options) -> io::Result<Value> {
    let first = measure::usage(&options.pids);
    let registered = if options.register { Some(register_phones(options)?) } else { None };
    let mut run = Run::new(options)?;
    let start = measure::usage(&options.pids);
    let own = measure::usage(&[std::process::id()]);
    let began = Instant::now();
    let window = if options.plateau { run.plateau(began) } else { run.stream(began, start) };
    let seconds = began.elapsed().as_secs_f64();
    let own = measure::usage(&[std::process::id()]).cpu_s - own.cpu_s;
    let after = measure::usage(&options.pids);
    let mut result = json!({
        "tool": "calls",
        "calls": run.started,
        "answered": run.answered,
        "ok": run.ok,
        "failed": run.failures.values().sum::<u64>(),
        "failures": run.failures,
        "seconds": seconds,
        "setup_ms": run.setup.json(),
        "retransmissions": run.endpoint.retransmissions,
        "surprises": run.endpoint.surprises,
        "registered": registered,
        "own_cpu_s": own,
        "peer_cpu_s_whole": after.cpu_s - start.cpu_s,
        "peer_rss_kb_first": first.rss_kb,
        "peer_rss_kb_before": start.rss_kb,
        "peer_rss_kb_up": window.end.rss_kb,
        "peer_rss_kb_after": after.rss_kb,
        "window_s": window.seconds,
        "window_cpu_s": window.end.cpu_s - window.start.cpu_s,
        "window_calls": window.calls,
        "call_minutes": window.call_minutes,
        "rtp": window.report.as_ref().map(Report::json),
    });
    let cpu = window.end.cpu_s - window.start.cpu_s;
    if let Some(object) = result.as_object_mut() {
        if options.plateau && window.call_minutes > 0.0 {
            object.insert("peer_cpu_s_per_call_minute".into(), json!(cpu / window.call_minutes));
            let grown = window.end.rss_kb as f64 - start.rss_kb as f64;
            object.insert("peer_rss_kb_per_call".into(), json!(grown / window.calls as f64));
        } else if run.ok > 0 {
            object.insert("peer_cpu_s_per_1000".into(), json!(cpu * 1000.0 / run.ok as f64));
        }
    }
    Ok(result)
}

fn register_phones(options: &Options) -> io::Result<Value> {
    let register = register::Options {
        phones: options.callees.clone(),
        rate: 200.0,
        rounds: 1,
        fresh: true,
        avalanche: None,
        keep_nonce: false,
        unregister: false,
        expires: 3600,
        pids: Vec::new(),
    };
    let result = register::run(&register)?;
    if result.get("registered").and_then(Value::as_u64) != u64::try_from(options.callees.count).ok() {
        return Err(io::Error::other(format!("the called phones can't register: {result}")));
    }
    Ok(result)
}

/// The measured stretch.
#[derive(Default)]
struct Window {
    seconds: f64,
    calls: usize,
    call_minutes: f64,
    start: Usage,
    end: Usage,
    report: Option<Report>,
}

impl Run<'_> {
    fn new(options: &Options) -> io::Result<Run<'_>> {
        let pairs = options.callees.count.min(options.callers.count);
        let ip = *options.callees.local.ip();
        let open = || Media::open(ip, options.rtp_port, pairs * 2, options.watch.clone());
        let media = if options.rtp { Some(open()?) } else { None };
        let mut endpoint = Endpoint::bind(options.callees.local)?;
        endpoint.set_life(options.patience);
        endpoint.watch.clone_from(&options.watch);
        Ok(Run {
            options,
            endpoint,
            media,
            legs: Vec::new(),
            by_tag: HashMap::new(),
            pairs: vec![Pair::default(); pairs],
            free: (0..pairs).rev().collect(),
            started: 0,
            answered: 0,
            finished: 0,
            ok: 0,
            ends: 0,
            setup: Histogram::default(),
            failures: BTreeMap::new(),
            up_seconds: 0.0,
        })
    }

    /// Calls come and go at the rate; CPU counts from the first to the last.
    fn stream(&mut self, began: Instant, start: Usage) -> Window {
        self.media_reset();
        self.place(began);
        let limit = Instant::now() + self.options.hold + self.options.patience + Duration::from_secs(10);
        while self.finished < self.started && Instant::now() < limit {
            self.step(Instant::now() + Duration::from_millis(50));
        }
        self.abandon();
        let report = self.media.as_ref().map(Media::report);
        Window {
            seconds: began.elapsed().as_secs_f64(),
            calls: self.started,
            call_minutes: self.up_seconds / 60.0,
            start,
            end: measure::usage(&self.options.pids),
            report,
        }
    }

    /// All calls up, one second of rest, the measured stretch, all down.
    fn plateau(&mut self, began: Instant) -> Window {
        self.place(began);
        let limit = Instant::now() + self.options.patience;
        while self.answered + self.finished < self.started && Instant::now() < limit {
            self.step(Instant::now() + Duration::from_millis(20));
        }
        self.until(Instant::now() + Duration::from_secs(1));
        let calls = self.up();
        self.media_reset();
        let (start, from) = (measure::usage(&self.options.pids), Instant::now());
        self.until(from + self.options.hold);
        let (end, seconds) = (measure::usage(&self.options.pids), from.elapsed().as_secs_f64());
        let report = self.media.as_ref().map(Media::report);
        if self.up() != calls {
            self.endpoint.surprise("calls ended on the plateau");
        }
        for pair in 0..self.pairs.len() {
            self.hang_up(pair);
            self.until(Instant::now() + Duration::from_secs_f64(1.0 / self.options.rate));
        }
        let limit = Instant::now() + self.options.patience + Duration::from_secs(1);
        while self.finished < self.started && Instant::now() < limit {
            self.step(Instant::now() + Duration::from_millis(20));
        }
        self.abandon();
        self.until(Instant::now() + Duration::from_secs(2));
        Window { seconds, calls, call_minutes: calls as f64 * seconds / 60.0, start, end, report }
    }

    /// Begins all calls at the rate; waits when no pair is free.
    fn place(&mut self, began: Instant) {
        while self.started < self.options.calls {
            let at = began + Duration::from_secs_f64(self.started as f64 / self.options.rate);
            if at <= Instant::now() {
                if let Some(pair) = self.free.pop() {
                    self.started += 1;
                    self.call(pair);
                    continue;
                }
                if self.options.plateau {
                    return;
                }
                self.step(Instant::now() + Duration::from_millis(5));
                continue;
            }
            self.step(at);
        }
    }

    fn until(&mut self, at: Instant) {
        while Instant::now() < at {
            self.step(at);
        }
    }

    fn step(&mut self, until: Instant) {
        // Who watches is shown a count in time, whatever happens.
        let until = match &self.options.watch {
            Some(_) => until.min(Instant::now() + Duration::from_millis(20)),
            None => until,
        };
        for event in self.endpoint.poll(until) {
            self.handle(event);
        }
        if let Some(watch) = self.options.watch.as_ref().filter(|watch| watch.is_due()) {
            watch.count(self.up(), self.media.as_ref().map(Media::audible).unwrap_or_default());
        }
    }

    fn media_reset(&self) {
        if let Some(media) = &self.media {
            media.reset();
        }
    }

    /// Calls that are answered on both sides now.
    fn up(&self) -> usize {
        let is_up = |leg: Option<usize>| {
            leg.and_then(|leg| self.legs.get(leg)).is_some_and(|leg| leg.phase == Phase::Up)
        };
        self.pairs.iter().filter(|pair| is_up(pair.caller) && is_up(pair.callee)).count()
    }

    /// Calls that never came to an end are failures, with the phase in which each side was left.
    fn abandon(&mut self) {
        for pair in 0..self.pairs.len() {
            let Some(Pair { caller: Some(caller), callee, .. }) = self.pairs.get(pair).cloned() else {
                continue;
            };
            let phase = |leg: Option<usize>| leg.and_then(|leg| self.legs.get(leg)).map(|leg| leg.phase);
            let cause = format!("unfinished: caller {:?}, callee {:?}", phase(Some(caller)), phase(callee));
            self.finish(pair, Some(&cause));
        }
    }

    fn target(&self, pair: usize) -> SocketAddrV4 {
        self.options.callers.target(pair)
    }
}
