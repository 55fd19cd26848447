//! What outlives an actor: its inbox and the machine as it stood after the last finished step.
//!
//! A ractor mailbox is unbounded and dies with its actor. A [`Slot`] holds the bounded inbox and the machine instead;
//! the actor's own mailbox only carries the word that there is something to do. When a step panics, the machine in the
//! slot is the one from before it, the input in hand is the poison, and the rest of the inbox is intact.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ractor::ActorRef;
use tandem_switching::Machine;

/// Inputs that wait for one machine at most; the next is refused.
pub(crate) const INBOX_MAX: usize = 256;

/// The word that there is something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The inbox has something.
    Inbox,
    /// The armed timer fired.
    Timer,
}

/// The inbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the inbox is full")]
pub(crate) struct InboxFull;

/// See the module.
pub(crate) struct Slot<M: Machine> {
    inbox: Mutex<VecDeque<M::Input>>,
    machine: Mutex<M>,
    in_hand: Mutex<Option<M::Input>>,
    actor: Mutex<Option<ActorRef<Wake>>>,
}

impl<M: Machine> Slot<M> {
    pub(crate) fn new(machine: M) -> Self {
        Slot {
            inbox: Mutex::default(),
            machine: Mutex::new(machine),
            in_hand: Mutex::default(),
            actor: Mutex::default(),
        }
    }

    /// Queues an input and wakes the actor; refused when [`INBOX_MAX`] wait already.
    pub(crate) fn send(&self, input: M::Input) -> Result<(), InboxFull> {
        {
            let mut inbox = lock(&self.inbox);
            if inbox.len() >= INBOX_MAX {
                metrics::counter!("tandem_inbox_refused_total").increment(1);
                return Err(InboxFull);
            }
            inbox.push_back(input);
        }
        self.wake();
        Ok(())
    }

    /// Queues the answer to something that the machine asked for: never refused, as the machine waits for it, and
    /// bounded by what it asked.
    pub(crate) fn answer(&self, input: M::Input) {
        lock(&self.inbox).push_back(input);
        self.wake();
    }

    /// Queues this in the place of all that waits, which it gives back.
    pub(crate) fn answer_instead(&self, input: M::Input) -> VecDeque<M::Input> {
        let instead = VecDeque::from([input]);
        let waited = std::mem::replace(&mut *lock(&self.inbox), instead);
        self.wake();
        waited
    }

    /// Wakes the actor if there is one; if not, its successor looks at the inbox first thing.
    pub(crate) fn wake(&self) {
        if let Some(actor) = lock(&self.actor).as_ref() {
            // A stopped actor needs no waking.
            let _ = actor.cast(Wake::Inbox);
        }
    }

    /// The machine as it stood after its last finished step.
    pub(crate) fn machine(&self) -> M {
        lock(&self.machine).clone()
    }

    /// Looks at the machine as it stood after its last finished step.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        look(&lock(&self.machine))
    }

    pub(crate) fn save(&self, machine: M) {
        *lock(&self.machine) = machine;
        *lock(&self.in_hand) = None;
    }

    /// Takes the next input in hand.
    pub(crate) fn next(&self) -> Option<M::Input> {
        let input = lock(&self.inbox).pop_front()?;
        *lock(&self.in_hand) = Some(input.clone());
        Some(input)
    }

    /// The input whose step never finished.
    pub(crate) fn take_poison(&self) -> Option<M::Input> {
        lock(&self.in_hand).take()
    }

    /// Nothing waits in the inbox.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.inbox).is_empty()
    }

    pub(crate) fn set_actor(&self, actor: ActorRef<Wake>) {
        *lock(&self.actor) = Some(actor);
    }
}

/// No step runs under these locks, so a poisoned one still guards whole data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
