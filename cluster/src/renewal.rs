//! Keeps this node's certificate fresh: it is renewed, with a new key, when less than a third of its life is left.
//!
//! A full node holds the CA's key and issues its own; a witness asks full nodes in turn. Connections that are up go on
//! with what they began with; new ones use the new certificate.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tandem_state::NodeId;

use crate::clock::wall_s;
use crate::node::Node;
use crate::rpc::Method;
use crate::secrets::{Secrets, SecretsError};
use crate::tls::{CertificateError, Request};

/// Between two looks at most.
const LOOK_MAX: Duration = Duration::from_secs(3600);
/// After a try that came to nothing.
const RETRY: Duration = Duration::from_secs(5);
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// What a node is answered that asks for a certificate: it and its end.
type Issued = Result<(Vec<u8>, u64), String>;

/// Whether less than a third of its life is left to a certificate.
fn is_due(now_s: u64, until_s: u64, life: Duration) -> bool {
    until_s.saturating_sub(now_s) < life.as_secs() / 3
}

/// Before this node calls anybody: one that was down for long may come back with a certificate that has run out. Where
/// the CA's key isn't held it is left to [`tend`], while it is still good.
pub(crate) fn at_start(secrets: &Secrets, life: Duration) -> Result<(), SecretsError> {
    let held = secrets.held();
    if held.authority.key.is_none() || !is_due(wall_s(), held.certificate.until_s, life) {
        return Ok(());
    }
    let request = secrets.request()?;
    let until_s = wall_s().saturating_add(life.as_secs());
    let issued = secrets.issue(secrets.node(), &request.der, until_s)?;
    secrets.renew(request.with(issued, until_s)?)
}

/// Renews until the node stops.
pub(crate) async fn tend(node: Arc<Node>) {
    let life = node.timing.certificate;
    loop {
        let until_s = node.secrets.held().certificate.until_s;
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 90 days are far below 2^52 s")]
        metrics::gauge!("tandem_certificate_remaining_seconds").set(until_s.saturating_sub(wall_s()) as f64);
        let mut wait = (life / 30).clamp(Duration::from_secs(1), LOOK_MAX);
        if is_due(wall_s(), until_s, life) {
            match node.renew_certificate().await {
                Ok(()) => tracing::info!("this node's certificate was renewed"),
                Err(why) => {
                    tracing::warn!(why, "this node's certificate could not be renewed yet");
                    wait = RETRY;
                }
            }
        }
        tokio::time::sleep(wait).await;
    }
}

impl Node {
    async fn renew_certificate(&self) -> Result<(), String> {
        let request = self.secrets.request().map_err(|e| e.to_string())?;
        let (issued, until_s) = match self.certify(self.id(), &request.der) {
            Err(_) if self.secrets.held().authority.key.is_none() => self.ask_for(&request).await?,
            issued => issued?,
        };
        let certificate = request.with(issued, until_s).map_err(|e| e.to_string())?;
        let secrets = Arc::clone(&self.secrets);
        let kept = tokio::task::spawn_blocking(move || secrets.renew(certificate)).await;
        kept.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    /// Issues a certificate for a member that has proved who it is.
    pub(crate) fn certify(&self, node: NodeId, request: &[u8]) -> Issued {
        let until_s = wall_s().saturating_add(self.timing.certificate.as_secs());
        let issued =
            self.secrets.issue(node, request, until_s).map_err(|e: CertificateError| e.to_string())?;
        Ok((issued, until_s))
    }

    async fn ask_for(&self, request: &Request) -> Issued {
        let mut last = "this node knows no other".to_owned();
        for other in self.others() {
            let question = Bytes::from(request.der.clone());
            let answer = self.peers.call(other, Method::Certify, question, ASK_TIMEOUT).await;
            let issued = answer.map_err(|e| e.to_string());
            let issued = issued.and_then(|bytes| {
                postcard::from_bytes::<Issued>(&bytes).unwrap_or_else(|e| Err(e.to_string()))
            });
            match issued {
                Ok(issued) => return Ok(issued),
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_when_less_than_a_third_of_its_life_is_left() {
        let life = Duration::from_secs(90);
        assert!(!is_due(1_000, 1_090, life) && !is_due(1_060, 1_090, life));
        assert!(is_due(1_061, 1_090, life) && is_due(5_000, 1_090, life));
    }
}
