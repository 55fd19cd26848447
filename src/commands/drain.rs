//! `tandem node drain` and `undrain`.

use std::time::{Duration, Instant};

use serde_json::json;
use tandem_api::views::StatusView;

use crate::cli::Format;
use crate::client::{Client, segment};
use crate::failure::refused;
use crate::output::{progress, show};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// Has a node emptied, and waits until it is.
pub(super) async fn drain(
    client: Client,
    node: Option<String>,
    wait: Duration,
    format: Format,
) -> anyhow::Result<()> {
    let name = node.as_deref().unwrap_or("-");
    client.act(&format!("/v1/cluster/nodes/{}/drain", segment(name))).await?;
    let deadline = Instant::now() + wait;
    let mut told = None;
    loop {
        let status: StatusView = client.get("/v1/cluster", &[]).await?;
        let emptied: Vec<_> = status.nodes.iter().filter(|node| is_meant(node, name)).collect();
        let left: u64 = emptied.iter().map(|node| node.calls).sum();
        if !emptied.is_empty() && left == 0 {
            let names: Vec<&str> = emptied.iter().map(|node| node.name.as_str()).collect();
            return show(format, &json!({ "node": names, "done": "drained" }), |_| {
                format!("{} has no calls and takes no work\n", names.join(", "))
            });
        }
        if told != Some(left) {
            progress(&format!("{left} calls are left"));
            told = Some(left);
        }
        if Instant::now() > deadline {
            let todo = "they ring, or no other node takes them: ask again, stop the node (they go then), or `tandem node undrain`";
            return Err(refused(format!("{left} calls are still there"), todo));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// By name or id; without one every node that is being emptied is looked at.
fn is_meant(node: &tandem_api::views::MemberView, name: &str) -> bool {
    if name == "-" { node.state == "draining" } else { node.name == name || node.id == name }
}

/// Lets a node take work again.
pub(super) async fn undrain(client: Client, node: Option<String>, format: Format) -> anyhow::Result<()> {
    let name = node.as_deref().unwrap_or("-");
    client.act(&format!("/v1/cluster/nodes/{}/undrain", segment(name))).await?;
    let shown = node.unwrap_or_else(|| "the node".to_owned());
    show(format, &json!({ "node": shown, "done": "undrained" }), |_| format!("{shown} takes work again\n"))
}
