//! The fault switch of test builds (`--features faults`): a socket in the data directory that takes one order a line.
//!
//! `panic CALL` makes the actor of that call panic at its next step. `disk full`, `disk slow MS`, `disk eio COUNT` and
//! `disk ok` are the faults of the node's disk; `power` ends the process at once and takes what was never synced with it.
//! Never in a release: the feature is off by default.

use std::path::PathBuf;
use std::time::Duration;

use tandem_actors::Switch;
use tandem_cluster::disk::faults::Faults;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Serves `DATA/faults.sock`.
pub(super) async fn serve(data: PathBuf, switch: Switch, disk: Faults) -> std::io::Result<()> {
    let path = data.join("faults.sock");
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(&path)?;
    tracing::warn!(socket = %path.display(), "this is a test build: faults can be injected");
    loop {
        let (stream, _) = listener.accept().await?;
        answer(stream, &switch, &disk).await?;
    }
}

async fn answer(stream: UnixStream, switch: &Switch, disk: &Faults) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer: &[u8] = match words.as_slice() {
            ["panic", call] if call.parse().is_ok_and(|call| switch.inject_fault(call)) => b"done\n",
            ["panic", _] => b"no such call here\n",
            ["disk", order @ ..] if carried_out(order, disk) => b"done\n",
            ["power"] => {
                let cut = disk.cut_power(0);
                tracing::warn!(?cut, "a test cuts the power");
                std::process::exit(86);
            }
            _ => b"no such order\n",
        };
        write.write_all(answer).await?;
    }
    Ok(())
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
