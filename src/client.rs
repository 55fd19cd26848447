//! The HTTP API as a client sees it.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tandem_api::{List, Problem};

use crate::failure::{refused, usage};

/// An answer must come within this, and the next piece of one that takes longer.
const TIMEOUT: Duration = Duration::from_secs(40);
/// A node that is asked how it is answers within this, or is not well.
const LOOK: Duration = Duration::from_secs(8);
/// A connection must stand within this.
const CONNECT: Duration = Duration::from_secs(3);
/// A whole file must come within this, and a stream end.
const FETCH: Duration = Duration::from_secs(24 * 3600);
/// Items fetched at once.
const PAGE: usize = 1000;

/// A client of one cluster.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Tried in turn, from the one on that answered last.
    bases: Vec<String>,
    answered: Arc<AtomicUsize>,
    token: String,
}

impl Client {
    /// A client of the nodes at `api` (URLs separated by commas), with the user's token.
    pub(crate) fn from_environment(api: &str) -> anyhow::Result<Client> {
        Client::new(api, token()?)
    }

    /// A client with a given token.
    pub(crate) fn new(api: &str, token: String) -> anyhow::Result<Client> {
        let bases: Vec<String> =
            api.split(',').map(|url| url.trim().trim_end_matches('/').to_owned()).collect();
        if let Some(odd) = bases.iter().find(|url| !url.starts_with("http://")) {
            let todo = "give --api as http://HOST:PORT; TLS needs a proxy on this machine in this release";
            return Err(usage(format!("not an API address: {odd:?}"), todo));
        }
        let http = reqwest::Client::builder().timeout(TIMEOUT).read_timeout(TIMEOUT).connect_timeout(CONNECT);
        Ok(Client { http: http.no_proxy().build()?, bases, answered: Arc::default(), token })
    }

    /// A client of another node, with the same token.
    pub(crate) fn at(&self, api: &str) -> anyhow::Result<Client> {
        Client::new(api, self.token.clone())
    }

    /// Reads something.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        let response = self.send(Method::GET, path, |request| request.query(query)).await?;
        response.json().await.with_context(|| format!("the answer to {path} can't be read"))
    }

    /// Reads how a node or the cluster is: who looks is not kept waiting by a node that hangs.
    pub(crate) async fn look<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let response = self.send(Method::GET, path, |request| request.timeout(LOOK)).await?;
        response.json().await.with_context(|| format!("the answer to {path} can't be read"))
    }

    /// Sends something and reads the answer.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let response = self.send(Method::POST, path, |request| request.query(query).json(body)).await?;
        response.json().await.with_context(|| format!("the answer to {path} can't be read"))
    }

    /// Has something made and writes it as it comes; gives how many bytes there were. It may take as long as it takes.
    pub(crate) async fn fetch(
        &self,
        path: &str,
        body: &impl Serialize,
        to: &mut impl Write,
    ) -> anyhow::Result<u64> {
        let endless = |request: RequestBuilder| request.timeout(FETCH).json(body);
        let mut response = self.send(Method::POST, path, endless).await?;
        let mut bytes = 0;
        while let Some(piece) = response.chunk().await.context("the node broke off")? {
            to.write_all(&piece)?;
            bytes += piece.len() as u64;
        }
        Ok(bytes)
    }

    /// Something that goes on and on.
    pub(crate) async fn stream(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Response> {
        self.send(Method::GET, path, |request| request.timeout(FETCH).query(query)).await
    }

    /// Has something done that has no answer but that it is done.
    pub(crate) async fn act(&self, path: &str) -> anyhow::Result<()> {
        self.send(Method::POST, path, |request| request).await.map(drop)
    }

    /// Has something done that takes no more than its path.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let response = self.send(Method::POST, path, |request| request).await?;
        response.json().await.with_context(|| format!("the answer to {path} can't be read"))
    }

    /// Removes something.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(Method::DELETE, path, |request| request).await.map(drop)
    }

    /// Whether a path answers with success, without a token's help.
    pub(crate) async fn is_ok(&self, path: &str) -> bool {
        self.send(Method::GET, path, |request| request).await.is_ok()
    }

    /// A whole list, page by page, up to `max` items.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        max: usize,
    ) -> anyhow::Result<List<T>> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let limit = PAGE.min(max - items.len()).max(1).to_string();
            let mut query = query.to_vec();
            query.push(("limit", &limit));
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let page: List<T> = self.get(path, &query).await?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() || items.len() >= max {
                return Ok(List { items, next_cursor: cursor });
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        shape: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Response> {
        let mut last = None;
        let first = self.answered.load(Ordering::Relaxed);
        for (nth, base) in self.bases.iter().enumerate().cycle().skip(first).take(self.bases.len()) {
            let request = self.http.request(method.clone(), format!("{base}{path}")).bearer_auth(&self.token);
            match shape(request).send().await {
                Ok(response) => {
                    self.answered.store(nth, Ordering::Relaxed);
                    return judged(response).await;
                }
                Err(error) if error.is_connect() => last = Some(unreachable(base)),
                // What changes something may have been done: only a question is asked of another node.
                Err(error) if error.is_timeout() && method == Method::GET => last = Some(silent(base)),
                Err(error) if error.is_timeout() => return Err(silent(base)),
                Err(error) => return Err(error.without_url()).with_context(|| base.clone()),
            }
        }
        Err(last.unwrap_or_else(|| usage("no API address", "give --api http://HOST:PORT")))
    }
}

fn unreachable(base: &str) -> anyhow::Error {
    let todo = "is the node running? Another node of the cluster answers as well: --api http://HOST:PORT or TANDEM_API";
    refused(format!("no node answers at {base}"), todo)
}

fn silent(base: &str) -> anyhow::Error {
    let todo = "it hangs or is overloaded: look at its log, and ask another node: --api http://HOST:PORT or TANDEM_API";
    refused(format!("the node at {base} took the question and did not answer in time"), todo)
}

async fn judged(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let todo = match status {
        StatusCode::UNAUTHORIZED => "put a valid token into TANDEM_TOKEN or ~/.config/tandem/token",
        StatusCode::SERVICE_UNAVAILABLE => "look at `tandem cluster status`, then try again",
        _ => "",
    };
    let what = match response.json::<Problem>().await {
        Ok(Problem { title, detail, field: Some(field), .. }) => format!("{title}: {field}: {detail}"),
        Ok(Problem { title, detail, field: None, .. }) => format!("{title}: {detail}"),
        Err(_) => format!("the node answered {status}"),
    };
    Err(refused(what, todo))
}

/// The user's token: from TANDEM_TOKEN, else from the file.
fn token() -> anyhow::Result<String> {
    if let Ok(token) = std::env::var("TANDEM_TOKEN") {
        return Ok(token.trim().to_owned());
    }
    let folder = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
    let file = folder.map(|folder| folder.join("tandem/token"));
    match file.and_then(|file| std::fs::read_to_string(file).ok()) {
        Some(token) => Ok(token.trim().to_owned()),
        None => Err(refused("no token", "put it into TANDEM_TOKEN or ~/.config/tandem/token")),
    }
}

/// A text as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~+".contains(b);
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_can_not_leave_its_place() {
        assert_eq!(segment("acme"), "acme");
        assert_eq!(segment("a/b?c=ü"), "a%2Fb%3Fc%3D%C3%BC");
    }

    #[tokio::test]
    async fn a_question_goes_on_to_the_next_node_when_one_hangs_and_a_change_does_not() {
        let hangs = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let works = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bases = [&hangs, &works].map(|node| format!("http://{}", node.local_addr().unwrap())).join(",");
        let answer = async |node: &tokio::net::TcpListener| {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = node.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue").await.unwrap();
        };
        let mut client = Client::new(&bases, String::new()).unwrap();
        client.http =
            reqwest::Client::builder().timeout(Duration::from_millis(200)).no_proxy().build().unwrap();
        let (asked, ()) = tokio::join!(client.get::<bool>("/status", &[]), answer(&works));
        assert!(asked.unwrap());
        let (asked, ()) = tokio::join!(client.get::<bool>("/status", &[]), answer(&works));
        assert!(asked.unwrap());
        client.answered = Arc::default();
        let told = client.act("/change").await.unwrap_err().to_string();
        assert!(told.contains("did not answer in time"), "{told}");
    }

    #[test]
    fn only_plain_http_addresses_are_taken() {
        assert!(Client::new("http://127.0.0.1:8080,http://127.0.0.2:8080/", String::new()).is_ok());
        assert!(Client::new("127.0.0.1:8080", String::new()).is_err());
    }
}
