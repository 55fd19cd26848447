//! What a process tree costs, from /proc: CPU seconds and resident memory of a process and all its descendants.

use std::collections::HashMap;
use std::fs;

/// CPU and memory of some process trees at one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// User and system time of every process now in the trees, with that of children already waited for, seconds.
    pub cpu_s: f64,
    /// Resident memory, kilobytes.
    pub rss_kb: u64,
}

struct Process {
    parent: u32,
    ticks: u64,
    rss_pages: u64,
}

/// The usage of these processes and their descendants.
pub fn usage(pids: &[u32]) -> Usage {
    let all = processes();
    let mut members: Vec<u32> = pids.to_vec();
    let mut next = 0;
    while let Some(&pid) = members.get(next) {
        let children: Vec<u32> = all
            .iter()
            .filter(|(child, p)| p.parent == pid && !members.contains(child))
            .map(|(child, _)| *child)
            .collect();
        members.extend(children);
        next += 1;
    }
    let (ticks, pages) = members
        .iter()
        .filter_map(|pid| all.get(pid))
        .fold((0, 0), |(ticks, pages), process| (ticks + process.ticks, pages + process.rss_pages));
    let page_kb = u64::try_from(rustix::param::page_size() / 1024).unwrap_or(4);
    #[expect(clippy::cast_precision_loss, reason = "ticks of a test run are far below 2^52")]
    let cpu_s = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Usage { cpu_s, rss_kb: pages * page_kb }
}

fn processes() -> HashMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, process(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

/// Reads /proc/PID/stat (proc(5)): fields 4 ppid, 14 to 17 the times, 24 resident pages. The name may hold anything.
fn process(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| -> Option<u64> { fields.get(field - 3)?.parse().ok() };
    Some(Process {
        parent: u32::try_from(number(4)?).ok()?,
        ticks: number(14)? + number(15)? + number(16)? + number(17)?,
        rss_pages: number(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_an_odd_name_is_read() {
        let line =
            "42 (a) b (c) S 7 42 42 0 -1 4194304 1 0 0 0 11 22 3 4 20 0 1 0 5 1000 250 18446744073709551615";
        let process = process(line).unwrap();
        assert_eq!((process.parent, process.ticks, process.rss_pages), (7, 40, 250));
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(usage(&[std::process::id()]).rss_kb > 100);
    }
}
