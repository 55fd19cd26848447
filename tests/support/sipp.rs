//! SIPp as the phone: one process per scenario of `tests/sipp`, one call each.

use super::demo::Account;
use super::scratch;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a scenario is run with.
pub struct Scenario<'a> {
    /// The file's name without `.xml`.
    pub name: &'a str,
    /// SIPp's own address.
    pub local: SocketAddrV4,
    /// Where it sends.
    pub remote: SocketAddrV4,
    pub tcp: bool,
    /// The fields of its one call, in the order that the scenario's head says.
    pub fields: &'a [&'a str],
    /// What stands for `@STATUS@` in the file.
    pub status: &'a str,
}

pub struct Sipp {
    child: Child,
    name: String,
    dir: PathBuf,
}

/// The field from which SIPp makes its answer to a challenge.
pub fn authentication(account: &Account) -> String {
    format!("[authentication username={} password={}]", account.number, account.password)
}

impl Sipp {
    /// Starts a scenario.
    pub fn start(scenario: &Scenario<'_>) -> Sipp {
        let dir = scratch(&format!(
            "sipp-{}-{}",
            scenario.name,
            scenario.local.to_string().replace([':', '.'], "-")
        ));
        let csv = dir.join("fields.csv");
        std::fs::write(&csv, format!("SEQUENTIAL\n{}\n", scenario.fields.join(";"))).expect("the fields");
        let original =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/sipp/{}.xml", scenario.name));
        let text = std::fs::read_to_string(&original).expect("the scenario");
        let file = dir.join(format!("{}.xml", scenario.name));
        std::fs::write(&file, text.replace("@STATUS@", scenario.status)).expect("the scenario's copy");
        let log = std::fs::File::create(dir.join("screen.log")).expect("a log");
        let child = Command::new("sipp")
            .current_dir(&dir)
            .arg("-sf")
            .arg(file)
            .arg("-inf")
            .arg(&csv)
            .args(["-i", &scenario.local.ip().to_string(), "-p", &scenario.local.port().to_string()])
            .args(["-t", if scenario.tcp { "t1" } else { "u1" }])
            .args([
                "-m",
                "1",
                "-l",
                "1",
                "-nostdin",
                "-trace_err",
                "-trace_msg",
                "-timeout",
                "40s",
                "-timeout_error",
            ])
            .args(["-default_behaviors", "all,-bye", "-recv_timeout", "20000"])
            .arg(scenario.remote.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("sipp is installed: deploy/install/phones.sh");
        Sipp { child, name: scenario.name.to_owned(), dir }
    }

    /// Runs a scenario to its end, which must be a good one.
    #[track_caller]
    pub fn run(scenario: &Scenario<'_>) {
        Sipp::start(scenario).finish();
    }

    /// Waits for the end of the scenario, which must be a good one.
    #[track_caller]
    pub fn finish(mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            match self.child.try_wait().expect("sipp's end") {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    panic!("SIPp scenario {} never ended\n{}", self.name, self.trace())
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(status.success(), "SIPp scenario {} failed ({status})\n{}", self.name, self.trace());
    }

    /// SIPp's errors and messages, for the reader of a failure.
    pub fn trace(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.to_string_lossy().ends_with("errors.log")
                || path.to_string_lossy().ends_with("messages.log")
            {
                text.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
            }
        }
        text
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
