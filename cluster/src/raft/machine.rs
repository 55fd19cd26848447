//! openraft's state machine: entries become state, archive records, a view, events and replies, in that order.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tandem_state::{Batch, Command, Refusal, State};

use super::snapshot::{SnapshotFile, SnapshotFiles};
use super::{LogId, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::archive::ArchiveError;
use crate::archive::record::STREAMS;
use crate::archive::store::{ArchiveStore, ArchiveSync};
use crate::fetch::Fetch;
use crate::health::{Health, Part};
use crate::rules;
use crate::shared::Shared;

/// The state machine; only openraft has it.
pub(crate) struct Machine {
    state: State,
    applied: Option<LogId>,
    membership: StoredMembership,
    archive: ArchiveStore,
    snapshots: SnapshotFiles,
    shared: Arc<Shared>,
    fetch: Arc<dyn Fetch>,
    health: Arc<Health>,
}

impl Machine {
    /// Starts from the newest snapshot.
    pub(crate) fn open(
        archive: ArchiveStore,
        snapshots: SnapshotFiles,
        shared: Arc<Shared>,
        fetch: Arc<dyn Fetch>,
        health: Arc<Health>,
    ) -> io::Result<Machine> {
        let mut machine = Machine {
            state: State::default(),
            applied: None,
            membership: StoredMembership::default(),
            archive,
            snapshots,
            shared,
            fetch,
            health,
        };
        if let Some(found) = machine.snapshots.newest().map_err(io::Error::other)? {
            machine.state = found.snapshot.read().map_err(io::Error::other)?.1;
            machine.applied = found.meta.last_log_id;
            machine.membership = found.meta.last_membership;
            machine.publish();
        }
        for stream in STREAMS {
            let wanted = machine.state.streams.get(&stream).copied().unwrap_or_default().count;
            machine.archive.check_reaches(stream, wanted).map_err(io::Error::other)?;
        }
        Ok(machine)
    }

    fn publish(&self) {
        self.shared.publish(&self.state, self.applied.map_or(0, |id| id.index), &self.membership);
    }

    fn apply_batch(&mut self, position: u64, batch: &Batch) -> io::Result<()> {
        self.check_rules().map_err(io::Error::other)?;
        let started = Instant::now();
        let applied = self.state.apply(position, batch);
        self.archive.append(&applied.archive).map_err(io::Error::other)?;
        self.check_archive(&applied.archive).map_err(io::Error::other)?;
        // Kept before it is published: who waits for the position finds it.
        if batch.proposals.iter().any(|proposal| proposal.command == Command::Tick) {
            self.shared.keep_for_hash(position, &self.state);
        }
        self.publish();
        metrics::counter!("tandem_raft_applied_total").increment(batch.proposals.len() as u64);
        metrics::histogram!("tandem_raft_apply_seconds").record(started.elapsed().as_secs_f64());
        self.shared.answer(position, batch, applied.outcomes);
        self.shared.feed(position, self.state.time, applied.events);
        Ok(())
    }

    /// A release that is older than the rules in force has to stop: its rules would make another state of the entry.
    fn check_rules(&self) -> Result<(), Refusal> {
        let (in_force, newest) = (self.state.apply_version, rules::newest());
        if in_force <= newest { Ok(()) } else { Err(Refusal::TooOld { in_force, newest }) }
    }

    /// What was written is what the state says it is: a replica in doubt stops.
    fn check_archive(&self, made: &[tandem_state::archive::ArchiveRecord]) -> Result<(), ArchiveError> {
        for stream in STREAMS {
            let (ours, wanted) = (self.archive.head(stream), self.state.streams.get(&stream).copied());
            let differs =
                wanted.is_some_and(|wanted| ours.count == wanted.count && ours.chain != wanted.chain);
            let behind = ours.count < wanted.unwrap_or_default().count;
            if made.iter().any(|record| record.stream == stream) && (differs || behind) {
                return Err(ArchiveError::Storage(format!(
                    "{stream:?} differ from what the state says of them"
                )));
            }
        }
        Ok(())
    }

    async fn install(&mut self, meta: &SnapshotMeta, received: SnapshotFile) -> io::Result<()> {
        let file = received.clone();
        let (_, state) = on_disk(move || file.read().map_err(io::Error::other)).await?;
        for stream in STREAMS {
            let wanted = state.streams.get(&stream).copied().unwrap_or_default();
            crate::fetch::complete(&*self.fetch, &mut self.archive, stream, wanted)
                .await
                .map_err(io::Error::other)?;
        }
        self.archive.sync_handle().sync().await.map_err(io::Error::other)?;
        let (files, stored, health) = (self.snapshots.clone(), meta.clone(), Arc::clone(&self.health));
        on_disk(move || {
            let keep = || files.keep(&stored, &received);
            health.persist(Part::Snapshots, keep).map_err(io::Error::other)
        })
        .await?;
        self.shared.fetches(None);
        self.state = state;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish();
        self.shared.installed(&self.state);
        metrics::counter!("tandem_raft_snapshots_installed_total").increment(1);
        tracing::info!(position = self.applied.map_or(0, |id| id.index), "installed a snapshot");
        Ok(())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => self.publish(),
                EntryPayload::Normal(batch) => {
                    self.apply_batch(entry.log_id.index, &batch.0)?;
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    self.publish();
                }
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            state: self.state.clone(),
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() },
            archive: self.archive.sync_handle(),
            files: self.snapshots.clone(),
            health: Arc::clone(&self.health),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        self.install(meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let files = self.snapshots.clone();
        on_disk(move || files.newest().map_err(io::Error::other)).await
    }
}

/// Builds a snapshot of the state as it was, while apply goes on.
pub(crate) struct Builder {
    state: State,
    meta: SnapshotMeta,
    archive: ArchiveSync,
    files: SnapshotFiles,
    health: Arc<Health>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        // The log is purged up to a snapshot: by then the archive's records of those entries must be durable.
        self.archive.sync().await.map_err(io::Error::other)?;
        let (state, meta, files) = (self.state.clone(), self.meta.clone(), self.files.clone());
        let health = Arc::clone(&self.health);
        let started = Instant::now();
        let snapshot = on_disk(move || {
            health.persist(Part::Snapshots, || files.store(&meta, &state)).map_err(io::Error::other)
        })
        .await?;
        metrics::histogram!("tandem_raft_snapshot_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("tandem_raft_snapshots_built_total").increment(1);
        metrics::gauge!("tandem_raft_snapshot_bytes").set(snapshot.snapshot.bytes as f64);
        Ok(snapshot)
    }
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}
