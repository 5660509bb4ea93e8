//! The store from outside: what was promised durable is there, what was not is not, and a damaged
//! index comes back from the mail files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sekimori::store::{
    Answer, Batch, EffectState, FactsRecord, FileEntry, Handoff, HandoffKey, HistoryFilter, Id,
    MailDigest, MailHeader, OutgoingItem, OutgoingKind, OutgoingState, QuarantineEntry,
    QuarantineFilter, QuarantineState, SeenKey, Settings, Shelf, Store, StoreError, WhyRecord,
};
use tempfile::TempDir;

/// A wall time with room below it.
const NOW: i64 = 1_790_000_000_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const RAW: &[u8] = b"Received: by mx\r\nSubject: x\r\n\r\nbody\r\n";

fn open(path: &Path) -> Store {
    try_open(path).unwrap()
}

fn try_open(path: &Path) -> Result<Store, StoreError> {
    let settings = Settings {
        path: path.to_owned(),
        quarantine_max_bytes: 10_000,
        history_retention_ms: 7 * DAY,
    };
    Store::open(settings, NOW)
}

/// Unix milliseconds by the real clock, as files are dated.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}

fn entry(time: i64, mailbox: &str) -> QuarantineEntry {
    QuarantineEntry {
        id: Id::new(time),
        mailbox: mailbox.to_owned(),
        stage: "reject.subject_contains".to_owned(),
        class: "user_rule".to_owned(),
        entry: Some("未承諾広告".to_owned()),
        origin: Some("taro.yaml:14".to_owned()),
        sender: "Sender@b.example".to_owned(),
        from: "Some One <one@c.example>".to_owned(),
        subject: "x".to_owned(),
        size: 100,
        received_at: time,
        expires_at: time + 7 * DAY,
        state: QuarantineState::Held,
        release_to: None,
        handoff: None,
    }
}

fn item(kind: OutgoingKind, state: OutgoingState, due: i64) -> OutgoingItem {
    OutgoingItem {
        id: Id::new(NOW),
        kind,
        mailbox: "taro@example.jp".to_owned(),
        sender: "a@b.example".to_owned(),
        recipients: vec!["t@c.example".to_owned()],
        created_at: NOW,
        attempts: 0,
        next_attempt_at: due,
        last_reply: None,
        state,
        give_up_at: NOW + DAY,
        copy_kept: false,
        fallback: false,
        handoff: None,
        smtputf8: false,
        eight_bit: false,
        refused: Vec::new(),
    }
}

fn header(entries: Vec<FileEntry>) -> MailHeader {
    MailHeader {
        sender: "a@b.example".to_owned(),
        client: "127.0.0.1".to_owned(),
        trace: "Received: from a by b\r\n".to_owned(),
        received_at: NOW,
        entries,
    }
}

/// File and index entry of a held mail.
fn hold(store: &Store, entry: &QuarantineEntry) {
    let entries = vec![FileEntry::Quarantine(entry.clone())];
    store.write_mail(&header(entries), &[RAW]).unwrap();
    let mut batch = Batch::new();
    batch.put_quarantine(entry);
    store.commit_blocking(batch).unwrap();
}

/// File and index entry of an outgoing mail.
fn queue(store: &Store, item: &OutgoingItem) {
    let entries = vec![FileEntry::Outgoing(item.clone())];
    store.write_mail(&header(entries), &[RAW]).unwrap();
    let mut batch = Batch::new();
    batch.put_outgoing(item);
    store.commit_blocking(batch).unwrap();
}

fn list(store: &Store) -> Vec<QuarantineEntry> {
    let all = store.quarantine_list(QuarantineFilter::default());
    all.map(Result::unwrap).collect()
}

/// All files below a folder.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_mail_of_several_pieces_is_read_as_one() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let (head, tail) = RAW.split_at(7);
    let rows: [&[&[u8]]; 4] = [&[RAW], &[head, tail], &[b"", head, b"", tail, b""], &[]];
    for pieces in rows {
        let entry = entry(NOW, "taro@y.example");
        let entries = vec![FileEntry::Quarantine(entry.clone())];
        store.write_mail(&header(entries), pieces).unwrap();
        let body = store.read_body(Shelf::Quarantine, entry.id).unwrap();
        assert_eq!(body, pieces.concat());
    }
}

#[test]
fn what_is_committed_outlives_a_restart_and_what_is_not_does_not() {
    let dir = TempDir::new().unwrap();
    let (kept, lost) = (
        entry(NOW, "taro@example.jp"),
        entry(NOW, "hanako@example.jp"),
    );
    let forward = item(OutgoingKind::Forward, OutgoingState::Held, NOW);
    let key = HandoffKey::new("taro@example.jp", "a@b.example", &MailDigest::of(RAW));
    let handoff = Handoff {
        answer: Answer {
            id: kept.id,
            verdict: "quarantine".to_owned(),
            stage: None,
        },
        outgoing: vec![forward.id],
        quarantine: Some(kept.id),
        created_at: NOW,
    };
    let why = WhyRecord {
        id: kept.id,
        mailbox: "taro@example.jp".to_owned(),
        received_at: NOW,
        body: serde_json::json!({"verdict": "quarantine"}),
    };
    {
        let store = open(dir.path());
        assert!(store.opened().rebuilt.is_none());
        hold(&store, &kept);
        queue(&store, &forward);
        let mut batch = Batch::new();
        batch.put_handoff(&key, &handoff).put_why(&why);
        store.commit_blocking(batch).unwrap();
        let mut dropped = Batch::new();
        dropped.put_quarantine(&lost);
        drop(dropped);
        let entries = vec![FileEntry::Quarantine(lost.clone())];
        store.write_mail(&header(entries), &[RAW]).unwrap();
    }
    let store = open(dir.path());
    assert_eq!(store.opened().orphans, 1);
    assert_eq!(store.quarantine_get(kept.id).unwrap(), Some(kept.clone()));
    assert_eq!(store.quarantine_get(lost.id).unwrap(), None);
    assert_eq!(
        store.outgoing_get(forward.id).unwrap(),
        Some(forward.clone())
    );
    assert_eq!(store.handoff_get(&key).unwrap(), Some(handoff));
    assert_eq!(store.history_get(why.id).unwrap(), Some(why));
    assert_eq!(store.read_body(Shelf::Quarantine, kept.id).unwrap(), RAW);
    let body = store.read_body(Shelf::Outgoing, forward.id).unwrap();
    assert_eq!(body, RAW);
    assert_eq!((store.quarantine_bytes(), store.outgoing_count()), (100, 1));
    assert!(store.quarantine_has_room(9_900) && !store.quarantine_has_room(9_901));
    let report = store.verify().unwrap();
    assert_eq!(
        (report.quarantine, report.outgoing, report.files),
        (1, 1, 3)
    );
    assert_eq!((report.problems.len(), report.orphans.len()), (0, 1));
}

#[test]
fn one_file_serves_all_entries_and_goes_with_the_last() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let held = entry(NOW, "taro@example.jp");
    let forwards: Vec<_> = (0..3)
        .map(|_| item(OutgoingKind::Forward, OutgoingState::Ready, NOW))
        .collect();
    let mut entries = vec![FileEntry::Quarantine(held.clone())];
    entries.extend(forwards.iter().cloned().map(FileEntry::Outgoing));
    store.write_mail(&header(entries), &[RAW]).unwrap();
    let mut batch = Batch::new();
    batch.put_quarantine(&held);
    for forward in &forwards {
        batch.put_outgoing(forward);
    }
    store.commit_blocking(batch).unwrap();
    let links = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        path.metadata().unwrap().nlink()
    };
    let all = files(&dir.path().join("mail"));
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|path| links(path) == 4));
    for forward in &forwards {
        end(&store, forward, EffectState::Sent).unwrap();
    }
    assert_eq!(store.read_body(Shelf::Quarantine, held.id).unwrap(), RAW);
    store.quarantine_delete(held.id).unwrap();
    assert!(files(&dir.path().join("mail")).is_empty());
    assert!(matches!(
        store.quarantine_delete(held.id),
        Err(StoreError::NotFound(_))
    ));
    assert!(matches!(
        store.read_body(Shelf::Quarantine, held.id),
        Err(StoreError::NotFound(_))
    ));
}

#[test]
fn nobody_else_may_read_what_lies_in_a_folder_that_was_there() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let store = open(dir.path());
    hold(&store, &entry(NOW, "a"));
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}: {mode:o}", entry.path());
    }
}

#[test]
fn a_second_process_is_refused() {
    let dir = TempDir::new().unwrap();
    let first = open(dir.path());
    let second = try_open(dir.path());
    assert!(matches!(second, Err(StoreError::Busy(_))), "{second:?}");
    assert!(
        second
            .unwrap_err()
            .to_string()
            .contains("another process holds the store")
    );
    drop(first);
    open(dir.path());
}

#[test]
fn a_failed_write_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let (first, second) = (entry(NOW, "a"), entry(NOW, "b"));
    hold(&store, &second);
    let entries = [&first, &second].map(|entry| FileEntry::Quarantine(entry.clone()));
    assert!(store.write_mail(&header(entries.to_vec()), &[RAW]).is_err());
    assert!(store.write_mail(&header(Vec::new()), &[RAW]).is_err());
    assert_eq!(files(&dir.path().join("mail")).len(), 1);
    assert_eq!(store.read_body(Shelf::Quarantine, second.id).unwrap(), RAW);
}

/// Ruins the index in one of several ways.
fn damage(index: &Path, way: usize) {
    let db = index.join("db");
    let len = fs::metadata(&db).unwrap().len();
    match way {
        0 => {
            let mut bytes = fs::read(&db).unwrap();
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            bytes.truncate(last / 2);
            fs::write(&db, bytes).unwrap();
        }
        1 => fs::write(&db, b"").unwrap(),
        2 => fs::remove_dir_all(index).unwrap(),
        3 => fs::write(&db, vec![0xff; usize::try_from(len).unwrap()]).unwrap(),
        _ => {
            let mut bytes = fs::read(&db).unwrap();
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            let at = last * (way - 3) / 12;
            bytes[at] ^= 0x10;
            fs::write(&db, bytes).unwrap();
        }
    }
}

/// One kill in some hundred hits sled while it writes a snapshot; it then called all corrupt.
#[test]
fn a_snapshot_that_a_kill_left_unfinished_is_no_damage() {
    for octets in [b"".as_slice(), b"half a snapshot"] {
        let dir = TempDir::new().unwrap();
        let entry = entry(NOW, "taro@example.jp");
        hold(&open(dir.path()), &entry);
        let unfinished = dir.path().join("index/snap.7FFFFFFFFFFFFFFF.generating");
        fs::write(&unfinished, octets).unwrap();
        let store = open(dir.path());
        assert!(store.opened().rebuilt.is_none());
        assert_eq!(list(&store), [entry]);
        assert!(!unfinished.exists());
    }
}

#[test]
fn a_damaged_index_comes_back_from_the_files() {
    for way in 0..14 {
        let dir = TempDir::new().unwrap();
        let held: Vec<_> = (0..20).map(|n| entry(NOW + n, "taro@example.jp")).collect();
        let forward = item(OutgoingKind::Forward, OutgoingState::Held, NOW + DAY);
        let reply = item(OutgoingKind::AutoReply, OutgoingState::Ready, NOW);
        {
            let store = open(dir.path());
            held.iter().for_each(|entry| hold(&store, entry));
            queue(&store, &forward);
            queue(&store, &reply);
        }
        damage(&dir.path().join("index"), way);
        let store = open(dir.path());
        assert_eq!(list(&store), held, "way {way}");
        assert_eq!(store.quarantine_bytes(), 2000, "way {way}");
        if let Some(rebuilt) = &store.opened().rebuilt {
            assert_eq!(
                (rebuilt.quarantine, rebuilt.outgoing, rebuilt.dropped),
                (20, 1, 1)
            );
            let due = store.outgoing_due(NOW, 10).unwrap();
            assert_eq!(due.len(), 1, "way {way}");
            assert_eq!(
                (due[0].id, due[0].state),
                (forward.id, OutgoingState::Ready)
            );
            assert_eq!(store.outgoing_get(reply.id).unwrap(), None);
        } else {
            assert!(way > 3, "way {way} cannot go unnoticed");
            assert_eq!(store.outgoing_count(), 2);
        }
        let report = store.verify().unwrap();
        assert!(
            report.problems.is_empty() && report.orphans.is_empty(),
            "{report:?}"
        );
        drop(store);
        assert!(
            open(dir.path()).opened().rebuilt.is_none(),
            "way {way}: once is enough"
        );
    }
}

#[test]
fn a_lost_record_that_nobody_waited_for_gives_doubt() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    assert!(!store.is_in_doubt(NOW));
    let mut batch = Batch::new();
    batch.put_quarantine(&entry(NOW, &"m".repeat(5000)));
    store.submit(batch);
    assert!(store.is_in_doubt(NOW));
    drop(store);
    assert!(open(dir.path()).is_in_doubt(NOW));
}

#[test]
fn a_retry_finds_what_a_rebuild_took_over_unless_more_was_to_be_done() {
    let key = |name: &str| HandoffKey::new(name, "", &MailDigest::of(RAW));
    let held = |name: &str, class: &str| {
        FileEntry::Quarantine(QuarantineEntry {
            class: class.to_owned(),
            handoff: Some(key(name)),
            ..entry(NOW, name)
        })
    };
    let sent_on = |name: &str, copy_kept: bool| {
        FileEntry::Outgoing(OutgoingItem {
            copy_kept,
            handoff: Some(key(name)),
            ..item(OutgoingKind::Forward, OutgoingState::Held, NOW)
        })
    };
    let dir = TempDir::new().unwrap();
    // One mail of which nothing was committed. The last one's second file is missing.
    let entries = vec![
        held("held", "spam"),
        held("infected", "virus"),
        sent_on("forwarded", false),
        sent_on("forwarded", false),
        sent_on("kept", true),
        sent_on("torn", false),
        sent_on("torn", false),
    ];
    let store = open(dir.path());
    store.write_mail(&header(entries.clone()), &[RAW]).unwrap();
    store.remove_mail(Shelf::Outgoing, entries[6].id()).unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(dir.path());
    let found = |name: &str| store.handoff_get(&key(name)).unwrap();
    let held = found("held").unwrap();
    assert_eq!(
        (held.answer.id, held.quarantine),
        (entries[0].id(), Some(entries[0].id()))
    );
    assert_eq!(
        held.answer.stage.as_deref(),
        Some("reject.subject_contains")
    );
    let forwarded = found("forwarded").unwrap();
    assert_eq!(forwarded.answer.verdict, "forward");
    assert_eq!(forwarded.outgoing, [entries[2].id(), entries[3].id()]);
    for name in ["infected", "kept", "torn"] {
        assert_eq!(found(name), None, "{name}");
    }
    assert_eq!((list(&store).len(), store.outgoing_count()), (2, 4));
}

/// A crash may leave a mail file its name and not all of its octets.
#[test]
fn a_rebuild_leaves_a_torn_file_and_its_hand_off_to_the_retry() {
    let body = vec![b'x'; 200_000];
    let key = |name: &str| HandoffKey::new(name, "", &MailDigest::of(name.as_bytes()));
    let write = |store: &Store, name: &str| {
        let held = QuarantineEntry {
            handoff: Some(key(name)),
            ..entry(NOW, name)
        };
        let forward = OutgoingItem {
            handoff: Some(key(name)),
            ..item(OutgoingKind::Forward, OutgoingState::Ready, NOW)
        };
        let entries = vec![FileEntry::Quarantine(held), FileEntry::Outgoing(forward)];
        store.write_mail(&header(entries), &[&body]).unwrap();
    };
    // Which octets, from the end, a power cut made zeros, and whether the hand-off can still be read.
    let torn = [
        ("end", 8, 1, true),
        ("checksum", 40, 39, true),
        ("last", 41, 40, true),
        ("half", 100_000, 0, true),
        ("body", 200_040, 199_000, true),
        ("header", 200_041, 200_040, false),
        ("all", usize::MAX, 0, false),
    ];
    for (name, from, to, known) in torn {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path());
        write(&store, "torn");
        let path = files(&dir.path().join("mail/quarantine")).remove(0);
        write(&store, "whole");
        drop(store);
        let mut bytes = fs::read(&path).unwrap();
        let len = bytes.len();
        bytes[len.saturating_sub(from)..len - to].fill(0);
        fs::write(&path, bytes).unwrap();
        fs::remove_dir_all(dir.path().join("index")).unwrap();
        let store = open(dir.path());
        let rebuilt = store.opened().rebuilt.clone().unwrap();
        assert_eq!((rebuilt.quarantine, rebuilt.outgoing), (1, 1), "{name}");
        assert_eq!(rebuilt.unreadable.len(), 2, "{name}");
        assert!(rebuilt.unreadable.contains(&path), "{name}");
        assert_eq!(store.opened().orphans, 2, "{name}");
        assert_eq!(list(&store)[0].mailbox, "whole", "{name}");
        assert!(store.verify().unwrap().problems.is_empty(), "{name}");
        assert!(store.handoff_get(&key("whole")).unwrap().is_some());
        assert_eq!(store.handoff_get(&key("torn")).unwrap(), None, "{name}");
        // The retry removes what it knows again; else a sweep does, after a week.
        assert_eq!(store.is_prepared(&key("torn")), known, "{name}");
        store.clear_prepared(&key("torn")).unwrap();
        assert_eq!(path.exists(), !known, "{name}");
        assert_eq!(
            files(&dir.path().join("mail")).len(),
            4 - 2 * usize::from(known)
        );
    }
}

/// Two held mails, of which the index names one.
fn hold_one_of_two(path: &Path) {
    let store = open(path);
    hold(&store, &entry(NOW, "named"));
    let entries = vec![FileEntry::Quarantine(entry(NOW, "unnamed"))];
    store.write_mail(&header(entries), &[RAW]).unwrap();
}

#[test]
fn a_rebuild_that_fails_before_its_first_commit_is_done_by_the_next_start() {
    for lost in ["index", "index.seq"] {
        let dir = TempDir::new().unwrap();
        hold_one_of_two(dir.path());
        let lost = dir.path().join(lost);
        match lost.is_dir() {
            true => fs::remove_dir_all(lost).unwrap(),
            false => fs::write(lost, b"").unwrap(),
        }
        let (shard, aside) = (dir.path().join("mail/outgoing/z"), dir.path().join("aside"));
        fs::rename(&shard, &aside).unwrap();
        fs::write(&shard, b"no folder").unwrap();
        try_open(dir.path()).unwrap_err();
        fs::remove_file(&shard).unwrap();
        fs::rename(&aside, &shard).unwrap();
        assert_eq!(list(&open(dir.path())).len(), 2);
    }
}

#[test]
fn a_rebuild_that_a_kill_cut_short_goes_on_at_the_next_start() {
    let dir = TempDir::new().unwrap();
    hold_one_of_two(dir.path());
    let store = open(dir.path());
    assert_eq!((list(&store).len(), store.opened().orphans), (1, 1));
    drop(store);
    let mark = dir.path().join("index.rebuilding");
    fs::write(&mark, b"").unwrap();
    assert_eq!(list(&open(dir.path())).len(), 2);
    assert!(!mark.exists());
}

/// An index that lost its last commits and fits together is an older one: only `index.seq` tells.
#[test]
fn commits_that_are_lost_with_their_number_come_back_from_the_files() {
    let dir = TempDir::new().unwrap();
    let (before, after) = (
        entry(NOW, "taro@example.jp"),
        entry(NOW + 1, "taro@example.jp"),
    );
    let forward = item(OutgoingKind::Forward, OutgoingState::Ready, NOW);
    hold(&open(dir.path()), &before);
    let (index, older) = (dir.path().join("index"), dir.path().join("older"));
    copy_folder(&index, &older);
    let store = open(dir.path());
    hold(&store, &after);
    queue(&store, &forward);
    drop(store);
    for damage in [b"".as_slice(), &[0; 12]] {
        fs::remove_dir_all(&index).unwrap();
        copy_folder(&older, &index);
        fs::write(dir.path().join("index.seq"), damage).unwrap();
        let store = open(dir.path());
        assert_eq!(list(&store), [before.clone(), after.clone()]);
        assert_eq!(store.outgoing_count(), 1);
        let rebuilt = store.opened().rebuilt.clone().unwrap();
        assert_eq!((rebuilt.quarantine, rebuilt.outgoing), (1, 1));
        drop(store);
        assert!(open(dir.path()).opened().rebuilt.is_none());
    }
}

#[test]
fn a_damaged_file_is_found_and_never_served() {
    let dir = TempDir::new().unwrap();
    let held = entry(NOW, "taro@example.jp");
    let store = open(dir.path());
    hold(&store, &held);
    let path = files(&dir.path().join("mail")).remove(0);
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let read = store.read_body(Shelf::Quarantine, held.id);
        assert!(
            matches!(read, Err(StoreError::Damaged(_))),
            "octet {at}: {read:?}"
        );
    }
    for len in [0, 10, 60, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..len]).unwrap();
        let read = store.read_body(Shelf::Quarantine, held.id);
        assert!(
            matches!(read, Err(StoreError::Damaged(_))),
            "length {len}: {read:?}"
        );
        assert_eq!(store.verify().unwrap().problems.len(), 1);
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(store.read_body(Shelf::Quarantine, held.id).unwrap(), RAW);
    fs::remove_file(&path).unwrap();
    assert_eq!(store.verify().unwrap().problems.len(), 1);
}

#[test]
fn concurrent_commits_are_all_there() {
    let dir = TempDir::new().unwrap();
    let acknowledged = AtomicU64::new(0);
    {
        let store = open(dir.path());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (store, acknowledged) = (&store, &acknowledged);
                scope.spawn(move || {
                    for n in 0..20 {
                        let mut batch = Batch::new();
                        batch.put_quarantine(&entry(NOW + n, &format!("m{thread}")));
                        store.commit_blocking(batch).unwrap();
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut batch = Batch::new();
            batch.put_quarantine(&entry(NOW, "task"));
            store.commit(batch).await.unwrap();
            let mut batch = Batch::new();
            batch.put_quarantine(&entry(NOW, "unwaited"));
            store.submit(batch);
        });
    }
    let store = open(dir.path());
    assert!(store.opened().rebuilt.is_none());
    assert_eq!(list(&store).len(), 162);
    assert_eq!(store.quarantine_bytes(), 16_200);
    assert_eq!(acknowledged.into_inner(), 160);
}

#[test]
fn only_one_of_many_may_answer() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let key = SeenKey::new("taro@example.jp", "auto_reply", "a@b.example");
    let claims: Vec<_> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| store.claim(key, NOW, DAY).unwrap()))
            .collect();
        tasks
            .into_iter()
            .filter_map(|task| task.join().unwrap())
            .collect()
    });
    assert_eq!(claims.len(), 1);
    drop(claims);
    let claim = store.claim(key, NOW, DAY).unwrap().expect("free again");
    let mut aborted = Batch::new();
    aborted.mark_seen(claim);
    assert!(store.claim(key, NOW, DAY).unwrap().is_none());
    drop(aborted);
    let mut batch = Batch::new();
    batch.mark_seen(store.claim(key, NOW, DAY).unwrap().expect("free again"));
    store.commit_blocking(batch).unwrap();
    drop(store);

    let store = open(dir.path());
    let other = SeenKey::new("taro@example.jp", "notify", "a@b.example");
    assert!(store.claim(other, NOW, DAY).unwrap().is_some());
    let table = [(NOW, false), (NOW + DAY - 1, false), (NOW + DAY, true)];
    for (now, free) in table {
        assert_eq!(store.claim(key, now, DAY).unwrap().is_some(), free, "{now}");
    }
    // The clock goes back ten days: the mark counts one window from there, no more.
    let back = NOW - 10 * DAY;
    assert!(store.claim(key, back, DAY).unwrap().is_none());
    store.commit_blocking(Batch::new()).unwrap();
    assert!(store.claim(key, back + DAY, DAY).unwrap().is_some());
}

#[test]
fn a_hand_off_that_nobody_waits_for_is_found_at_once() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for n in 0..200 {
        let key = HandoffKey::new(
            "taro@example.jp",
            "",
            &MailDigest::of(format!("{n}").as_bytes()),
        );
        let handoff = Handoff {
            answer: Answer {
                id: Id::new(NOW),
                verdict: "deliver".to_owned(),
                stage: None,
            },
            outgoing: Vec::new(),
            quarantine: None,
            created_at: NOW,
        };
        let mut batch = Batch::new();
        batch.put_handoff(&key, &handoff);
        store.submit(batch);
        assert_eq!(store.handoff_get(&key).unwrap(), Some(handoff), "{n}");
    }
}

#[test]
fn a_mail_file_that_a_crash_left_unfinished_is_written_again() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let held = entry(NOW, "a");
    let unfinished = dir.path().join("mail/tmp").join(held.id.as_str());
    fs::write(unfinished, "half").unwrap();
    let entries = vec![FileEntry::Quarantine(held.clone())];
    store.write_mail(&header(entries), &[RAW]).unwrap();
    assert_eq!(store.read_body(Shelf::Quarantine, held.id).unwrap(), RAW);
}

#[test]
fn a_sweep_is_exact() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let (early, late) = (entry(NOW, "a"), entry(NOW + 1, "b"));
    hold(&store, &early);
    hold(&store, &late);
    let expiry = early.expires_at;
    assert_eq!(store.next_expiry().unwrap(), Some(expiry));
    let before = store.sweep(expiry - 1, 0).unwrap();
    assert_eq!(
        (before.quarantine, before.held, before.next),
        (0, false, expiry)
    );
    assert_eq!(list(&store).len(), 2);
    let at = store.sweep(expiry, 1).unwrap();
    assert_eq!((at.quarantine, at.next), (1, expiry + 1));
    assert_eq!(list(&store), [late]);
    assert_eq!(files(&dir.path().join("mail")).len(), 1);
    assert_eq!(store.quarantine_bytes(), 100);
    assert_eq!(store.sweep(expiry + 1, 2).unwrap().quarantine, 1);
    assert!(files(&dir.path().join("mail")).is_empty());
    assert_eq!(store.next_expiry().unwrap(), None);
    assert_eq!(store.sweep(expiry + 1, 2).unwrap().next, expiry + 1 + HOUR);
}

#[test]
fn all_kinds_expire_and_none_before_its_time() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let held = item(OutgoingKind::Forward, OutgoingState::Held, NOW);
    let dead = item(OutgoingKind::Notify, OutgoingState::Dead, NOW + 7 * DAY);
    let ready = item(OutgoingKind::Forward, OutgoingState::Ready, NOW);
    for item in [&held, &dead, &ready] {
        queue(&store, item);
    }
    let key = HandoffKey::new("taro@example.jp", "", &MailDigest::of(RAW));
    let seen = SeenKey::new("a", "auto_reply", "b");
    let why = |time| WhyRecord {
        id: Id::new(time),
        mailbox: "taro@example.jp".to_owned(),
        received_at: time,
        body: serde_json::Value::Null,
    };
    let mut batch = Batch::new();
    batch
        .put_handoff(
            &key,
            &Handoff {
                answer: Answer {
                    id: held.id,
                    verdict: "forward".to_owned(),
                    stage: None,
                },
                outgoing: vec![held.id],
                quarantine: None,
                created_at: NOW,
            },
        )
        .mark_seen(store.claim(seen, NOW, DAY).unwrap().unwrap())
        .put_why(&why(NOW))
        .put_why(&why(NOW + 1));
    store.commit_blocking(batch).unwrap();
    let mut monotonic = 0;
    // Hours step by step, as the clocks must agree; what is gone at each moment.
    let table = [
        (NOW + DAY - 1, [0, 0, 0, 0]),
        (NOW + DAY, [1, 0, 0, 0]),
        (NOW + 6 * DAY - 1, [0, 0, 0, 0]),
        (NOW + 6 * DAY, [0, 0, 1, 0]),
        (NOW + 6 * DAY + 1000, [0, 1, 0, 0]),
        (NOW + 7 * DAY - 1, [0, 0, 0, 0]),
        (NOW + 7 * DAY, [0, 0, 1, 1]),
        (NOW + 7 * DAY + 1, [0, 0, 0, 1]),
        (NOW + 30 * DAY, [0, 0, 0, 0]),
    ];
    let mut last = NOW;
    for (now, expected) in table {
        monotonic += now - last;
        last = now;
        let swept = store.sweep(now, monotonic).unwrap();
        let gone = [swept.seen, swept.handoffs, swept.outgoing, swept.history];
        assert_eq!(gone, expected, "{}", now - NOW);
    }
    let left: Vec<_> = store.outgoing_list().map(Result::unwrap).collect();
    assert_eq!(left, [ready]);
    assert_eq!(store.history_list(HistoryFilter::default()).count(), 0);
    assert_eq!(files(&dir.path().join("mail")).len(), 1);
}

#[test]
fn a_clock_that_jumps_ahead_purges_nothing_for_an_hour() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    hold(&store, &entry(NOW, "a"));
    assert!(!store.sweep(NOW, 0).unwrap().held);
    let jumped = store.sweep(NOW + 3650 * DAY, 1000).unwrap();
    assert_eq!((jumped.held, jumped.quarantine), (true, 0));
    assert_eq!(jumped.next, NOW + 3650 * DAY + HOUR);
    assert_eq!(list(&store).len(), 1);
    assert!(!store.sweep(NOW + 2000, 2000).unwrap().held);
    assert_eq!(list(&store).len(), 1);
}

#[test]
fn leftovers_of_a_crash_go_in_time() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let real = now();
    let mut orphan = entry(real, "a");
    orphan.expires_at = real + 30 * DAY;
    let key = HandoffKey::new("a", "", &MailDigest::of(RAW));
    orphan.handoff = Some(key);
    let entries = vec![FileEntry::Quarantine(orphan)];
    store.write_mail(&header(entries), &[RAW]).unwrap();
    let tmp = dir.path().join("mail/tmp").join(Id::new(real).to_string());
    fs::write(&tmp, b"half").unwrap();
    // Whatever the clock says, it may be just being written: it goes with the next start.
    assert_eq!(store.sweep(real + 5 * DAY, 0).unwrap().orphans, 0);
    assert!(tmp.exists());
    drop(store);
    let store = open(dir.path());
    assert!(!tmp.exists());
    assert_eq!(store.sweep(real + 6 * DAY, 6 * DAY).unwrap().orphans, 0);
    assert!(store.is_prepared(&key));
    assert_eq!(store.sweep(real + 8 * DAY, 8 * DAY).unwrap().orphans, 1);
    assert!(!store.is_prepared(&key), "a place in a bounded table");
    assert!(files(&dir.path().join("mail")).is_empty());
}

#[test]
fn a_file_without_an_entry_is_found_among_many_that_have_one() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let real = now();
    let mut held: Vec<_> = (0..200).map(|_| entry(real, "a")).collect();
    let orphans = held.split_off(197);
    for entry in &held {
        hold(&store, entry);
    }
    for orphan in &orphans {
        let entries = vec![FileEntry::Quarantine(orphan.clone())];
        store.write_mail(&header(entries), &[RAW]).unwrap();
    }
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.opened().orphans, 3);
    store.sweep(real, 0).unwrap();
    // What came and went in between is no reason to take one for another.
    hold(&store, &entry(real, "a"));
    store.quarantine_delete(held[0].id).unwrap();
    let swept = store.sweep(orphans[0].expires_at, 7 * DAY).unwrap();
    assert_eq!((swept.quarantine, swept.orphans), (197, 3));
    assert!(files(&dir.path().join("mail")).is_empty());
}

#[test]
fn a_sweep_breaks_off_between_two_commits() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let entries: Vec<_> = (0..250).map(|_| entry(NOW, "a")).collect();
    for entry in &entries {
        hold(&store, entry);
    }
    let asked = std::cell::Cell::new(0);
    let goes_on = || asked.replace(asked.get() + 1) < 1;
    let swept = store
        .sweep_while(entries[0].expires_at, 0, goes_on)
        .unwrap();
    assert!((1..250).contains(&swept.quarantine), "{swept:?}");
    let rest = store.sweep(entries[0].expires_at, 1).unwrap();
    assert_eq!(rest.quarantine, 250 - swept.quarantine);
}

#[test]
fn what_a_broken_off_hand_off_prepared_goes_with_its_retry() {
    let dir = TempDir::new().unwrap();
    let key = |mailbox: &str| HandoffKey::new(mailbox, "a@b.example", &MailDigest::of(RAW));
    let (broken, done) = (key("taro"), key("jiro"));
    let held = QuarantineEntry {
        handoff: Some(broken),
        ..entry(NOW, "taro")
    };
    let outgoing = |key| OutgoingItem {
        handoff: Some(key),
        ..item(OutgoingKind::Forward, OutgoingState::Held, NOW)
    };
    let (lost, named) = (outgoing(broken), outgoing(done));
    let store = open(dir.path());
    let entries = vec![
        FileEntry::Quarantine(held),
        FileEntry::Outgoing(lost),
        FileEntry::Outgoing(named.clone()),
    ];
    store.write_mail(&header(entries), &[RAW]).unwrap();
    assert!(store.is_prepared(&broken) && store.is_prepared(&done));
    let mut batch = Batch::new();
    batch.put_outgoing(&named);
    store.commit_blocking(batch).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.opened().orphans, 2);
    assert!(store.is_prepared(&broken) && !store.is_prepared(&done));
    assert_eq!(files(&dir.path().join("mail")).len(), 3);
    store.clear_prepared(&broken).unwrap();
    assert!(!store.is_prepared(&broken));
    assert_eq!(files(&dir.path().join("mail")).len(), 1);
    assert_eq!(store.read_body(Shelf::Outgoing, named.id).unwrap(), RAW);
    // What became named after all is not touched.
    let late = outgoing(done);
    queue(&store, &late);
    assert!(store.is_prepared(&done));
    store.clear_prepared(&done).unwrap();
    assert_eq!(store.read_body(Shelf::Outgoing, late.id).unwrap(), RAW);
}

#[test]
fn a_retry_waits_for_a_batch_that_nobody_waits_for_any_more() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let key = HandoffKey::new("taro", "a@b.example", &MailDigest::of(RAW));
        let mut batch = Batch::new();
        batch.put_quarantine(&entry(NOW, "taro"));
        batch.keep_under_way(store.begin_all(&[key]).await.into());
        let keys = [key];
        let mut retry = Box::pin(store.begin_all(&keys));
        tokio::select! {
            biased;
            _ = &mut retry => panic!("it did not wait"),
            () = std::future::ready(()) => {}
        }
        store.submit(batch);
        retry.await;
        assert_eq!(list(&store).len(), 1);
    });
}

fn end(store: &Store, item: &OutgoingItem, effect: EffectState) -> Result<(), StoreError> {
    let ended = store.outgoing_settle(&[(item.clone(), effect)]);
    ended.into_iter().collect()
}

#[test]
fn the_outgoing_mail_of_a_mailbox_is_counted() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ready = || item(OutgoingKind::Forward, OutgoingState::Ready, NOW);
    let (first, second) = (ready(), ready());
    let other = OutgoingItem {
        mailbox: "jiro@example.jp".to_owned(),
        ..ready()
    };
    for item in [&first, &second, &other, &first] {
        let mut batch = Batch::new();
        batch.put_outgoing(item);
        store.commit_blocking(batch).unwrap();
    }
    let counts = |store: &Store| {
        ["taro@example.jp", "jiro@example.jp", "saburo@example.jp"]
            .map(|mailbox| store.outgoing_count_of(mailbox))
    };
    assert_eq!(counts(&store), [2, 1, 0]);
    store.outgoing_begin(first.id).unwrap();
    end(&store, &first, EffectState::Sent).unwrap();
    assert_eq!(counts(&store), [1, 1, 0]);
    drop(store);
    let store = open(dir.path());
    assert_eq!(counts(&store), [1, 1, 0]);
    end(&store, &other, EffectState::Sent).unwrap();
    assert_eq!(counts(&store), [1, 0, 0]);
}

#[test]
fn a_dead_forward_without_another_copy_outlives_every_sweep() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let dead = |fallback| OutgoingItem {
        fallback,
        ..item(OutgoingKind::Forward, OutgoingState::Dead, NOW)
    };
    let (only, other) = (dead(true), dead(false));
    queue(&store, &only);
    queue(&store, &other);
    store.sweep(NOW, 0).unwrap();
    store.sweep(NOW + 300 * DAY, 300 * DAY).unwrap();
    assert!(store.outgoing_get(only.id).unwrap().is_some());
    assert_eq!(store.read_body(Shelf::Outgoing, only.id).unwrap(), RAW);
    assert!(store.outgoing_get(other.id).unwrap().is_none());
    assert_eq!(store.outgoing_retry(Some(only.id), NOW).unwrap(), 1);
}

#[test]
fn outgoing_mail_goes_its_way() {
    let dir = TempDir::new().unwrap();
    let later = item(OutgoingKind::Forward, OutgoingState::Ready, NOW + 2);
    let first = item(OutgoingKind::VirusReport, OutgoingState::Ready, NOW + 1);
    let held = item(OutgoingKind::Forward, OutgoingState::Held, NOW);
    let notice = item(OutgoingKind::Notify, OutgoingState::Ready, NOW + 1);
    let waiting = item(OutgoingKind::AutoReply, OutgoingState::Ready, NOW + 1);
    {
        let store = open(dir.path());
        for item in [&later, &first, &held] {
            queue(&store, item);
        }
        let due = |now, limit| {
            let due = store.outgoing_due(now, limit).unwrap();
            due.into_iter().map(|item| item.id).collect::<Vec<_>>()
        };
        assert_eq!(store.next_due_at().unwrap(), Some(NOW + 1));
        assert_eq!(due(NOW, 10), []);
        assert_eq!(due(NOW + 2, 10), [first.id, later.id]);
        assert_eq!(due(NOW + 2, 1), [first.id]);
        let mut sending = store.outgoing_begin(first.id).unwrap();
        assert_eq!(
            (sending.attempts, sending.state),
            (1, OutgoingState::Sending)
        );
        assert!(matches!(
            store.outgoing_begin(first.id),
            Err(StoreError::Conflict(_))
        ));
        assert!(matches!(
            store.outgoing_begin(held.id),
            Err(StoreError::Conflict(_))
        ));
        assert!(matches!(
            store.outgoing_retry(Some(held.id), NOW),
            Err(StoreError::Conflict(_))
        ));
        assert_eq!(due(NOW + 2, 10), [later.id]);
        sending.state = OutgoingState::Ready;
        sending.next_attempt_at = NOW + 60;
        sending.last_reply = Some("451 4.7.1 later".to_owned());
        end(&store, &sending, EffectState::Waiting).unwrap();
        assert_eq!(due(NOW + 60, 10), [later.id, first.id]);
        assert_eq!(store.outgoing_retry(None, NOW).unwrap(), 2);
        assert_eq!(due(NOW, 10).len(), 2);
        end(&store, &later, EffectState::Sent).unwrap();
        assert!(matches!(
            end(&store, &later, EffectState::Waiting),
            Err(StoreError::NotFound(_))
        ));
        queue(&store, &notice);
        queue(&store, &waiting);
        store.outgoing_begin(first.id).unwrap();
        assert!(matches!(
            store.outgoing_drop(first.id),
            Err(StoreError::Conflict(_))
        ));
        store.outgoing_begin(waiting.id).unwrap();
        store.outgoing_begin(notice.id).unwrap();
        store.outgoing_transmit(notice.id).unwrap();
        assert_eq!(store.next_due_at().unwrap(), None);
        let shown = store.outgoing_list().map(|item| item.unwrap());
        let sent = shown.filter(|item| item.state == OutgoingState::Sending);
        assert_eq!(sent.count(), 2);
        let dropped = store.outgoing_retry(Some(first.id), NOW);
        assert!(matches!(dropped, Err(StoreError::Conflict(_))));
    }
    // A crash in the middle of all three: only the notice that may have arrived is not sent again.
    let store = open(dir.path());
    assert_eq!((store.opened().resumed, store.opened().dropped), (0, 1));
    let due = store.outgoing_due(NOW + 1, 10).unwrap();
    let mut ids: Vec<_> = due.iter().map(|item| item.id).collect();
    ids.sort_by_key(|id| *id != first.id);
    assert_eq!(ids, [first.id, waiting.id]);
    let due: Vec<_> = due.into_iter().filter(|item| item.id == first.id).collect();
    assert_eq!(due[0].last_reply.as_deref(), Some("451 4.7.1 later"));
    assert_eq!(store.outgoing_get(notice.id).unwrap(), None);
    assert_eq!(store.outgoing_get(held.id).unwrap(), Some(held));
    assert!(store.verify().unwrap().orphans.is_empty());
}

#[test]
fn held_mail_is_listed_released_and_purged() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let taro = entry(NOW, "taro@example.jp");
    let mut hanako = entry(NOW + 10, "hanako@example.jp");
    hanako.stage = "spam".to_owned();
    hanako.sender = String::new();
    for entry in [&hanako, &taro] {
        hold(&store, entry);
    }
    let all = QuarantineFilter::default;
    let table = [
        (all(), 2),
        (
            QuarantineFilter {
                mailbox: Some("TARO@example.jp".to_owned()),
                ..all()
            },
            1,
        ),
        (
            QuarantineFilter {
                mailbox: Some("taro".to_owned()),
                ..all()
            },
            0,
        ),
        (
            QuarantineFilter {
                stage: Some("spam".to_owned()),
                ..all()
            },
            1,
        ),
        (
            QuarantineFilter {
                since: Some(NOW + 10),
                ..all()
            },
            1,
        ),
        (
            QuarantineFilter {
                since: Some(NOW + 11),
                ..all()
            },
            0,
        ),
        (
            QuarantineFilter {
                sender: Some("sender@B".to_owned()),
                ..all()
            },
            1,
        ),
        (
            QuarantineFilter {
                sender: Some("one@c".to_owned()),
                ..all()
            },
            2,
        ),
    ];
    for (filter, expected) in table {
        assert_eq!(
            store.quarantine_list(filter.clone()).count(),
            expected,
            "{filter:?}"
        );
    }
    assert_eq!(list(&store)[0], taro);
    assert_eq!(
        store.release_begin(taro.id, None).unwrap().state,
        QuarantineState::Releasing
    );
    assert!(matches!(
        store.release_begin(taro.id, None),
        Err(StoreError::Conflict(_))
    ));
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.opened().releasing, [taro.id]);
    let halfway = |id| store.release_halfway(id).unwrap().is_some();
    assert!(halfway(taro.id) && !halfway(hanako.id));
    store.release_end(taro.id, false, None).unwrap();
    store.release_begin(taro.id, None).unwrap();
    store.release_end(taro.id, true, None).unwrap();
    let released = store.quarantine_get(taro.id).unwrap().unwrap();
    assert_eq!(released.state, QuarantineState::Released);
    // Whoever read `releasing` before its end would deliver it once more.
    assert!(!halfway(taro.id));
    assert!(matches!(
        store.release_begin(taro.id, None),
        Err(StoreError::Conflict(_))
    ));
    let filter = QuarantineFilter {
        stage: Some("spam".to_owned()),
        ..all()
    };
    assert_eq!(store.quarantine_purge(filter).unwrap(), 1);
    assert_eq!(store.quarantine_purge(all()).unwrap(), 1);
    assert_eq!(store.quarantine_bytes(), 0);
    assert!(files(&dir.path().join("mail")).is_empty());
    store.release_end(taro.id, true, None).unwrap();
}

#[test]
fn a_batch_with_a_record_that_does_not_fit_does_nothing() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let mut big = item(OutgoingKind::Forward, OutgoingState::Ready, NOW);
    big.recipients = vec!["r".repeat(300); 50];
    let mut batch = Batch::new();
    batch.put_quarantine(&entry(NOW, "a")).put_outgoing(&big);
    assert!(matches!(
        store.commit_blocking(batch),
        Err(StoreError::TooLarge(_))
    ));
    assert!(list(&store).is_empty());
}

#[test]
fn long_lists_come_whole_and_in_order() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let mut batch = Batch::new();
    for n in 0..1000 {
        batch.put_quarantine(&entry(NOW + n, "a"));
    }
    store.commit_blocking(batch).unwrap();
    let times: Vec<_> = list(&store).iter().map(|entry| entry.received_at).collect();
    assert_eq!(times, (NOW..NOW + 1000).collect::<Vec<_>>());
}

#[test]
fn hand_offs_of_several_recipients_do_not_block_each_other() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let keys = ["a", "b", "a"].map(|mailbox| HandoffKey::new(mailbox, "", &MailDigest::of(RAW)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let first = store.begin_all(&keys).await;
        assert!(store.try_begin_all(&keys[1..2]).is_none());
        drop(first);
        drop(store.begin_all(&[keys[1], keys[0]]).await);
    });
}

/// `SEKIMORI_SMALL_DISK` names a folder on a file system of its own of 64 MiB or so, such as a
/// tmpfs.
#[test]
#[ignore = "needs a small file system"]
fn a_full_disk_is_survived() {
    let disk = PathBuf::from(std::env::var_os("SEKIMORI_SMALL_DISK").unwrap());
    let path = disk.join("store");
    let filler = disk.join("filler");
    let mut stored = Vec::new();
    let fill = || {
        use std::io::Write;
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(&filler)
            .unwrap();
        let chunk = [0_u8; 4096];
        while file.write_all(&chunk).is_ok() {}
    };
    let commit = |store: &Store, entry: &QuarantineEntry| {
        let mut batch = Batch::new();
        batch.put_quarantine(entry);
        store.commit_blocking(batch)
    };
    {
        let store = open(&path);
        assert!(path.join("ballast").exists() && store.has_room(0));
        fill();
        assert!(!store.has_room(0));
        let entries = vec![FileEntry::Quarantine(entry(NOW, "a"))];
        let written = store.write_mail(&header(entries), &[&vec![0; 1 << 20]]);
        assert!(written.unwrap_err().is_full());
        assert!(files(&path.join("mail")).is_empty());
        for n in 0..20_000 {
            let entry = entry(NOW + n, "a");
            match commit(&store, &entry) {
                Ok(()) => stored.push(entry.id),
                Err(error) => {
                    assert!(error.is_full(), "{error}");
                    break;
                }
            }
        }
        assert!(stored.len() < 20_000, "the disk did not fill");
        fill();
    }
    let known = |store: &Store| {
        let all: Vec<_> = list(store).iter().map(|entry| entry.id).collect();
        stored.iter().all(|id| all.binary_search(id).is_ok())
    };
    {
        let store = open(&path);
        assert!(store.opened().ballast_dropped && store.opened().rebuilt.is_none());
        assert!(known(&store));
        fs::remove_file(&filler).unwrap();
        store.sweep(NOW, 0).unwrap();
        assert!(path.join("ballast").exists());
        commit(&store, &entry(NOW, "again")).unwrap();
    }
    // Full and free again while it runs.
    let store = open(&path);
    fill();
    let mut full = 0;
    for n in 0..50_000 {
        match commit(&store, &entry(NOW + n, "b")) {
            Ok(()) => {}
            Err(error) => {
                assert!(error.is_full(), "{error}");
                full += 1;
                break;
            }
        }
    }
    assert_eq!(full, 1);
    fs::remove_file(&filler).unwrap();
    let started = std::time::Instant::now();
    while let Err(error) = commit(&store, &entry(NOW, "after")) {
        assert!(error.is_temporary(), "{error}");
        assert!(started.elapsed().as_secs() < 10, "{error}");
        std::thread::yield_now();
    }
    assert!(known(&store));
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for found in fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        let to = to.join(found.file_name());
        match found.file_type().unwrap().is_dir() {
            true => copy_folder(&found.path(), &to),
            false => drop(fs::copy(found.path(), to).unwrap()),
        }
    }
}

fn why(time: i64, mailbox: &str) -> WhyRecord {
    WhyRecord {
        id: Id::new(time),
        mailbox: mailbox.to_owned(),
        received_at: time,
        body: serde_json::json!({"verdict": "deliver"}),
    }
}

fn decide(store: &Store, time: i64, mailbox: &str) -> Id {
    let why = why(time, mailbox);
    let mut batch = Batch::new();
    batch.put_decision(&why, &FactsRecord::new(why.id, 7));
    store.commit_blocking(batch).unwrap();
    why.id
}

#[test]
fn one_mailboxs_history_and_facts_lie_apart_and_expire_together() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let early = decide(&store, NOW, "taro@example.jp");
    let other = decide(&store, NOW + 1, "taro2@example.jp");
    let late = decide(&store, NOW + DAY, "taro@example.jp");
    // A record of an earlier version has no facts.
    let old = why(NOW + 2, "taro@example.jp");
    let mut batch = Batch::new();
    batch.put_why(&old);
    store.commit_blocking(batch).unwrap();
    let history = |mailbox: Option<&str>, since| -> Vec<Id> {
        let mailbox = mailbox.map(str::to_owned);
        let found = store.history_list(HistoryFilter { mailbox, since });
        found.map(|why| why.unwrap().id).collect()
    };
    let facts = |mailbox: &str, since| -> Vec<Id> {
        let found = store.facts_list(mailbox, since);
        found.map(|facts| facts.unwrap().id).collect()
    };
    assert_eq!(history(None, None), [early, other, old.id, late]);
    assert_eq!(history(Some("TARO@example.jp"), None), [early, late]);
    assert_eq!(history(Some("taro@example.jp"), Some(NOW + 1)), [late]);
    assert!(history(Some("taro"), None).is_empty());
    assert_eq!(facts("taro@example.jp", None), [early, late]);
    assert_eq!(facts("Taro2@Example.jp", Some(NOW)), [other]);
    assert!(facts("taro2@example.jp", Some(NOW + 2)).is_empty());
    // The clocks agree within an hour from one sweep to the next.
    store.sweep(NOW, 0).unwrap();
    let swept = store.sweep(NOW + 7 * DAY + 2, 7 * DAY + 2).unwrap();
    assert_eq!(swept.history, 3);
    assert_eq!(history(None, None), [late]);
    assert_eq!(facts("taro@example.jp", None), [late]);
    assert!(facts("taro2@example.jp", None).is_empty());
}

#[test]
fn who_follows_is_told_of_each_decision_once_or_how_many_he_missed() {
    use tokio::sync::broadcast::error::TryRecvError;
    const KEPT: u64 = 4096;
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    decide(&store, NOW, "before@example.jp");
    let (mut quick, mut slow) = (store.follow(), store.follow());
    let first = decide(&store, NOW, "taro@example.jp");
    assert_eq!(quick.try_recv(), Ok(first));
    // A change of a record is no decision.
    let mut batch = Batch::new();
    batch.put_why(&why(NOW, "taro@example.jp"));
    store.commit_blocking(batch).unwrap();
    assert_eq!(quick.try_recv(), Err(TryRecvError::Empty));
    for _ in 0..8 {
        let mut batch = Batch::new();
        for _ in 0..KEPT / 8 {
            let why = why(NOW, "taro@example.jp");
            batch.put_decision(&why, &FactsRecord::new(why.id, 7));
        }
        store.commit_blocking(batch).unwrap();
    }
    assert_eq!(slow.try_recv(), Err(TryRecvError::Lagged(1)));
    let rest = std::iter::from_fn(|| slow.try_recv().ok()).count();
    assert_eq!(rest as u64, KEPT);
    assert!(quick.try_recv().is_ok());
}

#[test]
fn what_becomes_of_a_held_mail_is_told_in_its_record_unless_that_is_over_too() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let held = |time, expires_at| QuarantineEntry {
        expires_at,
        ..entry(time, "taro@example.jp")
    };
    let record = |entry: &QuarantineEntry| WhyRecord {
        id: entry.id,
        body: serde_json::json!({"effects": [{"id": entry.id, "state": "held", "reply": null}]}),
        ..why(entry.received_at, "taro@example.jp")
    };
    let (short, whole) = (held(NOW, NOW + DAY), held(NOW, NOW + 7 * DAY));
    for entry in [&short, &whole] {
        hold(&store, entry);
        let mut batch = Batch::new();
        batch.put_decision(&record(entry), &FactsRecord::new(entry.id, 100));
        store.commit_blocking(batch).unwrap();
    }
    let state = |id| {
        let why = store.history_get(id).unwrap();
        why.map(|why| why.body["effects"][0]["state"].as_str().unwrap().to_owned())
    };
    store.sweep(NOW, 0).unwrap();
    store.sweep(NOW + DAY, DAY).unwrap();
    assert_eq!(state(short.id).as_deref(), Some("expired"));
    assert_eq!(state(whole.id).as_deref(), Some("held"));
    store.sweep(NOW + 7 * DAY, 7 * DAY).unwrap();
    assert!(list(&store).is_empty());
    assert_eq!((state(short.id), state(whole.id)), (None, None));
}

#[test]
fn a_released_mail_is_told_as_released_when_its_entry_is_gone() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let released = || {
        let entry = QuarantineEntry {
            expires_at: NOW + DAY,
            ..entry(NOW, "taro@example.jp")
        };
        hold(&store, &entry);
        let why = WhyRecord {
            id: entry.id,
            body: serde_json::json!({"effects": [{"id": entry.id, "state": "held", "reply": null}]}),
            ..why(NOW, "taro@example.jp")
        };
        let mut batch = Batch::new();
        batch.put_decision(&why, &FactsRecord::new(entry.id, 100));
        store.commit_blocking(batch).unwrap();
        store.release_begin(entry.id, None).unwrap();
        store.release_end(entry.id, true, Some("250 ok")).unwrap();
        entry.id
    };
    let (deleted, expired) = (released(), released());
    store.quarantine_delete(deleted).unwrap();
    store.sweep(NOW, 0).unwrap();
    assert_eq!(store.sweep(NOW + DAY, DAY).unwrap().quarantine, 1);
    for id in [deleted, expired] {
        let why = store.history_get(id).unwrap().unwrap();
        let effect = &why.body["effects"][0];
        assert_eq!(
            (&effect["state"], &effect["reply"]),
            (&"released".into(), &"250 ok".into())
        );
    }
}

#[test]
fn a_mail_whose_result_cannot_be_recorded_is_not_sent_again_and_others_are_recorded() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for due in [NOW, NOW + 1, NOW + 2] {
        queue(
            &store,
            &item(OutgoingKind::Forward, OutgoingState::Ready, due),
        );
    }
    assert_eq!(store.outgoing_take(NOW + 2, 1).unwrap().len(), 1);
    let taken = store.outgoing_take(NOW + 2, 10).unwrap();
    assert_eq!(taken.len(), 2);
    let states = taken.iter().map(|item| (item.state, item.attempts));
    assert!(states.eq([(OutgoingState::Sending, 1); 2]));
    let (waits, sent) = (&taken[0], &taken[1]);
    let unfit = OutgoingItem {
        state: OutgoingState::Ready,
        recipients: vec!["somebody@c.example".to_owned(); 1000],
        ..waits.clone()
    };
    let ends = [
        (unfit, EffectState::Waiting),
        (sent.clone(), EffectState::Sent),
    ];
    let results = store.outgoing_settle(&ends);
    assert!(matches!(
        results.as_slice(),
        [Err(StoreError::TooLarge(_)), Ok(())]
    ));
    assert_eq!(store.outgoing_get(sent.id).unwrap(), None);
    assert!(store.outgoing_take(NOW + 2, 10).unwrap().is_empty());
    assert_eq!(store.next_due_at().unwrap(), None);
    let kept = store.outgoing_get(waits.id).unwrap().unwrap();
    assert_eq!(kept, *waits);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.outgoing_take(NOW + 2, 10).unwrap().len(), 2);
}

#[test]
fn notices_that_a_crash_caught_on_their_way_are_told_as_in_doubt() {
    let dir = TempDir::new().unwrap();
    let key = HandoffKey::new("taro@example.jp", "", &MailDigest::of(b"a mail"));
    let notice = || OutgoingItem {
        handoff: Some(key),
        ..item(OutgoingKind::Notify, OutgoingState::Ready, NOW)
    };
    let items = [notice(), notice(), notice()];
    let effect = |item: &OutgoingItem| serde_json::json!({"id": item.id, "state": "ready"});
    let why = WhyRecord {
        body: serde_json::json!({"effects": items.each_ref().map(effect)}),
        ..why(NOW, "taro@example.jp")
    };
    {
        let store = open(dir.path());
        items.iter().for_each(|item| queue(&store, item));
        let mut batch = Batch::new();
        batch.put_decision(&why, &FactsRecord::new(why.id, 7));
        let handoff = Handoff {
            answer: Answer {
                id: why.id,
                verdict: "deliver".to_owned(),
                stage: None,
            },
            outgoing: items.iter().map(|item| item.id).collect(),
            quarantine: None,
            created_at: NOW,
        };
        batch.put_handoff(&key, &handoff);
        store.commit_blocking(batch).unwrap();
        for item in &items[..2] {
            store.outgoing_begin(item.id).unwrap();
            store.outgoing_transmit(item.id).unwrap();
        }
    }
    let store = open(dir.path());
    assert_eq!(store.opened().dropped, 2);
    let why = store.history_get(why.id).unwrap().unwrap();
    let effects = why.body["effects"].as_array().unwrap();
    let states: Vec<_> = effects.iter().map(|effect| &effect["state"]).collect();
    assert_eq!(states, ["in_doubt", "in_doubt", "ready"]);
}

#[test]
fn what_a_purge_removes_no_release_brings_back() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for _ in 0..100 {
        let entry = entry(NOW, "taro@example.jp");
        hold(&store, &entry);
        store.release_begin(entry.id, None).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| store.release_end(entry.id, true, None).unwrap());
            scope.spawn(|| store.quarantine_purge(QuarantineFilter::default()).unwrap());
        });
        assert_eq!(store.quarantine_get(entry.id).unwrap(), None);
    }
}

#[test]
fn what_has_expired_no_release_brings_back() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for round in 0..100 {
        let entry = entry(NOW, "taro@example.jp");
        hold(&store, &entry);
        store.release_begin(entry.id, None).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| store.release_end(entry.id, true, None).unwrap());
            scope.spawn(|| store.sweep(entry.expires_at + round, round).unwrap());
        });
        assert_eq!(store.quarantine_get(entry.id).unwrap(), None, "{round}");
    }
}
