//! What a node must never tell but to members: the cluster keys, the CA, its own certificate's key. Kept in one file of
//! mode 0600, outside log and snapshot.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tandem_state::{ClusterId, KeyId, NodeId};

use crate::identity::{from_hex, to_hex};
use crate::keys::{KEYS_MAX, id_of};
use crate::rpc::handshake::{Key, derived_key};
use crate::segment::{SegmentError, replace_file};
use crate::tls::{Authority, CertificateError, Ends, NodeCertificate, Presented, Request};

/// The secrets themselves. No `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Cluster keys, oldest first.
    pub(crate) keys: Vec<Key>,
    pub(crate) authority: Authority,
    pub(crate) certificate: NodeCertificate,
}

/// Bytes as hexadecimal digits, as in the identity file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    layout: u32,
    cluster_keys: Vec<String>,
    ca_certificate: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_key: Option<String>,
    certificate: String,
    certificate_key: String,
    certificate_until_s: u64,
}

/// Whether a data directory is that of a node that knows that it was removed.
pub(crate) fn was_removed(data: &Path) -> bool {
    data.join(REMOVED).exists()
}

const REMOVED: &str = "removed";
const FILE: &str = "secrets.json";
const LAYOUT: u32 = 1;

impl Held {
    /// Writes the secrets durably, for their owner alone.
    pub(crate) fn store(&self, data: &Path) -> Result<(), SegmentError> {
        let written = Written {
            layout: LAYOUT,
            cluster_keys: self.keys.iter().map(|key| to_hex(key)).collect(),
            ca_certificate: to_hex(&self.authority.certificate),
            ca_key: self.authority.key.as_deref().map(to_hex),
            certificate: to_hex(&self.certificate.certificate),
            certificate_key: to_hex(&self.certificate.key),
            certificate_until_s: self.certificate.until_s,
        };
        let text = serde_json::to_vec_pretty(&written).map_err(|e| SegmentError::Stopped(e.to_string()))?;
        replace_file(&data.join(FILE), &text)
    }

    fn load(data: &Path) -> Result<Held, SegmentError> {
        let path = data.join(FILE);
        let text = std::fs::read(&path).map_err(|e| SegmentError::io(&path, e))?;
        let written: Written =
            serde_json::from_slice(&text).map_err(|e| SegmentError::rot(&path, 0, e.to_string()))?;
        Held::of(&written).ok_or_else(|| SegmentError::rot(&path, 0, "a field makes no sense"))
    }

    fn of(written: &Written) -> Option<Held> {
        (written.layout == LAYOUT && !written.cluster_keys.is_empty()).then_some(())?;
        let key = |text: &String| from_hex(text)?.try_into().ok();
        let ca_key = match &written.ca_key {
            Some(text) => Some(from_hex(text)?),
            None => None,
        };
        Some(Held {
            keys: written.cluster_keys.iter().map(key).collect::<Option<_>>()?,
            authority: Authority { certificate: from_hex(&written.ca_certificate)?, key: ca_key },
            certificate: NodeCertificate {
                certificate: from_hex(&written.certificate)?,
                key: from_hex(&written.certificate_key)?,
                until_s: written.certificate_until_s,
            },
        })
    }
}

/// The secrets of a running node, and what its connections are made with.
pub(crate) struct Secrets {
    data: PathBuf,
    cluster: ClusterId,
    node: NodeId,
    held: Mutex<Held>,
    ends: ArcSwap<Ends>,
}

/// The key in use; until one is named it is the first, which `init` made.
fn used(keys: &[Key], in_use: Option<KeyId>) -> Option<&Key> {
    match in_use {
        Some(id) => keys.iter().find(|key| id_of(key) == id),
        None => keys.first(),
    }
}

/// Why the secrets can't be used or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretsError {
    #[error(transparent)]
    File(#[from] SegmentError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("{}: others than its owner may use it (mode {mode:04o}), and that can't be changed: {source}", path.display())]
    Open { path: PathBuf, mode: u32, source: std::io::Error },
    #[error("{}: the certificate in it is not that of node {node} of cluster {cluster}, which this directory is", path.display())]
    NotOwn { path: PathBuf, cluster: ClusterId, node: NodeId },
}

/// Shuts out whoever is not the file's owner. A start that is refused would leave the file open all the same and the node
/// down: after an upgrade to the release that looks, or a restored backup, the nodes of a whole cluster.
fn shut(path: &Path) -> Result<(), SecretsError> {
    let found = std::fs::metadata(path).map_err(|e| SegmentError::io(path, e))?;
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let shut = std::fs::Permissions::from_mode(mode & 0o700);
    let open = |source| SecretsError::Open { path: path.to_owned(), mode, source };
    std::fs::set_permissions(path, shut).map_err(open)?;
    tracing::warn!(
        path = %path.display(), mode = format!("{mode:04o}"),
        "others than its owner could use this file: it is its owner's alone again; if they can't be trusted, change the \
         cluster key (`tandem cluster rotate-key`), and let this node join anew"
    );
    Ok(())
}

impl Secrets {
    /// Those of a node's directory.
    pub(crate) fn open(data: &Path, cluster: ClusterId, node: NodeId) -> Result<Secrets, SecretsError> {
        let path = data.join(FILE);
        shut(&path)?;
        let held = Held::load(data)?;
        let certificate = CertificateDer::from(held.certificate.certificate.clone());
        if !Presented::of(certificate).names(cluster, node) {
            return Err(SecretsError::NotOwn { path, cluster, node });
        }
        let ends = ArcSwap::from_pointee(Ends::new(&held.authority, &held.certificate)?);
        Ok(Secrets { data: data.to_owned(), cluster, node, held: Mutex::new(held), ends })
    }

    pub(crate) fn ends(&self) -> Arc<Ends> {
        self.ends.load_full()
    }

    /// A copy.
    pub(crate) fn held(&self) -> Held {
        self.lock().clone()
    }

    /// Whose they are.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// A fresh key of this node that asks for its certificate.
    pub(crate) fn request(&self) -> Result<Request, CertificateError> {
        Request::make(self.cluster, self.node)
    }

    /// A certificate for a node's request, if the CA's key is held.
    pub(crate) fn issue(
        &self,
        node: NodeId,
        request: &[u8],
        until_s: u64,
    ) -> Result<Vec<u8>, CertificateError> {
        let authority = self.lock().authority.clone();
        authority.issue(self.cluster, node, request, until_s)
    }

    /// New connections use this certificate from now on.
    pub(crate) fn renew(&self, certificate: NodeCertificate) -> Result<(), SecretsError> {
        let mut held = self.lock();
        let renewed = Held { certificate, ..held.clone() };
        let ends = Ends::new(&renewed.authority, &renewed.certificate)?;
        renewed.store(&self.data)?;
        *held = renewed;
        self.ends.store(Arc::new(ends));
        Ok(())
    }

    /// Keeps a cluster key. The oldest goes when there are too many, but never the one in use.
    pub(crate) fn keep(&self, key: Key, in_use: Option<KeyId>) -> Result<(), SecretsError> {
        let mut held = self.lock();
        if held.keys.contains(&key) {
            return Ok(());
        }
        let used = used(&held.keys, in_use).copied();
        let mut kept = held.clone();
        if kept.keys.len() >= KEYS_MAX
            && let Some(oldest) = kept.keys.iter().position(|key| Some(*key) != used)
        {
            kept.keys.remove(oldest);
        }
        kept.keys.push(key);
        kept.store(&self.data)?;
        *held = kept;
        Ok(())
    }

    /// Whether the key of this id is kept.
    pub(crate) fn has(&self, id: KeyId) -> bool {
        self.lock().keys.iter().any(|key| id_of(key) == id)
    }

    /// A secret for one purpose that all members can derive from the key in use.
    pub(crate) fn derived_key(&self, purpose: &str, in_use: Option<KeyId>) -> Key {
        let held = self.lock();
        let newest = held.keys.last().expect("no secrets are loaded or kept without a cluster key");
        derived_key(used(&held.keys, in_use).unwrap_or(newest), purpose)
    }

    /// Notes in the data directory that its node was removed from the cluster for good.
    pub(crate) fn keep_removed(&self) -> Result<(), SegmentError> {
        replace_file(&self.data.join(REMOVED), b"removed from its cluster for good\n")
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::rpc::Link;

    fn open(data: &Path) -> Secrets {
        Secrets::open(data, ClusterId(7), NodeId(2)).unwrap()
    }

    fn held() -> Held {
        let authority = Authority::make(ClusterId(7)).unwrap();
        let request = Request::make(ClusterId(7), NodeId(2)).unwrap();
        let issued = authority.issue(ClusterId(7), NodeId(2), &request.der, 4_000_000_000).unwrap();
        Held { keys: vec![[1; 32]], authority, certificate: request.with(issued, 4_000_000_000).unwrap() }
    }

    #[test]
    fn secrets_read_back_as_written_and_are_their_owner_s_alone() {
        let dir = tempfile::tempdir().unwrap();
        let held = held();
        held.store(dir.path()).unwrap();
        assert!(open(dir.path()).held() == held);
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let keyless = Held { authority: held.authority.without_key(), ..held };
        keyless.store(dir.path()).unwrap();
        assert!(open(dir.path()).held() == keyless);
    }

    #[test]
    fn secrets_that_others_could_read_are_their_owner_s_alone_after_a_start() {
        let dir = tempfile::tempdir().unwrap();
        held().store(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        for (found, left) in [(0o644, 0o600), (0o640, 0o600), (0o400, 0o400), (0o600, 0o600)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(found)).unwrap();
            open(dir.path());
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, left, "{found:o}");
        }
    }

    #[test]
    fn the_secrets_of_another_node_or_cluster_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        held().store(dir.path()).unwrap();
        for (cluster, node) in [(7, 3), (8, 2)] {
            let refused = Secrets::open(dir.path(), ClusterId(cluster), NodeId(node)).err().unwrap();
            assert!(matches!(refused, SecretsError::NotOwn { .. }), "{refused}");
            assert!(
                refused.to_string().contains("secrets.json: the certificate in it is not that of"),
                "{refused}"
            );
        }
    }

    /// A node that calls itself is as good as two.
    async fn connection(secrets: &Secrets) -> [Box<dyn Link>; 2] {
        let (here, there) = duplex(64 * 1024);
        let ends = secrets.ends();
        let (called, answered) =
            tokio::join!(ends.connect(here, ClusterId(7), NodeId(2)), ends.accept(there));
        [called.unwrap(), answered.unwrap().0]
    }

    async fn talk([one, other]: &mut [Box<dyn Link>; 2]) -> u8 {
        one.write_all(&[42]).await.unwrap();
        one.flush().await.unwrap();
        other.read_u8().await.unwrap()
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_for_new_connections_and_leaves_the_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        held().store(dir.path()).unwrap();
        let secrets = open(dir.path());
        let mut before = connection(&secrets).await;
        assert_eq!(talk(&mut before).await, 42);

        let request = secrets.request().unwrap();
        let issued = secrets.issue(NodeId(2), &request.der, 4_100_000_000).unwrap();
        secrets.renew(request.with(issued.clone(), 4_100_000_000).unwrap()).unwrap();
        assert_eq!(talk(&mut before).await, 42);
        assert_eq!(talk(&mut connection(&secrets).await).await, 42);
        let kept = open(dir.path()).held().certificate;
        assert!(kept.certificate == issued && kept.until_s == 4_100_000_000);
    }

    #[test]
    fn keys_are_kept_but_not_without_end_and_the_one_in_use_never_goes() {
        let dir = tempfile::tempdir().unwrap();
        held().store(dir.path()).unwrap();
        let secrets = open(dir.path());
        let first = secrets.derived_key("p", None);
        assert_ne!(secrets.derived_key("q", None), first);
        for number in 2..=20 {
            secrets.keep([number; 32], None).unwrap();
            secrets.keep([number; 32], None).unwrap();
        }
        let kept = open(dir.path());
        assert!(kept.held() == secrets.held() && kept.held().keys.len() == KEYS_MAX);
        assert_eq!(kept.derived_key("p", None), first);
        let newest = id_of(&[20; 32]);
        assert!(kept.has(newest) && !kept.has(id_of(&[2; 32])));
        assert_eq!(kept.derived_key("p", Some(newest)), derived_key(&[20; 32], "p"));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{}").unwrap();
        let error = Secrets::open(dir.path(), ClusterId(7), NodeId(2)).err().unwrap().to_string();
        assert!(error.contains("secrets.json is damaged"), "{error}");
    }
}
