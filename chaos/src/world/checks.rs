//! What must hold through every run, one file each.

mod archives;
mod bindings;
mod cdrs;
mod once;
mod replicas;

use tandem_state::{Applied, Command};

use super::history::History;
use super::replica::Replica;

/// A check: nothing, or the place where it does not hold.
type Checked = Result<(), String>;

/// All checks that look at the end of a run.
pub fn all(history: &History, replicas: &[&Replica]) -> Result<(), (&'static str, String)> {
    replicas::equal_at_the_end(history, replicas).map_err(|what| ("replicas are equal", what))?;
    archives::equal_and_chained(history, replicas)
        .map_err(|what| ("archives are equal and chained", what))?;
    once::applied_once(history).map_err(|what| ("an acknowledged proposal is applied exactly once", what))?;
    cdrs::one_per_attempt(history, replicas).map_err(|what| ("one CDR per attempt", what))?;
    bindings::never_resurrect(history, replicas).map_err(|what| ("bindings never resurrect", what))
}

/// Compares what a replica made of an entry with what the first one made of it.
pub fn same_everywhere(
    history: &mut History,
    replica: &Replica,
    applied: Applied,
) -> Result<(), (&'static str, String)> {
    replicas::same_as_the_first(history, replica, applied).map_err(|what| ("replicas are equal", what))
}

/// A command's name, for traces.
pub fn name_of(command: &Command) -> &'static str {
    match command {
        Command::Tick => "Tick",
        Command::StepTime { .. } => "StepTime",
        Command::RaiseApplyVersion { .. } => "RaiseApplyVersion",
        Command::NodeStarted { .. } => "NodeStarted",
        Command::NodeRemoved { .. } => "NodeRemoved",
        Command::Configure { .. } => "Configure",
        Command::PutToken { .. } => "PutToken",
        Command::RemoveToken { .. } => "RemoveToken",
        Command::Bind { .. } => "Bind",
        Command::Unbind { .. } => "Unbind",
        Command::CreateCall { .. } => "CreateCall",
        Command::CreateCallFrom { .. } => "CreateCallFrom",
        Command::MoveCall { .. } => "MoveCall",
        Command::Drain { .. } => "Drain",
        Command::Checkpoint { .. } => "Checkpoint",
        Command::EndCall { .. } => "EndCall",
        Command::RefuseCall { .. } => "RefuseCall",
        Command::Audit { .. } => "Audit",
        Command::Renew { .. } => "Renew",
        Command::ExpireLease { .. } => "ExpireLease",
        Command::EndLease { .. } => "EndLease",
        Command::Salvage { .. } => "Salvage",
        Command::RenewMarked { .. } => "RenewMarked",
        Command::UseClusterKey { .. } => "UseClusterKey",
    }
}
