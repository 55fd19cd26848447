//! What a phone sends in Authorization, and whether it knows the password.

use subtle::ConstantTimeEq;

use super::{Algorithm, response};
use crate::params::{Split, unquote};

/// Longest header value that is read, in bytes.
const VALUE_MAX: usize = 4096;

/// The parameters of an Authorization or Proxy-Authorization header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// Who claims to ask.
    pub username: &'a str,
    /// The realm it answers for.
    pub realm: &'a str,
    /// The nonce it answers to.
    pub nonce: &'a str,
    /// The URI it signed.
    pub uri: &'a str,
    /// Its proof.
    pub response: &'a str,
    /// Its hash; MD5 when it names none.
    pub algorithm: Algorithm,
    /// Its own nonce.
    pub cnonce: &'a str,
    /// How often it used this nonce: eight hex digits, as written.
    pub nc: &'a str,
}

/// Why a header holds no credentials that we can check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Another scheme than Digest.
    #[error("not Digest")]
    Scheme,
    /// A parameter is missing, empty or there twice.
    #[error("missing or repeated {0}")]
    Parameter(&'static str),
    /// A hash that we did not offer.
    #[error("unknown algorithm")]
    Algorithm,
    /// Another quality of protection than `auth`; without any, replays could not be told.
    #[error("qop is not auth")]
    Qop,
}

/// What is kept of a password: HA1 by each algorithm, lowercase hex.
#[derive(Clone, Copy, Debug)]
pub struct StoredHa1<'a> {
    /// By MD5; `None` where the operator forbids MD5.
    pub md5: Option<&'a str>,
    /// By SHA-256.
    pub sha256: Option<&'a str>,
}

/// Whether a proof holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The sender knows the password.
    Right,
    /// It does not.
    Wrong,
    /// There is no HA1 for the algorithm it chose.
    NoSecret,
}

impl<'a> Credentials<'a> {
    /// Parses one header value.
    pub fn parse(value: &'a str) -> Result<Self, CredentialsError> {
        let fields = Fields::parse(value).ok_or(CredentialsError::Scheme)?;
        let algorithm = match fields.optional("algorithm")? {
            Some(token) => Algorithm::parse(token).ok_or(CredentialsError::Algorithm)?,
            None => Algorithm::Md5,
        };
        if !fields.optional("qop")?.is_some_and(|qop| qop.eq_ignore_ascii_case("auth")) {
            return Err(CredentialsError::Qop);
        }
        Ok(Self {
            username: fields.required("username")?,
            realm: fields.required("realm")?,
            nonce: fields.required("nonce")?,
            uri: fields.required("uri")?,
            response: fields.required("response")?,
            algorithm,
            cnonce: fields.required("cnonce")?,
            nc: fields.required("nc")?,
        })
    }

    /// The use count of the nonce, for the caller's replay check.
    pub fn nonce_count(&self) -> Option<u32> {
        u32::from_str_radix(self.nc, 16).ok().filter(|_| self.nc.len() == 8)
    }

    /// Checks the proof for a request's method, in time that doesn't depend on where it is wrong. Nonce, realm,
    /// user and URI are the caller's to check.
    pub fn verify(&self, method: &str, stored: StoredHa1<'_>) -> Verdict {
        let ha1 = match self.algorithm {
            Algorithm::Sha256 => stored.sha256,
            Algorithm::Md5 => stored.md5,
        };
        let Some(ha1) = ha1 else { return Verdict::NoSecret };
        let fresh = [self.nonce, self.nc, self.cnonce];
        let own = response(self.algorithm, ha1, fresh, method, self.uri);
        let same = own.as_bytes().ct_eq(self.response.to_ascii_lowercase().as_bytes());
        if same.into() { Verdict::Right } else { Verdict::Wrong }
    }
}

/// `Digest name=value, name="value"`, still as text.
pub(super) struct Fields<'a> {
    text: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn parse(value: &'a str) -> Option<Self> {
        let (scheme, text) = value.trim().split_once([' ', '\t'])?;
        (scheme.eq_ignore_ascii_case("Digest") && value.len() <= VALUE_MAX).then_some(Self { text })
    }

    pub(super) fn optional(&self, name: &'static str) -> Result<Option<&'a str>, CredentialsError> {
        let fields = Split::new(self.text, b',').filter_map(|field| field.split_once('='));
        let mut values =
            fields.filter(|(n, _)| n.trim().eq_ignore_ascii_case(name)).map(|(_, v)| unquote(v.trim()));
        let value = values.next();
        if values.next().is_some() { Err(CredentialsError::Parameter(name)) } else { Ok(value) }
    }

    pub(super) fn required(&self, name: &'static str) -> Result<&'a str, CredentialsError> {
        let value = self.optional(name)?.filter(|value| !value.is_empty());
        value.ok_or(CredentialsError::Parameter(name))
    }
}
