//! A data directory is kept at one time and put back at a later one, file by file into the same files, as a backup program
//! does: no look at the directory alone can tell.

use crate::world::World;
use anyhow::Context;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn kept(world: &World, node: usize) -> PathBuf {
    world.folder(node).join("kept")
}

/// Stops the node, copies its directory, starts it again.
pub(super) fn keep(world: &World, node: usize) -> anyhow::Result<()> {
    let worker = world.worker(node).context("the node runs")?;
    crate::world::signal(world.guard(node).context("the node runs")?, Signal::TERM)?;
    super::await_gone(worker)?;
    copy(&world.data(node), &kept(world, node))?;
    world.start(node)?;
    world.await_whole(Duration::from_secs(40))
}

/// Makes the directory what it was when it was kept.
pub(super) fn put_back(world: &World, node: usize) -> anyhow::Result<()> {
    let (from, to) = (kept(world, node), world.data(node));
    prune(&from, &to)?;
    copy(&from, &to)
}

/// Copies what is in a folder into the files that are there already, or new ones. Sockets are left out.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            // A file that is there stays the same file, with other content.
            fs::write(&target, fs::read(entry.path())?)?;
            fs::set_permissions(&target, entry.metadata()?.permissions())?;
        }
    }
    Ok(())
}

/// Removes what was not there then.
fn prune(from: &Path, at: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        let then = from.join(entry.file_name());
        match (entry.file_type()?.is_dir(), then.exists()) {
            (true, true) => prune(&then, &entry.path())?,
            (true, false) => fs::remove_dir_all(entry.path())?,
            (false, true) => {}
            (false, false) => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
