//! The provider's configuration: all changes of one command or none, and only real changes are reported.

use super::{Effect, Step};
use crate::bounds::{CHANGES_MAX, invalid, shown};
use crate::config::{ConfigChange, Extension, NumberConfig, NumberTarget, TenantConfig, check};
use crate::event::EventKind;
use crate::ids::*;
use crate::outcome::{Outcome, Refusal, Reply};
use crate::records::*;
use crate::tables::{BindingRow, State};

/// A real change: whose, the verb for the audit, and what by name. `None` when everything was so already.
type Change = Option<(TenantId, &'static str, String)>;

impl State {
    pub(super) fn configure(&mut self, step: &mut Step<'_>, changes: &[ConfigChange]) -> Outcome {
        if changes.len() > CHANGES_MAX {
            return Err(invalid("changes", format!("are more than {CHANGES_MAX}")));
        }
        let before = self.clone();
        let outcome = self.change_all(step, changes);
        if outcome.is_err() {
            *self = before;
            step.effects.clear();
        }
        outcome
    }

    fn change_all(&mut self, step: &mut Step<'_>, changes: &[ConfigChange]) -> Outcome {
        let (mut names, mut touched) = (Vec::new(), Vec::new());
        for change in changes {
            let Some((tenant, verb, name)) = self.change_one(step, change)? else { continue };
            step.effects.push(Effect::Audit(format!("{verb} {name}")));
            names.push(name);
            touched.push(tenant);
        }
        let mut told = std::collections::BTreeSet::new();
        for id in touched {
            if let Some(tenant) = self.tenants.get(&id)
                && told.insert(id)
            {
                step.event(Some(id), EventKind::TenantChanged(tenant.name.clone()));
            }
        }
        Ok(Reply::Configured(names))
    }

    fn change_one(&mut self, step: &mut Step<'_>, change: &ConfigChange) -> Result<Change, Refusal> {
        match change {
            ConfigChange::PutTenant(tenant) => self.put_tenant(step, tenant),
            ConfigChange::RemoveTenant { name } => self.remove_tenant(step, name),
            ConfigChange::PutExtension { tenant, extension } => self.put_extension(step, tenant, extension),
            ConfigChange::RemoveExtension { tenant, number } => self.remove_extension(step, tenant, number),
            ConfigChange::PutNumber { tenant, number } => self.put_number(tenant, number),
            ConfigChange::RemoveNumber { tenant, number } => self.remove_number(tenant, number),
        }
    }

    fn named(&self, tenant: &str) -> Result<TenantId, Refusal> {
        self.by_name.get(tenant).copied().ok_or_else(|| Refusal::NoTenant(shown(tenant)))
    }

    fn name_of(&self, tenant: TenantId) -> String {
        self.tenants.get(&tenant).map_or_else(String::new, |tenant| format!("tenant {}", tenant.name))
    }

    fn put_tenant(&mut self, step: &mut Step<'_>, tenant: &TenantConfig) -> Result<Change, Refusal> {
        check::tenant(tenant)?;
        let known = self.by_name.get(&tenant.name).copied();
        if let Some(owner) = self.by_domain.get(&tenant.domain)
            && Some(*owner) != known
        {
            let owner = self.name_of(*owner);
            return Err(Refusal::Taken { what: format!("domain {}", tenant.domain), owner });
        }
        let id = match known {
            Some(id) => id,
            None => {
                TenantId(self.last_tenant.0.checked_add(1).ok_or_else(|| invalid("tenants", "ids ran out"))?)
            }
        };
        let former = self.tenants.insert(id, tenant.clone());
        if former.as_ref() == Some(tenant) {
            return Ok(None);
        }
        if let Some(former) = former
            && former.domain != tenant.domain
        {
            // Its addresses of record are others now.
            self.by_domain.remove(&former.domain);
            self.drop_bindings(step, id, None);
        }
        self.last_tenant = self.last_tenant.max(id);
        self.by_domain.insert(tenant.domain.clone(), id);
        self.by_name.insert(tenant.name.clone(), id);
        Ok(Some((id, "put", format!("tenant {}", tenant.name))))
    }

    fn remove_tenant(&mut self, step: &mut Step<'_>, name: &str) -> Result<Change, Refusal> {
        let id = self.named(name)?;
        if self.usage.get(&id).is_some_and(|usage| usage.calls > 0) {
            return Err(Refusal::Busy(format!("tenant {name}")));
        }
        self.drop_bindings(step, id, None);
        let extensions: Vec<String> = self.extensions_of(id).map(|e| e.number.clone()).collect();
        for number in extensions {
            self.extensions.remove(&(id, number));
        }
        let numbers: Vec<String> = self
            .numbers
            .iter()
            .filter(|(_, (owner, _))| *owner == id)
            .map(|(number, _)| number.clone())
            .collect();
        for number in numbers {
            self.numbers.remove(&number);
        }
        let of_tenant = |token: &&TokenRecord| token.scope == TokenScope::Tenant(id);
        let tokens: Vec<String> =
            self.tokens.values().filter(of_tenant).map(|token| token.id.clone()).collect();
        for token in tokens {
            self.tokens.remove(&token);
        }
        if let Some(tenant) = self.tenants.remove(&id) {
            self.by_domain.remove(&tenant.domain);
        }
        self.by_name.remove(name);
        step.event(Some(id), EventKind::TenantRemoved(name.to_owned()));
        Ok(Some((id, "remove", format!("tenant {name}"))))
    }

    fn put_extension(
        &mut self,
        step: &mut Step<'_>,
        tenant: &str,
        asked: &Extension,
    ) -> Result<Change, Refusal> {
        let id = self.named(tenant)?;
        check::extension(tenant, asked)?;
        let former = self.extensions.insert((id, asked.number.clone()), asked.clone());
        if former.as_ref() == Some(asked) {
            return Ok(None);
        }
        if former.is_some_and(|former| former.secret != asked.secret) {
            self.drop_bindings(step, id, Some(&asked.number));
        }
        Ok(Some((id, "put", format!("extension {tenant}/{}", asked.number))))
    }

    fn remove_extension(
        &mut self,
        step: &mut Step<'_>,
        tenant: &str,
        number: &str,
    ) -> Result<Change, Refusal> {
        let id = self.named(tenant)?;
        let name = format!("{tenant}/{}", shown(number));
        let row = (id, number.to_owned());
        if !self.extensions.contains_key(&row) {
            return Err(Refusal::NoExtension(name));
        }
        let target = NumberTarget::Extension(number.to_owned());
        if let Some((outside, _)) = self.numbers.iter().find(|(_, (owner, to))| *owner == id && *to == target)
        {
            return Err(invalid(format!("extension {name}"), format!("number {outside} leads to it")));
        }
        self.extensions.remove(&row);
        self.drop_bindings(step, id, Some(number));
        Ok(Some((id, "remove", format!("extension {name}"))))
    }

    fn put_number(&mut self, tenant: &str, asked: &NumberConfig) -> Result<Change, Refusal> {
        let id = self.named(tenant)?;
        check::number(tenant, asked)?;
        if let Some((owner, _)) = self.numbers.get(&asked.number)
            && *owner != id
        {
            let owner = self.name_of(*owner);
            return Err(Refusal::Taken { what: format!("number {}", asked.number), owner });
        }
        match &asked.to {
            NumberTarget::Extension(number) => self
                .extension(id, number)
                .ok_or_else(|| Refusal::NoExtension(format!("{tenant}/{}", shown(number))))?,
        };
        let row = (id, asked.to.clone());
        if self.numbers.insert(asked.number.clone(), row.clone()) == Some(row) {
            return Ok(None);
        }
        Ok(Some((id, "put", format!("number {tenant}/{}", asked.number))))
    }

    fn remove_number(&mut self, tenant: &str, number: &str) -> Result<Change, Refusal> {
        let id = self.named(tenant)?;
        let name = format!("{tenant}/{}", shown(number));
        if self.numbers.get(number).is_none_or(|(owner, _)| *owner != id) {
            return Err(Refusal::NoNumber(name));
        }
        self.numbers.remove(number);
        Ok(Some((id, "remove", format!("number {name}"))))
    }

    /// Removes the bindings of a tenant, or of one of its extensions.
    fn drop_bindings(&mut self, step: &mut Step<'_>, tenant: TenantId, number: Option<&str>) {
        let first = (tenant, number.unwrap_or_default().to_owned(), BindingKey::Instance(String::new(), 0));
        let here = |row: &BindingRow| row.0 == tenant && number.is_none_or(|number| row.1 == number);
        let rows: Vec<BindingRow> =
            self.bindings.range(first..).map(|(row, _)| row.clone()).take_while(here).collect();
        for row in rows {
            self.drop_binding(step, &row, UnbindReason::Removed);
        }
    }
}

#[cfg(test)]
mod tests;
