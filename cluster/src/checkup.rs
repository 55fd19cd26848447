//! What a node finds when it looks at itself and its peers: for `tandem doctor`.
//!
//! Measuring is apart from judging: what makes a finding bad is plain functions.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tandem_state::NodeRecord;

use crate::clock::{wall_ms, wall_s};
use crate::identity::Fork;
use crate::node::{Measured, Node};
use crate::rules;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but not for long or not well.
    Warning,
    /// It does not work, or will not survive the next fault.
    Failure,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `clock`, `disk flush`, `quorum`, ...
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do about it; empty when nothing is to be done.
    pub todo: String,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &str, what: impl Into<String>) -> Finding {
        Finding { check: check.into(), level: Level::Ok, what: what.into(), todo: String::new() }
    }

    /// Something is to be done.
    pub fn bad(check: &str, level: Level, what: impl Into<String>, todo: impl Into<String>) -> Finding {
        Finding { check: check.into(), level, what: what.into(), todo: todo.into() }
    }
}

/// Clocks within this of each other are as good as NTP makes them on a bad day.
const CLOCK_GOOD_MS: u64 = 500;
/// Beyond this a node's clock is not believed when cluster time is stepped.
const CLOCK_BAD_MS: u64 = 2_000;
const FLUSH_GOOD: Duration = Duration::from_millis(20);
/// A flush this long fills the time in which 99 of 100 commands should be committed.
const FLUSH_BAD: Duration = Duration::from_millis(250);
/// So much of a disk should be free: a share in percent, or so many bytes of a large one.
const FREE_GOOD_PERCENT: u64 = 10;
const FREE_GOOD_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// With less, the node may not get through the day.
const FREE_BAD_BYTES: u64 = 512 * 1024 * 1024;
/// Each call takes two sockets and each TCP phone one.
const FILES_GOOD: u64 = 65_536;

impl Node {
    /// See `Cluster::checkup`.
    pub(crate) async fn checkup(&self) -> Vec<Finding> {
        let view = self.shared.view.load_full();
        let peers: Vec<NodeRecord> =
            view.nodes.values().filter(|record| record.id != self.id()).cloned().collect();
        let asked = peers.iter().map(|peer| async move { (peer, self.measure(peer.id).await) });
        let answers = futures_util::future::join_all(asked).await;
        let status = self.status().await;
        let mut found = vec![quorum(status.quorum, status.leader.as_deref(), status.survives.any_one_node)];
        found.extend(answers.iter().map(|(peer, answer)| reach(peer, answer.as_ref())));
        found.push(clock(&clocks(&answers)));
        found.push(cluster_time(self.shared.now().0, wall_ms()));
        found.push(versions(&self.record.version, &answers, view.apply_version));
        found.push(self.lease_finding());
        found.extend(self.shared.refused().map(|why| {
            let todo = "the node asks again by itself: see deploy/runbooks/node-lost.md, step 4";
            Finding::bad("membership", Level::Failure, format!("the cluster refuses this node: {why}"), todo)
        }));
        found.extend(forks(self.identity.generation, self.identity.fork, &self.other_forks()));
        found.push(certificate(self.secrets.held().certificate.until_s, wall_s()));
        for record in peers.iter().chain([&self.record]) {
            found.push(resolves(&record.name, &record.cluster_address).await);
        }
        found.push(resolves("phones", &format!("{}:5060", self.record.sip_advertise)).await);
        found.push(advertised(&self.record, &peers));
        let data = self.data.clone();
        let measured =
            tokio::task::spawn_blocking(move || [flush(&measure_flush(&data)), space(&data), files()]);
        found.extend(measured.await.into_iter().flatten());
        found
    }

    fn lease_finding(&self) -> Finding {
        let lease = self.lease();
        match lease.remaining() {
            None => Finding::ok("lease", "no leases in this cluster yet"),
            Some(left) if lease.holds() => {
                Finding::ok("lease", format!("holds for {} ms more", left.as_millis()))
            }
            Some(_) => Finding::bad(
                "lease",
                Level::Failure,
                "this node holds no lease: it answers new calls and registrations 503",
                "a quorum must hear it: look at the other findings, and at the network between the nodes",
            ),
        }
    }
}

fn quorum(stands: bool, leader: Option<&str>, any_one: bool) -> Finding {
    match (stands, leader) {
        (true, Some(leader)) if any_one => {
            Finding::ok("quorum", format!("stands, {leader} leads, any one node may go"))
        }
        (true, Some(leader)) => Finding::bad(
            "quorum",
            Level::Warning,
            format!("stands, {leader} leads, but the next loss may stop the cluster"),
            "bring the missing voters back, or add one: `tandem cluster status`, deploy/runbooks/node-lost.md",
        ),
        _ => Finding::bad(
            "quorum",
            Level::Failure,
            "no leader has a majority of voters with it: nothing new is taken",
            "start the nodes that are down, never on an empty data directory: deploy/runbooks/node-lost.md",
        ),
    }
}

/// Nothing where no quorum was forced.
fn forks(generation: u64, own: Fork, others: &[(String, Fork)]) -> Option<Finding> {
    let (check, here) = ("forks", format!("generation {generation}, fork {own}"));
    let named: Vec<String> = others.iter().map(|(name, fork)| format!("{name} (fork {fork})")).collect();
    if others.is_empty() {
        return (own != Fork::default()).then(|| Finding::ok(check, format!("{here}; no other was met")));
    }
    Some(Finding::bad(
        check,
        Level::Failure,
        format!("{here}; {} is another cluster of the same name", named.join(", ")),
        "two survivors were forced apart, and both act: switch one off for good, deploy/runbooks/quorum-lost.md",
    ))
}

fn reach(peer: &NodeRecord, answer: Option<&Measured>) -> Finding {
    let check = format!("port to {}", peer.name);
    match answer {
        Some(answer) => Finding::ok(
            &check,
            format!("{} answers in {:.1} ms", peer.cluster_address, answer.took.as_secs_f64() * 1e3),
        ),
        None => Finding::bad(
            &check,
            Level::Failure,
            format!("{} does not answer", peer.cluster_address),
            "is the node running, and does a firewall let TCP through to this port?",
        ),
    }
}

/// How far each peer's clock is ahead of this node's.
fn clocks(answers: &[(&NodeRecord, Option<Measured>)]) -> Vec<(String, i64)> {
    answers.iter().filter_map(|(peer, answer)| Some((peer.name.clone(), answer.as_ref()?.ahead_ms))).collect()
}

fn clock(peers: &[(String, i64)]) -> Finding {
    let off = |(name, ahead_ms): &(String, i64)| (ahead_ms.unsigned_abs(), name.clone());
    let Some((worst_ms, name)) = peers.iter().map(off).max() else {
        return Finding::ok("clock", "no peer to compare with");
    };
    let what = format!("{worst_ms} ms off {name}'s clock");
    let todo = "run chrony or systemd-timesyncd on every node; billing goes by the leader's clock";
    match worst_ms {
        0..=CLOCK_GOOD_MS => Finding::ok("clock", format!("within {worst_ms} ms of every peer's")),
        ms if ms <= CLOCK_BAD_MS => Finding::bad("clock", Level::Warning, what, todo),
        _ => Finding::bad("clock", Level::Failure, what, todo),
    }
}

fn cluster_time(cluster_ms: u64, wall_ms: u64) -> Finding {
    match cluster_ms.abs_diff(wall_ms) {
        ms if ms <= CLOCK_BAD_MS => Finding::ok("cluster time", format!("{ms} ms off this node's clock")),
        ms => Finding::bad(
            "cluster time",
            Level::Warning,
            format!("{ms} ms off this node's clock"),
            "it is drawn towards the leader's clock slowly: see that all clocks are right, then wait",
        ),
    }
}

fn versions(own: &str, answers: &[(&NodeRecord, Option<Measured>)], in_force: u16) -> Finding {
    let others =
        answers.iter().filter_map(|(peer, answer)| Some((&peer.name, &answer.as_ref()?.pong.version)));
    let odd: Vec<String> = others
        .filter(|(_, version)| *version != own)
        .map(|(name, version)| format!("{name} runs {version}"))
        .collect();
    if odd.is_empty() && in_force == rules::newest() {
        return Finding::ok("versions", format!("all run {own}, rules {in_force} are in force"));
    }
    let what = match odd.is_empty() {
        true => format!("rules {in_force} are in force, this release has {}", rules::newest()),
        false => format!("this node runs {own}, {}", odd.join(", ")),
    };
    Finding::bad(
        "versions",
        Level::Warning,
        what,
        "finish the upgrade: newer rules come into force when every node has them",
    )
}

/// It renews by itself with a third of its time left, 30 days.
fn certificate(until_s: u64, now_s: u64) -> Finding {
    let days = until_s.saturating_sub(now_s) / 86_400;
    let what = format!("good for {days} more days");
    let todo = "it should have renewed by itself: the log says why not; a witness needs a full node that can be reached";
    match days {
        0..3 => Finding::bad("certificate", Level::Failure, what, todo),
        3..25 => Finding::bad("certificate", Level::Warning, what, todo),
        _ => Finding::ok("certificate", what),
    }
}

async fn resolves(whose: &str, address: &str) -> Finding {
    let check = format!("name of {whose}");
    match tokio::time::timeout(Duration::from_secs(3), tokio::net::lookup_host(address)).await {
        Ok(Ok(mut found)) => match found.next() {
            Some(_) => Finding::ok(&check, address),
            None => {
                Finding::bad(&check, Level::Failure, format!("{address} has no address"), "add it to the DNS")
            }
        },
        Ok(Err(error)) => Finding::bad(
            &check,
            Level::Failure,
            format!("{address}: {error}"),
            "look at /etc/resolv.conf and the DNS server",
        ),
        Err(_) => Finding::bad(
            &check,
            Level::Failure,
            format!("{address}: no answer in 3 s"),
            "the DNS server does not answer: names must not be needed to start a node",
        ),
    }
}

/// Phones elsewhere can't reach a loopback address.
fn advertised(own: &NodeRecord, peers: &[NodeRecord]) -> Finding {
    let is_local = |address: &str| {
        address.starts_with("127.") || address.starts_with("localhost") || address.starts_with("[::1]")
    };
    let all_here = peers.iter().all(|peer| is_local(&peer.cluster_address));
    if is_local(&own.sip_advertise) && !all_here {
        return Finding::bad(
            "sip.advertise",
            Level::Failure,
            format!("phones are told {}, an address of this machine alone", own.sip_advertise),
            "set sip.advertise to the address by which phones reach this node",
        );
    }
    Finding::ok("sip.advertise", own.sip_advertise.clone())
}

/// The times that small appends took to reach the disk.
fn measure_flush(data: &Path) -> io::Result<Vec<Duration>> {
    const TIMES: usize = 9;
    let path = data.join("checkup.tmp");
    let mut file: File = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    // At once: it needs no name, and another checkup may have taken it away already.
    let _ = std::fs::remove_file(&path);
    let took = (0..TIMES).map(|_| {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        Ok(begun.elapsed())
    });
    took.collect()
}

fn flush(took: &io::Result<Vec<Duration>>) -> Finding {
    let mut took = match took {
        Ok(took) => took.clone(),
        Err(error) => {
            let todo = "this node can't keep what it acknowledges: look at the disk";
            return Finding::bad("disk flush", Level::Failure, error.to_string(), todo);
        }
    };
    took.sort_unstable();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    let worst = took.last().copied().unwrap_or_default();
    let what = format!("{:.1} ms, at worst {:.1} ms", median.as_secs_f64() * 1e3, worst.as_secs_f64() * 1e3);
    let todo = "every commit waits for it: use a disk with a write cache that survives power loss, alone for the data directory";
    match median {
        good if good <= FLUSH_GOOD => Finding::ok("disk flush", what),
        slow if slow <= FLUSH_BAD => Finding::bad("disk flush", Level::Warning, what, todo),
        _ => Finding::bad("disk flush", Level::Failure, what, todo),
    }
}

fn space(data: &Path) -> Finding {
    match rustix::fs::statvfs(data) {
        Ok(disk) => judged_space(
            disk.f_bavail.saturating_mul(disk.f_frsize),
            disk.f_blocks.saturating_mul(disk.f_frsize),
        ),
        Err(error) => Finding::bad(
            "disk space",
            Level::Failure,
            error.to_string(),
            "look at the disk of the data directory",
        ),
    }
}

fn judged_space(free: u64, total: u64) -> Finding {
    let what = format!("{:.1} of {:.1} GB free", free as f64 / 1e9, total as f64 / 1e9);
    let todo =
        "make room or enlarge the disk of the data directory: a node that can't write acknowledges nothing";
    if free < FREE_BAD_BYTES {
        return Finding::bad("disk space", Level::Failure, what, todo);
    }
    if free < (total / 100 * FREE_GOOD_PERCENT).min(FREE_GOOD_BYTES) {
        return Finding::bad("disk space", Level::Warning, what, todo);
    }
    Finding::ok("disk space", what)
}

/// How many files this process may open.
fn files() -> Finding {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    match soft.map(str::parse::<u64>) {
        Some(Ok(soft)) if soft < FILES_GOOD => Finding::bad(
            "open files",
            Level::Warning,
            format!("{soft} at most; each call takes two, each TCP phone one"),
            "raise LimitNOFILE in the unit, or ulimit -n",
        ),
        Some(_) => Finding::ok("open files", soft.unwrap_or_default()),
        None => Finding::ok("open files", "this system does not say"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(findings: impl IntoIterator<Item = Finding>) -> Vec<Level> {
        findings.into_iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_clock_is_judged_by_the_peer_that_it_differs_from_most() {
        let peers = |ms| [("n2".to_owned(), 0), ("n3".to_owned(), ms)];
        assert_eq!(
            levels([-400, 1_000, -3_000].map(|ms| clock(&peers(ms)))),
            [Level::Ok, Level::Warning, Level::Failure]
        );
        assert_eq!(clock(&peers(-3_000)).what, "3000 ms off n3's clock");
        assert_eq!(clock(&[]).level, Level::Ok);
    }

    #[test]
    fn a_disk_is_judged_by_the_median_of_its_flushes() {
        let ms = Duration::from_millis;
        let found = [vec![ms(1), ms(900), ms(2)], vec![ms(30), ms(40), ms(1)], vec![ms(300); 3]];
        assert_eq!(levels(found.map(|took| flush(&Ok(took)))), [Level::Ok, Level::Warning, Level::Failure]);
        assert_eq!(flush(&Err(io::ErrorKind::StorageFull.into())).level, Level::Failure);
    }

    #[test]
    fn little_room_is_a_warning_and_next_to_none_a_failure() {
        let gb = 1_000_000_000;
        assert_eq!(
            levels(
                [(50 * gb, 100 * gb), (24 * gb, 271 * gb), (5 * gb, 100 * gb), (gb / 10, gb)]
                    .map(|(free, total)| judged_space(free, total))
            ),
            [Level::Ok, Level::Ok, Level::Warning, Level::Failure]
        );
    }

    #[test]
    fn a_certificate_that_did_not_renew_is_told_of_in_time() {
        let day = 86_400;
        assert_eq!(
            levels([89, 24, 2].map(|days| certificate(1_000 + days * day, 1_000))),
            [Level::Ok, Level::Warning, Level::Failure]
        );
        assert_eq!(certificate(5, 1_000).level, Level::Failure);
    }

    #[test]
    fn a_quorum_that_can_lose_nobody_is_a_warning() {
        assert_eq!(
            levels([
                quorum(true, Some("n1"), true),
                quorum(true, Some("n1"), false),
                quorum(false, None, false)
            ]),
            [Level::Ok, Level::Warning, Level::Failure]
        );
    }

    #[tokio::test]
    async fn an_address_needs_no_server_and_a_name_without_one_is_a_failure() {
        assert_eq!(resolves("n2", "127.0.0.2:7400").await.level, Level::Ok);
        assert_eq!(resolves("n2", "no port").await.level, Level::Failure);
    }
}
