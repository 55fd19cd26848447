//! What goes wrong, when, and when it is mended: all of it drawn from the seed.

use std::time::Duration;

use tandem_chaos::agenda::Agenda;
use tandem_chaos::world::Random;

use crate::world::World;

/// The script of a run.
pub(crate) struct Faults {
    agenda: Agenda<Happening>,
    random: Random,
    pub(crate) count: Count,
}

/// How often each thing went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) kills: usize,
    pub(crate) power_cuts: usize,
    pub(crate) stops: usize,
    pub(crate) cuts: usize,
    pub(crate) resets: usize,
    pub(crate) slow: usize,
    pub(crate) failed_syncs: usize,
    pub(crate) clocks: usize,
}

impl Count {
    pub(crate) fn add(&mut self, other: Count) {
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.stops += other.stops;
        self.cuts += other.cuts;
        self.resets += other.resets;
        self.slow += other.slow;
        self.failed_syncs += other.failed_syncs;
        self.clocks += other.clocks;
    }
}

enum Happening {
    Strike,
    Restart(usize),
    Resume(usize),
    Mend(Vec<(usize, usize)>),
    Quick,
    SyncQuick(usize),
}

const NODES: usize = 3;
/// Delays on an ordinary day.
const DELAY_US: (u64, u64) = (500, 3_000);
const SYNC: Duration = Duration::from_millis(1);
/// Clocks that drift within what leases allow for: 10 in 1,000 between any two.
const DRIFT_PPM: u64 = 4_900;

impl Faults {
    pub(crate) fn begin(seed: u64, world: &mut World) -> Faults {
        let mut faults = Faults { agenda: Agenda::new(), random: Random::new(seed), count: Count::default() };
        for machine in &world.machines {
            let drift = faults.random.between(0, 2 * DRIFT_PPM) as i64 - DRIFT_PPM as i64;
            machine.host.set_clocks(|clocks| clocks.drift_ppm = drift);
            machine.host.faults().slow_sync(SYNC);
        }
        world.network.set_delay_us(DELAY_US.0, DELAY_US.1);
        faults.agenda.enter(200, Happening::Strike);
        faults
    }

    /// Lets happen what is due at a time since the beginning.
    pub(crate) fn until(&mut self, at_ms: u64, world: &mut World) {
        while let Some(happening) = self.agenda.next(at_ms) {
            match happening {
                Happening::Strike => {
                    self.strike(world);
                    let pause = self.random.between(100, 1_800);
                    self.agenda.enter(pause, Happening::Strike);
                }
                other => self.mend(other, world),
            }
        }
    }

    /// Mends everything.
    pub(crate) fn end(&mut self, world: &mut World) {
        for from in 0..NODES {
            self.mend(Happening::Mend((0..NODES).map(|to| (from, to)).collect()), world);
            self.mend(Happening::Resume(from), world);
            self.mend(Happening::SyncQuick(from), world);
            self.mend(Happening::Restart(from), world);
            world.machines[from].host.set_clocks(|clocks| clocks.wall_ahead_ms = 0);
        }
        self.mend(Happening::Quick, world);
    }

    fn mend(&mut self, happening: Happening, world: &mut World) {
        match happening {
            Happening::Strike => {}
            Happening::Restart(at) => world.restart(at),
            Happening::Resume(at) => world.machines[at].stop(false),
            Happening::Mend(ways) => ways.into_iter().for_each(|way| world.cut(way, false)),
            Happening::Quick => world.network.set_delay_us(DELAY_US.0, DELAY_US.1),
            Happening::SyncQuick(at) => {
                world.machines[at].host.faults().slow_sync(SYNC);
            }
        }
    }

    fn strike(&mut self, world: &mut World) {
        let at = self.victim(world);
        match self.random.between(0, 99) {
            0..=14 => self.kill(at, world),
            15..=39 => self.cut_power(at, world),
            40..=42 => (0..NODES).for_each(|at| self.cut_power(at, world)),
            43..=56 => self.stop(at, world),
            57..=76 => self.cut(at, world),
            77..=84 => self.reset(at, world),
            85..=91 => self.slow(at, world),
            92..=95 => self.fail_syncs(at, world),
            _ => self.set_clock(at, world),
        }
    }

    /// Any node, the leader more often.
    fn victim(&mut self, world: &World) -> usize {
        let any = self.random.between(0, NODES as u64 - 1) as usize;
        let leads = self.random.chance(400).then(|| world.leader()).flatten();
        leads.unwrap_or(any)
    }

    fn down_for(&mut self) -> u64 {
        if self.random.chance(300) {
            self.random.between(1_500, 5_000)
        } else {
            self.random.between(1, 1_200)
        }
    }

    fn kill(&mut self, at: usize, world: &mut World) {
        self.count.kills += 1;
        world.machines[at].kill();
        let down = self.down_for();
        self.agenda.enter(down, Happening::Restart(at));
    }

    fn cut_power(&mut self, at: usize, world: &mut World) {
        self.count.power_cuts += 1;
        let torn = if self.random.chance(500) { self.random.between(0, 2_000) } else { 0 };
        world.machines[at].cut_power(torn);
        let down = self.down_for();
        self.agenda.enter(down, Happening::Restart(at));
    }

    fn stop(&mut self, at: usize, world: &mut World) {
        self.count.stops += 1;
        world.machines[at].stop(true);
        let pause = self.down_for();
        self.agenda.enter(pause, Happening::Resume(at));
    }

    /// Cuts a machine off, or one of its links, both ways or one.
    fn cut(&mut self, at: usize, world: &mut World) {
        self.count.cuts += 1;
        let all = self.random.chance(500);
        let others = (1..NODES).map(|step| (at + step) % NODES).take(if all { NODES } else { 1 });
        let kind = self.random.between(0, 3);
        let ways = others.flat_map(|other| match kind {
            0 => vec![(at, other)],
            1 => vec![(other, at)],
            _ => vec![(at, other), (other, at)],
        });
        let ways: Vec<_> = ways.collect();
        ways.iter().for_each(|way| world.cut(*way, true));
        let outlives_leases = self.random.chance(400);
        let down = if outlives_leases { self.random.between(2_500, 6_000) } else { self.down_for() };
        self.agenda.enter(down, Happening::Mend(ways));
    }

    fn reset(&mut self, at: usize, world: &World) {
        self.count.resets += 1;
        for other in (0..NODES).filter(|other| *other != at) {
            world.network.reset(world.machines[at].id, world.machines[other].id);
        }
    }

    /// The network, or a disk.
    fn slow(&mut self, at: usize, world: &World) {
        self.count.slow += 1;
        if self.random.chance(500) {
            let high = self.random.between(10_000, 200_000);
            world.network.set_delay_us(high / 10, high);
            self.agenda.enter(800, Happening::Quick);
        } else {
            let delay = Duration::from_millis(self.random.between(5, 150));
            world.machines[at].host.faults().slow_sync(delay);
            self.agenda.enter(1_500, Happening::SyncQuick(at));
        }
    }

    fn fail_syncs(&mut self, at: usize, world: &World) {
        self.count.failed_syncs += 1;
        let syncs = self.random.between(1, 3) as u32;
        world.machines[at].host.faults().fail_syncs(syncs);
    }

    /// Somebody sets a wall clock wrong.
    fn set_clock(&mut self, at: usize, world: &World) {
        self.count.clocks += 1;
        let ahead = self.random.between(0, 20_000) as i64 - 10_000;
        world.machines[at].host.set_clocks(|clocks| clocks.wall_ahead_ms = ahead);
    }
}
