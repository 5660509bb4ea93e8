//! Fills a store with held mail as the daemon does: mail file, quarantine entry, why-record, facts
//! and hand-off, copied from the first mail that the daemon held there itself. Prints one line of
//! JSON.
//!
//! With `--rounds` it then fills and expires so often, and tells what the index takes on the disk
//! against what lives in it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sekimori::store::{
    Answer, Batch, FactsRecord, FileEntry, Handoff, HandoffKey, HistoryFilter, Id, MailDigest,
    MailHeader, QuarantineEntry, QuarantineFilter, Settings, Shelf, Store, WhyRecord,
};
use serde::Serialize;
use serde_json::json;

use crate::Options;

const WEEK: i64 = 7 * 24 * 3_600_000;
/// An index that stays as it is for so long has settled.
const QUIET: Duration = Duration::from_secs(2);
const THREADS: usize = 16;
/// Mails in one commit.
const GROUP: usize = 100;
/// Version and checksum before each value.
const SEAL: usize = 5;

/// One held mail, as the daemon recorded it.
struct Model {
    entry: QuarantineEntry,
    header: MailHeader,
    body: Vec<u8>,
    why: WhyRecord,
    facts: FactsRecord,
}

/// What to write.
struct Order {
    count: usize,
    mailboxes: usize,
    received_at: i64,
    expires_at: i64,
}

pub(crate) fn run(options: &Options) {
    let path = Path::new(options.text("store").unwrap());
    // Seven days of records are kept, so that no sweep here takes away what was just written.
    let store = open(path, WEEK);
    let model = model(&store);
    let order = Order {
        count: options.number("count", 1000),
        mailboxes: options.number("mailboxes", 100),
        received_at: now() - 1000 * options.number::<i64>("age", 3600),
        expires_at: now() + 1000 * options.number::<i64>("expires", 7 * 24 * 3600),
    };
    let began = Instant::now();
    let octets = write(&store, &model, &order);
    let filled = began.elapsed();
    drop(store);
    let rounds: u32 = options.number("rounds", 0);
    let swept = rounds_of(path, &model, &order, rounds);
    println!(
        "{}",
        json!({
            "count": order.count, "seconds": filled.as_secs_f64(), "live_octets": octets,
            "rounds": rounds, "sweep_seconds": swept.as_secs_f64(),
            "index_octets": octets_below(&path.join("index")),
            "store_octets": octets_below(path),
        })
    );
}

/// Fill and expire; what was there before lives on.
fn rounds_of(path: &Path, model: &Model, live: &Order, rounds: u32) -> Duration {
    let mut swept = Duration::ZERO;
    for _ in 0..rounds {
        // A week old: over for the records too. What lives is younger than a day.
        let store = open(path, WEEK / 7);
        let order = Order {
            count: live.count,
            mailboxes: live.mailboxes,
            received_at: now() - WEEK,
            expires_at: now() - 1,
        };
        write(&store, model, &order);
        let began = Instant::now();
        store.sweep(now(), 0).unwrap();
        swept += began.elapsed();
    }
    if rounds > 0 {
        settle(path);
    }
    swept
}

/// What the store does by itself once it is left alone.
fn settle(path: &Path) {
    let _store = open(path, WEEK);
    let index = path.join("index");
    let (mut octets, mut since) = (octets_below(&index), Instant::now());
    while since.elapsed() < QUIET {
        std::thread::sleep(QUIET / 20);
        let now = octets_below(&index);
        if now != octets || index.with_file_name("index.new").exists() {
            (octets, since) = (now, Instant::now());
        }
    }
}

fn open(path: &Path, history_retention_ms: i64) -> Store {
    let settings = Settings {
        path: path.to_owned(),
        quarantine_max_bytes: u64::MAX,
        history_retention_ms,
    };
    Store::open(settings, now()).unwrap()
}

fn model(store: &Store) -> Model {
    let entry = store
        .quarantine_list(QuarantineFilter::default())
        .next()
        .expect("the daemon held no mail here")
        .unwrap();
    let (header, body) = store.read_mail(Shelf::Quarantine, entry.id).unwrap();
    let mut whys = store.history_list(HistoryFilter::default());
    let why = whys
        .find_map(|why| why.ok().filter(|why| why.id == entry.id))
        .unwrap();
    let mut facts = store.facts_list(&why.mailbox, None);
    let facts = facts
        .find_map(|facts| facts.ok().filter(|facts| facts.id == entry.id))
        .unwrap();
    Model {
        entry,
        header,
        body,
        why,
        facts,
    }
}

/// The octets of keys and values that the index now has more.
fn write(store: &Store, model: &Model, order: &Order) -> usize {
    let each = order.count.div_ceil(THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|at| {
                let numbers = at * each..((at + 1) * each).min(order.count);
                scope.spawn(move || {
                    let mut octets = 0;
                    let numbers: Vec<usize> = numbers.collect();
                    for group in numbers.chunks(GROUP) {
                        let mut batch = Batch::new();
                        for number in group {
                            octets += one(store, model, order, *number, &mut batch);
                        }
                        store.commit_blocking(batch).unwrap();
                    }
                    octets
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    })
}

fn one(store: &Store, model: &Model, order: &Order, number: usize, batch: &mut Batch) -> usize {
    // A millisecond for each: ids are made of the time.
    let received_at = order.received_at + i64::try_from(number / 100).unwrap();
    let id = Id::new(received_at);
    let mailbox = format!("user{}@test.example", number % order.mailboxes);
    let digest = MailDigest::of(id.as_str().as_bytes());
    let key = HandoffKey::new(&mailbox, "", &digest);
    let entry = QuarantineEntry {
        id,
        mailbox: mailbox.clone(),
        received_at,
        expires_at: order.expires_at,
        handoff: Some(key),
        ..model.entry.clone()
    };
    let header = MailHeader {
        received_at,
        entries: vec![FileEntry::Quarantine(entry.clone())],
        ..model.header.clone()
    };
    store.write_mail(&header, &[&model.body]).unwrap();
    let mut body = model.why.body.clone();
    body["id"] = id.as_str().into();
    let why = WhyRecord {
        id,
        mailbox,
        received_at,
        body,
    };
    let facts = FactsRecord {
        id,
        ..model.facts.clone()
    };
    let handoff = Handoff {
        answer: Answer {
            id,
            verdict: "quarantine".to_owned(),
            stage: Some(entry.stage.clone()),
        },
        outgoing: Vec::new(),
        quarantine: Some(id),
        created_at: received_at,
    };
    batch
        .put_quarantine(&entry)
        .put_decision(&why, &facts)
        .put_handoff(&key, &handoff);
    store.forget_prepared(&key);
    // Keys: tag and id; tag, mailbox and id; tag and key; times of expiry; the mailbox's list.
    let keys = 27 + 27 + 43 + 33 + (9 + 27) + (9 + 33) + 43;
    let values = [
        octets(&entry),
        octets(&why),
        octets(&facts),
        octets(&handoff),
    ];
    keys + values.iter().sum::<usize>()
}

fn octets<T: Serialize>(record: &T) -> usize {
    serde_json::to_vec(record).unwrap().len() + SEAL
}

fn octets_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => octets_below(&entry.path()),
            _ => entry.metadata().map_or(0, |file| file.len()),
        })
        .sum()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
