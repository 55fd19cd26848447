//! How long a cluster of three takes no writes when its leader's process is killed: one JSON line.
//!
//! `cargo run --release -p tandem-cluster --example failover [KILLS] [DELAY_MS]`
//!
//! Each node is a process of its own on 127.0.0.1. After `kill -9` of the leader a write is put to a survivor at once; what
//! counts is the time from the kill to its commit. The killed node is started again and must have caught up before the next
//! kill. With a delay, each message between two nodes takes that long, each way, through a forwarder in this program; the
//! forwarder of a killed node refuses connections like the node itself.

mod link;
mod node;
#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use link::Link;
use support::Failed;

fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1);
    let first = args.next().unwrap_or_else(|| "100".into());
    if first == "node" {
        return node::run(args);
    }
    let kills: usize = first.parse()?;
    let delay = Duration::from_millis(args.next().map_or(Ok(0), |text| text.parse())?);
    let scratch = tempfile::tempdir()?;
    let mut cluster = Cluster::start(scratch.path(), delay)?;
    let mut spans = Vec::new();
    for _ in 0..kills {
        spans.push(cluster.kill_leader()?);
    }
    spans.sort_unstable();
    let at = |percent: usize| {
        let at = (spans.len() * percent / 100).min(spans.len().saturating_sub(1));
        spans.get(at).map_or(0.0, |span| span.as_secs_f64() * 1000.0)
    };
    let line = format!(
        "{{\"bench\":\"failover\",\"kills\":{kills},\"delay_ms\":{},\"median_ms\":{:.1},\"p99_ms\":{:.1},\"max_ms\":{:.1}}}",
        delay.as_millis(),
        at(50),
        at(99),
        at(100)
    );
    #[expect(clippy::print_stdout, reason = "the result")]
    {
        println!("{line}");
    }
    Ok(())
}

struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    fn start(directory: &Path, delay: Duration) -> Result<Cluster, Failed> {
        let mut nodes: Vec<Node> = Vec::new();
        for at in 0..3 {
            let token = match nodes.first_mut() {
                Some(first) => first.ask("invite")?,
                None => "first".into(),
            };
            let mut node = Node::prepare(directory.join(format!("n{at}")), delay)?;
            node.start(&token)?;
            nodes.push(node);
        }
        let mut cluster = Cluster { nodes };
        cluster.settle()?;
        Ok(cluster)
    }

    /// Waits until all three vote, have the same log, and follow the same leader.
    fn settle(&mut self) -> Result<usize, Failed> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut said = Vec::new();
        while Instant::now() < deadline {
            let words =
                self.nodes.iter_mut().map(|node| node.ask("status")).collect::<Result<Vec<_>, _>>()?;
            let leader = words.iter().position(|word| word.starts_with("leader voters=3"));
            let same = words.iter().filter_map(|word| word.split_once(' ')).map(|(_, rest)| rest);
            let mut same = same.collect::<Vec<_>>();
            same.dedup();
            let settled = (leader, same.len());
            if let (Some(leader), 1) = settled {
                return Ok(leader);
            }
            said = words;
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("the cluster did not settle in a minute: {said:?}").into())
    }

    fn kill_leader(&mut self) -> Result<Duration, Failed> {
        let leader = self.settle()?;
        let killed = Instant::now();
        self.nodes.get_mut(leader).ok_or("no leader")?.kill()?;
        let survivor = self.nodes.get_mut((leader + 1) % 3).ok_or("no survivor")?;
        if survivor.ask("write")? != "written" {
            return Err("a survivor refused a write".into());
        }
        let span = killed.elapsed();
        self.nodes.get_mut(leader).ok_or("no leader")?.start("again")?;
        Ok(span)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // One that is down already is what is wanted.
            let _ = node.kill();
        }
    }
}

/// One node's process, and the way to it.
struct Node {
    data: PathBuf,
    link: Link,
    process: Option<(Child, ChildStdin, BufReader<ChildStdout>)>,
}

impl Node {
    fn prepare(data: PathBuf, delay: Duration) -> Result<Node, Failed> {
        Ok(Node { data, link: Link::new(delay)?, process: None })
    }

    fn start(&mut self, token: &str) -> Result<(), Failed> {
        self.link.open()?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["node".as_ref(), self.data.as_os_str()])
            .args([self.link.inner().to_string(), self.link.outer().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        self.process = Some((child, stdin, stdout));
        match self.ask(token)?.as_str() {
            "ready" => Ok(()),
            other => Err(format!("a node did not start: {other}").into()),
        }
    }

    fn ask(&mut self, question: &str) -> Result<String, Failed> {
        let (_, stdin, stdout) = self.process.as_mut().ok_or("the node is down")?;
        writeln!(stdin, "{question}")?;
        let mut answer = String::new();
        stdout.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }

    fn kill(&mut self) -> Result<(), Failed> {
        if let Some((mut child, ..)) = self.process.take() {
            child.kill()?;
            self.link.close();
            child.wait()?;
        }
        Ok(())
    }
}
