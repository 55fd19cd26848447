//! Tenants and extensions as they are shown: without secrets, with what is in use.

use serde::{Deserialize, Serialize};
use tandem_state::config::{Extension, TenantConfig};
use tandem_state::{State, TenantId};
use utoipa::ToSchema;

use crate::file::{DialRulesFile, LimitsFile};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantView {
    /// Unique.
    pub name: String,
    /// SIP domain and realm; unique.
    pub domain: String,
    /// IANA name.
    pub timezone: String,
    /// ISO 4217.
    pub currency: String,
    /// What it may use.
    pub limits: LimitsFile,
    /// How its users dial outside numbers.
    pub dial_rules: Option<DialRulesFile>,
    /// What it uses now.
    pub usage: UsageView,
}

/// What a tenant uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// Calls up.
    pub calls: u32,
    /// Registrations.
    pub registrations: u32,
}

/// An extension. Its password is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionView {
    /// Digits.
    pub number: String,
    /// Shown name.
    pub name: String,
    /// E.164 shown outside, empty when none.
    pub caller_id: String,
    /// How many phones are registered for it.
    pub registrations: u32,
}

impl TenantView {
    pub(crate) fn of(state: &State, id: TenantId, tenant: &TenantConfig) -> TenantView {
        let usage = state.usage.get(&id).copied().unwrap_or_default();
        TenantView {
            name: tenant.name.clone(),
            domain: tenant.domain.clone(),
            timezone: tenant.timezone.clone(),
            currency: tenant.currency.clone(),
            limits: LimitsFile::of(tenant.limits),
            dial_rules: tenant.dial_rules.as_ref().map(DialRulesFile::of),
            usage: UsageView { calls: usage.calls, registrations: usage.registrations },
        }
    }
}

impl ExtensionView {
    pub(crate) fn of(state: &State, tenant: TenantId, extension: &Extension) -> ExtensionView {
        let registrations = state.bindings_of(tenant, &extension.number).count();
        ExtensionView {
            number: extension.number.clone(),
            name: extension.name.clone(),
            caller_id: extension.caller_id.clone(),
            registrations: u32::try_from(registrations).unwrap_or(u32::MAX),
        }
    }
}
