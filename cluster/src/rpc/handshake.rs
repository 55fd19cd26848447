//! The first messages of a connection, inside TLS: which cluster, node, incarnation and protocol, and what for.
//!
//! Client: opening and hello. Server: welcome. For a lane that is all, as TLS has proved who is there: the certificate
//! must name the node that the hello names, and that node must not have been removed. A joining node has no certificate
//! yet: it trusts the server by the pin in its token, proves that it knows the token's secret (HMAC-SHA256 over the
//! hello and the welcome's nonce), and is given its certificate, the CA and the cluster keys. Every mismatch is told on
//! both sides.

use std::io;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tandem_state::{ClusterId, Incarnation, NodeId, Role};

use super::wire::{decode_grown, read_bytes, read_grown, read_plain, write_plain};
use super::{Lane, Link};
use crate::identity::Fork;
use crate::tls::{Authority, Presented};

/// This release's protocol; each release speaks its own and the one before.
pub(crate) const VERSION: u16 = 2;
/// The first one was never released, and not spoken over TLS.
const VERSION_OLDEST: u16 = 2;
const MAGIC: [u8; 4] = *b"TNDM";

/// A key or secret.
pub(crate) type Key = [u8; 32];

/// The very first message, of the same form in all versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opening {
    magic: [u8; 4],
    oldest: u16,
    newest: u16,
}

impl Opening {
    const OURS: Opening = Opening { magic: MAGIC, oldest: VERSION_OLDEST, newest: VERSION };
}

/// How a process began: what it found on its disk, and which of its node's processes it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) incarnation: Incarnation,
    /// A number that it drew.
    pub(crate) process: u64,
    /// Raft's term of its vote.
    pub(crate) term: u64,
    /// Its last log position.
    pub(crate) position: u64,
}

/// Who calls, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) cluster: ClusterId,
    pub(crate) generation: u64,
    pub(crate) node: NodeId,
    pub(crate) start: Start,
    /// Where the client's own port is.
    pub(crate) address: String,
    pub(crate) purpose: Purpose,
    /// Not said by older releases.
    pub(crate) fork: Fork,
    /// What a joining node will be called; not said by older releases.
    pub(crate) name: String,
}

/// What the client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// A lane to this node.
    Lane { lane: Lane, target: NodeId },
    /// To become a member, by an invitation; with the request for its certificate (PKCS #10, DER).
    Join { invitation: u64, request: Vec<u8> },
}

/// The server's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Welcome {
    /// The fork is not said by older releases.
    Accepted {
        version: u16,
        node: NodeId,
        start: Start,
        nonce: [u8; 32],
        fork: Fork,
    },
    Refused(Refused),
}

#[derive(Debug, Serialize, Deserialize)]
struct Proof([u8; 32]);

#[derive(Serialize, Deserialize)]
enum Verdict {
    Granted(Box<Grant>),
    Refused(Refused),
}

/// What a joining node is given. No `Debug`: there are secrets in it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// For the key of its request.
    pub(crate) certificate: Vec<u8>,
    pub(crate) until_s: u64,
    /// With the key, for a full node.
    pub(crate) authority: Authority,
    pub(crate) keys: Vec<Key>,
    pub(crate) generation: u64,
    pub(crate) role: Role,
    /// Members and their addresses.
    pub(crate) members: Vec<(NodeId, String)>,
    /// Not said by older releases.
    pub(crate) fork: Fork,
}

/// Why a node does not talk to another; worded for both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "the releases are too far apart: the caller speaks protocol {} to {}, the called node {} to {}",
        calling.0, calling.1, called.0, called.1
    )]
    Version { calling: (u16, u16), called: (u16, u16) },
    #[error("the caller belongs to cluster {calling}, the called node to cluster {called}")]
    Cluster { calling: ClusterId, called: ClusterId },
    #[error("the caller is of generation {calling} of the cluster, the called node of generation {called}")]
    Generation { calling: u64, called: u64 },
    #[error("node {called} is at this address, not node {wanted}")]
    Node { wanted: NodeId, called: NodeId },
    #[error(
        "node {node} has been seen in incarnation {seen} and now shows {shown}: another process runs under its name, or its \
         data directory is an older copy; a restored node joins as a new one, in an empty directory"
    )]
    Incarnation { node: NodeId, shown: Incarnation, seen: Incarnation },
    #[error(
        "node {node} shows vote {} and log position {}, and was seen with vote {} and position {}: its data directory is an \
         older copy, or has lost what was written to it; such a node joins as a new one, in an empty directory", shown.0, shown.1, seen.0, seen.1
    )]
    Behind { node: NodeId, shown: (u64, u64), seen: (u64, u64) },
    #[error("node {0} was removed from the cluster for good: it joins as a new one, in an empty directory")]
    Removed(NodeId),
    #[error("the caller's certificate is not that of node {0}")]
    Certificate(NodeId),
    #[error(
        "the token is not known at the node that made it: it was restarted since; `cluster invite` makes another"
    )]
    InvitationUnknown,
    #[error("the token was used already: each is for one node; `cluster invite` makes another")]
    InvitationUsed,
    #[error("the token has expired; `cluster invite` makes another")]
    InvitationExpired,
    #[error("the token's secret is wrong: copy the whole of it")]
    Secret,
    #[error("no certificate could be issued: {0}")]
    NoCertificate(String),
    #[error(
        "both are of generation {generation} of the cluster, but of two survivors that were forced apart (the caller of fork \
         {calling}, the called node of fork {called}): one of the two clusters must go, see deploy/runbooks/quorum-lost.md"
    )]
    Fork { generation: u64, calling: Fork, called: Fork },
    #[error("a node named {name} is a member already: `cluster remove {name}` first, if it is lost")]
    Name { name: String },
}

impl Refused {
    /// Whether the called or calling node `me` must end by it: it is not what it was, and will never be again.
    pub(crate) fn ends(&self, me: NodeId) -> bool {
        match self {
            Refused::Incarnation { node, .. } | Refused::Behind { node, .. } | Refused::Removed(node) => {
                *node == me
            }
            Refused::Version { .. }
            | Refused::Cluster { .. }
            | Refused::Generation { .. }
            | Refused::Node { .. }
            | Refused::Certificate(_)
            | Refused::InvitationUnknown
            | Refused::InvitationUsed
            | Refused::InvitationExpired
            | Refused::Secret
            | Refused::NoCertificate(_)
            | Refused::Fork { .. }
            | Refused::Name { .. } => false,
        }
    }
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{}", crate::tls::explain(.0))]
    Io(#[from] io::Error),
    #[error("refused by the other node: {0}")]
    Refused(Refused),
    #[error("refused here: {0}")]
    Refusing(Refused),
}

/// What the server side asks of its node.
pub(crate) trait Gate: Send + Sync {
    /// This node.
    fn me(&self) -> (ClusterId, NodeId, Start);
    /// Its cluster's fork.
    fn fork(&self) -> Fork;
    /// Looks at a hello; that of a lane has the certificate that goes with it. For a joining node: the secret that it
    /// must prove.
    fn admit(&self, hello: &Hello) -> Result<Option<Key>, Refused>;
    /// A joining node has proved the secret.
    fn grant(&self, hello: &Hello) -> Result<Grant, Refused>;
}

/// The client's side of a new connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) cluster: ClusterId,
    pub(crate) generation: u64,
    pub(crate) fork: Fork,
    pub(crate) node: NodeId,
    pub(crate) start: Start,
    pub(crate) address: String,
    pub(crate) name: String,
}

/// What a server that accepts says.
struct Called {
    node: NodeId,
    start: Start,
    nonce: [u8; 32],
    fork: Fork,
}

impl Client {
    fn hello(&self, purpose: Purpose) -> Hello {
        Hello {
            cluster: self.cluster,
            generation: self.generation,
            node: self.node,
            start: self.start,
            address: self.address.clone(),
            purpose,
            fork: self.fork,
            name: self.name.clone(),
        }
    }

    /// Opens a lane to a node. Returns how the process there began.
    pub(crate) async fn open(
        &self,
        link: &mut dyn Link,
        lane: Lane,
        target: NodeId,
    ) -> Result<Start, HandshakeError> {
        let (_, called) = self.say(link, Purpose::Lane { lane, target }).await?;
        if called.node != target {
            return Err(HandshakeError::Refusing(Refused::Node { wanted: target, called: called.node }));
        }
        // An older release does not look itself.
        if called.fork != self.fork {
            let (generation, calling, called) = (self.generation, self.fork, called.fork);
            return Err(HandshakeError::Refusing(Refused::Fork { generation, calling, called }));
        }
        Ok(called.start)
    }

    /// Joins by an invitation.
    pub(crate) async fn join(
        &self,
        link: &mut dyn Link,
        (invitation, secret): (u64, &Key),
        request: Vec<u8>,
    ) -> Result<Grant, HandshakeError> {
        let (hello, called) = self.say(link, Purpose::Join { invitation, request }).await?;
        write_plain(link, &Proof(mac(secret, &hello, &called.nonce).finalize().into_bytes().into())).await?;
        match read_grown::<Verdict>(link).await? {
            Verdict::Granted(grant) => Ok(*grant),
            Verdict::Refused(why) => Err(HandshakeError::Refused(why)),
        }
    }

    async fn say(&self, link: &mut dyn Link, purpose: Purpose) -> Result<(Vec<u8>, Called), HandshakeError> {
        let hello = self.hello(purpose);
        write_plain(link, &Opening::OURS).await?;
        write_plain(link, &hello).await?;
        match read_grown::<Welcome>(link).await? {
            Welcome::Accepted { node, start, nonce, fork, .. } => {
                let hello = postcard::to_stdvec(&hello).map_err(io::Error::other)?;
                Ok((hello, Called { node, start, nonce, fork }))
            }
            Welcome::Refused(why) => Err(HandshakeError::Refused(why)),
        }
    }
}

/// The server's side. Returns who is there; a node that joined has no more to say.
pub(crate) async fn receive(
    link: &mut dyn Link,
    presented: &Presented,
    gate: &dyn Gate,
) -> Result<Hello, HandshakeError> {
    // Both are read before anything is refused: what is left unread when a connection closes takes the answer with it.
    let (opening, hello_bytes) = (read_plain(link).await?, read_bytes(link).await?);
    let version = match overlap(opening)? {
        Ok(version) => version,
        Err(why) => return refuse(link, &Welcome::Refused(why.clone()), why).await,
    };
    let hello: Hello = decode_grown(&hello_bytes)?;
    let secret = match look(&hello, presented, gate) {
        Ok(secret) => secret,
        Err(why) => return refuse(link, &Welcome::Refused(why.clone()), why).await,
    };
    let (_, node, start) = gate.me();
    let nonce = random()?;
    write_plain(link, &Welcome::Accepted { version, node, start, nonce, fork: gate.fork() }).await?;
    let Some(secret) = secret else { return Ok(hello) };
    let Proof(proof) = read_plain(link).await?;
    let proved = mac(&secret, &hello_bytes, &nonce).verify_slice(&proof).map_err(|_| Refused::Secret);
    match proved.and_then(|()| gate.grant(&hello)) {
        Ok(grant) => write_plain(link, &Verdict::Granted(Box::new(grant))).await?,
        Err(why) => return refuse(link, &Verdict::Refused(why.clone()), why).await,
    }
    Ok(hello)
}

/// The version that both speak.
fn overlap(opening: Opening) -> io::Result<Result<u16, Refused>> {
    if opening.magic != MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not a node's handshake"));
    }
    let overlaps = opening.oldest <= VERSION && opening.newest >= VERSION_OLDEST;
    let (calling, called) = ((opening.oldest, opening.newest), (VERSION_OLDEST, VERSION));
    Ok(if overlaps { Ok(VERSION.min(opening.newest)) } else { Err(Refused::Version { calling, called }) })
}

fn look(hello: &Hello, presented: &Presented, gate: &dyn Gate) -> Result<Option<Key>, Refused> {
    let (cluster, me, _) = gate.me();
    if hello.cluster != cluster {
        return Err(Refused::Cluster { calling: hello.cluster, called: cluster });
    }
    if let Purpose::Lane { target, .. } = hello.purpose {
        if !presented.names(cluster, hello.node) {
            return Err(Refused::Certificate(hello.node));
        }
        if target != me {
            return Err(Refused::Node { wanted: target, called: me });
        }
    }
    gate.admit(hello)
}

async fn refuse<T>(link: &mut dyn Link, say: &impl Serialize, why: Refused) -> Result<T, HandshakeError> {
    write_plain(link, say).await?;
    Err(HandshakeError::Refusing(why))
}

/// 32 random bytes of the system.
pub(crate) fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(bytes)
}

/// A random number of the system.
pub(crate) fn random_number() -> io::Result<u64> {
    let bytes = random()?;
    Ok(bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first)))
}

/// HMAC-SHA256 of a label of its own under the cluster key.
pub(crate) fn derived_key(key: &Key, purpose: &str) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(b"tandem derived key\0");
    mac.update(purpose.as_bytes());
    mac.finalize().into_bytes().into()
}

fn mac(secret: &Key, hello: &[u8], nonce: &[u8; 32]) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(b"tandem join\0");
    mac.update(nonce);
    mac.update(hello);
    mac
}

#[cfg(test)]
mod tests;
