//! `"Display" <uri>;params`: the value of From, To, Contact, Route and their kin (RFC 3261 section 20.10).

use std::borrow::Cow;
use std::fmt;

use crate::params::{Params, closing_quote, find_outside};
use crate::uri::{Uri, UriError};

/// An address with an optional display name and header parameters, borrowed from its header value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The display name without its quotes (escapes stay; see [`NameAddr::display_text`]); empty when absent.
    pub display: &'a str,
    /// The URI without angle brackets.
    pub uri: &'a str,
    /// The header parameters.
    pub params: Params<'a>,
}

/// Why a value is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address")]
pub struct NameAddrError;

impl<'a> NameAddr<'a> {
    /// Parses one value of a From-like header.
    pub fn parse(value: &'a str) -> Result<Self, NameAddrError> {
        let value = value.trim();
        match value.as_bytes().first() {
            Some(b'"') => Self::quoted(value),
            Some(_) => match value.split_once('<') {
                Some((display, rest)) if !display.contains(';') => {
                    if display.contains('"') || display.contains(',') {
                        return Err(NameAddrError);
                    }
                    Self::bracketed(display.trim(), rest)
                }
                _ => Self::bare(value),
            },
            None => Err(NameAddrError),
        }
    }

    fn quoted(value: &'a str) -> Result<Self, NameAddrError> {
        let inner = value.get(1..).ok_or(NameAddrError)?;
        let end = closing_quote(inner.as_bytes()).ok_or(NameAddrError)?;
        let display = inner.get(..end).ok_or(NameAddrError)?;
        let rest = inner.get(end.saturating_add(1)..).ok_or(NameAddrError)?.trim_start();
        Self::bracketed(display, rest.strip_prefix('<').ok_or(NameAddrError)?)
    }

    fn bracketed(display: &'a str, rest: &'a str) -> Result<Self, NameAddrError> {
        let (uri, params) = rest.split_once('>').ok_or(NameAddrError)?;
        let params = params.trim();
        if !(params.is_empty() || params.starts_with(';')) {
            return Err(NameAddrError);
        }
        Self::checked(display, uri.trim(), params)
    }

    /// Without brackets every `;` belongs to the header, not to the URI (RFC 3261 section 20.10).
    fn bare(value: &'a str) -> Result<Self, NameAddrError> {
        let end = find_outside(value, b';').unwrap_or(value.len());
        let (uri, params) = value.split_at_checked(end).ok_or(NameAddrError)?;
        Self::checked("", uri.trim(), params)
    }

    fn checked(display: &'a str, uri: &'a str, params: &'a str) -> Result<Self, NameAddrError> {
        let known =
            uri.contains(':') && !uri.bytes().any(|b| b.is_ascii_whitespace() || b == b'<' || b == b'"');
        let params = Params::new(params);
        if known { Ok(Self { display, uri, params }) } else { Err(NameAddrError) }
    }

    /// The `tag` parameter; an empty one counts as absent.
    pub fn tag(&self) -> Option<&'a str> {
        self.params.get("tag").filter(|tag| !tag.is_empty())
    }

    /// A header parameter's value, `""` when it has none.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.get(name)
    }

    /// The `expires` parameter of a Contact, in seconds; a value out of range counts as the largest.
    pub fn expires(&self) -> Option<u32> {
        self.param("expires").and_then(seconds)
    }

    /// The `q` parameter of a Contact in thousandths, 1000 when it is absent or wrong.
    pub fn q_thousandths(&self) -> u16 {
        self.param("q").and_then(thousandths).unwrap_or(1000)
    }

    /// The display name with its escapes resolved.
    pub fn display_text(&self) -> Cow<'a, str> {
        if !self.display.contains('\\') {
            return Cow::Borrowed(self.display);
        }
        let mut text = String::with_capacity(self.display.len());
        let mut chars = self.display.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => text.extend(chars.next()),
                _ => text.push(c),
            }
        }
        Cow::Owned(text)
    }

    /// The URI, parsed.
    pub fn parse_uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }
}

impl fmt::Display for NameAddr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.display.is_empty() {
            write!(f, "\"{}\" ", self.display)?;
        }
        write!(f, "<{}>", self.uri)?;
        match self.params.as_str() {
            "" => Ok(()),
            params if params.starts_with(';') => f.write_str(params),
            params => write!(f, ";{params}"),
        }
    }
}

/// Escapes a display name for use between quotes; control characters are left out.
pub fn quote_display(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len().saturating_add(2));
    for c in name.chars().filter(|c| !c.is_control()) {
        if c == '"' || c == '\\' {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

/// Delta seconds: digits only; what does not fit 32 bits is the largest value (RFC 4475 section 3.1.2.4).
pub(crate) fn seconds(text: &str) -> Option<u32> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}

fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: u16 = whole.parse().ok()?;
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    Some(whole.checked_mul(1000)?.checked_add(part)?.min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> (String, &str, &str) {
        let addr = NameAddr::parse(value).unwrap();
        (addr.display_text().into_owned(), addr.uri, addr.params.as_str())
    }

    #[test]
    fn all_the_usual_forms_are_read() {
        assert_eq!(parsed("<sip:a@b>;tag=1"), (String::new(), "sip:a@b", ";tag=1"));
        assert_eq!(parsed("sip:a@b;tag=1"), (String::new(), "sip:a@b", ";tag=1"));
        assert_eq!(parsed("Bob  Smith <sip:a@b;lr>"), ("Bob  Smith".into(), "sip:a@b;lr", ""));
        assert_eq!(parsed(r#""J \"<;,> R\\" <sip:a@b>"#), (r#"J "<;,> R\"#.into(), "sip:a@b", ""));
        assert_eq!(parsed("\"\"<sip:a@b> ; tag = x").1, "sip:a@b");
        assert_eq!(NameAddr::parse("\"\"<sip:a@b> ; tag = x").unwrap().tag(), Some("x"));
        assert_eq!(
            NameAddr::parse("sip:a@b;+sip.instance=\"<urn:uuid:1>\"").unwrap().param("+sip.instance"),
            Some("<urn:uuid:1>")
        );
    }

    #[test]
    fn broken_forms_are_refused() {
        for value in ["", "\"a <sip:a@b>", "<sip:a@b", "\"a\" sip:a@b", "nothing", "<sip:a b>", "<sip:a@b> x"]
        {
            assert_eq!(NameAddr::parse(value), Err(NameAddrError), "{value}");
        }
    }

    #[test]
    fn contact_numbers_are_bounded() {
        let contact = NameAddr::parse("<sip:a@b>;expires=99999999999999;q=0.25").unwrap();
        assert_eq!(contact.expires(), Some(u32::MAX));
        assert_eq!(contact.q_thousandths(), 250);
        assert_eq!(NameAddr::parse("<sip:a@b>;q=7").unwrap().q_thousandths(), 1000);
        assert_eq!(NameAddr::parse("<sip:a@b>;expires=x").unwrap().expires(), None);
    }

    #[test]
    fn a_display_name_survives_quoting() {
        let value = format!("\"{}\" <sip:a@b>", quote_display("Ann \"\\\r\n X"));
        assert_eq!(NameAddr::parse(&value).unwrap().display_text(), "Ann \"\\ X");
    }
}
