//! What is in the cluster: two tenants whose phones have the same numbers, and a third one that may make few calls.

use std::fmt::Write as _;

/// A tenant by its name and domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tenant {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its domain.
    pub(crate) domain: &'static str,
    /// Calls that it may begin in a second.
    pub(crate) calls_per_second: u32,
}

/// Everything that has no other tenant.
pub(crate) const TOWN: Tenant = Tenant { name: "town", domain: "town.example", calls_per_second: 1_000 };
/// Every second group of calls; its numbers are the town's.
pub(crate) const VILLAGE: Tenant =
    Tenant { name: "village", domain: "village.example", calls_per_second: 1_000 };
/// Who calls more than it may.
pub(crate) const CROWD: Tenant = Tenant { name: "crowd", domain: "crowd.example", calls_per_second: 5 };
/// All of them.
pub(crate) const TENANTS: [Tenant; 3] = [TOWN, VILLAGE, CROWD];

/// The password of all phones.
pub(crate) const PASSWORD: &str = "phones-Secret-1";

/// The callers of a tenant's standing calls, group by group.
pub(crate) const CALLERS: [u64; 2] = [1_000, 1_200];
/// Whom they call.
pub(crate) const CALLEES: [u64; 2] = [1_400, 1_600];
/// Calls in one group at most.
pub(crate) const GROUP_MAX: usize = 200;
/// Groups at most: two of each tenant that has phones for them.
pub(crate) const GROUPS_MAX: usize = 4;
/// The callers of calls that come and go.
pub(crate) const SHORT_CALLERS: u64 = 1_800;
/// Whom they call.
pub(crate) const SHORT_CALLEES: u64 = 1_900;
/// Pairs of phones for calls that come and go.
pub(crate) const SHORT_PAIRS: u64 = 50;
/// Extensions that only register.
pub(crate) const REGISTERING: u64 = 5_000;
/// How many of those.
pub(crate) const REGISTERING_COUNT: u64 = 200;

/// The apply file, with extensions for so many calls in each group.
pub(crate) fn file(calls: u64) -> String {
    let numbers = || {
        let standing = CALLERS.into_iter().chain(CALLEES).map(|first| (first, calls));
        let others =
            [(SHORT_CALLERS, SHORT_PAIRS), (SHORT_CALLEES, SHORT_PAIRS), (REGISTERING, REGISTERING_COUNT)];
        standing.chain(others).flat_map(|(first, count)| first..first + count)
    };
    let mut text = String::from("tenants:\n");
    for Tenant { name, domain, calls_per_second } in TENANTS {
        let _ = writeln!(
            text,
            "  - name: {name}\n    domain: {domain}\n    timezone: Europe/London\n    \
             limits: {{calls: 2000, calls_per_second: {calls_per_second}, registrations: 20000}}\n    extensions:"
        );
        for number in numbers() {
            let _ = writeln!(text, "      - {{number: \"{number}\", password: \"{PASSWORD}\"}}");
        }
    }
    text
}
