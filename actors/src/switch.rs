//! The running switch: how it is started, asked and stopped.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorRef};
use tandem_cluster::{Cluster, PeerError};
use tandem_sip::digest::NonceKey;
use tandem_state::{Binding, CallId, Cause};
use tandem_switching::{call, registrar};
use tandem_transport::rtp::{Engine, RtpConfig};
use tandem_transport::sip::{Gate, SipConfig, SipTransport};

use crate::drain;
use crate::gate::Authority;
use crate::held::{self, Held};
use crate::ids::Ids;
use crate::node::{FromMedia, Node};
use crate::peers::{Peers, pump};
use crate::shared::{Parts, Shared};
use crate::wire::{Ask, Told, decode, encode};

/// What a switch is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// SIP over UDP listens here.
    pub udp: Vec<SocketAddr>,
    /// SIP over TCP listens here.
    pub tcp: Vec<SocketAddr>,
    /// RTP listens here.
    pub rtp_listen: IpAddr,
    /// What phones are told to send RTP to.
    pub rtp_advertise: IpAddr,
    /// RTP and RTCP ports.
    pub rtp_ports: RangeInclusive<u16>,
    /// Threads that carry RTP.
    pub media_workers: usize,
    /// An answered call without any media for this long is ended.
    pub no_media: Duration,
    /// Calls that this node takes at most.
    pub calls_max: usize,
    /// Numbers that shape calls.
    pub settings: call::Settings,
    /// Bounds of registrations.
    pub bounds: registrar::Bounds,
    /// Inputs that made an actor panic are kept here.
    pub fixtures: PathBuf,
    /// 32 secret bytes, the same on all nodes: any node checks any node's nonces.
    pub nonce_key: [u8; 32],
}

/// Why a switch did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A SIP address can't be listened on.
    #[error("cannot listen for SIP: {0}")]
    Sip(std::io::Error),
    /// RTP can't be had.
    #[error("cannot relay RTP: {0}")]
    Rtp(#[from] tandem_transport::rtp::StartError),
    /// The supervision tree did not come up.
    #[error("the supervision tree did not start: {0}")]
    Actors(#[from] ractor::SpawnErr),
}

/// Why a call was not hung up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HangUpError {
    /// No such call, or it has ended.
    #[error("no such call")]
    NotFound,
    /// Its owner doesn't answer.
    #[error("the call's node does not answer: {0}")]
    Unreachable(String),
    /// Its owner refused.
    #[error("the call's node refused")]
    Refused,
}

/// How long the owner of a call is waited for.
const OWNER_WAIT: Duration = Duration::from_secs(3);

/// A running switch. Clones are handles of the same.
#[derive(Clone)]
pub struct Switch {
    shared: Arc<Shared>,
    root: ActorRef<FromMedia>,
}

/// Starts SIP, RTP and the supervision tree on a node of a cluster.
pub async fn start(cluster: Cluster, config: Config) -> Result<Switch, StartError> {
    let rtp = RtpConfig {
        listen: config.rtp_listen,
        advertise: config.rtp_advertise,
        ports: config.rtp_ports,
        workers: config.media_workers,
        silence: config.no_media,
    };
    let (media, mut media_events) = Engine::start(rtp)?;
    let sip = SipConfig { udp: config.udp, tcp: config.tcp, limits: Default::default() };
    let authority = Arc::new(Authority::new(&cluster));
    let gate: Arc<dyn Gate> = Arc::<Authority>::clone(&authority);
    let (transport, sockets) = SipTransport::bind_gated(sip, gate).map_err(StartError::Sip)?;
    let shared = Arc::new(Shared::new(Parts {
        ids: Ids::new(cluster.node_id()),
        cluster,
        transport,
        media,
        nonces: NonceKey::new(config.nonce_key),
        settings: config.settings,
        bounds: config.bounds,
        calls_max: config.calls_max,
        fixtures: config.fixtures,
    }));
    authority.serve(Arc::downgrade(&shared));
    let (root, _) = Actor::spawn(None, Node, Arc::clone(&shared)).await?;
    shared.cluster.serve_peers(Arc::new(Peers(Arc::clone(&shared))));
    tokio::spawn(pump(Arc::clone(&shared), sockets));
    let to_root = root.clone();
    tokio::spawn(async move {
        while let Some(event) = media_events.recv().await {
            let _ = to_root.cast(FromMedia::Event(event));
        }
    });
    Ok(Switch { shared, root })
}

/// Has the owner of a call, another node, end it.
pub(crate) async fn hang_up_elsewhere(
    shared: &Shared,
    call: CallId,
    cause: Cause,
) -> Result<(), HangUpError> {
    let owner = shared.cluster.view().calls.get(&call).map(|call| call.owner);
    let owner = owner.filter(|owner| *owner != shared.node).ok_or(HangUpError::NotFound)?;
    let ask = match cause {
        // What an older build understands.
        Cause::AdminHangup => Ask::HangUp { call },
        _ => Ask::End { call, cause },
    };
    let told = shared.cluster.call_peer(owner, encode(&ask), OWNER_WAIT).await;
    match told.map(|bytes| decode::<Told>(&bytes)) {
        Ok(Some(Told::Done)) => Ok(()),
        Ok(Some(Told::NotFound)) => Err(HangUpError::NotFound),
        Ok(Some(Told::Refused | Told::Held(_)) | None) => Err(HangUpError::Refused),
        Err(PeerError::NoNode) => Err(HangUpError::NotFound),
        Err(error) => Err(HangUpError::Unreachable(error.to_string())),
    }
}

impl Switch {
    /// Ends a call, wherever its owner is; done when the owner has taken the order.
    pub async fn hang_up(&self, call: CallId) -> Result<(), HangUpError> {
        if let Some(slot) = self.shared.call(call) {
            return slot.send(call::Input::HangUp(Cause::AdminHangup)).map_err(|_| HangUpError::Refused);
        }
        hang_up_elsewhere(&self.shared, call, Cause::AdminHangup).await
    }

    /// `Ok` while this node may take calls, else why not.
    pub fn readiness(&self) -> Result<(), String> {
        if self.shared.is_draining() {
            return Err("the node is draining".to_owned());
        }
        if !self.shared.lease.holds() {
            return Err("the node holds no lease: no quorum hears it, or it was called down".to_owned());
        }
        Ok(())
    }

    /// What is known of each of these bindings by the nodes that hold their flows; `None` where such a node does not answer
    /// within half a second.
    pub async fn held(&self, bindings: &[Binding]) -> Vec<Option<Held>> {
        held::held(&self.shared, bindings).await
    }

    /// Calls that this node owns.
    pub fn calls(&self) -> usize {
        self.shared.calls_count()
    }

    /// Bindings whose flow this node holds.
    pub fn registrations(&self) -> usize {
        self.shared.registrations_count()
    }

    /// Brings gauges and counters of the sockets up to date.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats; counts stay far below 2^52")]
    pub fn refresh_gauges(&self) {
        let rtp = self.shared.media.counters();
        let sip = self.shared.transport.counters();
        self.shared.places.refresh_gauges();
        metrics::gauge!("tandem_qualify_open").set(self.shared.questions.len() as f64);
        metrics::gauge!("tandem_calls_active").set(self.calls() as f64);
        metrics::gauge!("tandem_registrations_active").set(self.registrations() as f64);
        metrics::gauge!("tandem_actors", "kind" => "call").set(self.calls() as f64);
        metrics::gauge!("tandem_actors", "kind" => "registration").set(self.registrations() as f64);
        metrics::gauge!("tandem_mailbox_depth", "kind" => "endpoint")
            .set(self.shared.endpoint_depth.load(Ordering::Relaxed) as f64);
        metrics::gauge!("tandem_sip_connections").set(sip.connections as f64);
        metrics::counter!("tandem_sip_dropped_total").absolute(sip.dropped);
        metrics::counter!("tandem_sip_congested_total").absolute(sip.congested);
        metrics::counter!("tandem_sip_unframed_total").absolute(sip.malformed);
        metrics::counter!("tandem_sip_partial_total").absolute(sip.partial);
        metrics::counter!("tandem_sip_connections_refused_total").absolute(sip.connections_refused);
        metrics::gauge!("tandem_rtp_sessions").set(rtp.sessions as f64);
        metrics::gauge!("tandem_rtp_port_pairs_free").set(rtp.ports_free as f64);
        metrics::counter!("tandem_rtp_packets_total", "dir" => "in").absolute(rtp.received);
        metrics::counter!("tandem_rtp_packets_total", "dir" => "out").absolute(rtp.sent);
        metrics::counter!("tandem_rtp_octets_total", "dir" => "in").absolute(rtp.received_octets);
        metrics::counter!("tandem_rtp_octets_total", "dir" => "out").absolute(rtp.sent_octets);
        metrics::counter!("tandem_rtp_dropped_total").absolute(rtp.dropped);
    }

    /// Takes no new calls and registrations from now on.
    pub fn refuse_new_work(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }

    /// Hands the calls over to other nodes, where there are such: what can't be moved in a few seconds goes there with this
    /// node's goodbye. Else ends all calls and waits until their CDRs are in the log, at most `wait`. Then stops the tree and
    /// the sockets.
    pub async fn shutdown(&self, wait: Duration) {
        self.refuse_new_work();
        let any = !self.shared.cluster.view().calls.is_empty();
        let go_on_elsewhere = any && drain::leave(&self.shared).await;
        let until = Instant::now() + wait;
        for id in self.shared.call_ids().into_iter().filter(|_| !go_on_elsewhere) {
            if let Some(slot) = self.shared.call(id) {
                let _ = slot.send(call::Input::HangUp(Cause::NodeShutdown));
            }
        }
        while self.calls() > 0 && !go_on_elsewhere && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drain::stay(&self.shared, until).await;
        self.root.stop(None);
        self.shared.transport.shutdown();
    }

    /// The fault switch of test builds: the actor that follows the log panics at its next item.
    #[cfg(feature = "faults")]
    pub fn inject_follower_fault(&self) {
        self.shared.follower_fault.store(true, Ordering::Relaxed);
    }

    /// The fault switch of test builds: makes the actor of a call panic; false when it is not here.
    #[cfg(feature = "faults")]
    pub fn inject_fault(&self, call: CallId) -> bool {
        self.shared.call(call).is_some_and(|slot| slot.send(call::Input::Fault).is_ok())
    }
}
