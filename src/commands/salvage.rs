//! `tandem salvage`: what a lost node's data directory knows that the cluster doesn't.

use std::path::PathBuf;

use serde_json::json;
use tandem_api::views::{SalvageView, StatusView};

use crate::cli::Format;
use crate::client::Client;
use crate::failure::refused;
use crate::output::show;

/// CDRs in one request.
const BATCH: usize = 100;

/// Sends the CDRs of a stopped node's data directory to the cluster.
pub(super) async fn run(client: Client, data: PathBuf, format: Format) -> anyhow::Result<()> {
    let todo = "name the data directory of a stopped node, as its config does";
    let found = tandem_cluster::salvage(&data).await.map_err(|error| refused(error.to_string(), todo))?;
    let status: StatusView = client.get("/v1/cluster", &[]).await?;
    let ours = found.cluster_id.to_string();
    if status.cluster_id != ours {
        let what = format!("the directory is of cluster {ours}, the nodes are of {}", status.cluster_id);
        return Err(refused(what, "give --api of the cluster that the node was of"));
    }
    let mut told = SalvageView::default();
    for batch in found.cdrs.chunks(BATCH) {
        let cdrs: Vec<String> = batch.iter().map(tandem_cluster::cdr_to_text).collect();
        let body = json!({ "cdrs": cdrs });
        let one: SalvageView = client.post("/v1/cluster/salvage", &[], &body).await?;
        told.imported += one.imported;
        told.known += one.known;
        told.different.extend(one.different);
        told.of_no_tenant.extend(one.of_no_tenant);
    }
    show(format, &told, described)?;
    match told.different.is_empty() && told.of_no_tenant.is_empty() {
        true => Ok(()),
        false => Err(refused("not all CDRs could be brought over", "compare those that are named by hand")),
    }
}

fn described(told: &SalvageView) -> String {
    let list =
        |what: &str, ids: &[String]| ids.iter().map(|id| format!("{what}  {id}\n")).collect::<String>();
    format!("{} CDRs brought over, {} were known\n", told.imported, told.known)
        + &list("differs from the one that is known:", &told.different)
        + &list("of a tenant that is no more:", &told.of_no_tenant)
}
