//! `tandem.pid` beside the config: the process that speaks SIP.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The file's name.
const NAME: &str = "tandem.pid";

/// The written file; removed when dropped, if it is still this process's.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes this process's id, all at once.
    pub(super) fn write(folder: &Path) -> anyhow::Result<PidFile> {
        let path = folder.join(NAME);
        let draft = folder.join(format!(".{NAME}.{}", std::process::id()));
        let written = fs::write(&draft, format!("{}\n", std::process::id()));
        let written = written.and_then(|()| fs::rename(&draft, &path));
        written.with_context(|| path.display().to_string())?;
        Ok(PidFile { path })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if read(&self.path) == Some(std::process::id()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn read(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
