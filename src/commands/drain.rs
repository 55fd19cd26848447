//! `tandem node drain` and `undrain`.

use std::time::{Duration, Instant};

use tandem_api::views::{DrainView, MemberView, StatusView};

use crate::cli::Format;
use crate::client::{Client, segment};
use crate::failure::refused;
use crate::output::{progress, show};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

fn takes_work(node: &MemberView) -> bool {
    node.role == "full" && node.state == "up"
}

/// Has a node emptied, and waits until it is.
pub(super) async fn drain(
    client: Client,
    node: Option<String>,
    wait: Duration,
    format: Format,
) -> anyhow::Result<()> {
    let emptied = ordered(&client, node, "drain").await?;
    let deadline = Instant::now() + wait;
    let mut told = None;
    loop {
        let status: StatusView = client.get("/v1/cluster", &[]).await?;
        let left = status.nodes.iter().find(|node| node.name == emptied.node).map_or(0, |node| node.calls);
        if left == 0 {
            if !status.nodes.iter().any(takes_work) {
                progress(
                    "no node takes calls and registrations now; one that is not to be stopped: `tandem node undrain NAME`",
                );
            }
            return show(format, &emptied, |it| format!("{} has no calls and takes no work\n", it.node));
        }
        if told.replace(left) != Some(left) {
            progress(&format!("{left} calls are left"));
        }
        if Instant::now() > deadline {
            let todo = "they ring, or no other node takes them: ask again, stop the node (they go then), or `tandem node undrain`";
            return Err(refused(format!("{left} calls are still there"), todo));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Lets a node take work again.
pub(super) async fn undrain(client: Client, node: Option<String>, format: Format) -> anyhow::Result<()> {
    let told = ordered(&client, node, "undrain").await?;
    show(format, &told, |it| format!("{} takes work again\n", it.node))
}

/// Of the node that is asked, if none is named.
async fn ordered(client: &Client, node: Option<String>, what: &str) -> anyhow::Result<DrainView> {
    client.ask(&format!("/v1/cluster/nodes/{}/{what}", segment(node.as_deref().unwrap_or("-")))).await
}
