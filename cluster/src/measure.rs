//! Figures of storage, printed: no assertion here depends on time or on this machine.
//!
//! `cargo test --release -p tandem-cluster measure -- --ignored --nocapture --test-threads=1`
#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "measurements of a test")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use openraft::EntryPayload;
use openraft::storage::{RaftLogReader, RaftStateMachine};
use openraft::vote::RaftLeaderId;
use tandem_state::archive::Stream;
use tandem_state::config::{ConfigChange, Digests, Extension, Limits, TenantConfig};
use tandem_state::lease::Terms;
use tandem_state::*;

use crate::archive::store::ArchiveStore;
use crate::config::Timing;
use crate::disk::system;
use crate::fetch::{Fetch, Fetched};
use crate::health::Health;
use crate::raft::log::Log;
use crate::raft::log_io::LogRecord;
use crate::raft::machine::Machine;
use crate::raft::snapshot::SnapshotFiles;
use crate::raft::{LogBatch, LogId};
use crate::segment::Segments;
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

const NODE: NodeId = NodeId(1);
const BYTES: u64 = 32 * 1024 * 1024;

/// Batches as a leader would write them.
struct Leader {
    state: State,
    position: u64,
    seq: u64,
}

impl Leader {
    /// One that knows its node, and what told it.
    fn new() -> (Leader, (Batch, tandem_state::Applied)) {
        let mut leader = Leader { state: State::default(), position: 0, seq: 0 };
        let node = NodeRecord {
            id: NODE,
            name: "n1".into(),
            site: "here".into(),
            role: Role::Full,
            incarnation: Incarnation(1),
            epoch: NodeEpoch(1),
            cluster_address: "127.0.0.1:7400".into(),
            sip_advertise: "127.0.0.1".into(),
            api_url: "http://127.0.0.1:8080".into(),
            version: "0.1.0".into(),
            apply_version: 1,
        };
        let first = leader.apply(Command::NodeStarted { node });
        (leader, first)
    }

    fn batch(&mut self, command: Command) -> Batch {
        self.seq += 1;
        self.position += 1;
        let origin = Origin { node: NODE, incarnation: Incarnation(1), seq: self.seq, low_water: self.seq };
        let proposal = Proposal { origin, principal: Principal::Node(NODE), idempotency: None, command };
        Batch { stamp: ClusterTime(1_700_000_000_000 + self.position), proposals: vec![proposal] }
    }

    fn apply(&mut self, command: Command) -> (Batch, tandem_state::Applied) {
        let batch = self.batch(command);
        let applied = self.state.apply(self.position, &batch);
        for outcome in &applied.outcomes {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
        (batch, applied)
    }

    fn tenants(&mut self, count: u32, extensions: u32) {
        for tenant in 0..count {
            self.apply(tenant_of(tenant, extensions));
        }
    }

    fn bind(&self, tenant: u32, number: u32, revision: Option<Revision>) -> Command {
        let local = ([127, 0, 0, 1], 5060).into();
        let number = (101 + number).to_string();
        Command::Bind {
            node_epoch: NodeEpoch(1),
            binding: NewBinding {
                tenant: TenantId(tenant + 1),
                number: number.clone(),
                key: BindingKey::Instance(
                    format!("urn:uuid:00000000-0000-1000-8000-{tenant:06}{number:>6}"),
                    1,
                ),
                contact: format!("sip:{number}@192.0.2.17:5060"),
                flow: Flow { node: NODE, transport: Transport::Udp, local, remote: local, connection: 0 },
                path: Vec::new(),
                call_id: format!("{tenant}-{number}-a84b4c76e66710"),
                cseq: u32::try_from(self.position).unwrap_or(u32::MAX),
                q_milli: 1000,
                user_agent: "Measured Phone 1.0".into(),
                expires: ClusterTime(1_800_000_000_000),
            },
            replaces: revision,
        }
    }
}

/// Kilobytes in memory now, and at most since `forget_peak`.
fn memory_kb() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (of("VmRSS:"), of("VmHWM:"))
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn bytes_in(directory: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        bytes += if meta.is_dir() { bytes_in(&entry.path()) } else { meta.len() };
    }
    bytes
}

fn machine(dir: &Path) -> Machine {
    let (disk, health) = (system(), Arc::new(Health::default()));
    let archive = ArchiveStore::open(&disk, &health, &dir.join("archive"), BYTES).unwrap();
    let snapshots = SnapshotFiles::open(&disk, &dir.join("snapshots")).unwrap();
    let terms: Terms = Timing::default().terms();
    let shared = Arc::new(Shared::new(NODE, Incarnation(1), terms));
    Machine::open(archive, snapshots, shared, Arc::new(NoPeers), health).unwrap()
}

fn log_id(index: u64) -> LogId {
    LogId::new(RaftLeaderId::new(1, 1), index)
}

/// Every entry registers a phone anew: no other command is as frequent.
#[test]
#[ignore = "a measurement"]
fn a_start_with_a_million_log_entries() {
    const ENTRIES: u64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let disk = system();
    let mut segments =
        Segments::open(&disk, &dir.path().join("raft"), BYTES, true, &mut |_, _, _| Ok(())).unwrap();
    let (mut leader, first) = Leader::new();
    let mut put = |index: u64, batch: Batch| {
        let record = LogRecord::Entry(log_id(index), EntryPayload::Normal(LogBatch(Arc::new(batch))));
        if segments.full() {
            segments.roll().unwrap();
        }
        segments.append(&postcard::to_stdvec(&record).unwrap()).unwrap();
        if index.is_multiple_of(1000) {
            segments.write().unwrap();
        }
    };
    put(1, first.0);
    for tenant in 0..100 {
        let (batch, _) = leader.apply(tenant_of(tenant, 100));
        put(leader.position, batch);
    }
    let mut revisions = vec![None; 10_000];
    while leader.position < ENTRIES {
        let at = usize::try_from(leader.position % 10_000).unwrap();
        let (tenant, number) = (u32::try_from(at / 100).unwrap(), u32::try_from(at % 100).unwrap());
        let bind = leader.bind(tenant, number, revisions[at]);
        let (batch, applied) = leader.apply(bind);
        if let Ok(Reply::Bound(revision)) = applied.outcomes[0] {
            revisions[at] = Some(revision);
        }
        put(leader.position, batch);
    }
    drop(segments);
    let size = bytes_in(&dir.path().join("raft"));

    let (empty_kb, _) = memory_kb();
    let started = Instant::now();
    let mut log = Log::open(&disk, &Arc::default(), &dir.path().join("raft"), BYTES).unwrap();
    let opened = started.elapsed();
    let (opened_kb, _) = memory_kb();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut machine = machine(dir.path());
    // What is applied after the newest snapshot at most, in the default timing.
    let tail = ENTRIES - Timing::default().snapshot_after;
    let (started, mut tail_began) = (Instant::now(), None);
    runtime.block_on(async {
        let mut at = 1;
        while at <= ENTRIES {
            let entries = log.limited_get_log_entries(at, at + 1000).await.unwrap();
            at += entries.len() as u64;
            if at > tail {
                tail_began.get_or_insert_with(Instant::now);
            }
            let stream = futures_util::stream::iter(entries.into_iter().map(|entry| Ok((entry, None))));
            machine.apply(Box::pin(stream)).await.unwrap();
        }
    });
    let (applied, of_tail) = (started.elapsed(), tail_began.unwrap_or(started).elapsed());
    println!(
        "{{\"measure\":\"restart\",\"entries\":{ENTRIES},\"log_mb\":{},\"open_s\":{:.2},\"apply_s\":{:.2},\"apply_s_of_the_last_20000\":{:.2},\"index_kb\":{}}}",
        size / 1_000_000,
        opened.as_secs_f64(),
        applied.as_secs_f64(),
        of_tail.as_secs_f64(),
        opened_kb.saturating_sub(empty_kb),
    );
}

/// A tenant with so many extensions.
fn tenant_of(tenant: u32, extensions: u32) -> Command {
    let name = format!("t{tenant}");
    let put = ConfigChange::PutTenant(TenantConfig {
        name: name.clone(),
        domain: format!("{name}.example"),
        timezone: "Europe/London".into(),
        currency: "GBP".into(),
        limits: Limits::default(),
        dial_rules: None,
    });
    let extensions = (0..extensions).map(|number| ConfigChange::PutExtension {
        tenant: name.clone(),
        extension: Extension {
            number: (101 + number).to_string(),
            name: format!("Extension {number}"),
            secret: Digests { md5: "0".repeat(32), sha256: "0".repeat(64) },
            caller_id: String::new(),
        },
    });
    Command::Configure { changes: std::iter::once(put).chain(extensions).collect() }
}

#[test]
#[ignore = "a measurement"]
fn a_snapshot_of_100_000_registrations_of_10_000_tenants() {
    let dir = tempfile::tempdir().unwrap();
    let (empty_kb, _) = memory_kb();
    let (mut leader, _) = Leader::new();
    leader.tenants(10_000, 10);
    for tenant in 0..10_000 {
        for number in 0..10 {
            let bind = leader.bind(tenant, number, None);
            leader.apply(bind);
        }
    }
    let (state_kb, _) = memory_kb();
    let files = SnapshotFiles::open(&system(), dir.path()).unwrap();
    let meta = crate::raft::SnapshotMeta {
        last_log_id: Some(log_id(leader.position)),
        last_membership: crate::raft::StoredMembership::default(),
    };
    forget_peak();
    let (view, started) = (leader.state.clone(), Instant::now());
    let builder = std::thread::spawn({
        let (files, meta) = (files.clone(), meta.clone());
        move || {
            let snapshot = files.store(&meta, &view).unwrap();
            (snapshot.snapshot, started.elapsed())
        }
    });
    // Meanwhile the log goes on.
    let (mut applied, mut longest) = (0_u64, std::time::Duration::ZERO);
    while !builder.is_finished() {
        let one = Instant::now();
        leader.apply(Command::Tick);
        longest = longest.max(one.elapsed());
        applied += 1;
    }
    let (file, built) = builder.join().unwrap();
    let (_, build_peak_kb) = memory_kb();
    forget_peak();
    let started = Instant::now();
    let (_, state) = file.read().unwrap();
    let read = started.elapsed();
    let (_, read_peak_kb) = memory_kb();
    assert_eq!(state.bindings.len(), 100_000);
    println!(
        "{{\"measure\":\"snapshot\",\"bytes\":{},\"state_kb\":{},\"build_s\":{:.2},\"build_extra_kb\":{},\"applied_meanwhile\":{applied},\"longest_apply_ms\":{:.1},\"read_s\":{:.2},\"read_extra_kb\":{}}}",
        file.bytes,
        state_kb - empty_kb,
        built.as_secs_f64(),
        build_peak_kb.saturating_sub(state_kb),
        longest.as_secs_f64() * 1000.0,
        read.as_secs_f64(),
        read_peak_kb.saturating_sub(state_kb),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn bytes_on_disk_of_a_thousand_cdrs() {
    const CALLS: u32 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let (mut leader, first) = Leader::new();
    let health = Arc::new(Health::default());
    let mut archive = ArchiveStore::open(&system(), &health, &dir.path().join("archive"), BYTES).unwrap();
    archive.append(&first.1.archive).unwrap();
    let configured = leader.apply(tenant_of(0, 10));
    archive.append(&configured.1.archive).unwrap();
    let mut log_bytes = 0;
    for call in 0..CALLS {
        let party = |number: &str| Party { name: format!("Extension {number}"), number: number.into() };
        let attempt = |answer, end| Attempt {
            number: 1,
            to: party("102"),
            start: leader_time(&leader),
            answer,
            end,
            quality: None,
        };
        let id = CallId(u128::from(call) + 1);
        let now = leader_time(&leader);
        let create = Command::CreateCall {
            node_epoch: NodeEpoch(1),
            call: NewCall {
                id,
                interaction: InteractionId(id.0),
                tenant: TenantId(1),
                owner: NODE,
                direction: CallDirection::Internal,
                from: party("101"),
                to: party("102"),
                start: now,
                program: Program { flow: String::new(), path: Vec::new() },
                change: CallChange { attempts: vec![attempt(None, None)], ..CallChange::default() },
            },
        };
        let answered = CallChange { attempts: vec![attempt(Some(now), None)], ..CallChange::default() };
        let end = Command::EndCall { call: id, epoch: CallEpoch(1), change: answered };
        for command in [create, end] {
            let (batch, applied) = leader.apply(command);
            log_bytes += postcard::experimental::serialized_size(&batch).unwrap();
            archive.append(&applied.archive).unwrap();
        }
    }
    archive.sync_handle().close().await;
    let of = |name: &str| bytes_in(&dir.path().join("archive").join(name)) * 1000 / u64::from(CALLS);
    let counts: Vec<u64> = leader.state.streams.values().map(|head| head.count).collect();
    println!(
        "{{\"measure\":\"cdrs\",\"calls\":{CALLS},\"records\":{counts:?},\"cdrs_bytes_per_1000\":{},\"events_bytes_per_1000\":{},\"index_bytes_per_1000\":{},\"log_bytes_per_1000\":{}}}",
        of("cdrs"),
        of("events"),
        of("index"),
        log_bytes as u64 * 1000 / u64::from(CALLS),
    );
}

fn leader_time(leader: &Leader) -> ClusterTime {
    leader.state.time
}
