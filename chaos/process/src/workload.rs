//! What goes on while faults come and go: phones that talk, call and register, and clients that write over the API. Each is
//! a thread that keeps what it was told; none of them asks the switch whether that is true.

mod calls;
mod registrations;
mod writes;

use crate::history::{PhonesSeen, Registration, Write};
use crate::script::Script;
use crate::world::World;
use crate::world::content::TOWN;
pub(crate) use calls::flood;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};
use tandem_phones::watch::{Sample, Watch};

/// A run of phones, and who they are.
pub(crate) struct Running<'scope> {
    seen: PhonesSeen,
    watch: Watch,
    thread: ScopedJoinHandle<'scope, std::io::Result<serde_json::Value>>,
}

/// What clients were told so far.
#[derive(Default)]
pub(crate) struct Told {
    registrations: Mutex<Vec<Registration>>,
    writes: Mutex<Vec<Write>>,
    stop: AtomicBool,
}

/// Everything that goes on.
pub(crate) struct Workload<'scope> {
    phones: Vec<Running<'scope>>,
    others: Vec<ScopedJoinHandle<'scope, ()>>,
}

/// What it all came to.
pub(crate) struct Outcome {
    /// The phones.
    pub(crate) phones: Vec<PhonesSeen>,
    /// What could not be done at all.
    pub(crate) troubles: Vec<String>,
}

/// Where phones are (see [`Place::phones`](crate::place::Place::phones)): each group of standing calls is at the host of its
/// number, from 0.
const SHORT_HOST: usize = 10;
const FLOOD_HOST: usize = 11;
const REGISTERING_HOST: usize = 12;

/// The standing calls are up within this.
const UP: Duration = Duration::from_secs(40);

impl Told {
    /// They shall end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What registering phones and clients of the API were told.
    pub(crate) fn take(self) -> (Vec<Registration>, Vec<Write>) {
        let inner = |error: PoisonError<_>| error.into_inner();
        let registrations = self.registrations.into_inner().unwrap_or_else(inner);
        (registrations, self.writes.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'scope> Workload<'scope> {
    /// Starts the standing calls and waits until all are up.
    pub(crate) fn begin<'env>(
        scope: &'scope Scope<'scope, 'env>,
        world: &'env World,
        script: &'env Script,
        clock: Instant,
    ) -> anyhow::Result<Workload<'scope>> {
        let groups = script.workload.calls.iter().enumerate();
        let phones =
            groups.map(|(number, group)| calls::standing(scope, world, script, (number, group.value), clock));
        let workload = Workload { phones: phones.collect(), others: Vec::new() };
        let deadline = Instant::now() + UP;
        while workload.up() < script.standing() {
            if Instant::now() > deadline || workload.phones.iter().any(|one| one.thread.is_finished()) {
                let why = format!("{} of {} standing calls came up", workload.up(), script.standing());
                let troubles = workload.end().troubles.join("; ");
                anyhow::bail!("{why} {troubles}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(workload)
    }

    /// Starts all the rest.
    pub(crate) fn go_on<'env>(
        &mut self,
        scope: &'scope Scope<'scope, 'env>,
        world: &'env World,
        script: &'env Script,
        told: &'env Told,
        clock: Instant,
    ) {
        if let Some(short) = script.workload.short_calls {
            self.phones.push(calls::short(scope, world, script, short, clock));
        }
        let rate = script.workload.registrations_per_second;
        if rate > 0.0 {
            let watch = Watch::since(clock);
            let shown = watch.clone();
            let thread = scope.spawn(move || registrations::keep_on(world, rate, told, (clock, shown)));
            let (what, tenant) = ("phones that register".to_owned(), TOWN.name.to_owned());
            let seen = PhonesSeen { what, tenant, ..PhonesSeen::default() };
            self.phones.push(Running { seen, watch, thread });
        }
        // A client stands still with the node that it asks: one for each node.
        let rate = script.workload.writes_per_second / 3.0;
        for client in 0..3 {
            if rate > 0.0 {
                self.others.push(scope.spawn(move || writes::keep_on(world, (client, rate), told, clock)));
            }
        }
    }

    /// One more run of phones.
    pub(crate) fn add(&mut self, running: Running<'scope>) {
        self.phones.push(running);
    }

    /// Standing calls that are up.
    fn up(&self) -> usize {
        let standing = self.phones.iter().filter(|phones| phones.seen.are_standing);
        standing.filter_map(|phones| phones.watch.last()).map(|Sample { up, .. }| up).sum()
    }

    /// Waits for the end of all.
    pub(crate) fn end(self) -> Outcome {
        let mut outcome = Outcome { phones: Vec::new(), troubles: Vec::new() };
        for Running { mut seen, watch, thread } in self.phones {
            match thread.join() {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => outcome.troubles.push(format!("{}: {error}", seen.what)),
                Err(_) => outcome.troubles.push(format!("{}: the phones panicked", seen.what)),
            }
            seen.seen = watch.seen();
            outcome.phones.push(seen);
        }
        for other in self.others {
            if other.join().is_err() {
                outcome.troubles.push("a client panicked".to_owned());
            }
        }
        outcome
    }
}
