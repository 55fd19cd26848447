//! A node's replica: the real state, the snapshot and archive that outlive a crash.

use tandem_state::archive::{ArchiveRecord, Stream};
use tandem_state::{Applied, Batch, State};

use super::mutant::Mutant;

/// One replica.
#[derive(Debug)]
pub struct Replica {
    /// In memory; gone with the process.
    pub state: State,
    /// On disk.
    pub snapshot: Vec<u8>,
    /// On disk: each stream's records.
    pub archive: [Vec<ArchiveRecord>; 3],
    mutant: Mutant,
    number: u64,
}

impl Replica {
    /// The replica of a node's first start.
    pub fn new(number: u64, mutant: Mutant) -> Self {
        let state = State::default();
        let snapshot = state.encode_snapshot();
        Replica { state, snapshot, archive: Default::default(), mutant, number }
    }

    /// Applies the next entry. An error says what was found broken on the way.
    pub fn apply(&mut self, batch: &Batch) -> Result<Applied, (&'static str, String)> {
        let (position, time) = (self.state.position + 1, self.state.time);
        self.mutant.before_apply(&mut self.state, self.number, batch);
        let applied = self.state.apply_unchecked(position, batch);
        self.mutant.after_apply(&mut self.state);
        if self.state.time < time {
            let what = format!("position {position} goes from {time:?} to {:?}", self.state.time);
            return Err(("time never goes back", what));
        }
        if position.is_multiple_of(16) {
            self.check()?;
        }
        for record in &applied.archive {
            self.keep(record)?;
        }
        Ok(applied)
    }

    /// Checks the state's own invariants.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        self.state.check_invariants().map_err(|broken| ("invariants of the state", broken.to_string()))
    }

    /// Puts a record in its place; one that is there already, from before a restart, must be the same.
    fn keep(&mut self, record: &ArchiveRecord) -> Result<(), (&'static str, String)> {
        let stream = stream_of(&mut self.archive, record.stream);
        let at = usize::try_from(record.seq).unwrap_or(usize::MAX);
        match stream.get(at) {
            Some(kept) if kept == record => Ok(()),
            None if at == stream.len() => {
                stream.push(record.clone());
                Ok(())
            }
            Some(_) | None => {
                let what =
                    format!("record {} of {:?} at position {}", record.seq, record.stream, record.position);
                Err(("archives are equal and chained", what))
            }
        }
    }

    /// Writes the snapshot.
    pub fn save(&mut self) {
        self.snapshot = self.state.encode_snapshot();
    }

    /// Takes over another replica's snapshot with its archive, as one that is too far behind the log does.
    pub fn install(&mut self, snapshot: Vec<u8>, archive: [Vec<ArchiveRecord>; 3]) {
        self.snapshot = snapshot;
        self.archive = archive;
    }

    /// A new process reads what the old one left.
    pub fn restart(&mut self) -> Result<(), (&'static str, String)> {
        let read = State::decode_snapshot(&self.snapshot);
        self.state = read.map_err(|e| ("a snapshot is read back", e.to_string()))?;
        self.mutant.after_restart(&mut self.state);
        Ok(())
    }

    /// The records of a stream.
    pub fn stream(&self, stream: Stream) -> &[ArchiveRecord] {
        let [cdrs, events, audit] = &self.archive;
        match stream {
            Stream::Cdrs => cdrs,
            Stream::Events => events,
            Stream::Audit => audit,
        }
    }
}

fn stream_of(archive: &mut [Vec<ArchiveRecord>; 3], stream: Stream) -> &mut Vec<ArchiveRecord> {
    let [cdrs, events, audit] = archive;
    match stream {
        Stream::Cdrs => cdrs,
        Stream::Events => events,
        Stream::Audit => audit,
    }
}
