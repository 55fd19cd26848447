//! The root of the supervision tree: `Node` -> endpoint, follower, media control, tenants.

use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tandem_transport::rtp::Event;

use crate::endpoint::Endpoint;
use crate::follower::Follower;
use crate::intensity::Intensity;
use crate::media::MediaControl;
use crate::shared::Shared;
use crate::tenants::Tenants;

/// Restarts of the node's own children within a minute; past that the process ends, and systemd starts a clean one.
const RESTARTS_MAX: usize = 10;
const SPAN_MS: u64 = 60_000;

pub(crate) struct Node;

/// What the root is told.
pub(crate) enum FromMedia {
    /// By the media workers.
    Event(Event),
}

pub(crate) struct Tree {
    shared: Arc<Shared>,
    children: Vec<(ActorId, Kind)>,
    media: Option<ActorRef<Event>>,
    intensity: Intensity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Endpoint,
    Follower,
    Media,
    Tenants,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Endpoint => "endpoint",
            Kind::Follower => "follower",
            Kind::Media => "media",
            Kind::Tenants => "tenants",
        }
    }
}

impl Actor for Node {
    type Msg = FromMedia;
    type State = Tree;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<FromMedia>,
        shared: Arc<Shared>,
    ) -> Result<Tree, ActorProcessingErr> {
        let intensity = Intensity::new(RESTARTS_MAX, SPAN_MS);
        let mut tree = Tree { shared, children: Vec::new(), media: None, intensity };
        // Tenants first: the follower finds bindings that want actors.
        for kind in [Kind::Tenants, Kind::Endpoint, Kind::Media, Kind::Follower] {
            tree.start(kind, myself.get_cell()).await?;
        }
        Ok(tree)
    }

    async fn handle(
        &self,
        _: ActorRef<FromMedia>,
        message: FromMedia,
        tree: &mut Tree,
    ) -> Result<(), ActorProcessingErr> {
        let FromMedia::Event(event) = message;
        if let Some(media) = &tree.media {
            let _ = media.cast(event);
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<FromMedia>,
        event: SupervisionEvent,
        tree: &mut Tree,
    ) -> Result<(), ActorProcessingErr> {
        let SupervisionEvent::ActorFailed(cell, error) = event else { return Ok(()) };
        let Some(at) = tree.children.iter().position(|(id, _)| *id == cell.get_id()) else { return Ok(()) };
        let (_, kind) = tree.children.swap_remove(at);
        tracing::error!(kind = kind.name(), %error, "an actor panicked and starts again");
        metrics::counter!("tandem_actor_restarts_total", "kind" => kind.name()).increment(1);
        if !tree.intensity.allow(tree.shared.now().steady_ms) {
            tracing::error!("too many panics: the node stops, to be started clean");
            std::process::exit(EXIT_BROKEN);
        }
        tree.start(kind, myself.get_cell()).await
    }
}

/// The process's exit status when its supervision tree gave up.
const EXIT_BROKEN: i32 = 70;

impl Tree {
    async fn start(&mut self, kind: Kind, supervisor: ActorCell) -> Result<(), ActorProcessingErr> {
        let shared = Arc::clone(&self.shared);
        let id = match kind {
            Kind::Endpoint => Actor::spawn_linked(None, Endpoint, shared, supervisor).await?.0.get_id(),
            Kind::Follower => Actor::spawn_linked(None, Follower, shared, supervisor).await?.0.get_id(),
            Kind::Tenants => Actor::spawn_linked(None, Tenants, shared, supervisor).await?.0.get_id(),
            Kind::Media => {
                let (media, _) = Actor::spawn_linked(None, MediaControl, shared, supervisor).await?;
                self.media = Some(media.clone());
                media.get_id()
            }
        };
        self.children.push((id, kind));
        Ok(())
    }
}
