//! A three-node cluster of real processes, as `tandem demo` starts it, on 127.0.N.1 to 127.0.N.3.

use super::{SOON, eventually, scratch};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Extensions per tenant of the tests' own apply file, from 101.
const EXTENSIONS: usize = 120;

/// One extension and how its phone authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub tenant: String,
    pub domain: String,
    pub number: String,
    pub password: String,
}

/// A process that is told to stop when its standard input closes: so it goes even when the tests are killed.
pub struct Guarded {
    child: Child,
    _input: Option<ChildStdin>,
}

impl Guarded {
    pub fn start(program: &Path, arguments: &[&str], out: Stdio, errors: Stdio) -> Guarded {
        let script = r#""$@" & pid=$!; trap 'kill -TERM $pid' TERM; read -r _; kill -TERM $pid 2>/dev/null; wait $pid 2>/dev/null"#;
        let mut child = Command::new("bash")
            .args(["-c", script, "guard"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .expect("bash");
        let input = child.stdin.take();
        Guarded { child, _input: input }
    }

    pub fn stop(&mut self) {
        self._input = None;
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What an event stream has told.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<Value>>>);

impl Events {
    pub fn told(&self) -> Vec<Value> {
        self.0.lock().expect("no panic inside").clone()
    }
}

pub struct Demo {
    pub dir: PathBuf,
    net: u8,
    token: String,
    accounts: Vec<Account>,
    given: AtomicUsize,
    hosts: AtomicU8,
    process: Mutex<Guarded>,
    restarted: Mutex<Vec<Guarded>>,
}

fn parent(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    line.trim().parse().expect("a pid")
}

/// The program under test.
pub fn tandem() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_tandem").map(PathBuf::from);
    std::env::var_os("TANDEM_BIN").map(PathBuf::from).or(built).expect("TANDEM_BIN, or run by cargo test")
}

/// What a process of the program has in its environment.
pub type Settings = Vec<String>;

/// A wall clock that is set off, by `+2h` or the like, by a library that answers for the system's (Debian's faketime); the other
/// clocks are right, as they are on a machine whose clock was set wrong.
pub fn clock_off(by: &str) -> Settings {
    let library = "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1".to_owned();
    vec![library, format!("FAKETIME={by}"), "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned()]
}

/// A test build that passes for a release whose newest rules are these.
pub fn release_of_rules(newest: u16) -> Settings {
    vec![format!("TANDEM_APPLY_VERSION={newest}")]
}

fn started(arguments: &[&str], settings: &Settings, out: Stdio, errors: Stdio) -> Guarded {
    let program = tandem().to_string_lossy().into_owned();
    let settings: Vec<&str> = settings.iter().map(String::as_str).chain([&*program]).collect();
    Guarded::start(Path::new("env"), &[&settings, arguments].concat(), out, errors)
}

fn apply_file() -> String {
    let mut text = String::from("tenants:\n");
    for (tenant, domain) in [("acme", "acme.example"), ("globex", "globex.example")] {
        let _ = writeln!(
            text,
            "  - name: {tenant}\n    domain: {domain}\n    timezone: Europe/London\n    extensions:"
        );
        for number in 101..101 + EXTENSIONS {
            let _ = writeln!(
                text,
                "      - {{number: \"{number}\", name: {tenant} {number}, password: \"{tenant}-Secret-{number}\"}}"
            );
        }
    }
    text
}

impl Demo {
    /// Starts a cluster on 127.0.`net`.x with two tenants of equal numbers and waits until it says that it is ready.
    pub fn start(net: u8) -> Demo {
        Demo::start_with(net, &apply_file())
    }

    /// The same with other content.
    pub fn start_with(net: u8, apply_file: &str) -> Demo {
        let dir = scratch(&format!("demo-{net}"));
        std::fs::write(dir.join("apply.yaml"), apply_file).expect("the apply file");
        Demo::start_again(net, dir)
    }

    /// As [`Demo::start`], in a directory that the test has prepared.
    pub fn start_in(net: u8, dir: PathBuf) -> Demo {
        std::fs::write(dir.join("apply.yaml"), apply_file()).expect("the apply file");
        Demo::start_again(net, dir)
    }

    /// As [`Demo::start`], with all nodes so set.
    pub fn start_anew_as(net: u8, settings: &Settings) -> Demo {
        let dir = scratch(&format!("demo-{net}"));
        std::fs::write(dir.join("apply.yaml"), apply_file()).expect("the apply file");
        Demo::start_as(net, dir, settings)
    }

    /// Starts a stopped cluster on its directory.
    pub fn start_again(net: u8, dir: PathBuf) -> Demo {
        Demo::start_as(net, dir, &Settings::new())
    }

    /// The same with all nodes so set.
    pub fn start_as(net: u8, dir: PathBuf, settings: &Settings) -> Demo {
        let (text, file) =
            (dir.to_string_lossy().into_owned(), dir.join("apply.yaml").to_string_lossy().into_owned());
        let subnet = format!("127.0.{net}");
        let arguments = ["demo", "--dir", &text, "--file", &file, "--subnet", &subnet];
        let mut process = started(&arguments, settings, Stdio::piped(), Stdio::inherit());
        await_ready(&mut process.child, &dir);
        let credentials = std::fs::read_to_string(dir.join("credentials.json")).expect("credentials.json");
        let credentials: Value = serde_json::from_str(&credentials).expect("credentials.json is JSON");
        let text = |value: &Value, key: &str| {
            value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}")).to_owned()
        };
        let accounts = credentials["extensions"].as_array().expect("extensions").iter().map(|one| Account {
            tenant: text(one, "tenant"),
            domain: text(one, "domain"),
            number: text(one, "number"),
            password: text(one, "password"),
        });
        Demo {
            accounts: accounts.collect(),
            token: text(&credentials, "admin_token"),
            dir,
            net,
            given: AtomicUsize::new(0),
            hosts: AtomicU8::new(50),
            process: Mutex::new(process),
            restarted: Mutex::new(Vec::new()),
        }
    }

    /// Every account of the cluster.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// An extension of acme that no other test uses.
    pub fn account(&self) -> Account {
        let number = 101 + self.given.fetch_add(1, Ordering::Relaxed);
        self.account_of("acme", &number.to_string())
    }

    /// One extension.
    pub fn account_of(&self, tenant: &str, number: &str) -> Account {
        let found = self.accounts.iter().find(|account| account.tenant == tenant && account.number == number);
        found.unwrap_or_else(|| panic!("no extension {number} of {tenant}")).clone()
    }

    /// An extension number that two tenants have and no other test uses.
    pub fn twins(&self) -> (Account, Account) {
        let first = self.account();
        let second = self.account_of("globex", &first.number);
        (first, second)
    }

    /// An address for a phone or program of its own.
    pub fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, self.net, self.hosts.fetch_add(1, Ordering::Relaxed))
    }

    /// Where node 1, 2 or 3 speaks SIP.
    pub fn sip(&self, node: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(127, 0, self.net, node), 5060)
    }

    /// GET from a node's HTTP API: status and body.
    pub fn get(&self, node: u8, path: &str) -> std::io::Result<(u16, String)> {
        self.ask(node, "GET", path, "")
    }

    /// Asks a node's API, with a body in JSON unless it is empty: status and body.
    pub fn ask(&self, node: u8, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let address = SocketAddrV4::new(Ipv4Addr::new(127, 0, self.net, node), 8080);
        let mut stream = TcpStream::connect_timeout(&address.into(), Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let content = match body.len() {
            0 => String::new(),
            length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n{content}Connection: close\r\n\r\n{body}",
            self.token
        );
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let status = text.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        Ok((status, if chunked { unchunk(body) } else { body.to_owned() }))
    }

    /// Listens to the operator's event stream of a node from now on.
    pub fn events(&self, node: u8) -> Events {
        let address = SocketAddrV4::new(Ipv4Addr::new(127, 0, self.net, node), 8080);
        let mut stream = TcpStream::connect(address).expect("the API listens");
        let request = format!(
            "GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n",
            self.token
        );
        stream.write_all(request.as_bytes()).expect("a request");
        let told = Events::default();
        let heard = told.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let data = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data.trim()).ok());
                heard.0.lock().expect("no panic inside").extend(data);
            }
        });
        told
    }

    /// The items of a list of the API, from one node.
    pub fn items(&self, node: u8, path: &str) -> Vec<Value> {
        let Ok((200, body)) = self.get(node, path) else { return Vec::new() };
        let list: Value =
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Runs the command line against a node: exit code, standard output, standard error.
    pub fn cli(&self, node: u8, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(tandem())
            .args(arguments)
            .env("TANDEM_API", format!("http://127.0.{}.{node}:8080", self.net))
            .env("TANDEM_TOKEN", &self.token)
            .output()
            .expect("tandem runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// The same, which must succeed and print JSON; a list comes without its envelope.
    #[track_caller]
    pub fn json(&self, node: u8, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
        let (code, out, error) = self.cli(node, &arguments);
        assert_eq!(code, 0, "{arguments:?}: {error}{out}");
        let value: Value =
            serde_json::from_str(&out).unwrap_or_else(|why| panic!("{arguments:?}: {why}: {out}"));
        value.get("items").cloned().unwrap_or(value)
    }

    /// `tandem cluster status --watch`, which asks these nodes until it is dropped; what it printed is in the file.
    pub fn watching(&self, nodes: &[u8]) -> (Guarded, PathBuf) {
        let urls: Vec<String> =
            nodes.iter().map(|node| format!("http://127.0.{}.{node}:8080", self.net)).collect();
        let settings = vec![format!("TANDEM_API={}", urls.join(",")), format!("TANDEM_TOKEN={}", self.token)];
        let path = self.dir.join(format!("watched-at-n{}.txt", nodes[0]));
        let file = std::fs::File::create(&path).expect("a file");
        let arguments = ["cluster", "status", "--watch"];
        (started(&arguments, &settings, file.into(), Stdio::null()), path)
    }

    /// Waits until node `node` shows `count` registrations of this extension.
    pub fn await_registrations(&self, node: u8, account: &Account, count: usize) {
        let path = format!("/v1/tenants/{}/registrations", account.tenant);
        eventually(SOON, &format!("{count} registrations of {} at n{node}", account.number), || {
            let all = self.items(node, &path);
            (all.iter().filter(|one| one["number"] == account.number.as_str()).count() == count).then_some(())
        });
    }

    /// The CDRs of a tenant that name these two numbers, from one node.
    pub fn cdrs(&self, node: u8, from: &Account, to: &str) -> Vec<Value> {
        let all = self.items(node, &format!("/v1/tenants/{}/cdrs", from.tenant));
        all.into_iter().filter(|cdr| cdr["from"] == from.number.as_str() && cdr["to"] == to).collect()
    }

    /// Waits for the one CDR of a call; a second one is a failure.
    #[track_caller]
    pub fn cdr(&self, from: &Account, to: &str) -> Value {
        let found = eventually(SOON, &format!("a CDR from {} to {to}", from.number), || {
            let found = self.cdrs(1, from, to);
            (!found.is_empty()).then_some(found)
        });
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }

    /// Waits until no call of this extension is left on any node.
    pub fn await_no_calls(&self, account: &Account) {
        eventually(SOON, "all calls gone", || {
            let calls = self.items(1, &format!("/v1/tenants/{}/calls", account.tenant));
            let ours = |call: &Value| {
                call["from"] == account.number.as_str() || call["to"] == account.number.as_str()
            };
            (!calls.iter().any(ours)).then_some(())
        });
    }

    /// What `cluster status` says, if this node answers.
    pub fn status(&self, node: u8) -> Option<Value> {
        let (200, body) = self.get(node, "/v1/cluster").ok()? else { return None };
        serde_json::from_str(&body).ok()
    }

    /// The number of the leader, by the word of this node.
    pub fn leader(&self, node: u8) -> Option<u8> {
        let status = self.status(node)?;
        status["leader"].as_str()?.strip_prefix('n')?.parse().ok()
    }

    /// The process that speaks SIP at this node.
    pub fn pid(&self, node: u8) -> u32 {
        let path = self.dir.join(format!("n{node}/tandem.pid"));
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().parse().expect("a pid")
    }

    /// Ends a node's process with SIGKILL.
    pub fn kill(&self, node: u8) {
        let pid = self.pid(node).to_string();
        let status = Command::new("kill").args(["-9", &pid]).status().expect("kill");
        assert!(status.success(), "kill -9 {pid}");
    }

    /// Ends the guards of these nodes at once, and with them their workers: nobody is left to say so.
    pub fn kill_guards(&self, nodes: &[u8]) {
        let workers: Vec<u32> = nodes.iter().map(|node| self.pid(*node)).collect();
        let guards = workers.iter().map(|worker| parent(*worker).to_string());
        let status = Command::new("kill").arg("-KILL").args(guards).status().expect("kill");
        assert!(status.success());
        workers.into_iter().for_each(|worker| self.await_end(worker));
    }

    /// Waits until a process has ended, whether somebody has asked after it or not.
    #[track_caller]
    pub fn await_end(&self, pid: u32) {
        eventually(SOON * 3, "the process has ended", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            matches!(state, None | Some('Z')).then_some(())
        });
    }

    /// Starts a killed node by hand, as an operator would.
    pub fn restart(&self, node: u8) {
        self.restart_as(node, &Settings::new());
    }

    /// The same, so set.
    pub fn restart_as(&self, node: u8, settings: &Settings) {
        let config = self.dir.join(format!("n{node}/tandem.toml")).to_string_lossy().into_owned();
        let log = self.dir.join(format!("n{node}/by-hand.log"));
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        let out = log.try_clone().expect("a log");
        let arguments = ["node", "run", "--config", &config];
        let started = started(&arguments, settings, out.into(), log.into());
        self.restarted.lock().expect("no panic inside").push(started);
    }

    /// What the doctor finds at a node, as level and text, by the word of another.
    pub fn finding(&self, asked: u8, node: u8, check: &str) -> Option<(String, String)> {
        // It fails when something is amiss, and prints what it found all the same.
        let (_, out, _) = self.cli(asked, &["doctor", "-o", "json"]);
        let checkups: Value = serde_json::from_str(&out).ok()?;
        let name = format!("n{node}");
        let of_node = checkups.as_array()?.iter().find(|one| one["node"] == name.as_str())?;
        let finding = of_node["findings"].as_array()?.iter().find(|one| one["check"] == check)?;
        Some((finding["level"].as_str()?.to_owned(), finding["what"].as_str()?.to_owned()))
    }

    /// The config of a machine like n3, in a folder of its own.
    pub fn config_of(&self, node: u8) -> PathBuf {
        let folder = self.dir.join(format!("n{node}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let like = std::fs::read_to_string(self.dir.join("n3/tandem.toml")).expect("n3's config");
        let config = like
            .replace("\"n3\"", &format!("\"n{node}\""))
            .replace(&format!("127.0.{}.3", self.net), &format!("127.0.{}.{node}", self.net));
        let path = folder.join("tandem.toml");
        std::fs::write(&path, config).expect("a config");
        path
    }

    /// Prepares a machine like n3 with an empty data directory by `cluster invite` at node `via` and `cluster join`;
    /// started by [`Demo::restart`].
    pub fn join_machine(&self, node: u8, via: u8) {
        let path = self.config_of(node);
        let (code, token, error) = self.cli(via, &["cluster", "invite"]);
        assert_eq!(code, 0, "{error}");
        let (code, _, error) =
            self.cli(via, &["cluster", "join", token.trim(), "--config", &path.to_string_lossy()]);
        assert_eq!(code, 0, "{error}");
    }

    /// A sample on the metrics page of a node; `None` where it is not there.
    pub fn metric(&self, node: u8, name: &str) -> Option<f64> {
        let (200, page) = self.get(node, "/metrics").ok()? else { return None };
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Sends a signal, such as `-STOP`, to a node's process.
    pub fn signal(&self, node: u8, name: &str) {
        let pid = self.pid(node).to_string();
        let status = Command::new("kill").args([name, &pid]).status().expect("kill");
        assert!(status.success(), "kill {name} {pid}");
    }

    /// The names of those that vote, by the word of a node.
    pub fn voters(&self, asked: u8) -> Vec<String> {
        let status = self.status(asked).unwrap_or_default();
        let votes = |node: &&Value| matches!(node["raft"].as_str(), Some("leader" | "follower"));
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().filter(votes).filter_map(|node| Some(node["name"].as_str()?.to_owned())).collect()
    }

    /// What `cluster status` says of a node, by the word of another.
    pub fn member(&self, asked: u8, node: u8) -> Option<Value> {
        let status = self.status(asked)?;
        let name = format!("n{node}");
        status["nodes"].as_array()?.iter().find(|one| one["name"] == name.as_str()).cloned()
    }

    /// Gives the fault switch of a node's test build an order.
    #[cfg(feature = "faults")]
    pub fn fault(&self, node: u8, order: &str) -> String {
        use std::io::{BufRead, BufReader, Write};
        let socket = self.dir.join(format!("n{node}/data/faults.sock"));
        let mut stream = eventually(SOON, "a test build's fault switch", || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        writeln!(stream, "{order}").expect("an order");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("an answer");
        answer.trim().to_owned()
    }

    /// Cuts the power of a node's test build: its process ends, and what was never synced is gone.
    #[cfg(feature = "faults")]
    pub fn power_cut(&self, node: u8) {
        use std::io::{Read, Write};
        let socket = self.dir.join(format!("n{node}/data/faults.sock"));
        let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("the fault switch");
        writeln!(stream, "power").expect("an order");
        let _ = stream.read(&mut [0; 16]);
    }

    /// The text of all nodes' logs.
    pub fn logs(&self) -> String {
        (1..=3)
            .map(|node| {
                std::fs::read_to_string(self.dir.join(format!("n{node}/tandem.log"))).unwrap_or_default()
            })
            .collect()
    }

    /// Stops the cluster as Ctrl-C does and waits for the end.
    pub fn stop(&self) {
        self.process.lock().expect("no panic inside").stop();
    }
}

/// Reads what the demo prints, to the line that begins with `ready`, then keeps the pipe empty.
fn await_ready(child: &mut Child, dir: &Path) {
    let out = child.stdout.take().expect("a pipe");
    let (line, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for text in BufReader::new(out).lines().map_while(Result::ok) {
            let _ = line.send(text);
        }
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut said = Vec::new();
    loop {
        let wait = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(wait) {
            Ok(text) if text.starts_with("ready") => return,
            Ok(text) => said.push(text),
            Err(error) => panic!(
                "the demo in {} never became ready ({error}); it said:\n{}",
                dir.display(),
                said.join("\n")
            ),
        }
    }
}

fn unchunk(body: &str) -> String {
    let mut text = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = after.get(..size).filter(|_| size > 0) else { break };
        text.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or("");
    }
    text
}
