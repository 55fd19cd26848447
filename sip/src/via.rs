//! One value of a Via header (RFC 3261 section 20.42, RFC 3581).

use std::net::{IpAddr, SocketAddr};

use crate::message::is_token;
use crate::params::{Params, find_outside};
use crate::uri::{host_port, unbracketed};

/// One hop that a request took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `TLS`, `WS`, ... as it was written.
    pub transport: &'a str,
    /// The host of sent-by; IPv6 in its brackets.
    pub host: &'a str,
    /// The port of sent-by.
    pub port: Option<u16>,
    /// The `branch` parameter.
    pub branch: Option<&'a str>,
    /// The `received` parameter.
    pub received: Option<&'a str>,
    /// The `rport` parameter.
    pub rport: Rport,
    /// All parameters.
    pub params: Params<'a>,
}

/// The `rport` parameter of RFC 3581.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rport {
    /// Not there: the answer goes to the port of sent-by.
    Absent,
    /// There without a value: the client asks for it.
    Asked,
    /// Filled in by a server.
    Port(u16),
}

/// Why a value is no Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Via")]
pub struct ViaError;

/// The start of every branch of RFC 3261 (section 8.1.1.7).
pub const MAGIC_COOKIE: &str = "z9hG4bK";

impl<'a> Via<'a> {
    /// Parses one value.
    pub fn parse(value: &'a str) -> Result<Self, ViaError> {
        let end = find_outside(value, b';').unwrap_or(value.len());
        let (head, params) = value.split_at_checked(end).ok_or(ViaError)?;
        let params = Params::new(params);
        let (transport, sent_by) = protocol(head)?;
        let (host, port) = host_port(sent_by).ok_or(ViaError)?;
        let mut via =
            Self { transport, host, port, branch: None, received: None, rport: Rport::Absent, params };
        via.read_params()?;
        Ok(via)
    }

    fn read_params(&mut self) -> Result<(), ViaError> {
        for (name, value) in self.params.iter() {
            let value = value.filter(|v| !v.is_empty());
            if name.eq_ignore_ascii_case("branch") {
                self.branch = self.branch.or(value);
            } else if name.eq_ignore_ascii_case("received") {
                self.received = self.received.or(value);
            } else if name.eq_ignore_ascii_case("rport") {
                self.rport = match value {
                    Some(port) => Rport::Port(port.parse().map_err(|_| ViaError)?),
                    None => Rport::Asked,
                };
            }
        }
        Ok(())
    }

    /// True for a branch of RFC 3261; older ones name no transaction.
    pub fn has_magic_cookie(&self) -> bool {
        self.branch.is_some_and(|b| {
            b.len() > MAGIC_COOKIE.len()
                && b.get(..MAGIC_COOKIE.len()).is_some_and(|start| start.eq_ignore_ascii_case(MAGIC_COOKIE))
        })
    }

    /// True unless the transport may lose messages.
    pub fn is_reliable(&self) -> bool {
        !self.transport.eq_ignore_ascii_case("UDP")
    }

    /// Where the response to a datagram from `source` goes (RFC 3261 section 18.2.2, RFC 3581 section 4): always to
    /// the address it came from, and to its port too when the client asked for that; else to the port of sent-by.
    pub fn response_address(&self, source: SocketAddr) -> SocketAddr {
        match self.rport {
            Rport::Absent => SocketAddr::new(source.ip(), self.port.unwrap_or(5060)),
            Rport::Asked | Rport::Port(_) => source,
        }
    }

    /// True when the host of sent-by is this very address.
    pub fn is_from(&self, ip: IpAddr) -> bool {
        unbracketed(self.host).parse::<IpAddr>().is_ok_and(|host| host == ip)
    }
}

/// `SIP / 2.0 / UDP host:port` with white space where RFC 3261 allows it.
fn protocol(head: &str) -> Result<(&str, &str), ViaError> {
    let (name, rest) = head.split_once('/').ok_or(ViaError)?;
    let (version, rest) = rest.split_once('/').ok_or(ViaError)?;
    if !name.trim().eq_ignore_ascii_case("SIP") || version.trim() != "2.0" {
        return Err(ViaError);
    }
    let rest = rest.trim();
    let end = rest.find([' ', '\t']).ok_or(ViaError)?;
    let (transport, sent_by) = rest.split_at_checked(end).ok_or(ViaError)?;
    if transport.bytes().all(is_token) { Ok((transport, sent_by.trim())) } else { Err(ViaError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_ipv6_are_read() {
        let via =
            Via::parse("SIP / 2.0 / UDP [2001:db8::1]:5090 ; branch = z9hG4bK1;rport;received=::1").unwrap();
        assert_eq!((via.transport, via.host, via.port), ("UDP", "[2001:db8::1]", Some(5090)));
        assert_eq!((via.branch, via.received, via.rport), (Some("z9hG4bK1"), Some("::1"), Rport::Asked));
        assert!(via.is_from("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_refused() {
        for value in ["", "SIP/2.0/UDP", "SIP/2.0 h", "SIP/3.0/UDP h", "SIP/2.0/UDP h:99999", "SIP/2.0/U(P h"]
        {
            assert_eq!(Via::parse(value), Err(ViaError), "{value}");
        }
        assert_eq!(Via::parse("SIP/2.0/UDP h;rport=70000"), Err(ViaError));
    }

    #[test]
    fn a_response_goes_back_to_the_source_port_only_when_asked() {
        let source: SocketAddr = "192.0.2.9:1024".parse().unwrap();
        let plain = Via::parse("SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1").unwrap();
        assert_eq!(plain.response_address(source), "192.0.2.9:5070".parse().unwrap());
        let asked = Via::parse("SIP/2.0/UDP 10.0.0.1:5070;rport;branch=z9hG4bK1").unwrap();
        assert_eq!(asked.response_address(source), source);
    }
}
