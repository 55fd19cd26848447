//! `tandem calls`, `tandem call show`, `tandem call hangup`.

use tandem_api::List;
use tandem_api::views::CallView;

use crate::cli::Format;
use crate::client::{Client, segment};
use crate::output::{print, show as print_value, table, yes};

pub(super) async fn list(client: Client, tenant: Option<String>, format: Format) -> anyhow::Result<()> {
    let path = super::scoped(tenant.as_deref(), "calls");
    let calls: List<CallView> = client.list(&path, &[], usize::MAX).await?;
    print_value(format, &calls, |calls| {
        let rows = calls.items.iter().map(|call| {
            let since = call.answer.as_ref().unwrap_or(&call.start).clone();
            let node = call.node.clone();
            [
                call.id.clone(),
                call.tenant.clone(),
                call.from.clone(),
                call.to.clone(),
                call.state.clone(),
                since,
                node,
            ]
        });
        let rows: Vec<_> = rows.collect();
        match rows.is_empty() {
            true => "no calls are up\n".to_owned(),
            false => table(["CALL", "TENANT", "FROM", "TO", "STATE", "SINCE", "NODE"], rows.into_iter()),
        }
    })
}

pub(super) async fn show(client: Client, id: String, format: Format) -> anyhow::Result<()> {
    let call: CallView = client.get(&format!("/v1/calls/{}", segment(&id)), &[]).await?;
    print_value(format, &call, described)
}

pub(super) async fn hangup(client: Client, id: String) -> anyhow::Result<()> {
    client.delete(&format!("/v1/calls/{}", segment(&id))).await?;
    print(&format!("{id} is being ended\n"))
}

fn described(call: &CallView) -> String {
    let answer = call.answer.as_deref().unwrap_or("not yet");
    let head = [
        format!("call    {}", call.id),
        format!("tenant  {}", call.tenant),
        format!("from    {}", call.from),
        format!("to      {}", call.to),
        format!("state   {}", call.state),
        format!("start   {}", call.start),
        format!("answer  {answer}"),
        format!("node    {} (epoch {})", call.node, call.epoch),
    ];
    let rows = call.legs.iter().map(|leg| {
        let (direction, party, transport) = (leg.direction.clone(), leg.party.clone(), leg.transport.clone());
        let (remote, codec, held) = (leg.remote.clone(), leg.codec.clone(), yes(leg.held).to_owned());
        [leg.id.clone(), direction, party, transport, remote, codec, held]
    });
    let legs = table(["LEG", "DIRECTION", "PARTY", "TRANSPORT", "REMOTE", "CODEC", "HELD"], rows);
    head.join("\n") + "\n\n" + &legs
}
