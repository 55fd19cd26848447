//! The apply file's shapes as the OpenAPI document describes them, and what of them single resources share.
//!
//! The file itself is read by [`tandem_state::config::wanted`]; a test holds the two together. Passwords end here, in
//! digests.

use std::fmt;

use serde::{Deserialize, Serialize};
use tandem_state::config::{DialRules, Digests, Limits, NumberConfig, NumberTarget};
use utoipa::ToSchema;

use crate::token::hex;

/// The replicated configuration, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Tenants that are not named here are left alone, unless pruned.
    #[serde(default)]
    pub tenants: Vec<TenantFile>,
}

/// A tenant with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantFile {
    /// Unique: lower-case letters, digits and `-`.
    pub name: String,
    /// SIP domain and realm; unique. A new tenant needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// IANA name; `UTC` for a new tenant that gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// ISO 4217; `USD` for a new tenant that gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// All its limits, when given: one that is left out in here is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsFile>,
    /// How its users dial outside numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dial_rules: Option<DialRulesFile>,
    /// All its extensions; left out, they stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Vec<ExtensionFile>>,
    /// All its outside numbers; left out, they stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Vec<NumberFile>>,
}

/// What a tenant may use at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsFile {
    /// Calls up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// New calls in any second, on each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_second: Option<u32>,
    /// Registrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registrations: Option<u32>,
}

/// How dialled digits become E.164.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DialRulesFile {
    /// Country code, without `+`.
    pub country: String,
    /// Prefix for other countries, such as `00`.
    pub international: String,
    /// Prefix inside the country, such as `0`.
    pub national: String,
    /// Numbers that reach help.
    #[serde(default)]
    pub emergency: Vec<String>,
}

/// A user's number inside a tenant. A new one needs `password` or `password_digest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtensionFile {
    /// Digits.
    pub number: String,
    /// Shown name.
    #[serde(default)]
    pub name: String,
    /// What the phone proves that it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// What stands in for the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_digest: Option<DigestFile>,
    /// E.164 shown outside, empty when none.
    #[serde(default)]
    pub caller_id: String,
}

/// HA1 digests over `number:domain:password`, lower-case hexadecimal (RFC 8760).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DigestFile {
    /// MD5, for old phones.
    pub md5: String,
    /// SHA-256.
    pub sha256: String,
}

/// An outside number and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NumberFile {
    /// E.164 with `+`; unique in the cluster.
    pub number: String,
    /// Where its calls go.
    pub to: TargetFile,
}

/// Where calls go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetFile {
    /// An extension of the same tenant.
    pub extension: String,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for DigestFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whether readers can show times in this zone.
pub fn check_timezone(name: &str) -> Result<(), String> {
    let known = jiff::tz::TimeZone::get(name).is_ok();
    if known { Ok(()) } else { Err(format!("no time zone {name}: give an IANA name such as Europe/London")) }
}

/// The digests of a password (RFC 7616 section 3.4.2).
pub fn digests(number: &str, domain: &str, password: &str) -> Digests {
    use sha2::Digest as _;
    let secret = format!("{number}:{domain}:{password}");
    Digests {
        md5: hex(&md5::Md5::digest(secret.as_bytes())),
        sha256: hex(&sha2::Sha256::digest(secret.as_bytes())),
    }
}

impl LimitsFile {
    pub(crate) fn of(limits: Limits) -> LimitsFile {
        let Limits { calls, calls_per_second, registrations } = limits;
        LimitsFile { calls, calls_per_second, registrations }
    }

    pub(crate) fn limits(self) -> Limits {
        let LimitsFile { calls, calls_per_second, registrations } = self;
        Limits { calls, calls_per_second, registrations }
    }
}

impl DialRulesFile {
    pub(crate) fn of(rules: &DialRules) -> DialRulesFile {
        let DialRules { country, international, national, emergency } = rules.clone();
        DialRulesFile { country, international, national, emergency }
    }

    pub(crate) fn rules(self) -> DialRules {
        let DialRulesFile { country, international, national, emergency } = self;
        DialRules { country, international, national, emergency }
    }
}

impl NumberFile {
    /// The number as a command wants it.
    pub(crate) fn config(&self) -> NumberConfig {
        NumberConfig { number: self.number.clone(), to: NumberTarget::Extension(self.to.extension.clone()) }
    }

    /// A number as it is shown.
    pub(crate) fn of(number: &str, to: &NumberTarget) -> NumberFile {
        let NumberTarget::Extension(extension) = to;
        NumberFile { number: number.to_owned(), to: TargetFile { extension: extension.clone() } }
    }
}

#[cfg(test)]
mod tests {
    use tandem_state::config::wanted::WantedConfig;

    use super::*;

    #[test]
    fn digests_are_those_of_rfc_7616() {
        // RFC 7616 section 3.9.1: Mufasa, http-auth@example.org, Circle of Life; checked by md5sum and sha256sum.
        let made = digests("Mufasa", "http-auth@example.org", "Circle of Life");
        assert_eq!(made.md5, "3d78807defe7de2157e2b0b6573a855f");
        assert_eq!(made.sha256, "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232");
    }

    #[test]
    fn secrets_are_never_printed() {
        let text = r#"{"number":"101","password":"hush-hush"}"#;
        let file: ExtensionFile = serde_json::from_str(text).unwrap();
        assert!(!format!("{file:?}").contains("hush"));
    }

    #[test]
    fn what_is_described_is_what_the_state_reads_and_exports() {
        let text = r#"{"tenants": [{"name": "acme", "domain": "acme.example", "timezone": "Europe/London",
            "currency": "GBP", "limits": {"calls": 1, "calls_per_second": 2, "registrations": 3},
            "dial_rules": {"country": "44", "international": "00", "national": "0", "emergency": ["999"]},
            "extensions": [{"number": "101", "name": "Ann", "password_digest": {"md5": "a", "sha256": "b"},
                "caller_id": "+44"}],
            "numbers": [{"number": "+44", "to": {"extension": "101"}}]}]}"#;
        let described: ConfigFile = serde_json::from_str(text).unwrap();
        let read: WantedConfig = serde_json::from_str(text).unwrap();
        let exported = serde_json::to_value(read).unwrap();
        assert_eq!(serde_json::to_value(described).unwrap(), exported);
        assert_eq!(exported, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }
}
