//! One node, from its start to its orderly end: a [`guard`], and the worker that it starts and waits for.
//!
//! Order of the worker's start: open-files limit, log, cluster (which takes the data directory), pid file, switch, API. The end is the
//! reverse: no new work, calls handed over or ended, files closed.

#[cfg(feature = "faults")]
mod faults;
pub(crate) mod first_token;
mod guard;
mod limits;
mod logs;
mod notify;
mod pid;
pub(crate) mod signals;
mod switch;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tandem_api::{Api, Limits};
use tandem_cluster::{Cluster, NodeConfig, StartError, Timing, bound};
use tandem_state::Role;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::failure::refused;
use crate::node::signals::Signals;

/// Recorded figures are brought in order this often.
const UPKEEP: Duration = Duration::from_secs(5);

/// Runs a node until a signal ends it: its guard, or, under one, its worker.
pub(crate) fn run(config: &Path, log_json: bool, guarded_by: Option<u32>) -> anyhow::Result<()> {
    let Some(guard) = guarded_by else { return guard::run(config, log_json) };
    guard::be_guarded(guard)?;
    let config = Config::load(config)?;
    logs::start(log_json);
    let files = limits::raise_open_files();
    tracing::info!(
        node = config.name,
        site = config.site,
        files,
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(serve(&config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

/// Bounds of what is measured in seconds: from a flush of a disk to a slow request.
const BUCKETS_S: [f64; 13] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0];

async fn serve(config: &Config) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS_S)
        .context("metrics")?;
    let prometheus = prometheus.install_recorder().context("metrics")?;
    let api_listener = bound(|| TcpListener::bind(config.api))
        .await
        .with_context(|| format!("api.listen {}", config.api))?;
    let cluster = Cluster::start(node_config(config)).await;
    let cluster = cluster.map_err(|error| refused(error.to_string(), start_hint(config, &error)))?;
    let pid_file = pid::PidFile::write(config.folder())?;
    tokio::spawn(guard::leave_testaments(cluster.clone()));
    tokio::spawn(first_token::hand_over(config.clone(), cluster.clone()));
    let switch = switch::Switch::new(&cluster);
    let api = Api::new(cluster.clone(), switch.for_api(), prometheus.clone(), Limits::default());
    let serving = tokio::spawn(tandem_api::serve(api.clone(), api_listener));
    tokio::spawn(upkeep(prometheus));
    notify::ready();
    tracing::info!(node = %cluster.node_id(), api = %config.api, "running");

    let ended = run_until_ended(config, &cluster, &switch, &mut signals).await;
    match &ended {
        Ok(()) => tracing::info!(
            "stopping: calls go to other nodes, or end where none takes them; a second signal stops at once"
        ),
        Err(error) => tracing::error!(%error, "this node can't go on"),
    }
    notify::stopping();
    tokio::spawn(signals.next_ends_all());
    api.stop();
    switch.stop().await;
    let _ = serving.await;
    cluster.shutdown().await;
    drop(pid_file);
    tracing::info!("stopped");
    ended
}

/// Phones are served once the cluster has heard of this start; then until a signal, or a fault of the disk.
async fn run_until_ended(
    config: &Config,
    cluster: &Cluster,
    switch: &switch::Switch,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let serve_phones = async {
        while !cluster.announced(ANNOUNCED_WAIT).await {
            tracing::warn!("no quorum has heard of this start yet: phones are not served");
        }
        if cluster.role() == Role::Full {
            switch.start(config, cluster).await?;
            tracing::info!(udp = ?config.sip_udp, tcp = ?config.sip_tcp, "phones are served");
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        () = signals.next() => Ok(()),
        reason = cluster.failed() => Err(refused(reason, "deploy/runbooks/node-lost.md says what to do")),
        served = serve_phones => served,
    }
}

/// How often the log says that this node still waits for a quorum.
const ANNOUNCED_WAIT: Duration = Duration::from_secs(10);

fn node_config(config: &Config) -> NodeConfig {
    NodeConfig {
        name: config.name.clone(),
        site: config.site.clone(),
        data: config.data.clone(),
        listen: config.cluster,
        advertise: String::new(),
        sip_advertise: config.sip_advertise.clone(),
        api_url: config.api_url(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        timing: Timing::default(),
    }
}

/// What to do about a node that doesn't start, where its error doesn't say so itself.
fn start_hint(config: &Config, error: &StartError) -> String {
    let file = config.path.display();
    match error {
        StartError::NotPrepared(_) => format!(
            "a new cluster: tandem cluster init --config {file}; one more node: tandem cluster join TOKEN --config {file}"
        ),
        StartError::Secrets(_) => {
            "put back this node's own secrets.json, with mode 0600; if it is lost, let the machine join as a \
             new node, in an empty directory, and remove this one by `tandem cluster remove`"
                .to_owned()
        }
        StartError::InUse(_) => "its pid is in tandem.pid beside the config file".to_owned(),
        StartError::Listen { .. } => format!("end what has the address, or change cluster.listen in {file}"),
        _ => "deploy/runbooks/node-lost.md says what to do".to_owned(),
    }
}

async fn upkeep(prometheus: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        prometheus.run_upkeep();
    }
}
