//! The edges between the crates are those of the design: decisions know no I/O, and one crate alone names each of
//! openraft, sled and ractor. A new edge needs a decision record in `docs/decisions/` and then a line here.
#![allow(clippy::indexing_slicing, reason = "a test that finds something else than it expects must fail")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// Which crates of ours each crate may depend on.
const EDGES: [(&str, &[&str]); 11] = [
    ("tandem-sip", &[]),
    ("tandem-media", &[]),
    ("tandem-state", &[]),
    ("tandem-switching", &["tandem-sip", "tandem-media", "tandem-state"]),
    ("tandem-transport", &["tandem-sip", "tandem-media"]),
    ("tandem-cluster", &["tandem-state"]),
    (
        "tandem-actors",
        &[
            "tandem-sip",
            "tandem-media",
            "tandem-state",
            "tandem-switching",
            "tandem-transport",
            "tandem-cluster",
        ],
    ),
    ("tandem-api", &["tandem-state", "tandem-cluster"]),
    ("tandem-phones", &[]),
    // It sees the switch from outside, as phones and operators do.
    ("tandem-chaos-process", &["tandem-phones"]),
    (
        "tandem-chaos",
        &[
            "tandem-sip",
            "tandem-media",
            "tandem-state",
            "tandem-switching",
            "tandem-transport",
            "tandem-cluster",
            "tandem-actors",
            "tandem-api",
        ],
    ),
];

/// Who alone may name these crates.
const OWNERS: [(&str, &[&str]); 3] = [
    ("openraft", &["tandem-cluster"]),
    ("sled", &["tandem-cluster"]),
    ("ractor", &["tandem-actors", "tandem"]),
];

/// What does I/O, tells time, draws randomness or locks has no place in these crates.
const PURE: [&str; 4] = ["tandem-sip", "tandem-media", "tandem-state", "tandem-switching"];
const IMPURE: [&str; 9] = [
    "tokio",
    "ractor",
    "openraft",
    "sled",
    "rand",
    "getrandom",
    "parking_lot",
    "chrono",
    "tracing-subscriber",
];

/// Name and normal dependencies (not those of tests and builds) of every crate of the workspace.
fn crates() -> Vec<(String, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a name").to_owned();
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().expect("a list").iter();
        all.filter(|one| one["kind"].is_null()).map(|one| text(&one["name"])).collect()
    };
    metadata["packages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (text(&one["name"]), normal(one)))
        .collect()
}

#[test]
fn crates_depend_on_each_other_as_the_design_says() {
    for (name, dependencies) in crates() {
        if name == "tandem" {
            continue;
        }
        let allowed = EDGES.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| panic!("{name} has no line in the table of edges"));
        let wrong: Vec<&String> = dependencies
            .iter()
            .filter(|one| one.starts_with("tandem") && !allowed.contains(&one.as_str()))
            .collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
}

#[test]
fn one_crate_alone_names_openraft_sled_and_ractor() {
    for (name, dependencies) in crates() {
        for (dependency, owners) in OWNERS {
            assert!(
                !dependencies.contains(dependency) || owners.contains(&name.as_str()),
                "{name} names {dependency}"
            );
        }
    }
}

#[test]
fn pure_crates_name_nothing_that_does_io_or_tells_time() {
    for (name, dependencies) in crates() {
        if PURE.contains(&name.as_str()) {
            let wrong: Vec<&String> =
                dependencies.iter().filter(|one| IMPURE.contains(&one.as_str())).collect();
            assert!(wrong.is_empty(), "{name} is pure and must not name {wrong:?}");
        }
    }
}
