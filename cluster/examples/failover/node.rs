//! The side of one node: it is told what to do line by line, and answers each with a line.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use tandem_cluster::{Cluster, NodeConfig, RaftRole, init, join};
use tandem_state::config::Limits;
use tandem_state::{Command, Principal, Role};

use super::support::{self, Failed};

/// `DATA LISTEN ADVERTISE`; the first line on stdin is `first`, `again`, or a join token.
pub(crate) fn run(mut args: impl Iterator<Item = String>) -> Result<(), Failed> {
    let mut next = || args.next().ok_or("node DATA LISTEN ADVERTISE");
    let data = PathBuf::from(next()?);
    let name = data.file_name().and_then(|name| name.to_str()).ok_or("a data directory")?.to_owned();
    let mut config = support::config(name, data);
    (config.listen, config.advertise) = (next()?.parse()?, next()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut lines = std::io::stdin().lock().lines();
    let token = lines.next().ok_or("no token")??;
    let node = runtime.block_on(async {
        prepare(&config, &token).await?;
        Ok::<_, Failed>(Cluster::start(config).await?)
    })?;
    say("ready")?;
    for (at, line) in lines.enumerate() {
        say(&runtime.block_on(answer(&node, &line?, at)))?;
    }
    Ok(())
}

async fn prepare(config: &NodeConfig, token: &str) -> Result<(), Failed> {
    match token {
        "again" => {}
        "first" => drop(init(&config.data)?),
        token => drop(join(&config.data, token, &config.name).await?),
    }
    Ok(())
}

async fn answer(node: &Cluster, question: &str, at: usize) -> String {
    match question {
        "status" => status(node).await,
        "invite" => match node.invite(Role::Full, Duration::from_secs(60)).await {
            Ok(token) => token,
            Err(error) => error.to_string(),
        },
        "write" => match node.propose(Principal::Node(node.node_id()), None, write(at)).await {
            Ok(_) => "written".into(),
            Err(error) => error.to_string(),
        },
        other => format!("{other}?"),
    }
}

/// Entries that a node may be behind and has caught up: leases are renewed all the time, and over a long link some are always
/// on their way.
const LAG: u64 = 16;

async fn status(node: &Cluster) -> String {
    let status = node.status().await;
    let mine = status.nodes.iter().find(|one| one.id == node.node_id());
    let role = match mine.map(|mine| mine.raft) {
        Some(RaftRole::Leader) => "leader",
        _ => "other",
    };
    let voting = |one: &&tandem_cluster::NodeStatus| {
        matches!(one.raft, RaftRole::Leader | RaftRole::Follower) && one.applied + LAG >= one.last_log
    };
    let voters = status.nodes.iter().filter(voting).count();
    format!("{role} voters={voters} leader={}", status.leader.unwrap_or_default())
}

/// Something that changes each time.
fn write(at: usize) -> Command {
    let limits = Limits { calls: u32::try_from(at).ok(), ..Limits::default() };
    Command::Configure { changes: vec![support::tenant("acme", limits)] }
}

fn say(line: &str) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
