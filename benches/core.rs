//! The pure core: the pieces of work whose instructions `benches/counts` counts, in time, and the compile
//! of the lists; a commit of the store beside them.
//!
//! `cargo bench --bench core -- suffix` runs one group.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench is not shipped"
)]

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use sekimori::config::{Config, load_mailbox};
use sekimori::mail::fold::fold;
use sekimori::store::{
    Answer, Batch, Handoff, HandoffKey, Id, MailDigest, Settings, Store, WhyRecord,
};
use sekimori::{mail, policy, smtp};

#[allow(unreachable_pub, reason = "another crate includes it too")]
mod inputs;

use inputs::{lists, pieces::PIECES};
use policy::{Pattern, SubstringSet, SuffixSet};

const TARO: &str = "taro@east.example.jp";
/// 2027-01-15, milliseconds since 1970.
const NOW: i64 = 1_800_000_000_000;

fn pieces(c: &mut Criterion) {
    for piece in PIECES {
        // A filter may leave it out; the large lists are then not made.
        let mut work = None;
        c.bench_function(piece.name, |b| {
            let work = work.get_or_insert_with(piece.prepare);
            b.iter(work);
        });
    }
}

/// A Subject of a megaoctet that holds the beginnings of many entries.
fn hostile(c: &mut Criterion) {
    let subject = fold(&"特別限定無料 当選現金副 ".repeat(28_000));
    for count in [1_000, 100_000] {
        let set = SubstringSet::build(lists::substrings(count));
        c.bench_function(&format!("substring/{count}/hostile-1-MB"), |b| {
            b.iter(|| set.find(black_box(&subject)));
        });
    }
}

fn compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    group.sample_size(10);
    for count in [1_000, 1_000_000] {
        let list: Vec<Pattern> = lists::suffixes(count).collect();
        group.bench_function(BenchmarkId::new("suffixes", count), |b| {
            b.iter_batched(|| list.clone(), SuffixSet::build, BatchSize::PerIteration);
        });
    }
    for count in [200, 100_000] {
        let list: Vec<Pattern> = lists::substrings(count).collect();
        group.bench_function(BenchmarkId::new("substrings", count), |b| {
            b.iter_batched(
                || list.clone(),
                SubstringSet::build,
                BatchSize::PerIteration,
            );
        });
    }
    group.bench_function("mailbox-file/1000000+100000", |b| {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        write_list(&path("senders.txt"), lists::suffixes(1_000_000));
        write_list(&path("subjects.txt"), lists::substrings(100_000));
        let rules =
            "reject: {from_suffixes_file: ../senders.txt, subject_contains_file: ../subjects.txt}";
        fs::create_dir(path("east.example.jp")).unwrap();
        let file = path("east.example.jp/taro.yaml");
        fs::write(&file, format!("version: 1\nmailbox: {TARO}\n{rules}\n")).unwrap();
        let settings = "version: 1\nmailboxes: {dir: .}\n";
        let config = Config::parse(settings, folder.path()).unwrap().config;
        b.iter(|| load_mailbox(&config, &file).unwrap());
    });
    group.finish();
}

/// One entry a line, each once.
fn write_list(path: &Path, list: impl Iterator<Item = Pattern>) {
    let mut seen = HashSet::new();
    let mut text = String::new();
    for pattern in list {
        if pattern.text.chars().count() >= 2 && seen.insert(pattern.text.clone()) {
            text.push_str(&pattern.text);
            text.push('\n');
        }
    }
    fs::write(path, text).unwrap();
}

/// A hand-off with its why-record, durable: alone, and when 16 wait for the same flush.
fn commit(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        path: folder.path().join("state"),
        quarantine_max_bytes: 1 << 30,
        history_retention_ms: 7 * 86_400_000,
    };
    let store = Store::open(settings, NOW).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut group = c.benchmark_group("store/commit");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(3));
    for waiting in [1, 16] {
        group.throughput(criterion::Throughput::Elements(waiting));
        group.bench_function(BenchmarkId::from_parameter(waiting), |b| {
            b.iter(|| {
                let commits: Vec<_> = (0..waiting).map(|_| store.commit(kept())).collect();
                for commit in commits {
                    runtime.block_on(commit).unwrap();
                }
            });
        });
    }
    group.finish();
}

/// What one kept mail leaves in the index.
fn kept() -> Batch {
    let id = Id::new(NOW);
    let mut batch = Batch::new();
    batch.put_handoff(
        &HandoffKey::new(TARO, id.as_str(), &MailDigest::of(b"")),
        &Handoff {
            answer: Answer {
                id,
                verdict: "deliver".to_owned(),
                stage: None,
            },
            outgoing: Vec::new(),
            quarantine: None,
            created_at: NOW,
        },
    );
    batch.put_why(&WhyRecord {
        id,
        mailbox: TARO.to_owned(),
        received_at: NOW,
        body: serde_json::json!({"id": id.as_str(), "verdict": "deliver", "subject": "x".repeat(400)}),
    });
    batch
}

criterion_group!(core, pieces, hostile, compile, commit);
criterion_main!(core);
