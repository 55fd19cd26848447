//! When everything is mended the cluster works again, on all nodes, within a bound of simulated time.

use std::time::Duration;

use tandem_state::Command;
use tokio::task::JoinHandle;

use super::Checked;
use crate::clients::put;
use crate::world::World;

/// From the last mending: a restart, an election, and what came before them waits for its deadline.
pub(crate) const BOUND: Duration = Duration::from_secs(15);

/// Each node commits a command, holds its lease, and has applied what any has.
pub(crate) fn recovers(world: &mut World, check: impl Fn(&World) -> Checked) -> Checked {
    let mut commits: Vec<Option<JoinHandle<()>>> = world.machines.iter().map(|_| None).collect();
    for _ in 0..BOUND.as_millis() {
        for (at, commit) in commits.iter_mut().enumerate() {
            if commit.is_none()
                && let Some(node) = world.node(at)
            {
                *commit =
                    Some(world.machines[at].spawn(async move {
                        while !matches!(put(&node, Command::Tick).await, Some(Ok(_))) {}
                    }));
            }
        }
        world.tick();
        check(world)?;
        world.no_node_failed()?;
        let committed = commits.iter().flatten().filter(|commit| commit.is_finished()).count();
        if committed == world.machines.len() && is_whole(world) {
            return Ok(());
        }
    }
    Err(format!("after {BOUND:?} of peace not all nodes work: {}", world.describe()))
}

fn is_whole(world: &World) -> bool {
    let nodes: Vec<_> = (0..world.machines.len()).filter_map(|at| world.node(at)).collect();
    let applied = |node: &tandem_cluster::Cluster| node.applied();
    let same = nodes.iter().map(applied).min() == nodes.iter().map(applied).max();
    same && world.leader().is_some() && world.all_hold_leases()
}
