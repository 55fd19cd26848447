//! The first connection of a joining node, which trusts nothing but the pin in its token.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme, version,
};
use tandem_state::ClusterId;
use tokio_rustls::TlsConnector;

use super::ends::{provider, roots};
use super::{Pin, authority::pin_of, cluster_name, server_name};
use crate::rpc::Link;

/// Connects to a member of the cluster whose CA has `pin`.
pub(crate) async fn connect_pinned(
    stream: impl Link + 'static,
    cluster: ClusterId,
    pin: Pin,
) -> io::Result<Box<dyn Link>> {
    let provider = provider();
    let verifier = Arc::new(Pinned { pin, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    Ok(Box::new(connector.connect(server_name(&cluster_name(cluster)), stream).await?))
}

/// No CA in the chain has the token's pin.
#[derive(Debug)]
struct WrongPin;

impl fmt::Display for WrongPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the CA that it shows is not the one that the token names")
    }
}

impl std::error::Error for WrongPin {}

#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    /// The CA that the token names, from the chain that was shown.
    fn authority<'a>(&self, chain: &'a [CertificateDer<'a>]) -> Result<&'a CertificateDer<'a>, Error> {
        let is_pinned = |shown: &&CertificateDer<'_>| pin_of(shown).is_ok_and(|pin| pin == self.pin);
        let wrong = || CertificateError::Other(OtherError(Arc::new(WrongPin)));
        chain.iter().find(is_pinned).ok_or_else(|| Error::InvalidCertificate(wrong()))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = roots(self.authority(intermediates)?.clone())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
            .build()
            .map_err(|e| Error::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 alone is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
