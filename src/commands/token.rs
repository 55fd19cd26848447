//! `tandem token create`, `list`, `revoke`.

use serde_json::json;
use tandem_api::List;
use tandem_api::views::{NewTokenView, TokenView};

use crate::cli::Format;
use crate::client::{Client, segment};
use crate::output::{print, progress, show, table};

pub(super) async fn create(
    client: Client,
    tenant: Option<String>,
    id: Option<String>,
    format: Format,
) -> anyhow::Result<()> {
    let body = json!({ "tenant": tenant, "id": id });
    let made: NewTokenView = client.post("/v1/tokens", &[], &body).await?;
    if format == Format::Table {
        progress(&format!("token {} ({}); it is not shown again:", made.id, made.scope));
    }
    show(format, &made, |made| made.token.clone() + "\n")
}

pub(super) async fn list(client: Client, format: Format) -> anyhow::Result<()> {
    let tokens: List<TokenView> = client.list("/v1/tokens", &[], usize::MAX).await?;
    show(format, &tokens, |tokens| {
        let rows = tokens.items.iter().cloned();
        table(
            ["TOKEN", "SCOPE", "TENANT", "CREATED"],
            rows.map(|token| [token.id, token.scope, token.tenant.unwrap_or_default(), token.created]),
        )
    })
}

pub(super) async fn revoke(client: Client, id: String) -> anyhow::Result<()> {
    client.delete(&format!("/v1/tokens/{}", segment(&id))).await?;
    print(&format!("{id} is revoked\n"))
}
