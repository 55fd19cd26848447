//! INVITE outside of a dialog: admission, limits, route, ports; then a call of its own.

use std::borrow::Cow;
use std::sync::Arc;

use tandem_media::plan::EndId;
use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::transaction::ServerKey;
use tandem_sip::uri::Uri;
use tandem_state::{CallDirection, Cause, Command, Flow, Party, RefusedCall, State, TenantId};
use tandem_switching::admission::{Admission, User, authenticate};
use tandem_switching::call::{Call, Setup, SetupTarget};
use tandem_switching::routing::{self, Route, route};
use tandem_switching::{call, refusal};

use crate::auth;
use crate::endpoint::Serving;
use crate::ports::CallPorts;
use crate::shared::Shared;

/// Takes an INVITE outside of a dialog.
pub(crate) fn invite(serving: &mut Serving, key: ServerKey, message: Message, flow: Flow) {
    if message.max_forwards() == Some(0) {
        return serving.answer(&key, &message, 483, |r| r);
    }
    let required: Vec<&str> = message.values(Header::Require).collect();
    if !required.is_empty() {
        let list = required.join(", ");
        return serving.answer(&key, &message, 420, |r| r.header(Header::Unsupported, &list));
    }
    let shared = Arc::clone(&serving.shared);
    let view = shared.cluster.view();
    let user = match authenticate(&view, serving.nonces(&shared.nonces), shared.now(), &message) {
        Admission::Admitted(user) => user,
        denied => return auth::deny(serving, &key, &message, denied),
    };
    let Some(dialled) = dialled(&message) else { return serving.answer(&key, &message, 484, |r| r) };
    match decide(serving, &view, &user, dialled, &message) {
        Ok(route) => begin(serving, key, message, flow, user, route),
        Err((to, cause)) => refuse(serving, &key, &message, &user, to, cause),
    }
}

/// What the request URI asks for.
struct Dialled<'a> {
    number: Cow<'a, str>,
    host: &'a str,
}

fn dialled(message: &Message) -> Option<Dialled<'_>> {
    let uri = Uri::parse(message.request_uri()).ok()?;
    Some(Dialled { number: uri.user_text()?, host: uri.host })
}

fn decide(
    serving: &mut Serving,
    view: &State,
    user: &User,
    dialled: Dialled<'_>,
    message: &Message,
) -> Result<Route, (Party, Cause)> {
    let to = || Party { number: dialled.number.to_string(), name: String::new() };
    let shared = &serving.shared;
    if shared.is_draining() {
        return Err((to(), Cause::NodeShutdown));
    }
    if shared.calls_count() >= shared.calls_max {
        return Err((to(), Cause::Internal));
    }
    if !within_limits(serving, view, user.tenant) {
        return Err((to(), Cause::LimitReached));
    }
    if !call::is_relayable(message) {
        return Err((to(), Cause::MediaNotAcceptable));
    }
    if !routing::is_for(view, user.tenant, dialled.host) {
        return Err((to(), Cause::UnknownNumber));
    }
    let shared = &serving.shared;
    route(view, &shared.here, user.tenant, &dialled.number).map_err(|refused| (refused.to, refused.cause))
}

/// Calls per second are judged here; calls at once are judged here and, for certain, by the log.
fn within_limits(serving: &mut Serving, view: &State, tenant: TenantId) -> bool {
    let Some(config) = view.tenants.get(&tenant) else { return false };
    let up = view.usage.get(&tenant).map_or(0, |usage| usage.calls);
    if config.limits.calls.is_some_and(|max| up >= max) {
        return false;
    }
    let now_ms = serving.shared.now().steady_ms;
    serving.rates.take(now_ms, tenant, config.limits.calls_per_second)
}

/// Answers, and has the log keep one CDR with the cause.
fn refuse(serving: &mut Serving, key: &ServerKey, message: &Message, user: &User, to: Party, cause: Cause) {
    let answer = refusal::answer_for(cause);
    metrics::counter!("tandem_calls_total", "result" => answer.metric).increment(1);
    let retry = answer.retry_after_s.map(|seconds| seconds.to_string());
    serving.answer(key, message, answer.status, |r| r.maybe(Header::RetryAfter, retry.as_deref()));
    let refused = RefusedCall {
        id: serving.shared.ids.call(),
        tenant: user.tenant,
        direction: CallDirection::Internal,
        from: user.party.clone(),
        to,
        start: serving.shared.now().cluster,
        cause,
    };
    tracing::info!(call = %refused.id, tenant = %user.tenant, from = %user.party.number, to = %refused.to.number, ?cause, "call refused");
    keep_refused(Arc::clone(&serving.shared), refused);
}

fn keep_refused(shared: Arc<Shared>, refused: RefusedCall) {
    let mut node_epoch = shared.cluster.node_epoch();
    tokio::spawn(async move {
        for _ in 0..REFUSED_TRIES_MAX {
            let command = Command::RefuseCall { node_epoch, refused: refused.clone() };
            if let Some(outcome) = shared.propose(command).await {
                let Some(next) = outcome.err().as_ref().and_then(refusal::next_epoch) else { return };
                node_epoch = next;
            }
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        }
    });
}

/// How often the CDR of a refused call is proposed.
const REFUSED_TRIES_MAX: u32 = 30;

fn begin(serving: &mut Serving, key: ServerKey, message: Message, flow: Flow, user: User, route: Route) {
    let shared = Arc::clone(&serving.shared);
    let Ok(media) = shared.media.open(route.targets.len() + 1) else {
        metrics::counter!("tandem_rtp_ports_exhausted_total").increment(1);
        return refuse(serving, &key, &message, &user, route.to, Cause::Internal);
    };
    let view = shared.cluster.view();
    let mut ends = (0..).map_while(|end| media.local_rtp(EndId(end)));
    let Some(towards_caller) = ends.next() else { return };
    let drawn = route.targets.iter().zip(ends);
    let targets =
        drawn.map(|(target, media)| SetupTarget { leg: shared.ids.leg(), media, target: target.clone() });
    let targets: Vec<SetupTarget> = targets.collect();
    let setup = Setup {
        id: shared.ids.call(),
        interaction: shared.ids.interaction(),
        tenant: user.tenant,
        domain: user.domain.clone(),
        node: shared.node,
        node_epoch: shared.cluster.node_epoch(),
        direction: route.direction,
        from: user.party.clone(),
        to: route.to.clone(),
        sent_by: routing::sent_by(&view, &flow),
        invite: message.clone(),
        key: key.clone(),
        flow,
        leg: shared.ids.leg(),
        media: towards_caller,
        targets,
        settings: shared.settings.clone(),
        keeps_invite: view.moves_calls(),
    };
    let (id, epoch) = (setup.id, setup.node_epoch);
    tracing::info!(call = %id, tenant = %user.tenant, from = %user.party.number, to = %route.to.number, targets = route.targets.len(), "call");
    match Call::new(shared.now(), setup) {
        Ok(call) => {
            serving.invites.insert(key, id);
            let ports = CallPorts::new(Arc::clone(&shared), id, epoch, media);
            shared.start_call(call, ports);
        }
        Err(error) => {
            tracing::debug!(call = %id, %error, "an INVITE makes no dialog");
            drop(media.close());
            serving.answer(&key, &message, 400, |r| r);
        }
    }
}
