//! The demo's node processes: started, watched, and stopped, those restarted by hand too.

use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::layout::{Layout, Node};
use crate::failure::refused;
use crate::output::progress;

/// Nodes get this long to end calls and close files; then they are killed.
const ORDERLY: Duration = Duration::from_secs(12);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// The nodes that this demo started.
#[derive(Default)]
pub(super) struct Processes {
    children: Vec<(String, Child)>,
}

/// Refuses to go on while nodes of an earlier demo run on this directory.
pub(super) fn none_left(layout: &Layout) -> anyhow::Result<()> {
    let running: Vec<String> = layout
        .nodes
        .iter()
        .filter_map(|node| Some(format!("{} (process {})", node.name, running(node)?)))
        .collect();
    if running.is_empty() {
        return Ok(());
    }
    let what = format!("nodes of {} run already: {}", layout.dir.display(), running.join(", "));
    Err(refused(what, "end them first: kill PROCESS"))
}

impl Processes {
    /// Starts a node.
    pub(super) fn start(&mut self, node: &Node) -> anyhow::Result<()> {
        progress(&format!("starting {} on {} ...", node.name, node.address));
        let log = OpenOptions::new().create(true).append(true).open(node.log());
        let log = log.with_context(|| node.log().display().to_string())?;
        let program = std::env::current_exe().context("this program's own file")?;
        let mut command = Command::new(program);
        command.args(["node", "run", "--config"]).arg(node.config()).env_remove("TANDEM_TOKEN");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C reaches the demo alone, which stops its nodes in order.
        let child = command.process_group(0).spawn().with_context(|| node.name.clone())?;
        self.children.push((node.name.clone(), child));
        Ok(())
    }

    /// Tells of each node that ends. Never returns.
    pub(super) async fn watch(&mut self, layout: &Layout) {
        loop {
            let mut ended = Vec::new();
            self.children.retain_mut(|(name, child)| match child.try_wait() {
                Ok(Some(status)) => {
                    ended.push((name.clone(), status));
                    false
                }
                Ok(None) | Err(_) => true,
            });
            for (name, status) in ended {
                let node = layout.nodes.iter().find(|node| node.name == name);
                let config = node.map(|node| node.config().display().to_string()).unwrap_or_default();
                let how = how_ended(status);
                progress(&format!("{name} {how}; start it again: tandem node run --config {config}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops every node of the directory, whoever started it.
    pub(super) async fn stop_all(mut self, layout: &Layout) {
        let deadline = Instant::now() + ORDERLY;
        self.signal_all(layout, Signal::TERM);
        while self.any_runs(layout) && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        if self.any_runs(layout) {
            progress("a node doesn't stop by itself and is killed");
            self.signal_all(layout, Signal::KILL);
            tokio::time::sleep(LOOK).await;
        }
        self.any_runs(layout);
    }

    fn signal_all(&mut self, layout: &Layout, signal: Signal) {
        // Guards, which forward signals to their workers; a node that was restarted by hand is known by its worker alone.
        let own: Vec<u32> = self.children.iter().filter_map(|(_, child)| child.id()).collect();
        let by_hand = layout.nodes.iter().filter_map(running);
        let by_hand = by_hand.filter(|pid| !parent(*pid).is_some_and(|parent| own.contains(&parent)));
        for pid in own.iter().copied().chain(by_hand) {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, signal));
        }
    }

    fn any_runs(&mut self, layout: &Layout) -> bool {
        self.children.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        !self.children.is_empty() || layout.nodes.iter().any(|node| running(node).is_some())
    }
}

fn how_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, Some(0)) => "has stopped".to_owned(),
        (None, code) => format!("failed (status {}), see its tandem.log", code.unwrap_or_default()),
    }
}

/// The process of a node by its pid file, if that process really is a node of this folder.
fn running(node: &Node) -> Option<u32> {
    let pid: u32 = fs::read_to_string(node.pid_file()).ok()?.trim().parse().ok()?;
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let line = fs::read(proc.join("cmdline")).ok()?;
    let arguments: Vec<String> =
        line.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let folder = fs::read_link(proc.join("cwd")).ok()?;
    is_node_of(&arguments, &folder, &node.config()).then_some(pid)
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Whether a command line runs the node of this config.
fn is_node_of(arguments: &[String], folder: &Path, config: &Path) -> bool {
    let mut rest = arguments.iter().skip(1).map(String::as_str);
    if rest.next() != Some("node") || rest.next() != Some("run") {
        return false;
    }
    let options: Vec<&str> = rest.collect();
    let mut given = options.iter().filter_map(|option| option.strip_prefix("--config="));
    let apart =
        options.iter().position(|option| *option == "--config").and_then(|at| options.get(at + 1).copied());
    let path = given.next().or(apart).map(|path| folder.join(path));
    path.and_then(|path| path.canonicalize().ok()).is_some_and(|path| path == config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn only_a_node_of_this_very_config_is_taken_for_one() {
        let dir = Scratch::new();
        let folder = dir.path().canonicalize().unwrap();
        let config = folder.join("tandem.toml");
        fs::write(&config, "").unwrap();
        let is = |line: &str, config: &Path| {
            is_node_of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>(), &folder, config)
        };
        assert!(is("tandem node run --config tandem.toml", &config));
        assert!(is("/usr/bin/tandem node run --log-json --config=./tandem.toml", &config));
        assert!(!is("tandem node run --config other.toml", &config));
        assert!(!is("vi node run --config", &config));
        assert!(!is("tandem demo --config tandem.toml", &config));
    }
}
