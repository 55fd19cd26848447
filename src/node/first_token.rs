//! The first operator's token: drawn offline by `cluster init`, known to the cluster once its first node runs.
//!
//! Between the two its SHA-256 lies beside the data directory; the token itself is on no disk of the node.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
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

/// Lays the hash beside the data directory.
pub(crate) fn keep(config: &Config, hash: [u8; 32]) -> anyhow::Result<()> {
    let path = path(config);
    let folder = path.parent().unwrap_or(config.folder());
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let text = serde_json::to_string(&Kept { id: ID.to_owned(), sha256: hash })?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| path.display().to_string())
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
    let mut name = config.data.file_name().unwrap_or_default().to_owned();
    name.push(".first-token.json");
    config.data.with_file_name(name)
}
