//! The event stream: each event once and in order, over reconnects too.

mod node;

use node::{Node, Sent};
use serde_json::json;

async fn touch(node: &Node, tenant: &str, number: u32) {
    let path = format!("/v1/tenants/{tenant}/extensions/{number}");
    let reply = node.ask("PUT", &path, &node.operator, Some(&json!({"password": "p"})), &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_it_was_left_without_gap_or_double() {
    let node = Node::with_tenants().await;
    let mut live = node.stream("/v1/events", &node.operator, None).await;
    for number in 500..510 {
        touch(&node, "acme", number).await;
    }
    let mut all: Vec<Sent> = Vec::new();
    while all.len() < 10 {
        all.push(live.next().await.unwrap());
    }
    assert!(all.iter().all(|sent| sent.event == "tenant.changed" && sent.data["tenant"] == "acme"));
    assert!(all.iter().all(|sent| sent.data["id"] == sent.id.as_str()));
    // Left after the third, resumed while more comes.
    let mut resumed = node.stream("/v1/events", &node.operator, Some(&all[2].id)).await;
    for number in 510..520 {
        touch(&node, "acme", number).await;
    }
    let mut rest = Vec::new();
    while rest.len() < 17 {
        rest.push(resumed.next().await.unwrap());
    }
    assert_eq!(rest[..7], all[3..]);
    let place = |sent: &Sent| {
        let (position, index) = sent.id.split_once('.').unwrap();
        (position.parse::<u64>().unwrap(), index.parse::<u32>().unwrap())
    };
    assert!(rest.is_sorted_by(|a, b| place(a) < place(b)));
    let by_query = format!("/v1/events?last_event_id={}", all[8].id);
    let mut by_query = node.stream(&by_query, &node.operator, None).await;
    assert_eq!(by_query.next().await.unwrap(), all[9]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_stream_tells_of_that_tenant_alone() {
    let node = Node::with_tenants().await;
    let token = node.tenant_token("acme").await;
    let mut stream = node.stream("/v1/tenants/acme/events", &token, Some("0.0")).await;
    let first = stream.next().await.unwrap();
    assert_eq!(first.data["tenant"], "acme");
    for number in 500..503 {
        touch(&node, "globex", number).await;
        touch(&node, "acme", number).await;
    }
    for _ in 0..3 {
        assert_eq!(stream.next().await.unwrap().data["tenant"], "acme");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token_and_with_the_node() {
    let node = Node::with_tenants().await;
    let token = node.tenant_token("acme").await;
    let mut foreign = node.stream("/v1/tenants/acme/events", &token, None).await;
    let mut own = node.stream("/v1/events", &node.operator, None).await;
    assert_eq!(node.ask("DELETE", "/v1/tokens/acme-admin", &node.operator, None, &[]).await.status, 204);
    touch(&node, "acme", 500).await;
    assert_eq!(foreign.next().await, None);
    assert!(own.next().await.is_some());
    node.stop().await;
    assert_eq!(own.next().await, None);
}
