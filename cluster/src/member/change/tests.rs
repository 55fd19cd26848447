//! A change of voters whose leader went away between its two steps.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use openraft::ChangeMembers;
use tandem_state::{Command, Principal, Role};
use tempfile::TempDir;

use crate::config::NodeConfig;
use crate::{Cluster, init, join};

async fn node(dir: &TempDir, name: &str, first: Option<&Cluster>) -> Cluster {
    let data = dir.path().join(name);
    match first {
        None => drop(init(&data).unwrap()),
        Some(first) => {
            let token = first.invite(Role::Full, Duration::from_secs(60)).await.unwrap();
            join(&data, &token, "").await.unwrap();
        }
    }
    start(data, name).await
}

async fn start(data: PathBuf, name: &str) -> Cluster {
    Cluster::start(NodeConfig::test(name, data)).await.unwrap()
}

/// Both sets of voters, while they change.
fn voters(node: &Cluster) -> Vec<BTreeSet<u64>> {
    node.node().metrics().membership_config.membership().get_joint_config().clone()
}

async fn until(what: &str, met: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !met() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_of_voters_that_was_left_half_done_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let first = node(&dir, "n1", None).await;
    let second = node(&dir, "n2", Some(&first)).await;
    let both = BTreeSet::from([first.node_id().0, second.node_id().0]);
    until("two voters", || voters(&first) == [both.clone()]).await;
    first.transfer_leader(first.node_id()).await.unwrap();
    // What is committed after it, too: that change of voters is over.
    let tick = first.propose(Principal::Node(first.node_id()), None, Command::Tick).await;
    assert!(tick.unwrap().outcome.is_ok());
    let leaving = BTreeSet::from([second.node_id().0]);
    // While the second is away, the first step stays uncommitted.
    second.shutdown().await;
    let raft = first.node().raft().clone();
    let change =
        tokio::spawn(async move { raft.change_membership(ChangeMembers::RemoveVoters(leaving), true).await });
    until("two sets of voters", || voters(&first).len() == 2).await;
    // Whoever asked for it is gone before the second step.
    change.abort();
    let second = start(dir.path().join("n2"), "n2").await;
    until("one set of voters", || voters(&first).len() == 1).await;
    first.shutdown().await;
    second.shutdown().await;
}
