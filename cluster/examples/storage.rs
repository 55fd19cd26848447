//! What a node's disk holds and how soon it is read again: one JSON line each for a restart after many commands, a snapshot of a
//! large state, and CDRs.
//!
//! `cargo run --release -p tandem-cluster --example storage [COMMANDS] [CALLS]`
//!
//! The node is alone in its cluster. Memory is that of this process, which is otherwise at rest.

mod support;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, Instant};

use support::Failed;
use tandem_cluster::{Cluster, init};
use tandem_state::{
    Attempt, Batch, CallChange, CallDirection, CallEpoch, CallId, ClusterTime, Command, Incarnation,
    InteractionId, NewCall, NodeEpoch, NodeId, NodeRecord, Origin, Party, Principal, Program, Proposal,
    Reply, Revision, Role, State, TenantId,
};

/// Commands on their way at once.
const WRITERS: u64 = 256;
const EXTENSIONS: u32 = 256;
const WAIT: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1);
    let commands = args.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let calls = args.next().map_or(Ok(20_000), |text| text.parse())?;
    let scratch = tempfile::tempdir()?;
    say(&snapshot(scratch.path())?);
    say(&restart(&scratch.path().join("restart"), commands).await?);
    say(&cdrs(&scratch.path().join("cdrs"), calls).await?);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result")]
fn say(line: &str) {
    println!("{line}");
}

async fn start(data: &Path) -> Result<Cluster, Failed> {
    let node = Cluster::start(support::config("n1".into(), data.to_owned())).await?;
    if !node.announced(WAIT).await {
        return Err("the node has no quorum with itself".into());
    }
    // Until it holds a lease it may not act.
    let begun = Instant::now();
    while !(node.view().has_leases() && node.lease().holds()) {
        if begun.elapsed() > WAIT {
            return Err("the node has no lease".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(node)
}

async fn begin(data: &Path) -> Result<Cluster, Failed> {
    init(data)?;
    let node = start(data).await?;
    let acting = Principal::Node(node.node_id());
    node.propose(acting, None, support::configure("acme", 100, EXTENSIONS)).await?.outcome?;
    Ok(node)
}

/// So many registrations, each of a phone anew, then a stop and a start.
async fn restart(data: &Path, commands: u64) -> Result<String, Failed> {
    let node = begin(data).await?;
    let tasks: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(register(node.clone(), writer, commands / WRITERS))).collect();
    for task in tasks {
        task.await??;
    }
    let entries = node.applied();
    node.shutdown().await;
    drop(node);
    let (log, snapshots) = (bytes_in(&data.join("raft"))?, bytes_in(&data.join("snapshots"))?);
    let begun = Instant::now();
    let node = start(data).await?;
    let took = begun.elapsed().as_secs_f64();
    node.shutdown().await;
    Ok(format!(
        "{{\"measure\":\"restart\",\"commands\":{commands},\"entries\":{entries},\"log_mb\":{:.1},\"snapshots_mb\":{:.1},\"start_s\":{took:.2}}}",
        log as f64 / 1e6,
        snapshots as f64 / 1e6,
    ))
}

async fn register(node: Cluster, writer: u64, times: u64) -> Result<(), Failed> {
    let number = (100 + writer).to_string();
    let mut revision: Option<Revision> = None;
    for cseq in 1..=u32::try_from(times)? {
        let acting = (node.node_id(), node.node_epoch());
        let expires = ClusterTime(node.now().0 + 3_600_000);
        let command = support::bind(acting, (TenantId(1), &number), cseq, expires, revision);
        match node.propose(Principal::Node(node.node_id()), None, command).await?.outcome? {
            Reply::Bound(now) => revision = Some(now),
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(())
}

/// So many answered calls, one after the other on each of several lines.
async fn cdrs(data: &Path, calls: u64) -> Result<String, Failed> {
    const LINES: u64 = 64;
    let node = begin(data).await?;
    let tasks: Vec<_> =
        (0..LINES).map(|line| tokio::spawn(call_often(node.clone(), line, calls / LINES))).collect();
    for task in tasks {
        task.await??;
    }
    node.shutdown().await;
    let made = (calls / LINES * LINES).max(1);
    let per_1000 = |part: &str| Ok::<_, Failed>(bytes_in(&data.join("archive").join(part))? * 1000 / made);
    Ok(format!(
        "{{\"measure\":\"cdrs\",\"calls\":{made},\"cdrs_bytes_per_1000\":{},\"events_bytes_per_1000\":{},\"index_bytes_per_1000\":{}}}",
        per_1000("cdrs")?,
        per_1000("events")?,
        per_1000("index")?,
    ))
}

async fn call_often(node: Cluster, line: u64, times: u64) -> Result<(), Failed> {
    let acting = Principal::Node(node.node_id());
    for at in 0..times {
        let id = CallId(u128::from(line * times + at) + 1);
        let now = node.now();
        let create =
            Command::CreateCall { node_epoch: node.node_epoch(), call: new_call(node.node_id(), id, now) };
        node.propose(acting.clone(), None, create).await?.outcome?;
        let change = CallChange { attempts: vec![attempt(now, Some(now))], ..CallChange::default() };
        let end = Command::EndCall { call: id, epoch: CallEpoch(1), change };
        node.propose(acting.clone(), None, end).await?.outcome?;
    }
    Ok(())
}

fn party(number: &str) -> Party {
    Party { name: format!("Extension {number}"), number: number.into() }
}

fn attempt(start: ClusterTime, answer: Option<ClusterTime>) -> Attempt {
    Attempt { number: 1, to: party("101"), start, answer, end: None, quality: None }
}

fn new_call(owner: NodeId, id: CallId, start: ClusterTime) -> NewCall {
    NewCall {
        id,
        interaction: InteractionId(id.0),
        tenant: TenantId(1),
        owner,
        direction: CallDirection::Internal,
        from: party("100"),
        to: party("101"),
        start,
        program: Program { flow: String::new(), path: Vec::new() },
        change: CallChange { attempts: vec![attempt(start, None)], ..CallChange::default() },
    }
}

/// A state of 10,000 tenants with ten registered phones each, written to a file and read again.
fn snapshot(directory: &Path) -> Result<String, Failed> {
    let before_kb = memory_kb("VmRSS:")?;
    let state = large_state()?;
    let held_kb = memory_kb("VmRSS:")?;
    let path = directory.join("snapshot");
    forget_peak()?;
    let begun = Instant::now();
    let file = File::create(&path)?;
    state.write_snapshot(BufWriter::new(&file))?;
    file.sync_all()?;
    let (written_s, written_kb) = (begun.elapsed().as_secs_f64(), memory_kb("VmHWM:")?);
    let begun = Instant::now();
    let read = State::decode_snapshot(&std::fs::read(&path)?)?;
    let read_s = begun.elapsed().as_secs_f64();
    if read.bindings.len() != state.bindings.len() {
        return Err("the snapshot reads back as another state".into());
    }
    Ok(format!(
        "{{\"measure\":\"snapshot\",\"registrations\":{},\"mb\":{:.1},\"state_mb\":{},\"write_s\":{written_s:.2},\"write_extra_kb\":{},\"read_s\":{read_s:.2}}}",
        state.bindings.len(),
        std::fs::metadata(&path)?.len() as f64 / 1e6,
        held_kb.saturating_sub(before_kb) / 1000,
        written_kb.saturating_sub(held_kb),
    ))
}

fn large_state() -> Result<State, Failed> {
    const TENANTS: u32 = 10_000;
    const PHONES: u32 = 10;
    const NODE: NodeId = NodeId(1);
    let (mut state, mut position) = (State::default(), 0);
    let mut apply = |command: Command| {
        position += 1;
        let origin = Origin { node: NODE, incarnation: Incarnation(1), seq: position, low_water: position };
        let proposal = Proposal { origin, principal: Principal::Node(NODE), idempotency: None, command };
        let batch = Batch { stamp: ClusterTime(position), proposals: vec![proposal] };
        state.apply_unchecked(position, &batch).outcomes.into_iter().collect::<Result<Vec<_>, _>>()
    };
    apply(Command::NodeStarted { node: record(NODE) })?;
    for tenant in 1..=TENANTS {
        apply(support::configure(&format!("t{tenant}"), 100, PHONES))?;
        for number in 100..100 + PHONES {
            let whose = (TenantId(tenant), number.to_string());
            let expires = ClusterTime(3_600_000);
            apply(support::bind((NODE, NodeEpoch(1)), (whose.0, &whose.1), 1, expires, None))?;
        }
    }
    Ok(state)
}

fn record(id: NodeId) -> NodeRecord {
    NodeRecord {
        id,
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
    }
}

/// A line of this process's status, in kilobytes.
fn memory_kb(name: &str) -> Result<u64, Failed> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
    Ok(line.split_whitespace().nth(1).ok_or("no figure")?.parse()?)
}

/// From now on `VmHWM` is the most memory since.
fn forget_peak() -> std::io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}

fn bytes_in(directory: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { bytes_in(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}
