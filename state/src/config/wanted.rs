//! The apply file: the configuration as an operator writes it, and as `export` gives it back.
//!
//! Here are the names of the file's fields; what is left out means is said by [`super::diff`].

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::*;
use crate::tables::State;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedConfig {
    /// Tenants; others are left alone, unless pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<WantedTenant>>,
    /// Comes with outside calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunks: Option<NotYet>,
    /// Comes with money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_decks: Option<NotYet>,
}

/// One tenant of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedTenant {
    /// By which it is known.
    pub name: String,
    /// SIP domain and realm; needed for a new tenant.
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
    pub limits: Option<WantedLimits>,
    /// How its users dial; `null` takes the rules away.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub dial_rules: Option<Option<WantedDialRules>>,
    /// All its extensions, when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Vec<WantedExtension>>,
    /// All its outside numbers, when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Vec<NumberConfig>>,
    /// Comes with money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<NotYet>,
}

/// [`Limits`] in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedLimits {
    /// Calls up at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// New calls in any second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_second: Option<u32>,
    /// Bindings at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registrations: Option<u32>,
}

/// [`DialRules`] in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedDialRules {
    /// Country code, without `+`.
    pub country: String,
    /// Prefix for other countries.
    #[serde(default)]
    pub international: String,
    /// Prefix inside the country.
    #[serde(default)]
    pub national: String,
    /// Numbers that reach help.
    #[serde(default)]
    pub emergency: Vec<String>,
}

/// One extension of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedExtension {
    /// Digits.
    pub number: String,
    /// Shown name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// In clear; turned into digests by [`WantedConfig::hash_passwords`] and never exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// In place of `password`. With neither, a known extension keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_digest: Option<WantedDigests>,
    /// E.164 shown outside.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub caller_id: String,
}

/// [`Digests`] in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedDigests {
    /// MD5, for old phones.
    #[serde(default)]
    pub md5: String,
    /// SHA-256.
    #[serde(default)]
    pub sha256: String,
}

/// A part of the file that this release does not carry out; reading it is fine, applying it is refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotYet;

/// As something that is there, so that it is refused wherever it arrives.
impl Serialize for NotYet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl<'de> Deserialize<'de> for NotYet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| NotYet)
    }
}

/// Tells a field that is `null` from one that is left out.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<WantedDialRules>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl WantedConfig {
    /// Turns every password into digests by `ha1(number, domain, password)`, for the domain that its tenant will
    /// have. A tenant without a domain in file and state is left to [`super::diff::plan`], which names it.
    pub fn hash_passwords(&mut self, state: &State, ha1: impl Fn(&str, &str, &str) -> Digests) {
        for tenant in self.tenants.iter_mut().flatten() {
            let known = state.tenant_by_name(&tenant.name).map(|(_, known)| known.domain.clone());
            let Some(domain) = tenant.domain.clone().or(known) else { continue };
            for extension in tenant.extensions.iter_mut().flatten() {
                if let Some(password) = extension.password.take() {
                    let digests = ha1(&extension.number, &domain, &password);
                    extension.password_digest = Some(digests.into());
                }
            }
        }
    }
}

impl State {
    /// The configuration as a file, passwords as digests. Applied to an empty cluster, it makes the same again.
    pub fn export_config(&self) -> WantedConfig {
        let tenants = self.by_name.values().filter_map(|id| Some((*id, self.tenants.get(id)?)));
        let tenants = tenants.map(|(id, tenant)| self.export_tenant(id, tenant)).collect();
        WantedConfig { tenants: Some(tenants), trunks: None, rate_decks: None }
    }

    fn export_tenant(&self, id: crate::TenantId, tenant: &TenantConfig) -> WantedTenant {
        let numbers = self.numbers.iter().filter(|(_, (owner, _))| *owner == id);
        let numbers =
            numbers.map(|(number, (_, to))| NumberConfig { number: number.clone(), to: to.clone() });
        WantedTenant {
            name: tenant.name.clone(),
            domain: Some(tenant.domain.clone()),
            timezone: Some(tenant.timezone.clone()),
            currency: Some(tenant.currency.clone()),
            limits: Some(tenant.limits.into()),
            dial_rules: tenant.dial_rules.clone().map(|rules| Some(rules.into())),
            extensions: Some(self.extensions_of(id).cloned().map(WantedExtension::from).collect()),
            numbers: Some(numbers.collect()),
            account: None,
        }
    }
}

impl From<Limits> for WantedLimits {
    fn from(from: Limits) -> Self {
        let Limits { calls, calls_per_second, registrations } = from;
        WantedLimits { calls, calls_per_second, registrations }
    }
}

impl From<WantedLimits> for Limits {
    fn from(from: WantedLimits) -> Self {
        let WantedLimits { calls, calls_per_second, registrations } = from;
        Limits { calls, calls_per_second, registrations }
    }
}

impl From<DialRules> for WantedDialRules {
    fn from(from: DialRules) -> Self {
        let DialRules { country, international, national, emergency } = from;
        WantedDialRules { country, international, national, emergency }
    }
}

impl From<WantedDialRules> for DialRules {
    fn from(from: WantedDialRules) -> Self {
        let WantedDialRules { country, international, national, emergency } = from;
        DialRules { country, international, national, emergency }
    }
}

impl From<Digests> for WantedDigests {
    fn from(Digests { md5, sha256 }: Digests) -> Self {
        WantedDigests { md5, sha256 }
    }
}

impl From<WantedDigests> for Digests {
    fn from(WantedDigests { md5, sha256 }: WantedDigests) -> Self {
        Digests { md5, sha256 }
    }
}

impl From<Extension> for WantedExtension {
    fn from(from: Extension) -> Self {
        WantedExtension {
            number: from.number,
            name: from.name,
            password: None,
            password_digest: Some(from.secret.into()),
            caller_id: from.caller_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<WantedConfig, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_file_is_read_with_what_is_left_out_told_from_what_is_empty() {
        let file = read(
            r#"{"tenants": [{"name": "acme", "domain": "acme.example", "limits": {"calls": 2}, "extensions": [],
                "dial_rules": null, "numbers": [{"number": "+44", "to": {"extension": "101"}}]},
                {"name": "globex"}]}"#,
        );
        let tenants = file.unwrap().tenants.unwrap();
        let acme = &tenants[0];
        assert_eq!(acme.limits, Some(WantedLimits { calls: Some(2), ..WantedLimits::default() }));
        assert_eq!((acme.extensions.as_deref(), &acme.dial_rules), (Some(&[][..]), &Some(None)));
        let to = NumberTarget::Extension("101".into());
        assert_eq!(acme.numbers, Some(vec![NumberConfig { number: "+44".into(), to }]));
        let globex = WantedTenant { name: "globex".into(), ..WantedTenant::default() };
        assert_eq!(tenants[1], globex);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        for text in [
            r#"{"tennants": []}"#,
            r#"{"tenants": [{"name": "a", "tennants": 1}]}"#,
            r#"{"tenants": [{"name": "a", "limits": {"tennants": 1}}]}"#,
            r#"{"tenants": [{"name": "a", "extensions": [{"number": "1", "tennants": 1}]}]}"#,
        ] {
            assert!(read(text).unwrap_err().contains("unknown field `tennants`"), "{text}");
        }
    }

    #[test]
    fn passwords_are_hashed_for_the_domain_that_the_tenant_will_have() {
        let mut file = read(
            r#"{"tenants": [{"name": "acme", "extensions": [{"number": "101", "password": "p"}]},
                {"name": "new", "domain": "new.example", "extensions": [{"number": "1", "password": "q"}]},
                {"name": "odd", "extensions": [{"number": "1", "password": "q"}]}]}"#,
        )
        .unwrap();
        let state = crate::fixture::started();
        file.hash_passwords(&state, |number, domain, password| Digests {
            md5: format!("{number}:{domain}:{password}"),
            sha256: String::new(),
        });
        let seen: Vec<_> = file
            .tenants
            .unwrap()
            .into_iter()
            .flat_map(|tenant| tenant.extensions.unwrap())
            .map(|extension| (extension.password, extension.password_digest.map(|digest| digest.md5)))
            .collect();
        let hashed = |text: &str| (None, Some(text.to_owned()));
        let expected =
            [hashed("101:acme.example:p"), hashed("1:new.example:q"), (Some("q".to_owned()), None)];
        assert_eq!(seen, expected);
    }
}
