//! Where the demo's nodes stand: folders, addresses, ports.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::DemoArgs;
use crate::failure::refused;

const SIP: u16 = 5060;
const API: u16 = 8080;
const CLUSTER: u16 = 7400;
const RTP: &str = "20000-29999";

/// The demo's nodes.
#[derive(Debug)]
pub(super) struct Layout {
    /// Absolute, without links.
    pub(super) dir: PathBuf,
    pub(super) nodes: Vec<Node>,
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) site: &'static str,
    pub(super) address: String,
    pub(super) folder: PathBuf,
}

impl Layout {
    /// Makes the folders.
    pub(super) fn of(args: &DemoArgs) -> anyhow::Result<Layout> {
        let shown = || args.dir.display().to_string();
        fs::create_dir_all(&args.dir).with_context(shown)?;
        let dir = args.dir.canonicalize().with_context(shown)?;
        let mut nodes = Vec::new();
        for (number, site) in [(1, "east"), (2, "east"), (3, "west")] {
            let name = format!("n{number}");
            let (folder, address) = (dir.join(&name), format!("{}.{number}", args.subnet));
            fs::create_dir_all(&folder).with_context(shown)?;
            nodes.push(Node { name, site, address, folder });
        }
        Ok(Layout { dir, nodes })
    }

    /// The node that makes the cluster.
    pub(super) fn first(&self) -> anyhow::Result<&Node> {
        self.nodes.first().context("the demo has nodes")
    }

    /// Those that join it.
    pub(super) fn others(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().skip(1)
    }

    /// Writes each node's config, if it isn't there.
    pub(super) fn write_configs(&self) -> anyhow::Result<()> {
        for node in self.nodes.iter().filter(|node| !node.config().exists()) {
            fs::write(node.config(), node.config_text())
                .with_context(|| node.config().display().to_string())?;
        }
        Ok(())
    }

    /// Says which ports are taken, if any are.
    pub(super) fn ports_are_free(&self) -> anyhow::Result<()> {
        let taken: Vec<String> = self.nodes.iter().flat_map(Node::taken).collect();
        if taken.is_empty() {
            return Ok(());
        }
        let todo = "end what uses them (ss -tulpn shows it), or take other addresses: --subnet 127.0.1";
        let shown: Vec<String> = taken.iter().take(4).cloned().collect();
        let more = if taken.len() > shown.len() {
            format!(" and {} more", taken.len() - shown.len())
        } else {
            String::new()
        };
        Err(refused(format!("in use already: {}{more}", shown.join(", ")), todo))
    }
}

impl Node {
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("tandem.toml")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("tandem.log")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.folder.join("tandem.pid")
    }

    /// Whether it was made or has joined.
    pub(super) fn is_prepared(&self) -> bool {
        holds_something(&self.folder.join("data"))
    }

    pub(super) fn api_url(&self) -> String {
        format!("http://{}:{API}", self.address)
    }

    pub(super) fn sip(&self) -> String {
        format!("{}:{SIP}", self.address)
    }

    pub(super) fn media(&self) -> String {
        format!("{}:{RTP}", self.address)
    }

    fn config_text(&self) -> String {
        let Node { name, site, address, .. } = self;
        format!(
            "[node]\nname = \"{name}\"\nsite = \"{site}\"\ndata = \"data\"\n\
             [cluster]\nlisten = \"{address}:{CLUSTER}\"\n\
             [sip]\nudp = [\"{address}:{SIP}\"]\ntcp = [\"{address}:{SIP}\"]\nadvertise = \"{address}\"\n\
             [rtp]\nlisten = \"{address}\"\nports = \"{RTP}\"\n\
             [api]\nlisten = \"{address}:{API}\"\n"
        )
    }

    fn taken(&self) -> Vec<String> {
        let in_use = |error: std::io::Error| error.kind() == ErrorKind::AddrInUse;
        let tcp = [SIP, API, CLUSTER].map(|port| format!("{}:{port}", self.address));
        let tcp = tcp.into_iter().filter(|at| TcpListener::bind(at).is_err_and(in_use)).map(|at| at + "/tcp");
        let udp = [self.sip()].into_iter().filter(|at| UdpSocket::bind(at).is_err_and(in_use));
        tcp.chain(udp.map(|at| at + "/udp")).collect()
    }
}

fn holds_something(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::testing::Scratch;

    #[test]
    fn the_written_configs_are_read_without_complaint() {
        let dir = Scratch::new();
        let args = DemoArgs { dir: dir.path().join("demo"), file: None, subnet: "127.9.9".into() };
        let layout = Layout::of(&args).unwrap();
        layout.write_configs().unwrap();
        let configs: Vec<Config> =
            layout.nodes.iter().map(|node| Config::load(&node.config()).unwrap()).collect();
        assert_eq!(configs[2].api_url(), "http://127.9.9.3:8080");
        assert_eq!(
            (configs[2].site.as_str(), configs[2].rtp_advertise.to_string().as_str()),
            ("west", "127.9.9.3")
        );
        assert_eq!(configs[0].data, layout.nodes[0].folder.join("data"));
        assert!(!layout.nodes[0].is_prepared());
    }

    #[test]
    fn a_taken_port_is_named() {
        let _taken = UdpSocket::bind("127.9.8.2:5060").unwrap();
        let dir = Scratch::new();
        let args = DemoArgs { dir: dir.path().to_owned(), file: None, subnet: "127.9.8".into() };
        let error = Layout::of(&args).unwrap().ports_are_free().unwrap_err();
        assert_eq!(error.to_string(), "in use already: 127.9.8.2:5060/udp");
    }
}
