//! Members of the cluster: promoted, removed, made the leader. Each is written to the audit first, and may be asked for again.

use axum::extract::Path;
use tandem_cluster::MemberError;
use tandem_state::{NodeId, State};

use super::Shared;
use crate::answer::Gone;
use crate::api::Api;
use crate::change::{Order, note};
use crate::problem::Problem;
use crate::session::Session;

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
