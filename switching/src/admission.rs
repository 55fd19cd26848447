//! Who asks: from a request to a user of a tenant, or to what is answered instead.

use std::collections::BTreeMap;

use tandem_sip::digest::{Credentials, NonceKey, NonceState, StoredHa1, UsedNonces, Verdict};
use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::uri::Uri;
use tandem_state::config::{Digests, Extension, TenantConfig};
use tandem_state::{Party, State, TenantId};

use crate::machine::Now;
use crate::quirks;

/// How long a nonce is good for.
pub const NONCE_MS: u64 = 5 * 60_000;

/// A user who has proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Whose user.
    pub tenant: TenantId,
    /// The tenant's SIP domain.
    pub domain: String,
    /// The extension with its name.
    pub party: Party,
}

/// What comes of a request's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Known and proved.
    Admitted(User),
    /// Asked to prove itself (401).
    Challenged {
        /// For this realm.
        realm: String,
        /// Its proof was right but its nonce too old, or used before with this count.
        stale: bool,
    },
    /// Turned away; never says which part was wrong.
    Refused {
        /// 403 mostly.
        status: u16,
        /// Label in `tandem_auth_failures_total{reason}`.
        reason: &'static str,
    },
}

/// What a node needs to judge nonces.
#[derive(Debug)]
pub struct Nonces<'a> {
    /// Any node's nonces are checked with it.
    pub key: &'a NonceKey,
    /// Those that were answered at this node.
    pub used: &'a mut UsedNonces,
}

/// Nonces whose uses are known at a time: a few times the phones that register at one node within [`NONCE_MS`].
pub const USED_NONCES_MAX: usize = 400_000;

/// Checks the digest credentials of a REGISTER or INVITE.
pub fn authenticate(state: &State, nonces: Nonces<'_>, now: Now, request: &Message) -> Admission {
    let credentials = credentials(request);
    let Some((tenant, config)) = tenant_of(state, request, credentials.as_ref()) else {
        return refused(403, "unknown_domain");
    };
    let challenged = |stale| Admission::Challenged { realm: config.domain.clone(), stale };
    let Some(credentials) = credentials else { return challenged(false) };
    if !credentials.realm.eq_ignore_ascii_case(&config.domain) {
        return challenged(false);
    }
    if !quirks::signs(credentials.uri, request.request_uri()) {
        return refused(400, "wrong_uri");
    }
    let nonce = nonces.key.check(&config.domain, credentials.nonce, now.cluster.0, NONCE_MS);
    if nonce == NonceState::Forged {
        return challenged(true);
    }
    let extension = state.extension(tenant, credentials.username);
    match (prove(&credentials, request, extension), extension) {
        (true, Some(extension)) if nonces.take(now, nonce, &credentials) => {
            Admission::Admitted(user(tenant, config, extension))
        }
        (true, Some(_)) => challenged(true),
        (false, _) | (true, None) => refused(403, "wrong_credentials"),
    }
}

fn refused(status: u16, reason: &'static str) -> Admission {
    Admission::Refused { status, reason }
}

impl Nonces<'_> {
    /// Takes one use of a nonce; false when it is too old or this use was taken before.
    fn take(self, now: Now, nonce: NonceState, credentials: &Credentials<'_>) -> bool {
        let (NonceState::Fresh { made_ms }, Some(nc)) = (nonce, credentials.nonce_count()) else {
            return false;
        };
        let stale_before_ms = now.cluster.0.saturating_sub(NONCE_MS);
        self.used.take(stale_before_ms, made_ms, credentials.nonce, credentials.username, nc)
    }
}

/// For an unknown user the same work is done against digests that nobody has.
fn prove(credentials: &Credentials<'_>, request: &Message, extension: Option<&Extension>) -> bool {
    let nobody = Digests { md5: "-".repeat(32), sha256: "-".repeat(64) };
    let secret = extension.map_or(&nobody, |extension| &extension.secret);
    let stored = StoredHa1 { md5: known(&secret.md5), sha256: known(&secret.sha256) };
    credentials.verify(request.method().as_str(), stored) == Verdict::Right
}

fn known(digest: &str) -> Option<&str> {
    (!digest.is_empty()).then_some(digest)
}

fn user(tenant: TenantId, config: &TenantConfig, extension: &Extension) -> User {
    let party = Party { number: extension.number.clone(), name: extension.name.clone() };
    User { tenant, domain: config.domain.clone(), party }
}

fn credentials(request: &Message) -> Option<Credentials<'_>> {
    let both = request.headers(Header::Authorization).chain(request.headers(Header::ProxyAuthorization));
    both.filter_map(|value| Credentials::parse(value).ok()).next()
}

/// The tenant whose domain the request names: in its address of record, in its request URI, or (for phones that are
/// configured with a bare address) in the realm that it answers to.
fn tenant_of<'a>(
    state: &'a State,
    request: &Message,
    credentials: Option<&Credentials<'_>>,
) -> Option<(TenantId, &'a TenantConfig)> {
    let record = if *request.method() == Method::Register { request.to() } else { request.from() };
    let by_uri = |uri: &str| state.tenant_by_domain(Uri::parse(uri).ok()?.host);
    by_uri(record.uri)
        .or_else(|| by_uri(request.request_uri()))
        .or_else(|| state.tenant_by_domain(credentials?.realm))
}

/// New calls of each tenant in any second, judged where they arrive (`limits.calls_per_second`).
#[derive(Debug, Clone, Default)]
pub struct CallRates {
    buckets: BTreeMap<TenantId, Bucket>,
}

/// Thousandths of a call that may still be made, as of a time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    milli: u64,
    at_ms: u64,
}

impl CallRates {
    /// Takes one call of a tenant out of its bucket; false when it has none left.
    pub fn take(&mut self, now_ms: u64, tenant: TenantId, per_second: Option<u32>) -> bool {
        let Some(per_second) = per_second.map(u64::from) else { return true };
        let full = per_second * 1_000;
        let bucket = self.buckets.entry(tenant).or_insert(Bucket { milli: full, at_ms: now_ms });
        let refill = now_ms.saturating_sub(bucket.at_ms).saturating_mul(per_second);
        *bucket = Bucket { milli: bucket.milli.saturating_add(refill).min(full), at_ms: now_ms };
        let enough = bucket.milli >= 1_000;
        if enough {
            bucket.milli -= 1_000;
        }
        enough
    }
}

#[cfg(test)]
mod tests;
