//! The shared loop: message to input, run the machine, save it, carry out its outputs.
//!
//! Supervised by a `Tenant`. When it dies, nothing is lost but the step it was in: the machine and the inbox live in
//! its [`Slot`], from which a new actor goes on.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tandem_switching::{Machine, Now};
use tokio::task::JoinHandle;

use crate::slot::{Slot, Wake};

/// How a machine's outputs are carried out. Nothing in here waits: slow work is spawned, and its result comes back
/// as an input.
pub(crate) trait Ports<M: Machine>: Send + Sync + 'static {
    /// The time on both clocks.
    fn now(&self) -> Now;
    /// Carries out one output of the machine in `slot`.
    fn carry_out(&self, slot: &Arc<Slot<M>>, output: M::Output);
}

/// The actor of one machine.
pub(crate) struct MachineActor<M, P>(PhantomData<fn() -> (M, P)>);

impl<M, P> MachineActor<M, P> {
    pub(crate) fn new() -> Self {
        MachineActor(PhantomData)
    }
}

/// What the actor holds besides its slot: the ports and one timer.
pub(crate) struct Running<M: Machine, P> {
    slot: Arc<Slot<M>>,
    ports: Arc<P>,
    timer: Option<(u64, JoinHandle<()>)>,
}

impl<M: Machine, P: Ports<M>> Actor for MachineActor<M, P> {
    type Msg = Wake;
    type State = Running<M, P>;
    type Arguments = (Arc<Slot<M>>, Arc<P>);

    async fn pre_start(
        &self,
        myself: ActorRef<Wake>,
        (slot, ports): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        slot.set_actor(myself.clone());
        myself.cast(Wake::Timer)?;
        Ok(Running { slot, ports, timer: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<Wake>,
        wake: Wake,
        running: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let mut machine = running.slot.machine();
        if wake == Wake::Timer {
            running.timer = None;
            machine.handle_timeout(running.ports.now());
            running.finish_step(&mut machine);
        }
        while let Some(input) = running.slot.next() {
            machine.handle_input(running.ports.now(), input);
            running.finish_step(&mut machine);
        }
        if machine.is_finished() {
            myself.stop(None);
            return Ok(());
        }
        running.arm(&myself, machine.poll_timeout());
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Wake>,
        running: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((_, timer)) = running.timer.take() {
            timer.abort();
        }
        Ok(())
    }
}

impl<M: Machine, P: Ports<M>> Running<M, P> {
    /// Collects the outputs, saves the machine, and only then lets anything out.
    fn finish_step(&self, machine: &mut M) {
        let mut outputs = Vec::new();
        while let Some(output) = machine.poll_output() {
            outputs.push(output);
        }
        self.slot.save(machine.clone());
        for output in outputs {
            self.ports.carry_out(&self.slot, output);
        }
    }

    /// One timer at a time. A deadline that moved later is found when the earlier timer fires.
    fn arm(&mut self, myself: &ActorRef<Wake>, deadline: Option<u64>) {
        let Some(deadline) = deadline else { return };
        if let Some((armed, timer)) = &self.timer {
            if *armed <= deadline {
                return;
            }
            timer.abort();
        }
        let wait = Duration::from_millis(deadline.saturating_sub(self.ports.now().steady_ms));
        let actor = myself.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // A stopped actor needs no waking.
            let _ = actor.cast(Wake::Timer);
        });
        self.timer = Some((deadline, timer));
    }
}
