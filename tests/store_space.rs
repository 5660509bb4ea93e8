//! The index gives space back while it works, and whatever interrupts that leaves a whole index.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sekimori::failpoint::Point;
use sekimori::store::{
    Batch, FactsRecord, HistoryFilter, Id, QuarantineEntry, QuarantineFilter, QuarantineState,
    Settings, Store, WhyRecord,
};

const NOW: i64 = 1_790_000_000_000;
const DAY: i64 = 24 * 3_600_000;
const MAILBOX: &str = "taro@example.jp";
/// Where the process that is to be killed works.
const FOLDER: &str = "SEKIMORI_TEST_STORE";
/// The index takes so much, and little lives in it.
const WASTE: u64 = 32 << 20;
/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn open(path: &Path) -> Store {
    let settings = Settings {
        path: path.to_owned(),
        quarantine_max_bytes: u64::MAX,
        history_retention_ms: 7 * DAY,
    };
    Store::open(settings, NOW).unwrap()
}

/// A held mail that takes much space, and its why-record.
fn hold(store: &Store, number: u64) -> Id {
    let id = Id::new(NOW);
    let noise: String = (0..50)
        .map(|part| blake3::hash(&[number, part].map(u64::to_le_bytes).concat()).to_string())
        .collect();
    let entry = QuarantineEntry {
        id,
        mailbox: MAILBOX.to_owned(),
        stage: "spam".to_owned(),
        class: "spam".to_owned(),
        entry: None,
        origin: None,
        sender: format!("s{number}@b.example"),
        from: noise,
        subject: String::new(),
        size: number,
        received_at: NOW,
        expires_at: NOW + 7 * DAY,
        state: QuarantineState::Held,
        release_to: None,
        handoff: None,
    };
    let why = WhyRecord {
        id,
        mailbox: MAILBOX.to_owned(),
        received_at: NOW,
        body: serde_json::json!({"number": number}),
    };
    let mut batch = Batch::new();
    batch
        .put_quarantine(&entry)
        .put_decision(&why, &FactsRecord::new(id, number));
    store.commit_blocking(batch).unwrap();
    id
}

fn octets(path: &Path) -> u64 {
    fs::metadata(path.join("index/db")).map_or(0, |file| file.len())
}

fn held(store: &Store) -> BTreeSet<Id> {
    let filter = QuarantineFilter {
        mailbox: Some(MAILBOX.to_owned()),
        ..QuarantineFilter::default()
    };
    let by_mailbox: BTreeSet<Id> = store
        .quarantine_list(filter)
        .map(|entry| entry.unwrap().id)
        .collect();
    let all = store.quarantine_list(QuarantineFilter::default());
    assert_eq!(
        all.map(|entry| entry.unwrap().id).collect::<BTreeSet<_>>(),
        by_mailbox
    );
    by_mailbox
}

fn decided(store: &Store) -> BTreeSet<Id> {
    let all = store.history_list(HistoryFilter::default());
    all.map(|why| why.unwrap().id).collect()
}

/// Mail comes and goes, pauses until the index is being copied, and goes on until the copy has taken
/// its place; what stays of the mail is told as it becomes durable.
fn come_and_go(path: &Path, store: &Store, mut stays: impl FnMut(Id)) {
    let started = Instant::now();
    let in_time = || assert!(started.elapsed() < PATIENCE, "no space is given back");
    let mut waste = 0;
    for number in 0.. {
        in_time();
        let id = hold(store, number);
        if number % 20 == 0 {
            stays(id);
        } else {
            store.quarantine_delete(id).unwrap();
        }
        let now = octets(path);
        if waste > 0 && now > 0 && now < waste / 2 {
            return;
        }
        if waste == 0 && now > WASTE {
            waste = now;
            while !path.join("index.new").exists() {
                in_time();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

#[test]
fn an_index_that_is_mostly_waste_is_made_small_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut kept = BTreeSet::new();
    come_and_go(folder.path(), &store, |id| {
        kept.insert(id);
    });
    kept.insert(hold(&store, 1));
    assert_eq!(held(&store), kept);
    let all = decided(&store);
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.opened().rebuilt, None);
    assert_eq!(held(&store), kept);
    assert_eq!(decided(&store), all);
    assert!(kept.is_subset(&all));
    assert!(!folder.path().join("index.new").exists());
}

#[test]
fn what_a_copy_that_broke_off_left_is_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = hold(&store, 1);
    drop(store);
    let beside = folder.path().join("index.new");
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("db"), b"half of it").unwrap();
    let store = open(folder.path());
    assert_eq!(held(&store), BTreeSet::from([id]));
    assert!(!beside.exists());
}

#[test]
fn killed_around_the_exchange_either_index_is_whole() {
    for point in [Point::IndexCopied, Point::IndexExchanged] {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "comes_and_goes_until_it_is_killed", "--ignored"])
            .env(FOLDER, folder.path())
            .env("SEKIMORI_KILL_AT", format!("{}:1", point.name()))
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9), "{status} at {}", point.name());
        let path = folder.path().join("store");
        assert!(path.join("index.new").exists());
        let store = open(&path);
        assert_eq!(store.opened().rebuilt, None, "{}", point.name());
        let told = fs::read_to_string(folder.path().join("told")).unwrap();
        let told: BTreeSet<Id> = told.lines().map(|id| id.parse().unwrap()).collect();
        assert!(!told.is_empty());
        let held = held(&store);
        // The last may have become durable and not been told.
        assert!(told.is_subset(&held) && held.len() <= told.len() + 1);
        assert!(held.is_subset(&decided(&store)));
        assert!(!path.join("index.new").exists());
    }
}

#[test]
#[ignore = "killed by another test"]
fn comes_and_goes_until_it_is_killed() {
    let folder = std::env::var(FOLDER).unwrap();
    let folder = Path::new(&folder);
    let mut told = fs::File::create(folder.join("told")).unwrap();
    let path = folder.join("store");
    let store = open(&path);
    come_and_go(&path, &store, |id| writeln!(told, "{id}").unwrap());
    panic!("it is not killed");
}
