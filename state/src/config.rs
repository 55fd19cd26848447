//! The provider's configuration: tenants and what belongs to them. What the apply file says ends here.

pub(crate) mod check;
pub mod diff;
pub mod wanted;

use serde::{Deserialize, Serialize};

/// One change of configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigChange {
    /// Makes a tenant or changes its own fields (not its extensions and numbers). Refused if the domain is another's.
    PutTenant(TenantConfig),
    /// Removes a tenant with all it has; its CDRs stay. Refused while it has calls.
    RemoveTenant {
        /// By name.
        name: String,
    },
    /// Makes or replaces an extension. A changed secret removes its bindings.
    PutExtension {
        /// The tenant's name.
        tenant: String,
        /// The extension.
        extension: Extension,
    },
    /// Removes an extension with its bindings.
    RemoveExtension {
        /// The tenant's name.
        tenant: String,
        /// The extension's number.
        number: String,
    },
    /// Gives an outside number to a tenant. Refused if it is another tenant's.
    PutNumber {
        /// The tenant's name.
        tenant: String,
        /// The number.
        number: NumberConfig,
    },
    /// Takes an outside number from a tenant.
    RemoveNumber {
        /// The tenant's name.
        tenant: String,
        /// E.164 with `+`.
        number: String,
    },
}

/// A tenant's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantConfig {
    /// Unique, `[a-z0-9-]`.
    pub name: String,
    /// SIP domain and digest realm; unique, lower case.
    pub domain: String,
    /// IANA name; only shown and used by readers, `apply` never computes with it.
    pub timezone: String,
    /// ISO 4217.
    pub currency: String,
    /// What it may use.
    pub limits: Limits,
    /// How its users dial; `None` when it has no outside calls.
    pub dial_rules: Option<DialRules>,
}

/// What a tenant may use at once; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Calls up at once.
    pub calls: Option<u32>,
    /// New calls in any second, judged where they arrive.
    pub calls_per_second: Option<u32>,
    /// Bindings at once.
    pub registrations: Option<u32>,
}

/// How dialled digits become E.164.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DialRules {
    /// Country code, without `+`.
    pub country: String,
    /// Prefix for other countries, such as `00`.
    pub international: String,
    /// Prefix inside the country, such as `0`.
    pub national: String,
    /// Numbers that reach help.
    pub emergency: Vec<String>,
}

/// A user's number inside a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Digits, 1 to 15.
    pub number: String,
    /// Shown name.
    pub name: String,
    /// What the password is checked against.
    pub secret: Digests,
    /// E.164 shown outside, empty when none.
    pub caller_id: String,
}

/// HA1 digests over `number:domain:password`, lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digests {
    /// MD5, for old phones.
    pub md5: String,
    /// SHA-256.
    pub sha256: String,
}

/// An outside number and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberConfig {
    /// E.164 with `+`; unique in the cluster.
    pub number: String,
    /// Where its calls go.
    pub to: NumberTarget,
}

/// Where an outside number leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NumberTarget {
    /// An extension of the same tenant.
    Extension(String),
}
