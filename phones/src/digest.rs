//! The answer to a digest challenge: RFC 2617 and RFC 8760, MD5 and SHA-256, with and without `qop=auth`.

use crate::message::Message;
use md5::Md5;
use sha2::{Digest as _, Sha256};

/// Who a phone says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name in the challenge's realm.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// Which challenge to answer when there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// The first one that we know, as RFC 8760 section 2.4 asks.
    First,
    /// Only MD5, as an old phone.
    Md5,
    /// Only SHA-256.
    Sha256,
}

/// One challenge, and how often its nonce was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    header: &'static str,
    algorithm: Algorithm,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    qop: bool,
    count: u32,
}

impl Challenge {
    /// Reads the challenge of a 401 or 407.
    pub fn of(response: &Message, wanted: Algorithm) -> Option<Challenge> {
        let (name, header) = match response.status()? {
            401 => ("WWW-Authenticate", "Authorization"),
            407 => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => return None,
        };
        response
            .all(name)
            .filter_map(|line| Challenge::read(line, header))
            .find(|challenge| wanted == Algorithm::First || wanted == challenge.algorithm)
    }

    fn read(line: &str, header: &'static str) -> Option<Challenge> {
        let fields = fields(line.trim().strip_prefix("Digest ")?);
        let get =
            |name: &str| fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
        let algorithm = match get("algorithm").unwrap_or_default().to_ascii_uppercase().as_str() {
            "" | "MD5" => Algorithm::Md5,
            "SHA-256" => Algorithm::Sha256,
            _ => return None,
        };
        let qop = get("qop").is_some_and(|list| list.split(',').any(|q| q.trim() == "auth"));
        Some(Challenge {
            header,
            algorithm,
            realm: get("realm")?,
            nonce: get("nonce")?,
            opaque: get("opaque"),
            qop,
            count: 0,
        })
    }

    /// The header, name and value, that answers the challenge for this request; each call is one use of the nonce.
    pub fn answer(&mut self, who: &Credentials, method: &str, uri: &str) -> (&'static str, String) {
        self.count += 1;
        let ha1 = self.hash(&format!("{}:{}:{}", who.user, self.realm, who.password));
        let ha2 = self.hash(&format!("{method}:{uri}"));
        let (nonce, count, cnonce) = (&self.nonce, self.count, "6f2d9a41");
        let response = if self.qop {
            self.hash(&format!("{ha1}:{nonce}:{count:08x}:{cnonce}:auth:{ha2}"))
        } else {
            self.hash(&format!("{ha1}:{nonce}:{ha2}"))
        };
        let name = if self.algorithm == Algorithm::Sha256 { "SHA-256" } else { "MD5" };
        let mut value = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", algorithm={name}",
            who.user, self.realm
        );
        if self.qop {
            value.push_str(&format!(", qop=auth, nc={count:08x}, cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = &self.opaque {
            value.push_str(&format!(", opaque=\"{opaque}\""));
        }
        (self.header, value)
    }

    fn hash(&self, text: &str) -> String {
        match self.algorithm {
            Algorithm::Sha256 => hex(&Sha256::digest(text)),
            Algorithm::Md5 | Algorithm::First => hex(&Md5::digest(text)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `name=value, name="quoted, value"` as pairs.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, next) = quoted.split_once('"').unwrap_or((quoted, ""));
                (value, next.split_once(',').map_or("", |(_, next)| next))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        pairs.push((name.trim().to_owned(), value.trim().to_owned()));
        rest = next;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unauthorized(lines: &[&str]) -> Message {
        let mut response = Message { start: "SIP/2.0 401 Unauthorized".into(), ..Message::default() };
        for line in lines {
            response.add("WWW-Authenticate", line);
        }
        response
    }

    #[test]
    fn the_example_of_rfc_2617_is_answered() {
        let mut challenge = Challenge {
            header: "Authorization",
            algorithm: Algorithm::Md5,
            realm: "testrealm@host.com".into(),
            nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093".into(),
            opaque: None,
            qop: false,
            count: 0,
        };
        let who = Credentials { user: "Mufasa".into(), password: "Circle Of Life".into() };
        let (_, value) = challenge.answer(&who, "GET", "/dir/index.html");
        assert!(value.contains("response=\"670fd8c2df070c60b045671b8b24ff02\""), "{value}");
    }

    #[test]
    fn the_first_known_challenge_is_taken_unless_one_is_wanted() {
        let response = unauthorized(&[
            "Digest realm=\"r\", nonce=\"a\", algorithm=SHA-512-256, qop=\"auth\"",
            "Digest realm=\"r\", nonce=\"b\", algorithm=SHA-256, qop=\"auth,auth-int\"",
            "Digest realm=\"r\", nonce=\"c\", algorithm=MD5",
        ]);
        assert_eq!(Challenge::of(&response, Algorithm::First).unwrap().nonce, "b");
        assert!(Challenge::of(&response, Algorithm::First).unwrap().qop);
        assert_eq!(Challenge::of(&response, Algorithm::Md5).unwrap().nonce, "c");
    }
}
