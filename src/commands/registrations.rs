//! `tandem registrations`.

use tandem_api::List;
use tandem_api::views::RegistrationView;

use crate::cli::Format;
use crate::client::Client;
use crate::output::{show, table};

pub(super) async fn list(client: Client, tenant: Option<String>, format: Format) -> anyhow::Result<()> {
    let path = super::scoped(tenant.as_deref(), "registrations");
    let registrations: List<RegistrationView> = client.list(&path, &[], usize::MAX).await?;
    show(format, &registrations, |registrations| {
        let rows = registrations.items.iter().cloned().map(|one| {
            [
                one.tenant,
                one.number,
                one.contact,
                one.received,
                one.transport,
                one.node,
                one.expires_at,
                one.state,
            ]
        });
        let rows: Vec<_> = rows.collect();
        let head = ["TENANT", "NUMBER", "CONTACT", "RECEIVED", "TRANSPORT", "NODE", "EXPIRES", "STATE"];
        match rows.is_empty() {
            true => "no phone is registered\n".to_owned(),
            false => table(head, rows.into_iter()),
        }
    })
}
