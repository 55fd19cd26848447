//! The fault switch of test builds (`--features faults`): a socket in the data directory that takes one order a line.
//!
//! `panic CALL` makes the actor of that call panic at its next step, `panic follower` the one that follows the log. `disk full`, `disk slow MS`, `disk eio COUNT` and
//! `disk ok` are the faults of the node's disk; `power`, or `power TORN`, ends the process at once and takes what was never
//! synced with it, but for the first TORN bytes of each file's tail. `cut NODE`, `cut-in NODE`, `cut-out NODE`, `delay NODE
//! MS`, `loss NODE PERCENT`, `rate NODE KBIT` and `heal` are the faults of the ways to other nodes; `clock MS` sets the wall
//! clock off. Never in a release: the feature is off by default.

use std::path::PathBuf;
use std::time::Duration;

use tandem_actors::Switch;
use tandem_cluster::disk::faults::Faults;
use tandem_cluster::{Cluster, heal_ways, set_wall_off, set_way};
use tandem_state::NodeId;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Serves `DATA/faults.sock`.
pub(super) async fn serve(data: PathBuf, switch: Switch, cluster: Cluster) -> std::io::Result<()> {
    let disk = cluster.disk_faults();
    let path = data.join("faults.sock");
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(&path)?;
    tracing::warn!(socket = %path.display(), "this is a test build: faults can be injected");
    loop {
        let (stream, _) = listener.accept().await?;
        answer(stream, &switch, &cluster, &disk).await?;
    }
}

async fn answer(
    stream: UnixStream,
    switch: &Switch,
    cluster: &Cluster,
    disk: &Faults,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer: &[u8] = match words.as_slice() {
            ["panic", "follower"] => {
                switch.inject_follower_fault();
                b"done\n"
            }
            ["panic", call] if call.parse().is_ok_and(|call| switch.inject_fault(call)) => b"done\n",
            ["panic", _] => b"no such call here\n",
            ["disk", order @ ..] if carried_out(order, disk) => b"done\n",
            ["power"] => power_cut(disk, 0),
            ["power", torn] if torn.parse::<u64>().is_ok() => power_cut(disk, torn.parse().unwrap_or(0)),
            ["clock", ms] if ms.parse::<i64>().is_ok() => {
                set_wall_off(ms.parse().unwrap_or(0));
                b"done\n"
            }
            ["heal"] => {
                heal_ways();
                b"done\n"
            }
            [fault, node, size @ ..] if way_changed(fault, node_of(cluster, node), size.first()) => b"done\n",
            _ => b"no such order\n",
        };
        write.write_all(answer).await?;
    }
    Ok(())
}

fn power_cut(disk: &Faults, torn: u64) -> ! {
    let cut = disk.cut_power(torn);
    tracing::warn!(?cut, "a test cuts the power");
    std::process::exit(86)
}

fn node_of(cluster: &Cluster, name: &str) -> Option<NodeId> {
    cluster.view().nodes.values().find(|node| node.name == name).map(|node| node.id)
}

fn way_changed(fault: &str, node: Option<NodeId>, size: Option<&&str>) -> bool {
    let Some(node) = node else { return false };
    let size = size.and_then(|size| size.parse::<u32>().ok());
    match (fault, size) {
        ("cut", None) => set_way(node, |way| (way.cut_in, way.cut_out) = (true, true)),
        ("cut-in", None) => set_way(node, |way| way.cut_in = true),
        ("cut-out", None) => set_way(node, |way| way.cut_out = true),
        ("delay", Some(ms)) => set_way(node, |way| way.delay = Duration::from_millis(ms.into())),
        ("loss", Some(percent @ 0..=100)) => {
            set_way(node, |way| way.loss_percent = u8::try_from(percent).unwrap_or(100));
        }
        ("rate", Some(kbit)) => set_way(node, |way| way.rate_kbit = kbit),
        _ => return false,
    }
    tracing::warn!(%node, fault, size, "a test changes the way to a node");
    true
}

fn carried_out(order: &[&str], disk: &Faults) -> bool {
    match *order {
        ["full"] => disk.full(true),
        ["slow", ms] => match ms.parse() {
            Ok(ms) => disk.slow_sync(Duration::from_millis(ms)),
            Err(_) => return false,
        },
        ["eio", count] => match count.parse() {
            Ok(count) => disk.fail_syncs(count),
            Err(_) => return false,
        },
        ["ok"] => {
            disk.full(false);
            disk.slow_sync(Duration::ZERO);
            disk.fail_syncs(0);
        }
        _ => return false,
    }
    true
}
