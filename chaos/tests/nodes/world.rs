//! Three machines, their network, and the time that passes for all of them.

use std::future::Future;
use std::time::Duration;

use tandem_cluster::sim::Network;
use tandem_cluster::{Cluster, MemberState};
use tandem_state::Role;
use tempfile::TempDir;

use crate::machine::Machine;

/// The step of time.
pub(crate) const TICK: Duration = Duration::from_millis(1);

pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    _directory: TempDir,
}

impl World {
    /// Machines, and nothing on them.
    pub(crate) fn empty(seed: u64, count: u8) -> World {
        let memory = std::path::Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let directory = directory.expect("a directory");
        let network = Network::new(seed);
        let machines = (0..count).map(|at| Machine::new(&network, at, directory.path())).collect();
        World { network, machines, _directory: directory }
    }

    /// A cluster of so many voters, each of which was initialised or has joined.
    pub(crate) fn formed(seed: u64, count: u8) -> World {
        let mut world = World::empty(seed, count);
        {
            let first = &world.machines[0];
            let _entered = first.host.enter();
            tandem_cluster::init(first.data()).expect("it is initialised");
        }
        world.machines[0].start();
        world.until("the first node is there", |world| world.node(0).is_some());
        for at in 1..usize::from(count) {
            let node = world.node(0).expect("it runs");
            let token = world.on(0, async move { node.invite(Role::Full, Duration::from_secs(60)).await });
            let data = world.machines[at].data().to_owned();
            let token = token.expect("an invitation");
            world.on(at, async move { tandem_cluster::join(&data, &token).await }).expect("it joins");
            world.machines[at].start();
        }
        world.until("all vote", |world| world.all_vote());
        world
    }

    pub(crate) fn node(&self, at: usize) -> Option<Cluster> {
        self.machines[at].cluster()
    }

    /// Lets time pass everywhere.
    pub(crate) fn tick(&mut self) {
        self.network.advance(TICK.as_micros() as u64);
        for machine in &mut self.machines {
            machine.advance(TICK);
        }
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        for _ in 0..span.as_millis() {
            self.tick();
        }
    }

    /// Lets time pass until it is so.
    pub(crate) fn until(&mut self, what: &str, met: impl Fn(&mut World) -> bool) {
        for _ in 0..600 {
            if met(self) {
                return;
            }
            self.pass(Duration::from_millis(100));
        }
        let failures: Vec<_> = self.machines.iter().map(Machine::failure).collect();
        panic!("never: {what}: {failures:?}");
    }

    /// Has something done on a machine, while time passes.
    pub(crate) fn on<T: Send + 'static>(
        &mut self,
        at: usize,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let done = self.machines[at].spawn(work);
        while !done.is_finished() {
            self.tick();
        }
        self.machines[at].take(done)
    }

    fn all_vote(&mut self) -> bool {
        let count = self.machines.len();
        let Some(node) = self.node(0) else { return false };
        let status = self.on(0, async move { node.status().await });
        let up = status.nodes.iter().filter(|node| node.state == MemberState::Up).count();
        status.quorum && up == count && (count < 3 || status.survives.any_one_node)
    }
}
