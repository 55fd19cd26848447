//! `tandem cluster init`, `invite`, `join`, `status`, `promote`, `remove`, `transfer-leader`, `rotate-key`, `hash`.

mod watch;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tandem_api::views::{ClusterKeyView, HashView, InvitationView, MemberView, StatusView};

use crate::cli::{Format, RoleArg};
use crate::client::{Client, segment};
use crate::config::Config;
use crate::failure::refused;
use crate::node::first_token;
use crate::output::{bold, coloured, print, progress, show, table, yes};

/// Moves the cursor to the top left and clears the screen.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

#[derive(Serialize)]
struct Initialised {
    cluster_id: String,
    admin_token: String,
}

#[derive(Serialize)]
struct Joined {
    cluster_id: String,
    node_id: String,
}

pub(super) fn init(config: &Path, format: Format) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    let (admin_token, hash) = first_token::draw()?;
    let cluster_id = prepare(&config, hash)?;
    let made = Initialised { cluster_id, admin_token };
    if format == Format::Table {
        progress(&format!(
            "cluster {} is prepared; next: tandem node run --config {}",
            made.cluster_id,
            config.path.display()
        ));
        progress("the operator's token, for TANDEM_TOKEN or ~/.config/tandem/token; it is not shown again:");
    }
    show(format, &made, |made| made.admin_token.clone() + "\n")
}

/// Prepares the data directory of a first node whose operator's token has `hash`; gives the cluster's id.
pub(crate) fn prepare(config: &Config, hash: [u8; 32]) -> anyhow::Result<String> {
    let todo = "a node that is prepared is started by `tandem node run`";
    nobody_listens(config)?;
    let made = tandem_cluster::init_with(&config.data, || first_token::keep(config, hash));
    let made = made.map_err(|error| refused(error.to_string(), todo))?;
    warn_of_copies(config, made.tells_copies);
    Ok(made.cluster_id.to_string())
}

/// A node of this config runs, whatever its data directory: it is not made anew beside it.
fn nobody_listens(config: &Config) -> anyhow::Result<()> {
    match TcpListener::bind(config.cluster) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let what = format!("a node runs at {} already (cluster.listen)", config.cluster);
            Err(refused(what, "stop it first, or give this node an address and a data directory of its own"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn warn_of_copies(config: &Config, tells_copies: bool) {
    if !tells_copies {
        progress(&format!(
            "the file system of {} says neither a file's birth nor which file it is: a copy of this directory can't be \
             told from it, so never start one",
            config.data.display()
        ));
    }
}

pub(super) async fn join(token: &str, config: &Path, format: Format) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    nobody_listens(&config)?;
    if let Some(name) = tandem_cluster::invited_node(token).filter(|name| *name != config.name) {
        let what = format!("this token is for a node named {name}, and the config's is {}", config.name);
        return Err(refused(what, "correct node.name, or make another token"));
    }
    let joined = tandem_cluster::join(&config.data, token, &config.name).await;
    let todo = "a token is for one node, once, and expires: `tandem cluster invite` makes another";
    let joined = joined.map_err(|error| refused(error.to_string(), todo))?;
    warn_of_copies(&config, joined.tells_copies);
    let joined = Joined { cluster_id: joined.cluster_id.to_string(), node_id: joined.node_id.to_string() };
    show(format, &joined, |joined| {
        let next = format!("next: tandem node run --config {}", config.path.display());
        format!("node {} has joined cluster {}; {next}\n", joined.node_id, joined.cluster_id)
    })
}

pub(super) async fn invite(
    client: Client,
    node: Option<String>,
    role: RoleArg,
    format: Format,
) -> anyhow::Result<()> {
    let role = match role {
        RoleArg::Full => "full",
        RoleArg::Witness => "witness",
    };
    let made: InvitationView =
        client.post("/v1/cluster/invite", &[], &json!({ "role": role, "node": node })).await?;
    if format == Format::Table {
        progress(&format!("for one {} node, once, within {} minutes:", made.role, made.valid_s / 60));
    }
    show(format, &made, |made| made.token.clone() + "\n")
}

pub(super) async fn status(client: Client, watch: bool, format: Format) -> anyhow::Result<()> {
    if watch {
        return watched(client, format).await;
    }
    let status: StatusView = client.look("/v1/cluster").await?;
    show(format, &status, described)
}

/// The status each second, and for people what happened last.
async fn watched(client: Client, format: Format) -> anyhow::Result<()> {
    let mut events = (format == Format::Table).then(|| watch::follow(client.clone()));
    let mut happened = watch::Happened::default();
    loop {
        let status = client.look::<StatusView>("/v1/cluster").await;
        if coloured() {
            print(CLEAR)?;
        }
        match status {
            Ok(status) => show(format, &status, described)?,
            Err(error) => progress(&crate::failure::describe(&error)),
        }
        while let Some(event) = events.as_mut().and_then(|events| events.try_recv().ok()) {
            happened.take(&event);
        }
        print(&happened.told())?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

pub(super) async fn promote(client: Client, node: String, format: Format) -> anyhow::Result<()> {
    client.act(&format!("/v1/cluster/nodes/{}/promote", segment(&node))).await?;
    done(format, &node, "votes")
}

pub(super) async fn transfer_leader(client: Client, node: String, format: Format) -> anyhow::Result<()> {
    client.act(&format!("/v1/cluster/nodes/{}/lead", segment(&node))).await?;
    done(format, &node, "leads")
}

pub(super) async fn remove(client: Client, node: String, format: Format) -> anyhow::Result<()> {
    client.delete(&format!("/v1/cluster/nodes/{}", segment(&node))).await?;
    done(format, &node, "is removed")
}

pub(super) async fn rotate_key(client: Client, format: Format) -> anyhow::Result<()> {
    let made: ClusterKeyView = client.ask("/v1/cluster/key").await?;
    show(format, &made, |made| format!("every member has cluster key {}, and it is in use\n", made.key_id))
}

fn done(format: Format, node: &str, what: &str) -> anyhow::Result<()> {
    show(format, &json!({ "node": node, "done": what }), |_| format!("{node} {what}\n"))
}

pub(super) async fn hash(client: Client, format: Format) -> anyhow::Result<()> {
    let report: HashView = client.get("/v1/cluster/hash", &[]).await?;
    show(format, &report, |report| {
        let rows = report.nodes.iter().map(|node| {
            let shown = node.hash.clone().or_else(|| node.error.clone()).unwrap_or_default();
            [node.name.clone(), shown]
        });
        let missing = report.nodes.iter().any(|node| node.hash.is_none());
        let verdict = match (report.equal, missing) {
            (true, _) => "equal",
            (false, true) => "not all nodes could be asked,",
            (false, false) => "NOT EQUAL",
        };
        table(["NODE", "HASH"], rows) + &format!("{verdict} at log position {}\n", report.position)
    })?;
    let missing: Vec<&str> =
        report.nodes.iter().filter(|node| node.hash.is_none()).map(|node| node.name.as_str()).collect();
    match (report.equal, missing.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => {
            Err(refused("the nodes' states differ", "keep all data directories and report this"))
        }
        (false, false) => {
            let what = format!("no hash from {}", missing.join(", "));
            Err(refused(what, "start the missing nodes, or look at their logs"))
        }
    }
}

fn described(status: &StatusView) -> String {
    let survives = &status.survives;
    let sites: Vec<String> =
        survives.site.iter().map(|(site, survives)| format!("site {site}: {}", yes(*survives))).collect();
    let head = format!(
        "cluster   {} (generation {}{})\nquorum    {}\nleader    {}\nsurvives  any one node: {}; {}\n\n",
        status.cluster_id,
        status.generation,
        status.fork.as_ref().map_or_else(String::new, |fork| format!(", fork {fork}")),
        if status.quorum { "yes".to_owned() } else { bold("NO") },
        status.leader.as_deref().unwrap_or("none"),
        yes(survives.any_one_node),
        sites.join("; "),
    );
    let columns = [
        "NODE", "SITE", "ROLE", "STATE", "EPOCH", "LEASE", "RAFT", "LOG", "APPLIED", "CALLS", "PHONES",
        "RTT", "VERSION",
    ];
    let notes: String = status.nodes.iter().flat_map(notes).map(|note| format!("{note}\n")).collect();
    head + &table(columns, status.nodes.iter().map(member)) + &notes
}

/// What else is to be said of a node.
fn notes(node: &MemberView) -> Vec<String> {
    let name = &node.name;
    let mut notes = Vec::new();
    if !matches!(node.storage.as_str(), "" | "ok" | "unknown") {
        let why = node.storage_error.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        notes.push(format!("{name}: its disk is {}{why}", bold(&node.storage)));
    }
    notes.extend(node.refused.as_ref().map(|why| format!("{name}: the cluster refuses it: {why}")));
    let joining = node.joining.as_ref().filter(|_| node.refused.is_none());
    notes.extend(joining.map(|at| format!("{name}: joining, has {} % of the {}", at.percent, at.step)));
    let index = node.index_rebuild_percent;
    notes.extend(index.map(|percent| format!("{name}: its archive's index is made anew, {percent} % done")));
    notes
}

fn member(node: &MemberView) -> [String; 13] {
    let node = node.clone();
    let rtt = node.rtt_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    let lease = node.lease_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let epoch = node.epoch.to_string();
    let (calls, phones) = (node.calls.to_string(), node.registrations.to_string());
    let (log, applied) = (node.last_log.to_string(), node.applied.to_string());
    [
        node.name,
        node.site,
        node.role,
        node.state,
        epoch,
        lease,
        node.raft,
        log,
        applied,
        calls,
        phones,
        rtt,
        node.version,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_with_quorum_and_what_it_survives() {
        let text = r#"{"cluster_id":"c","generation":1,"leader":"n1","quorum":true,
            "survives":{"any_one_node":true,"site":{"east":false,"west":true}},
            "nodes":[{"name":"n1","id":"1","site":"east","role":"full","state":"up","raft":"leader","term":3,
            "last_log":120,"applied":120,"epoch":1,"lease_ms":1310,"calls":0,"registrations":2,"version":"0.1.0",
            "rtt_ms":0.2,"storage":"full","storage_error":"0.seg: no space","joining":null,"index_rebuild_percent":40},
            {"name":"n2","id":"2","site":"west","role":"full","state":"down","raft":"unreachable","term":0,
            "last_log":0,"applied":0,"epoch":1,"lease_ms":null,"calls":0,"registrations":0,"version":"0.1.0",
            "rtt_ms":null}]}"#;
        let status: StatusView = serde_json::from_str(text).unwrap();
        let golden = "\
cluster   c (generation 1)
quorum    yes
leader    n1
survives  any one node: yes; site east: no; site west: yes

NODE  SITE  ROLE  STATE  EPOCH  LEASE    RAFT         LOG  APPLIED  CALLS  PHONES  RTT     VERSION
n1    east  full  up     1      1310 ms  leader       120  120      0      2       0.2 ms  0.1.0
n2    west  full  down   1      -        unreachable  0    0        0      0       -       0.1.0
n1: its disk is full: 0.seg: no space
n1: its archive's index is made anew, 40 % done
";
        assert_eq!(described(&status), golden);
    }
}
