//! The first messages of a connection: who is there, of which cluster, and does it hold the cluster key.
//!
//! Client: hello. Server: welcome with its proof. Client: its proof. Server: accepted. Each proof is HMAC-SHA256 over
//! the hello and the welcome's nonce under the cluster key, so a proof is good for one connection only. A joining node
//! has an invitation's secret instead of the key, and gets the key sealed by it.

use std::io;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tandem_state::{ClusterId, Incarnation, NodeId, Role};

use super::wire::{read_plain, write_plain};
use super::{Lane, Link};

/// This release's protocol; each release speaks its own and the one before.
pub(crate) const VERSION: u16 = 1;
const VERSION_OLDEST: u16 = 1;
const MAGIC: [u8; 4] = *b"TNDM";

/// A key or secret.
pub(crate) type Key = [u8; 32];

/// The client's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    magic: [u8; 4],
    version_oldest: u16,
    version: u16,
    pub(crate) cluster: ClusterId,
    pub(crate) generation: u64,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Where the client's own port is.
    pub(crate) address: String,
    pub(crate) purpose: Purpose,
    nonce: [u8; 32],
}

/// What the client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// A lane to this node.
    Lane { lane: Lane, target: NodeId },
    /// To become a member, by an invitation.
    Join { invitation: u64 },
}

/// The server's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Welcome {
    Accepted { version: u16, node: NodeId, incarnation: Incarnation, nonce: [u8; 32], proof: [u8; 32] },
    Refused(Refused),
}

#[derive(Debug, Serialize, Deserialize)]
struct Proof([u8; 32]);

#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    Accepted(Option<Grant>),
    Refused(Refused),
}

/// What a joining node is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) sealed_key: Key,
    pub(crate) generation: u64,
    pub(crate) role: Role,
    /// Members and their addresses.
    pub(crate) members: Vec<(NodeId, String)>,
}

/// Why a node does not talk to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it speaks protocol {oldest} to {newest} only")]
    Version { oldest: u16, newest: u16 },
    #[error("it belongs to cluster {0}")]
    Cluster(ClusterId),
    #[error("it is of generation {0} of the cluster")]
    Generation(u64),
    #[error("another node ({0}) is at this address")]
    Node(NodeId),
    #[error("a later incarnation ({0}) of this node has been there")]
    Incarnation(Incarnation),
    #[error("the cluster keys differ")]
    Key,
    #[error("the invitation is unknown, used or expired")]
    Invitation,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("refused by the other node: {0}")]
    Refused(Refused),
    #[error("refused here: {0}")]
    Refusing(Refused),
}

/// What the server side asks of its node.
pub(crate) trait Gate: Send + Sync {
    /// Looks at a hello that speaks our protocol. The key or secret to prove, or why not.
    fn admit(&self, hello: &Hello) -> Result<Key, Refused>;
    /// This node.
    fn me(&self) -> (NodeId, Incarnation);
    /// The client has proved itself; a joining one is given its grant.
    fn proved(&self, hello: &Hello) -> Result<Option<Grant>, Refused>;
}

/// The client's side of a new connection.
pub(crate) struct Client {
    pub(crate) cluster: ClusterId,
    pub(crate) generation: u64,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) address: String,
    pub(crate) key: Key,
}

impl Client {
    /// Introduces this node. Returns the grant, if it joins, opened.
    pub(crate) async fn introduce(
        &self,
        link: &mut dyn Link,
        purpose: Purpose,
    ) -> Result<Option<Grant>, HandshakeError> {
        let hello = Hello {
            magic: MAGIC,
            version_oldest: VERSION_OLDEST,
            version: VERSION,
            cluster: self.cluster,
            generation: self.generation,
            node: self.node,
            incarnation: self.incarnation,
            address: self.address.clone(),
            purpose,
            nonce: random()?,
        };
        let hello_bytes = postcard::to_stdvec(&hello).map_err(io::Error::other)?;
        write_plain(link, &hello).await?;
        let (server, server_nonce, server_proof) = match read_plain::<Welcome>(link).await?.0 {
            Welcome::Accepted { node, nonce, proof, .. } => (node, nonce, proof),
            Welcome::Refused(why) => return Err(HandshakeError::Refused(why)),
        };
        if !verify(&self.key, b"server", &hello_bytes, &server_nonce, &server_proof) {
            return Err(HandshakeError::Refusing(Refused::Key));
        }
        if let Purpose::Lane { target, .. } = hello.purpose
            && target != server
        {
            return Err(HandshakeError::Refusing(Refused::Node(server)));
        }
        write_plain(link, &Proof(prove(&self.key, b"client", &hello_bytes, &server_nonce))).await?;
        match read_plain::<Verdict>(link).await?.0 {
            Verdict::Accepted(grant) => Ok(grant.map(|grant| Grant {
                sealed_key: seal(&self.key, &hello_bytes, &server_nonce, &grant.sealed_key),
                ..grant
            })),
            Verdict::Refused(why) => Err(HandshakeError::Refused(why)),
        }
    }
}

/// The server's side. Returns who is there; a node that joined has no more to say.
pub(crate) async fn receive(link: &mut dyn Link, gate: &dyn Gate) -> Result<Hello, HandshakeError> {
    let (hello, hello_bytes) = read_plain::<Hello>(link).await?;
    if hello.magic != MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not a node's handshake").into());
    }
    let overlaps = hello.version_oldest <= VERSION && hello.version >= VERSION_OLDEST;
    let version = Refused::Version { oldest: VERSION_OLDEST, newest: VERSION };
    let admitted = if overlaps { gate.admit(&hello) } else { Err(version) };
    let key = match admitted {
        Ok(key) => key,
        Err(why) => {
            write_plain(link, &Welcome::Refused(why.clone())).await?;
            return Err(HandshakeError::Refusing(why));
        }
    };
    let (node, incarnation) = gate.me();
    let nonce = random()?;
    let proof = prove(&key, b"server", &hello_bytes, &nonce);
    let version = VERSION.min(hello.version);
    write_plain(link, &Welcome::Accepted { version, node, incarnation, nonce, proof }).await?;
    let (Proof(client_proof), _) = read_plain(link).await?;
    let proved = verify(&key, b"client", &hello_bytes, &nonce, &client_proof);
    match if proved { gate.proved(&hello) } else { Err(Refused::Key) } {
        Ok(grant) => {
            let sealed = grant.map(|grant| Grant {
                sealed_key: seal(&key, &hello_bytes, &nonce, &grant.sealed_key),
                ..grant
            });
            write_plain(link, &Verdict::Accepted(sealed)).await?;
            Ok(hello)
        }
        Err(why) => {
            write_plain(link, &Verdict::Refused(why.clone())).await?;
            Err(HandshakeError::Refusing(why))
        }
    }
}

/// 32 random bytes of the system.
pub(crate) fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(bytes)
}

/// HMAC-SHA256 of a label of its own under the cluster key.
pub(crate) fn derived_key(key: &Key, purpose: &str) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(b"tandem derived key\0");
    mac.update(purpose.as_bytes());
    mac.finalize().into_bytes().into()
}

fn mac(key: &Key, label: &[u8], hello: &[u8], nonce: &[u8; 32]) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(label);
    mac.update(&[0]);
    mac.update(nonce);
    mac.update(hello);
    mac
}

fn prove(key: &Key, label: &[u8], hello: &[u8], nonce: &[u8; 32]) -> [u8; 32] {
    mac(key, label, hello, nonce).finalize().into_bytes().into()
}

fn verify(key: &Key, label: &[u8], hello: &[u8], nonce: &[u8; 32], proof: &[u8; 32]) -> bool {
    mac(key, label, hello, nonce).verify_slice(proof).is_ok()
}

/// Seals and opens 32 bytes under a secret that is used once: a one-time pad derived from it and both nonces.
fn seal(secret: &Key, hello: &[u8], nonce: &[u8; 32], bytes: &Key) -> Key {
    let mut sealed = prove(secret, b"seal", hello, nonce);
    for (byte, pad) in bytes.iter().zip(&mut sealed) {
        *pad ^= byte;
    }
    sealed
}

#[cfg(test)]
mod tests;
