//! One script, from an empty directory to its history.

use crate::faults::{self, Undo};
use crate::history::{History, NodeEnd};
use crate::invariants::{Invariant, Judgement, nothing_left};
use crate::observe::Observed;
use crate::place::Place;
use crate::script::{Fault, Script, Step};
use crate::workload::{self, Told, Workload};
use crate::world::World;
use crate::world::content::TENANTS;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::thread::Scope;
use std::time::{Duration, Instant};
use tandem_phones::measure;

/// A script that ran.
pub(crate) struct Ran {
    /// Its name.
    pub(crate) name: String,
    /// What random faults were drawn from.
    pub(crate) seed: u64,
    /// How long all of it took.
    pub(crate) took: Duration,
    /// What was seen.
    pub(crate) history: History,
    /// What was found.
    pub(crate) verdicts: Vec<(&'static Invariant, Judgement)>,
}

impl Ran {
    /// Whether everything holds and nothing of the run itself went wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.history.troubles.is_empty() && self.verdicts.iter().all(|(_, judgement)| judgement.holds())
    }
}

/// All nodes are up and still again within this; how soon each must be is an invariant.
const WHOLE: Duration = Duration::from_secs(45);
/// What is left of calls goes within this: a leg whose phone may still surprise us waits for 64 T1 = 32 s (RFC 3261).
const STILL: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(100);

/// Runs a script; the nodes' files are in `dir`.
pub(crate) fn run(script: &Script, seed: u64, place: &Place, program: &Path, dir: &Path) -> Ran {
    let began = Instant::now();
    let mut history = match history(script, place, program, dir) {
        Ok(history) => history,
        Err(error) => History { troubles: vec![format!("{error:#}")], ..History::default() },
    };
    let verdicts = judged(script, &mut history);
    Ran { name: script.name.clone(), seed, took: began.elapsed(), history, verdicts }
}

/// A history in which nothing could be judged proves nothing: that is a trouble of the run.
fn judged(script: &Script, history: &mut History) -> Vec<(&'static Invariant, Judgement)> {
    let verdicts: Vec<_> = script.invariants().into_iter().map(|one| (one, (one.judge)(history))).collect();
    if !verdicts.iter().any(|(_, judgement)| judgement.is_of_something()) {
        history.troubles.push("nothing was judged".to_owned());
    }
    verdicts
}

fn history(script: &Script, place: &Place, program: &Path, dir: &Path) -> anyhow::Result<History> {
    let steps = script.steps();
    let largest = script.workload.calls.iter().map(|group| group.value.count).max().unwrap_or(0);
    let world = World::make(place.clone(), program, dir, u64::try_from(largest)?)?;
    faults::prepare(&world, &steps)?;
    let (clock, told, observed) = (Instant::now(), Told::default(), Observed::default());
    let hosts = (0..3).map(|index| place.node(index)).collect();
    let mut history = History { bounds: script.bounds(), hosts, ..History::default() };
    let done = std::thread::scope(|scope| {
        for index in 0..3 {
            let (world, observed) = (&world, &observed);
            scope.spawn(move || observed.watch(world, index, clock));
            scope.spawn(move || observed.listen(world, index, clock));
        }
        let running = Running { scope, world: &world, script, told: &told, clock };
        let done = running.carry_out(&steps, &mut history);
        told.stop();
        observed.stop();
        done
    });
    done?;
    (history.registrations, history.writes) = told.take();
    (history.views, history.events) = observed.take();
    history.troubles.extend(history.unseen());
    collect(&world, &mut history);
    Ok(history)
}

struct Running<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    world: &'env World,
    script: &'env Script,
    told: &'env Told,
    clock: Instant,
}

/// What is to be done at an instant.
enum Act {
    Begin(Step),
    End(usize),
}

impl<'scope> Running<'scope, '_> {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn carry_out(&self, steps: &[Step], history: &mut History) -> anyhow::Result<()> {
        let Running { scope, world, script, told, clock } = *self;
        let mut workload = Workload::begin(scope, world, script, clock)?;
        let from = Instant::now();
        history.from_ms = self.now_ms();
        history.memory_before_kb = (0..3).map(|index| memory_kb(world, index)).collect();
        workload.go_on(scope, world, script, told, clock);
        self.faults(steps, from, &mut workload, history);
        std::thread::sleep((from + script.hold()).saturating_duration_since(Instant::now()));
        history.until_ms = self.now_ms();
        told.stop();
        let outcome = workload.end();
        history.phones = outcome.phones;
        history.troubles.extend(outcome.troubles);
        if let Err(error) = world.await_whole(WHOLE) {
            history.troubles.push(format!("{error:#}"));
        }
        await_still(world);
        Ok(())
    }

    /// Begins and ends each fault in its time.
    fn faults(&self, steps: &[Step], from: Instant, workload: &mut Workload<'scope>, history: &mut History) {
        let mut agenda: Vec<(f64, Act)> =
            steps.iter().map(|step| (step.at_s, Act::Begin(step.clone()))).collect();
        let mut undos: Vec<Undo> = Vec::new();
        while !agenda.is_empty() {
            agenda.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            let (at_s, act) = agenda.remove(0);
            let at = from + Duration::from_secs_f64(at_s);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            match act {
                Act::Begin(step) => match faults::begin(self.world, &step, self.now_ms()) {
                    Ok(begun) => {
                        self.flood(&step, workload, &begun.seen.nodes);
                        agenda.push((step.at_s + step.for_s, Act::End(undos.len())));
                        undos.push(begun.undo);
                        history.faults.push(begun.seen);
                    }
                    Err(error) => history.troubles.push(format!("{:?}: {error:#}", step.fault)),
                },
                Act::End(index) => {
                    let undone = undos.get(index).map(|undo| faults::undo(self.world, undo));
                    let now = self.now_ms();
                    if let Some(fault) = history.faults.get_mut(index) {
                        fault.until_ms = now;
                        if let Some(Err(error)) = undone {
                            history.troubles.push(format!("the end of {}: {error:#}", fault.what));
                        }
                    }
                }
            }
        }
    }

    fn flood(&self, step: &Step, workload: &mut Workload<'scope>, nodes: &[usize]) {
        if step.fault == Fault::Overload {
            let node = nodes.first().copied().unwrap_or(0);
            let size = (node, step.per_second.unwrap_or(1.0), Duration::from_secs_f64(step.for_s));
            workload.add(workload::flood(self.scope, self.world, size, self.clock));
        }
    }
}

fn memory_kb(world: &World, index: usize) -> u64 {
    world.worker(index).map_or(0, |pid| measure::usage(&[pid]).rss_kb)
}

/// Waits until no node shows a call any more, all have applied the same, and nothing is on its way.
fn await_still(world: &World) {
    let deadline = Instant::now() + STILL;
    while Instant::now() < deadline {
        let calls =
            (0..3).all(|index| world.api(index).items("/v1/calls").is_some_and(|calls| calls.is_empty()));
        let is_still = |index| nothing_left::left_by(&metrics(world, index)).is_empty();
        if calls && (0..3).all(is_still) {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

fn collect(world: &World, history: &mut History) {
    for index in 0..3 {
        let end = end(world, index, &mut history.troubles);
        history.end.push(end);
    }
    history.hash = Some(match world.cli(0, &["cluster", "hash", "-o", "json"]) {
        Ok(output) => {
            let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let position = said.get("position").cloned().unwrap_or_default();
            Ok(format!("the same on all nodes at log position {position}"))
        }
        Err(error) => Err(format!("{error:#}")),
    });
}

/// A list that can't be had is a trouble: judged as an empty one it would prove what nobody knows.
fn end(world: &World, index: usize, troubles: &mut Vec<String>) -> NodeEnd {
    let (api, name) = (world.api(index), world.name(index));
    let mut items = |path: &str| {
        let items = api.items(path);
        if items.is_none() {
            troubles.push(format!("{name} doesn't give all of {path} at the end"));
        }
        items.unwrap_or_default()
    };
    NodeEnd {
        registrations: items("/v1/registrations"),
        tokens: texts(&items("/v1/tokens"), "id"),
        audit: texts(&items("/v1/audit"), "action"),
        cdrs: TENANTS
            .into_iter()
            .flat_map(|tenant| items(&format!("/v1/tenants/{}/cdrs", tenant.name)))
            .collect(),
        calls: items("/v1/calls"),
        metrics: metrics(world, index),
        memory_kb: memory_kb(world, index),
        name,
    }
}

fn texts(items: &[Value], key: &str) -> Vec<String> {
    items.iter().filter_map(|one| Some(one.get(key)?.as_str()?.to_owned())).collect()
}

/// What a node measures; empty when it doesn't say.
fn metrics(world: &World, index: usize) -> BTreeMap<String, f64> {
    let Ok((200, page)) = world.api(index).get("/metrics", Duration::from_secs(2)) else {
        return BTreeMap::new();
    };
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    page.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

/// Of a run that passed only the logs are kept.
pub(crate) fn tidy(dir: &Path) {
    for node in ["n1", "n2", "n3"] {
        for folder in ["data", "kept"] {
            let _ = std::fs::remove_dir_all(dir.join(node).join(folder));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up;

    #[test]
    fn a_run_in_which_nothing_could_be_judged_is_in_trouble() {
        let text = "workload: {for_s: 5}\nsteps: []\ninvariants: [audio-gap, one-cdr, nothing-left]\n";
        let script = Script::parse("x", text, 1).unwrap();
        let mut quiet = made_up::history();
        quiet.phones.clear();
        quiet.end.iter_mut().for_each(|node| node.cdrs.clear());
        judged(&script, &mut quiet);
        assert_eq!(quiet.troubles, ["nothing was judged"]);
        let mut whole = made_up::history();
        judged(&script, &mut whole);
        assert_eq!(whole.troubles, [""; 0]);
    }
}
