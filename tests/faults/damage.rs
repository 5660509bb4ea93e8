//! A damaged store: the index is moved aside and made anew, nothing that is held or goes out is
//! missing afterwards; a damaged mail file is named and never served, and touches nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Daemon, JIRO, Site, TARO, files_below, mail};
use crate::hop::{Hop, closed_port};
use crate::scenario::{await_ready, log, spawn};

/// Damages that a run of all tests makes; `SEKIMORI_FAULTS_DAMAGES` says another number.
const DAMAGES: u64 = 60;
const PAGE: usize = 4096;
const FORWARDED: &str = "saburo@east.example.jp";

/// What one file may suffer.
const WAYS: [&str; 6] = [
    "bit flipped",
    "cut off",
    "page of zeros",
    "pages swapped",
    "octets of noise",
    "deleted",
];

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

/// Held mail, forwards and letters that wait, hand-offs and why-records of mail that was kept.
fn fill(daemon: &Daemon) {
    let mut session = daemon.lmtp();
    for n in 0..60 {
        let to: &[&str] = match n % 3 {
            0 => &[TARO],
            1 => &[JIRO, TARO],
            _ => &[FORWARDED],
        };
        let sender = format!("s{n}@friend.example");
        session.hand_over(&sender, to, &mail(&sender, &format!("offer {n}")));
    }
    let first = daemon.quarantine()[0]["id"].as_str().unwrap().to_owned();
    daemon.cli(&["quarantine", "delete", &first]).success();
}

fn ids(values: &[Value]) -> BTreeSet<String> {
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    values.iter().map(id).collect()
}

fn forwards(values: Vec<Value>) -> BTreeSet<String> {
    ids(&values
        .into_iter()
        .filter(|item| item["kind"] == "forward")
        .collect::<Vec<_>>())
}

/// Hurts one file of the index; what was done.
fn damage(state: &Path, seed: u64) -> (&'static str, String) {
    let mut dice = Dice::new(seed);
    let mut files = files_below(&state.join("index"));
    files.push(state.join("index.seq"));
    files.sort();
    // Most of it is in `db`.
    let file = match dice.below(3) {
        0 => files[dice.below(files.len())].clone(),
        _ => state.join("index/db"),
    };
    let mut bytes = fs::read(&file).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    let (way, at) = (dice.below(WAYS.len()), dice.below(used));
    let page = at / PAGE * PAGE;
    let end = (page + PAGE).min(bytes.len());
    match way {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        1 => bytes.truncate(at),
        2 => bytes[page..end].fill(0),
        3 => {
            let other = dice.below(used) / PAGE * PAGE;
            let length = (end - page).min(bytes.len() - other);
            for offset in 0..length {
                bytes.swap(page + offset, other + offset);
            }
        }
        4 => (page..end.min(page + 64)).for_each(|at| bytes[at] = dice.below(256) as u8),
        _ => {}
    }
    match WAYS[way] {
        "deleted" => fs::remove_file(&file).unwrap(),
        _ => fs::write(&file, bytes).unwrap(),
    }
    let name = file.strip_prefix(state).unwrap().display().to_string();
    (WAYS[way], format!("{name} {} at {at}", WAYS[way]))
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_damaged_store_starts_and_misses_nothing() {
    let number = std::env::var("SEKIMORI_FAULTS_DAMAGES").ok();
    let number = number.map_or(DAMAGES, |text| text.parse().unwrap());
    let mut daemon = Site::new()
        .with_relay(closed_port())
        .with_mailbox(TARO, "reject: {subject_contains: [offer]}\n")
        .with_mailbox(JIRO, "auto_reply: {enabled: true, message: away}\n")
        .with_mailbox(
            FORWARDED,
            "forwarding: {mode: all, all: {to: [home@else.example], keep_copy: false}}\n",
        )
        .start();
    fill(&daemon);
    let (held, sent) = (ids(&daemon.quarantine()), forwards(daemon.queue()));
    assert_eq!((held.len(), sent.len()), (39, 20));
    daemon.signal(Signal::TERM);
    assert!(daemon.await_end().success());
    let (state, whole) = (daemon.path("state"), daemon.path("whole"));
    fs::remove_file(state.join("ballast")).unwrap();
    fs::rename(&state, &whole).unwrap();

    let mut table: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    let mut bad = Vec::new();
    for seed in 1..=number {
        let _ = fs::remove_dir_all(&state);
        copy(&whole, &state);
        let (way, what) = damage(&state, seed);
        let row = table.entry(way).or_default();
        row[0] += 1;
        let mut child = spawn(&daemon.site, &[]);
        if let Err(status) = await_ready(&daemon.site, &mut child) {
            row[3] += 1;
            bad.push(format!("{seed} {what}: {status:?} {}", log(&daemon.site)));
        } else {
            let (held_now, sent_now) = (ids(&daemon.quarantine()), forwards(daemon.queue()));
            let missing = held.difference(&held_now).count() + sent.difference(&sent_now).count();
            let more = held_now.difference(&held).count() + sent_now.difference(&sent).count();
            let text = log(&daemon.site);
            row[1] += usize::from(text.contains("rebuilt from the mail files"));
            row[2] += missing;
            if missing + more > 0 {
                bad.push(format!("{seed} {what}: {missing} missing, {more} too many"));
            }
            if text.contains("is damaged") && !moved_aside(&daemon.site) {
                bad.push(format!(
                    "{seed} {what}: damaged and not moved aside\n{text}"
                ));
            }
            let verified = daemon.cli(&["store", "verify", "--json"]);
            if verified.code != 0 {
                bad.push(format!("{seed} {what}: verify {verified:?}"));
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    println!("damage             stores  rebuilt  missing  not started");
    for (way, [stores, rebuilt, missing, down]) in &table {
        println!("{way:<18} {stores:>6} {rebuilt:>8} {missing:>8} {down:>12}");
    }
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(
        table.values().any(|row| row[1] > 0),
        "no damage was noticed"
    );
}

fn moved_aside(site: &Site) -> bool {
    let entries = fs::read_dir(site.path("state")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .into_iter()
        .any(|name| name.to_string_lossy().starts_with("index.bad-"))
}

/// The mail file of an entry.
fn file_of(site: &Site, id: &str) -> PathBuf {
    let files = files_below(&site.path("state/mail"));
    let file = files.into_iter().find(|path| path.ends_with(id));
    file.unwrap()
}

/// A bit of the header, a bit of the body, the end, everything.
const MAIL_DAMAGES: [fn(&mut Vec<u8>); 5] = [
    |bytes| bytes[70] ^= 1,
    |bytes| {
        let at = bytes.len() - 60;
        bytes[at] ^= 1;
    },
    |bytes| bytes.truncate(bytes.len() - 5),
    |bytes| bytes.truncate(30),
    Vec::clear,
];

#[test]
fn a_damaged_mail_file_is_named_and_nothing_else_suffers() {
    let daemon = Site::new()
        .with_mailbox(TARO, "reject: {subject_contains: [offer]}\n")
        .start();
    let give = |n| {
        let raw = mail("a@friend.example", &format!("offer {n}"));
        daemon.give("a@friend.example", TARO, &raw).id()
    };
    for (n, damage) in MAIL_DAMAGES.iter().enumerate() {
        let (bad, good) = (give(n), give(n + 100));
        let file = file_of(&daemon, &bad);
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        let report = daemon.cli(&["store", "verify", "--json"]).exit(65).json();
        let problems = report[0]["problems"].as_array().unwrap().clone();
        assert_eq!(problems.len(), 1, "{n} {problems:?}");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(problems[0].as_str().unwrap().contains(name), "{problems:?}");
        let exported = daemon.cli(&["quarantine", "export", &bad]);
        assert_ne!(exported.code, 0, "{n} {exported:?}");
        assert!(
            exported.stdout.is_empty() && !exported.stderr.is_empty(),
            "{n} {exported:?}"
        );
        let released = daemon.cli(&["quarantine", "release", &bad]);
        assert_ne!(released.code, 0, "{n} {released:?}");
        assert!(
            daemon.mailbox(TARO).len() == n,
            "{n} a damaged mail was delivered"
        );
        daemon.cli(&["quarantine", "release", &good]).success();
        crate::harness::eventually("the whole one is released", || {
            (daemon.mailbox(TARO).len() == n + 1).then_some(())
        });
        daemon.cli(&["quarantine", "delete", &bad]).success();
        assert_eq!(
            daemon.one(&["store", "verify"])["problems"],
            json!([]),
            "{n}"
        );
    }
}

#[test]
fn a_damaged_outgoing_mail_stays_to_be_seen_and_the_others_go() {
    let port = closed_port();
    let mut daemon = Site::new()
        .with_relay(port)
        .with_mailbox(
            TARO,
            "forwarding: {mode: all, all: {to: [home@else.example], keep_copy: false}}\n",
        )
        .start();
    for n in 0..3 {
        daemon.give(
            "a@friend.example",
            TARO,
            &mail("a@friend.example", &n.to_string()),
        );
    }
    let bad = daemon.queue()[0]["id"].as_str().unwrap().to_owned();
    daemon.kill();
    let file = file_of(&daemon, &bad);
    let mut bytes = fs::read(&file).unwrap();
    MAIL_DAMAGES[1](&mut bytes);
    fs::write(&file, &bytes).unwrap();
    let relay = Hop::smtp_on(port);
    daemon.start_again();
    crate::harness::eventually("the whole ones are sent", || {
        (relay.mails().len() == 2).then_some(())
    });
    let left = crate::harness::eventually("one is left", || {
        Some(daemon.queue()).filter(|queue| queue.len() == 1 && !queue[0]["last_reply"].is_null())
    });
    assert_eq!(left[0]["id"], bad.as_str());
    assert_eq!(relay.mails().len(), 2);
    daemon.cli(&["store", "verify"]).exit(65);
}
