//! Certificates and TLS between nodes: the cluster's own CA, a certificate for each node, mutual TLS 1.3 alone.
//!
//! A certificate names the cluster and the node, so that who is at the other end is proved before a word is said. It
//! proves no membership: that the node was not removed is looked up in the state at each handshake (`rpc::handshake`).
//! Nothing here knows the public web's CAs, revocation lists or session resumption: each connection proves itself anew.

mod authority;
mod ends;
mod pinned;

pub(crate) use authority::{Authority, CertificateError, NodeCertificate, Request};
pub(crate) use ends::{Ends, Presented, explain};
pub(crate) use pinned::connect_pinned;

use rustls::pki_types::{DnsName, ServerName};
use tandem_state::{ClusterId, NodeId};

/// SHA-256 of a CA's public key (its SubjectPublicKeyInfo).
pub(crate) type Pin = [u8; 32];

/// The name by which every node of a cluster is known, for a joining node that knows none of them.
fn cluster_name(cluster: ClusterId) -> String {
    format!("{cluster}.tandem.internal")
}

/// The name of one node.
fn node_name(cluster: ClusterId, node: NodeId) -> String {
    format!("{node}.{}", cluster_name(cluster))
}

fn server_name(name: &str) -> ServerName<'static> {
    let name = DnsName::try_from(name.to_owned()).expect("hexadecimal digits and letters make a DNS name");
    ServerName::DnsName(name)
}

#[cfg(test)]
mod tests;
