//! Holds the rings of the crate: which module may use which, and the words that a ring forbids.
//!
//! It reads every path of the sources (`use` trees and inline ones) up to a file's
//! `#[cfg(test)]`. A new edge between modules is a line in [`MAY_USE`], and a decision.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

/// Module, and the modules of this crate that it may name beside itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("mail", &[]),
    ("policy", &["mail"]),
    ("smtp", &["mail"]),
    ("config", &["policy", "smtp", "mail"]),
    ("sieve", &["policy", "mail"]),
    ("failpoint", &[]),
    ("durable", &[]),
    ("store", &["mail", "failpoint", "durable"]),
    ("scan", &["mail"]),
    ("deliver", &["mail", "smtp", "failpoint", "durable"]),
    ("trust", &["mail"]),
    (
        "relay",
        &["store", "trust", "mail", "deliver", "smtp", "failpoint"],
    ),
    ("view", &["store", "policy", "mail"]),
    ("telemetry", &["config", "mail"]),
    (
        "execute",
        &[
            "config",
            "policy",
            "scan",
            "store",
            "scan",
            "deliver",
            "relay",
            "smtp",
            "mail",
            "view",
            "telemetry",
            "failpoint",
        ],
    ),
    (
        "agent",
        &[
            "config",
            "policy",
            "scan",
            "trust",
            "execute",
            "store",
            "deliver",
            "mail",
            "smtp",
            "server",
            "telemetry",
            "failpoint",
        ],
    ),
    ("server", &["agent", "config", "smtp", "mail", "telemetry"]),
    (
        "control",
        &[
            "daemon",
            "config",
            "store",
            "policy",
            "relay",
            "mail",
            "view",
            "telemetry",
        ],
    ),
    (
        "daemon",
        &[
            "agent",
            "execute",
            "server",
            "control",
            "relay",
            "deliver",
            "store",
            "config",
            "policy",
            "smtp",
            "mail",
            "view",
            "telemetry",
            "failpoint",
        ],
    ),
    (
        "cli",
        &[
            "config",
            "sieve",
            "store",
            "policy",
            "relay",
            "mail",
            "scan",
            "deliver",
            "trust",
            "smtp",
            "agent",
            "execute",
            "server",
            "control",
            "daemon",
            "view",
            "telemetry",
        ],
    ),
    ("lib", &[]),
    ("main", &["cli"]),
];

const PURE: &[&str] = &["mail", "policy", "smtp", "sieve"];

/// Paths that the pure ring has no use for.
const IMPURE: &[&str] = &[
    "tokio",
    "sled",
    "std::fs",
    "std::net",
    "std::process",
    "std::time::SystemTime",
    "std::time::Instant",
    "SystemTime::now",
    "Instant::now",
    "serde",
    "serde_json",
    "serde_yaml",
];

/// A path, and the files (or folders) that alone may name it.
const CONFINED: &[(&str, &[&str])] = &[
    ("mail_parser", &["mail/message.rs"]),
    ("lettre", &["relay/"]),
    ("sled", &["store/"]),
    ("lz4_flex", &["store/packed.rs"]),
    ("serde_yaml", &["config/"]),
    ("anyhow", &["main.rs", "cli/"]),
    ("print!", &["main.rs", "cli/"]),
    ("println!", &["main.rs", "cli/"]),
    ("eprint!", &["main.rs", "cli/"]),
    ("eprintln!", &["main.rs", "cli/"]),
    ("std::process::exit", &["main.rs", "cli/"]),
    ("process::exit", &["main.rs", "cli/"]),
    // Nothing is ever executed, so nothing of a mail can end in an argument (RELIABILITY S15); but
    // the editor of a person at a terminal, who named it.
    ("std::process::Command", &["cli/editor.rs"]),
    ("process::Command", &["cli/editor.rs"]),
    ("tokio::process", &[]),
];

/// Versions below which a crate has a known hole that a mail can reach (RELIABILITY S30).
const FLOORS: &[(&str, [u64; 3])] = &[
    ("bytes", [1, 11, 1]),
    ("crossbeam-epoch", [0, 9, 20]),
    ("hickory-proto", [0, 26, 1]),
    ("lettre", [0, 11, 22]),
    ("mail-auth", [0, 9, 1]),
    ("mail-parser", [0, 11, 6]),
    ("rustls", [0, 23, 18]),
    ("time", [0, 3, 47]),
    ("tracing-subscriber", [0, 3, 20]),
];

#[test]
fn no_dependency_is_below_its_floor() {
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let below = below_floor(&lock);
    assert!(below.is_empty(), "{below:?}");
    let old = "[[package]]\nname = \"bytes\"\nversion = \"1.11.0\"\n";
    assert_eq!(below_floor(old), ["bytes 1.11.0"]);
}

fn below_floor(lock: &str) -> Vec<String> {
    let value = |line: Option<&str>, key: &str| {
        let text = line?.strip_prefix(key)?.strip_prefix(" = \"")?;
        text.strip_suffix('"').map(str::to_owned)
    };
    let packages = lock.split("[[package]]\n").filter_map(|package| {
        let mut lines = package.lines();
        Some((
            value(lines.next(), "name")?,
            value(lines.next(), "version")?,
        ))
    });
    let old = packages.filter(|(name, version)| {
        let numbers: Vec<u64> = version
            .split('.')
            .filter_map(|part| part.parse().ok())
            .collect();
        let floor = FLOORS.iter().find(|(floored, _)| floored == name);
        floor.is_some_and(|(_, floor)| numbers.as_slice() < floor.as_slice())
    });
    old.map(|(name, version)| format!("{name} {version}"))
        .collect()
}

#[test]
fn the_rings_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut files = 0;
    visit(&root, &mut |path| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        found.extend(violations(name, &fs::read_to_string(path).unwrap()));
        files += 1;
    });
    assert!(
        files > 20,
        "only {files} files read below {}",
        root.display()
    );
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_planted_violation_is_found() {
    let check = |file: &str, source: &str, expected: &[&str]| {
        assert_eq!(violations(file, source), expected, "{file}: {source}");
    };
    // Edges between modules.
    check("policy/a.rs", "use crate::mail::Message;", &[]);
    check(
        "policy/a.rs",
        "use crate::policy::Plan; use super::Step;",
        &[],
    );
    check(
        "mail/a.rs",
        "use crate::policy::Plan;",
        &["mail/a.rs: mail may not use policy"],
    );
    check(
        "smtp/a.rs",
        "pub(crate) use crate::{mail::Address, policy::{Plan, Step}};",
        &["smtp/a.rs: smtp may not use policy"],
    );
    check(
        "store/a.rs",
        "fn f() { crate::config::load(); }",
        &["store/a.rs: store may not use config"],
    );
    check(
        "store/a/b.rs",
        "use super::super::super::relay::Courier;",
        &["store/a/b.rs: store may not use relay"],
    );
    check(
        "store/mod.rs",
        "use super::relay;",
        &["store/mod.rs: store may not use relay"],
    );
    check(
        "agent.rs",
        "use super::control;",
        &["agent.rs: agent may not use control"],
    );
    check(
        "newcomer.rs",
        "fn f() {}",
        &["newcomer.rs: newcomer is not in the table"],
    );
    // Words of the pure ring.
    check(
        "mail/a.rs",
        "use std::{fmt, fs::File};",
        &["mail/a.rs: a pure ring has no std::fs"],
    );
    check(
        "smtp/a.rs",
        "use std::net::IpAddr;",
        &["smtp/a.rs: a pure ring has no std::net"],
    );
    check("smtp/a.rs", "use core::net::IpAddr;", &[]);
    check(
        "policy/a.rs",
        "let now = SystemTime :: now();",
        &["policy/a.rs: a pure ring has no SystemTime::now"],
    );
    check(
        "policy/a.rs",
        "#[derive(serde::Serialize)] struct A;",
        &["policy/a.rs: a pure ring has no serde"],
    );
    check(
        "mail/a.rs",
        "async fn f() { tokio::time::sleep(d).await }",
        &["mail/a.rs: a pure ring has no tokio"],
    );
    check("config/a.rs", "use std::fs; use serde::Deserialize;", &[]);
    // Crates with one home.
    check("mail/message.rs", "use mail_parser::MessageParser;", &[]);
    check(
        "mail/header.rs",
        "use mail_parser::MessageParser;",
        &["mail/header.rs: no place for mail_parser"],
    );
    check("relay/courier.rs", "use lettre::Transport;", &[]);
    check(
        "deliver/smtp.rs",
        "use lettre::Transport;",
        &["deliver/smtp.rs: no place for lettre"],
    );
    check(
        "server/a.rs",
        "std::process::exit(1)",
        &["server/a.rs: no place for std::process::exit"],
    );
    check(
        "agent.rs",
        "println!(\"x\")",
        &["agent.rs: no place for println!"],
    );
    check("cli/run.rs", "println!(\"x\"); std::process::exit(0)", &[]);
    check(
        "agent.rs",
        "fn f() -> anyhow::Result<()>",
        &["agent.rs: no place for anyhow"],
    );
    // What is no code of ours, or code that never ships.
    check(
        "mail/a.rs",
        "// use crate::policy::Plan;\n//! tokio, `std::fs`\n",
        &[],
    );
    check(
        "mail/a.rs",
        "fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }",
        &[],
    );
    check(
        "mail/a.rs",
        "let s = \"use crate::policy::x and tokio::spawn\";",
        &[],
    );
}

#[test]
fn the_table_names_no_cycle_among_the_inner_rings() {
    let inner = [
        "mail",
        "policy",
        "smtp",
        "config",
        "sieve",
        "failpoint",
        "durable",
        "store",
        "scan",
        "deliver",
        "trust",
        "relay",
    ];
    let rank = |module: &str| inner.iter().position(|name| *name == module);
    for (module, uses) in MAY_USE {
        let Some(own) = rank(module) else { continue };
        for used in *uses {
            let depth = rank(used).unwrap_or(usize::MAX);
            let sideways = (*module, *used) == ("relay", "trust");
            assert!(
                depth < own || sideways,
                "{module} may use {used}, which lies further out"
            );
        }
    }
}

/// What a file (its name below `src`) does that its place forbids.
fn violations(file: &str, source: &str) -> Vec<String> {
    let parts: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let module = parts[0];
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{file}: {module} is not in the table")];
    };
    let mut home: Vec<&str> = parts.clone();
    home.retain(|part| !["mod", "lib", "main"].contains(part));
    let mut found = Vec::new();
    for path in paths(source) {
        if let Some(used) = crate_module(&home, &path)
            && used != module
            && MAY_USE.iter().any(|(name, _)| *name == used)
            && !allowed.contains(&used.as_str())
            && module != "lib"
        {
            found.push(format!("{file}: {module} may not use {used}"));
        }
        let pure = PURE.contains(&module);
        if let Some(word) = IMPURE.iter().find(|word| pure && names(&path, word)) {
            found.push(format!("{file}: a pure ring has no {word}"));
        }
        let confined = CONFINED.iter().find(|(word, homes)| {
            names(&path, word) && !homes.iter().any(|home| file.starts_with(home))
        });
        if let Some((word, _)) = confined.filter(|(word, _)| !(pure && IMPURE.contains(word))) {
            found.push(format!("{file}: no place for {word}"));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The top module of this crate that a path leads to, seen from the module `home`.
fn crate_module(home: &[&str], path: &[String]) -> Option<String> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    match path.first()?.as_str() {
        "crate" | "sekimori" => path.get(1).cloned(),
        "super" if supers >= home.len() => path.get(supers).cloned(),
        _ => None,
    }
}

fn names(path: &[String], word: &str) -> bool {
    let word: Vec<&str> = word.split("::").collect();
    path.len() >= word.len() && path.iter().zip(&word).all(|(a, b)| a == b)
}

/// Every path of a source, groups of `use` trees taken apart, tests at the end left out. A path
/// of one part is a name by itself; a macro's name keeps its `!`.
fn paths(source: &str) -> Vec<Vec<String>> {
    let shipped = source.split("#[cfg(test)]").next().unwrap();
    let tokens = tokens(shipped);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_name(&tokens[at]) {
            at = tree(&tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path or `use` tree that begins at `at`; gives the place behind it.
fn tree(
    tokens: &[String],
    mut at: usize,
    before: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") if !path.is_empty() => {
                at += 1;
                while at < tokens.len() && tokens[at] != "}" {
                    let next = tree(tokens, at, &path, found);
                    at = next.max(at + 1);
                }
                return at + 1;
            }
            Some(name) if is_name(name) => path.push(name.to_owned()),
            _ => break,
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    if path.len() > before.len() {
        if tokens.get(at).is_some_and(|token| token == "!")
            && let Some(name) = path.last_mut()
        {
            name.push('!');
        }
        found.push(path);
    }
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and single marks; comments, strings and characters are skipped.
fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let length = match rest {
            ['/', '/', ..] => run(rest, |c| c != '\n'),
            ['r', '#', '"', ..] => text_end(rest, &['"', '#']),
            ['"', ..] => quoted(rest),
            ['\'', '\\', ..] => 2 + run(&rest[2..], |c| c != '\'').max(1),
            ['\'', _, '\'', ..] => 3,
            [':', ':', ..] => {
                found.push("::".to_owned());
                2
            }
            [c, ..] if c.is_alphanumeric() || *c == '_' => {
                let length = run(rest, |c| c.is_alphanumeric() || c == '_');
                found.push(rest[..length].iter().collect());
                length
            }
            [c, ..] => {
                if !c.is_whitespace() {
                    found.push(c.to_string());
                }
                1
            }
            [] => 1,
        };
        at += length.max(1);
    }
    found
}

fn run(chars: &[char], keep: impl Fn(char) -> bool) -> usize {
    chars.iter().take_while(|c| keep(**c)).count()
}

fn quoted(chars: &[char]) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn text_end(chars: &[char], end: &[char]) -> usize {
    let body = chars[3..]
        .windows(end.len())
        .position(|window| window == end);
    body.map_or(chars.len(), |at| 3 + at + end.len())
}

fn visit(folder: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, each);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&path);
        }
    }
}
