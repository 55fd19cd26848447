//! A backup is taken while nodes work, and a new cluster is made of it beside the old one.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::demo::{Demo, Guarded, tandem};
use support::eventually;
use support::phone::Phone;

const LONG: Duration = Duration::from_secs(20);
const OLD: u8 = 50;
const NEW: u8 = 51;

/// Runs the program with a passphrase; its exit code, what it printed, what it said.
fn run(token: &str, passphrase: &str, arguments: &[&str]) -> (i32, String, String) {
    let done = Command::new(tandem())
        .args(arguments)
        .env("TANDEM_TOKEN", token)
        .env("TANDEM_PASSPHRASE", passphrase)
        .output()
        .expect("tandem runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
}

fn api(net: u8) -> String {
    format!("http://127.0.{net}.1:8080")
}

fn asked(net: u8, token: &str, arguments: &[&str]) -> Option<Value> {
    let (api, json) = (api(net), ["-o", "json"]);
    let arguments = [arguments, &["--api", &api], &json].concat();
    let (code, out, _) = run(token, "", &arguments);
    (code == 0).then(|| serde_json::from_str(&out).expect("JSON"))
}

/// The config of a first node on the other net, with an empty data directory.
fn new_machine(demo: &Demo) -> String {
    let folder = demo.dir.join("new");
    fs::create_dir_all(&folder).expect("a folder");
    let config = fs::read_to_string(demo.dir.join("n1/tandem.toml")).expect("n1's config");
    let path = folder.join("tandem.toml");
    fs::write(&path, config.replace(&format!("127.0.{OLD}."), &format!("127.0.{NEW}."))).expect("a config");
    path.to_string_lossy().into_owned()
}

fn start(config: &str) -> Guarded {
    let log = fs::File::create(Path::new(config).with_file_name("node.log")).expect("a log");
    let out: Stdio = log.try_clone().expect("a log").into();
    Guarded::start(&tandem(), &["node", "run", "--config", config], out, log.into())
}

#[test]
fn a_backup_becomes_a_new_cluster_with_the_same_tenants_and_records() {
    let demo = Demo::start(OLD);
    let (a, b) = (demo.account(), demo.account());
    let mut callee = Phone::registered(&demo, &b, 2);
    Phone::new(&demo, &a, 1).try_call(&mut callee, Duration::from_secs(5)).expect("a call");
    let cdr = demo.cdr(&a, &b.number);
    let file = demo.dir.join("backup").to_string_lossy().into_owned();
    let (here, good) = (api(OLD), "open sesame, please");

    let (code, _, error) = run(demo.token(), "short", &["backup", &file, "--api", &here]);
    assert!(code == 1 && error.contains("at least 12 characters"), "{error}");
    assert!(!Path::new(&file).exists());
    let (code, out, error) = run(demo.token(), good, &["backup", &file, "--api", &here]);
    assert!(code == 0 && out.contains("bytes"), "{out}{error}");
    let (code, _, error) = run(demo.token(), good, &["backup", &file, "--api", &here]);
    assert!(code == 1 && error.contains("is there already"), "{error}");
    let sealed = fs::read(&file).expect("the backup");
    assert!(!sealed.windows(12).any(|bytes| bytes == b"acme.example"), "it is sealed");

    let config = new_machine(&demo);
    let (code, _, error) = run("", "another passphrase", &["restore", &file, "--config", &config]);
    assert!(code == 1 && error.contains("the passphrase is wrong"), "{error}");
    let (code, id, error) = run("", good, &["restore", &file, "--config", &config]);
    assert!(code == 0 && error.contains("1 CDRs"), "{error}");
    let (code, _, error) = run("", good, &["restore", &file, "--config", &config]);
    assert!(code == 1 && error.contains("holds a node already"), "{error}");
    let (other, kept) = (demo.dir.join("other"), demo.dir.join("other/data/precious"));
    fs::create_dir_all(kept.parent().expect("a folder")).expect("a folder");
    fs::write(&kept, "the operator's").expect("a file");
    let elsewhere = other.join("tandem.toml");
    fs::copy(&config, &elsewhere).expect("a config");
    let (code, _, error) = run("", good, &["restore", &file, "--config", &elsewhere.to_string_lossy()]);
    assert!(code == 1 && error.contains("is not empty") && kept.exists(), "{error}");
    fs::write(demo.dir.join("longer"), [&sealed[..], b"x"].concat()).expect("a file");
    fs::remove_file(&kept).expect("it is there");
    let longer = demo.dir.join("longer").to_string_lossy().into_owned();
    let (code, _, error) = run("", good, &["restore", &longer, "--config", &elsewhere.to_string_lossy()]);
    assert!(code == 1 && error.contains("more follows its end"), "{error}");
    assert_eq!(fs::read_dir(other.join("data")).expect("a folder").count(), 0, "nothing stays behind");

    let _node = start(&config);
    let status = eventually(LONG, "the new cluster stands", || {
        let status = asked(NEW, demo.token(), &["cluster", "status"])?;
        (status["quorum"] == true && status["nodes"][0]["state"] == "up").then_some(status)
    });
    let old = demo.json(1, &["cluster", "status"]);
    assert_eq!(status["cluster_id"], id.trim());
    assert_ne!(status["cluster_id"], old["cluster_id"]);
    assert_eq!(status["nodes"].as_array().expect("nodes").len(), 1);
    let exported = |net| run(demo.token(), "", &["export", "--api", &api(net)]).1;
    assert_eq!(exported(NEW), exported(OLD));
    let cdrs = eventually(LONG, "its CDRs", || {
        let found = asked(NEW, demo.token(), &["cdrs", "--tenant", &a.tenant])?;
        found["items"].as_array().or(found.as_array()).cloned().filter(|cdrs| !cdrs.is_empty())
    });
    assert_eq!(cdrs.len(), 1);
    assert_eq!(cdrs[0]["id"], cdr["id"]);
    let registrations = asked(NEW, demo.token(), &["registrations"]).expect("a list");
    assert_eq!(registrations["items"].as_array().or(registrations.as_array()).map(Vec::len), Some(0));

    let local = std::net::SocketAddrV4::new(demo.host(), 5060);
    let mut phone = Phone::at(&a, local, std::net::SocketAddrV4::new([127, 0, NEW, 1].into(), 5060));
    eventually(LONG, "a phone registers with the password that it had", || {
        let contact = phone.contact();
        let answer = phone.try_register(&contact, 600, Duration::from_millis(500))?;
        (answer.status() == Some(200)).then_some(())
    });
}
