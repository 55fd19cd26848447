//! One started process, which is told to stop when its standard input closes: so it goes even when the runner is killed.

use anyhow::{Context, bail};
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// See the module.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
}

/// Nodes get this long to end calls and close files.
const ORDERLY: Duration = Duration::from_secs(12);

const SCRIPT: &str = r#""$@" & pid=$!; read -r _; kill -TERM $pid 2>/dev/null; wait $pid 2>/dev/null"#;

impl Process {
    /// Starts a program whose output goes to the end of a log.
    pub(crate) fn start(words: &[OsString], log: &Path) -> anyhow::Result<Process> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut child = Command::new("bash")
            .args(["-c", SCRIPT, "process"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("bash")?;
        let input = child.stdin.take();
        Ok(Process { child, input })
    }

    /// It shall stop; nobody waits.
    pub(crate) fn tell_to_stop(&mut self) {
        self.input = None;
    }

    /// Waits for its end.
    pub(crate) fn await_end(mut self) {
        let deadline = Instant::now() + ORDERLY;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal such as `-STOP`.
pub(crate) fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").args([name, &pid.to_string()]).stderr(Stdio::null()).status();
    if status.context("kill")?.success() { Ok(()) } else { bail!("kill {name} {pid}") }
}
