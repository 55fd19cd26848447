//! A single-node cluster with its API in this process, and a small HTTP client.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tandem_api::{Api, Limits, NoSwitch, token};
use tandem_cluster::{Cluster, NodeConfig};
use tandem_state::tables::NEWEST_APPLY_VERSION;
use tandem_state::{Command, Principal, TokenScope};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub struct Node {
    pub cluster: Cluster,
    pub operator: String,
    address: SocketAddr,
    api: Api,
    _dir: TempDir,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    head: String,
    pub body: Value,
    pub text: String,
}

/// An event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub id: String,
    pub event: String,
    pub data: Value,
}

pub struct Stream {
    lines: BufReader<TcpStream>,
}

impl Node {
    pub async fn start() -> Node {
        Node::start_with(Limits { wait_timeout: Duration::from_millis(300), ..Limits::default() }).await
    }

    pub async fn start_with(limits: Limits) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        tandem_cluster::init(&data).unwrap();
        let cluster = Cluster::start(NodeConfig::test("n1", data)).await.unwrap();
        assert!(cluster.announced(Duration::from_secs(20)).await);
        // The leader raises the rules to the newest that every member can follow; some commands need them.
        while cluster.view().apply_version < NEWEST_APPLY_VERSION {
            let next = cluster.applied() + 1;
            assert!(cluster.wait_applied(next, Duration::from_secs(20)).await);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let prometheus = PrometheusBuilder::new().build_recorder().handle();
        let api = Api::new(cluster.clone(), Arc::new(NoSwitch), prometheus, limits);
        tokio::spawn(tandem_api::serve(api.clone(), listener));
        let mut node = Node { cluster, operator: String::new(), address, api, _dir: dir };
        node.operator = node.token(TokenScope::Operator, "admin").await;
        node
    }

    /// Two tenants, each with extension 101 and a number.
    pub async fn with_tenants() -> Node {
        let node = Node::start().await;
        let tenant = |name: &str, number: &str| {
            json!({"name": name, "domain": format!("{name}.example"),
                "extensions": [{"number": "101", "name": "Ann", "password": "very-secret"}],
                "numbers": [{"number": number, "to": {"extension": "101"}}]})
        };
        let file = json!({"tenants": [tenant("acme", "+441"), tenant("globex", "+442")]});
        let reply = node.ask("POST", "/v1/config", &node.operator, Some(&file), &[]).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        node
    }

    pub async fn token(&self, scope: TokenScope, id: &str) -> String {
        let (secret, record) = token::generate(id.into(), scope).unwrap();
        let principal = Principal::Node(self.cluster.node_id());
        let done = self.cluster.propose(principal, None, Command::PutToken { token: record }).await.unwrap();
        done.outcome.unwrap();
        secret
    }

    /// A token that is bound to a tenant.
    pub async fn tenant_token(&self, tenant: &str) -> String {
        let id = self.cluster.view().tenant_by_name(tenant).unwrap().0;
        self.token(TokenScope::Tenant(id), &format!("{tenant}-admin")).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &self.operator, None, &[]).await
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let text = body.map(Value::to_string).unwrap_or_default();
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        if !token.is_empty() {
            request += &format!("authorization: Bearer {token}\r\n");
        }
        if body.is_some() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request += "content-type: application/json\r\n";
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n{text}", text.len());
        self.raw(request.as_bytes()).await
    }

    /// Sends bytes and reads to the end.
    pub async fn raw(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        Reply {
            status: head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0),
            head: head.to_ascii_lowercase(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
            text: body.to_owned(),
        }
    }

    /// Opens an event stream.
    pub async fn stream(&self, path: &str, token: &str, last: Option<&str>) -> Stream {
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{last}\r\n");
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        // The pump has opened its feed before it sends its first line, a comment.
        while !line.starts_with(": tandem") {
            line.clear();
            assert_ne!(lines.read_line(&mut line).await.unwrap(), 0, "the stream ended");
        }
        Stream { lines }
    }

    pub async fn stop(self) {
        self.api.stop();
        self.cluster.shutdown().await;
    }
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let start = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(start.as_str()))
    }
}

impl Stream {
    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Sent> {
        let mut sent = Sent { id: String::new(), event: String::new(), data: Value::Null };
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(Duration::from_secs(10), self.lines.read_line(&mut line));
            if read.await.expect("an event in time").ok()? == 0 {
                return None;
            }
            if line.trim_end() == "0" {
                // The last chunk of the body.
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => sent.id = id.to_owned(),
                Some(("event", event)) => sent.event = event.to_owned(),
                Some(("data", data)) => sent.data = serde_json::from_str(data).unwrap(),
                _ if line.trim().is_empty() && !sent.event.is_empty() => return Some(sent),
                _ => {}
            }
        }
    }
}
