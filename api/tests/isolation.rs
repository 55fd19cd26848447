//! A tenant's token walks every described path: it learns nothing of another tenant and can change nothing there.

mod node;

use node::Node;
use serde_json::{Value, json};

/// What may be asked without a token, and what shows a tenant's token only its own.
const OPEN: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/v1/openapi.json", "/v1/tenants"];

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_token_sees_its_tenant_alone_on_every_path() {
    let node = Node::with_tenants().await;
    let token = node.tenant_token("acme").await;
    let document = node.get("/v1/openapi.json").await.body;
    let before = node.get("/v1/config").await.body;
    let mut walked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let foreign =
            path.replace("{tenant}", "globex").replace("{number}", "101").replace("{id}", &"0".repeat(32));
        for method in item
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| ["get", "put", "post", "delete"].contains(&key.as_str()))
        {
            walked += 1;
            if OPEN.contains(&path.as_str()) {
                continue;
            }
            let body = body_for(path);
            let body = if method == "get" || method == "delete" { None } else { Some(&body) };
            let reply = node.ask(&method.to_uppercase(), &foreign, &token, body, &[]).await;
            let expected = if path.contains("{tenant}") { 404 } else { 403 };
            assert_eq!(reply.status, expected, "{method} {foreign}: {}", reply.text);
            assert!(!reply.text.contains("globex.example"), "{method} {foreign}");
        }
    }
    assert!(walked > 30, "{walked}");
    let listed = node.ask("GET", "/v1/tenants", &token, None, &[]).await;
    assert!(listed.text.contains("acme") && !listed.text.contains("globex"));
    assert_eq!(node.get("/v1/config").await.body, before, "nothing was changed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_token_does_its_own_work_but_not_the_operators() {
    let node = Node::with_tenants().await;
    let token = node.tenant_token("acme").await;
    for list in [
        "",
        "/extensions",
        "/extensions/101",
        "/numbers",
        "/numbers/+441",
        "/calls",
        "/registrations",
        "/cdrs",
    ] {
        let reply = node.ask("GET", &format!("/v1/tenants/acme{list}"), &token, None, &[]).await;
        assert_eq!(reply.status, 200, "{list}: {}", reply.text);
        assert!(!reply.text.contains("globex"), "{list}");
    }
    let put = async |path: &str, body: Value| node.ask("PUT", path, &token, Some(&body), &[]).await.status;
    assert_eq!(put("/v1/tenants/acme/extensions/102", json!({"password": "p"})).await, 200);
    assert_eq!(put("/v1/tenants/acme/numbers/+441", json!({"to": {"extension": "102"}})).await, 200);
    assert_eq!(put("/v1/tenants/acme/numbers/+449", json!({"to": {"extension": "102"}})).await, 403);
    assert_eq!(put("/v1/tenants/acme", json!({"domain": "acme.example"})).await, 403);
    assert_eq!(node.ask("DELETE", "/v1/tenants/acme", &token, None, &[]).await.status, 403);
    assert_eq!(node.ask("DELETE", "/v1/tenants/acme/numbers/+441", &token, None, &[]).await.status, 403);
    node.stop().await;
}

fn body_for(path: &str) -> Value {
    match path {
        "/v1/tenants/{tenant}" => json!({"domain": "stolen.example"}),
        "/v1/tenants/{tenant}/extensions/{number}" => json!({"password": "stolen"}),
        "/v1/tenants/{tenant}/numbers/{number}" => json!({"to": {"extension": "101"}}),
        "/v1/config" => json!({"tenants": []}),
        "/v1/cluster/salvage" => json!({"cdrs": []}),
        "/v1/cluster/backup" => json!({"passphrase": "open sesame, please"}),
        _ => json!({}),
    }
}
