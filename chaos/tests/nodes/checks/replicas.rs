//! At the end all nodes have the same state and the same archive, each the whole of it.

use std::time::Duration;

use tandem_cluster::Cluster;
use tandem_cluster::archive::{ArchiveError, CdrQuery, EventsRead};
use tandem_state::{Cdr, Event, EventId};

use super::Checked;
use crate::world::World;

/// What a node's archive holds.
#[derive(Debug, PartialEq)]
pub(crate) struct Archived {
    pub(crate) events: Vec<Event>,
    pub(crate) cdrs: Vec<Cdr>,
}

pub(crate) fn same_state(world: &mut World) -> Checked {
    let node = world.node(0).ok_or("n1 does not run")?;
    // Each asks anew: right after an election a node may have kept no state at the position that was agreed on.
    for _ in 0..5 {
        let asked = node.clone();
        let report = world.on(0, async move { asked.hash().await });
        match report {
            Ok(report) if report.equal && report.nodes.len() == world.machines.len() => return Ok(()),
            Ok(report) if report.nodes.iter().all(|node| node.hash.is_some()) => {
                return Err(format!("the states differ: {report:#?}"));
            }
            Ok(_) | Err(_) => world.pass(Duration::from_millis(500)),
        }
    }
    Err("the states could not be compared".into())
}

/// The archive, if all have the same.
pub(crate) fn same_archive(world: &mut World) -> Result<Archived, String> {
    let mut first: Option<Archived> = None;
    for at in 0..world.machines.len() {
        let node = world.node(at).ok_or("a node does not run")?;
        let read = async move {
            // An index that was ahead of what a power cut left is being made anew.
            for _ in 0..100 {
                let node = node.clone();
                match tokio::task::spawn_blocking(move || archived(&node)).await.expect("no panic") {
                    Err(ArchiveError::Rebuilding { .. }) => tokio::time::sleep(PAUSE).await,
                    read => return read.map_err(|error| error.to_string()),
                }
            }
            Err("the archive's index is never made".to_owned())
        };
        let archived = world.on(at, read)?;
        match &first {
            None => first = Some(archived),
            Some(first) if *first != archived => {
                return Err(format!("n1 and n{} have other archives", at + 1));
            }
            Some(_) => {}
        }
    }
    first.ok_or_else(|| "there are no nodes".into())
}

const PAUSE: Duration = Duration::from_millis(100);

fn archived(node: &Cluster) -> Result<Archived, ArchiveError> {
    let archive = node.archive();
    let (mut events, mut after): (Vec<Event>, Option<EventId>) = (Vec::new(), None);
    loop {
        match archive.events(after, None, 1_000)? {
            EventsRead::Events { events: some, last, more } => {
                events.extend(some);
                if !more {
                    break;
                }
                after = last;
            }
            EventsRead::Reset { oldest } => {
                return Err(ArchiveError::Storage(format!("events before {oldest} are gone")));
            }
        }
    }
    let query = CdrQuery { tenant: None, since: None, until: None, cursor: None, limit: 100_000 };
    let cdrs = archive.cdrs(&query)?.items;
    Ok(Archived { events, cdrs })
}
