//! openraft's own tests of a log store and state machine, over ours.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tandem_state::archive::Stream;
use tandem_state::{Incarnation, NodeId};
use tempfile::TempDir;

use super::Types;
use super::log::Log;
use super::machine::Machine;
use super::snapshot::SnapshotFiles;
use crate::archive::store::ArchiveStore;
use crate::config::Timing;
use crate::disk::system;
use crate::fetch::{Fetch, Fetched};
use crate::health::Health;
use crate::shared::Shared;

struct NoPeers;

impl Fetch for NoPeers {
    fn records(&self, _: Stream, _: u64) -> Fetched<'_> {
        Box::pin(async { Vec::new() })
    }

    fn stopping(&self) -> bool {
        true
    }
}

struct Builder;

impl StoreBuilder<Types, Log, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let (disk, health) = (system(), Arc::new(Health::default()));
        let log = Log::open(&disk, &health, &dir.path().join("raft"), 512).unwrap();
        let archive = ArchiveStore::open(&disk, &health, &dir.path().join("archive"), 4096).unwrap();
        let snapshots = SnapshotFiles::open(&disk, &dir.path().join("snapshots")).unwrap();
        let shared = Arc::new(Shared::new(NodeId(1), Incarnation(1), Timing::test().terms()));
        let machine = Machine::open(archive, snapshots, shared, Arc::new(NoPeers), health).unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_own_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}
