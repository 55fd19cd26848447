//! Durable commits per second of three nodes on this machine, with 1, 16 and 256 writers: one JSON line.
//!
//! `cargo run --release -p tandem-cluster --example commits [seconds-per-step] [directory]`
//!
//! The nodes are threads of one process with files, sockets and a runtime of their own. Writers propose on all nodes
//! in turn and wait for each outcome. `cpu_s_per_1000` is the whole process, generator included.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::Failed;
use tandem_cluster::{Cluster, init, join};
use tandem_state::{ClusterTime, Command, Principal, Role, TenantId};

fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().map_or(Ok(5), |text| text.parse::<u64>())?;
    let scratch = tempfile::tempdir()?;
    let directory = args.next().map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    // Each node has a runtime of its own, as it would as a process.
    let runtimes: Vec<_> = (0..3).map(|_| runtime()).collect::<Result<_, _>>()?;
    let mut nodes = Vec::new();
    for (at, runtime) in runtimes.iter().enumerate() {
        let first = nodes.first().cloned();
        nodes.push(runtime.block_on(start(at, directory.join(format!("n{}", at + 1)), first))?);
    }
    let generator = runtime()?;
    let line = generator.block_on(measure(&nodes, Duration::from_secs(seconds)))?;
    #[expect(clippy::print_stdout, reason = "the result")]
    {
        println!("{line}");
    }
    for (node, runtime) in nodes.iter().zip(&runtimes) {
        runtime.block_on(node.shutdown());
    }
    Ok(())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

async fn start(at: usize, data: PathBuf, first: Option<Cluster>) -> Result<Cluster, Failed> {
    let name = format!("n{}", at + 1);
    prepare(&data, &name, first.as_ref()).await?;
    Ok(Cluster::start(support::config(name, data)).await?)
}

async fn prepare(data: &Path, name: &str, first: Option<&Cluster>) -> Result<(), Failed> {
    match first {
        None => init(data).map(drop)?,
        Some(first) => {
            let token = first.invite(Role::Full, Duration::from_secs(60)).await?;
            join(data, &token, name).await.map(drop)?;
        }
    }
    Ok(())
}

async fn measure(nodes: &[Cluster], span: Duration) -> Result<String, Failed> {
    for node in nodes {
        if !node.announced(Duration::from_secs(20)).await {
            return Err("a node did not join in time".into());
        }
    }
    let first = nodes.first().ok_or("no nodes")?;
    let acting = Principal::Node(first.node_id());
    for range in 0..4_u32 {
        first
            .propose(acting.clone(), None, support::configure("acme", 1000 + range * 100, 100))
            .await?
            .outcome?;
    }
    let mut steps = Vec::new();
    for writers in [1_usize, 16, 256] {
        steps.push(step(nodes, writers, span).await?);
    }
    Ok(format!(
        "{{\"bench\":\"commits\",\"nodes\":3,\"seconds\":{},\"steps\":[{}]}}",
        span.as_secs(),
        steps.join(",")
    ))
}

async fn step(nodes: &[Cluster], writers: usize, span: Duration) -> Result<String, Failed> {
    let stop = Arc::new(AtomicBool::new(false));
    let cpu = cpu_seconds();
    let started = Instant::now();
    let tasks: Vec<_> = nodes
        .iter()
        .cycle()
        .take(writers)
        .enumerate()
        .map(|(writer, node)| tokio::spawn(write(node.clone(), writer, Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(span).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let spent = cpu_seconds() - cpu;
    latencies.sort_unstable();
    let at = |percent: usize| {
        latencies.get(latencies.len() * percent / 100).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
    };
    let count = latencies.len() as f64;
    Ok(format!(
        "{{\"writers\":{writers},\"commits_per_s\":{:.0},\"p50_ms\":{:.2},\"p99_ms\":{:.2},\"cpu_s_per_1000\":{:.3}}}",
        count / elapsed,
        at(50),
        at(99),
        spent * 1000.0 / count.max(1.0)
    ))
}

/// Registers one phone again and again, each time with another contact.
async fn write(node: Cluster, writer: usize, stop: Arc<AtomicBool>) -> Result<Vec<Duration>, Failed> {
    let mut latencies = Vec::new();
    let mut revision = None;
    let number = (1000 + writer).to_string();
    let mut cseq = 0;
    while !stop.load(Ordering::Relaxed) {
        cseq += 1;
        let command = bind(&node, &number, cseq, revision);
        let started = Instant::now();
        let committed = node.propose(Principal::Node(node.node_id()), None, command).await?;
        latencies.push(started.elapsed());
        match committed.outcome? {
            tandem_state::Reply::Bound(now) => revision = Some(now),
            other => return Err(format!("{other:?}").into()),
        }
    }
    unbind(&node, number, revision).await?;
    Ok(latencies)
}

fn bind(node: &Cluster, number: &str, cseq: u32, replaces: Option<tandem_state::Revision>) -> Command {
    let acting = (node.node_id(), node.node_epoch());
    support::bind(acting, (TenantId(1), number), cseq, ClusterTime(node.now().0 + 3_600_000), replaces)
}

/// The next step begins with no bindings.
async fn unbind(
    node: &Cluster,
    number: String,
    revision: Option<tandem_state::Revision>,
) -> Result<(), Failed> {
    let Some(revision) = revision else { return Ok(()) };
    let command = Command::Unbind {
        node_epoch: node.node_epoch(),
        tenant: TenantId(1),
        number,
        key: support::key(),
        revision,
        reason: tandem_state::UnbindReason::Unregistered,
    };
    node.propose(Principal::Node(node.node_id()), None, command).await?.outcome?;
    Ok(())
}

/// CPU time of this process so far.
fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
