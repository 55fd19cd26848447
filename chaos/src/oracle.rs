//! Is a history of operations linearizable: is there one order of them, in which each takes effect at once at some instant
//! between its call and its answer, that explains every answer?
//!
//! The search goes over the operations that may come next (Wing and Gong, 1993) and remembers which sets of operations it has
//! tried from which state (Lowe, 2017). An operation without an answer may take effect at any instant after its call, or
//! never. Histories are checked key by key: linearizability is local.

mod binding;
mod number;
mod ownership;

use std::collections::BTreeSet;

pub use binding::{Binding, BindingOp, BindingSaid};
pub use number::{Number, NumberOp, NumberSaid, Owner};
pub use ownership::{Ownership, OwnershipOp, OwnershipSaid};

/// What the operations are on.
pub trait Model {
    /// What they change.
    type State: Clone + Ord + Default;
    /// What is asked.
    type Op;
    /// What is answered.
    type Said: PartialEq;

    /// The answer in a state, and the state after it.
    fn step(state: &Self::State, op: &Self::Op) -> (Self::State, Self::Said);
}

/// One operation as its client saw it. Times are of any one clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<O, S> {
    /// When it was called.
    pub called: u64,
    /// When its answer came, and which; `None`: no answer, or one that leaves open what was done.
    pub answered: Option<(u64, S)>,
    /// What was asked.
    pub op: O,
}

/// What the search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none: whoever answered lied.
    Not,
    /// Given up after too many steps.
    Open,
}

/// Steps of one search.
const STEPS_MAX: usize = 5_000_000;

/// Looks for an order of the operations on one key. They may come in any order; each must be answered after it was called.
pub fn check<M: Model>(history: &[Operation<M::Op, M::Said>]) -> Verdict {
    let mut history: Vec<_> = history.iter().collect();
    history.sort_by_key(|operation| operation.called);
    Search::<M> { history, tried: BTreeSet::new(), path: vec![] }.run()
}

/// Which operations are in the order so far: a bit each.
type Done = Vec<u64>;

/// One place in the order.
struct Place<S> {
    /// What was done before it.
    done: Done,
    /// The state that this came to.
    state: S,
    /// The operation to be tried next.
    next: usize,
    /// The earliest answer of all that are not done: what was called after it can't come next. `None`: all are done.
    limit: Option<u64>,
}

struct Search<'a, M: Model> {
    /// By the time of their calls.
    history: Vec<&'a Operation<M::Op, M::Said>>,
    tried: BTreeSet<(Done, M::State)>,
    path: Vec<Place<M::State>>,
}

impl<M: Model> Search<'_, M> {
    fn run(&mut self) -> Verdict {
        let nothing = vec![0; self.history.len().div_ceil(64)];
        self.path.push(self.place(nothing, M::State::default()));
        for _ in 0..STEPS_MAX {
            let Some(place) = self.path.last_mut() else { return Verdict::Not };
            let Some(limit) = place.limit else { return Verdict::Linearizable };
            let at = place.next;
            place.next += 1;
            let Some(operation) = self.history.get(at).filter(|operation| operation.called <= limit) else {
                self.path.pop();
                continue;
            };
            if let Some((done, state)) = followed_by::<M>(operation, at, place)
                && self.tried.insert((done.clone(), state.clone()))
            {
                let next = self.place(done, state);
                self.path.push(next);
            }
        }
        Verdict::Open
    }

    fn place(&self, done: Done, state: M::State) -> Place<M::State> {
        let open = || self.history.iter().enumerate().filter(|(at, _)| !is_in(&done, *at));
        let limit = open().filter_map(|(_, operation)| operation.answered.as_ref()).map(|(at, _)| *at).min();
        let next = open().map(|(at, _)| at).next().unwrap_or(self.history.len());
        Place { done, state, next, limit }
    }
}

/// What comes of an operation at a place, if it is not done yet and its answer fits.
fn followed_by<M: Model>(
    operation: &Operation<M::Op, M::Said>,
    at: usize,
    place: &Place<M::State>,
) -> Option<(Done, M::State)> {
    if is_in(&place.done, at) {
        return None;
    }
    let (state, said) = M::step(&place.state, &operation.op);
    if operation.answered.as_ref().is_some_and(|(_, answer)| *answer != said) {
        return None;
    }
    let mut done = place.done.clone();
    if let Some(word) = done.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
    Some((done, state))
}

fn is_in(done: &Done, at: usize) -> bool {
    done.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
}

#[cfg(test)]
mod tests;
