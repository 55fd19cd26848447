//! A SIP message as the load phones see it: start line, headers in order, body. Plain strings, written apart from the
//! switch's own scanner so that the two can't share a fault. Tolerant of what it reads, strict in what it writes.

use std::fmt::Write as _;

/// A request or response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The request line or status line, without its line end.
    pub start: String,
    /// Name and value, in the order of the wire, names as they came.
    pub headers: Vec<(String, String)>,
    /// Session description or other content.
    pub body: String,
}

const COMPACT: [(&str, &str); 10] = [
    ("v", "Via"),
    ("f", "From"),
    ("t", "To"),
    ("i", "Call-ID"),
    ("m", "Contact"),
    ("l", "Content-Length"),
    ("c", "Content-Type"),
    ("e", "Content-Encoding"),
    ("s", "Subject"),
    ("k", "Supported"),
];

impl Message {
    /// A request without headers.
    pub fn request(method: &str, uri: &str) -> Self {
        Message { start: format!("{method} {uri} SIP/2.0"), ..Message::default() }
    }

    /// A response that copies what RFC 3261 section 8.2.6 says; `tag` is added to To when it has none.
    pub fn response(request: &Message, status: u16, reason: &str, tag: &str) -> Self {
        let mut response = Message { start: format!("SIP/2.0 {status} {reason}"), ..Message::default() };
        for (name, value) in &request.headers {
            match full_name(name) {
                "Via" | "Record-Route" | "From" | "Call-ID" | "CSeq" => response.add(full_name(name), value),
                "To" if status > 100 && tag_of(value).is_none() => {
                    response.add("To", &format!("{value};tag={tag}"));
                }
                "To" => response.add("To", value),
                _ => {}
            }
        }
        response
    }

    /// Reads one datagram; `None` when it is not SIP.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(datagram).ok()?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines = head.trim_start().split("\r\n");
        let start = lines.next()?.to_owned();
        if !start.contains("SIP/2.0") {
            return None;
        }
        let mut headers: Vec<(String, String)> = Vec::with_capacity(16);
        for line in lines {
            match (line.starts_with([' ', '\t']), headers.last_mut()) {
                (true, Some((_, value))) => {
                    value.push(' ');
                    value.push_str(line.trim());
                }
                _ => {
                    let (name, value) = line.split_once(':')?;
                    headers.push((name.trim().to_owned(), value.trim().to_owned()));
                }
            }
        }
        Some(Message { start, headers, body: body.to_owned() })
    }

    /// Adds a header at the end.
    pub fn add(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// The same message with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.add(name, value);
        self
    }

    /// The same message with a session description.
    #[must_use]
    pub fn with_sdp(mut self, sdp: &str) -> Self {
        if !sdp.is_empty() {
            self.add("Content-Type", "application/sdp");
        }
        sdp.clone_into(&mut self.body);
        self
    }

    /// The first value of a header; `name` is the full name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| full_name(n).eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Every value of a header, lines with several not split.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.headers
            .iter()
            .filter(move |(n, _)| full_name(n).eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// The values of Route or Record-Route, one URI each, in order.
    pub fn routes(&self, name: &str) -> Vec<String> {
        self.all(name).flat_map(|line| line.split(',')).map(|route| route.trim().to_owned()).collect()
    }

    /// The status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request.
    pub fn method(&self) -> Option<&str> {
        if self.status().is_some() { None } else { self.start.split(' ').next() }
    }

    /// The Request-URI of a request.
    pub fn uri(&self) -> Option<&str> {
        if self.status().is_some() { None } else { self.start.split(' ').nth(1) }
    }

    /// Number and method of CSeq.
    pub fn cseq(&self) -> Option<(u32, &str)> {
        let (number, method) = self.get("CSeq")?.split_once(' ')?;
        Some((number.trim().parse().ok()?, method.trim()))
    }

    /// The branch of the topmost Via.
    pub fn branch(&self) -> Option<&str> {
        param(self.get("Via")?, "branch")
    }

    /// The bytes to send, Content-Length included.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::with_capacity(600 + self.body.len());
        text.push_str(&self.start);
        text.push_str("\r\n");
        for (name, value) in &self.headers {
            if full_name(name) != "Content-Length" {
                text.push_str(name);
                text.push_str(": ");
                text.push_str(value);
                text.push_str("\r\n");
            }
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n", self.body.len());
        text.push_str(&self.body);
        text.into_bytes()
    }
}

fn full_name(name: &str) -> &str {
    if name.len() != 1 {
        return name;
    }
    COMPACT.iter().find(|(short, _)| short.eq_ignore_ascii_case(name)).map_or(name, |(_, full)| full)
}

/// The URI of a name-addr or addr-spec.
pub fn uri_of(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest),
        None => value.split(';').next().unwrap_or(value).trim(),
    }
}

/// The user part of a URI.
pub fn user_of(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    rest.split_once('@').map_or("", |(user, _)| user)
}

/// Host and port of a URI; 5060 when it names none, `None` when the host is not an IPv4 address.
pub fn address_of(uri: &str) -> Option<std::net::SocketAddrV4> {
    let uri = uri_of(uri);
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host).split([';', '?']).next()?;
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    Some(std::net::SocketAddrV4::new(host.parse().ok()?, 5060))
}

/// A header parameter, after the URI.
pub fn param<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let after = value.rsplit_once('>').map_or(value, |(_, after)| after);
    after.split(';').skip(1).find_map(|pair| {
        let (key, text) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then_some(text.trim())
    })
}

/// The tag of From or To.
pub fn tag_of(value: &str) -> Option<&str> {
    match value.rsplit_once('>') {
        Some((_, after)) => after.split(';').find_map(|p| p.trim().strip_prefix("tag=")),
        None => value.split(';').find_map(|p| p.trim().strip_prefix("tag=")),
    }
}

/// A session description that offers or answers G.711 at this address.
pub fn audio_sdp(address: std::net::SocketAddrV4, version: u32, direction: &str) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "v=0\r\no=- 3 {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
         a=ptime:20\r\na={direction}\r\n"
    )
}

/// Where a session description wants its audio.
pub fn audio_address(sdp: &str) -> Option<std::net::SocketAddrV4> {
    let mut ip = None;
    let mut port = None;
    for line in sdp.lines() {
        if let Some(text) = line.strip_prefix("c=IN IP4 ") {
            ip = text.trim().parse().ok();
        } else if let Some(text) = line.strip_prefix("m=audio ") {
            port = text.split(' ').next().and_then(|p| p.parse().ok());
        }
    }
    Some(std::net::SocketAddrV4::new(ip?, port?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] =
        b"INVITE sip:102@acme.example SIP/2.0\r\nv: SIP/2.0/UDP 127.0.0.9:5060;branch=z9hG4bK7\r\n\
        f: \"A; B\" <sip:101@acme.example;user=phone>;tag=a1\r\nTo: <sip:102@acme.example>\r\ni: c1\r\n\
        CSeq: 7 INVITE\r\nSubject: one\r\n two\r\nl: 0\r\n\r\n";

    #[test]
    fn a_message_with_short_and_folded_headers_is_read() {
        let message = Message::parse(INVITE).unwrap();
        assert_eq!(message.method(), Some("INVITE"));
        assert_eq!(message.uri(), Some("sip:102@acme.example"));
        assert_eq!(message.branch(), Some("z9hG4bK7"));
        assert_eq!(message.get("Call-ID"), Some("c1"));
        assert_eq!(message.cseq(), Some((7, "INVITE")));
        assert_eq!(message.get("Subject"), Some("one two"));
        assert_eq!(tag_of(message.get("From").unwrap()), Some("a1"));
        assert_eq!(uri_of(message.get("From").unwrap()), "sip:101@acme.example;user=phone");
        assert_eq!(user_of("sip:101@acme.example;user=phone"), "101");
    }

    #[test]
    fn a_response_copies_what_it_must_and_tags_to() {
        let response = Message::response(&Message::parse(INVITE).unwrap(), 180, "Ringing", "b2");
        let again = Message::parse(&response.to_bytes()).unwrap();
        assert_eq!(again.status(), Some(180));
        assert_eq!(again.method(), None);
        assert_eq!(tag_of(again.get("To").unwrap()), Some("b2"));
        assert_eq!(again.cseq(), Some((7, "INVITE")));
    }

    #[test]
    fn addresses_come_from_uris_and_descriptions() {
        assert_eq!(address_of("<sip:x@127.0.0.9:5080;transport=udp>"), "127.0.0.9:5080".parse().ok());
        assert_eq!(address_of("sip:127.0.0.9"), "127.0.0.9:5060".parse().ok());
        let sdp = audio_sdp("127.0.0.7:4000".parse().unwrap(), 1, "sendrecv");
        assert_eq!(audio_address(&sdp), "127.0.0.7:4000".parse().ok());
    }

    #[test]
    fn what_is_not_sip_is_nothing() {
        assert_eq!(Message::parse(b"GET / HTTP/1.1\r\n\r\n"), None);
        assert_eq!(Message::parse(&[0xff, 0xfe]), None);
    }
}
