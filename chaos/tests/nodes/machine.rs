//! A machine with a node on it: a process is a runtime, and its end is the drop of that.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tandem_chaos::world::Random;
use tandem_cluster::sim::{Host, MachineId, Network};
use tandem_cluster::{Cluster, NodeConfig, Timing};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::clients::{Client, Clients};

pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) host: Host,
    data: PathBuf,
    process: Option<Process>,
    powerless: bool,
    /// A stopped process is behind by this.
    behind: Duration,
    stopped: bool,
}

/// A process. What it is made of goes in this order.
struct Process {
    cluster: Arc<Mutex<Option<Cluster>>>,
    /// Why it can't go on.
    failed: Arc<Mutex<Option<String>>>,
    runtime: Runtime,
}

/// So begins the word of a node that did not start.
pub(crate) const NOT_STARTED: &str = "it does not start";

fn timing() -> Timing {
    Timing {
        propose_deadline: Duration::from_secs(4),
        lease: Duration::from_millis(2_500),
        home_after: Duration::from_secs(8),
        snapshot_after: 50,
        log_keep: 10,
        segment_bytes: 16 * 1024,
        ..Timing::default()
    }
}

impl Machine {
    pub(crate) fn new(network: &Network, at: u8, directory: &Path) -> Machine {
        let id = MachineId(at + 1);
        let data = directory.join(format!("n{}", id.0));
        let host = Host::new(network, id);
        Machine { id, host, data, process: None, powerless: false, behind: Duration::ZERO, stopped: false }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    fn config(&self) -> NodeConfig {
        NodeConfig {
            site: if self.id.0 < 3 { "east".into() } else { "west".into() },
            listen: SocketAddr::from(([10, 0, 0, self.id.0], 7400)),
            sip_advertise: format!("10.0.0.{}", self.id.0),
            timing: timing(),
            ..NodeConfig::test(format!("n{}", self.id.0), &self.data)
        }
    }

    /// Begins a process without a node yet.
    fn begin(&mut self) {
        let host = self.host.clone();
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_thread_start(move || std::mem::forget(host.enter()))
            .build()
            .expect("a runtime");
        self.process = Some(Process { cluster: Arc::default(), failed: Arc::default(), runtime });
        (self.behind, self.stopped) = (Duration::ZERO, false);
    }

    /// Starts the node, in the process that there is or in a new one; then its clients begin.
    pub(crate) fn start(&mut self, clients: Vec<(Random, Clients)>) {
        if std::mem::take(&mut self.powerless) {
            self.host.power_on();
        }
        if self.process.is_none() {
            self.begin();
        }
        let config = self.config();
        let Some(Process { cluster, failed, runtime }) = &self.process else { return };
        let (cluster, failed) = (Arc::clone(cluster), Arc::clone(failed));
        runtime.spawn(async move {
            let why = match Cluster::start(config).await {
                Ok(started) => {
                    *cluster.lock().unwrap() = Some(started.clone());
                    for (random, clients) in clients {
                        tokio::spawn(Client { node: started.clone(), random, clients }.run());
                    }
                    started.failed().await
                }
                Err(error) => format!("{NOT_STARTED}: {error}"),
            };
            *failed.lock().unwrap() = Some(why);
        });
    }

    /// Lets this machine's time pass.
    pub(crate) fn advance(&mut self, span: Duration) {
        let Some(process) = &self.process else { return };
        if self.stopped {
            self.behind += span;
            return;
        }
        let _entered = self.host.enter();
        let behind = std::mem::take(&mut self.behind);
        process.runtime.block_on(async {
            if !behind.is_zero() {
                tokio::time::advance(behind).await;
            }
            tokio::time::sleep(span).await;
        });
    }

    /// Has something done by its process.
    pub(crate) fn spawn<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        if self.process.is_none() {
            self.begin();
        }
        self.process.as_ref().expect("it was just begun").runtime.spawn(work)
    }

    /// The outcome of what is [done](Machine::spawn).
    pub(crate) fn take<T>(&self, done: JoinHandle<T>) -> T {
        let process = self.process.as_ref().expect("it runs");
        process.runtime.block_on(done).expect("it does not panic")
    }

    pub(crate) fn cluster(&self) -> Option<Cluster> {
        self.process.as_ref()?.cluster.lock().unwrap().clone()
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.process.as_ref()?.failed.lock().unwrap().clone()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn stop(&mut self, stopped: bool) {
        self.stopped = stopped;
    }

    /// Its process is gone at once.
    pub(crate) fn kill(&mut self) {
        let _entered = self.host.enter();
        self.host.faults().freeze(true);
        if let Some(Process { cluster, failed, runtime }) = self.process.take() {
            cluster.lock().unwrap().take();
            drop((cluster, failed, runtime));
        }
        self.host.faults().freeze(false);
    }

    /// Its power is gone, and with it what was not synced but for some bytes of each file.
    pub(crate) fn cut_power(&mut self, torn: u64) {
        self.kill();
        self.powerless = true;
        self.host.cut_power(torn).expect("files can be cut");
    }
}
