//! SIP, SIPS and tel URIs (RFC 3261 section 19.1, RFC 3966): parsing, escaping, comparison.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::params::Params;

/// Longest URI that is parsed, in bytes.
pub const URI_MAX: usize = 2048;

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`: the number is the user, and there is no host.
    Tel,
}

/// A parsed URI, borrowed from its text. Escapes stay until a method resolves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The scheme.
    pub scheme: Scheme,
    /// The user part as written (for `tel` the number), with its own `;` parameters if it has some.
    pub user: Option<&'a str>,
    /// The password, which RFC 3261 advises against.
    pub password: Option<&'a str>,
    /// Name, IPv4, or IPv6 in brackets; empty for `tel`.
    pub host: &'a str,
    /// The port, when written.
    pub port: Option<u16>,
    /// The URI parameters.
    pub params: Params<'a>,
    /// What follows `?`, as written.
    pub headers: &'a str,
}

/// Why a text is no URI that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Longer than [`URI_MAX`].
    #[error("URI too long")]
    TooLong,
    /// Another scheme than sip, sips, tel: answered by 416.
    #[error("unknown URI scheme")]
    Scheme,
    /// A character that can't stand in a URI, or a broken escape.
    #[error("bad character in URI")]
    Character,
    /// No host, or a broken one.
    #[error("bad host in URI")]
    Host,
    /// A `tel` number that is none.
    #[error("bad number in URI")]
    Number,
}

impl<'a> Uri<'a> {
    /// Parses a URI without angle brackets.
    pub fn parse(text: &'a str) -> Result<Self, UriError> {
        if text.len() > URI_MAX {
            return Err(UriError::TooLong);
        }
        let (scheme, rest) = text.split_once(':').ok_or(UriError::Scheme)?;
        let scheme = scheme_of(scheme).ok_or(UriError::Scheme)?;
        if rest.bytes().any(|b| b <= b' ' || b == 0x7f || matches!(b, b'<' | b'>' | b'"'))
            || !escapes_hold(rest)
        {
            return Err(UriError::Character);
        }
        match scheme {
            Scheme::Tel => Self::tel(rest),
            Scheme::Sip | Scheme::Sips => Self::sip(scheme, rest),
        }
    }

    fn tel(rest: &'a str) -> Result<Self, UriError> {
        let (number, params) = split_at(rest, ';');
        let digits = number.strip_prefix('+').unwrap_or(number);
        let valid = |b: u8| b.is_ascii_hexdigit() || b"-.()*#".contains(&b);
        if digits.is_empty() || !digits.bytes().all(valid) {
            return Err(UriError::Number);
        }
        let params = Params::new(params);
        let user = Some(number);
        Ok(Self { scheme: Scheme::Tel, user, password: None, host: "", port: None, params, headers: "" })
    }

    fn sip(scheme: Scheme, rest: &'a str) -> Result<Self, UriError> {
        let (userinfo, rest) = match rest.split_once('@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, rest),
        };
        let (user, password) = match userinfo.map(|u| u.split_once(':').unwrap_or((u, ""))) {
            Some((user, "")) => (Some(user), None),
            Some((user, password)) => (Some(user), Some(password)),
            None => (None, None),
        };
        if user == Some("") {
            return Err(UriError::Host);
        }
        let (rest, headers) = split_at(rest, '?');
        let (host, params) = split_at(rest, ';');
        let (host, port) = host_port(host).ok_or(UriError::Host)?;
        let headers = headers.strip_prefix('?').unwrap_or(headers);
        Ok(Self { scheme, user, password, host, port, params: Params::new(params), headers })
    }

    /// The user with escapes resolved.
    pub fn user_text(&self) -> Option<Cow<'a, str>> {
        self.user.map(unescape)
    }

    /// The user before its own parameters (`+1234` of `+1234;phone-context=x`), escapes resolved: what is dialled.
    pub fn number(&self) -> Option<Cow<'a, str>> {
        self.user.map(|user| unescape(split_at(user, ';').0))
    }

    /// A URI parameter's value, `""` when it has none.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.get(name)
    }

    /// The `transport` parameter.
    pub fn transport(&self) -> Option<&'a str> {
        self.param("transport")
    }

    /// True for a loose router's URI (RFC 3261 section 16.12).
    pub fn is_loose_router(&self) -> bool {
        self.params.has("lr")
    }

    /// The host as an address, when it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        unbracketed(self.host).parse().ok()
    }

    /// RFC 3261 section 19.1.4: are these two the same address?
    pub fn is_same(&self, other: &Uri<'_>) -> bool {
        self.scheme == other.scheme
            && same_opt(self.user, other.user)
            && same_opt(self.password, other.password)
            && self.is_same_host(other)
            && self.port == other.port
            && same_params(self, other)
            && same_headers(self.headers, other.headers)
    }

    fn is_same_host(&self, other: &Uri<'_>) -> bool {
        self.host.eq_ignore_ascii_case(other.host) || (self.ip().is_some() && self.ip() == other.ip())
    }
}

impl fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            Scheme::Sip => "sip:",
            Scheme::Sips => "sips:",
            Scheme::Tel => "tel:",
        })?;
        if let Some(user) = self.user {
            f.write_str(user)?;
            if let Some(password) = self.password {
                write!(f, ":{password}")?;
            }
            if self.scheme != Scheme::Tel {
                f.write_str("@")?;
            }
        }
        f.write_str(self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        for (name, value) in self.params.iter() {
            write!(f, ";{name}")?;
            if let Some(value) = value {
                write!(f, "={value}")?;
            }
        }
        if self.headers.is_empty() { Ok(()) } else { write!(f, "?{}", self.headers) }
    }
}

/// Writes `sip:user@host:port`; the user is escaped, an IPv6 host gets its brackets.
pub fn sip_uri(user: Option<&str>, host: &str, port: Option<u16>) -> String {
    let user = user.map(|u| format!("{}@", escape_user(u))).unwrap_or_default();
    let port = port.map(|p| format!(":{p}")).unwrap_or_default();
    match host.parse::<Ipv6Addr>() {
        Ok(ip) => format!("sip:{user}[{ip}]{port}"),
        Err(_) => format!("sip:{user}{host}{port}"),
    }
}

/// Escapes what can't stand in a user part (RFC 3261 section 25.1).
pub fn escape_user(user: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&b);
    if user.bytes().all(plain) {
        return Cow::Borrowed(user);
    }
    let mut escaped = String::with_capacity(user.len().saturating_mul(3));
    for byte in user.bytes() {
        if plain(byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(escaped)
}

/// Resolves `%41` escapes; a text that would not be UTF-8 afterwards stays as it is.
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = after;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// `host`, `host:port`, `[v6]:port`; white space around the colon is allowed in a Via.
pub(crate) fn host_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?.checked_add(2)?;
            text.split_at_checked(end)?
        }
        None => text.split_at_checked(text.find(':').unwrap_or(text.len()))?,
    };
    let host = host.trim();
    let port = match port.trim() {
        "" => None,
        port => Some(number(port.strip_prefix(':')?.trim())?),
    };
    is_host(host).then_some((host, port))
}

/// The host without the brackets of IPv6.
pub(crate) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

fn is_host(host: &str) -> bool {
    if host.starts_with('[') {
        return unbracketed(host).parse::<Ipv6Addr>().is_ok();
    }
    !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

fn number(port: &str) -> Option<u16> {
    if port.bytes().all(|b| b.is_ascii_digit()) { port.parse().ok() } else { None }
}

fn scheme_of(text: &str) -> Option<Scheme> {
    [("sip", Scheme::Sip), ("sips", Scheme::Sips), ("tel", Scheme::Tel)]
        .into_iter()
        .find_map(|(name, scheme)| text.eq_ignore_ascii_case(name).then_some(scheme))
}

/// The part before `separator`, and the part from it on.
fn split_at(text: &str, separator: char) -> (&str, &str) {
    text.split_at_checked(text.find(separator).unwrap_or(text.len())).unwrap_or((text, ""))
}

fn escapes_hold(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let mut two = after.bytes().take(2);
        two.next().and_then(hex).is_some() && two.next().and_then(hex).is_some()
    })
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(byte.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

fn same_opt(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || unescape(a) == unescape(b),
        (None, None) => true,
        _ => false,
    }
}

/// A parameter in both must agree; `user`, `ttl`, `method`, `maddr` and `transport` must be in both or in neither.
fn same_params(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    let telling = ["user", "ttl", "method", "maddr", "transport"];
    let agrees = |name: &str, one: &Uri<'_>, other: &Uri<'_>| match (one.param(name), other.param(name)) {
        (Some(here), Some(there)) => unescape(there).eq_ignore_ascii_case(&unescape(here)),
        _ => !telling.iter().any(|t| t.eq_ignore_ascii_case(name)),
    };
    a.params.iter().all(|(name, _)| agrees(name, a, b)) && b.params.iter().all(|(name, _)| agrees(name, b, a))
}

fn same_headers(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let sorted = |text: &str| {
        let mut all: Vec<String> = text.split('&').map(|h| unescape(h).to_ascii_lowercase()).collect();
        all.sort_unstable();
        all
    };
    sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        Uri::parse(a).unwrap().is_same(&Uri::parse(b).unwrap())
    }

    #[test]
    fn every_part_is_found() {
        let uri = Uri::parse("SIP:j%40s;x=1:pw@[2001:db8::1]:5070;transport=tcp;lr?subject=a&b=c").unwrap();
        assert_eq!((uri.scheme, uri.user, uri.password), (Scheme::Sip, Some("j%40s;x=1"), Some("pw")));
        assert_eq!((uri.host, uri.port, uri.transport()), ("[2001:db8::1]", Some(5070), Some("tcp")));
        assert_eq!((uri.headers, uri.is_loose_router()), ("subject=a&b=c", true));
        assert_eq!(uri.number().as_deref(), Some("j@s"));
        assert_eq!(uri.to_string(), "sip:j%40s;x=1:pw@[2001:db8::1]:5070;transport=tcp;lr?subject=a&b=c");
    }

    #[test]
    fn tel_numbers_are_read() {
        let uri = Uri::parse("tel:+1-201-555-0123;phone-context=x").unwrap();
        assert_eq!((uri.user, uri.param("phone-context")), (Some("+1-201-555-0123"), Some("x")));
        assert_eq!(uri.to_string(), "tel:+1-201-555-0123;phone-context=x");
        assert_eq!(Uri::parse("tel:bob"), Err(UriError::Number));
    }

    #[test]
    fn broken_uris_say_why() {
        assert_eq!(Uri::parse("http://a"), Err(UriError::Scheme));
        assert_eq!(Uri::parse("sip"), Err(UriError::Scheme));
        assert_eq!(Uri::parse("sip:a b@c"), Err(UriError::Character));
        assert_eq!(Uri::parse("sip:a%4@c"), Err(UriError::Character));
        for text in [
            "sip:",
            "sip:@h",
            "sip:a@",
            "sip:a@b@c",
            "sip:a@h:99999",
            "sip:a@[::1",
            "sip:a@h:1:2",
            "sip:a@h:+1",
        ] {
            assert_eq!(Uri::parse(text), Err(UriError::Host), "{text}");
        }
    }

    #[test]
    fn the_examples_of_rfc_3261_compare_as_it_says() {
        assert!(same("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"));
        assert!(same("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"));
        assert!(same("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"));
        assert!(same(
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x"
        ));
        assert!(!same("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"));
        assert!(!same("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"));
        assert!(!same("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"));
        assert!(same("sip:a@[::1]", "sip:a@[0:0::1]"));
    }

    #[test]
    fn a_user_survives_escaping() {
        assert_eq!(sip_uri(Some("a b@c"), "::1", Some(5060)), "sip:a%20b%40c@[::1]:5060");
        assert_eq!(unescape(&escape_user("żółw %x")), "żółw %x");
        assert_eq!(unescape("%ff%zz"), "%ff%zz");
    }
}
