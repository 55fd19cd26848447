//! The guard of a node: a small process that starts the worker, waits for it, and tells the other members when the kernel
//! has reaped it, so that its calls go on elsewhere at once. It forwards signals, never starts the worker again, and ends
//! with the worker's status.
//!
//! The worker dies with its guard (which the others then take for silence), so that nobody ever speaks for a node of whose
//! end nobody would hear.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tandem_cluster::{Cluster, Testament, tell_death};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::logs;
use super::signals::Signals;
use crate::config::Config;
use crate::failure::refused;

/// The notice is given up after this.
const NOTICE: Duration = Duration::from_secs(1);
/// What the worker still said before its end is read for so long.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How often the worker looks whether its testament has to change: members come and go rarely.
const LOOK: Duration = Duration::from_millis(200);

/// Runs a node's worker, and ends as it ends.
pub(super) fn run(path: &Path, log_json: bool) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    logs::start(log_json);
    // One thread, the main one: the worker's death signal is bound to the thread that starts it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(watch(&config, log_json))?;
    std::process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

async fn watch(config: &Config, log_json: bool) -> anyhow::Result<ExitStatus> {
    let mut signals = Signals::listen()?;
    let (here, there) = UnixStream::pair().context("a socket to the worker")?;
    let mut worker = start(config, log_json, there).context("the node's worker")?;
    let testament = Kept::default();
    let reading = tokio::spawn(keep(here, testament.clone()));
    let status = loop {
        tokio::select! {
            status = worker.wait() => break status.context("the node's worker")?,
            () = signals.next() => forward(&worker),
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, reading).await;
    if status.success() {
        return Ok(status);
    }
    if let Some(testament) = testament.take() {
        let told = tell_death(&config.data, testament, NOTICE).await;
        tracing::error!(%status, told, "the node's worker has ended, and so many members were told");
    }
    Ok(status)
}

fn start(config: &Config, log_json: bool, socket: UnixStream) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["node", "run", "--config"]).arg(&config.path);
    command.args(["--guarded-by", &std::process::id().to_string()]);
    if log_json {
        command.arg("--log-json");
    }
    // systemd's watchdog names this process; it is the worker that feeds it.
    command.env_remove("WATCHDOG_PID");
    // A group of its own: a terminal's Ctrl-C reaches the guard alone, which forwards it once.
    command.stdin(OwnedFd::from(socket)).process_group(0).spawn()
}

fn forward(worker: &Child) {
    let pid = worker.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// The worker's last testament.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<Testament>>>);

impl Kept {
    fn put(&self, testament: Testament) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(testament);
    }

    fn take(&self) -> Option<Testament> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Reads what the worker says until its end.
async fn keep(socket: UnixStream, kept: Kept) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let mut socket = tokio::net::UnixStream::from_std(socket)?;
    loop {
        let length = socket.read_u32_le().await?;
        let mut bytes = vec![0; usize::try_from(length.min(TESTAMENT_MAX)).unwrap_or(0)];
        socket.read_exact(&mut bytes).await?;
        if let Some(testament) = Testament::of_bytes(&bytes) {
            kept.put(testament);
        }
    }
}

/// A few members and their addresses.
const TESTAMENT_MAX: u32 = 64 * 1024;

/// The worker binds its life to its guard's.
pub(super) fn be_guarded(by: u32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("the death signal")?;
    // The guard may have died before that.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get());
    if parent.and_then(|pid| u32::try_from(pid).ok()) == Some(by) {
        return Ok(());
    }
    Err(refused("the guard of this process is gone", "start the node by `tandem node run --config FILE`"))
}

/// Leaves with the guard what it needs for a notice, now and whenever that changes.
pub(super) async fn leave_testaments(cluster: Cluster) -> io::Result<()> {
    let mut guard = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut left = None;
    loop {
        let testament = cluster.testament();
        if left.as_ref() != Some(&testament) {
            let bytes = testament.to_bytes();
            guard.write_all(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes())?;
            guard.write_all(&bytes)?;
            left = Some(testament);
        }
        tokio::time::sleep(LOOK).await;
    }
}
