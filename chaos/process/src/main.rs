//! `tandem-chaos`: fault scripts against a cluster of real processes. It starts three nodes, lets phones and clients work,
//! does to the nodes what a script says, and judges what was seen from outside. It must never ask the switch whether it
//! did right where packets, clients or the operating system can tell; and it knows nothing of the switch's crates. Start
//! reading at `script.rs`, then `run.rs`; what must hold is in `invariants/`.

mod api;
mod demo_kill;
mod faults;
mod history;
mod invariants;
mod observe;
mod place;
mod report;
mod run;
mod script;
mod workload;
mod world;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use place::Place;
use script::Script;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
#[command(version, about = "Fault scripts against a cluster of real processes")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run fault scripts and judge them
    #[command(after_help = "Example: tandem-chaos run chaos/scripts/kill-worker.yaml --report chaos-report")]
    Run(RunArgs),
    /// Ten calls talk, their node is killed, and a plain account says what happened to each
    #[command(after_help = "Example: tandem-chaos demo-kill")]
    DemoKill(WorldArgs),
}

#[derive(Args)]
struct WorldArgs {
    /// The tandem binary, a test build (--features faults)
    #[arg(long, env = "TANDEM_BIN", default_value = "target/debug/tandem")]
    program: PathBuf,
    /// Where the nodes' files and the report go; made anew
    #[arg(long, value_name = "DIR", default_value = "chaos-report")]
    report: PathBuf,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    world: WorldArgs,
    /// The scripts
    #[arg(required = true)]
    scripts: Vec<PathBuf>,
    /// What random faults are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Each node in a network namespace of its own: yes, no, or where it can be had
    #[arg(long, value_enum, default_value_t = Namespaces::No)]
    namespaces: Namespaces,
    /// The namespaces that this process runs in already
    #[arg(long, hide = true)]
    inside: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Namespaces {
    Yes,
    No,
    Auto,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run_all(&args),
        Command::DemoKill(args) => demo_kill::run(&args.program, &args.report.join("demo-kill")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tandem-chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Says one line; nobody may be there to read it.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn run_all(args: &RunArgs) -> anyhow::Result<bool> {
    let scripts: Vec<Script> =
        args.scripts.iter().map(|path| Script::read(path, args.seed)).collect::<anyhow::Result<_>>()?;
    have_own_reports(&scripts, &args.scripts)?;
    if args.inside.is_none() && wants_namespaces(args)? {
        let own: Vec<OsString> = std::env::args_os().skip(1).collect();
        let status = place::inside(&std::env::current_exe()?, &own).status().context("bash")?;
        return Ok(status.success());
    }
    let place = match &args.inside {
        Some(prefix) => Place::Namespaces { prefix: prefix.clone() },
        None => Place::Loopback,
    };
    let began = Instant::now();
    let report = &args.world.report;
    std::fs::create_dir_all(report).with_context(|| report.display().to_string())?;
    let (mut ran, mut again) = (Vec::new(), Vec::new());
    for (script, path) in scripts.iter().zip(&args.scripts) {
        let one = run::run(script, args.seed, &place, &args.world.program, &report.join(&script.name));
        say(&report::line(&one));
        if one.is_good() {
            run::tidy(&report.join(&script.name));
        } else {
            report::broken(&one).iter().for_each(|line| say(line));
            again.push(format!("again: {}", command(args, path)));
        }
        ran.push(one);
        std::fs::write(report.join("index.html"), report::page(&ran))?;
    }
    again.iter().for_each(|line| say(line));
    let (good, bad) =
        (ran.iter().filter(|one| one.is_good()).count(), ran.iter().filter(|one| !one.is_good()).count());
    let seconds = began.elapsed().as_secs();
    say(&format!(
        "chaos: {} scripts in {seconds} s, {good} passed, {bad} failed; report: {}",
        ran.len(),
        report.join("index.html").display()
    ));
    Ok(bad == 0)
}

/// A script's report is in a directory of its name.
fn have_own_reports(scripts: &[Script], paths: &[PathBuf]) -> anyhow::Result<()> {
    let mut named: BTreeMap<&str, &Path> = BTreeMap::new();
    for (script, path) in scripts.iter().zip(paths) {
        if let Some(other) = named.insert(&script.name, path) {
            let (one, two, name) = (other.display(), path.display(), &script.name);
            bail!(
                "{one} and {two} would both report to {name}/: rename one, or run them one after the other"
            );
        }
    }
    Ok(())
}

fn wants_namespaces(args: &RunArgs) -> anyhow::Result<bool> {
    match args.namespaces {
        Namespaces::No => Ok(false),
        Namespaces::Auto => Ok(place::namespaces_work()),
        Namespaces::Yes if place::namespaces_work() => Ok(true),
        Namespaces::Yes => {
            bail!("network namespaces with a packet filter need root, iproute2, and nftables or iptables")
        }
    }
}

/// The command that runs a script again alone.
fn command(args: &RunArgs, path: &Path) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "tandem-chaos".into());
    let place = if args.inside.is_some() { " --namespaces yes" } else { "" };
    format!(
        "{} run {} --seed {}{place} --program {} --report {}",
        program.display(),
        path.display(),
        args.seed,
        args.world.program.display(),
        args.world.report.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_scripts_of_one_name_do_not_share_a_report() {
        let text = "workload: {for_s: 5}\nsteps: []\ninvariants: [all]\n";
        let script = |name: &str| Script::parse(name, text, 1).unwrap();
        let paths = ["a/pause.yaml", "b/pause.yaml"].map(PathBuf::from);
        let refused = have_own_reports(&[script("pause"), script("pause")], &paths).unwrap_err().to_string();
        assert!(
            refused.starts_with("a/pause.yaml and b/pause.yaml would both report to pause/"),
            "{refused}"
        );
        assert!(have_own_reports(&[script("pause"), script("other")], &paths).is_ok());
    }
}
