//! A small cluster in this process, and the commands that tests propose.

mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_cluster::{Cluster, Committed, NodeConfig, PeerFuture, PeerHandler, StartError, Timing};
use tandem_state::config::{ConfigChange, Digests, Extension, Limits, TenantConfig};
use tandem_state::tables::NEWEST_APPLY_VERSION;
use tandem_state::*;
use tempfile::TempDir;
pub(crate) use wire::Wire;

pub(crate) struct World {
    dirs: Vec<TempDir>,
    nodes: Vec<Option<Cluster>>,
    addresses: Vec<SocketAddr>,
    pub(crate) timing: [Timing; 3],
}

fn timing() -> Timing {
    Timing { propose_deadline: Duration::from_secs(8), ..Timing::test() }
}

const FREE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const WAIT: Duration = Duration::from_secs(20);

fn config(at: usize, data: &Path, listen: SocketAddr, timing: Timing) -> NodeConfig {
    let site = if at < 2 { "east".into() } else { "west".into() };
    NodeConfig { site, listen, timing, ..NodeConfig::test(format!("n{}", at + 1), data) }
}

impl World {
    /// Three voters: one that was initialised, two that joined.
    pub(crate) async fn three() -> World {
        World::of(3).await
    }

    /// A cluster of one node.
    pub(crate) async fn one() -> World {
        World::of(1).await
    }

    async fn of(count: usize) -> World {
        let mut world =
            World { dirs: Vec::new(), nodes: Vec::new(), addresses: Vec::new(), timing: [timing(); 3] };
        for at in 0..count {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path().join("data");
            if at == 0 {
                tandem_cluster::init(&data).unwrap();
            } else {
                let token = world.node(0).invite(Role::Full, Duration::from_secs(60)).await.unwrap();
                tandem_cluster::join(&data, &token, "").await.unwrap();
            }
            let node = Cluster::start(config(at, &data, FREE, timing())).await.unwrap();
            world.addresses.push(node.address());
            world.nodes.push(Some(node));
            world.dirs.push(dir);
        }
        world
            .until("all are heard of", |world| {
                let view = world.node(0).view();
                view.nodes.len() == count
            })
            .await;
        let deadline = Instant::now() + WAIT;
        loop {
            let status = world.node(0).status().await;
            let ready = status.quorum && status.nodes.iter().all(|n| n.state == tandem_cluster::MemberState::Up)
                // Not while voters change: then both sets must stand.
                && (count < 3 || status.survives.any_one_node);
            if ready && status.nodes.len() == count {
                return world;
            }
            assert!(Instant::now() < deadline, "not all vote: {status:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until(&self, what: &str, met: impl Fn(&World) -> bool) {
        let deadline = Instant::now() + WAIT;
        while !met(self) {
            assert!(Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn node(&self, at: usize) -> &Cluster {
        self.nodes[at].as_ref().expect("the node runs")
    }

    /// Which node leads, by a quorum's word.
    pub(crate) async fn leader(&self) -> usize {
        let deadline = Instant::now() + WAIT;
        loop {
            for node in self.nodes.iter().flatten() {
                let status = node.status().await;
                if let Some(leader) = status.leader.filter(|_| status.quorum) {
                    return leader[1..].parse::<usize>().unwrap() - 1;
                }
            }
            assert!(Instant::now() < deadline, "no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn propose(&self, at: usize, command: Command) -> Committed {
        let node = self.node(at);
        node.propose(Principal::Node(node.node_id()), None, command).await.unwrap()
    }

    pub(crate) async fn kill(&mut self, at: usize) {
        self.nodes[at].take().expect("the node runs").shutdown().await;
    }

    /// One more node, by a name of its own choice.
    pub(crate) async fn start_another(&self, name: &str) -> (TempDir, Cluster) {
        self.start_another_at(0, name).await
    }

    /// The same, invited by a node.
    pub(crate) async fn start_another_at(&self, at: usize, name: &str) -> (TempDir, Cluster) {
        let dir = tempfile::tempdir().unwrap();
        let token = self.node(at).invite(Role::Full, Duration::from_secs(60)).await.unwrap();
        tandem_cluster::join(&dir.path().join("data"), &token, "").await.unwrap();
        let listen = ([127, 0, 0, 1], 0).into();
        let config =
            NodeConfig { name: name.into(), ..config(3, &dir.path().join("data"), listen, timing()) };
        (dir, Cluster::start(config).await.unwrap())
    }

    /// A node falls silent: no goodbye, and it is not started again.
    pub(crate) fn cut(&mut self, at: usize) {
        self.nodes[at].take().expect("the node runs");
    }

    /// Waits until a node's record is as wanted on all that run.
    pub(crate) async fn until_known(&self, what: &str, id: NodeId, met: impl Fn(&State) -> bool) {
        self.until(what, |world| {
            world.nodes.iter().flatten().all(|node| {
                let view = node.view();
                view.nodes.contains_key(&id) && met(&view)
            })
        })
        .await;
    }

    pub(crate) async fn restart(&mut self, at: usize) {
        let node = self.start_as(at, &self.data(at), self.addresses[at]).await.unwrap();
        let incarnation = node.incarnation();
        self.nodes[at] = Some(node);
        self.until("the restarted node is heard of", |world| {
            let view = world.node(at).view();
            view.nodes.get(&world.node(at).node_id()).is_some_and(|n| n.incarnation == incarnation)
        })
        .await;
    }

    /// Starts a node that is reached by a wire alone.
    pub(crate) async fn restart_behind(&mut self, at: usize, wire: &Wire) {
        let advertise = wire.address().to_string();
        let config = NodeConfig { advertise, ..config(at, &self.data(at), FREE, self.timing[at]) };
        let node = Cluster::start(config).await.unwrap();
        wire.leads_to(node.address());
        self.nodes[at] = Some(node);
    }

    /// Bytes of a node's newest snapshot.
    pub(crate) fn snapshot_bytes(&self, at: usize) -> u64 {
        let files = std::fs::read_dir(self.data(at).join("snapshots")).unwrap().map(Result::unwrap);
        let kept = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "snap"));
        kept.map(|file| file.metadata().unwrap().len()).max().unwrap_or(0)
    }

    pub(crate) async fn restart_elsewhere(&mut self, at: usize) {
        self.addresses[at].set_port(0);
        self.restart(at).await;
        self.addresses[at] = self.node(at).address();
    }

    /// Why a node does not start.
    pub(crate) async fn start_error(&self, at: usize) -> String {
        match self.start_as(at, &self.data(at), self.addresses[at]).await {
            Ok(_) => panic!("it starts"),
            Err(error) => error.to_string(),
        }
    }

    async fn start_as(&self, at: usize, data: &Path, listen: SocketAddr) -> Result<Cluster, StartError> {
        let timing = self.timing.get(at).copied().unwrap_or(self.timing[0]);
        Cluster::start(config(at, data, listen, timing)).await
    }

    /// Starts a directory as the node of this number, at another address, and no part of this world.
    pub(crate) async fn start_at(&self, at: usize, data: &Path) -> Result<Cluster, StartError> {
        self.start_as(at, data, FREE).await
    }

    pub(crate) fn data(&self, at: usize) -> PathBuf {
        self.dirs[at].path().join("data")
    }

    /// Waits until all follow the newest rules.
    pub(crate) async fn until_rules_are_newest(&self) {
        self.until("the newest rules are in force everywhere", |world| {
            world.nodes.iter().flatten().all(|node| node.view().apply_version == NEWEST_APPLY_VERSION)
        })
        .await;
    }

    fn log_file(&self, at: usize) -> std::path::PathBuf {
        let files = std::fs::read_dir(self.dirs[at].path().join("data/raft")).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths.pop().expect("a log has a file")
    }

    /// Leaves half a record at the log's end, as a crash does.
    pub(crate) fn tear_log(&self, at: usize) {
        let path = self.log_file(at);
        let mut bytes = std::fs::read(&path).unwrap();
        let start = bytes[16..56].to_vec();
        bytes.extend_from_slice(&start);
        std::fs::write(path, bytes).unwrap();
    }

    /// Takes the last bytes away.
    pub(crate) fn cut_log(&self, at: usize, bytes: u64) {
        let file = std::fs::File::options().write(true).open(self.log_file(at)).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length - bytes).unwrap();
    }

    /// Flips a bit of the first record.
    pub(crate) fn rot_log(&self, at: usize) -> String {
        let path = self.log_file(at);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[16 + 28] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    /// A node's oldest file of events; it has another one too.
    pub(crate) fn old_events(&self, at: usize) -> std::path::PathBuf {
        let files = std::fs::read_dir(self.dirs[at].path().join("data/archive/events")).unwrap();
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() > 1, "more than one file");
        paths.swap_remove(0)
    }

    /// All nodes have applied what any has.
    pub(crate) async fn settle(&self) {
        let position = self.nodes.iter().flatten().map(Cluster::applied).max().unwrap();
        for node in self.nodes.iter().flatten() {
            assert!(node.wait_applied(position, WAIT).await);
        }
    }

    pub(crate) async fn assert_equal(&self) {
        let report = self.node(0).hash().await.unwrap();
        assert!(report.equal && report.nodes.len() == 3, "{report:#?}");
    }

    pub(crate) fn events_of(&self, tenant: TenantId) -> usize {
        let archive = self.node(0).archive();
        match archive.events(None, Some(tenant), 10_000).unwrap() {
            tandem_cluster::archive::EventsRead::Events { events, .. } => events.len(),
            reset => panic!("{reset:?}"),
        }
    }

    pub(crate) fn listen(&self, at: usize) -> Heard {
        let heard = Heard::default();
        self.node(at).serve_peers(Arc::new(heard.clone()));
        heard
    }

    pub(crate) async fn stop(self) {
        for node in self.nodes.into_iter().flatten() {
            node.shutdown().await;
        }
    }
}

type Messages = Vec<(NodeId, Vec<u8>)>;

#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Messages>>);

impl Heard {
    pub(crate) async fn wait(&self, count: usize) -> Messages {
        let deadline = Instant::now() + WAIT;
        while self.0.lock().unwrap().len() < count && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.0.lock().unwrap().clone()
    }
}

impl PeerHandler for Heard {
    fn call(&self, _: NodeId, payload: Bytes) -> PeerFuture {
        Box::pin(async move { payload.iter().rev().copied().collect::<Vec<u8>>().into() })
    }

    fn tell(&self, from: NodeId, payload: Bytes) {
        self.0.lock().unwrap().push((from, payload.to_vec()));
    }
}

pub(crate) fn tenant(name: &str) -> Command {
    Command::Configure {
        changes: vec![ConfigChange::PutTenant(TenantConfig {
            name: name.into(),
            domain: format!("{name}.example"),
            timezone: "Europe/London".into(),
            currency: "GBP".into(),
            limits: Limits::default(),
            dial_rules: None,
        })],
    }
}

/// Some hundred bytes of state for each of these extensions of a tenant.
pub(crate) fn extensions(tenant: &str, numbers: std::ops::Range<u32>) -> Command {
    let extension = |number: u32| Extension {
        number: number.to_string(),
        name: "x".repeat(100),
        secret: Digests { md5: "1".repeat(32), sha256: "2".repeat(64) },
        caller_id: String::new(),
    };
    let put = |number| ConfigChange::PutExtension { tenant: tenant.into(), extension: extension(number) };
    Command::Configure { changes: numbers.map(put).collect() }
}

fn party(number: &str) -> Party {
    Party { name: String::new(), number: number.into() }
}

/// A call of the first tenant with one attempt.
pub(crate) fn create_call(node: &Cluster, id: u128) -> Command {
    let view = node.view();
    let tenant = view.tenant_by_name("acme").expect("made before").0;
    let now = view.time;
    Command::CreateCall {
        node_epoch: node.node_epoch(),
        call: NewCall {
            id: CallId(id),
            interaction: InteractionId(id),
            tenant,
            owner: node.node_id(),
            direction: CallDirection::Internal,
            from: party("101"),
            to: party("102"),
            start: now,
            program: Program { flow: String::new(), path: Vec::new() },
            change: CallChange {
                attempts: vec![Attempt {
                    number: 1,
                    to: party("102"),
                    start: now,
                    answer: None,
                    end: None,
                    quality: None,
                }],
                ..CallChange::default()
            },
        },
    }
}

pub(crate) fn end_call(id: u128) -> Command {
    Command::EndCall { call: CallId(id), epoch: CallEpoch(1), change: CallChange::default() }
}
