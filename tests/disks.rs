//! A node's disk is full, slow, or refuses; the steps of deploy/runbooks/disk-full.md and disk-rot.md. The full disk is a small
//! tmpfs where it may be mounted, else the fault switch of the test build; so is the rest.
#![cfg(feature = "faults")]
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test may panic, and tells what it used")]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::demo::Demo;
use support::{eventually, scratch};

const LONG: Duration = Duration::from_secs(30);

/// A small file system of its own, if this user may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<SmallDisk> {
        fs::create_dir_all(at).expect("a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|out| out.status.success()).then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The way in which n2's disk is filled and emptied.
enum Filling {
    Real(PathBuf),
    Switch,
}

impl Filling {
    fn fill(&self, demo: &Demo) {
        match self {
            Filling::Real(filler) => {
                let mut file = fs::File::create(filler).expect("a file");
                let block = vec![0; 64 * 1024];
                while file.write_all(&block).is_ok() {}
                while file.write_all(&[0]).is_ok() {}
            }
            Filling::Switch => assert_eq!(demo.fault(2, "disk full"), "done"),
        }
    }

    fn free(&self, demo: &Demo) {
        match self {
            Filling::Real(filler) => fs::remove_file(filler).expect("the filler goes"),
            Filling::Switch => assert_eq!(demo.fault(2, "disk ok"), "done"),
        }
    }
}

fn lead(demo: &Demo, node: u8) {
    let (code, _, error) = demo.cli(1, &["cluster", "transfer-leader", &format!("n{node}")]);
    assert_eq!(code, 0, "{error}");
    eventually(LONG, "it leads", || (demo.leader(1) == Some(node)).then_some(()));
}

/// Somebody else leads, and writes are taken.
fn others_go_on(demo: &Demo) {
    eventually(LONG, "another node leads", || demo.leader(1).filter(|leader| *leader != 2));
    let (code, _, error) = demo.cli(1, &["apply", "-f", &demo.dir.join("apply.yaml").to_string_lossy()]);
    assert_eq!(code, 0, "{error}");
    let (code, _, error) = demo.cli(1, &["cluster", "transfer-leader", "n3"]);
    assert_eq!(code, 0, "{error}");
}

fn storage(demo: &Demo, asked: u8) -> Option<String> {
    Some(demo.member(asked, 2)?["storage"].as_str()?.to_owned())
}

fn whole_again(demo: &Demo) {
    eventually(LONG, "n2 is well and has caught up", || {
        let (n1, n2) = (demo.member(1, 1)?, demo.member(1, 2)?);
        let well = n2["storage"] == "ok" && n2["state"] == "up";
        (well && n2["applied"].as_u64()? + 5 >= n1["applied"].as_u64()?).then_some(())
    });
    let (code, out, error) = demo.cli(1, &["cluster", "hash"]);
    assert_eq!(code, 0, "{out}{error}");
}

#[test]
fn a_leader_with_a_full_disk_gives_up_leadership_and_goes_on_when_there_is_room() {
    let dir = scratch("demo-49");
    let mounted = SmallDisk::mount(&dir.join("n2/data"));
    let filling = match &mounted {
        Some(disk) => Filling::Real(disk.0.join("filler")),
        None => Filling::Switch,
    };
    println!("the full disk is {}", if mounted.is_some() { "a tmpfs of 48 MiB" } else { "the fault switch" });
    let demo = Demo::start_in(49, dir);
    lead(&demo, 2);
    filling.fill(&demo);
    eventually(LONG, "n2 says that its disk is full", || (storage(&demo, 1)? == "full").then_some(()));
    let (_, out, _) = demo.cli(1, &["cluster", "status"]);
    assert!(out.contains("n2: its disk is full: "), "{out}");
    let (_, page) = demo.get(2, "/metrics").expect("n2 answers");
    assert!(page.contains("tandem_storage_trouble{kind=\"full\"} 1"), "no metric");
    others_go_on(&demo);
    assert_eq!(storage(&demo, 1).as_deref(), Some("full"));
    eventually(LONG, "n2 is called down, and none of the others may go", || {
        let (status, n2) = (demo.status(1)?, demo.member(1, 2)?);
        let stands = status["quorum"] == true && status["survives"]["any_one_node"] == false;
        (stands && n2["state"] == "down" && n2["lease_ms"] == 0 && n2["rtt_ms"].is_f64()).then_some(())
    });
    let pid = demo.pid(2);
    filling.free(&demo);
    whole_again(&demo);
    assert_eq!(demo.pid(2), pid, "it was not started again");
    drop(demo);
    drop(mounted);
}

#[test]
fn a_slow_leader_is_told_of_and_hands_over_and_a_failing_disk_is_outlived_or_stops_the_node() {
    let demo = Demo::start(50);
    lead(&demo, 2);
    assert_eq!(demo.fault(2, "disk slow 300"), "done");
    eventually(LONG, "n2 is called slow", || (storage(&demo, 1)? == "slow").then_some(()));
    others_go_on(&demo);
    assert_eq!(demo.fault(2, "disk ok"), "done");
    whole_again(&demo);

    // Syncs that fail for a moment: what they lost goes to new files.
    assert_eq!(demo.fault(2, "disk eio 4"), "done");
    let (code, _, error) = demo.cli(1, &["apply", "-f", &demo.dir.join("apply.yaml").to_string_lossy()]);
    assert_eq!(code, 0, "{error}");
    whole_again(&demo);
    // And when the power fails then, nothing of it is gone.
    let pid = demo.pid(2);
    demo.power_cut(2);
    demo.await_end(pid);
    demo.restart(2);
    whole_again(&demo);

    // A disk that goes on refusing stops the node, with a word for the operator.
    let pid = demo.pid(2);
    assert_eq!(demo.fault(2, "disk eio 1000000"), "done");
    demo.await_end(pid);
    let log = fs::read_to_string(demo.dir.join("n2/by-hand.log")).expect("its log");
    assert!(log.contains("can't go on"), "{log}");
    demo.restart(2);
    whole_again(&demo);
}

#[test]
fn rot_stops_the_node_with_a_file_and_a_next_step_and_a_new_one_takes_its_place() {
    let demo = Demo::start(51);
    let (code, _, error) = demo.cli(1, &["cluster", "transfer-leader", "n1"]);
    assert_eq!(code, 0, "{error}");
    let pid = demo.pid(2);
    demo.kill(2);
    demo.await_end(pid);
    let raft = demo.dir.join("n2/data/raft");
    let file = fs::read_dir(&raft)
        .expect("the log")
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "seg"));
    let file = file.expect("a file of the log");
    let mut bytes = fs::read(&file).expect("the file");
    bytes[100] ^= 0xff;
    fs::write(&file, bytes).expect("the file");
    demo.restart(2);
    let said = eventually(LONG, "n2 says what is wrong", || {
        let log = fs::read_to_string(demo.dir.join("n2/by-hand.log")).ok()?;
        log.contains("is damaged at byte").then_some(log)
    });
    assert!(said.contains(&*file.to_string_lossy()), "{said}");
    assert!(said.contains("tandem cluster remove"), "{said}");
    // What it says is done.
    let (code, _, error) = demo.cli(1, &["cluster", "remove", "n2"]);
    assert_eq!(code, 0, "{error}");
    demo.join_machine(4, 1);
    demo.restart(4);
    eventually(LONG, "n4 votes", || (demo.voters(1) == ["n1", "n3", "n4"]).then_some(()));
    let (code, out, error) = demo.cli(1, &["cluster", "hash"]);
    assert_eq!(code, 0, "{out}{error}");
}

#[test]
fn a_lost_index_is_made_again_at_the_next_start() {
    let demo = Demo::start(52);
    let pid = demo.pid(2);
    demo.kill(2);
    demo.await_end(pid);
    fs::remove_dir_all(demo.dir.join("n2/data/archive/index")).expect("the index");
    fs::write(demo.dir.join("n2/data/archive/index"), b"no index").expect("a file in its place");
    demo.restart(2);
    eventually(LONG, "n2 answers from its archive", || {
        let (status, _) = demo.get(2, "/v1/audit").ok()?;
        (status == 200).then_some(())
    });
    let audit = |node| demo.items(node, "/v1/audit?limit=500");
    eventually(LONG, "both tell the same", || (!audit(1).is_empty() && audit(1) == audit(2)).then_some(()));
}
