//! Header field names: the ones a switch looks at as an enum, the rest as text.
//!
//! Names compare without case, and the compact forms of RFC 3261 section 7.3.3 are the same names.

use std::fmt;

/// Longest known name, in bytes; a longer one is `Other` without a look at the table.
const KNOWN_MAX: usize = 32;

macro_rules! headers {
    ($($variant:ident = $name:literal : $($lower:literal)|+ ;)*) => {
        /// The name of a header field. `"x-any".into()` gives the known name, or `Other`.
        #[derive(Clone, Copy, Debug)]
        pub enum Header<'a> {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// Any other name, as it was written.
            Other(&'a str),
        }

        /// The same names without the text of `Other`: one byte in each scanned line.
        #[allow(clippy::enum_variant_names)] // CallId is a name, not a stutter
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Id { $($variant,)* Other }

        impl<'a> Header<'a> {
            /// The name as it is written on the wire (long form).
            pub fn as_str(&self) -> &'a str {
                match self { $(Self::$variant => $name,)* Self::Other(name) => name }
            }

            pub(crate) fn id(&self) -> Id {
                match self { $(Self::$variant => Id::$variant,)* Self::Other(_) => Id::Other }
            }

            pub(crate) fn from_id(id: Id, name: &'a str) -> Self {
                match id { $(Id::$variant => Self::$variant,)* Id::Other => Self::Other(name) }
            }
        }

        impl Id {
            fn of_lower(name: &[u8]) -> Self {
                match name { $($($lower)|+ => Self::$variant,)* _ => Self::Other }
            }
        }
    };
}

headers! {
    Accept = "Accept": b"accept";
    AlertInfo = "Alert-Info": b"alert-info";
    Allow = "Allow": b"allow";
    AllowEvents = "Allow-Events": b"allow-events" | b"u";
    AuthenticationInfo = "Authentication-Info": b"authentication-info";
    Authorization = "Authorization": b"authorization";
    CallId = "Call-ID": b"call-id" | b"i";
    CallInfo = "Call-Info": b"call-info";
    Contact = "Contact": b"contact" | b"m";
    ContentDisposition = "Content-Disposition": b"content-disposition";
    ContentEncoding = "Content-Encoding": b"content-encoding" | b"e";
    ContentLength = "Content-Length": b"content-length" | b"l";
    ContentType = "Content-Type": b"content-type" | b"c";
    CSeq = "CSeq": b"cseq";
    Date = "Date": b"date";
    Diversion = "Diversion": b"diversion";
    Event = "Event": b"event" | b"o";
    Expires = "Expires": b"expires";
    From = "From": b"from" | b"f";
    HistoryInfo = "History-Info": b"history-info";
    MaxForwards = "Max-Forwards": b"max-forwards";
    MinExpires = "Min-Expires": b"min-expires";
    MinSe = "Min-SE": b"min-se";
    PAssertedIdentity = "P-Asserted-Identity": b"p-asserted-identity";
    PPreferredIdentity = "P-Preferred-Identity": b"p-preferred-identity";
    Path = "Path": b"path";
    Privacy = "Privacy": b"privacy";
    ProxyAuthenticate = "Proxy-Authenticate": b"proxy-authenticate";
    ProxyAuthorization = "Proxy-Authorization": b"proxy-authorization";
    ProxyRequire = "Proxy-Require": b"proxy-require";
    RAck = "RAck": b"rack";
    Reason = "Reason": b"reason";
    RecordRoute = "Record-Route": b"record-route";
    ReferTo = "Refer-To": b"refer-to" | b"r";
    ReferredBy = "Referred-By": b"referred-by" | b"b";
    Replaces = "Replaces": b"replaces";
    Require = "Require": b"require";
    RetryAfter = "Retry-After": b"retry-after";
    Route = "Route": b"route";
    RSeq = "RSeq": b"rseq";
    Server = "Server": b"server";
    ServiceRoute = "Service-Route": b"service-route";
    SessionExpires = "Session-Expires": b"session-expires" | b"x";
    SubscriptionState = "Subscription-State": b"subscription-state";
    Subject = "Subject": b"subject" | b"s";
    Supported = "Supported": b"supported" | b"k";
    Timestamp = "Timestamp": b"timestamp";
    To = "To": b"to" | b"t";
    Unsupported = "Unsupported": b"unsupported";
    UserAgent = "User-Agent": b"user-agent";
    Via = "Via": b"via" | b"v";
    Warning = "Warning": b"warning";
    WwwAuthenticate = "WWW-Authenticate": b"www-authenticate";
}

impl Id {
    pub(crate) fn parse(name: &[u8]) -> Self {
        let mut lower = [0u8; KNOWN_MAX];
        let Some(room) = lower.get_mut(..name.len()) else { return Self::Other };
        room.copy_from_slice(name);
        room.make_ascii_lowercase();
        Self::of_lower(room)
    }
}

impl<'a> From<&'a str> for Header<'a> {
    fn from(name: &'a str) -> Self {
        Self::from_id(Id::parse(name.as_bytes()), name)
    }
}

impl PartialEq for Header<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id() && self.as_str().eq_ignore_ascii_case(other.as_str())
    }
}

impl Eq for Header<'_> {}

impl fmt::Display for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_compact_forms_are_the_same_name() {
        assert_eq!(Header::from("i"), Header::CallId);
        assert_eq!(Header::from("cALL-iD"), Header::CallId);
        assert_eq!(Header::from("X-Own"), Header::Other("x-own"));
        assert_ne!(Header::from("X-Own"), Header::Other("x-owm"));
    }
}
