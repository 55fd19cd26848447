//! `credentials.json`: the operator's token and every extension's password, for scripts and softphones.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tandem_state::config::wanted::WantedConfig;

use super::layout::Layout;

/// The file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Credentials {
    pub(super) admin_token: String,
    pub(super) extensions: Vec<Login>,
}

/// What a softphone needs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Login {
    pub(super) tenant: String,
    pub(super) domain: String,
    pub(super) number: String,
    pub(super) password: String,
}

impl Credentials {
    /// Those of an earlier start.
    pub(super) fn load(layout: &Layout) -> anyhow::Result<Option<Credentials>> {
        let path = path(layout);
        match fs::read(&path) {
            Ok(bytes) => {
                Ok(Some(serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Writes the file all at once, for this user alone.
    pub(super) fn save(&self, layout: &Layout) -> anyhow::Result<()> {
        let path = path(layout);
        let draft = path.with_extension("json.new");
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let _ = fs::remove_file(&draft);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
        let written = file.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
        written.and_then(|()| fs::rename(&draft, &path)).with_context(|| path.display().to_string())
    }

    /// Lists the extensions of a file that gives their passwords; others of these tenants are dropped.
    pub(super) fn take_from(&mut self, wanted: &WantedConfig) {
        for tenant in wanted.tenants.iter().flatten() {
            let known = self.extensions.iter().find(|login| login.tenant == tenant.name);
            let domain =
                tenant.domain.clone().or_else(|| known.map(|login| login.domain.clone())).unwrap_or_default();
            let Some(extensions) = &tenant.extensions else { continue };
            let (others, former): (Vec<Login>, Vec<Login>) = std::mem::take(&mut self.extensions)
                .into_iter()
                .partition(|login| login.tenant != tenant.name);
            self.extensions = others;
            for extension in extensions {
                let kept = former.iter().find(|login| login.number == extension.number);
                let kept =
                    kept.filter(|_| extension.password_digest.is_none()).map(|login| login.password.clone());
                if let Some(password) = extension.password.clone().or(kept) {
                    let (tenant, number) = (tenant.name.clone(), extension.number.clone());
                    self.extensions.push(Login { tenant, domain: domain.clone(), number, password });
                }
            }
        }
    }
}

fn path(layout: &Layout) -> PathBuf {
    layout.dir.join("credentials.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_passwords_are_listed_and_known_ones_kept() {
        let file = serde_json::json!({"tenants": [{"name": "acme", "domain": "acme.example", "extensions": [
            {"number": "1", "password": "new"}, {"number": "2"}, {"number": "3", "password_digest": {"md5": "", "sha256": ""}}]}]});
        let wanted: WantedConfig = serde_json::from_value(file).unwrap();
        let login = |tenant: &str, number: &str, password: &str| Login {
            tenant: tenant.into(),
            domain: format!("{tenant}.example"),
            number: number.into(),
            password: password.into(),
        };
        let former = ["1", "2", "3", "4"].map(|number| login("acme", number, "old"));
        let extensions = [&[login("globex", "1", "other")][..], &former].concat();
        let mut credentials = Credentials { admin_token: "t".into(), extensions };
        credentials.take_from(&wanted);
        let expected = [login("globex", "1", "other"), login("acme", "1", "new"), login("acme", "2", "old")];
        assert!(credentials.extensions == expected);
    }
}
