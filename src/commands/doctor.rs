//! `tandem doctor`: what each node finds when it looks at itself and its peers.

use tandem_api::views::{CheckupView, FindingView, OtherView};
use tokio::task::JoinSet;

use crate::cli::Format;
use crate::client::Client;
use crate::failure::refused;
use crate::output::{bold, show, table};

/// Asks the node that it is given, then all others that this one knows. Fails if anything is a failure.
pub(super) async fn run(client: Client, format: Format) -> anyhow::Result<()> {
    let first: CheckupView = client.look(PATH).await?;
    let mut asks = JoinSet::new();
    for other in first.others.clone() {
        let client = client.clone();
        asks.spawn(async move { ask(&client, &other).await });
    }
    let mut checkups = asks.join_all().await;
    checkups.insert(0, first);
    checkups.sort_by(|a, b| a.node.cmp(&b.node));
    show(format, &checkups, |checkups| described(checkups))?;
    let failures = checkups.iter().flat_map(|one| &one.findings).filter(|one| one.level == FAILURE).count();
    match failures {
        0 => Ok(()),
        1 => Err(refused("one check failed", "the list says what to do")),
        many => Err(refused(format!("{many} checks failed"), "the list says what to do")),
    }
}

const PATH: &str = "/v1/cluster/checkup";
const FAILURE: &str = "failure";

async fn ask(client: &Client, other: &OtherView) -> CheckupView {
    let asked = match client.at(&other.api) {
        Ok(client) => client.look::<CheckupView>(PATH).await,
        Err(error) => Err(error),
    };
    asked.unwrap_or_else(|error| CheckupView {
        node: other.name.clone(),
        findings: vec![FindingView {
            check: "API".into(),
            level: FAILURE.into(),
            what: format!("{error:#}"),
            todo: "is the node running? `tandem cluster status` tells how its peers see it".into(),
        }],
        others: Vec::new(),
    })
}

fn described(checkups: &[CheckupView]) -> String {
    let row = |node: &str, one: &FindingView| {
        let level = if one.level == "ok" { one.level.clone() } else { bold(&one.level.to_uppercase()) };
        [node.to_owned(), level, one.check.clone(), one.what.clone()]
    };
    let rows = checkups.iter().flat_map(|checkup| checkup.findings.iter().map(|one| row(&checkup.node, one)));
    let listed = table(["NODE", "LEVEL", "CHECK", "FOUND"], rows);
    let todo = |(node, one): (&str, &FindingView)| format!("{node}, {}: {}\n", one.check, one.todo);
    let bad =
        checkups.iter().flat_map(|checkup| checkup.findings.iter().map(|one| (checkup.node.as_str(), one)));
    let todos: String = bad.filter(|(_, one)| !one.todo.is_empty()).map(todo).collect();
    if todos.is_empty() { listed + "\nnothing is to be done\n" } else { listed + "\n" + &todos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_stands_below_the_list() {
        let finding = |level: &str, todo: &str| FindingView {
            check: "clock".into(),
            level: level.into(),
            what: "3000 ms off n3's clock".into(),
            todo: todo.into(),
        };
        let checkup =
            |node: &str, finding| CheckupView { node: node.into(), findings: vec![finding], others: vec![] };
        let golden = "\
NODE  LEVEL    CHECK  FOUND
n1    ok       clock  3000 ms off n3's clock
n2    FAILURE  clock  3000 ms off n3's clock

n2, clock: run chrony
";
        assert_eq!(
            described(&[checkup("n1", finding("ok", "")), checkup("n2", finding("failure", "run chrony"))]),
            golden
        );
    }
}
