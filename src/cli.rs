//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A multi-tenant telephone switch: one binary, started on three nodes.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, max_term_width = 120, arg_required_else_help = true)]
#[command(
    after_help = "Example:\n  tandem demo                  three nodes on this machine, ready to be called"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Three real nodes on this machine, with two tenants and ten extensions each
    Demo(DemoArgs),
    /// This machine's node
    #[command(subcommand, after_help = "Example:\n  tandem node run --config /etc/tandem/tandem.toml")]
    Node(NodeCommand),
    /// Members of the cluster, its state, new members
    #[command(subcommand, after_help = "Example:\n  tandem cluster status --watch")]
    Cluster(ClusterCommand),
    /// Make the replicated configuration look like a file; prints what changes
    #[command(after_help = "Example:\n  tandem apply -f acme.yaml --dry-run")]
    Apply {
        /// The file, YAML or JSON; `-` reads standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
        /// Remove tenants that the file doesn't name; refused while one of them has calls
        #[arg(long)]
        prune: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Print the replicated configuration as a file for `apply`, with digests for passwords
    #[command(after_help = "Example:\n  tandem export > backup.yaml")]
    Export {
        #[command(flatten)]
        remote: Remote,
    },
    /// Calls that are up
    #[command(after_help = "Example:\n  tandem calls --tenant acme")]
    Calls {
        /// Of this tenant only
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// One call
    #[command(subcommand, after_help = "Example:\n  tandem call hangup 0123456789abcdef0123456789abcdef")]
    Call(CallCommand),
    /// Registered phones
    #[command(after_help = "Example:\n  tandem registrations --tenant acme -o json")]
    Registrations {
        /// Of this tenant only
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Call detail records, newest first
    #[command(after_help = "Example:\n  tandem cdrs --tenant acme --since 24h --layout csv > yesterday.csv")]
    Cdrs(CdrsArgs),
    /// Clock, disk flush time, ports, DNS, quorum, versions: what is wrong on each node, and the next step
    #[command(after_help = "Example:\n  tandem doctor --api http://127.0.0.1:8080")]
    Doctor {
        #[command(flatten)]
        remote: Remote,
    },
    /// Write the whole cluster's state and archive into a file, sealed by a passphrase (TANDEM_PASSPHRASE), while it runs
    #[command(after_help = "Example:\n  TANDEM_PASSPHRASE=... tandem backup /mnt/backup/tandem-2026-11-25")]
    Backup {
        /// The file; it must not be there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make a new cluster's first node out of a backup, offline; prints the new cluster's id
    #[command(
        after_help = "Example:\n  TANDEM_PASSPHRASE=... tandem restore /mnt/backup/tandem-2026-11-25 --config /etc/tandem/tandem.toml"
    )]
    Restore {
        /// What `tandem backup` wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The node's config; its data directory must be empty
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Bring over the CDRs that a lost node's data directory has and the cluster has not
    #[command(after_help = "Example, after `cluster force-quorum`:\n  tandem salvage /mnt/n1/var/lib/tandem")]
    Salvage {
        /// The data directory of a node that is stopped and stays so, or a copy: it has to be writable
        #[arg(value_name = "DIR")]
        data: PathBuf,
        #[command(flatten)]
        remote: Remote,
    },
    /// API tokens
    #[command(subcommand, after_help = "Example:\n  tandem token create --tenant acme")]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Run the node in the foreground; Ctrl-C or SIGTERM hands its calls over and stops it, a second one stops it at once
    #[command(after_help = "Example:\n  tandem node run --config /etc/tandem/tandem.toml")]
    Run {
        /// The node's config
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Log in JSON, one object a line
        #[arg(long)]
        log_json: bool,
        /// The process is the worker of this guard, which starts it so
        #[arg(long, hide = true, value_name = "PID")]
        guarded_by: Option<u32>,
    },
    /// Empty a node before maintenance: it takes no new work, and its calls go to other nodes without being heard
    #[command(
        after_help = "Example:\n  tandem node drain n1   and then, on the machine of n1:  systemctl restart tandem"
    )]
    Drain {
        /// Its name or id; the node that is asked, if left out
        node: Option<String>,
        /// Give up after so long, with the calls that are left where they are
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u64,
        #[command(flatten)]
        remote: Remote,
    },
    /// Let a node that was emptied take work again (a restart does so too)
    #[command(after_help = "Example:\n  tandem node undrain n1")]
    Undrain {
        /// Its name or id; the node that is asked, if left out
        node: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Prepare the data directory of a new cluster's first node, with the cluster's own CA; prints the operator's token
    #[command(after_help = "Example:\n  tandem cluster init --config /etc/tandem/tandem.toml")]
    Init {
        /// The node's config
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Print a join token: for one node, once; a secret until then
    #[command(after_help = "Example:\n  TOKEN=$(tandem cluster invite)")]
    Invite {
        /// What the new node does
        #[arg(long, value_enum, default_value_t = RoleArg::Full)]
        role: RoleArg,
        #[command(flatten)]
        remote: Remote,
    },
    /// Print a join token for a node of this name, after looking that the name is free
    #[command(
        after_help = "Example:\n  TOKEN=$(tandem cluster add n4)    # and `tandem cluster join $TOKEN --config FILE` on n4's machine"
    )]
    Add {
        /// The name that it will have, as its config says
        node: String,
        /// What the new node does
        #[arg(long, value_enum, default_value_t = RoleArg::Full)]
        role: RoleArg,
        #[command(flatten)]
        remote: Remote,
    },
    /// Prepare the data directory of one more node: it trusts the cluster by the token, and gets its certificate
    #[command(after_help = "Example:\n  tandem cluster join TOKEN --config /etc/tandem/tandem.toml")]
    Join {
        /// What `cluster invite` printed
        token: String,
        /// The node's config
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Members, quorum, what loss the cluster survives
    #[command(after_help = "Example:\n  tandem cluster status -o json")]
    Status {
        /// Again every second, with what happened last, until Ctrl-C
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make a learner a voter (a node that joins is promoted by itself once it has caught up)
    #[command(after_help = "Example:\n  tandem cluster promote n4")]
    Promote {
        /// Its name or id
        node: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Take a node out for good: its identity never comes back
    #[command(
        after_help = "Example, for a machine that is lost:\n  tandem cluster remove n3\n  tandem cluster invite    # and `cluster join` on the new machine, in an empty data directory"
    )]
    Remove {
        /// Its name or id
        node: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Hand leadership to a node
    #[command(after_help = "Example:\n  tandem cluster transfer-leader n2")]
    TransferLeader {
        /// Its name or id
        node: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Last resort, offline: make this stopped node a cluster of its own, when all other voters are lost for good
    #[command(
        after_help = "Example, on the survivor (deploy/runbooks/quorum-lost.md has the whole way):\n  tandem cluster force-quorum --config /etc/tandem/tandem.toml --lost n1 --lost n2"
    )]
    ForceQuorum {
        /// The node's config
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// A voter that is lost and switched off; each must be named
        #[arg(long, value_name = "NODE", required = true, num_args = 1..)]
        lost: Vec<String>,
    },
    /// Draw a new cluster key and hand it to every member; refused while one of them can't be reached
    #[command(after_help = "Example:\n  tandem cluster rotate-key")]
    RotateKey {
        #[command(flatten)]
        remote: Remote,
    },
    /// The state hash at one log position on every node; fails if they differ or a node can't be reached
    #[command(after_help = "Example:\n  tandem cluster hash")]
    Hash {
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CallCommand {
    /// One call with its legs
    #[command(after_help = "Example:\n  tandem call show 0123456789abcdef0123456789abcdef")]
    Show {
        /// From `tandem calls`
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// End a call, wherever its node is
    #[command(after_help = "Example:\n  tandem call hangup 0123456789abcdef0123456789abcdef")]
    Hangup {
        /// From `tandem calls`
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; it is printed once and never again
    #[command(after_help = "Example:\n  tandem token create --tenant acme --id acme-admin")]
    Create {
        /// Bound to this tenant; an operator's token if left out
        #[arg(long)]
        tenant: Option<String>,
        /// Its public name; drawn if left out
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// All tokens, without their secrets
    #[command(after_help = "Example:\n  tandem token list")]
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Remove a token: it is refused from now on
    #[command(after_help = "Example:\n  tandem token revoke acme-admin")]
    Revoke {
        /// Its public name
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tandem demo\n  tandem demo --dir /tmp/demo --file acme.yaml")]
pub(crate) struct DemoArgs {
    /// Where configs, data, logs and credentials go; started again on it, the cluster comes back with its state
    #[arg(long, value_name = "DIR", default_value = "./demo-data")]
    pub(crate) dir: PathBuf,
    /// Apply this file instead of the two made-up tenants
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The first three numbers of the nodes' addresses (SUBNET.1 to SUBNET.3): another one runs a second demo beside
    #[arg(long, value_name = "A.B.C", default_value = "127.0.0", value_parser = loopback_subnet)]
    pub(crate) subnet: String,
}

#[derive(Debug, Args)]
pub(crate) struct CdrsArgs {
    /// Of this tenant only
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Begun at this time or later: RFC 3339, a date, or a span back from now such as 90m, 24h, 7d
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Begun before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// A fixed layout instead of --output: classic is tab separated in the tenant's time zone
    #[arg(long, value_enum)]
    pub(crate) layout: Option<Layout>,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// Where to ask and how to print. The token comes from TANDEM_TOKEN or ~/.config/tandem/token.
#[derive(Debug, Args)]
pub(crate) struct Remote {
    /// A node's HTTP API; several, separated by commas, are tried in turn
    #[arg(long, value_name = "URL", env = "TANDEM_API", default_value = "http://127.0.0.1:8080")]
    pub(crate) api: String,
    /// How to print it
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}

impl Remote {
    pub(crate) fn format(&self) -> Format {
        self.output.unwrap_or(Format::Table)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    Classic,
    Json,
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    Full,
    Witness,
}

fn loopback_subnet(text: &str) -> Result<String, String> {
    let first = format!("{text}.1").parse::<std::net::Ipv4Addr>();
    match first {
        Ok(address) if address.is_loopback() => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err("give three numbers beginning with 127, such as 127.0.1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn every(command: &clap::Command, path: &str, visit: &mut impl FnMut(&str, &clap::Command)) {
        visit(path, command);
        for inner in command.get_subcommands() {
            every(inner, &format!("{path} {}", inner.get_name()), visit);
        }
    }

    #[test]
    fn every_command_is_sound_and_its_help_has_an_example() {
        Cli::command().debug_assert();
        every(&Cli::command(), "tandem", &mut |path, command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{path} has no example");
        });
    }

    #[test]
    fn a_demo_stays_on_the_loopback() {
        assert!(loopback_subnet("127.0.1").is_ok());
        assert!(loopback_subnet("10.0.0").is_err());
        assert!(loopback_subnet("127.0").is_err());
    }
}
