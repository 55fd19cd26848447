//! `tandem apply` and `tandem export`.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_state::config::wanted::WantedConfig;

use crate::cli::Format;
use crate::client::Client;
use crate::failure::refused;
use crate::output::{print, show, yaml};

/// What the API says that it changed.
#[derive(Debug, Serialize, Deserialize)]
struct Applied {
    changes: Vec<String>,
    dry_run: bool,
}

pub(super) async fn apply(
    client: Client,
    file: &Path,
    dry_run: bool,
    prune: bool,
    format: Format,
) -> anyhow::Result<()> {
    let wanted = sendable(&read(file)?)?;
    let query = [
        ("dry_run", if dry_run { "true" } else { "false" }),
        ("prune", if prune { "true" } else { "false" }),
    ];
    let applied = client.post("/v1/config", &query, &wanted).await;
    let applied: Applied = applied.with_context(|| file.display().to_string())?;
    show(format, &applied, told)
}

pub(super) async fn export(client: Client, format: Option<Format>) -> anyhow::Result<()> {
    let config: WantedConfig = client.get("/v1/config", &[]).await?;
    print(&match format {
        Some(Format::Json) => serde_json::to_string_pretty(&config)? + "\n",
        Some(Format::Yaml | Format::Table) | None => yaml(&config)?,
    })
}

fn told(applied: &Applied) -> String {
    let changes: String = applied.changes.iter().map(|line| format!("{line}\n")).collect();
    match (applied.changes.len(), applied.dry_run) {
        (0, _) => "nothing to change\n".to_owned(),
        (count, true) => format!("{changes}{count} would change; nothing was changed\n"),
        (count, false) => format!("{changes}{count} changed\n"),
    }
}

/// Reads an apply file; errors name file, line and key.
pub(crate) fn read(file: &Path) -> anyhow::Result<WantedConfig> {
    let shown = file.display();
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| shown.to_string())?;
    }
    parse(&text).map_err(|(line, why)| refused(format!("{shown}:{line}: {why}"), ""))
}

fn parse(text: &str) -> Result<WantedConfig, (u64, String)> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let why = error.without_snippet().to_string();
        (line, why.split(" at line ").next().unwrap_or_default().to_owned())
    })
}

/// A file as the API wants it. What the state reads but never writes (passwords in clear) is put in by hand.
pub(crate) fn sendable(wanted: &WantedConfig) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(wanted)?;
    for (at, tenant) in wanted.tenants.iter().flatten().enumerate() {
        for (nth, extension) in tenant.extensions.iter().flatten().enumerate() {
            let place = value.pointer_mut(&format!("/tenants/{at}/extensions/{nth}"));
            if let (Some(Value::Object(fields)), Some(password)) = (place, &extension.password) {
                fields.insert("password".to_owned(), password.clone().into());
            }
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "tenants:\n  - name: acme\n    domain: acme.example\n    limits: {calls: 100}\n    extensions:\n      \
                        - {number: \"101\", name: John Doe, password: \"hush\"}\n    numbers:\n      \
                        - {number: \"+442075866660\", to: {extension: \"101\"}}\n";

    #[test]
    fn a_file_is_sent_with_its_passwords_and_without_what_it_leaves_out() {
        let sent = sendable(&parse(FILE).unwrap()).unwrap();
        let expected = serde_json::json!({"tenants": [{"name": "acme", "domain": "acme.example", "limits": {"calls": 100},
            "extensions": [{"number": "101", "name": "John Doe", "password": "hush"}],
            "numbers": [{"number": "+442075866660", "to": {"extension": "101"}}]}]});
        assert_eq!(sent, expected);
    }

    #[test]
    fn json_is_yaml_too() {
        let sent = sendable(&parse(FILE).unwrap()).unwrap();
        assert_eq!(parse(&sent.to_string()).unwrap(), parse(FILE).unwrap());
    }

    #[test]
    fn an_export_is_read_again() {
        let file =
            parse(&FILE.replace("password: \"hush\"", "password_digest: {md5: a, sha256: b}")).unwrap();
        assert_eq!(parse(&yaml(&file).unwrap()).unwrap(), file);
    }

    #[test]
    fn errors_name_line_and_key_and_no_secret() {
        let (line, why) = parse(&FILE.replace("name: John Doe", "nmae: John Doe")).unwrap_err();
        assert_eq!(line, 6);
        assert!(why.contains("nmae") && !why.contains("hush"), "{why}");
        let (line, _) = parse(&FILE.replace("{calls: 100}", "{calls: many}")).unwrap_err();
        assert_eq!(line, 4);
    }
}
