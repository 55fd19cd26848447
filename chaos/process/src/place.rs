//! Where the nodes and phones of a run stand: on addresses of the loopback network, or each node in a network namespace of
//! its own, joined by a bridge, where root allows that. The same scripts run in both; what differs is how nodes are cut
//! off from each other: by the test build's own switch, or by the kernel's packet filter.

use crate::script::Direction;
use anyhow::Context;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Addresses of the loopback network.
    Loopback,
    /// Namespaces PREFIX-1 to PREFIX-3; this process is in PREFIX-0 already.
    Namespaces {
        /// The beginning of their names.
        prefix: String,
    },
}

/// The addresses on loopback.
const LOOPBACK: [u8; 3] = [127, 0, 70];
/// The addresses inside namespaces.
const INSIDE: [u8; 3] = [10, 77, 0];

impl Place {
    /// Where node 0, 1 or 2 is.
    pub(crate) fn node(&self, index: usize) -> Ipv4Addr {
        self.host(u8::try_from(index + 1).unwrap_or(u8::MAX))
    }

    /// Where phones may be: a number of hosts, from 0.
    pub(crate) fn phones(&self, number: usize) -> Ipv4Addr {
        self.host(100_u8.saturating_add(u8::try_from(number).unwrap_or(u8::MAX)))
    }

    fn host(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = match self {
            Place::Loopback => LOOPBACK,
            Place::Namespaces { .. } => INSIDE,
        };
        Ipv4Addr::new(a, b, c, last)
    }

    /// The words before a program's own that start it at a node's place.
    pub(crate) fn before(&self, index: usize) -> Vec<OsString> {
        match self {
            Place::Loopback => Vec::new(),
            Place::Namespaces { prefix } => {
                ["ip", "netns", "exec", &namespace(prefix, index)].map(OsString::from).to_vec()
            }
        }
    }

    /// Cuts what comes from or goes to `far` at a node's own filter. `false`: this place has none, the node's switch is
    /// to be used.
    ///
    /// # Errors
    /// The filter of a place that has one fails.
    pub(crate) fn cut(&self, index: usize, far: usize, direction: Option<Direction>) -> anyhow::Result<bool> {
        let Place::Namespaces { prefix } = self else { return Ok(false) };
        let address = self.node(far).to_string();
        let chains = match direction {
            None => vec![("INPUT", "-s"), ("OUTPUT", "-d")],
            Some(Direction::In) => vec![("INPUT", "-s")],
            Some(Direction::Out) => vec![("OUTPUT", "-d")],
        };
        for (chain, side) in chains {
            filter(prefix, index, chain, side, &address)?;
        }
        Ok(true)
    }

    /// Takes all cuts of a node away.
    ///
    /// # Errors
    /// The filter of a place that has one fails.
    pub(crate) fn heal(&self, index: usize) -> anyhow::Result<()> {
        let Place::Namespaces { prefix } = self else { return Ok(()) };
        let flush: &[&str] =
            if has_nft(prefix, index) { &["nft", "flush", "ruleset"] } else { &["iptables", "-F"] };
        run_inside(prefix, index, flush)
    }
}

fn namespace(prefix: &str, index: usize) -> String {
    format!("{prefix}-{}", index + 1)
}

/// By nftables, or by iptables, which is a face of the same filter, where `nft` is not installed.
fn filter(prefix: &str, index: usize, chain: &str, side: &str, address: &str) -> anyhow::Result<()> {
    let inside = |command: &[&str]| run_inside(prefix, index, command);
    if !has_nft(prefix, index) {
        return inside(&["iptables", "-A", chain, side, address, "-j", "DROP"]);
    }
    let (hook, field) = if chain == "INPUT" { ("input", "saddr") } else { ("output", "daddr") };
    let base = format!("{{ type filter hook {hook} priority 0 ; }}");
    inside(&["nft", "add", "table", "ip", "chaos"])?;
    inside(&["nft", "add", "chain", "ip", "chaos", hook, &base])?;
    inside(&["nft", "add", "rule", "ip", "chaos", hook, "ip", field, address, "drop"])
}

fn has_nft(prefix: &str, index: usize) -> bool {
    run_inside(prefix, index, &["nft", "list", "ruleset"]).is_ok()
}

fn run_inside(prefix: &str, index: usize, command: &[&str]) -> anyhow::Result<()> {
    let mut run = Command::new("ip");
    run.args(["netns", "exec", &namespace(prefix, index)]).args(command);
    let output = run.stdin(Stdio::null()).output().context("ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{} in n{}: {}", command.join(" "), index + 1, said.trim());
    Ok(())
}

/// Makes the namespaces, runs this program again inside, and deletes them when it ends, however it ends.
const SCRIPT: &str = include_str!("place/namespaces.sh");

/// Whether namespaces and a packet filter can be had here.
pub(crate) fn namespaces_work() -> bool {
    shell("probe", &[]).output().is_ok_and(|output| output.status.success())
}

/// This program again, in namespaces.
pub(crate) fn inside(program: &Path, arguments: &[OsString]) -> Command {
    let words: Vec<OsString> =
        [program.as_os_str().to_owned()].into_iter().chain(arguments.iter().cloned()).collect();
    shell("run", &words)
}

fn shell(order: &str, words: &[OsString]) -> Command {
    let mut command = Command::new("bash");
    let prefix = format!("tandem-chaos-{}", std::process::id());
    command.args(["-c", SCRIPT, "namespaces", &prefix, order]).args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_phones_have_addresses_of_their_own_in_both_places() {
        let loopback = Place::Loopback;
        let inside = Place::Namespaces { prefix: "x".into() };
        assert_eq!(loopback.node(0), Ipv4Addr::new(127, 0, 70, 1));
        assert_eq!(loopback.phones(2), Ipv4Addr::new(127, 0, 70, 102));
        assert_eq!(inside.node(2), Ipv4Addr::new(10, 77, 0, 3));
        assert!(loopback.before(0).is_empty());
        assert_eq!(inside.before(1).last(), Some(&OsString::from("x-2")));
    }

    #[test]
    fn a_filter_that_fails_is_no_place_without_one() {
        assert!(matches!(Place::Loopback.cut(0, 1, None), Ok(false)));
        assert!(Place::Loopback.heal(0).is_ok());
        let nowhere = Place::Namespaces { prefix: "no-such-namespace".into() };
        assert!(nowhere.cut(0, 1, None).is_err());
        assert!(nowhere.heal(0).is_err());
    }
}
