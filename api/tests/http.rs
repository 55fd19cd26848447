//! The API over real connections, in front of a real single-node cluster.

mod node;

use std::time::Duration;

use node::Node;
use serde_json::json;
use tandem_api::Limits;
use tandem_state::{
    CallDirection, CallEpoch, CallId, Cause, Cdr, ClusterTime, InteractionId, NodeId, Party, TenantId,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_a_problem_that_says_what_was_wrong() {
    let node = Node::start_with(Limits { body_bytes_max: 1000, ..Limits::default() }).await;
    let operator = node.operator.clone();
    let long = json!({"tenants": [{"name": "a".repeat(2000)}]});
    let unknown = json!({"tenants": [], "tennants": []});
    let text = [("content-type", "text/plain")];
    for (method, path, body, headers, status) in [
        ("GET", "/v1/nothing", None, &[][..], 404),
        ("GET", "/v1/tenants/none", None, &[], 404),
        ("GET", "/v1/calls/xyz", None, &[], 404),
        ("PATCH", "/v1/tenants", None, &[], 405),
        ("GET", "/v1/tenants?limit=0", None, &[], 400),
        ("GET", "/v1/tenants?cursor=zz", None, &[], 400),
        ("GET", "/v1/cdrs?cursor=zz", None, &[], 400),
        ("GET", "/v1/cdrs?since=yesterday", None, &[], 400),
        ("GET", "/v1/tenants?at_least=many", None, &[], 400),
        ("GET", "/v1/events?last_event_id=x", None, &[], 400),
        ("POST", "/v1/config", Some(&long), &[], 413),
        ("POST", "/v1/config", Some(&unknown), &text, 415),
        ("POST", "/v1/config", Some(&unknown), &[], 422),
        ("PUT", "/v1/tenants/a", Some(&unknown), &[], 422),
    ] {
        let reply = node.ask(method, path, &operator, body, headers).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{method} {path}");
        assert_eq!(reply.body["status"], status);
        assert!(reply.body["type"].as_str().unwrap().starts_with("urn:tandem:problem:"));
        assert!(!reply.body["detail"].as_str().unwrap().is_empty());
    }
    let broken = format!(
        "POST /v1/config HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {operator}\r\n\
         content-type: application/json\r\ncontent-length: 9\r\n\r\n{{\"tenants"
    );
    let reply = node.raw(broken.as_bytes()).await;
    assert_eq!((reply.status, &reply.body["status"]), (400, &json!(400)));
    let reply = node.ask("PATCH", "/v1/tenants", &operator, None, &[]).await;
    assert!(reply.header("allow").is_some_and(|allow| allow.contains("get")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_token_nothing_is_told() {
    let node = Node::start().await;
    for token in ["", "wrong", "tandem_0000"] {
        let reply = node.ask("GET", "/v1/tenants", token, None, &[]).await;
        assert_eq!(reply.status, 401, "{token:?}");
        assert_eq!(reply.header("www-authenticate"), Some("bearer realm=\"tandem\""));
    }
    for path in ["/healthz", "/metrics", "/v1/openapi.json"] {
        assert_eq!(node.ask("GET", path, "", None, &[]).await.status, 200, "{path}");
    }
    let reply = node.ask("GET", "/readyz", "", None, &[]).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")), "no switch, so not ready");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_applied_once_and_exported_without_passwords() {
    let node = Node::with_tenants().await;
    let operator = node.operator.clone();
    let file = json!({"tenants": [{"name": "acme", "extensions": [
        {"number": "101", "name": "Ann", "password": "very-secret"}, {"number": "102", "password": "p"}]}]});
    let dry = node.ask("POST", "/v1/config?dry_run=true", &operator, Some(&file), &[]).await;
    assert_eq!(dry.body, json!({"changes": ["+ extension acme/102"], "dry_run": true}));
    let done = node.ask("POST", "/v1/config", &operator, Some(&file), &[]).await;
    assert_eq!(done.body, json!({"changes": ["+ extension acme/102"], "dry_run": false}));
    let again = node.ask("POST", "/v1/config", &operator, Some(&file), &[]).await;
    assert_eq!(again.body["changes"], json!([]));
    let exported = node.get("/v1/config").await;
    assert!(!exported.text.contains("very-secret"));
    assert_eq!(exported.body["tenants"][0]["extensions"][1]["number"], "102");
    let back = node.ask("POST", "/v1/config?prune=true", &operator, Some(&exported.body), &[]).await;
    assert_eq!(back.body["changes"], json!([]), "an export applied changes nothing");
    let pruned = json!({"tenants": [{"name": "acme"}]});
    let pruned = node.ask("POST", "/v1/config?prune=true", &operator, Some(&pruned), &[]).await;
    assert_eq!(pruned.body["changes"], json!(["- tenant globex"]));
    let odd = json!({"tenants": [{"name": "acme", "timezone": "Mars/Base"}]});
    let odd = node.ask("POST", "/v1/config", &operator, Some(&odd), &[]).await;
    assert_eq!((odd.status, &odd.body["field"]), (422, &json!("tenants.acme.timezone")));
    let audit = node.get("/v1/audit").await;
    assert!(audit.body["items"].as_array().unwrap().iter().any(|one| one["principal"] == "token:admin"));
    assert!(!audit.text.contains("secret"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_extensions_and_numbers_are_made_changed_and_removed() {
    let node = Node::with_tenants().await;
    let operator = node.operator.clone();
    let put = async |path: &str, body| node.ask("PUT", path, &operator, Some(&body), &[]).await;
    let delete = async |path: &str| node.ask("DELETE", path, &operator, None, &[]).await.status;

    let made = put("/v1/tenants/initech", json!({"domain": "initech.example", "limits": {"calls": 3}})).await;
    assert_eq!((made.status, &made.body["limits"]), (200, &json!({"calls": 3})));
    assert_eq!(node.get("/v1/tenants/initech").await.body, made.body);
    assert_eq!(put("/v1/tenants/other", json!({"domain": "acme.example"})).await.status, 409);
    assert_eq!(put("/v1/tenants/other", json!({"domain": "not a host"})).await.status, 422);

    let path = "/v1/tenants/initech/extensions/7";
    assert_eq!(put(path, json!({"name": "Peter"})).await.status, 422, "a new one needs a password");
    let made = put(path, json!({"name": "Peter", "password": "p"})).await;
    assert_eq!(made.body, json!({"number": "7", "name": "Peter", "caller_id": "", "registrations": 0}));
    let secret = |node: &Node| {
        let view = node.cluster.view();
        let id = view.tenant_by_name("initech").unwrap().0;
        view.extension(id, "7").unwrap().secret.clone()
    };
    let before = secret(&node);
    assert_eq!(put(path, json!({"name": "Pete"})).await.body["name"], "Pete");
    assert_eq!(secret(&node), before, "without a password it keeps its own");
    assert_eq!(put(path, json!({"number": "8"})).await.status, 422);

    let number = "/v1/tenants/initech/numbers/+443";
    assert_eq!(put(number, json!({"to": {"extension": "7"}})).await.status, 200);
    assert_eq!(node.get(number).await.body, json!({"number": "+443", "to": {"extension": "7"}}));
    let taken = put("/v1/tenants/initech/numbers/+441", json!({"to": {"extension": "7"}})).await;
    assert_eq!(taken.status, 409, "it is acme's");

    assert_eq!([delete(number).await, delete(number).await], [204, 404]);
    assert_eq!([delete(path).await, delete(path).await], [204, 404]);
    assert_eq!([delete("/v1/tenants/initech").await, delete("/v1/tenants/initech").await], [204, 404]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_under_one_key_gets_the_first_answer_and_another_body_is_refused() {
    let node = Node::with_tenants().await;
    let operator = node.operator.clone();
    let key = [("idempotency-key", "k-1")];
    let file = |number: &str| {
        json!({"tenants": [{"name": "acme", "numbers": [],
        "extensions": [{"number": number, "password": "p"}]}]})
    };
    let first = node.ask("POST", "/v1/config", &operator, Some(&file("200")), &key).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let again = node.ask("POST", "/v1/config", &operator, Some(&file("200")), &key).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    let other = node.ask("POST", "/v1/config", &operator, Some(&file("201")), &key).await;
    assert_eq!((other.status, other.body["type"].as_str()), (422, Some("urn:tandem:problem:key-reused")));
    let body = json!({"id": "one"});
    let token = node.ask("POST", "/v1/tokens", &operator, Some(&body), &[("idempotency-key", "k-2")]).await;
    assert_eq!(token.status, 201);
    let again = node.ask("POST", "/v1/tokens", &operator, Some(&body), &[("idempotency-key", "k-2")]).await;
    assert_eq!(again.status, 409, "a secret is shown once");
    assert!(!again.text.contains("tandem_"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_as_fresh_as_asked() {
    let node = Node::with_tenants().await;
    let reply = node.get("/v1/tenants?consistent=true").await;
    let position: u64 = reply.header("x-tandem-applied").unwrap().parse().unwrap();
    assert_eq!(node.get(&format!("/v1/tenants?at_least={position}")).await.status, 200);
    let ahead = node.get(&format!("/v1/tenants?at_least={}", position + 1_000_000)).await;
    assert_eq!((ahead.status, ahead.header("retry-after")), (504, Some("1")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let node = Node::with_tenants().await;
    let file = json!({"tenants": [{"name": "acme", "numbers": [], "extensions":
        (300..330).map(|n| json!({"number": n.to_string(), "password": "p"})).collect::<Vec<_>>()}]});
    assert_eq!(node.ask("POST", "/v1/config", &node.operator, Some(&file), &[]).await.status, 200);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = node.get(&format!("/v1/tenants/acme/extensions?limit=7{cursor}")).await;
        seen.extend(
            page.body["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["number"].as_str().unwrap().to_owned()),
        );
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, (300..330).map(|n| n.to_string()).collect::<Vec<_>>());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_shown_once_and_refused_when_removed() {
    let node = Node::with_tenants().await;
    let operator = node.operator.clone();
    let made =
        node.ask("POST", "/v1/tokens", &operator, Some(&json!({"id": "t1", "tenant": "acme"})), &[]).await;
    assert_eq!((made.status, &made.body["tenant"]), (201, &json!("acme")));
    let secret = made.body["token"].as_str().unwrap().to_owned();
    assert_eq!(node.ask("GET", "/v1/tenants/acme", &secret, None, &[]).await.status, 200);
    let listed = node.get("/v1/tokens").await;
    assert!(!listed.text.contains(&secret) && listed.text.contains("\"t1\""));
    let odd = node.ask("POST", "/v1/tokens", &operator, Some(&json!({"tenant": "none"})), &[]).await;
    assert_eq!(odd.status, 422);
    assert_eq!(node.ask("DELETE", "/v1/tokens/admin", &operator, None, &[]).await.status, 409, "not itself");
    assert_eq!(node.ask("DELETE", "/v1/tokens/t1", &operator, None, &[]).await.status, 204);
    assert_eq!(node.ask("DELETE", "/v1/tokens/t1", &operator, None, &[]).await.status, 404);
    assert_eq!(node.ask("GET", "/v1/tenants/acme", &secret, None, &[]).await.status, 401);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_shown_and_its_hash_taken() {
    let node = Node::start().await;
    let status = node.get("/v1/cluster").await;
    assert_eq!((&status.body["quorum"], &status.body["leader"]), (&json!(true), &json!("n1")));
    assert_eq!(status.body["nodes"][0]["state"], "up");
    let hash = node.get("/v1/cluster/hash").await;
    assert_eq!((&hash.body["equal"], hash.body["nodes"].as_array().unwrap().len()), (&json!(true), 1));
    let invited = node.ask("POST", "/v1/cluster/invite", &node.operator, Some(&json!({})), &[]).await;
    assert_eq!((invited.status, &invited.body["role"]), (201, &json!("full")));
    let audit = node.get("/v1/audit").await;
    let first = &audit.body["items"][0];
    assert_eq!(
        (&first["principal"], &first["action"]),
        (&json!("token:admin"), &json!("invite a full node for 3600 s"))
    );
    assert!(!audit.text.contains(invited.body["token"].as_str().unwrap()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_too_slowly_is_cut_off() {
    let node =
        Node::start_with(Limits { head_timeout: Duration::from_millis(200), ..Limits::default() }).await;
    let reply = tokio::time::timeout(Duration::from_secs(5), node.raw(b"GET / HTTP/1.1\r\nhost:")).await;
    assert!(reply.is_ok(), "the node closes the connection");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_openapi_3_1_and_names_every_scheme() {
    let node = Node::start().await;
    let document = node.ask("GET", "/v1/openapi.json", "", None, &[]).await.body;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let references = document.to_string();
    for name in references.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next())
    {
        assert!(
            document["components"]["schemas"].get(name).is_some(),
            "{name} is referred to, not described"
        );
    }
    node.stop().await;
}

/// A CDR of a call that this cluster never saw, in the text form of the API.
fn lost_cdr(tenant: TenantId) -> String {
    let call = CallId(7);
    tandem_cluster::cdr_to_text(&Cdr {
        id: format!("{call}-1"),
        interaction: InteractionId(7),
        call,
        attempt: 1,
        tenant,
        direction: CallDirection::Internal,
        from: Party::default(),
        to: Party::default(),
        start: ClusterTime(1),
        answer: None,
        end: ClusterTime(2),
        duration_s: 0,
        billed_s: 0,
        cost_micros: None,
        currency: "USD".into(),
        cause: Cause::Busy,
        trunk: String::new(),
        node: NodeId(9),
        epoch: CallEpoch(1),
        quality: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cdr_of_no_tenant_can_be_salvaged_once_there_is_one() {
    let node = Node::with_tenants().await;
    let next = TenantId(node.cluster.view().tenants.keys().map(|id| id.0).max().unwrap() + 1);
    let body = json!({"cdrs": [lost_cdr(next)]});
    let salvage =
        async || node.ask("POST", "/v1/cluster/salvage", &node.operator, Some(&body), &[]).await.body;
    let of_no_tenant = salvage().await;
    assert_eq!(
        (&of_no_tenant["imported"], of_no_tenant["of_no_tenant"].as_array().unwrap().len()),
        (&json!(0), 1)
    );
    let domain = json!({"domain": "initech.example"});
    let made = node.ask("PUT", "/v1/tenants/initech", &node.operator, Some(&domain), &[]).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert!(node.cluster.view().tenants.contains_key(&next));
    let again = salvage().await;
    assert_eq!(again["imported"], 1, "{again}");
    assert_eq!(salvage().await["known"], 1);
    node.stop().await;
}
