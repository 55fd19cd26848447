//! A node's config file. Everything else is replicated.

mod place;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use tandem_state::is_node_name;

use crate::failure::refused;

/// `tandem.toml`, read and completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where it was read from, absolute.
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) site: String,
    /// Absolute.
    pub(crate) data: PathBuf,
    pub(crate) cluster: SocketAddr,
    pub(crate) sip_udp: Vec<SocketAddr>,
    pub(crate) sip_tcp: Vec<SocketAddr>,
    /// The host that phones are told.
    pub(crate) sip_advertise: String,
    pub(crate) rtp_listen: IpAddr,
    /// The address that phones are told for media.
    pub(crate) rtp_advertise: IpAddr,
    pub(crate) rtp_ports: Ports,
    /// An answered call without any media for so long is ended.
    pub(crate) no_media_s: u32,
    pub(crate) api: SocketAddr,
}

/// An inclusive range of UDP ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Ports {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    node: NodeTable,
    #[serde(default)]
    cluster: ClusterTable,
    #[serde(default)]
    sip: SipTable,
    #[serde(default)]
    rtp: RtpTable,
    #[serde(default)]
    api: ApiTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeTable {
    name: Name,
    #[serde(default = "Name::default_site")]
    site: Name,
    #[serde(default = "default_data")]
    data: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ClusterTable {
    listen: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SipTable {
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    advertise: Option<Host>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RtpTable {
    listen: Option<IpAddr>,
    advertise: Option<IpAddr>,
    ports: Ports,
    no_media_s: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ApiTable {
    listen: SocketAddr,
}

/// A name of a node or site.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Name(String);

/// A host name or address, without a port.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Host(String);

fn default_data() -> PathBuf {
    PathBuf::from("data")
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

impl Default for ClusterTable {
    fn default() -> Self {
        ClusterTable { listen: local(7400) }
    }
}

impl Default for SipTable {
    fn default() -> Self {
        SipTable { udp: vec![local(5060)], tcp: vec![local(5060)], advertise: None }
    }
}

impl Default for RtpTable {
    fn default() -> Self {
        RtpTable {
            listen: None,
            advertise: None,
            ports: Ports { first: 20_000, last: 29_999 },
            no_media_s: 60,
        }
    }
}

impl Default for ApiTable {
    fn default() -> Self {
        ApiTable { listen: local(8080) }
    }
}

impl Name {
    fn default_site() -> Name {
        Name("default".to_owned())
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Name, String> {
        if is_node_name(&text) {
            Ok(Name(text))
        } else {
            Err("a name has 1 to 63 of a-z, 0-9 and -".to_owned())
        }
    }
}

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Host, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        let host = (1..=253).contains(&text.len()) && text.bytes().all(plain);
        let unspecified = text.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
        match (unspecified, host || text.parse::<IpAddr>().is_ok()) {
            (false, true) => Ok(Host(text)),
            (true, _) => Err("phones can't reach that address: give the one that they use".to_owned()),
            (false, false) => Err("give a host name or an address, without a port".to_owned()),
        }
    }
}

impl TryFrom<String> for Ports {
    type Error = String;

    fn try_from(text: String) -> Result<Ports, String> {
        let bounds = text.split_once('-').and_then(|(first, last)| {
            Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
        });
        match bounds {
            Some((first, last)) if first >= 1024 && last > first && last - first >= 3 => {
                Ok(Ports { first, last })
            }
            Some(_) => Err("the range must begin at 1024 or above and hold at least 4 ports".to_owned()),
            None => Err("give a range of ports such as \"20000-29999\"".to_owned()),
        }
    }
}

impl Config {
    /// Reads a config file.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Config> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("{shown}"))?;
        let path = std::path::absolute(path).with_context(|| format!("{shown}"))?;
        Config::parse(&text, path)
    }

    fn parse(text: &str, path: PathBuf) -> anyhow::Result<Config> {
        let file: File = toml::from_str(text).map_err(|error| {
            let place = place::of(text, error.span());
            refused(format!("{}:{place}: {}", path.display(), error.message().trim_end()), "")
        })?;
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        Config::complete(file, &folder, path)
    }

    fn complete(file: File, folder: &Path, path: PathBuf) -> anyhow::Result<Config> {
        let File { node, cluster, sip, rtp, api } = file;
        let wrong = |key: &str, why: &str| Err(refused(format!("{}: {key}: {why}", path.display()), ""));
        if sip.udp.is_empty() && sip.tcp.is_empty() {
            return wrong("sip.udp, sip.tcp", "at least one of them must name an address");
        }
        if cluster.listen.ip().is_unspecified() {
            return wrong("cluster.listen", "other nodes dial this address: it can't be the unspecified one");
        }
        let first = sip.udp.first().or(sip.tcp.first()).map(SocketAddr::ip);
        let sip_advertise = match (sip.advertise, first) {
            (Some(host), _) => host.0,
            (None, Some(address)) if !address.is_unspecified() => address.to_string(),
            (None, _) => return wrong("sip.advertise", "must say which host phones reach this node by"),
        };
        let rtp_listen = match rtp.listen.or(first) {
            Some(address) => address,
            None => return wrong("rtp.listen", "is missing"),
        };
        let known = Some(rtp_listen).filter(|address| !address.is_unspecified());
        let rtp_advertise = match rtp.advertise.or_else(|| sip_advertise.parse().ok()).or(known) {
            Some(address) => address,
            None => return wrong("rtp.advertise", "must say which address phones send media to"),
        };
        Ok(Config {
            name: node.name.0,
            site: node.site.0,
            data: folder.join(node.data),
            cluster: cluster.listen,
            sip_udp: sip.udp,
            sip_tcp: sip.tcp,
            sip_advertise,
            rtp_listen,
            rtp_advertise,
            rtp_ports: rtp.ports,
            no_media_s: rtp.no_media_s,
            api: api.listen,
            path,
        })
    }

    /// The folder of the config file.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The base URL of this node's HTTP API.
    pub(crate) fn api_url(&self) -> String {
        format!("http://{}", self.api)
    }
}

#[cfg(test)]
mod tests;
