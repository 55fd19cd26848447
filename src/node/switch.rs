//! The switch of this node: started, shown to the API, stopped.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tandem_actors::HangUpError;
use tandem_api::{HangupError, HangupFuture, Held, HeldFuture};
use tandem_cluster::Cluster;
use tandem_state::{Binding, CallId, Principal, Role};

use crate::config::Config;

/// Calls get this long to end with their CDRs when the node stops.
const CALLS_END: Duration = Duration::from_secs(4);
/// Calls that one node takes at most; the next is answered 503.
const CALLS_MAX: usize = 4_000;

/// The switch, which starts once the cluster has heard of this node.
pub(super) struct Switch {
    shown: Arc<Shown>,
}

fn switch_config(config: &Config, cluster: &Cluster) -> tandem_actors::Config {
    tandem_actors::Config {
        udp: config.sip_udp.clone(),
        tcp: config.sip_tcp.clone(),
        rtp_listen: config.rtp_listen,
        rtp_advertise: config.rtp_advertise,
        rtp_ports: config.rtp_ports.first..=config.rtp_ports.last,
        media_workers: std::thread::available_parallelism().map_or(1, usize::from),
        no_media: Duration::from_secs(u64::from(config.no_media_s)),
        calls_max: CALLS_MAX,
        settings: Default::default(),
        bounds: Default::default(),
        fixtures: config.data.join("fixtures"),
        nonce_key: cluster.derived_key("sip digest nonces"),
    }
}

impl Switch {
    /// Not started yet.
    pub(super) fn new(cluster: &Cluster) -> Switch {
        Switch { shown: Arc::new(Shown { cluster: cluster.clone(), running: OnceLock::new() }) }
    }

    /// Starts SIP, media and the supervision tree.
    pub(super) async fn start(&self, config: &Config, cluster: &Cluster) -> anyhow::Result<()> {
        let running = tandem_actors::start(cluster.clone(), switch_config(config, cluster)).await?;
        #[cfg(feature = "faults")]
        tokio::spawn(super::faults::serve(config.data.clone(), running.clone(), cluster.clone()));
        self.shown.running.get_or_init(|| running);
        Ok(())
    }

    /// The switch as the API sees it.
    pub(super) fn for_api(&self) -> Arc<dyn tandem_api::Switch> {
        Arc::clone(&self.shown) as Arc<dyn tandem_api::Switch>
    }

    /// Takes no new work, ends calls, waits for their CDRs.
    pub(super) async fn stop(self) {
        if let Some(running) = self.shown.running.get() {
            running.shutdown(CALLS_END).await;
        }
    }
}

struct Shown {
    cluster: Cluster,
    running: OnceLock<tandem_actors::Switch>,
}

impl tandem_api::Switch for Shown {
    fn hangup(&self, call: CallId, by: Principal) -> HangupFuture<'_> {
        Box::pin(async move {
            tracing::info!(%call, ?by, "hang up");
            let running = self.running.get().ok_or(HangupError::NotFound)?;
            running.hang_up(call).await.map_err(|error| match error {
                HangUpError::NotFound => HangupError::NotFound,
                HangUpError::Unreachable(why) => HangupError::Unreachable(why),
                HangUpError::Refused => HangupError::Refused(error.to_string()),
            })
        })
    }

    fn readiness(&self) -> Result<(), String> {
        if self.cluster.role() == Role::Witness {
            return Err("a witness takes no calls".to_owned());
        }
        match self.running.get() {
            Some(running) => running.readiness(),
            None => Err("the cluster doesn't know of this start yet".to_owned()),
        }
    }

    fn held(&self, bindings: Vec<Binding>) -> HeldFuture<'_> {
        let shown = |held: tandem_actors::Held| Held { expires: held.expires, unreachable: held.unreachable };
        Box::pin(async move {
            match self.running.get() {
                Some(running) => {
                    running.held(&bindings).await.into_iter().map(|held| held.map(shown)).collect()
                }
                None => Vec::new(),
            }
        })
    }

    fn refresh_gauges(&self) {
        if let Some(running) = self.running.get() {
            running.refresh_gauges();
        }
    }
}
