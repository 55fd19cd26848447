//! Media control: what the media workers report becomes inputs of calls.
//!
//! Supervised by `Node`. It holds nothing: sessions belong to the workers, their handles to the calls.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tandem_switching::call;
use tandem_transport::rtp::Event;

use crate::shared::Shared;

pub(crate) struct MediaControl;

impl Actor for MediaControl {
    type Msg = Event;
    type State = Arc<Shared>;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        _: ActorRef<Event>,
        shared: Arc<Shared>,
    ) -> Result<Arc<Shared>, ActorProcessingErr> {
        Ok(shared)
    }

    async fn handle(
        &self,
        _: ActorRef<Event>,
        event: Event,
        shared: &mut Arc<Shared>,
    ) -> Result<(), ActorProcessingErr> {
        let (session, input) = match event {
            Event::Silent { session, .. } => (session, call::Input::MediaSilent),
            Event::Failed { session } => (session, call::Input::HangUp(tandem_state::Cause::Internal)),
        };
        if let Some((call, slot)) = shared.call_of_session(session) {
            tracing::info!(%call, ?event, "the call's media ends it");
            let _ = slot.send(input);
        }
        Ok(())
    }
}
