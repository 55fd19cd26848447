//! What the API tells Prometheus, of itself and of the state.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::api::Api;

/// Says what each figure means.
pub(crate) fn describe() {
    describe_counter!("tandem_api_requests_total", "HTTP requests answered, by path, method and status");
    describe_histogram!("tandem_api_request_seconds", "Time to answer an HTTP request");
    describe_counter!(
        "tandem_api_streams_cut_total",
        "Event streams ended because their reader was too slow"
    );
    describe_gauge!("tandem_api_audits", "Hang-ups under way or waiting to be written into the audit");
    describe_counter!(
        "tandem_api_audits_refused_total",
        "Hang-ups refused because too many others wait to be written into the audit"
    );
    describe_gauge!("tandem_api_streams", "Event streams open on this node");
    describe_gauge!("tandem_state_position", "The log position that this node has applied");
    describe_gauge!("tandem_state_calls", "Calls up in the cluster");
    describe_gauge!("tandem_state_registrations", "Registrations in the cluster");
    describe_gauge!("tandem_node_calls", "Calls that this node owns");
    describe_gauge!("tandem_node_registrations", "Registrations whose way to the phone this node holds");
    describe_gauge!("tandem_quorum", "1 while a quorum of nodes answers");
    describe_gauge!(
        "tandem_members_down",
        "Members without a lease (before leases are in force: that don't answer this node)"
    );
    describe_gauge!("tandem_ready", "1 while this node may take calls");
}

/// Brings the gauges up to date, just before they are read.
pub(crate) async fn refresh(api: &Api) {
    let view = api.cluster.view();
    let own = api.cluster.node_id();
    // Without names of tenants: this page needs no token.
    gauge!("tandem_state_calls").set(whole(view.calls.len()));
    gauge!("tandem_state_registrations").set(whole(view.bindings.len()));
    let calls = view.calls.values().filter(|call| call.owner == own).count();
    gauge!("tandem_node_calls").set(whole(calls));
    gauge!("tandem_node_registrations").set(view.held_by(own));
    gauge!("tandem_state_position").set(u32::try_from(view.position).unwrap_or(u32::MAX));
    let (quorum, members) = (api.cluster.has_quorum(), api.liveness.members(&api.cluster).await);
    gauge!("tandem_quorum").set(u32::from(quorum));
    gauge!("tandem_members_down").set(whole(members.down.len()));
    gauge!("tandem_ready").set(u32::from(quorum && api.switch.readiness().is_ok()));
    gauge!("tandem_api_audits").set(whole(api.audits.taken()));
    let open = api.limits.streams_max.saturating_sub(api.streams.available_permits());
    gauge!("tandem_api_streams").set(whole(open));
    api.switch.refresh_gauges();
}

fn whole(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Counts and times each request under its route, never under its path.
pub(crate) async fn measure(route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let (begun, method) = (Instant::now(), request.method().as_str().to_owned());
    let route = route.map_or_else(|| "none".to_owned(), |route| route.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    let labels = [("path", route.clone()), ("method", known(&method)), ("status", status)];
    counter!("tandem_api_requests_total", &labels).increment(1);
    histogram!("tandem_api_request_seconds", "path" => route).record(begun.elapsed());
    response
}

/// Methods that a client made up don't become labels.
fn known(method: &str) -> String {
    let known = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"];
    known.iter().find(|known| **known == method).map_or("other", |known| known).to_owned()
}
