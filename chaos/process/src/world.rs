//! The cluster under test: three node processes, made from nothing, killed, stopped, started again, and all gone when the
//! run ends.

pub(crate) mod content;
mod process;

use crate::api::{Api, Order};
use crate::place::Place;
use anyhow::{Context, bail};
use process::Process;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddrV4;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// See the module.
pub(crate) struct World {
    place: Place,
    program: PathBuf,
    dir: PathBuf,
    token: String,
    nodes: [Mutex<Node>; 3],
}

/// One node.
struct Node {
    /// n1, n2, n3; one that replaces another has a name of its own.
    name: String,
    /// All that were started, the last one last.
    processes: Vec<Process>,
}

/// Until a cluster stands that was made from nothing.
const STANDS: Duration = Duration::from_secs(90);
/// Until a node has applied what was acknowledged at another.
const CAUGHT_UP: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);
/// The first and the last port of each node's media.
const RTP_PORTS: (u16, u16) = (20_000, 29_999);

/// How many calls' sides a node's media has ports for: each takes two, for RTP and RTCP.
pub(crate) fn rtp_port_pairs() -> f64 {
    f64::from(RTP_PORTS.1 - RTP_PORTS.0 + 1) / 2.0
}

impl World {
    /// Makes a cluster in an empty directory, with extensions for so many calls in each group.
    pub(crate) fn make(place: Place, program: &Path, dir: &Path, calls: u64) -> anyhow::Result<World> {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let dir = dir.canonicalize()?;
        let program = program.canonicalize().with_context(|| program.display().to_string())?;
        let node = |number: usize| Mutex::new(Node { name: format!("n{number}"), processes: Vec::new() });
        let nodes = [node(1), node(2), node(3)];
        let mut world = World { place, program, dir, token: String::new(), nodes };
        for index in 0..3 {
            world.write_config(index)?;
        }
        let config = world.config(0).to_string_lossy().into_owned();
        let made = world.cli(0, &["cluster", "init", "--config", &config, "-o", "json"])?;
        let made: Value = serde_json::from_slice(&made.stdout).context("what `cluster init` says")?;
        made.get("admin_token").and_then(Value::as_str).context("a token")?.clone_into(&mut world.token);
        world.start(0)?;
        for index in 1..3 {
            world.join(index, 0)?;
            world.start(index)?;
        }
        world.await_whole(STANDS)?;
        fs::write(world.dir.join("apply.yaml"), content::file(calls))?;
        let file = world.dir.join("apply.yaml").to_string_lossy().into_owned();
        world.cli(0, &["apply", "-f", &file])?;
        // A node that lags says 403 to a phone that it doesn't know yet.
        for index in 0..3 {
            let caught_up = world.api(index).get("/v1/tenants?consistent=true", CAUGHT_UP)?;
            anyhow::ensure!(caught_up.0 == 200, "{} has not all tenants: {caught_up:?}", world.name(index));
        }
        Ok(world)
    }

    /// Where everything is.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The name that a node has now.
    pub(crate) fn name(&self, index: usize) -> String {
        self.node(index).name.clone()
    }

    /// Where a node speaks SIP.
    pub(crate) fn sip(&self, index: usize) -> SocketAddrV4 {
        SocketAddrV4::new(self.place.node(index), 5060)
    }

    /// A node's API.
    pub(crate) fn api(&self, index: usize) -> Api {
        Api { address: SocketAddrV4::new(self.place.node(index), 8080), token: self.token.clone() }
    }

    /// The folder with a node's config, log and data.
    pub(crate) fn folder(&self, index: usize) -> PathBuf {
        self.dir.join(format!("n{}", index + 1))
    }

    /// A node's data directory.
    pub(crate) fn data(&self, index: usize) -> PathBuf {
        self.folder(index).join("data")
    }

    fn config(&self, index: usize) -> PathBuf {
        self.folder(index).join("tandem.toml")
    }

    fn node(&self, index: usize) -> MutexGuard<'_, Node> {
        let node = self.nodes.get(index).expect("there are three nodes");
        node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what a node reads at its start.
    fn write_config(&self, index: usize) -> anyhow::Result<()> {
        let (name, host) = (self.name(index), self.place.node(index));
        let site = if index == 2 { "west" } else { "east" };
        let (first, last) = RTP_PORTS;
        fs::create_dir_all(self.folder(index))?;
        let text = format!(
            "[node]\nname = \"{name}\"\nsite = \"{site}\"\ndata = \"data\"\n\
             [cluster]\nlisten = \"{host}:7400\"\n\
             [sip]\nudp = [\"{host}:5060\"]\ntcp = [\"{host}:5060\"]\nadvertise = \"{host}\"\n\
             [rtp]\nlisten = \"{host}\"\nports = \"{first}-{last}\"\n\
             [api]\nlisten = \"{host}:8080\"\n"
        );
        fs::write(self.config(index), text).with_context(|| self.config(index).display().to_string())
    }

    /// Runs the command line against a node, from that node's place; it must succeed.
    pub(crate) fn cli(&self, index: usize, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut words = self.place.before(index).into_iter().chain([self.program.clone().into()]);
        let first = words.next().context("a program")?;
        let output = Command::new(first)
            .args(words)
            .args(arguments)
            .env("TANDEM_API", format!("http://{}:8080", self.place.node(index)))
            .env("TANDEM_TOKEN", &self.token)
            .output()
            .with_context(|| self.program.display().to_string())?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("tandem {}: {}", arguments.join(" "), said.trim())
    }

    /// Starts a node.
    pub(crate) fn start(&self, index: usize) -> anyhow::Result<()> {
        let config = self.config(index).into_os_string();
        let words = self.place.before(index).into_iter().chain([
            self.program.clone().into(),
            "node".into(),
            "run".into(),
            "--config".into(),
            config,
        ]);
        let process = Process::start(&words.collect::<Vec<_>>(), &self.folder(index).join("tandem.log"))?;
        self.node(index).processes.push(process);
        Ok(())
    }

    /// Lets a node that has no data join, by the word of another.
    fn join(&self, index: usize, via: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + STANDS;
        let invite = Order {
            method: "POST",
            path: "/v1/cluster/invite",
            body: r#"{"role":"full","valid_s":300}"#,
            key: "",
        };
        let token = loop {
            let invited = self.api(via).order(invite, Duration::from_secs(5));
            let token = invited.ok().and_then(|(_, body)| {
                Some(serde_json::from_str::<Value>(&body).ok()?.get("token")?.as_str()?.to_owned())
            });
            match token {
                Some(token) => break token,
                None if Instant::now() > deadline => bail!("n{} invites nobody", via + 1),
                None => std::thread::sleep(LOOK),
            }
        };
        let config = self.config(index).to_string_lossy().into_owned();
        while let Err(error) = self.cli(index, &["cluster", "join", &token, "--config", &config]) {
            if Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(LOOK * 4);
        }
        Ok(())
    }

    /// Puts a new node in the place of one that can't come back, as `deploy/runbooks/node-lost.md` says.
    pub(crate) fn replace(&self, index: usize) -> anyhow::Result<()> {
        let via = (index + 1) % 3;
        let lost = self.name(index);
        self.cli(via, &["cluster", "remove", &lost])?;
        self.node(index).name = format!("{lost}b");
        let _ = fs::remove_dir_all(self.data(index));
        self.write_config(index)?;
        self.join(index, via)?;
        self.start(index)
    }

    /// The process that speaks SIP, if it runs.
    pub(crate) fn worker(&self, index: usize) -> Option<u32> {
        let text = fs::read_to_string(self.folder(index).join("tandem.pid")).ok()?;
        let pid = text.trim().parse().ok()?;
        is_alive(pid).then_some(pid)
    }

    /// The process that waits for it.
    pub(crate) fn guard(&self, index: usize) -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.worker(index)?)).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    }

    /// Gives the fault switch of a node's test build an order.
    pub(crate) fn order(&self, index: usize, order: &str) -> anyhow::Result<()> {
        let path = self.data(index).join("faults.sock");
        let mut stream = UnixStream::connect(&path).with_context(|| {
            format!("{}: the nodes must be test builds (--features faults) that run", path.display())
        })?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        writeln!(stream, "{order}")?;
        let mut answer = String::new();
        let read = BufReader::new(stream).read_line(&mut answer);
        match (read, answer.trim()) {
            (_, "done") => Ok(()),
            // The process ends in the middle of this one.
            _ if order.starts_with("power") => Ok(()),
            (read, said) => {
                bail!("{order}: {said} {}", read.err().map(|e| e.to_string()).unwrap_or_default())
            }
        }
    }

    /// What a node says of the cluster.
    pub(crate) fn status(&self, index: usize) -> Option<Value> {
        let (200, body) = self.api(index).get("/v1/cluster", Duration::from_secs(1)).ok()? else {
            return None;
        };
        serde_json::from_str(&body).ok()
    }

    /// Waits until all three nodes vote, are up, have applied the same and take calls.
    pub(crate) fn await_whole(&self, wait: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + wait;
        while !self.is_whole() {
            if Instant::now() > deadline {
                let said: Vec<String> =
                    (0..3).filter_map(|index| Some(self.status(index)?.to_string())).collect();
                bail!("the nodes are not all up within {wait:?}: {}", said.join("\n"));
            }
            std::thread::sleep(LOOK * 2);
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        (0..3).all(|index| {
            let ready = self.api(index).get("/readyz", Duration::from_secs(1));
            ready.is_ok_and(|(status, _)| status == 200)
                && self.status(index).is_some_and(|status| shows_whole(&status))
        })
    }
}

fn shows_whole(status: &Value) -> bool {
    let nodes = status.get("nodes").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |node: &Value, key: &str| node.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let votes = |node: &Value| ["leader", "follower"].contains(&text(node, "raft").as_str());
    nodes.len() == 3 && nodes.iter().all(|node| text(node, "state") == "up" && votes(node))
}

/// Whether a process runs, or waits only to be asked after.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

impl Drop for World {
    fn drop(&mut self) {
        let mut processes: Vec<Process> =
            (0..3).flat_map(|index| std::mem::take(&mut self.node(index).processes)).collect();
        processes.iter_mut().for_each(Process::tell_to_stop);
        processes.into_iter().for_each(Process::await_end);
    }
}

pub(crate) use process::signal;
