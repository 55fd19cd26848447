//! `;name=value` lists and comma lists, as they stand in header values and URIs.

use memchr::{memchr, memchr2, memchr3};

/// A list of `;name=value` parameters, still as text. Cheap to copy; each look is a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a> {
    text: &'a str,
}

impl<'a> Params<'a> {
    /// The parameters in `text`; a leading `;` may be there or not.
    pub fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// The list as it was written.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.text.bytes().all(|b| b == b';' || b.is_ascii_whitespace())
    }

    /// The value of the first parameter of that name (compared without case), `""` for one without a value;
    /// quotes around a value are taken off, escapes inside it stay.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.unwrap_or(""))
    }

    /// True when a parameter of that name is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All parameters in order: name, and the value where there is one (without quotes).
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        Split::new(self.text, b';').filter_map(|item| {
            let (name, value) = match item.split_once('=') {
                Some((name, value)) => (name.trim(), Some(unquote(value.trim()))),
                None => (item, None),
            };
            (!name.is_empty()).then_some((name, value))
        })
    }
}

/// Takes the quotes off a quoted string; anything else comes back as it is.
pub(crate) fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// Splits at a separator outside of quotes and angle brackets; items are trimmed, empty ones left out.
#[derive(Clone, Debug)]
pub struct Split<'a> {
    rest: &'a str,
    separator: u8,
}

impl<'a> Split<'a> {
    /// Splits `text` at the ASCII byte `separator`.
    pub fn new(text: &'a str, separator: u8) -> Self {
        Self { rest: text, separator }
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        while !self.rest.is_empty() {
            let end = find_outside(self.rest, self.separator);
            let (item, rest) = match end {
                Some(at) => (self.rest.get(..at)?, self.rest.get(at.saturating_add(1)..)?),
                None => (self.rest, ""),
            };
            self.rest = rest;
            let item = item.trim();
            if !item.is_empty() {
                return Some(item);
            }
        }
        None
    }
}

/// Where `wanted` first stands outside of quotes and angle brackets.
pub(crate) fn find_outside(text: &str, wanted: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0_usize;
    loop {
        let hit = at.saturating_add(memchr3(wanted, b'"', b'<', bytes.get(at..)?)?);
        let after = hit.saturating_add(1);
        let inside = bytes.get(after..)?;
        let skipped = match bytes.get(hit)? {
            b'"' if wanted != b'"' => closing_quote(inside)?,
            b'<' if wanted != b'<' => memchr(b'>', inside)?,
            _ => return Some(hit),
        };
        at = after.saturating_add(skipped).saturating_add(1);
    }
}

/// Where the quoted string ends that `inside` is the rest of.
pub(crate) fn closing_quote(inside: &[u8]) -> Option<usize> {
    let mut at = 0_usize;
    loop {
        let hit = at.saturating_add(memchr2(b'"', b'\\', inside.get(at..)?)?);
        match inside.get(hit)? {
            b'"' => return Some(hit),
            _ => at = hit.saturating_add(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_inside_quotes_and_brackets_do_not_split() {
        let items: Vec<_> = Split::new(r#""a, \"b," <sip:x,y@h>;q=1 , , <sip:z>"#, b',').collect();
        assert_eq!(items, [r#""a, \"b," <sip:x,y@h>;q=1"#, "<sip:z>"]);
    }

    #[test]
    fn parameters_keep_their_order_and_lose_their_quotes() {
        let params = Params::new(r#";+sip.instance="<urn:uuid:1;2>";lr; expires = 60;Q=0.5"#);
        let all: Vec<_> = params.iter().collect();
        assert_eq!(
            all,
            [
                ("+sip.instance", Some("<urn:uuid:1;2>")),
                ("lr", None),
                ("expires", Some("60")),
                ("Q", Some("0.5"))
            ]
        );
        assert_eq!(params.get("q"), Some("0.5"));
        assert!(params.has("LR"));
        assert!(!params.has("ob"));
    }
}
