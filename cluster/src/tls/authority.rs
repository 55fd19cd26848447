//! The cluster's CA, and the certificates that it issues.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tandem_state::{ClusterId, NodeId};

use super::{Pin, cluster_name, node_name};
use crate::rpc::handshake::random;

/// Why a certificate was not made or can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// This node has the CA's certificate alone.
    #[error("this node does not hold the CA's key")]
    NoKey,
    /// The library's word.
    #[error("certificate: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// The library's word.
    #[error("certificate: {0}")]
    Rustls(#[from] rustls::Error),
    /// No randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(#[from] std::io::Error),
}

/// The CA: its certificate in DER, and on nodes that may issue its key in PKCS #8. No `Debug`: the key is a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Authority {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Option<Vec<u8>>,
}

/// A node's certificate with its key. No `Debug`: the key is a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeCertificate {
    /// In DER.
    pub(crate) certificate: Vec<u8>,
    /// In PKCS #8; it was made on this machine and never leaves it.
    pub(crate) key: Vec<u8>,
    /// Valid until then, in seconds since 1970.
    pub(crate) until_s: u64,
}

/// A fresh key that asks for its certificate.
pub(crate) struct Request {
    key: KeyPair,
    /// The certificate signing request (PKCS #10) in DER.
    pub(crate) der: Vec<u8>,
}

impl Authority {
    /// Makes the CA of a new cluster. It has no end: whom it made is trusted by pin and membership, not by its age.
    pub(crate) fn make(cluster: ClusterId) -> Result<Authority, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, format!("tandem cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(9999, 12, 31));
        params.serial_number = Some(serial()?);
        let certificate = params.self_signed(&key)?.der().to_vec();
        Ok(Authority { certificate, key: Some(key.serialize_der()) })
    }

    /// What join tokens carry.
    pub(crate) fn pin(&self) -> Result<Pin, CertificateError> {
        pin_of(&self.der())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.certificate.clone())
    }

    /// The same without its key, for a node that is not to issue.
    pub(crate) fn without_key(&self) -> Authority {
        Authority { certificate: self.certificate.clone(), key: None }
    }

    /// Issues a certificate for the key of a request; names and uses are ours, whatever the request wants. It is valid
    /// from long ago, so that a node whose clock is behind believes it.
    pub(crate) fn issue(
        &self,
        cluster: ClusterId,
        node: NodeId,
        request: &[u8],
        until_s: u64,
    ) -> Result<Vec<u8>, CertificateError> {
        let key = self.key.as_deref().ok_or(CertificateError::NoKey)?;
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key))?;
        let issuer = Issuer::from_ca_cert_der(&self.der(), key)?;
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))?;
        let mut params = wanted(cluster, node)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(until_s);
        params.serial_number = Some(serial()?);
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&request.public_key, &issuer)?.der().to_vec())
    }
}

impl Request {
    /// Draws a key for a node.
    pub(crate) fn make(cluster: ClusterId, node: NodeId) -> Result<Request, CertificateError> {
        let key = KeyPair::generate()?;
        let der = wanted(cluster, node)?.serialize_request(&key)?.der().to_vec();
        Ok(Request { key, der })
    }

    /// With what was issued for it. Refused when that is a certificate of another key.
    pub(crate) fn with(
        self,
        certificate: Vec<u8>,
        until_s: u64,
    ) -> Result<NodeCertificate, CertificateError> {
        let der = CertificateDer::from(certificate.as_slice());
        let issued = rustls::server::ParsedCertificate::try_from(&der)?.subject_public_key_info();
        if issued.as_ref() != self.key.subject_public_key_info() {
            return Err(CertificateError::Rustls(rustls::Error::InconsistentKeys(
                rustls::InconsistentKeys::KeyMismatch,
            )));
        }
        Ok(NodeCertificate { certificate, key: self.key.serialize_der(), until_s })
    }
}

/// The pin of a CA's certificate.
pub(super) fn pin_of(certificate: &CertificateDer<'_>) -> Result<Pin, CertificateError> {
    let parsed = rustls::server::ParsedCertificate::try_from(certificate)?;
    Ok(Sha256::digest(parsed.subject_public_key_info().as_ref()).into())
}

fn wanted(cluster: ClusterId, node: NodeId) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new([node_name(cluster, node), cluster_name(cluster)])?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, format!("tandem node {node}"));
    params.distinguished_name.push(DnType::OrganizationName, format!("tandem cluster {cluster}"));
    Ok(params)
}

/// 127 random bits: a serial number is positive.
fn serial() -> Result<SerialNumber, CertificateError> {
    let [first, rest @ ..] = random()?;
    let mut bytes = vec![first & 0x7f];
    bytes.extend(rest.iter().take(15));
    Ok(SerialNumber::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    #[test]
    fn a_request_is_answered_with_names_of_ours_whatever_it_wants() {
        let authority = Authority::make(CLUSTER).unwrap();
        let asks_for_another = Request::make(CLUSTER, NodeId(9)).unwrap();
        let issued = authority.issue(CLUSTER, NodeId(2), &asks_for_another.der, 4_000_000_000).unwrap();
        let presented = super::super::Presented::of(CertificateDer::from(issued));
        assert!(presented.names(CLUSTER, NodeId(2)));
        assert!(!presented.names(CLUSTER, NodeId(9)) && !presented.names(ClusterId(8), NodeId(2)));
    }

    #[test]
    fn a_request_that_was_changed_on_its_way_is_refused() {
        let authority = Authority::make(CLUSTER).unwrap();
        let mut request = Request::make(CLUSTER, NodeId(2)).unwrap().der;
        let middle = request.len() / 2;
        request[middle] ^= 1;
        assert!(authority.issue(CLUSTER, NodeId(2), &request, 4_000_000_000).is_err());
        assert!(authority.issue(CLUSTER, NodeId(2), b"hello", 4_000_000_000).is_err());
    }

    #[test]
    fn without_the_key_nothing_is_issued_and_the_pin_stays() {
        let authority = Authority::make(CLUSTER).unwrap();
        let request = Request::make(CLUSTER, NodeId(2)).unwrap();
        let keyless = authority.without_key();
        assert_eq!(keyless.pin().unwrap(), authority.pin().unwrap());
        let refused = keyless.issue(CLUSTER, NodeId(2), &request.der, 4_000_000_000);
        assert!(matches!(refused, Err(CertificateError::NoKey)));
        assert_ne!(Authority::make(CLUSTER).unwrap().pin().unwrap(), authority.pin().unwrap());
    }

    #[test]
    fn a_certificate_of_another_key_is_not_taken() {
        let authority = Authority::make(CLUSTER).unwrap();
        let [mine, other] = [(), ()].map(|()| Request::make(CLUSTER, NodeId(2)).unwrap());
        let issued = authority.issue(CLUSTER, NodeId(2), &other.der, 4_000_000_000).unwrap();
        assert!(mine.with(issued.clone(), 4_000_000_000).is_err());
        assert!(other.with(issued, 4_000_000_000).is_ok());
    }
}
