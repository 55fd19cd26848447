//! The way from apply to the archive's thread: bounded, and lazy.
//!
//! Nothing waits for a record but readers, so the thread is not woken for each: it lets records gather for
//! [`GATHER`], and is hurried by a reader, a sync, or a queue that fills up.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::store::Written;

/// See the module.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    work: Condvar,
    room: Condvar,
    /// [`Queue::work`] for a task.
    #[cfg(feature = "faults")]
    hurried: tokio::sync::Notify,
}

#[derive(Default)]
struct Waiting {
    round: Round,
    urgent: bool,
    closed: bool,
}

/// What the thread takes at once.
#[derive(Default)]
pub(crate) struct Round {
    /// What each log entry made, in order.
    pub(crate) appends: Vec<Vec<Written>>,
    /// Who wants to hear that all of it is durable.
    pub(crate) syncs: Vec<oneshot::Sender<Result<(), String>>>,
    /// Who waits for the thread's end.
    pub(crate) stop: Option<oneshot::Sender<()>>,
}

/// The thread has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// How long records gather.
const GATHER: Duration = Duration::from_millis(200);
/// Entries' records that are worth a round of their own.
const ENOUGH: usize = 512;
/// Entries' records that may wait for the disk before apply waits too.
const WAITING_MAX: usize = 4096;

impl Queue {
    /// Adds what one entry made; waits while the queue is full.
    pub(crate) fn push(&self, written: Vec<Written>) -> Result<(), Closed> {
        let full = |waiting: &mut Waiting| waiting.round.appends.len() >= WAITING_MAX && !waiting.closed;
        let waiting = self.room.wait_while(self.lock(), full);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return Err(Closed);
        }
        let was_empty = waiting.round.is_empty();
        waiting.round.appends.push(written);
        waiting.urgent |= waiting.round.appends.len() >= ENOUGH;
        if was_empty || waiting.urgent {
            self.wake();
        }
        Ok(())
    }

    /// Asks for everything so far to be made durable.
    pub(crate) fn sync(&self, tell: oneshot::Sender<Result<(), String>>) -> Result<(), Closed> {
        self.ask(|round| round.syncs.push(tell))
    }

    /// Asks the thread to end.
    pub(crate) fn stop(&self, tell: oneshot::Sender<()>) -> Result<(), Closed> {
        self.ask(|round| round.stop = Some(tell))
    }

    fn ask(&self, ask: impl FnOnce(&mut Round)) -> Result<(), Closed> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Closed);
        }
        ask(&mut waiting.round);
        waiting.urgent = true;
        self.wake();
        Ok(())
    }

    /// Somebody waits for what is in here.
    pub(crate) fn hurry(&self) {
        let mut waiting = self.lock();
        if !waiting.round.is_empty() {
            waiting.urgent = true;
            self.wake();
        }
    }

    fn wake(&self) {
        self.work.notify_one();
        #[cfg(feature = "faults")]
        self.hurried.notify_one();
    }

    /// The side of a task: returns when there may be a round's worth of work.
    #[cfg(feature = "faults")]
    pub(crate) async fn gathered(&self) {
        let hurry = async {
            while !self.lock().urgent {
                self.hurried.notified().await;
            }
        };
        let _ = tokio::time::timeout(GATHER, hurry).await;
    }

    /// The thread's side: waits for a round's worth of work.
    pub(crate) fn take(&self) -> Round {
        let waiting = self.work.wait_while(self.lock(), |waiting| waiting.round.is_empty());
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.work.wait_timeout_while(waiting, GATHER, |waiting| !waiting.urgent);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        waiting.urgent = false;
        self.room.notify_all();
        std::mem::take(&mut waiting.round)
    }

    /// What there is, after at most this long.
    pub(crate) fn take_within(&self, patience: Duration) -> Round {
        let waited = self.work.wait_timeout_while(self.lock(), patience, |waiting| waiting.round.is_empty());
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        waiting.urgent = false;
        self.room.notify_all();
        std::mem::take(&mut waiting.round)
    }

    /// The thread ends: nobody is taken any more, and nobody is left waiting.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.round = Round::default();
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Round {
    fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.syncs.is_empty() && self.stop.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_asked_for_is_taken_at_once_with_everything_before_it() {
        let queue = Queue::default();
        queue.push(Vec::new()).unwrap();
        queue.push(Vec::new()).unwrap();
        let (tell, _told) = oneshot::channel();
        queue.sync(tell).unwrap();
        let round = queue.take();
        assert_eq!((round.appends.len(), round.syncs.len(), round.stop.is_some()), (2, 1, false));
    }

    #[test]
    fn a_full_queue_makes_apply_wait_and_a_closed_one_refuses() {
        let queue = Arc::new(Queue::default());
        for _ in 0..WAITING_MAX {
            queue.push(Vec::new()).unwrap();
        }
        let late = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push(Vec::new())
        });
        assert_eq!(queue.take().appends.len(), WAITING_MAX);
        assert_eq!(late.join().unwrap(), Ok(()));
        queue.close();
        assert_eq!(queue.push(Vec::new()), Err(Closed));
        let (tell, told) = oneshot::channel();
        assert_eq!(queue.sync(tell), Err(Closed));
        assert!(told.blocking_recv().is_err());
    }
}
