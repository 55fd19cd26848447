//! Is a history of operations linearizable: is there one order of them, in which each takes effect at once at some instant
//! between its call and its answer, that explains every answer?
//!
//! The search goes over the operations that may come next (Wing and Gong, 1993) and remembers which sets of operations it has
//! tried from which state (Lowe, 2017). An operation without an answer may take effect at any instant after its call, or
//! never. Histories are checked key by key: linearizability is local.

mod binding;
mod number;

use std::collections::BTreeSet;

pub use binding::{Binding, BindingOp, BindingSaid};
pub use number::{Number, NumberOp, NumberSaid, Owner};

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

/// Looks for an order of the operations on one key.
pub fn check<M: Model>(history: &[Operation<M::Op, M::Said>]) -> Verdict {
    let mut search = Search::<M> { history, tried: BTreeSet::new(), path: vec![] };
    search.run()
}

/// Which operations are in the order so far: a bit each.
type Done = Vec<u64>;

/// One place in the order: what was done before it, in which state, and which operation was tried last.
struct Place<S> {
    done: Done,
    state: S,
    next: usize,
}

struct Search<'a, M: Model> {
    history: &'a [Operation<M::Op, M::Said>],
    tried: BTreeSet<(Done, M::State)>,
    path: Vec<Place<M::State>>,
}

impl<M: Model> Search<'_, M> {
    fn run(&mut self) -> Verdict {
        let nothing = vec![0; self.history.len().div_ceil(64)];
        self.path.push(Place { done: nothing, state: M::State::default(), next: 0 });
        for _ in 0..STEPS_MAX {
            let Some(place) = self.path.last_mut() else { return Verdict::Not };
            let at = place.next;
            place.next += 1;
            if all_answered_are_in(self.history, &place.done) {
                return Verdict::Linearizable;
            }
            if at >= self.history.len() {
                self.path.pop();
            } else if let Some(next) = followed_by::<M>(self.history, place, at)
                && self.tried.insert((next.done.clone(), next.state.clone()))
            {
                self.path.push(next);
            }
        }
        Verdict::Open
    }
}

/// The place after operation `at`, if it may come next and its answer fits.
fn followed_by<M: Model>(
    history: &[Operation<M::Op, M::Said>],
    place: &Place<M::State>,
    at: usize,
) -> Option<Place<M::State>> {
    let operation = history.get(at)?;
    if is_in(&place.done, at) || operation.called > first_answer(history, &place.done) {
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
    Some(Place { done, state, next: 0 })
}

fn is_in(done: &Done, at: usize) -> bool {
    done.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
}

/// Nothing that was called after this can come before the operation that was answered then.
fn first_answer<O, S>(history: &[Operation<O, S>], done: &Done) -> u64 {
    let open = history.iter().enumerate().filter(|(at, _)| !is_in(done, *at));
    open.filter_map(|(_, operation)| operation.answered.as_ref().map(|(at, _)| *at)).min().unwrap_or(u64::MAX)
}

fn all_answered_are_in<O, S>(history: &[Operation<O, S>], done: &Done) -> bool {
    first_answer(history, done) == u64::MAX
}

#[cfg(test)]
mod tests;
