//! The two ends of a connection between members, each with its certificate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    AlertDescription, CertificateError as Invalid, ClientConfig, Error, RootCertStore, ServerConfig, version,
};
use tandem_state::{ClusterId, NodeId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Authority, CertificateError, NodeCertificate, node_name, server_name};
use crate::rpc::Link;

/// What new connections are made with. Connections that are up keep what they began with.
pub(crate) struct Ends {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

/// The certificate that a caller has shown and proved to hold the key of; a joining node has none yet.
pub(crate) struct Presented(Option<CertificateDer<'static>>);

impl Presented {
    pub(crate) fn of(certificate: CertificateDer<'static>) -> Presented {
        Presented(Some(certificate))
    }

    pub(crate) fn nothing() -> Presented {
        Presented(None)
    }

    /// Whether it is the certificate of a node.
    pub(crate) fn names(&self, cluster: ClusterId, node: NodeId) -> bool {
        let name = server_name(&node_name(cluster, node));
        let parsed = self.0.as_ref().map(ParsedCertificate::try_from);
        matches!(parsed, Some(Ok(parsed)) if verify_server_name(&parsed, &name).is_ok())
    }
}

/// ring, by name: the process has no default provider that somebody else could have set.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Trusts one CA alone.
pub(super) fn roots(authority: CertificateDer<'_>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    Ok(Arc::new(roots))
}

impl Ends {
    /// The ends of a node.
    pub(crate) fn new(authority: &Authority, own: &NodeCertificate) -> Result<Ends, CertificateError> {
        let roots = roots(authority.der())?;
        let chain = || vec![CertificateDer::from(own.certificate.clone()), authority.der()];
        let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.key.clone()));
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain(), key())?;
        client.resumption = Resumption::disabled();
        // A joining node has no certificate: what it may do without one is `rpc::handshake`'s to say.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .allow_unauthenticated()
            .build()
            .map_err(|e| Error::General(e.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(), key())?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Ends { connector: Arc::new(client).into(), acceptor: Arc::new(server).into() })
    }

    /// Calls a member: its certificate must name it.
    pub(crate) async fn connect(
        &self,
        stream: impl Link + 'static,
        cluster: ClusterId,
        node: NodeId,
    ) -> io::Result<Box<dyn Link>> {
        let name = server_name(&node_name(cluster, node));
        Ok(Box::new(self.connector.connect(name, stream).await?))
    }

    /// Answers whoever calls.
    pub(crate) async fn accept(&self, stream: impl Link + 'static) -> io::Result<(Box<dyn Link>, Presented)> {
        let stream = match self.acceptor.accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((error, stream)) => {
                linger(stream).await;
                return Err(error);
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let presented =
            shown.map_or_else(Presented::nothing, |first| Presented::of(first.clone().into_owned()));
        Ok((Box::new(stream), presented))
    }
}

/// Reads on for a moment after a refusal: a connection that is closed with something unread in it is reset, and the
/// reset would overtake the alert that says why.
async fn linger(mut stream: impl Link) {
    const WAIT: Duration = Duration::from_millis(500);
    let drain = async {
        let mut rest = [0; 1024];
        let _ = stream.shutdown().await;
        for _ in 0..64 {
            if stream.read(&mut rest).await.unwrap_or(0) == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(WAIT, drain).await;
}

/// What went wrong in TLS, in words for an operator.
pub(crate) fn explain(error: &io::Error) -> String {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return error.to_string();
    };
    let said = match error {
        Error::InvalidCertificate(Invalid::Other(ours)) => return ours.0.to_string(),
        Error::InvalidCertificate(Invalid::UnknownIssuer | Invalid::BadSignature) => {
            "its certificate was issued by the CA of another cluster"
        }
        Error::InvalidCertificate(Invalid::Expired | Invalid::ExpiredContext { .. }) => {
            "its certificate has expired, or this machine's clock is wrong"
        }
        Error::InvalidCertificate(Invalid::NotValidForName | Invalid::NotValidForNameContext { .. }) => {
            "its certificate is that of another node"
        }
        Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
            "it does not take this node's certificate: it is of another cluster"
        }
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "it finds this node's certificate expired: look at both machines' clocks"
        }
        Error::AlertReceived(AlertDescription::CertificateUnknown | AlertDescription::BadCertificate) => {
            "it does not trust this cluster's CA or expects another node here (a join token of another cluster?)"
        }
        Error::InvalidMessage(_) => "it does not speak TLS as nodes do",
        other => return other.to_string(),
    };
    format!("{said} ({error})")
}
