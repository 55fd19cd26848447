//! REGISTER: who asks, what changes, and the answer once the log has it.

use std::sync::Arc;
use std::time::Duration;

use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::transaction::ServerKey;
use tandem_state::{Binding, ClusterTime, Flow, Refusal, State};
use tandem_switching::Now;
use tandem_switching::admission::{Admission, User, authenticate};
use tandem_switching::registrar::{self, Change, Plan, Source};
use tandem_switching::registration::{BindingId, Input};

use crate::answers::build;
use crate::auth;
use crate::endpoint::{Order, Serving};
use crate::places::Place;
use crate::registrations::is_connection;
use crate::shared::Shared;

/// Takes a REGISTER outside of a dialog.
pub(crate) fn register(serving: &mut Serving, key: ServerKey, message: Message, flow: Flow) {
    let shared = Arc::clone(&serving.shared);
    let view = shared.cluster.view();
    let now = shared.now();
    if shared.is_draining() {
        return serving.defer(&key, &message, DRAINING_RETRY_S);
    }
    if let Some(retry_after_s) = turned_away(&shared, &view, now, &message, &flow) {
        return serving.defer(&key, &message, retry_after_s);
    }
    let user = match authenticate(&view, serving.nonces(&shared.nonces), now, &message) {
        Admission::Admitted(user) => user,
        denied => return auth::deny(serving, &key, &message, denied),
    };
    let source = Source { user: &user, flow: &flow, node_epoch: shared.cluster.node_epoch() };
    let changes = match registrar::plan(&view, now, &shared.bounds, &source, &message) {
        Plan::Changes(changes) => changes,
        Plan::Unsupported { tags } => {
            return serving.answer(&key, &message, 420, |r| r.header(Header::Unsupported, &tags));
        }
        Plan::Refused { status, min_expires_s } => {
            let min = min_expires_s.map(|seconds| seconds.to_string());
            return serving.answer(&key, &message, status, |r| r.maybe(Header::MinExpires, min.as_deref()));
        }
    };
    if !finds_nothing_to_remove(&message, &changes) && changes.iter().all(|change| refreshed(&shared, change))
    {
        let response = accepted(&shared, &user, &message, &flow, &granted(&changes));
        let now_ms = now.steady_ms;
        if let Some(response) = response {
            serving.respond(now_ms, &key, response);
        }
        return;
    }
    let place = match Place::take(&shared, now.steady_ms, shared.ids.seed()) {
        Ok(place) => place,
        Err(retry_after_s) => return serving.defer(&key, &message, retry_after_s),
    };
    tokio::spawn(async move {
        let turn = place.turn().await;
        let response = match carry_out_anew(&shared, &user, &message, &flow, changes).await {
            Ok(granted) => accepted(&shared, &user, &message, &flow, &granted),
            Err(failed) => failed.response(&shared, &message),
        };
        drop(turn);
        drop(place);
        if let Some(message) = response {
            shared.order(Order::Respond { key, message, under: None });
        }
    });
}

/// A draining node takes no registrations; another one does.
const DRAINING_RETRY_S: u64 = 2;

/// While the log is short: when a registration that needs it may come again, said before the work of its proof. A phone
/// without credentials is let in to be challenged at the rate of the log, one with them when there is room.
fn turned_away(shared: &Shared, view: &State, now: Now, message: &Message, flow: &Flow) -> Option<u64> {
    if !shared.places.is_short(now.steady_ms) {
        return None;
    }
    let node_epoch = shared.cluster.node_epoch();
    if !registrar::needs_log(view, now, &shared.bounds, flow, node_epoch, message) {
        return None;
    }
    let has_proof = message.header(Header::Authorization).is_some();
    shared.places.look(now.steady_ms, shared.ids.seed(), has_proof).err()
}

/// Such a phone may have registered at another node a moment ago, and this one has not applied that yet: its 200 would say that
/// the binding is gone.
fn finds_nothing_to_remove(message: &Message, changes: &[Change]) -> bool {
    changes.is_empty() && message.values(Header::Contact).next().is_some()
}

/// Waits until this node has applied all that a quorum had acknowledged.
async fn catch_up(shared: &Shared) -> Result<(), Failed> {
    let position = shared.cluster.read_index().await.map_err(|_| Failed::Unknown)?;
    let is_there = shared.cluster.wait_applied(position, CATCH_UP_WAIT).await;
    if is_there { Ok(()) } else { Err(Failed::Unknown) }
}

const CATCH_UP_WAIT: Duration = Duration::from_secs(2);

/// What was planned on a view that had moved on by the time the log looked is planned again.
async fn carry_out_anew(
    shared: &Arc<Shared>,
    user: &User,
    message: &Message,
    flow: &Flow,
    mut changes: Vec<Change>,
) -> Result<Vec<Granted>, Failed> {
    if finds_nothing_to_remove(message, &changes) {
        catch_up(shared).await?;
        changes = planned(shared, user, message, flow)?;
    }
    for _ in 0..PLANS_MAX {
        let granted = granted(&changes);
        match carry_out(shared, changes).await {
            Err(Failed::Refused(Refusal::NoBinding | Refusal::StaleRevision { .. })) => {}
            done => return done.map(|()| granted),
        }
        changes = planned(shared, user, message, flow)?;
    }
    Err(Failed::Unknown)
}

fn planned(shared: &Shared, user: &User, message: &Message, flow: &Flow) -> Result<Vec<Change>, Failed> {
    let source = Source { user, flow, node_epoch: shared.cluster.node_epoch() };
    match registrar::plan(&shared.cluster.view(), shared.now(), &shared.bounds, &source, message) {
        Plan::Changes(changes) => Ok(changes),
        Plan::Refused { .. } | Plan::Unsupported { .. } => Err(Failed::Refused(Refusal::OutOfOrder)),
    }
}

/// How often a REGISTER is planned before its phone has to ask again.
const PLANS_MAX: u32 = 3;

/// What this REGISTER grants: the actors hear of it at the same time, so they are not asked.
type Granted = (BindingId, u32);

fn granted(changes: &[Change]) -> Vec<Granted> {
    let granted = |change: &Change| match change {
        Change::Refresh { id, expires_s } | Change::Bind { id, expires_s, .. } => {
            Some((id.clone(), *expires_s))
        }
        Change::Unbind { .. } => None,
    };
    changes.iter().filter_map(granted).collect()
}

/// A refresh that changes nothing is told to its actor and costs no log entry; anything else is left to the log.
fn refreshed(shared: &Shared, change: &Change) -> bool {
    let Change::Refresh { id, expires_s } = change else { return false };
    let Some(slot) = shared.find_registration(id) else { return true };
    slot.send(Input::Refreshed { expires_s: *expires_s }).is_ok()
}

/// Why a REGISTER was not carried out.
enum Failed {
    Refused(Refusal),
    Unknown,
}

impl Failed {
    fn response(&self, shared: &Shared, request: &Message) -> Option<Message> {
        let (status, retry) = match self {
            Failed::Refused(Refusal::StaleRevision { .. } | Refusal::OutOfOrder) => (500, Some("1")),
            Failed::Refused(Refusal::LimitReached { .. }) => (503, Some("60")),
            Failed::Refused(Refusal::NoExtension(_) | Refusal::NoTenant(_)) => (403, None),
            Failed::Refused(Refusal::Invalid { .. }) => (400, None),
            Failed::Refused(_) => (503, Some("5")),
            Failed::Unknown => (503, Some("2")),
        };
        build(shared, request, status, |r| r.maybe(Header::RetryAfter, retry))
    }
}

/// All changes in order; the first that fails ends it (what was done before stays: each binding stands alone).
async fn carry_out(shared: &Arc<Shared>, changes: Vec<Change>) -> Result<(), Failed> {
    for change in changes {
        match change {
            Change::Refresh { .. } => {
                refreshed(shared, &change);
            }
            Change::Bind { expires_s, command, .. } => {
                let tandem_state::Command::Bind { binding: spec, .. } = (*command).clone() else { continue };
                let reply = commit(shared, *command).await?;
                let Some(revision) = registrar::bound_revision(&reply) else { continue };
                let now = shared.now();
                let coarse_ms = now.steady_ms.saturating_add(spec.expires.since_ms(now.cluster));
                let binding = Binding { spec, revision, since: now.cluster };
                let slot = shared.registration(&binding, coarse_ms);
                let datagrams = !is_connection(&binding.spec.flow);
                let _ =
                    slot.send(Input::Bound { revision, expires_s: Some(expires_s), coarse_ms, datagrams });
            }
            Change::Unbind { command, .. } => match commit(shared, *command).await {
                Ok(_) | Err(Failed::Refused(Refusal::NoBinding)) => {}
                Err(failed) => return Err(failed),
            },
        }
    }
    Ok(())
}

async fn commit(shared: &Shared, command: tandem_state::Command) -> Result<tandem_state::Reply, Failed> {
    match shared.propose(command).await {
        Some(Ok(reply)) => Ok(reply),
        Some(Err(refusal)) => Err(Failed::Refused(refusal)),
        None => Err(Failed::Unknown),
    }
}

/// 200 with every binding of the address of record (RFC 3261 section 10.3 step 8).
fn accepted(
    shared: &Shared,
    user: &User,
    request: &Message,
    flow: &Flow,
    granted: &[Granted],
) -> Option<Message> {
    let view = shared.cluster.view();
    let now = shared.now().cluster;
    let expires = |binding: &Binding| {
        let now_granted = granted.iter().find(|(id, _)| id.key == binding.spec.key);
        let granted = now_granted.map(|(_, seconds)| now.plus_ms(u64::from(*seconds) * 1_000));
        granted.or_else(|| shared.exact_expiry(&BindingId::of(binding))).unwrap_or(binding.spec.expires)
    };
    let bound = view.bindings_of(user.tenant, &user.party.number);
    let bindings: Vec<(Binding, ClusterTime)> = bound.map(|b| (b.clone(), expires(b))).collect();
    let contacts = registrar::contact_values(&bindings, now);
    build(shared, request, 200, |r| {
        let r = contacts.iter().fold(r, |r, contact| r.header(Header::Contact, contact));
        registrar::accepted_with(request, flow).into_iter().fold(r, |r, (name, value)| r.header(name, value))
    })
}
