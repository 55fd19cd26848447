//! What would make the configuration as a file wants it: changes for `Configure`, and a line for people each.
//!
//! Top-level entries that are not in the file are left alone, unless pruned. Within a named tenant a list that is
//! given is complete, and what is left out is untouched.

use std::collections::BTreeSet;

use super::wanted::*;
use super::*;
use crate::ids::TenantId;
use crate::tables::State;

/// What a file would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In an order in which `apply` takes them.
    pub changes: Vec<ConfigChange>,
    /// One for each change: `+ tenant acme`, `~ extension acme/101 name`, `- number acme/+44`.
    pub lines: Vec<String>,
}

/// Why a file can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A key that belongs to a later release.
    #[error("{0}: not in this release; take it out of the file")]
    NotYet(String),
    /// A value that a new entry needs.
    #[error("{0}: is missing")]
    Missing(String),
    /// The same name twice in one list.
    #[error("{0}: is there twice")]
    Twice(String),
    /// The caller did not hash the passwords first.
    #[error("{0}: is not hashed")]
    NotHashed(String),
}

/// Compares a file, its passwords hashed, with the state. With `prune`, tenants that a given `tenants` list leaves
/// out are removed.
pub fn plan(wanted: &WantedConfig, state: &State, prune: bool) -> Result<Plan, PlanError> {
    let later = [("trunks", wanted.trunks), ("rate_decks", wanted.rate_decks)];
    if let Some((key, _)) = later.iter().find(|(_, given)| given.is_some()) {
        return Err(PlanError::NotYet((*key).to_owned()));
    }
    let tenants = wanted.tenants.as_deref().unwrap_or_default();
    once("tenants", tenants.iter().map(|tenant| tenant.name.as_str()))?;
    let mut draft = Draft { state, steps: Default::default() };
    for tenant in tenants {
        draft.tenant(tenant)?;
    }
    if prune && wanted.tenants.is_some() {
        draft.prune(tenants);
    }
    Ok(draft.into_plan())
}

/// A change with its line, by the stage in which it has to be applied.
type Steps = [Vec<(ConfigChange, String)>; 6];

struct Draft<'a> {
    state: &'a State,
    steps: Steps,
}

/// Stages: what frees a number or domain comes before what takes it, what is led to before what leads there.
#[derive(Clone, Copy)]
enum Stage {
    RemoveNumber,
    RemoveTenant,
    PutTenant,
    PutExtension,
    PutNumber,
    RemoveExtension,
}

impl Draft<'_> {
    fn add(&mut self, stage: Stage, change: ConfigChange, line: String) {
        let at = match stage {
            Stage::RemoveNumber => 0,
            Stage::RemoveTenant => 1,
            Stage::PutTenant => 2,
            Stage::PutExtension => 3,
            Stage::PutNumber => 4,
            Stage::RemoveExtension => 5,
        };
        if let Some(steps) = self.steps.get_mut(at) {
            steps.push((change, line));
        }
    }

    fn into_plan(self) -> Plan {
        let (changes, lines) = self.steps.into_iter().flatten().unzip();
        Plan { changes, lines }
    }

    fn prune(&mut self, tenants: &[WantedTenant]) {
        let kept: BTreeSet<&str> = tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        for name in self.state.by_name.keys().filter(|name| !kept.contains(name.as_str())) {
            let change = ConfigChange::RemoveTenant { name: name.clone() };
            self.add(Stage::RemoveTenant, change, format!("- tenant {name}"));
        }
    }

    fn tenant(&mut self, wanted: &WantedTenant) -> Result<(), PlanError> {
        let of = |field: &str| format!("tenants.{}.{field}", wanted.name);
        if wanted.account.is_some() {
            return Err(PlanError::NotYet(of("account")));
        }
        let known = self.state.tenant_by_name(&wanted.name);
        let id = known.map(|(id, _)| id);
        let tenant = settings(wanted, known.map(|(_, tenant)| tenant))?;
        match known {
            None => self.add(
                Stage::PutTenant,
                ConfigChange::PutTenant(tenant),
                format!("+ tenant {}", wanted.name),
            ),
            Some((_, former)) if *former != tenant => {
                let line = format!("~ tenant {} {}", wanted.name, changed_settings(former, &tenant));
                self.add(Stage::PutTenant, ConfigChange::PutTenant(tenant), line);
            }
            Some(_) => {}
        }
        if let Some(extensions) = &wanted.extensions {
            once(&of("extensions"), extensions.iter().map(|extension| extension.number.as_str()))?;
            self.extensions(id, &wanted.name, extensions)?;
        }
        if let Some(numbers) = &wanted.numbers {
            once(&of("numbers"), numbers.iter().map(|number| number.number.as_str()))?;
            self.numbers(id, &wanted.name, numbers);
        }
        Ok(())
    }

    fn extensions(
        &mut self,
        id: Option<TenantId>,
        tenant: &str,
        wanted: &[WantedExtension],
    ) -> Result<(), PlanError> {
        for wanted in wanted {
            let name = format!("extension {tenant}/{}", wanted.number);
            let former = id.and_then(|id| self.state.extension(id, &wanted.number));
            let extension = extension(tenant, wanted, former)?;
            let line = match former {
                None => format!("+ {name}"),
                Some(former) if *former != extension => {
                    format!("~ {name} {}", changed_fields(former, &extension))
                }
                Some(_) => continue,
            };
            let change = ConfigChange::PutExtension { tenant: tenant.to_owned(), extension };
            self.add(Stage::PutExtension, change, line);
        }
        let kept: BTreeSet<&str> = wanted.iter().map(|extension| extension.number.as_str()).collect();
        let state = self.state;
        for extension in id.into_iter().flat_map(|id| state.extensions_of(id)) {
            if !kept.contains(extension.number.as_str()) {
                let (tenant, number) = (tenant.to_owned(), extension.number.clone());
                let line = format!("- extension {tenant}/{number}");
                self.add(Stage::RemoveExtension, ConfigChange::RemoveExtension { tenant, number }, line);
            }
        }
        Ok(())
    }

    fn numbers(&mut self, id: Option<TenantId>, tenant: &str, wanted: &[NumberConfig]) {
        for wanted in wanted {
            let known = self.state.numbers.get(&wanted.number).filter(|(owner, _)| Some(*owner) == id);
            let line = match known {
                None => format!("+ number {tenant}/{}", wanted.number),
                Some((_, to)) if *to != wanted.to => format!("~ number {tenant}/{} to", wanted.number),
                Some(_) => continue,
            };
            let change = ConfigChange::PutNumber { tenant: tenant.to_owned(), number: wanted.clone() };
            self.add(Stage::PutNumber, change, line);
        }
        let kept: BTreeSet<&str> = wanted.iter().map(|number| number.number.as_str()).collect();
        let state = self.state;
        for (number, _) in state.numbers.iter().filter(|(_, (owner, _))| Some(*owner) == id) {
            if !kept.contains(number.as_str()) {
                let change = ConfigChange::RemoveNumber { tenant: tenant.to_owned(), number: number.clone() };
                self.add(Stage::RemoveNumber, change, format!("- number {tenant}/{number}"));
            }
        }
    }
}

/// A tenant's settings as the file and, for what it leaves out, the state have them.
fn settings(wanted: &WantedTenant, known: Option<&TenantConfig>) -> Result<TenantConfig, PlanError> {
    let or = |given: &Option<String>, known: Option<&String>, new: &str| {
        given.as_ref().or(known).map_or_else(|| new.to_owned(), String::clone)
    };
    let domain = wanted.domain.as_ref().or(known.map(|known| &known.domain));
    let domain = domain.ok_or_else(|| PlanError::Missing(format!("tenants.{}.domain", wanted.name)))?;
    Ok(TenantConfig {
        name: wanted.name.clone(),
        domain: domain.clone(),
        timezone: or(&wanted.timezone, known.map(|known| &known.timezone), "UTC"),
        currency: or(&wanted.currency, known.map(|known| &known.currency), "USD"),
        limits: match wanted.limits {
            Some(limits) => limits.into(),
            None => known.map(|known| known.limits).unwrap_or_default(),
        },
        dial_rules: match &wanted.dial_rules {
            Some(rules) => rules.clone().map(DialRules::from),
            None => known.and_then(|known| known.dial_rules.clone()),
        },
    })
}

fn extension(
    tenant: &str,
    wanted: &WantedExtension,
    known: Option<&Extension>,
) -> Result<Extension, PlanError> {
    let of = |field: &str| format!("tenants.{tenant}.extensions.{}.{field}", wanted.number);
    if wanted.password.is_some() {
        return Err(PlanError::NotHashed(of("password")));
    }
    let given = wanted.password_digest.clone().map(Digests::from);
    let secret = given.or_else(|| known.map(|known| known.secret.clone()));
    Ok(Extension {
        number: wanted.number.clone(),
        name: wanted.name.clone(),
        secret: secret.ok_or_else(|| PlanError::Missing(of("password")))?,
        caller_id: wanted.caller_id.clone(),
    })
}

fn changed_settings(former: &TenantConfig, now: &TenantConfig) -> String {
    named(&[
        ("domain", former.domain != now.domain),
        ("timezone", former.timezone != now.timezone),
        ("currency", former.currency != now.currency),
        ("limits", former.limits != now.limits),
        ("dial_rules", former.dial_rules != now.dial_rules),
    ])
}

fn changed_fields(former: &Extension, now: &Extension) -> String {
    named(&[
        ("name", former.name != now.name),
        ("password", former.secret != now.secret),
        ("caller_id", former.caller_id != now.caller_id),
    ])
}

fn named(fields: &[(&str, bool)]) -> String {
    let names: Vec<&str> = fields.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect();
    names.join(", ")
}

fn once<'a>(list: &str, names: impl Iterator<Item = &'a str>) -> Result<(), PlanError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(PlanError::Twice(format!("{list}.{name}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
