//! `demo --exit`: the whole way of the sample mails.

use std::process::Command;

use crate::harness::{Done, PROGRAM};

#[test]
fn the_table() {
    let done = Done::of(Command::new(PROGRAM).args(["demo", "--exit"]), b"").success();
    let text = done.text();
    let rows = text
        .lines()
        .filter(|line| {
            ["deliver", "forward", "quarantine", "replace"]
                .iter()
                .any(|verdict| line.split_whitespace().any(|word| word == *verdict))
        })
        .count();
    assert!(rows >= 14, "{rows} in\n{text}");
    for word in [
        "reject.from_suffixes",
        "reject.subject_contains",
        "reject.headers",
        "virus",
        "spam",
        "forward",
        "未承諾広告",
    ] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
}

#[test]
fn the_same_as_json() {
    let done = Done::of(
        Command::new(PROGRAM).args(["demo", "--exit", "--json"]),
        b"",
    )
    .success();
    let rows = done.json();
    assert!(rows.len() >= 14);
    let verdicts: std::collections::HashSet<&str> = rows
        .iter()
        .filter_map(|row| row["verdict"].as_str())
        .collect();
    for verdict in ["deliver", "forward", "quarantine", "replace"] {
        assert!(verdicts.contains(verdict), "{verdicts:?}");
    }
}

#[test]
fn a_daemon_file_has_no_part_in_it() {
    let done = Done::of(
        Command::new(PROGRAM).args(["--config", "/nonexistent", "demo", "--exit", "--quiet"]),
        b"",
    );
    done.success();
}
