//! One started node, which ends when the standard input of its wrapper closes: so it goes even when the runner is killed or
//! interrupted. The wrapper outlives both, and a node that does not end in order, as one that stands still, is killed by it:
//! with the guard, that the wrapper knows, dies the worker.

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// See the module.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
}

/// Nodes get ten seconds to end calls and close files. `%1` is the guard for as long as it runs, and nobody afterwards.
const SCRIPT: &str = r#"
trap '' INT TERM
(trap - INT TERM; exec "$@") &
read -r _
kill -TERM %1 2>/dev/null
for _ in {1..100}; do
    [ -n "$(jobs -rp)" ] || exit 0
    sleep 0.1
done
kill -KILL %1 2>/dev/null
wait %1 2>/dev/null
"#;

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
        self.tell_to_stop();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process")?;
    kill_process(process, signal).with_context(|| format!("{signal:?} to process {pid}"))
}
