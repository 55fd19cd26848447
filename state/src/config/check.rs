//! What values the configuration may have.

use super::*;
use crate::bounds::{HOST_MAX, NAME_MAX, SHOWN_NAME_MAX, at_most, invalid, shown, some_at_most};
use crate::outcome::Refusal;

/// Checks a tenant's own settings.
pub(crate) fn tenant(tenant: &TenantConfig) -> Result<(), Refusal> {
    let of = |field: &str| format!("tenant {} {field}", shown(&tenant.name));
    some_at_most("tenant name", &tenant.name, NAME_MAX)?;
    if !tenant.name.bytes().all(is_label) {
        return Err(invalid(of("name"), "may have a-z, 0-9 and '-' only"));
    }
    domain(&of("domain"), &tenant.domain)?;
    some_at_most(&of("timezone"), &tenant.timezone, NAME_MAX)?;
    if !tenant.timezone.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-/".contains(&b)) {
        return Err(invalid(of("timezone"), "is no IANA name, such as Europe/London"));
    }
    if tenant.currency.len() != 3 || !tenant.currency.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(invalid(of("currency"), "is no ISO 4217 code, such as GBP"));
    }
    tenant.dial_rules.as_ref().map_or(Ok(()), |rules| dial_rules(&of("dial_rules"), rules))
}

fn domain(field: &str, domain: &str) -> Result<(), Refusal> {
    some_at_most(field, domain, HOST_MAX)?;
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(is_label)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.split('.').all(fits) {
        return Ok(());
    }
    Err(invalid(field, "is no host name in lower case, such as acme.example"))
}

fn is_label(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
}

fn dial_rules(field: &str, rules: &DialRules) -> Result<(), Refusal> {
    let digits = |text: &str, max: usize| text.len() <= max && text.bytes().all(|b| b.is_ascii_digit());
    let dialled =
        |text: &str| text.len() <= 8 && text.bytes().all(|b| b.is_ascii_digit() || b"*#".contains(&b));
    if rules.country.is_empty() || !digits(&rules.country, 3) {
        return Err(invalid(format!("{field}.country"), "is no country code of 1 to 3 digits, without '+'"));
    }
    for (name, prefix) in [("international", &rules.international), ("national", &rules.national)] {
        if !dialled(prefix) {
            return Err(invalid(format!("{field}.{name}"), "is no prefix of at most 8 digits"));
        }
    }
    let fits = |number: &String| !number.is_empty() && digits(number, 8);
    if rules.emergency.len() > 16 || !rules.emergency.iter().all(fits) {
        return Err(invalid(
            format!("{field}.emergency"),
            "is no list of at most 16 numbers of 1 to 8 digits",
        ));
    }
    Ok(())
}

/// Checks an extension of a tenant.
pub(crate) fn extension(tenant: &str, extension: &Extension) -> Result<(), Refusal> {
    let of = |field: &str| format!("extension {}/{} {field}", shown(tenant), shown(&extension.number));
    if !(1..=15).contains(&extension.number.len()) || !extension.number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid(of("number"), "is not 1 to 15 digits"));
    }
    at_most(&of("name"), &extension.name, SHOWN_NAME_MAX)?;
    if extension.name.chars().any(char::is_control) {
        return Err(invalid(of("name"), "has a control character"));
    }
    if !extension.caller_id.is_empty() {
        e164(&of("caller_id"), &extension.caller_id)?;
    }
    for (name, digest, digits) in
        [("md5", &extension.secret.md5, 32), ("sha256", &extension.secret.sha256, 64)]
    {
        let hex = digest.len() == digits && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex && !digest.is_empty() {
            return Err(invalid(
                of("password_digest"),
                format!("{name} is not {digits} lower-case hex digits"),
            ));
        }
    }
    if extension.secret == Digests::default() {
        return Err(invalid(of("password_digest"), "is missing"));
    }
    Ok(())
}

/// Checks an outside number.
pub(crate) fn number(tenant: &str, number: &NumberConfig) -> Result<(), Refusal> {
    e164(&format!("number {}/{}", shown(tenant), shown(&number.number)), &number.number)
}

fn e164(field: &str, number: &str) -> Result<(), Refusal> {
    let digits = number.strip_prefix('+').unwrap_or_default();
    if (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    Err(invalid(field, "is not E.164: '+' and 1 to 15 digits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn is_invalid(result: Result<(), Refusal>) -> bool {
        matches!(result, Err(Refusal::Invalid { .. }))
    }

    #[test]
    fn plain_values_pass() {
        assert_eq!(tenant(&fixture::tenant("acme")), Ok(()));
        assert_eq!(extension("acme", &fixture::extension("101")), Ok(()));
        let rules = DialRules {
            country: "44".into(),
            international: "00".into(),
            national: "0".into(),
            emergency: vec!["999".into(), "112".into()],
        };
        assert_eq!(tenant(&TenantConfig { dial_rules: Some(rules), ..fixture::tenant("acme") }), Ok(()));
    }

    #[test]
    fn tenants_with_odd_values_are_refused() {
        let edits: [fn(&mut TenantConfig); 11] = [
            |t| t.name.clear(),
            |t| t.name = "Acme".into(),
            |t| t.name = "a".repeat(64),
            |t| t.domain = "Acme.example".into(),
            |t| t.domain = "acme..example".into(),
            |t| t.domain = "-acme.example".into(),
            |t| t.domain = "acme example".into(),
            |t| t.timezone.clear(),
            |t| t.timezone = "Europe London".into(),
            |t| t.currency = "pounds".into(),
            |t| t.dial_rules = Some(DialRules { country: "+44".into(), ..DialRules::default() }),
        ];
        for (n, edit) in edits.into_iter().enumerate() {
            let mut odd = fixture::tenant("acme");
            edit(&mut odd);
            assert!(is_invalid(tenant(&odd)), "{n}");
        }
    }

    #[test]
    fn extensions_and_numbers_with_odd_values_are_refused() {
        let edits: [fn(&mut Extension); 7] = [
            |e| e.number.clear(),
            |e| e.number = "10a".into(),
            |e| e.number = "1".repeat(16),
            |e| e.caller_id = "0207".into(),
            |e| e.secret = Digests::default(),
            |e| e.secret.md5 = "A".repeat(32),
            |e| e.name = "a\r\nb".into(),
        ];
        for (n, edit) in edits.into_iter().enumerate() {
            let mut odd = fixture::extension("101");
            edit(&mut odd);
            assert!(is_invalid(extension("acme", &odd)), "{n}");
        }
        for odd in ["", "+", "44", "+44x", "+1234567890123456"] {
            let to = NumberTarget::Extension("101".into());
            assert!(is_invalid(number("acme", &NumberConfig { number: odd.into(), to })), "{odd}");
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_an_endless_value() {
        let odd = Extension { number: "x".repeat(100_000), ..fixture::extension("101") };
        assert!(extension("acme", &odd).unwrap_err().to_string().len() < 300);
    }
}
