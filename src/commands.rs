//! What each command does.

mod backup;
mod calls;
mod cdrs;
mod cluster;
pub(crate) mod config_file;
mod doctor;
mod drain;
mod registrations;
mod rescue;
mod salvage;
mod token;

use std::future::Future;
use std::time::Duration;

pub(crate) use cluster::prepare;

use crate::cli::{CallCommand, Cli, ClusterCommand, Command, NodeCommand, Remote, TokenCommand};
use crate::client::{Client, segment};
use crate::{demo, node};

/// Carries out a command.
pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Demo(args) => wait(demo::run(args)),
        Command::Node(NodeCommand::Run { config, log_json, guarded_by }) => {
            node::run(&config, log_json, guarded_by)
        }
        Command::Node(NodeCommand::Drain { node, wait: seconds, remote }) => {
            with(&remote, |client| drain::drain(client, node, Duration::from_secs(seconds), remote.format()))
        }
        Command::Node(NodeCommand::Undrain { node, remote }) => {
            with(&remote, |client| drain::undrain(client, node, remote.format()))
        }
        Command::Cluster(command) => run_cluster(command),
        Command::Apply { file, dry_run, prune, remote } => {
            with(&remote, |client| config_file::apply(client, &file, dry_run, prune, remote.format()))
        }
        Command::Export { remote } => with(&remote, |client| config_file::export(client, remote.output)),
        Command::Calls { tenant, remote } => {
            with(&remote, |client| calls::list(client, tenant, remote.format()))
        }
        Command::Call(CallCommand::Show { id, remote }) => {
            with(&remote, |client| calls::show(client, id, remote.format()))
        }
        Command::Call(CallCommand::Hangup { id, remote }) => {
            with(&remote, |client| calls::hangup(client, id))
        }
        Command::Registrations { tenant, remote } => {
            with(&remote, |client| registrations::list(client, tenant, remote.format()))
        }
        Command::Cdrs(args) => with(&args.remote, |client| cdrs::list(client, &args)),
        Command::Token(command) => run_token(command),
        Command::Backup { file, remote } => with(&remote, |client| backup::backup(client, file)),
        Command::Restore { file, config } => wait(backup::restore(&file, &config)),
        Command::Salvage { data, remote } => {
            with(&remote, |client| salvage::run(client, data, remote.format()))
        }
        Command::Doctor { remote } => with(&remote, |client| doctor::run(client, remote.format())),
    }
}

fn run_cluster(command: ClusterCommand) -> anyhow::Result<()> {
    match command {
        ClusterCommand::Init { config, output } => cluster::init(&config, output),
        ClusterCommand::Join { token, config, output } => wait(cluster::join(&token, &config, output)),
        ClusterCommand::Invite { role, remote } => {
            with(&remote, |client| cluster::invite(client, None, role, remote.format()))
        }
        ClusterCommand::Add { node, role, remote } => {
            with(&remote, |client| cluster::invite(client, Some(node), role, remote.format()))
        }
        ClusterCommand::Status { watch, remote } => {
            with(&remote, |client| cluster::status(client, watch, remote.format()))
        }
        ClusterCommand::Promote { node, remote } => {
            with(&remote, |client| cluster::promote(client, node, remote.format()))
        }
        ClusterCommand::Remove { node, remote } => {
            with(&remote, |client| cluster::remove(client, node, remote.format()))
        }
        ClusterCommand::TransferLeader { node, remote } => {
            with(&remote, |client| cluster::transfer_leader(client, node, remote.format()))
        }
        ClusterCommand::ForceQuorum { config, lost } => wait(rescue::force_quorum(&config, &lost)),
        ClusterCommand::RotateKey { remote } => {
            with(&remote, |client| cluster::rotate_key(client, remote.format()))
        }
        ClusterCommand::Hash { remote } => with(&remote, |client| cluster::hash(client, remote.format())),
    }
}

fn run_token(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create { tenant, id, remote } => {
            with(&remote, |client| token::create(client, tenant, id, remote.format()))
        }
        TokenCommand::List { remote } => with(&remote, |client| token::list(client, remote.format())),
        TokenCommand::Revoke { id, remote } => with(&remote, |client| token::revoke(client, id)),
    }
}

/// Runs a command that asks a node.
fn with<F: Future<Output = anyhow::Result<()>>>(
    remote: &Remote,
    command: impl FnOnce(Client) -> F,
) -> anyhow::Result<()> {
    let client = Client::from_environment(&remote.api)?;
    wait(command(client))
}

fn wait(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// The path of a list: a tenant's, or everybody's.
fn scoped(tenant: Option<&str>, list: &str) -> String {
    match tenant {
        Some(tenant) => format!("/v1/tenants/{}/{list}", segment(tenant)),
        None => format!("/v1/{list}"),
    }
}
