//! Members of the cluster: promoted, removed, made the leader. Each is written to the audit first, and may be asked for again.

use axum::extract::Path;
use tandem_cluster::MemberError;
use tandem_state::command::IdempotencyKey;
use tandem_state::{Command, NodeId, State};

use super::Shared;
use crate::answer::{Answer, Gone};
use crate::api::Api;
use crate::change::{Order, note};
use crate::problem::Problem;
use crate::session::Session;
use crate::views::{DrainView, node_name};

/// Makes a learner a voter. A node that joins is promoted by itself once it has caught up.
#[utoipa::path(post, path = "/v1/cluster/nodes/{node}/promote", tag = "cluster",
    params(("node" = String, Path, description = "its name or id")),
    responses((status = 204, description = "it votes")))]
pub(crate) async fn promote(
    api: Shared,
    Path(node): Path<String>,
    Order { session, .. }: Order,
) -> Result<Gone, Problem> {
    change(&api, &session, &node, "promote node", async |id| api.cluster.promote(id).await).await
}

/// Hands leadership to a voter.
#[utoipa::path(post, path = "/v1/cluster/nodes/{node}/lead", tag = "cluster",
    params(("node" = String, Path, description = "its name or id")),
    responses((status = 204, description = "it leads")))]
pub(crate) async fn lead(
    api: Shared,
    Path(node): Path<String>,
    Order { session, .. }: Order,
) -> Result<Gone, Problem> {
    change(&api, &session, &node, "hand leadership to", async |id| api.cluster.transfer_leader(id).await)
        .await
}

/// Empties a node before maintenance: it takes no new calls and registrations, and its calls go to other nodes one by one.
/// `-` is the node that is asked. A restart of the node ends it too.
#[utoipa::path(post, path = "/v1/cluster/nodes/{node}/drain", tag = "cluster",
    params(("node" = String, Path, description = "its name or id, or `-`")),
    responses((status = 200, body = DrainView, description = "it is being emptied; `cluster status` counts its calls")))]
pub(crate) async fn drain(
    api: Shared,
    Path(node): Path<String>,
    Order { session, key }: Order,
) -> Result<Answer<DrainView>, Problem> {
    set_draining(&api, session, key, &node, true).await
}

/// A node that was emptied takes work again.
#[utoipa::path(post, path = "/v1/cluster/nodes/{node}/undrain", tag = "cluster",
    params(("node" = String, Path, description = "its name or id, or `-`")),
    responses((status = 200, body = DrainView, description = "it takes work")))]
pub(crate) async fn undrain(
    api: Shared,
    Path(node): Path<String>,
    Order { session, key }: Order,
) -> Result<Answer<DrainView>, Problem> {
    set_draining(&api, session, key, &node, false).await
}

async fn set_draining(
    api: &Api,
    session: Session,
    key: Option<IdempotencyKey>,
    node: &str,
    draining: bool,
) -> Result<Answer<DrainView>, Problem> {
    session.operator()?;
    let id = if node == "-" { api.cluster.node_id() } else { named(&session.view, node)? };
    let node = node_name(&session.view, id);
    let action = format!("{} node {node} ({id})", if draining { "drain" } else { "undrain" });
    note(api, &session, None, action).await?;
    let command = Command::Drain { node: id, on: draining };
    let committed = api.cluster.propose(session.principal(), key, command).await?;
    committed.outcome?;
    Ok(Answer::ok(committed.position, DrainView { node, draining }))
}

/// Takes a node out for good: its identity never comes back, its calls end, its bindings go. Refused while it runs, and
/// when those that stay and can be reached would make no quorum.
#[utoipa::path(delete, path = "/v1/cluster/nodes/{node}", tag = "cluster",
    params(("node" = String, Path, description = "its name or id")),
    responses((status = 204, description = "it is removed")))]
pub(crate) async fn remove(
    api: Shared,
    Path(node): Path<String>,
    Order { session, .. }: Order,
) -> Result<Gone, Problem> {
    change(&api, &session, &node, "remove node", async |id| api.cluster.remove(id).await).await
}

/// What is common to all of them: who may, the audit, the change.
async fn change(
    api: &Api,
    session: &Session,
    node: &str,
    action: &str,
    carry_out: impl AsyncFnOnce(NodeId) -> Result<(), MemberError>,
) -> Result<Gone, Problem> {
    session.operator()?;
    let id = named(&session.view, node)?;
    note(api, session, None, format!("{action} {node} ({id})")).await?;
    carry_out(id).await.map_err(|error| refused(node, error))?;
    Ok(Gone { position: api.cluster.applied() })
}

/// A node by its name, or by its id.
fn named(view: &State, text: &str) -> Result<NodeId, Problem> {
    let by_name = view.nodes.values().find(|node| node.name == text).map(|node| node.id);
    by_name
        .or_else(|| text.parse().ok())
        .ok_or_else(|| Problem::not_found(format!("no node {text}; `tandem cluster status` lists them")))
}

fn refused(node: &str, error: MemberError) -> Problem {
    match error {
        MemberError::NoNode => Problem::not_found(format!("no node {node} in this cluster")),
        MemberError::Refused(why) => Problem::conflict(why),
        MemberError::NoLeader => Problem::unavailable("no leader carried it out in time"),
    }
}
