//! Bringing a node up in order, and down again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use openraft::{BasicNode, Config, SnapshotPolicy};
use tandem_state::{Incarnation, NodeEpoch, NodeRecord};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::StartError;
use crate::acquaintances::Acquaintances;
use crate::archive::store::{ArchiveStore, ArchiveSync};
use crate::config::{NodeConfig, Timing};
use crate::disk::Disk;
use crate::election::{self, Observed};
use crate::fetch::Fetch;
use crate::health::Health;
use crate::identity::{self, DirectoryLock, Identity, IdentityError, raise_incarnation};
use crate::invitation::Invitations;
use crate::lease::{self, LANE_MAX, Lanes};
use crate::lost::{self, Forks};
use crate::net::{FORMER_WAIT, Listener, bound};
use crate::node::{Node, PeerFetch, follow_addresses};
use crate::propose::Proposer;
use crate::quorum::Heard;
use crate::raft::Raft;
use crate::raft::log::Log;
use crate::raft::machine::Machine;
use crate::raft::network::Network;
use crate::raft::snapshot::SnapshotFiles;
use crate::rpc::client::{Caller, Peers};
use crate::rpc::handshake::{Client, Start, random_number};
use crate::rpc::server::serve;
use crate::secrets::{Secrets, SecretsError, was_removed};
use crate::segment::SegmentError;
use crate::shared::Shared;
use crate::{abdicate, keys, leader, member, propose, renewal, rules};

/// A node that was started.
pub(crate) struct Running {
    pub(crate) node: Arc<Node>,
    pub(crate) address: SocketAddr,
    log: Log,
    archive: ArchiveSync,
    lock: Mutex<Option<DirectoryLock>>,
    #[cfg(feature = "faults")]
    pub(crate) faults: crate::disk::faults::Faults,
}

/// The disk that the stores write to.
struct Storage {
    disk: Arc<dyn Disk>,
    health: Arc<Health>,
}

struct Stores {
    log: Log,
    archive: ArchiveStore,
    snapshots: SnapshotFiles,
}

pub(crate) async fn start(config: NodeConfig) -> Result<Running, StartError> {
    config.timing.terms().check()?;
    let data = &config.data.clone();
    if !identity::exists(data) {
        return Err(StartError::NotPrepared(data.display().to_string()));
    }
    if was_removed(data) {
        return Err(StartError::Removed(data.display().to_string()));
    }
    let lock = take_lock(data).await?;
    let identity = Identity::load(data)?;
    let secrets = Arc::new(Secrets::open(data, identity.cluster, identity.node)?);
    renewal::at_start(&secrets, config.timing.certificate)?;
    let listen_error = |source| StartError::Listen { address: config.listen, source };
    let listener = bound(|| Listener::bind(config.listen)).await.map_err(listen_error)?;
    let address = listener.address().map_err(listen_error)?;
    #[cfg(feature = "faults")]
    let faults = crate::sim::disk_faults().unwrap_or_default();
    #[cfg(feature = "faults")]
    let disk = faults.disk();
    #[cfg(not(feature = "faults"))]
    let disk = crate::disk::system();
    let storage = Storage { disk, health: Arc::default() };
    let health = Arc::clone(&storage.health);
    let stores = open_stores(data, config.timing, storage).await?;
    // After its log was made: of a node that ever ran there is one.
    let incarnation = raise_incarnation(data, &lock)?;
    let record = record(&config, &identity, incarnation, address);

    let stop = watch::Sender::new(false);
    let shared = Arc::new(Shared::new(identity.node, incarnation, config.timing.terms()));
    let acquaintances = Arc::new(Acquaintances::new(Arc::clone(&shared)));
    let (term, position) = stores.log.end();
    let start = Start { incarnation, process: drawn(data)?, term, position };
    let condemned = watch::Sender::new(None);
    let condemned_too = condemned.subscribe();
    let caller = Caller {
        introduction: introduction(&identity, start, &record),
        condemned,
        secrets: Arc::clone(&secrets),
        acquaintances: Arc::clone(&acquaintances),
    };
    let peers = Arc::new(Peers::new(caller, stop.subscribe()));
    for (member, address) in &identity.members {
        peers.set_address(*member, address);
    }
    let (proposer, numbers) = Proposer::new(config.timing.proposals_max);
    let (submissions, gathered) = mpsc::channel(1024);
    let (lease_lane, leases) = mpsc::channel(LANE_MAX);
    let node = Arc::new(Node {
        record,
        timing: config.timing,
        data: config.data,
        shared: Arc::clone(&shared),
        health,
        peers: Arc::clone(&peers),
        raft: OnceLock::new(),
        archive: stores.archive.reader(),
        proposer,
        submissions,
        lease_lane,
        invitations: Invitations::default(),
        handler: RwLock::default(),
        incoming: Mutex::default(),
        snapshots: stores.snapshots.clone(),
        heard: Heard::never(),
        observed: Observed::default(),
        acquaintances,
        forks: Forks::default(),
        secrets: Arc::clone(&secrets),
        start,
        log: stores.log.clone(),
        condemned: condemned_too,
        removed: watch::Sender::new(Vec::new()),
        stop,
        identity,
    });
    let (archive, log) = (stores.archive.sync_handle(), stores.log.clone());
    let raft = start_raft(&node, stores).await?;
    let _ = node.raft.set(raft);
    begin_cluster(&node).await?;

    let until = || node.stop.subscribe();
    let serving = tokio::spawn(serve(listener, Arc::clone(&node), secrets, until()));
    // Nobody could reach a node without it, and nobody would know that it is gone.
    tokio::spawn(async move {
        if serving.await.is_err_and(|error| error.is_panic()) {
            std::process::abort();
        }
    });
    spawn_until(until(), leader::gather(Arc::clone(&node), Lanes { leases, submissions: gathered }));
    spawn_until(until(), leader::tend(Arc::clone(&node)));
    spawn_until(until(), abdicate::tend(Arc::clone(&node)));
    spawn_until(until(), lease::tend(Arc::clone(&node)));
    spawn_until(until(), lease::leave_when_superseded(Arc::clone(&node)));
    spawn_until(until(), election::watch(Arc::clone(&node)));
    spawn_until(until(), propose::forward(Arc::clone(&node), numbers));
    spawn_until(until(), follow_addresses(Arc::clone(&node)));
    spawn_until(until(), member::announce(Arc::clone(&node)));
    spawn_until(until(), member::tend(Arc::clone(&node)));
    spawn_until(until(), renewal::tend(Arc::clone(&node)));
    spawn_until(until(), keys::tend(Arc::clone(&node)));
    spawn_until(until(), lost::look(Arc::clone(&node)));
    tracing::info!(node = %node.id(), incarnation = incarnation.0, %address, "node started");
    Ok(Running {
        node,
        address,
        log,
        archive,
        lock: Mutex::new(Some(lock)),
        #[cfg(feature = "faults")]
        faults,
    })
}

impl Running {
    pub(crate) async fn shutdown(&self) {
        if *self.node.stop.borrow() {
            return;
        }
        self.node.take_leave().await;
        if self.node.stop.send_replace(true) {
            return;
        }
        self.node.health.stop();
        if let Err(error) = self.node.raft().shutdown().await {
            tracing::warn!(%error, "raft did not stop in order");
        }
        self.log.close().await;
        self.archive.close().await;
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        tracing::info!(node = %self.node.id(), "node stopped");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.node.health.stop();
        self.node.stop.send_replace(true);
    }
}

fn spawn_until(mut stop: watch::Receiver<bool>, work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
}

/// A number for this process.
fn drawn(data: &Path) -> Result<u64, StartError> {
    random_number().map_err(|source| StartError::Io { path: data.display().to_string(), source })
}

async fn take_lock(data: &Path) -> Result<DirectoryLock, StartError> {
    let deadline = Instant::now() + FORMER_WAIT;
    loop {
        if let Some(lock) = DirectoryLock::take(data)? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            return Err(StartError::InUse(data.display().to_string()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn open_stores(data: &Path, timing: Timing, storage: Storage) -> Result<Stores, StartError> {
    let data = data.to_owned();
    let open = move || {
        let Storage { disk, health } = storage;
        let damaged = |e: SegmentError| StartError::from(e);
        let bytes = timing.segment_bytes;
        Ok(Stores {
            log: Log::of_node(&disk, &health, &data, bytes).map_err(damaged)?,
            archive: ArchiveStore::open(&disk, &health, &data.join("archive"), bytes)
                .map_err(|e| StartError::Damaged(e.to_string()))?,
            snapshots: SnapshotFiles::open(&disk, &data.join("snapshots")).map_err(damaged)?,
        })
    };
    tokio::task::spawn_blocking(open).await.map_err(|e| StartError::Damaged(e.to_string()))?
}

fn record(
    config: &NodeConfig,
    identity: &Identity,
    incarnation: Incarnation,
    address: SocketAddr,
) -> NodeRecord {
    let advertised = !config.advertise.is_empty();
    NodeRecord {
        id: identity.node,
        name: config.name.clone(),
        site: config.site.clone(),
        role: identity.role,
        incarnation,
        epoch: NodeEpoch(1),
        cluster_address: if advertised { config.advertise.clone() } else { address.to_string() },
        sip_advertise: config.sip_advertise.clone(),
        api_url: config.api_url.clone(),
        version: config.version.clone(),
        apply_version: rules::newest(),
    }
}

fn introduction(identity: &Identity, start: Start, record: &NodeRecord) -> Client {
    Client {
        cluster: identity.cluster,
        generation: identity.generation,
        fork: identity.fork,
        node: identity.node,
        start,
        address: record.cluster_address.clone(),
        name: record.name.clone(),
    }
}

async fn start_raft(node: &Arc<Node>, stores: Stores) -> Result<Raft, StartError> {
    let raft_error = |e: &dyn std::fmt::Display| StartError::Raft(e.to_string());
    let fetch: Arc<dyn Fetch> = Arc::new(PeerFetch {
        peers: Arc::clone(&node.peers),
        shared: Arc::clone(&node.shared),
        known: node.identity.members.iter().map(|(id, _)| *id).collect(),
        stop: node.stop.subscribe(),
    });
    let (shared, health) = (Arc::clone(&node.shared), Arc::clone(&node.health));
    stores.snapshots.check_covers(stores.log.begins_after())?;
    let machine = Machine::open(stores.archive, stores.snapshots, shared, fetch, health)
        .map_err(|e| StartError::Damaged(e.to_string()))?;
    let config = raft_config(node.identity.cluster.to_string(), node.timing);
    let config = Arc::new(config.validate().map_err(|e| raft_error(&e))?);
    let part_bytes = node.timing.snapshot_part_bytes;
    let network = Network { peers: Arc::clone(&node.peers), part_bytes };
    Raft::new(node.id().0, config, network, stores.log, machine).await.map_err(|e| raft_error(&e))
}

fn raft_config(cluster_name: String, timing: Timing) -> Config {
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name,
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: ms(timing.election_min),
        election_timeout_max: ms(timing.election_max),
        // Installing may have to fetch archive records first.
        install_snapshot_timeout: 600_000,
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(timing.snapshot_after),
        max_in_snapshot_log_to_keep: timing.log_keep,
        replication_lag_threshold: timing.snapshot_after * 2,
        purge_batch_size: 16,
        enable_pre_vote: Some(true),
        // A restarted leader stands for election like anybody: how far it had committed is not synced.
        enable_leader_restore: Some(false),
        backoff: "50ms 100ms 200ms ..400ms".to_owned(),
        ..Config::default()
    }
}

/// The node that `init` made begins the cluster with itself.
async fn begin_cluster(node: &Node) -> Result<(), StartError> {
    let raft_error = |e: &dyn std::fmt::Display| StartError::Raft(e.to_string());
    if !node.identity.first || node.raft().is_initialized().await.map_err(|e| raft_error(&e))? {
        return Ok(());
    }
    let me = BasicNode::new(node.record.cluster_address.clone());
    node.raft().initialize(BTreeMap::from([(node.id().0, me)])).await.map_err(|e| raft_error(&e))
}

impl From<IdentityError> for StartError {
    fn from(error: IdentityError) -> StartError {
        match error {
            IdentityError::File(error) => error.into(),
            IdentityError::Copied(path) => StartError::Copied(path),
        }
    }
}

impl From<SecretsError> for StartError {
    fn from(error: SecretsError) -> StartError {
        match error {
            SecretsError::File(error) => error.into(),
            SecretsError::Certificate(error) => StartError::Damaged(format!("secrets.json: {error}")),
            error @ (SecretsError::Open { .. } | SecretsError::NotOwn { .. }) => {
                StartError::Secrets(error.to_string())
            }
        }
    }
}

impl From<SegmentError> for StartError {
    fn from(error: SegmentError) -> StartError {
        match error {
            SegmentError::Io { path, source } => StartError::Io { path: path.display().to_string(), source },
            other => StartError::Damaged(other.to_string()),
        }
    }
}
