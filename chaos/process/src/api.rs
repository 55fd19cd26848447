//! The nodes' HTTP API, as an operator's program uses it: one request on one connection, with a deadline.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

/// Where to ask, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// Where the node listens.
    pub(crate) address: SocketAddrV4,
    /// The operator's token.
    pub(crate) token: String,
}

/// A request that is no GET.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    /// POST, PUT or DELETE.
    pub(crate) method: &'a str,
    /// With its query.
    pub(crate) path: &'a str,
    /// JSON, or nothing.
    pub(crate) body: &'a str,
    /// The Idempotency-Key, or nothing.
    pub(crate) key: &'a str,
}

const CONNECT: Duration = Duration::from_millis(500);

impl Api {
    /// GET: status and body.
    pub(crate) fn get(&self, path: &str, wait: Duration) -> io::Result<(u16, String)> {
        self.order(Order { method: "GET", path, body: "", key: "" }, wait)
    }

    /// GET of one JSON value; `None` when there is none now.
    pub(crate) fn value(&self, path: &str) -> Option<Value> {
        let (200, body) = self.get(path, Duration::from_secs(5)).ok()? else { return None };
        serde_json::from_str(&body).ok()
    }

    /// All items of a list, page by page; `None` when it can't be had whole.
    pub(crate) fn items(&self, path: &str) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.value(&format!("{path}?limit=1000{cursor}"))?;
            items.extend(page.get("items")?.as_array()?.iter().cloned());
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Some(items),
            }
        }
    }

    /// Any request: status and body.
    pub(crate) fn order(&self, order: Order<'_>, wait: Duration) -> io::Result<(u16, String)> {
        let mut stream = self.begin(order)?;
        stream.set_read_timeout(Some(wait))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.get(9..12).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok((status, body.to_owned()))
    }

    /// Sends a request and leaves the connection to who reads it. It is one of HTTP/1.0, so that the body of the answer comes
    /// as it is, not in chunks, and ends with the connection.
    pub(crate) fn begin(&self, order: Order<'_>) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&self.address.into(), CONNECT)?;
        let Order { method, path, body, key } = order;
        let mut head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n",
            self.address, self.token
        );
        if !body.is_empty() {
            head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        if !key.is_empty() {
            head += &format!("Idempotency-Key: {key}\r\n");
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        Ok(stream)
    }
}
