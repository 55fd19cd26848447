//! The asking side: for trunks, tests and load programs.

use super::credentials::Fields;
use super::{Algorithm, response};

/// A challenge that came in a 401 or 407.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerChallenge<'a> {
    /// The realm.
    pub realm: &'a str,
    /// The nonce.
    pub nonce: &'a str,
    /// The hash; MD5 when none is named.
    pub algorithm: Algorithm,
    /// To be sent back as it came.
    pub opaque: Option<&'a str>,
    /// True when only the nonce was too old.
    pub stale: bool,
}

/// Why a challenge can't be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no digest challenge that we can answer")]
pub struct ChallengeError;

/// Who answers, and with what freshness.
#[derive(Clone, Copy, Debug)]
pub struct ClientAnswer<'a> {
    /// The user.
    pub username: &'a str,
    /// HA1 by the challenge's algorithm, lowercase hex.
    pub ha1: &'a str,
    /// A random value of the client.
    pub cnonce: &'a str,
    /// How often this nonce has been used, from 1.
    pub nc: u32,
}

impl<'a> ServerChallenge<'a> {
    /// Parses one header value. Challenges without `qop=auth` are not answered.
    pub fn parse(value: &'a str) -> Result<Self, ChallengeError> {
        let fields = Fields::parse(value).ok_or(ChallengeError)?;
        let optional = |name| fields.optional(name).map_err(|_| ChallengeError);
        let algorithm = match optional("algorithm")? {
            Some(token) => Algorithm::parse(token).ok_or(ChallengeError)?,
            None => Algorithm::Md5,
        };
        let auth = |qops: &str| qops.split(',').any(|qop| qop.trim().eq_ignore_ascii_case("auth"));
        if !optional("qop")?.is_some_and(auth) {
            return Err(ChallengeError);
        }
        Ok(Self {
            realm: fields.required("realm").map_err(|_| ChallengeError)?,
            nonce: fields.required("nonce").map_err(|_| ChallengeError)?,
            algorithm,
            opaque: optional("opaque")?,
            stale: optional("stale")?.is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// The value of the Authorization (Proxy-Authorization) header for a request.
    pub fn answer(&self, client: ClientAnswer<'_>, method: &str, uri: &str) -> String {
        let ClientAnswer { username, ha1, cnonce, nc } = client;
        let nc = format!("{nc:08x}");
        let (realm, nonce, algorithm) = (self.realm, self.nonce, self.algorithm.as_str());
        let proof = response(self.algorithm, ha1, [nonce, &nc, cnonce], method, uri);
        let opaque = self.opaque.map(|opaque| format!(", opaque=\"{opaque}\"")).unwrap_or_default();
        format!(
            "Digest username=\"{username}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{proof}\", algorithm={algorithm}, cnonce=\"{cnonce}\", qop=auth, nc={nc}{opaque}"
        )
    }
}
