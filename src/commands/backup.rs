//! `tandem backup` and `tandem restore`.

use std::fs::File;
use std::io::{BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use tandem_cluster::{BackupHead, RestoreError};

use crate::client::Client;
use crate::config::Config;
use crate::failure::refused;
use crate::output::{print, progress};

/// Takes a backup into a file that must not be there yet.
pub(super) async fn backup(client: Client, file: PathBuf) -> anyhow::Result<()> {
    let passphrase = passphrase()?;
    let beside = file.with_extension("part");
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    if file.exists() {
        return Err(refused(format!("{} is there already", file.display()), "name another file"));
    }
    let mut to = options.open(&beside).map_err(|error| {
        refused(format!("{}: {error}", beside.display()), "an older try may have left it: remove it")
    })?;
    let fetched = client.fetch("/v1/cluster/backup", &json!({ "passphrase": passphrase }), &mut to).await;
    let done = fetched.and_then(|bytes| {
        to.sync_all()?;
        std::fs::rename(&beside, &file)?;
        Ok(bytes)
    });
    match done {
        Ok(bytes) => print(&format!("{}: {bytes} bytes\n", file.display())),
        Err(error) => {
            // Half a backup is none.
            let _ = std::fs::remove_file(&beside);
            Err(error)
        }
    }
}

/// Makes the config's data directory the first node of a new cluster.
pub(super) async fn restore(file: &Path, config: &Path) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    let passphrase = passphrase()?;
    let from = File::open(file).map_err(|error| refused(format!("{}: {error}", file.display()), ""))?;
    let restored = tandem_cluster::restore(&config.data, BufReader::new(from), &passphrase).await;
    let (made, head) = restored.map_err(explained)?;
    print(&format!("{}\n", made.cluster_id))?;
    progress(&told(&head, &config));
    Ok(())
}

fn told(head: &BackupHead, config: &Config) -> String {
    let [cdrs, events, audit] = head.records;
    format!(
        "the state of cluster {} as of log position {}, {cdrs} CDRs, {events} events and {audit} audit records are a new cluster now.\n\
         Its tokens hold; phones must register again. The old cluster must not run beside it on the same addresses.\n\
         next: tandem node run --config {}; then `tandem cluster invite` for two more nodes",
        head.cluster_id,
        head.position,
        config.path.display()
    )
}

fn explained(error: RestoreError) -> anyhow::Error {
    let todo = match &error {
        RestoreError::Directory(_) => "restore makes a new node: give it an empty data directory",
        RestoreError::Io(_) | RestoreError::Sealed(_) => {
            "check the passphrase and the file; nothing was made"
        }
        RestoreError::Damaged(_) => "take another backup file; nothing was made",
    };
    refused(error.to_string(), todo)
}

/// From TANDEM_PASSPHRASE, else a line of standard input.
fn passphrase() -> anyhow::Result<String> {
    if let Ok(passphrase) = std::env::var("TANDEM_PASSPHRASE") {
        return Ok(passphrase);
    }
    if std::io::stdin().is_terminal() {
        let _ = write!(std::io::stderr(), "passphrase (it is shown): ");
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err(refused("no passphrase", "put it into TANDEM_PASSPHRASE, or type it")),
        text => Ok(text.to_owned()),
    }
}
