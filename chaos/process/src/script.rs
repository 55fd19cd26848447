//! A fault script as people write it: a workload, steps with faults, invariants and bounds. Reading it refuses what makes
//! no sense, with file and line.

mod expand;
#[cfg(test)]
mod tests;

use crate::invariants;
use crate::world::content::{GROUP_MAX, GROUPS_MAX};
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;
use std::path::Path;
use std::time::Duration;

/// A script.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    /// The file's name without its ending.
    #[serde(skip)]
    pub(crate) name: String,
    /// What goes on while faults come and go.
    pub(crate) workload: Workload,
    /// The faults, in any order.
    steps: Vec<Spanned<Step>>,
    /// Names of invariants, or `all`.
    invariants: Spanned<Vec<Spanned<String>>>,
    /// How far things may go.
    #[serde(default)]
    bounds: Option<Spanned<Bounds>>,
}

/// Milliseconds beyond which a gap is none any more, but the end of what should go on.
const GAP_MAX_MS: u64 = 600_000;
/// The same for a node that should come back, and for a bill.
const LATE_MAX_S: u64 = 600;
/// Megabytes beyond which a node's machine is out of memory before its bound is reached.
const GROWTH_MAX_MB: u64 = 1_024;

/// What goes on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workload {
    /// How long it goes on from the moment in which all standing calls are up.
    #[serde(deserialize_with = "positive")]
    pub(crate) for_s: f64,
    /// Standing calls with sound, in groups; each second group is of the second tenant, whose numbers are the first's.
    #[serde(default)]
    pub(crate) calls: Vec<Spanned<Group>>,
    /// Calls that come and go.
    #[serde(default)]
    pub(crate) short_calls: Option<ShortCalls>,
    /// New registrations a second, at all nodes in turn.
    #[serde(default, deserialize_with = "positive")]
    pub(crate) registrations_per_second: f64,
    /// Writes over the API a second, by a client at each node.
    #[serde(default, deserialize_with = "positive")]
    pub(crate) writes_per_second: f64,
}

/// Standing calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    /// How many.
    pub(crate) count: usize,
    /// Where the callers call: the owner of the calls.
    pub(crate) from: Name,
    /// Where the called phones are registered.
    pub(crate) to: Name,
}

/// Calls that come and go.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShortCalls {
    /// How many begin in a second.
    #[serde(deserialize_with = "positive")]
    pub(crate) per_second: f64,
    /// How long they talk.
    #[serde(deserialize_with = "positive")]
    pub(crate) talk_s: f64,
    /// Where the callers call.
    pub(crate) from: Name,
    /// Where the called phones are registered.
    pub(crate) to: Name,
}

/// A node by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Name {
    /// The first node, in the east.
    N1,
    /// The second, in the east too.
    N2,
    /// The third, in the west.
    N3,
}

/// The nodes of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Site {
    /// n1 and n2.
    East,
    /// n3.
    West,
}

/// A node by its name, or by what it is when the step begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    /// The first node.
    N1,
    /// The second.
    N2,
    /// The third.
    N3,
    /// Who leads.
    Leader,
    /// One of those who follow.
    Follower,
    /// Who owns most calls.
    Owner,
}

/// Which way a one-way partition cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// Nothing reaches the node.
    In,
    /// Nothing of the node reaches the others.
    Out,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// SIGKILL to the process that speaks SIP.
    KillWorker,
    /// SIGKILL to its guard, with which it dies.
    KillGuard,
    /// SIGTERM: the node stops in order.
    Stop,
    /// SIGSTOP, and at its end SIGCONT.
    Pause,
    /// The node, or the site, hears no other node and is heard by none.
    Partition,
    /// One direction of that.
    OneWay,
    /// The links of the node are late, lossy, narrow.
    Link,
    /// Nothing can be written.
    DiskFull,
    /// Each sync takes long.
    SlowDisk,
    /// The power fails, and of what was never synced a part is left.
    TornTail,
    /// The node dies, and its data directory is gone.
    WipedDirectory,
    /// The node dies, and its data directory is one of an earlier time.
    RestoredDirectory,
    /// The wall clock is off.
    ClockJump,
    /// More calls than the tenant may make.
    Overload,
    /// Several of these, drawn from the seed.
    Random,
}

/// One fault, from when, for how long.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// Seconds after all standing calls are up.
    pub(crate) at_s: f64,
    /// What goes wrong.
    pub(crate) fault: Fault,
    /// How long; then it is undone, a killed node started again.
    pub(crate) for_s: f64,
    /// Whose fault it is.
    #[serde(default)]
    pub(crate) node: Option<Target>,
    /// The site that is cut off.
    #[serde(default)]
    pub(crate) site: Option<Site>,
    /// Which way is cut.
    #[serde(default)]
    pub(crate) direction: Option<Direction>,
    /// How late a link is, or how long a sync takes.
    #[serde(default)]
    pub(crate) delay_ms: Option<u32>,
    /// How much of a link's data is lost once.
    #[serde(default)]
    pub(crate) loss_percent: Option<u32>,
    /// What a link carries.
    #[serde(default)]
    pub(crate) rate_kbit: Option<u32>,
    /// How far the clock is set.
    #[serde(default)]
    pub(crate) by_s: Option<i64>,
    /// Calls offered in a second.
    #[serde(default)]
    pub(crate) per_second: Option<f64>,
    /// How many faults are drawn.
    #[serde(default)]
    pub(crate) faults: Option<u32>,
}

/// How far things may go before an invariant is broken.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bounds {
    /// Milliseconds in which a phone of a standing call may hear nothing.
    pub(crate) audio_gap_ms: u64,
    /// The same for all but one phone in a hundred, if that is to be less.
    pub(crate) audio_gap_p99_ms: Option<u64>,
    /// Standing calls that may end otherwise than by their phones.
    pub(crate) calls_lost: usize,
    /// Milliseconds between two acknowledged registrations or writes.
    pub(crate) service_gap_ms: u64,
    /// Seconds from the end of a fault until its node is up.
    pub(crate) back_s: u64,
    /// Seconds by which a bill may be off.
    pub(crate) billed_off_s: u64,
    /// Megabytes that a node may have more in memory at the end than before the first fault.
    pub(crate) memory_growth_mb: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            audio_gap_ms: 1_500,
            audio_gap_p99_ms: None,
            calls_lost: 0,
            service_gap_ms: 5_000,
            back_s: 10,
            billed_off_s: 1,
            memory_growth_mb: 64,
        }
    }
}

impl Name {
    /// 0, 1 or 2.
    pub(crate) fn index(self) -> usize {
        match self {
            Name::N1 => 0,
            Name::N2 => 1,
            Name::N3 => 2,
        }
    }
}

impl Script {
    /// Reads a file; what is wrong is told with file and line.
    pub(crate) fn read(path: &Path, seed: u64) -> anyhow::Result<Script> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("{shown}: {error}"))?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Script::parse(&name, &text, seed).map_err(|(line, why)| anyhow::anyhow!("{shown}:{line}: {why}"))
    }

    pub(crate) fn parse(name: &str, text: &str, seed: u64) -> Result<Script, (u64, String)> {
        let options = serde_saphyr::options! { with_snippet: false };
        let mut script: Script = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let why = error.without_snippet().to_string();
            (line, why.split(" at line ").next().unwrap_or_default().to_owned())
        })?;
        name.clone_into(&mut script.name);
        for (number, group) in script.workload.calls.iter().enumerate() {
            check_group(number, group.value).map_err(|why| (group.referenced.line(), why))?;
        }
        for step in &script.steps {
            check(&step.value, script.workload.for_s).map_err(|why| (step.referenced.line(), why))?;
        }
        if script.invariants.value.is_empty() {
            let line = script.invariants.referenced.line();
            return Err((line, "names no invariant, so nothing would be judged".to_owned()));
        }
        for named in &script.invariants.value {
            if named.value != "all" && invariants::named(&named.value).is_none() {
                return Err((named.referenced.line(), format!("no invariant {}", named.value)));
            }
        }
        if let Some(bounds) = &script.bounds {
            check_bounds(&bounds.value, &script).map_err(|why| (bounds.referenced.line(), why))?;
        }
        expand::draw(&mut script.steps, seed);
        Ok(script)
    }

    /// How far things may go.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds.as_ref().map_or_else(Bounds::default, |bounds| bounds.value)
    }

    /// The steps by their time, random ones drawn.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.steps.iter().map(|step| step.value.clone()).collect();
        steps.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        steps
    }

    /// The invariants that are judged.
    pub(crate) fn invariants(&self) -> Vec<&'static invariants::Invariant> {
        let asked =
            |name: &str| self.invariants.value.iter().any(|one| one.value == "all" || one.value == name);
        invariants::ALL.iter().filter(|one| asked(one.name)).collect()
    }

    /// How long the workload goes on.
    pub(crate) fn hold(&self) -> Duration {
        Duration::from_secs_f64(self.workload.for_s)
    }

    /// Calls in all standing groups.
    pub(crate) fn standing(&self) -> usize {
        self.workload.calls.iter().map(|group| group.value.count).sum()
    }
}

/// A rate or a time: more than nothing, and not without end.
fn positive<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let number = f64::deserialize(from)?;
    if number.is_finite() && number > 0.0 {
        return Ok(number);
    }
    Err(de::Error::custom(format!("{number} is no number above 0")))
}

/// There are phones for so many calls.
fn check_group(number: usize, group: Group) -> Result<(), String> {
    if number >= GROUPS_MAX {
        return Err(format!("there are phones for {GROUPS_MAX} groups of calls"));
    }
    if group.count == 0 || group.count > GROUP_MAX {
        return Err(format!("a group has 1 to {GROUP_MAX} calls, not {}", group.count));
    }
    Ok(())
}

/// A bound can be exceeded, else its invariant holds whatever happens.
fn check_bounds(bounds: &Bounds, script: &Script) -> Result<(), String> {
    let (standing, hold_ms) = (script.standing(), u64::try_from(script.hold().as_millis()));
    let gap_max_ms = GAP_MAX_MS.min(hold_ms.unwrap_or(u64::MAX));
    let limits = [
        ("audio_gap_ms", bounds.audio_gap_ms, gap_max_ms),
        ("audio_gap_p99_ms", bounds.audio_gap_p99_ms.unwrap_or(0), gap_max_ms),
        ("service_gap_ms", bounds.service_gap_ms, gap_max_ms),
        ("back_s", bounds.back_s, LATE_MAX_S),
        ("billed_off_s", bounds.billed_off_s, LATE_MAX_S),
        ("memory_growth_mb", bounds.memory_growth_mb, GROWTH_MAX_MB),
    ];
    if let Some((name, value, limit)) = limits.into_iter().find(|(_, value, limit)| value > limit) {
        return Err(format!("{name} is {limit} here at most, not {value}: nothing would exceed it"));
    }
    if bounds.calls_lost > 0 && bounds.calls_lost >= standing {
        return Err(format!("calls_lost is below the {standing} standing calls, not {}", bounds.calls_lost));
    }
    Ok(())
}

/// Each fault has what it needs and nothing else.
fn check(step: &Step, for_s: f64) -> Result<(), String> {
    let is_within = step.at_s >= 0.0 && step.for_s > 0.0 && step.at_s + step.for_s <= for_s;
    if !is_within {
        return Err(format!("a fault begins and ends within the workload, which goes on for {for_s} s"));
    }
    let (needed, allowed) = parameters(step.fault);
    let given = [
        ("node", step.node.is_some()),
        ("site", step.site.is_some()),
        ("direction", step.direction.is_some()),
        ("delay_ms", step.delay_ms.is_some()),
        ("loss_percent", step.loss_percent.is_some()),
        ("rate_kbit", step.rate_kbit.is_some()),
        ("by_s", step.by_s.is_some()),
        ("per_second", step.per_second.is_some()),
        ("faults", step.faults.is_some()),
    ];
    for (name, is_given) in given {
        if is_given && !needed.contains(&name) && !allowed.contains(&name) {
            return Err(format!("{:?} takes no {name}", step.fault));
        }
        if !is_given && needed.contains(&name) {
            return Err(format!("{:?} needs {name}", step.fault));
        }
    }
    makes_sense(step).map_err(|why| format!("{:?} {why}", step.fault))
}

/// What is given fits together.
fn makes_sense(step: &Step) -> Result<(), &'static str> {
    let sizes = [step.delay_ms, step.loss_percent, step.rate_kbit];
    match (step.fault, step.node, step.site) {
        (Fault::Partition, None, None) => Err("needs node or site"),
        (Fault::Partition, Some(_), Some(_)) => Err("takes node or site, not both"),
        (Fault::Link, ..) if sizes == [None; 3] => Err("needs delay_ms, loss_percent or rate_kbit"),
        (Fault::Link, ..) if step.loss_percent.is_some_and(|share| share > 100) => {
            Err("loses 100 percent at most")
        }
        // Its directory is kept before anything begins: who leads or owns calls by then is somebody else.
        (Fault::RestoredDirectory, Some(Target::Leader | Target::Follower | Target::Owner), _) => {
            Err("takes n1, n2 or n3")
        }
        (Fault::Overload, ..) if !step.per_second.is_some_and(|rate| rate.is_finite() && rate > 0.0) => {
            Err("needs a per_second above 0")
        }
        (Fault::Random, ..) if step.faults == Some(0) => Err("draws one fault at least"),
        _ => Ok(()),
    }
}

/// What a fault must have, and what it may have.
fn parameters(fault: Fault) -> (&'static [&'static str], &'static [&'static str]) {
    match fault {
        Fault::KillWorker
        | Fault::KillGuard
        | Fault::Stop
        | Fault::Pause
        | Fault::DiskFull
        | Fault::TornTail
        | Fault::WipedDirectory
        | Fault::RestoredDirectory => (&["node"], &[]),
        Fault::Partition => (&[], &["node", "site"]),
        Fault::OneWay => (&["node", "direction"], &[]),
        Fault::Link => (&["node"], &["delay_ms", "loss_percent", "rate_kbit"]),
        Fault::SlowDisk => (&["node", "delay_ms"], &[]),
        Fault::ClockJump => (&["node", "by_s"], &[]),
        Fault::Overload => (&["node", "per_second"], &[]),
        Fault::Random => (&["faults"], &[]),
    }
}
