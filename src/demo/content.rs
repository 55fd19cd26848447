//! The two tenants that the demo makes up.

use serde_json::{Value, json};

use super::credentials::Login;
use crate::failure::refused;

const TENANTS: [(&str, &str, &str, &str); 2] = [
    ("acme", "acme.example", "Europe/London", "GBP"),
    ("globex", "globex.example", "America/New_York", "USD"),
];

const NAMES: [[&str; 10]; 2] = [
    [
        "Alice Archer",
        "Ben Okafor",
        "Carla Mendes",
        "David Lindqvist",
        "Emma Fischer",
        "Farid Haddad",
        "Grace Kim",
        "Henry Walsh",
        "Irina Petrova",
        "Jack Thornton",
    ],
    [
        "Karen Doyle",
        "Luis Ortega",
        "Mei Tanaka",
        "Noah Bergmann",
        "Olivia Grant",
        "Priya Nair",
        "Quentin Moreau",
        "Rosa Jimenez",
        "Samuel Boateng",
        "Tessa van Dijk",
    ],
];

/// A password's letters: none that are mistaken for another.
const LETTERS: &[u8; 54] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXY3456789";
/// 24 of 54 letters: 138 bits.
const LENGTH: usize = 24;

/// All extensions with fresh passwords.
pub(super) fn extensions() -> anyhow::Result<Vec<Login>> {
    let mut logins = Vec::new();
    for (tenant, domain, _, _) in TENANTS {
        for number in 101..=110 {
            let (tenant, domain, number) = (tenant.to_owned(), domain.to_owned(), number.to_string());
            logins.push(Login { tenant, domain, number, password: password()? });
        }
    }
    Ok(logins)
}

/// The apply file of the made-up tenants.
pub(super) fn file(logins: &[Login]) -> Value {
    let tenants = TENANTS.iter().zip(NAMES).map(|((name, domain, timezone, currency), names)| {
        let own = logins.iter().filter(|login| login.tenant == *name).zip(names);
        let extensions: Vec<Value> = own
            .map(|(login, name)| json!({"number": login.number, "name": name, "password": login.password}))
            .collect();
        json!({"name": name, "domain": domain, "timezone": timezone, "currency": currency, "extensions": extensions})
    });
    json!({ "tenants": tenants.collect::<Vec<Value>>() })
}

/// A password from the system's randomness, every letter equally likely.
fn password() -> anyhow::Result<String> {
    let mut password = String::new();
    while password.len() < LENGTH {
        let mut bytes = [0_u8; 64];
        getrandom::fill(&mut bytes).map_err(|_| refused("the system gives no random bytes", ""))?;
        let fair = bytes.iter().filter(|byte| usize::from(**byte) < 256 / LETTERS.len() * LETTERS.len());
        let letters = fair.filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()));
        password.extend(letters.map(|letter| char::from(*letter)).take(LENGTH - password.len()));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_ten_named_extensions_with_passwords_of_their_own() {
        let logins = extensions().unwrap();
        assert_eq!(logins.len(), 20);
        let mut passwords: Vec<&str> = logins.iter().map(|login| login.password.as_str()).collect();
        assert!(passwords.iter().all(|password| password.len() == LENGTH));
        passwords.sort_unstable();
        passwords.dedup();
        assert_eq!(passwords.len(), 20);
        let file = file(&logins);
        let wanted: tandem_state::config::wanted::WantedConfig =
            serde_json::from_value(file.clone()).unwrap();
        let tenants = wanted.tenants.unwrap();
        assert_eq!(tenants.len(), 2);
        assert!(tenants.iter().all(|tenant| tenant.extensions.as_ref().unwrap().len() == 10));
        assert_eq!(file["tenants"][0]["extensions"][0]["name"], "Alice Archer");
    }
}
