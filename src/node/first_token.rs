//! The first operator's token: drawn offline by `cluster init`, known to the cluster once its first node runs.
//!
//! Between the two its SHA-256 lies in the data directory, and goes with it; the token itself is on no disk of the node.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_cluster::Cluster;
use tandem_state::{ClusterTime, Command, Principal, TokenRecord, TokenScope};

use crate::config::Config;
use crate::failure::refused;

/// Its public name.
const ID: &str = "admin";
/// Without a quorum the hand-over is tried again after this.
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    sha256: [u8; 32],
}

/// A fresh operator's token with its hash.
pub(crate) fn draw() -> anyhow::Result<(String, [u8; 32])> {
    let drawn = tandem_api::token::generate(ID.to_owned(), TokenScope::Operator);
    let (secret, record) = drawn.map_err(|_| refused("the system gives no random bytes", ""))?;
    Ok((secret, record.hash))
}

/// Lays the hash into the data directory.
pub(crate) fn keep(config: &Config, hash: [u8; 32]) -> std::io::Result<()> {
    let text = serde_json::to_string(&Kept { id: ID.to_owned(), sha256: hash })?;
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path(config))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Tells the cluster of the token, if that hasn't been done; keeps trying until there is a quorum.
pub(crate) async fn hand_over(config: Config, cluster: Cluster) {
    let path = path(&config);
    let Some(kept) = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok())
    else {
        return;
    };
    let Kept { id, sha256: hash } = kept;
    let token = TokenRecord { id, hash, scope: TokenScope::Operator, created: ClusterTime::default() };
    let principal = Principal::Node(cluster.node_id());
    while let Err(error) =
        cluster.propose(principal.clone(), None, Command::PutToken { token: token.clone() }).await
    {
        tracing::debug!(%error, "the first token waits for a quorum");
        tokio::time::sleep(AGAIN).await;
    }
    // A refusal says that a token of this name exists: an earlier start was cut off after its proposal.
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(%error, path = %path.display(), "the first token's hash stays on disk");
    }
    tracing::info!("the first operator's token is known to the cluster");
}

fn path(config: &Config) -> PathBuf {
    config.data.join("first-token.json")
}
