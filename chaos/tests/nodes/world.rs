//! Three machines, their network, and the time that passes for all of them.

use std::future::Future;
use std::time::Duration;

use tandem_chaos::world::Random;
use tandem_cluster::sim::Network;
use tandem_cluster::{Cluster, MemberState};
use tandem_state::Role;
use tempfile::TempDir;

use crate::checks::Checked;
use crate::clients::Clients;
use crate::machine::{Machine, NOT_STARTED};

/// The step of time.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Clients of each node.
const CLIENTS: usize = 2;
/// What must come true is waited for so long.
const WAIT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    pub(crate) random: Random,
    pub(crate) clients: Option<Clients>,
    _directory: TempDir,
}

impl World {
    /// Machines, and nothing on them.
    fn empty(seed: u64, count: u8) -> World {
        let memory = std::path::Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let directory = directory.expect("a directory");
        let network = Network::new(seed);
        let machines = (0..count).map(|at| Machine::new(&network, at, directory.path())).collect();
        World { network, machines, random: Random::new(seed), clients: None, _directory: directory }
    }

    /// A cluster of so many voters: the first was initialised, the others have joined.
    pub(crate) fn formed(seed: u64, count: u8) -> Result<World, String> {
        let mut world = World::empty(seed, count);
        {
            let first = &world.machines[0];
            let _entered = first.host.enter();
            tandem_cluster::init(first.data()).expect("it is initialised");
        }
        world.machines[0].start(Vec::new());
        world.until("the first node is there", |world| world.node(0).is_some())?;
        for at in 1..usize::from(count) {
            let node = world.node(0).expect("it runs");
            let token = world.on(0, async move { node.invite(Role::Full, WAIT).await });
            let (data, token) = (world.machines[at].data().to_owned(), token.expect("an invitation"));
            world.on(at, async move { tandem_cluster::join(&data, &token, "").await }).expect("it joins");
            world.machines[at].start(Vec::new());
        }
        world.until("all vote", World::all_vote)?;
        world.until("all hold leases", |world| world.all_hold_leases())?;
        Ok(world)
    }

    pub(crate) fn node(&self, at: usize) -> Option<Cluster> {
        self.machines[at].cluster()
    }

    /// Lets time pass everywhere.
    pub(crate) fn tick(&mut self) {
        self.network.advance(1_000 * TICK.as_millis() as u64);
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
    fn until(&mut self, what: &str, met: impl Fn(&mut World) -> bool) -> Checked {
        const LOOK: Duration = Duration::from_millis(100);
        for _ in 0..WAIT.as_millis() / LOOK.as_millis() {
            if met(self) {
                return Ok(());
            }
            self.pass(LOOK);
        }
        Err(format!("never: {what}: {}", self.describe()))
    }

    /// Has something done on a machine, while time passes. It must end by itself.
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

    /// Nodes that start from now on have clients, and those that run too.
    pub(crate) fn begin_clients(&mut self, clients: &Clients) {
        self.clients = Some(clients.clone());
        for at in 0..self.machines.len() {
            let Some(node) = self.node(at) else { continue };
            for (random, clients) in self.new_clients() {
                let client = crate::clients::Client { node: node.clone(), random, clients };
                drop(self.machines[at].spawn(client.run()));
            }
        }
    }

    fn new_clients(&mut self) -> Vec<(Random, Clients)> {
        let Some(clients) = self.clients.clone() else { return Vec::new() };
        (0..CLIENTS).map(|_| (Random::new(self.random.number()), clients.clone())).collect()
    }

    pub(crate) fn restart(&mut self, at: usize) {
        if !self.machines[at].is_up() {
            let clients = self.new_clients();
            self.machines[at].start(clients);
        }
    }

    /// Nothing comes through from one machine to another, or it does again.
    pub(crate) fn cut(&self, (from, to): (usize, usize), cut: bool) {
        self.network.cut(self.machines[from].id, self.machines[to].id, cut);
    }

    /// A node that takes itself for the leader.
    pub(crate) fn leader(&self) -> Option<usize> {
        (0..self.machines.len()).find(|at| self.node(*at).is_some_and(|node| node.seems_to_lead()))
    }

    pub(crate) fn all_hold_leases(&self) -> bool {
        self.machines.iter().all(|machine| {
            let _entered = machine.host.enter();
            machine.cluster().is_some_and(|node| node.lease().holds())
        })
    }

    /// No node says that it can't go on. One whose disk failed at its start is started again, as its supervisor would.
    pub(crate) fn no_node_failed(&mut self) -> Checked {
        for at in 0..self.machines.len() {
            match self.machines[at].failure() {
                Some(why) if why.starts_with(NOT_STARTED) && why.contains("Input/output error") => {
                    self.machines[at].kill();
                    self.restart(at);
                }
                Some(why) => return Err(format!("n{} gave up: {why}", at + 1)),
                None => {}
            }
        }
        Ok(())
    }

    /// In a line, for who looks into a failure.
    pub(crate) fn describe(&self) -> String {
        let each = self.machines.iter().map(|machine| {
            let _entered = machine.host.enter();
            let Some(node) = machine.cluster() else { return format!("n{} is down", machine.id.0) };
            let (applied, leads, holds) = (node.applied(), node.seems_to_lead(), node.lease().holds());
            format!("n{} applied {applied}, leads {leads}, holds its lease {holds}", machine.id.0)
        });
        each.collect::<Vec<_>>().join("; ")
    }

    fn all_vote(&mut self) -> bool {
        let count = self.machines.len();
        let Some(node) = self.node(0) else { return false };
        let status = self.on(0, async move { node.status().await });
        let up = status.nodes.iter().filter(|node| node.state == MemberState::Up).count();
        status.quorum && up == count && (count < 3 || status.survives.any_one_node)
    }
}
