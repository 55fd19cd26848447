//! The fault switch of test builds (`--features faults`): a socket in the data directory that takes one order a line.
//!
//! `panic CALL` makes the actor of that call panic at its next step. Never in a release: the feature is off by default.

use std::path::PathBuf;

use tandem_actors::Switch;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Serves `DATA/faults.sock`.
pub(super) async fn serve(data: PathBuf, switch: Switch) -> std::io::Result<()> {
    let path = data.join("faults.sock");
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(&path)?;
    tracing::warn!(socket = %path.display(), "this is a test build: faults can be injected");
    loop {
        let (stream, _) = listener.accept().await?;
        answer(stream, &switch).await?;
    }
}

async fn answer(stream: UnixStream, switch: &Switch) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let call = line.strip_prefix("panic ").and_then(|id| id.parse().ok());
        let done = call.is_some_and(|call| switch.inject_fault(call));
        write.write_all(if done { b"done\n" } else { b"no such call here\n" }).await?;
    }
    Ok(())
}
