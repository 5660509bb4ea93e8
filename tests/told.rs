//! Held mail by mailbox and how far its owner was told: what the daily notices are made from. No
//! entry is new twice or never, whatever its times say and however the store was ended.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sekimori::store::{
    Batch, FileEntry, Holder, Id, MailHeader, QuarantineEntry, QuarantineFilter, QuarantineState,
    Settings, Store, Told,
};
use tempfile::TempDir;

const NOW: i64 = 1_790_000_000_000;
const DAY: i64 = 86_400_000;
const TARO: &str = "taro@example.jp";
const JIRO: &str = "jiro@example.jp";
const RAW: &[u8] = b"Subject: x\r\n\r\nbody\r\n";

fn open(path: &Path) -> Store {
    let settings = Settings {
        path: path.to_owned(),
        quarantine_max_bytes: 1 << 30,
        history_retention_ms: 7 * DAY,
    };
    Store::open(settings, NOW).unwrap()
}

fn entry(mailbox: &str, received_at: i64) -> QuarantineEntry {
    QuarantineEntry {
        id: Id::new(received_at),
        mailbox: mailbox.to_owned(),
        stage: "spam".to_owned(),
        class: "spam".to_owned(),
        entry: Some("spam".to_owned()),
        origin: None,
        sender: "a@b.example".to_owned(),
        from: "a@b.example".to_owned(),
        subject: "x".to_owned(),
        size: 100,
        received_at,
        expires_at: received_at + 7 * DAY,
        state: QuarantineState::Held,
        release_to: None,
        handoff: None,
    }
}

/// Holds a mail that was received then.
fn hold(store: &Store, mailbox: &str, received_at: i64) -> Id {
    let entry = entry(mailbox, received_at);
    let header = MailHeader {
        sender: entry.sender.clone(),
        client: "127.0.0.1".to_owned(),
        trace: String::new(),
        received_at,
        entries: vec![FileEntry::Quarantine(entry.clone())],
    };
    store.write_mail(&header, &[RAW]).unwrap();
    let mut batch = Batch::new();
    batch.put_quarantine(&entry);
    store.commit_blocking(batch).unwrap();
    entry.id
}

/// What is new to an owner up to a commit.
fn new(store: &Store, mailbox: &str, upto: u64) -> BTreeSet<Id> {
    let holder = Holder::of(mailbox);
    let told = store.told(holder).unwrap().map_or(0, |told| told.commit);
    let held = store.held_by(holder).map(Result::unwrap);
    held.filter(|(commit, _)| *commit > told && *commit <= upto)
        .map(|(_, entry)| entry.id)
        .collect()
}

fn tell(store: &Store, mailbox: &str, upto: u64, round: i64) {
    let told = Told {
        commit: upto,
        round,
    };
    let mut batch = Batch::new();
    batch.put_told(Holder::of(mailbox), told);
    store.commit_blocking(batch).unwrap();
}

fn holders(store: &Store) -> BTreeSet<Holder> {
    let mut found = BTreeSet::new();
    let mut last = None;
    while let Some(holder) = store.next_holder(last).unwrap() {
        assert!(last < Some(holder), "once each");
        found.insert(holder);
        last = Some(holder);
    }
    found
}

/// The database of a store that was closed: sled's own threads hold its file for a moment.
fn closed(index: &Path) -> sled::Db {
    let ends = Instant::now() + Duration::from_secs(10);
    loop {
        match sled::open(index) {
            Err(sled::Error::Io(_)) if Instant::now() < ends => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

#[test]
fn new_is_what_came_with_a_later_commit_whatever_the_clock_said() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    assert_eq!(holders(&store), BTreeSet::new());
    let first = hold(&store, TARO, NOW);
    let other = hold(&store, JIRO, NOW);
    let upto = store.commits().unwrap();
    // This one comes while the notice is composed.
    let during = hold(&store, TARO, NOW - 5);
    assert_eq!(new(&store, TARO, upto), [first].into());
    tell(&store, TARO, upto, NOW);
    // Received long before the notice, committed after it; and with a clock that was ahead.
    let late = hold(&store, TARO, NOW - DAY);
    let ahead = hold(&store, TARO, NOW + 300 * DAY);
    drop(store);
    let store = open(dir.path());
    let told = store.told(Holder::of(TARO)).unwrap().unwrap();
    assert_eq!((told.commit, told.round), (upto, NOW));
    let upto = store.commits().unwrap();
    assert_eq!(new(&store, TARO, upto), [during, late, ahead].into());
    assert_eq!(new(&store, JIRO, upto), [other].into());
    assert_eq!(holders(&store), [Holder::of(TARO), Holder::of(JIRO)].into());
    tell(&store, TARO, upto, NOW + DAY);
    assert_eq!(new(&store, TARO, store.commits().unwrap()), [].into());
    assert_eq!(
        Holder::of("Taro@Example.jp"),
        Holder::of(TARO),
        "as mailboxes are named"
    );
}

#[test]
fn what_is_gone_leaves_the_list_and_what_moves_stays_told() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let [deleted, released, back] = [0, 1, 2].map(|n| hold(&store, TARO, NOW + n));
    let expired = hold(&store, JIRO, NOW);
    tell(&store, TARO, store.commits().unwrap(), NOW);
    store.quarantine_delete(deleted).unwrap();
    store.release_begin(released, None).unwrap();
    store.release_end(released, true, None).unwrap();
    store.release_begin(back, None).unwrap();
    store.release_end(back, false, None).unwrap();
    let upto = store.commits().unwrap();
    assert_eq!(new(&store, TARO, upto), [].into());
    let listed: Vec<_> = store
        .held_by(Holder::of(TARO))
        .map(|read| read.unwrap().1)
        .map(|entry| (entry.id, entry.state))
        .collect();
    assert_eq!(
        listed,
        [
            (released, QuarantineState::Released),
            (back, QuarantineState::Held)
        ]
    );
    assert_eq!(new(&store, JIRO, upto), [expired].into());
    tell(&store, JIRO, upto, NOW);
    store.sweep(NOW + 7 * DAY, 0).unwrap();
    assert_eq!(holders(&store), [Holder::of(TARO)].into());
    store.quarantine_purge(QuarantineFilter::default()).unwrap();
    assert_eq!(holders(&store), [].into());
    store.forget_told().unwrap();
    // Marks of those who hold nothing are gone too, and what comes now is new.
    let again = hold(&store, TARO, NOW);
    for mailbox in [TARO, JIRO] {
        assert_eq!(store.told(Holder::of(mailbox)).unwrap(), None);
    }
    assert_eq!(new(&store, TARO, store.commits().unwrap()), [again].into());
}

#[test]
fn the_marks_of_many_who_hold_nothing_go_in_few_commits() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let held = hold(&store, TARO, NOW);
    let told = Told {
        commit: store.commits().unwrap(),
        round: NOW,
    };
    let mut batch = Batch::new();
    batch.put_told(Holder::of(TARO), told);
    for n in 0..12_000 {
        batch.put_told(Holder::of(&format!("m{n}@example.jp")), told);
    }
    store.commit_blocking(batch).unwrap();
    let before = store.commits().unwrap();
    assert_eq!(holders(&store), [Holder::of(TARO)].into());
    assert_eq!(store.commits().unwrap(), before, "looking changes nothing");
    store.forget_told().unwrap();
    assert_eq!(store.commits().unwrap(), before + 12);
    assert!(!store.is_in_doubt(NOW), "nothing was lost on the way");
    assert_eq!(store.told(Holder::of("m7@example.jp")).unwrap(), None);
    assert_eq!(store.told(Holder::of(TARO)).unwrap(), Some(told));
    assert_eq!(new(&store, TARO, store.commits().unwrap()), [].into());
    assert_eq!(store.held_by(Holder::of(TARO)).count(), 1, "{held}");
}

#[test]
fn an_index_without_the_lists_gets_them() {
    for way in [
        "of an older version",
        "lost pages",
        "strays",
        // As many as were lost: a count alone does not see it.
        "one for another",
        "unreadable",
        "made anew",
    ] {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path());
        let ids = [
            hold(&store, TARO, NOW),
            hold(&store, TARO, NOW + 1),
            hold(&store, TARO, NOW + 2),
        ];
        hold(&store, JIRO, NOW);
        tell(&store, TARO, store.commits().unwrap(), NOW);
        drop(store);
        let index = dir.path().join("index");
        if way == "made anew" {
            std::fs::write(index.join("db"), b"damaged").unwrap();
        } else {
            let db = closed(&index);
            let keys: Vec<_> = db.scan_prefix(b"B").keys().map(Result::unwrap).collect();
            assert_eq!(keys.len(), 5);
            for key in keys {
                match way {
                    "of an older version" => drop(db.remove(&key).unwrap()),
                    "lost pages" if key.ends_with(ids[1].as_str().as_bytes()) => {
                        db.remove(&key).unwrap();
                    }
                    "one for another" if key.ends_with(ids[1].as_str().as_bytes()) => {
                        let at = key.len() - ids[1].as_str().len();
                        let stray = [&key[..at], Id::new(NOW + 9).as_str().as_bytes()].concat();
                        db.insert(stray, db.remove(&key).unwrap().unwrap()).unwrap();
                    }
                    "unreadable" if key.ends_with(ids[1].as_str().as_bytes()) => {
                        db.insert(&key, b"x").unwrap();
                    }
                    "strays" if key.ends_with(ids[1].as_str().as_bytes()) => {
                        let stray = Id::new(NOW + 9);
                        let at = key.len() - stray.as_str().len();
                        let stray = [&key[..at], stray.as_str().as_bytes()].concat();
                        db.insert(stray, db.get(&key).unwrap().unwrap()).unwrap();
                    }
                    _ => {}
                }
            }
            db.flush().unwrap();
        }
        let store = open(dir.path());
        assert_eq!(store.opened().rebuilt.is_some(), way == "made anew");
        let upto = store.commits().unwrap();
        // Rather told of twice than never.
        let expected: BTreeSet<Id> = match way {
            "lost pages" | "one for another" | "unreadable" => [ids[1]].into(),
            "strays" => [].into(),
            _ => ids.into(),
        };
        assert_eq!(new(&store, TARO, upto), expected, "{way}");
        let held = store.held_by(Holder::of(TARO)).map(|read| read.unwrap().1);
        assert_eq!(held.map(|entry| entry.id).collect::<Vec<_>>(), ids, "{way}");
        assert_eq!(holders(&store).len(), 2, "{way}");
        drop(store);
        let store = open(dir.path());
        assert_eq!(store.commits().unwrap(), upto, "{way}: nothing left to do");
    }
}

#[test]
fn the_list_of_one_mailbox_is_that_of_all_without_the_others() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let names = [TARO, "Taro@Example.jp", JIRO, "hanako@example.jp"];
    let mut ids = Vec::new();
    for n in 0..600_i64 {
        let at = usize::try_from(n * n % 4).unwrap();
        ids.push(hold(&store, names[at], NOW - n * 60_000));
    }
    store.quarantine_delete(ids[4]).unwrap();
    store.release_begin(ids[8], None).unwrap();
    for _ in 0..2 {
        for since in [None, Some(NOW - 300 * 60_000), Some(NOW + DAY)] {
            let all = QuarantineFilter {
                since,
                ..QuarantineFilter::default()
            };
            let all: Vec<_> = store.quarantine_list(all).map(Result::unwrap).collect();
            for name in ["taro@example.JP", JIRO, "nobody@example.jp"] {
                let filter = QuarantineFilter {
                    mailbox: Some(name.to_owned()),
                    since,
                    ..QuarantineFilter::default()
                };
                let expected = all
                    .iter()
                    .filter(|entry| entry.mailbox.eq_ignore_ascii_case(name));
                let list = store.quarantine_list(filter).map(Result::unwrap);
                assert!(list.eq(expected.cloned()), "{name} {since:?}");
            }
        }
        drop(store);
        store = open(dir.path());
    }
    let filter = QuarantineFilter {
        mailbox: Some(TARO.to_owned()),
        ..QuarantineFilter::default()
    };
    let others = store.quarantine_list(QuarantineFilter::default()).count();
    let of_taro = store.quarantine_list(filter.clone()).count();
    assert!(of_taro > 256, "more than is read at once");
    let purged = store.quarantine_purge(filter).unwrap();
    assert_eq!(usize::try_from(purged).unwrap(), of_taro);
    let rest = store.quarantine_list(QuarantineFilter::default()).count();
    assert_eq!(rest, others - of_taro);
}

#[test]
fn a_round_is_remembered() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    assert_eq!(store.last_round().unwrap(), None);
    let rounds = [NOW, NOW + DAY, NOW - DAY].into_iter().zip(7..);
    let rounds = rounds.map(|(round, commit)| Told { commit, round });
    for told in rounds.clone() {
        let mut batch = Batch::new();
        batch.put_round(told);
        store.commit_blocking(batch).unwrap();
        assert_eq!(store.last_round().unwrap(), Some(told));
    }
    drop(store);
    assert_eq!(open(dir.path()).last_round().unwrap(), rounds.last());
}

/// What happens to the store between two looks.
#[derive(Debug, Clone)]
enum Step {
    Hold(bool, i64),
    Delete(usize),
    /// Read so far, told after so many more held mails.
    Tell(bool, usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (any::<bool>(), -DAY..DAY).prop_map(|(who, at)| Step::Hold(who, at)),
        2 => any::<usize>().prop_map(Step::Delete),
        3 => (any::<bool>(), 0..3_usize).prop_map(|(who, more)| Step::Tell(who, more)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_mail_is_told_of_as_new_once(steps in steps()) {
        let dir = TempDir::new().unwrap();
        let mut store = open(dir.path());
        let name = |who| if who { TARO } else { JIRO };
        // What is held, and how often it was told of.
        let mut held: BTreeMap<Id, (bool, u32)> = BTreeMap::new();
        for (round, step) in (0..).zip(steps.into_iter().chain([Step::Tell(true, 0), Step::Tell(false, 0)])) {
            match step {
                Step::Hold(who, at) => {
                    held.insert(hold(&store, name(who), NOW + at), (who, 0));
                }
                Step::Delete(at) => {
                    let ids: Vec<Id> = held.keys().copied().collect();
                    if let Some(id) = ids.get(at % ids.len().max(1)) {
                        store.quarantine_delete(*id).unwrap();
                        held.remove(id);
                    }
                }
                Step::Tell(who, more) => {
                    let upto = store.commits().unwrap();
                    for n in 0..more {
                        let at = NOW - i64::try_from(n).unwrap();
                        held.insert(hold(&store, name(who), at), (who, 0));
                    }
                    for id in new(&store, name(who), upto) {
                        held.get_mut(&id).unwrap().1 += 1;
                    }
                    tell(&store, name(who), upto, round);
                    prop_assert!(holders(&store).len() <= 2);
                }
                Step::Restart => {
                    drop(store);
                    store = open(dir.path());
                }
            }
        }
        for (id, (_, times)) in held {
            prop_assert_eq!(times, 1, "{}", id);
        }
    }
}
