//! How machines' outputs are carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tandem_media::quality::Impairment;
use tandem_state::{CallId, Cause, Command, NodeEpoch, Quality};
use tandem_switching::registration::BindingId;
use tandem_switching::{Call, Now, Registration, call, qualify, registration, routing};
use tandem_transport::rtp::{Session, SessionCounters};

use crate::endpoint::{Abandoned, Order};
use crate::machine_actor::Ports;
use crate::shared::Shared;
use crate::slot::Slot;
use crate::switch::hang_up_elsewhere;

/// A call's way to the world.
pub(crate) struct CallPorts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) call: CallId,
    /// The lease under which this node has the call. With the lease's end the call is another's, or over.
    pub(crate) epoch: NodeEpoch,
    pub(crate) media: Session,
    /// The call was handed over: its media carries on a moment after its end here.
    lingers: AtomicBool,
}

impl Ports<Call> for CallPorts {
    fn now(&self) -> Now {
        self.shared.now()
    }

    fn carry_out(&self, slot: &Arc<Slot<Call>>, output: call::Output) {
        match output {
            call::Output::Respond { key, message } => {
                self.shared.order(Order::Respond { key, message, under: Some(self.epoch) })
            }
            call::Output::Request { message, flow } => {
                self.shared.order(Order::Request { message, flow, under: self.epoch })
            }
            call::Output::Send { .. } if !self.shared.acts_under(self.epoch) => {}
            call::Output::Send { message, flow } => {
                // An ACK that is lost is asked for again by the far end's next 2xx.
                let _ = self.shared.send(&flow, message.bytes().clone());
            }
            call::Output::Propose { what, command } => self.propose(slot, what, *command),
            call::Output::SetMedia(plan) => {
                if let Err(error) = self.media.apply(plan) {
                    tracing::error!(call = %self.call, %error, "a media plan was not taken");
                }
            }
            call::Output::CloseMedia => self.close_media(slot),
            call::Output::LeaveMedia => self.lingers.store(true, Ordering::Relaxed),
            // Else this node has it again, and what is asked and answered is the present machine's.
            call::Output::Abandon if !self.shared.is_present(slot, self.call) => {}
            call::Output::Abandon => {
                let (calls, legs) = ([self.call].into(), slot.with(|call| call.leg_ids().collect()));
                self.shared.order(Order::Abandon(Abandoned { calls, legs, requests: Vec::new() }));
            }
            call::Output::PassOnHangUp(cause) => self.hang_up_elsewhere(cause),
            call::Output::PassOn { requests } => self.shared.order(Order::PassOn { requests }),
            call::Output::Adopt { invite, flow } => {
                self.shared.order(Order::Adopt { call: self.call, invite, flow, under: self.epoch });
            }
            // All legs of a call are in the registry from its start to its end.
            call::Output::Listen(_) => {}
            call::Output::Forget(leg) => self.shared.forget_leg(slot, leg),
        }
    }
}

impl CallPorts {
    pub(crate) fn new(shared: Arc<Shared>, call: CallId, epoch: NodeEpoch, media: Session) -> Self {
        CallPorts { shared, call, epoch, media, lingers: AtomicBool::new(false) }
    }

    fn propose(&self, slot: &Arc<Slot<Call>>, what: call::Proposal, command: Command) {
        let (shared, slot, call) = (Arc::clone(&self.shared), Arc::clone(slot), self.call);
        tokio::spawn(async move {
            let outcome = shared.propose(command).await;
            if let Some(Err(refusal)) = &outcome {
                tracing::info!(%call, ?what, %refusal, "the log refused");
            }
            slot.answer(call::Input::Proposed { what, outcome });
        });
    }

    fn hang_up_elsewhere(&self, cause: Cause) {
        let (shared, call) = (Arc::clone(&self.shared), self.call);
        tokio::spawn(async move {
            if let Err(error) = hang_up_elsewhere(&shared, call, cause).await {
                tracing::warn!(%call, %error, "a call that is another node's now is not ended, as was wanted here");
            }
        });
    }

    /// The worker's last counters are worth a short wait; without them the CDR has no figures.
    fn close_media(&self, slot: &Arc<Slot<Call>>) {
        let (closing, slot) = (self.media.close(), Arc::clone(slot));
        tokio::spawn(async move {
            let counters = tokio::time::timeout(COUNTERS_WAIT, closing).await.ok().flatten();
            let quality = counters.map(|counters| figures(&counters)).unwrap_or_default();
            slot.answer(call::Input::MediaFigures(quality));
        });
    }

    /// Gives the RTP ports back; closing again does nothing.
    pub(crate) fn close(self: &Arc<Self>) {
        if !self.lingers.load(Ordering::Relaxed) {
            return drop(self.media.close());
        }
        let ports = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            drop(ports.media.close());
        });
    }
}

/// How long the media of a call that was handed over carries on: its phones have heard of the new owner by then.
pub(crate) const LINGER: std::time::Duration = std::time::Duration::from_secs(2);
/// How long the end of a call waits for its media figures.
const COUNTERS_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// The worse of both directions, as the CDR has it.
fn figures(counters: &SessionCounters) -> Quality {
    let mut packets = counters.ends.iter().map(|end| end.received.packets);
    let (caller_packets, callee_packets) = (packets.next().unwrap_or(0), packets.sum());
    let Some(worst) = counters.quality(Impairment::G711) else { return Quality::default() };
    Quality {
        mos_x100: u16::try_from(worst.mos_x100).unwrap_or(u16::MAX),
        loss_ppm: worst.loss_ppm,
        jitter_us: worst.jitter_us,
        longest_gap_ms: worst.longest_gap_ms,
        caller_packets,
        callee_packets,
    }
}

/// A registration's way to the world.
pub(crate) struct RegistrationPorts {
    pub(crate) shared: Arc<Shared>,
}

impl Ports<Registration> for RegistrationPorts {
    fn now(&self) -> Now {
        self.shared.now()
    }

    fn carry_out(&self, slot: &Arc<Slot<Registration>>, output: registration::Output) {
        match output {
            registration::Output::Propose(command) => self.propose(slot, *command),
            registration::Output::Ask => self.ask(slot),
            registration::Output::Unanswered => {
                metrics::counter!("tandem_qualify_unanswered_total").increment(1);
            }
        }
    }
}

impl RegistrationPorts {
    fn propose(&self, slot: &Arc<Slot<Registration>>, command: Command) {
        let (shared, slot) = (Arc::clone(&self.shared), Arc::clone(slot));
        tokio::spawn(async move {
            let outcome = shared.propose(command).await;
            slot.answer(registration::Input::Proposed(outcome));
        });
    }

    /// Not while this node may not act, nor while phones that come back need it more.
    fn ask(&self, slot: &Arc<Slot<Registration>>) {
        match self.is_asked(slot.with(|machine| Arc::clone(machine.id()))) {
            true => metrics::counter!("tandem_qualify_asked_total").increment(1),
            false => {
                metrics::counter!("tandem_qualify_skipped_total").increment(1);
                slot.answer(registration::Input::NotAsked);
            }
        }
    }

    fn is_asked(&self, id: Arc<BindingId>) -> bool {
        let shared = &self.shared;
        let now_ms = shared.now().steady_ms;
        if !shared.lease.holds() || shared.places.is_short(now_ms) {
            return false;
        }
        let view = shared.cluster.view();
        let row = (id.tenant, id.number.clone(), id.key.clone());
        let Some(binding) = view.bindings.get(&row).filter(|b| b.spec.flow.node == shared.node) else {
            return false;
        };
        let (sent_by, token) = (routing::sent_by(&view, &binding.spec.flow), shared.ids.seed());
        let question = qualify::question(binding, &sent_by, &shared.settings.product, token);
        let Some(question) = question.filter(|_| shared.questions.begin(now_ms, token, id)) else {
            return false;
        };
        shared.send_here(&binding.spec.flow, question.bytes().clone()).is_ok()
    }
}
