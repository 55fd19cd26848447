//! How each fault is begun and undone, with real processes. What the kernel can do without help (signals, files, in
//! namespaces the packet filter) it does; the rest is the fault switch of the nodes' test builds (`src/node/faults.rs`).

mod directory;

use crate::history::FaultSeen;
use crate::script::{Direction, Fault, Site, Step, Target};
use crate::world::{World, signal};
use anyhow::Context;
use rustix::process::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};

/// What ends a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Undo {
    /// The node is started again.
    Start(usize),
    /// The process goes on.
    Continue(u32),
    /// The ways between nodes are whole again.
    Heal,
    /// The node's disk is well.
    DiskOk(usize),
    /// The node's clock is right.
    ClockRight(usize),
    /// Another node takes the place.
    Replace(usize),
    /// It ends by itself.
    Nothing,
}

/// A fault that goes on.
pub(crate) struct Begun {
    /// For the history; its end is not known yet.
    pub(crate) seen: FaultSeen,
    /// What ends it.
    pub(crate) undo: Undo,
}

/// A killed process is gone within this.
const GONE: Duration = Duration::from_secs(10);

/// What has to be done before the workload begins.
pub(crate) fn prepare(world: &World, steps: &[Step]) -> anyhow::Result<()> {
    for step in steps.iter().filter(|step| step.fault == Fault::RestoredDirectory) {
        let node = resolve(world, step.node.unwrap_or(Target::N1))?;
        directory::keep(world, node)?;
    }
    Ok(())
}

/// Begins a fault at `at_ms`.
pub(crate) fn begin(world: &World, step: &Step, at_ms: u64) -> anyhow::Result<Begun> {
    let nodes = match (step.node, step.site) {
        (Some(target), _) => vec![resolve(world, target)?],
        (None, Some(Site::East)) => vec![0, 1],
        (None, Some(Site::West)) => vec![2],
        (None, None) => Vec::new(),
    };
    let node = nodes.first().copied().unwrap_or(0);
    let undo = match step.fault {
        Fault::KillWorker => killed(world, node, world.worker(node))?,
        Fault::KillGuard => killed(world, node, world.guard(node))?,
        Fault::Stop => {
            signal(world.guard(node).context("the node runs")?, Signal::TERM)?;
            Undo::Start(node)
        }
        Fault::Pause => {
            let pid = world.worker(node).context("the node runs")?;
            signal(pid, Signal::STOP)?;
            Undo::Continue(pid)
        }
        Fault::Partition => cut(world, &nodes, None)?,
        Fault::OneWay => cut(world, &nodes, step.direction)?,
        Fault::Link => link(world, node, step)?,
        Fault::DiskFull => {
            world.order(node, "disk full")?;
            Undo::DiskOk(node)
        }
        Fault::SlowDisk => {
            world.order(node, &format!("disk slow {}", step.delay_ms.unwrap_or(0)))?;
            Undo::DiskOk(node)
        }
        Fault::TornTail => {
            let pid = world.worker(node).context("the node runs")?;
            world.order(node, "power 7")?;
            await_gone(pid)?;
            Undo::Start(node)
        }
        Fault::WipedDirectory => {
            killed(world, node, world.worker(node))?;
            std::fs::remove_dir_all(world.data(node))?;
            // It can't start: it has no identity, and gets none by being started.
            world.start(node)?;
            Undo::Replace(node)
        }
        Fault::RestoredDirectory => {
            killed(world, node, world.worker(node))?;
            directory::put_back(world, node)?;
            // The others know it better, and it ends.
            world.start(node)?;
            Undo::Replace(node)
        }
        Fault::ClockJump => {
            world.order(node, &format!("clock {}", step.by_s.unwrap_or(0) * 1_000))?;
            Undo::ClockRight(node)
        }
        Fault::Overload | Fault::Random => Undo::Nothing,
    };
    let is_deadly = matches!(undo, Undo::Start(_) | Undo::Replace(_));
    let what = named(step, &nodes);
    let seen = FaultSeen { what, nodes, from_ms: at_ms, until_ms: u64::MAX, is_deadly };
    Ok(Begun { seen, undo })
}

/// Ends a fault.
pub(crate) fn undo(world: &World, undo: &Undo) -> anyhow::Result<()> {
    match *undo {
        Undo::Start(node) => world.start(node),
        // It may have been ended meanwhile.
        Undo::Continue(pid) => signal(pid, Signal::CONT).or(Ok(())),
        Undo::Heal => {
            // The packet filter of a dead node outlives it.
            for node in 0..3 {
                world.place().heal(node)?;
                if world.worker(node).is_some() {
                    world.order(node, "heal")?;
                }
            }
            Ok(())
        }
        Undo::DiskOk(node) => match world.worker(node) {
            Some(_) => world.order(node, "disk ok"),
            // A disk that did not get well in time ends the node; it is started again as its supervisor would.
            None => world.start(node),
        },
        Undo::ClockRight(node) => world.order(node, "clock 0"),
        Undo::Replace(node) => {
            anyhow::ensure!(
                world.worker(node).is_none(),
                "n{} runs on a directory that is none of its own",
                node + 1
            );
            world.replace(node)
        }
        Undo::Nothing => Ok(()),
    }
}

fn killed(world: &World, node: usize, pid: Option<u32>) -> anyhow::Result<Undo> {
    let worker = world.worker(node).context("the node runs")?;
    signal(pid.context("the node runs")?, Signal::KILL)?;
    await_gone(worker)?;
    Ok(Undo::Start(node))
}

fn await_gone(pid: u32) -> anyhow::Result<()> {
    let deadline = Instant::now() + GONE;
    while crate::world::is_alive(pid) {
        anyhow::ensure!(Instant::now() < deadline, "process {pid} does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Cuts nodes off from all others, at both ends.
fn cut(world: &World, nodes: &[usize], direction: Option<Direction>) -> anyhow::Result<Undo> {
    let others = || (0..3).filter(|other| !nodes.contains(other));
    for (node, other) in nodes.iter().flat_map(|node| others().map(move |other| (*node, other))) {
        cut_at(world, node, other, direction)?;
        let opposite = direction.map(|direction| match direction {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        });
        cut_at(world, other, node, opposite)?;
    }
    Ok(Undo::Heal)
}

fn cut_at(world: &World, node: usize, far: usize, direction: Option<Direction>) -> anyhow::Result<()> {
    if world.place().cut(node, far, direction)? || world.worker(node).is_none() {
        return Ok(());
    }
    let order = match direction {
        None => "cut",
        Some(Direction::In) => "cut-in",
        Some(Direction::Out) => "cut-out",
    };
    world.order(node, &format!("{order} {}", world.name(far)))
}

/// Makes the links of a node bad, both ways: each end delays what it gets.
fn link(world: &World, node: usize, step: &Step) -> anyhow::Result<Undo> {
    let faults = [("delay", step.delay_ms), ("loss", step.loss_percent), ("rate", step.rate_kbit)];
    for (fault, size) in faults.into_iter().filter_map(|(fault, size)| Some((fault, size?))) {
        for other in (0..3).filter(|other| *other != node) {
            for (at, far) in [(node, other), (other, node)] {
                if world.worker(at).is_some() {
                    world.order(at, &format!("{fault} {} {size}", world.name(far)))?;
                }
            }
        }
    }
    Ok(Undo::Heal)
}

/// Which node is meant, now.
pub(crate) fn resolve(world: &World, target: Target) -> anyhow::Result<usize> {
    let status = || (0..3).find_map(|index| world.status(index).filter(has_leader));
    let leader = || {
        let status = status()?;
        let name = status.get("leader")?.as_str()?.to_owned();
        (0..3).find(|index| world.name(*index) == name)
    };
    let found = match target {
        Target::N1 => Some(0),
        Target::N2 => Some(1),
        Target::N3 => Some(2),
        Target::Leader => leader(),
        Target::Follower => leader().map(|leader| (leader + 1) % 3),
        Target::Owner => status().and_then(|status| owner(world, &status)),
    };
    found.with_context(|| format!("there is no {target:?}"))
}

fn has_leader(status: &Value) -> bool {
    status.get("leader").is_some_and(Value::is_string)
}

fn owner(world: &World, status: &Value) -> Option<usize> {
    let nodes = status.get("nodes")?.as_array()?;
    let calls = |node: &&Value| node.get("calls").and_then(Value::as_u64).unwrap_or(0);
    let name = nodes.iter().max_by_key(calls)?.get("name")?.as_str()?;
    (0..3).find(|index| world.name(*index) == name)
}

/// A step in words, as the report shows it.
fn named(step: &Step, nodes: &[usize]) -> String {
    let fault = format!("{:?}", step.fault);
    let mut words = String::new();
    for letter in fault.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push('-');
        }
        words.extend(letter.to_lowercase());
    }
    for node in nodes {
        words += &format!(" n{}", node + 1);
    }
    let sizes = [
        ("ms", step.delay_ms.map(i64::from)),
        ("% lost", step.loss_percent.map(i64::from)),
        ("kbit/s", step.rate_kbit.map(i64::from)),
        ("s", step.by_s),
    ];
    for (unit, size) in sizes {
        if let Some(size) = size {
            words += &format!(" {size} {unit}");
        }
    }
    match (step.direction, step.per_second) {
        (Some(direction), _) => words += &format!(" {direction:?}").to_lowercase(),
        (_, Some(per_second)) => words += &format!(" {per_second}/s"),
        (None, None) => {}
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_named_for_the_reader() {
        let step = Step {
            at_s: 1.0,
            fault: Fault::ClockJump,
            for_s: 1.0,
            node: Some(Target::Leader),
            site: None,
            direction: None,
            delay_ms: None,
            loss_percent: None,
            rate_kbit: None,
            by_s: Some(-60),
            per_second: None,
            faults: None,
        };
        assert_eq!(named(&step, &[1]), "clock-jump n2 -60 s");
    }
}
