//! Calls that the log gave to this node: their media gets ports here, their machine and its actor begin, and phones that
//! could not be told where their call is are told when they come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tandem_media::plan::EndId;
use tandem_sip::transaction::ServerKey;
use tandem_sip::uri::Uri;
use tandem_state::{
    self as state, Binding, CallId, CallPhase, LegDirection, LegId, LegRecord, NodeEpoch, NodeId, State,
    TenantId, Transport,
};
use tandem_switching::call::{
    Input, Interrupted, Setup, SetupTarget, TakenLeg, Takeover, Way, invite_of, legs_of,
};
use tandem_switching::routing::Phone;
use tandem_switching::{Call, routing};
use tandem_transport::clock::{Clock, SystemClock};
use tandem_transport::rtp::{Session, SessionCounters, SessionId};

use crate::flow;
use crate::ports::CallPorts;
use crate::shared::Shared;

/// Goes on with a call that is this node's since the log said so; `is_proven`: its former owner's process has ended.
pub(crate) fn take_over(shared: &Arc<Shared>, id: CallId, is_proven: bool) {
    let view = shared.cluster.view();
    let owned = view.calls.get(&id).filter(|call| call.owner == shared.node);
    let Some(call) = owned else { return };
    if let Some(slot) = shared.call(id) {
        if slot.with(Call::epoch) == call.epoch {
            return;
        }
        // The call was this node's, then another's, and is this node's again, before the former machine has ended.
        shared.let_go(&slot);
    }
    let epoch = shared.cluster.node_epoch();
    let taken = match call.phase {
        CallPhase::Answered | CallPhase::Held => go_on(shared, &view, call, epoch, is_proven),
        CallPhase::Trying | CallPhase::Ringing => ring_anew(shared, &view, call, epoch),
    };
    let Some((machine, media)) = taken else {
        tracing::error!(call = %id, "this node can't go on with a call of a lost node: it is ended");
        metrics::counter!("tandem_calls_not_taken_over_total").increment(1);
        return shared.end_in_log(id);
    };
    tracing::info!(call = %id, epoch = %call.epoch, is_proven, "this node goes on with the call");
    metrics::counter!("tandem_calls_taken_over_total").increment(1);
    shared.set_adrift(id);
    let taken_us = SystemClock.monotonic_us();
    let session = media.id();
    shared.start_call(machine, CallPorts::new(Arc::clone(shared), id, epoch, media));
    if matches!(call.phase, CallPhase::Answered | CallPhase::Held) {
        tokio::spawn(measured(Arc::clone(shared), id, session, taken_us));
    }
}

/// How often is looked, at first and later, and for how long.
const LOOKS: [(Duration, u32); 2] = [(Duration::from_millis(100), 30), (Duration::from_secs(1), 60)];

/// Measures a takeover: how long until both phones knew of it, and until each was heard here. A phone that holds is never heard;
/// one that can't be told in all this time is counted.
async fn measured(shared: Arc<Shared>, id: CallId, session: SessionId, taken_us: u64) {
    let (mut is_told, mut is_heard) = (false, false);
    let pauses = LOOKS.into_iter().flat_map(|(pause, times)| (0..times).map(move |_| pause));
    for pause in pauses {
        tokio::time::sleep(pause).await;
        let Some(slot) = shared.call(id) else { return };
        let now_us = SystemClock.monotonic_us();
        if !is_told && slot.with(|call| call.legs_adrift().next().is_none()) {
            is_told = true;
            metrics::histogram!("tandem_takeover_seconds").record(seconds(taken_us, now_us));
        }
        let heard = shared.media.session(session).and_then(|session| heard_since(&session.last_counters()));
        if let Some(heard_us) = heard.filter(|_| !is_heard) {
            is_heard = true;
            metrics::histogram!("tandem_takeover_audio_seconds").record(seconds(taken_us, heard_us));
        }
        if is_told && is_heard {
            return;
        }
    }
    if !is_told {
        metrics::counter!("tandem_takeover_untold_total").increment(1);
    }
}

fn seconds(from_us: u64, until_us: u64) -> f64 {
    until_us.saturating_sub(from_us) as f64 / 1e6
}

/// Since when all ends are heard.
fn heard_since(counters: &SessionCounters) -> Option<u64> {
    let firsts: Option<Vec<u64>> = counters.ends.iter().map(|end| end.received.first_us).collect();
    firsts?.into_iter().max()
}

/// Two parties talk. `None` when there are no ports, or it is no such call.
fn go_on(
    shared: &Shared,
    view: &State,
    call: &state::Call,
    node_epoch: NodeEpoch,
    is_proven: bool,
) -> Option<(Call, Session)> {
    // The caller's end is the first, as in a call that began here.
    let legs = legs_of(view, call);
    let (first, second): (Vec<&LegRecord>, Vec<&LegRecord>) = legs
        .filter(|leg| call.bridge.contains_key(&leg.id))
        .partition(|leg| leg.direction == LegDirection::In);
    let media = shared.media.open(first.len() + second.len()).ok()?;
    let ends = (0..).map_while(|end| media.local_rtp(EndId(end)));
    let legs = first.into_iter().chain(second).zip(ends).map(|(record, media)| TakenLeg {
        record: record.clone(),
        media,
        ways: ways(shared, view, call.tenant, &phone(record)),
    });
    let takeover = Takeover {
        call: call.clone(),
        legs: legs.collect(),
        node: shared.node,
        node_epoch,
        is_proven,
        settings: shared.settings.clone(),
        invite: invite_of(view, call),
    };
    let machine = Call::take_over(shared.now(), takeover);
    if machine.is_none() {
        drop(media.close());
    }
    Some((machine?, media))
}

/// It rings. `None` when there are no ports, or nobody knows what the caller asked.
fn ring_anew(
    shared: &Shared,
    view: &State,
    call: &state::Call,
    node_epoch: NodeEpoch,
) -> Option<(Call, Session)> {
    let invite = invite_of(view, call)?;
    let caller = legs_of(view, call).find(|leg| leg.direction == LegDirection::In)?;
    let way = ways(shared, view, call.tenant, &phone(caller)).into_iter().next();
    let is_caller_lost = way.is_none();
    let way = way.unwrap_or_else(|| Way { flow: caller.flow.clone(), sent_by: String::new() });
    let rang = legs_of(view, call).filter(|leg| leg.direction == LegDirection::Out);
    let rang = rang.filter_map(|leg| {
        Some((leg.clone(), ways(shared, view, call.tenant, &phone(leg)).into_iter().next()?))
    });
    let rang: Vec<(LegRecord, Way)> = rang.collect();
    let domain = view.tenants.get(&call.tenant)?.domain.clone();
    let targets = routing::route(view, &shared.here, call.tenant, &call.to.number);
    let targets = targets.map(|route| route.targets).unwrap_or_default();
    let media = shared.media.open(targets.len() + 1).ok()?;
    let mut ends = (0..).map_while(|end| media.local_rtp(EndId(end)));
    let towards_caller = ends.next()?;
    let drawn = targets.into_iter().zip(ends);
    let targets = drawn.map(|(target, media)| SetupTarget { leg: shared.ids.leg(), media, target }).collect();
    let setup = Setup {
        id: call.id,
        interaction: call.interaction,
        tenant: call.tenant,
        domain,
        node: shared.node,
        node_epoch,
        direction: call.direction,
        from: call.from.clone(),
        to: call.to.clone(),
        key: ServerKey::of(&invite),
        invite,
        flow: way.flow,
        sent_by: way.sent_by,
        leg: caller.id,
        media: towards_caller,
        targets,
        settings: shared.settings.clone(),
        keeps_invite: true,
    };
    let lost = Interrupted { call: call.clone(), rang, is_caller_lost };
    let machine = Call::dial_again(shared.now(), setup, lost).ok();
    if machine.is_none() {
        drop(media.close());
    }
    Some((machine?, media))
}

fn phone(record: &LegRecord) -> Phone<'_> {
    Phone { number: &record.party.number, contact: &record.dialog.remote_target, flow: &record.flow }
}

/// A node is lost: calls of this node that reach a phone by it try other ways.
pub(crate) fn flow_node_lost(shared: &Shared, node: NodeId) {
    let view = shared.cluster.view();
    for (id, slot) in shared.call_ids().into_iter().filter_map(|id| Some((id, shared.call(id)?))) {
        let found: Vec<(LegId, Vec<Way>)> = slot.with(|call| {
            let legs = call.legs_by(node);
            legs.map(|leg| (leg.id, ways(shared, &view, call.tenant(), &leg.phone()))).collect()
        });
        for (leg, ways) in found {
            shared.set_adrift(id);
            let _ = slot.send(Input::FlowLost { leg, ways });
        }
    }
}

/// The ways to a phone, the best first. Where the log knows none, a phone that spoke over TCP may listen at its Contact.
fn ways(shared: &Shared, view: &State, tenant: TenantId, phone: &Phone<'_>) -> Vec<Way> {
    let known = routing::ways(view, &shared.here, tenant, phone);
    if !known.is_empty() || phone.flow.transport != Transport::Tcp {
        return known;
    }
    let connected = address_of(phone.contact).and_then(|remote| shared.transport.connect(remote).ok());
    let flow = connected.map(|path| flow::flow(shared.node, &path));
    flow.into_iter().map(|flow| Way { sent_by: routing::sent_by(view, &flow), flow }).collect()
}

/// Of a URI that names one.
fn address_of(uri: &str) -> Option<SocketAddr> {
    let uri = Uri::parse(uri).ok()?;
    let ip = uri.host.trim_matches(['[', ']']).parse().ok()?;
    Some(SocketAddr::new(ip, uri.port.unwrap_or(5060)))
}

/// A phone registered: if it talks in a call that it was not told of yet, it is told by this way.
pub(crate) fn came_back(shared: &Shared, binding: &Binding) {
    let view = shared.cluster.view();
    for id in shared.calls_adrift() {
        let Some(slot) = shared.call(id) else { continue };
        let (mine, legs) = slot.with(|call| {
            let legs: Vec<_> =
                call.legs_adrift().map(|leg| (leg.id, leg.phone().number.to_owned())).collect();
            (call.tenant() == binding.spec.tenant, legs)
        });
        if legs.is_empty() {
            shared.end_adrift(id);
        }
        for (leg, _) in legs.into_iter().filter(|(_, number)| mine && *number == binding.spec.number) {
            let flow = binding.spec.flow.clone();
            let way = Way { sent_by: routing::sent_by(&view, &flow), flow };
            let _ = slot.send(Input::Reachable { leg, way });
        }
    }
}
