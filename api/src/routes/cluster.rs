//! The cluster itself: members, hashes, invitations.

use std::time::Duration;

use serde::Deserialize;
use tandem_cluster::{Finding, Level, RotateError};
use tandem_state::{Role, is_node_name};
use utoipa::ToSchema;

use super::Shared;
use crate::answer::Answer;
use crate::change::{Change, Order, note};
use crate::problem::Problem;
use crate::session::Session;
use crate::views::{CheckupView, ClusterKeyView, HashView, InvitationView, StatusView};

/// An invitation is valid this long when nothing else is asked.
const VALID_S: u64 = 3600;
/// And at most so long.
const VALID_S_MAX: u64 = 24 * 3600;

/// What is wanted of an invitation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Invitation {
    /// `full` or `witness`.
    #[serde(default = "full")]
    role: String,
    /// Not valid after so many seconds.
    valid_s: Option<u64>,
    /// The name of the node that it is for; any, if left out.
    node: Option<String>,
}

fn full() -> String {
    "full".to_owned()
}

/// Members, quorum, what loss it survives. Answers without a quorum too.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", responses((status = 200, body = StatusView)))]
pub(crate) async fn status(api: Shared, session: Session) -> Result<Answer<StatusView>, Problem> {
    session.operator()?;
    let status = StatusView::from(api.cluster.status().await);
    Ok(session.answer(status))
}

/// Every node's state hash at one log position.
#[utoipa::path(get, path = "/v1/cluster/hash", tag = "cluster", responses((status = 200, body = HashView)))]
pub(crate) async fn hash(api: Shared, session: Session) -> Result<Answer<HashView>, Problem> {
    session.operator()?;
    let report = api.cluster.hash().await.map_err(|error| Problem::unavailable(error.to_string()))?;
    Ok(Answer::ok(report.position, HashView::from(report)))
}

/// What the answering node finds when it looks at itself and its peers. Answers without a quorum too.
#[utoipa::path(get, path = "/v1/cluster/checkup", tag = "cluster", responses((status = 200, body = CheckupView)))]
pub(crate) async fn checkup(api: Shared, session: Session) -> Result<Answer<CheckupView>, Problem> {
    session.operator()?;
    let mut findings = api.cluster.checkup().await;
    findings.push(match api.switch.readiness() {
        Ok(()) => Finding::ok("phones", "served here"),
        Err(why) => Finding::bad("phones", Level::Warning, why, ""),
    });
    let checkup = CheckupView::of(&session.view, api.cluster.node_id(), findings);
    Ok(session.answer(checkup))
}

/// Makes a join token: for one node, once. It stands in the audit, and is kept by this process alone: not replicated, gone when it stops.
#[utoipa::path(post, path = "/v1/cluster/invite", tag = "cluster", request_body = Invitation,
    responses((status = 201, body = InvitationView)))]
pub(crate) async fn invite(
    api: Shared,
    change: Change<Invitation>,
) -> Result<Answer<InvitationView>, Problem> {
    change.session.operator()?;
    let role = match change.body.role.as_str() {
        "full" => Role::Full,
        "witness" => Role::Witness,
        _ => return Err(Problem::invalid("role", "role must be full or witness")),
    };
    let valid_s = change.body.valid_s.unwrap_or(VALID_S);
    if !(1..=VALID_S_MAX).contains(&valid_s) {
        return Err(Problem::invalid("valid_s", format!("valid_s must be 1 to {VALID_S_MAX}")));
    }
    let node = change.body.node;
    let called = node.as_ref().map_or_else(String::new, |name| format!(" {name}"));
    if node.as_ref().is_some_and(|name| !is_node_name(name)) {
        return Err(Problem::invalid("node", "a name has 1 to 63 of a-z, 0-9 and -"));
    }
    if let Some(name) = &node
        && change.session.view.nodes.values().any(|record| record.name == *name)
    {
        return Err(Problem::conflict(format!(
            "a node {name} is there already; remove it first if it is lost"
        )));
    }
    let action = format!("invite a {} node{called} for {valid_s} s", change.body.role);
    // First the audit: a token that lets a node in leaves no hand unseen.
    note(&api, &change.session, None, action).await?;
    let token = api.cluster.invite_node(node, role, Duration::from_secs(valid_s)).await;
    let token = token.map_err(|error| Problem::unavailable(error.to_string()))?;
    let invitation = InvitationView { token, role: change.body.role, valid_s };
    Ok(Answer::created(change.session.view.position, invitation))
}

/// Draws a new cluster key, hands it to every member, and has it used. Refused when a member can't be reached: the key in
/// use stays.
#[utoipa::path(post, path = "/v1/cluster/key", tag = "cluster",
    responses((status = 201, body = ClusterKeyView)))]
pub(crate) async fn rotate_key(
    api: Shared,
    Order { session, .. }: Order,
) -> Result<Answer<ClusterKeyView>, Problem> {
    session.operator()?;
    let id = api.cluster.rotate_key(session.principal()).await.map_err(not_rotated)?;
    Ok(Answer::created(api.cluster.applied(), ClusterKeyView { key_id: id.to_string() }))
}

fn not_rotated(error: RotateError) -> Problem {
    match error {
        RotateError::NotInForce | RotateError::Unreached { .. } => Problem::conflict(error.to_string()),
        RotateError::NotKept(_) | RotateError::NoRandomness => Problem::unavailable(error.to_string()),
        RotateError::Proposed(error) => error.into(),
        RotateError::Refused(refusal) => refusal.into(),
    }
}
