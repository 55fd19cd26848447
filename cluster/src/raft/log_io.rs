//! The log's own thread: it merges what comes while an earlier sync is under way, and acknowledges after the sync.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::storage::IOFlushed;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::index::LogIndex;
use super::{Entry, LogId, Payload, Types, Vote};
use crate::health::{Health, Part};
use crate::segment::{Location, SegmentError, Segments};
use crate::thread::Worker;

/// What the log's files hold. A `Head` begins each file, so that older files can go.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum LogRecord {
    Head(Head),
    Vote(Vote),
    Entry(LogId, Payload),
    Truncate(Option<LogId>),
    Purge(LogId),
    Committed(Option<LogId>),
}

/// What later files would need of earlier ones.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
}

/// What the thread is asked.
pub(crate) enum Ask {
    Append { first_ticket: u64, entries: Vec<Entry>, done: IOFlushed<Types> },
    Vote(Vote, oneshot::Sender<io::Result<()>>),
    Truncate(Option<LogId>, oneshot::Sender<io::Result<()>>),
    Purge(LogId, oneshot::Sender<io::Result<()>>),
    Stop(oneshot::Sender<()>),
}

enum Done {
    Flushed(IOFlushed<Types>),
    Told(oneshot::Sender<io::Result<()>>),
}

impl Done {
    fn tell(self, failed: Option<&str>) {
        let result = || failed.map_or(Ok(()), |why| Err(io::Error::other(why.to_owned())));
        match self {
            Done::Flushed(callback) => callback.io_completed(result()),
            Done::Told(tell) => drop(tell.send(result())),
        }
    }
}

pub(crate) struct LogIo {
    pub(crate) segments: Segments,
    pub(crate) head: Head,
    pub(crate) index: Arc<Mutex<LogIndex>>,
    pub(crate) asks: Receiver<Ask>,
    pub(crate) health: Arc<Health>,
}

struct Round {
    started: Instant,
    located: Vec<(u64, u64, Location)>,
    done: Vec<Done>,
    purged: bool,
    stop: Option<oneshot::Sender<()>>,
}

impl Round {
    fn new() -> Round {
        Round { started: Instant::now(), located: Vec::new(), done: Vec::new(), purged: false, stop: None }
    }
}

/// Asks merged into one sync at most.
const MERGE_MAX: usize = 1024;
/// After so long without work a durable mark is left.
const IDLE: Duration = Duration::from_millis(100);

impl Worker for LogIo {
    const NAME: &'static str = "raft-log";

    /// Serves until told to stop, or until the log store is dropped.
    fn run(mut self) {
        let mut failed: Option<String> = None;
        loop {
            let first = match self.asks.recv_timeout(IDLE) {
                Ok(ask) => ask,
                Err(RecvTimeoutError::Timeout) => {
                    if failed.is_none() {
                        failed = self.idle().err().map(|e| e.to_string());
                    }
                    match self.asks.recv() {
                        Ok(ask) => ask,
                        Err(_) => return,
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut asks = vec![first];
            asks.extend(self.asks.try_iter().take(MERGE_MAX));
            let round = self.begin(asks, &mut failed);
            if let Some(stopped) = self.end(round, &mut failed) {
                drop(self);
                let _ = stopped.send(());
                return;
            }
        }
    }

    /// Each round's bytes are written a while before they are synced, so that a power cut may come between.
    #[cfg(feature = "faults")]
    async fn simulate(mut self) {
        const LOOK: Duration = Duration::from_millis(1);
        let mut failed: Option<String> = None;
        let mut idle = Duration::ZERO;
        loop {
            let asks: Vec<Ask> = self.asks.try_iter().take(MERGE_MAX).collect();
            if asks.is_empty() {
                idle += LOOK;
                if idle == IDLE && failed.is_none() {
                    failed = self.idle().err().map(|e| e.to_string());
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            idle = Duration::ZERO;
            let round = self.begin(asks, &mut failed);
            if failed.is_none() {
                failed = self.segments.write().err().map(|e| e.to_string());
            }
            crate::sim::sync_takes_time().await;
            if let Some(stopped) = self.end(round, &mut failed) {
                drop(self);
                let _ = stopped.send(());
                return;
            }
        }
    }
}

impl LogIo {
    /// Puts what is asked into the file's bytes.
    fn begin(&mut self, asks: Vec<Ask>, failed: &mut Option<String>) -> Round {
        let mut round = Round::new();
        if failed.is_none() {
            *failed = self.roll_when_full().err().map(|e| e.to_string());
        }
        for ask in asks {
            if let Ask::Stop(stopped) = ask {
                round.stop = Some(stopped);
            } else if let Err(error) = self.carry_out(ask, &mut round, failed.is_some()) {
                *failed = Some(error.to_string());
            }
        }
        round
    }

    /// Syncs them, and tells who asked.
    fn end(&mut self, mut round: Round, failed: &mut Option<String>) -> Option<oneshot::Sender<()>> {
        if failed.is_none() {
            let needs_sync = !round.done.is_empty();
            let written = if needs_sync { self.put_committed().and_then(|()| self.flush()) } else { Ok(()) };
            match written.and_then(|()| self.after_sync(&mut round)) {
                Ok(()) if needs_sync => {
                    metrics::histogram!("tandem_raft_log_sync_seconds")
                        .record(round.started.elapsed().as_secs_f64());
                    metrics::histogram!("tandem_raft_log_merged").record(round.done.len() as f64);
                }
                Ok(()) => {}
                Err(error) => *failed = Some(error.to_string()),
            }
        }
        if let Some(why) = failed.as_deref() {
            tracing::error!(why, "the raft log can't be written");
        }
        for done in round.done {
            done.tell(failed.as_deref());
        }
        round.stop
    }

    fn carry_out(&mut self, ask: Ask, round: &mut Round, failed: bool) -> Result<(), SegmentError> {
        match ask {
            Ask::Append { first_ticket, entries, done } => {
                round.done.push(Done::Flushed(done));
                if failed {
                    return Ok(());
                }
                for (entry, ticket) in entries.into_iter().zip(first_ticket..) {
                    let location = self.put(&LogRecord::Entry(entry.log_id, entry.payload))?;
                    round.located.push((entry.log_id.index, ticket, location));
                }
                Ok(())
            }
            Ask::Vote(vote, told) => {
                round.done.push(Done::Told(told));
                self.head.vote = Some(vote);
                self.put(&LogRecord::Vote(vote)).map(drop)
            }
            Ask::Truncate(after, told) => {
                round.done.push(Done::Told(told));
                self.put(&LogRecord::Truncate(after)).map(drop)
            }
            Ask::Purge(upto, told) => {
                round.done.push(Done::Told(told));
                round.purged = true;
                self.head.purged = Some(upto);
                self.put(&LogRecord::Purge(upto)).map(drop)
            }
            Ask::Stop(_) => Ok(()),
        }
    }

    /// How far the log is committed rides along with the next sync, or is noted when nothing else comes.
    fn put_committed(&mut self) -> Result<(), SegmentError> {
        let committed = self.index.lock().unwrap_or_else(PoisonError::into_inner).committed;
        if committed != self.head.committed {
            self.head.committed = committed;
            self.put(&LogRecord::Committed(committed))?;
        }
        Ok(())
    }

    /// What can't be written now is written with the next round.
    fn idle(&mut self) -> Result<(), SegmentError> {
        self.put_committed()?;
        let segments = &mut self.segments;
        let left = segments.write().and_then(|()| segments.mark());
        left.or_else(|error| if matches!(error, SegmentError::Io { .. }) { Ok(()) } else { Err(error) })
    }

    fn put(&mut self, record: &LogRecord) -> Result<Location, SegmentError> {
        self.segments.append(&encode(record)?)
    }

    /// Between two rounds: a record's file is known when it is taken.
    fn roll_when_full(&mut self) -> Result<(), SegmentError> {
        if !self.segments.full() {
            return Ok(());
        }
        let segments = &mut self.segments;
        self.health.persist(Part::Log, || segments.roll())?;
        self.put(&LogRecord::Head(self.head.clone())).map(drop)
    }

    /// Nothing of a round is acknowledged before this.
    fn flush(&mut self) -> Result<(), SegmentError> {
        let (segments, health) = (&mut self.segments, &self.health);
        health.persist(Part::Log, || {
            health.flush_begins();
            let flushed = segments.sync();
            health.flush_ended();
            flushed
        })
    }

    /// Records that went to a new file stand there now; and that file needs a head before older ones may go.
    fn follow_moves(&mut self, round: &mut Round) -> Result<(), SegmentError> {
        loop {
            let moves = self.segments.take_moved();
            if moves.is_empty() {
                return Ok(());
            }
            for (_, _, location) in &mut round.located {
                *location = moves.iter().fold(*location, |at, moved| moved.follow(at));
            }
            self.put(&LogRecord::Head(self.head.clone()))?;
            self.flush()?;
        }
    }

    fn after_sync(&mut self, round: &mut Round) -> Result<(), SegmentError> {
        self.follow_moves(round)?;
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, ticket, location) in &round.located {
            index.located(*at, *ticket, *location);
        }
        let oldest = if index.is_empty() { Some(self.segments.next()) } else { index.oldest_segment() };
        drop(index);
        match oldest.filter(|_| round.purged) {
            // What can't be removed now is removed with the next purge, or never missed.
            Some(segment) => self.segments.remove_below(segment).or_else(|error| {
                tracing::warn!(%error, "an old file of the log stays for now");
                Ok(())
            }),
            None => Ok(()),
        }
    }
}

fn encode(record: &LogRecord) -> Result<Vec<u8>, SegmentError> {
    postcard::to_stdvec(record).map_err(|e| SegmentError::Stopped(e.to_string()))
}
