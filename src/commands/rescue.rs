//! `tandem cluster force-quorum`: the last resort, offline.

use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tandem_cluster::{Remains, RescueError};

use crate::config::Config;
use crate::failure::refused;
use crate::output::{print, progress};

/// Says what the survivor has, asks for the cluster's id, and makes the survivor the only voter.
pub(super) async fn force_quorum(config: &Path, lost: &[String]) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    let remains = tandem_cluster::examine(&config.data).await.map_err(explained)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    progress(&told(&remains, lost, now));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() != remains.cluster_id.to_string() {
        return Err(refused(
            "this is not the cluster's id: nothing was changed",
            "read the lines above once more",
        ));
    }
    let forced = tandem_cluster::force_quorum(&config.data, lost).await.map_err(explained)?;
    let (name, generation, fork) = (&remains.name, forced.generation, forced.fork);
    print(&format!("{name} is the only voter of generation {generation}, fork {fork}\n"))?;
    progress(&format!(
        "next: tandem node run --config {}; then `tandem cluster invite` for two new nodes with empty data directories.\n\
         The directories of the lost nodes, if they turn up: never start them; `tandem salvage DIR` brings over what they have.",
        config.path.display()
    ));
    Ok(())
}

fn told(remains: &Remains, lost: &[String], now: Duration) -> String {
    let age = now.saturating_sub(Duration::from_millis(remains.last_time.0));
    let others: Vec<String> =
        remains.others.iter().map(|other| format!("{} ({})", other.name, other.address)).collect();
    format!(
        "cluster    {}, generation {}\nthis node  {}\nothers     {}\nits log    ends at position {}, {} s ago\n\n\
         What the others acknowledged after that is lost. If {} still run somewhere, two clusters will act at once:\n\
         switch them off first. To go on, type the cluster's id:",
        remains.cluster_id,
        remains.generation,
        remains.name,
        others.join(", "),
        remains.last_log,
        age.as_secs(),
        lost.join(", "),
    )
}

fn explained(error: RescueError) -> anyhow::Error {
    let todo = match &error {
        RescueError::Directory(_) => "the node must be stopped, and its data directory whole",
        RescueError::NoVoter(_) => "use the directory of a node that voted",
        RescueError::NoSuchVoter { .. } | RescueError::NotNamed(_) => "name every other voter with --lost",
        RescueError::Alive { .. } => "bring it back instead, or switch it off if it must go",
    };
    refused(error.to_string(), todo)
}

#[cfg(test)]
mod tests {
    use tandem_cluster::Other;
    use tandem_state::{ClusterId, ClusterTime};

    use super::*;

    #[test]
    fn the_operator_reads_what_is_lost_before_going_on() {
        let remains = Remains {
            cluster_id: ClusterId(5),
            generation: 1,
            name: "n3".into(),
            others: vec![Other { name: "n1".into(), address: "127.0.0.1:7400".into() }],
            last_log: 120,
            last_time: ClusterTime(4_000),
        };
        let text = told(&remains, &["n1".into()], Duration::from_secs(64));
        assert!(text.contains("ends at position 120, 60 s ago"), "{text}");
        assert!(text.contains("others     n1 (127.0.0.1:7400)"), "{text}");
    }
}
