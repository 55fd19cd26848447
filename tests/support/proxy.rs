//! An edge proxy: Kamailio between phones and a node.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Stdio;

use super::demo::{Demo, Guarded};

/// Stays in the route set of every dialog, and in the Path of every binding, until it is dropped.
pub struct Proxy {
    pub address: SocketAddrV4,
    _process: Guarded,
}

impl Proxy {
    /// A proxy that sends what comes from phones to this node. It is ready a moment later; phones repeat what they ask.
    pub fn start(demo: &Demo, node: u8) -> Proxy {
        let address = SocketAddrV4::new(demo.host(), 5060);
        let dir = demo.dir.join("proxy");
        std::fs::create_dir_all(&dir).expect("a directory for the proxy");
        let words = include_str!("../data/kamailio.cfg")
            .replace("@LISTEN@", &format!("udp:{address}"))
            .replace("@NODE@", &demo.sip(node).to_string());
        let config = dir.join("kamailio.cfg");
        std::fs::write(&config, words).expect("the proxy's configuration");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (config, pid, dir) = (text(&config), text(&dir.join("pid")), text(&dir));
        let arguments = ["-f", &config, "-DD", "-E", "-m", "64", "-M", "8", "-Y", &dir, "-P", &pid];
        let process =
            Guarded::start(Path::new("/usr/sbin/kamailio"), &arguments, Stdio::null(), Stdio::inherit());
        Proxy { address, _process: process }
    }
}
