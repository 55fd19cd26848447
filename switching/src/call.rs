//! The call: a set of legs, the program that runs, who hears whom, and the attempts that become CDRs.
//!
//! A back-to-back user agent (RFC 7092): each leg is a dialog of its own, with its own Call-ID, tags, Via and Contact.
//! A two-party call is a program of one step, [`dial`]. LIFECYCLE.md beside this file has the states and timers.
//!
//! It must never know: sockets, actors, Raft, which transport carries a message.

mod answer;
mod dial;
mod end;
mod exchange;
mod fork;
mod info;
mod leg;
mod media;
mod moving;
mod record;
mod refresh;
mod setup;
mod takeover;
mod wire;

use std::collections::VecDeque;

use tandem_media::plan::MediaPlan;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::ServerKey;
use tandem_state::{
    Attempt, CallChange, CallDirection, CallEpoch, CallId, CallNote, Cause, ClusterTime, Command, Flow,
    InteractionId, LegId, NodeEpoch, NodeId, Party, Quality, Refusal, Reply, TenantId,
};

use crate::machine::{Machine, Now};
pub use leg::Leg;
pub use media::is_relayable;
pub use refresh::Way;
pub use setup::{Interrupted, Setup, SetupTarget};
pub use takeover::{TakenLeg, Takeover, begun_by, invite_of, legs_of};
pub use wire::{branch_leg, epoch_of_cseq, leg_of_tag, named_leg};

/// Numbers that shape a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long targets ring, in ms.
    pub ring_ms: u64,
    /// The longest talk, in ms.
    pub talk_max_ms: u64,
    /// Goes into `User-Agent` and `Server`.
    pub product: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            ring_ms: 60_000,
            talk_max_ms: 12 * 3_600_000,
            product: concat!("Tandem/", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

/// Everything that can happen to a call.
#[derive(Debug, Clone)]
pub enum Input {
    /// The caller's CANCEL (RFC 3261 section 9.2); the transaction layer has answered it.
    Cancelled,
    /// The caller's connection is gone, and with it the INVITE.
    CallerGone,
    /// A request inside a leg's dialog (section 12.2.2).
    Request {
        /// Whose dialog.
        leg: LegId,
        /// Its server transaction.
        key: ServerKey,
        /// The request.
        message: Message,
        /// How it came.
        flow: Flow,
    },
    /// An ACK to a 2xx (section 13.2.2.4); it has no transaction.
    Acknowledged {
        /// Whose dialog.
        leg: LegId,
        /// The ACK.
        message: Message,
    },
    /// A response to a request of ours, retransmitted 2xx to INVITE too (RFC 6026).
    Response {
        /// Whose dialog.
        leg: LegId,
        /// The response.
        message: Message,
    },
    /// A request of ours got no final response (section 8.1.3.1).
    Unanswered {
        /// Whose dialog.
        leg: LegId,
        /// Of which request.
        method: Method,
        /// And its CSeq number.
        cseq: u32,
    },
    /// What became of a proposal; `None` when that is not known and the node gave up asking.
    Proposed {
        /// Which.
        what: Proposal,
        /// How it was answered.
        outcome: Option<Result<Reply, Refusal>>,
    },
    /// No media on any leg for the configured time.
    MediaSilent,
    /// Media figures, asked for by [`Output::CloseMedia`].
    MediaFigures(Quality),
    /// An operator, a tenant admin or the node itself ends the call.
    HangUp(Cause),
    /// The log ended the call without this node, whose lease had run out, or gave it to another: it is no longer this node's
    /// to speak for.
    Lost,
    /// The node has a lease of this epoch. What was asked under an earlier one has no answer any more.
    Leased {
        /// The epoch.
        epoch: NodeEpoch,
    },
    /// Hand the call over to this node.
    Move {
        /// Which.
        to: NodeId,
    },
    /// The node that held a leg's flow is lost; its phone may be reached by these ways.
    FlowLost {
        /// Whose.
        leg: LegId,
        /// The best first; may be none.
        ways: Vec<Way>,
    },
    /// The phone of a leg that was taken over, or lost its flow, has come back by another way.
    Reachable {
        /// Whose.
        leg: LegId,
        /// This one.
        way: Way,
    },
    /// The fault switch of test builds.
    #[cfg(feature = "faults")]
    Fault,
}

/// Everything that a call can ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Answer a server transaction.
    Respond {
        /// Which.
        key: ServerKey,
        /// With what; a 2xx to INVITE may be given again (RFC 6026 section 7.1).
        message: Message,
    },
    /// Open a client transaction.
    Request {
        /// The request; its branch names the leg.
        message: Message,
        /// By which way.
        flow: Flow,
    },
    /// Send without a transaction: the ACK to a 2xx.
    Send {
        /// The message.
        message: Message,
        /// By which way.
        flow: Flow,
    },
    /// Put to the log, and answer with [`Input::Proposed`].
    Propose {
        /// For the answer.
        what: Proposal,
        /// The command.
        command: Box<Command>,
    },
    /// Put a plan in force.
    SetMedia(MediaPlan),
    /// Close the media session, and answer with [`Input::MediaFigures`].
    CloseMedia,
    /// Close the media session in a moment, and ask for no figures: the call's new owner is telling the phones.
    LeaveMedia,
    /// The call's new owner answers these.
    PassOn {
        /// Each with its server transaction here, which ends.
        requests: Vec<(ServerKey, Message, Flow)>,
    },
    /// By the log's word the call is another's: nothing more is asked or answered in its dialogs.
    Abandon,
    /// The call was to end for this, and nothing in the log says so: it is the new owner's to carry out.
    PassOnHangUp(Cause),
    /// Take over the server transaction that this INVITE opened at another node; [`Output::Respond`] answers it.
    Adopt {
        /// As it came.
        invite: Message,
        /// The way to its sender.
        flow: Flow,
    },
    /// Requests for this leg come here from now on.
    Listen(LegId),
    /// And no more.
    Forget(LegId),
}

/// Which of a call's proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proposal {
    /// The call itself.
    Create,
    /// It rings; nothing waits for it.
    Note,
    /// What has become of it; nothing waits for it.
    Shape,
    /// The answer, before the caller's 200.
    Answer,
    /// A hold or resume, before its 200.
    Exchange,
    /// To be another node's.
    Move,
    /// The end, with its CDRs.
    End,
}

/// What the call is doing, from its first INVITE to its last CDR.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// The program's `dial` runs.
    Dialling { ringing: Ringing, ring_until_ms: u64 },
    /// A phone answered; the checkpoint is on its way, the caller's 200 waits for it.
    Answering { winner: LegId },
    /// Two parties talk.
    Talking { winner: LegId, until_ms: u64 },
    /// Signalling is done, the CDR is on its way. Before `figures` the timer bounds the wait for them, after them that
    /// for the next proposal.
    Ending { figures: bool, retry_ms: Option<u64> },
    /// Nothing is left to do.
    Over,
}

/// Whether a target rings, and whether the log is told. It is told a little later than the caller, so that a phone
/// that answers at once costs no entry of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ringing {
    /// None does.
    No,
    /// The log is told at this time, if nobody has answered by then.
    Since { note_ms: u64 },
    /// The log was told.
    Noted,
}

/// What the log has said to the call's record. Nothing that must follow it is proposed while it is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Creation {
    /// Nothing yet.
    Pending,
    /// It is there, so that its end must be too.
    Created,
    /// It is not there, or nobody knows: its CDR is that of a refused call, and the log says so if there is one after all.
    Missing,
}

/// Whether the log is being told of a shape that nothing waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Telling {
    #[default]
    Nothing,
    /// It is.
    Once,
    /// And has to be told once more, with this note, for more has changed since.
    Again(Option<CallNote>),
}

impl Telling {
    /// More has changed than what is on its way.
    fn outdate(&mut self, note: Option<CallNote>) {
        match *self {
            Telling::Nothing => {}
            Telling::Once => *self = Telling::Again(note),
            Telling::Again(before) => *self = Telling::Again(note.or(before)),
        }
    }
}

/// The machine of one call.
#[derive(Debug, Clone)]
pub struct Call {
    id: CallId,
    interaction: InteractionId,
    tenant: TenantId,
    node: NodeId,
    node_epoch: NodeEpoch,
    epoch: CallEpoch,
    direction: CallDirection,
    from: Party,
    to: Party,
    start: ClusterTime,
    settings: Settings,
    phase: Phase,
    create: Creation,
    /// The end is in the log.
    recorded: bool,
    /// Of the targets that failed so far.
    best_cause: Cause,
    max_forwards: u8,
    caller: Leg,
    callees: Vec<Leg>,
    attempt: Attempt,
    /// The callee whose early media the caller hears.
    early: Option<LegId>,
    exchange: Option<exchange::Exchange>,
    infos: Vec<info::Passed>,
    outputs: VecDeque<Output>,
    /// Legs of a former owner, which the log forgets with the next change.
    gone: Vec<LegId>,
    keeps_invite: bool,
    telling: Telling,
    frozen: Option<moving::Frozen>,
}

impl Call {
    /// Which call this is.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// The ownership under which this machine speaks for the call.
    pub fn epoch(&self) -> CallEpoch {
        self.epoch
    }

    /// Whose call this is.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Another node had it before.
    fn has_moved(&self) -> bool {
        self.epoch > CallEpoch(1)
    }

    /// The log has it, and nothing was said of its end yet.
    pub fn is_recorded(&self) -> bool {
        self.create == Creation::Created && !matches!(self.phase, Phase::Ending { .. } | Phase::Over)
    }

    /// All legs that it has or had.
    pub fn leg_ids(&self) -> impl Iterator<Item = LegId> + '_ {
        std::iter::once(self.caller.id).chain(self.callees.iter().map(|leg| leg.id))
    }

    fn leg(&mut self, id: LegId) -> Option<&mut Leg> {
        if self.caller.id == id {
            return Some(&mut self.caller);
        }
        self.callees.iter_mut().find(|leg| leg.id == id)
    }

    /// The leg that `id` talks to, once there is one.
    fn peer_of(&self, id: LegId) -> Option<LegId> {
        let winner = match self.phase {
            Phase::Answering { winner } | Phase::Talking { winner, .. } => winner,
            Phase::Dialling { .. } | Phase::Ending { .. } | Phase::Over => return None,
        };
        match id {
            _ if id == self.caller.id => Some(winner),
            _ if id == winner => Some(self.caller.id),
            _ => None,
        }
    }

    fn put(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Tells the log what the call's shape is now; nothing waits for it. One is on its way at a time: an older one that comes
    /// after a newer one would undo it.
    fn checkpoint(&mut self, note: Option<CallNote>) {
        if self.telling == Telling::Nothing {
            self.telling = Telling::Once;
            return self.propose_checkpoint(Proposal::Shape, self.change(note));
        }
        self.telling.outdate(note);
    }

    /// The log was told of a shape.
    fn told(&mut self) {
        match (std::mem::take(&mut self.telling), &self.phase) {
            (Telling::Again(note), Phase::Talking { .. }) => self.checkpoint(note),
            (_, Phase::Answering { .. }) => self.propose_answer(),
            _ => {}
        }
    }

    fn propose_checkpoint(&mut self, what: Proposal, change: CallChange) {
        let command = Command::Checkpoint { call: self.id, epoch: self.epoch, change };
        self.put(Output::Propose { what, command: Box::new(command) });
    }

    fn proposed(&mut self, now: Now, what: Proposal, outcome: Option<Result<Reply, Refusal>>) {
        if matches!(outcome, Some(Err(Refusal::StaleCallEpoch { .. }))) {
            // It is another node's: this one has only not heard of it yet.
            return self.lost_by_outcome();
        }
        match what {
            Proposal::Create => self.created(now, outcome),
            Proposal::Note => {}
            Proposal::Shape => self.told(),
            Proposal::Answer => self.answer_recorded(now, outcome),
            Proposal::Exchange => self.exchange_recorded(now),
            Proposal::Move => self.move_decided(now, outcome),
            Proposal::End => self.end_recorded(now, outcome),
        }
    }
}

impl Machine for Call {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Now, input: Input) {
        let Some(input) = self.unless_frozen(input) else { return };
        match input {
            Input::Cancelled => self.cancelled(now),
            Input::CallerGone => self.caller_gone(now),
            Input::Request { leg, key, message, flow } => self.request(now, leg, key, message, flow),
            Input::Acknowledged { leg, message } => self.acknowledged(now, leg, &message),
            Input::Response { leg, message } => self.response(now, leg, message),
            Input::Unanswered { leg, method, cseq } => self.unanswered(now, leg, &method, cseq),
            Input::Proposed { what, outcome } => self.proposed(now, what, outcome),
            Input::MediaSilent => self.silent(now),
            Input::MediaFigures(quality) => self.figures(now, quality),
            // Passed on by a former owner: as any CANCEL it comes too late for a call that was answered.
            Input::HangUp(Cause::Cancelled) => self.cancelled(now),
            Input::HangUp(cause) => self.finish(now, cause),
            Input::Lost => self.lost(),
            Input::Leased { epoch } => self.leased(epoch),
            Input::Move { to } => self.hand_over(to),
            Input::FlowLost { leg, ways } => self.flow_lost(now, leg, ways),
            Input::Reachable { leg, way } => self.reachable(now, leg, way),
            #[cfg(feature = "faults")]
            #[expect(clippy::panic, reason = "this is what the fault switch is for")]
            Input::Fault => panic!("the fault switch of test builds"),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<u64> {
        if let Some(frozen) = &self.frozen {
            return frozen.again_ms();
        }
        let phase = match self.phase {
            Phase::Dialling { ringing: Ringing::Since { note_ms }, ring_until_ms } => {
                let noting = self.create == Creation::Created;
                Some(if noting { note_ms.min(ring_until_ms) } else { ring_until_ms })
            }
            Phase::Dialling { ring_until_ms, .. } => Some(ring_until_ms),
            Phase::Talking { until_ms, .. } => Some(until_ms),
            Phase::Ending { retry_ms, .. } => retry_ms,
            Phase::Answering { .. } | Phase::Over => None,
        };
        let legs = std::iter::once(&self.caller).chain(&self.callees).filter_map(Leg::poll_timeout);
        phase.into_iter().chain(legs).min()
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.frozen.is_some() {
            return self.move_is_due(now);
        }
        match self.phase {
            Phase::Dialling { ring_until_ms, .. } if now.steady_ms >= ring_until_ms => self.rang_out(now),
            Phase::Dialling { .. } => self.note_ringing(now),
            Phase::Talking { until_ms, .. } if now.steady_ms >= until_ms => {
                self.finish(now, Cause::MaxDuration)
            }
            Phase::Ending { retry_ms: Some(at), .. } if now.steady_ms >= at => self.end_is_due(),
            Phase::Answering { .. } | Phase::Talking { .. } | Phase::Ending { .. } | Phase::Over => {}
        }
        self.repeat_unacknowledged(now);
        self.refresh_due(now);
    }

    fn is_finished(&self) -> bool {
        self.phase == Phase::Over
    }
}

#[cfg(test)]
mod tests;
