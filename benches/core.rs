//! The pure core: parse, fold, address endings, Subject substrings, and a whole decision.
//!
//! `cargo bench --bench core -- suffix` runs one group.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, reason = "a bench is not shipped")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sekimori::mail::fold::{fold, fold_address};
use sekimori::mail::{Address, Bounds, Message, ReversePath};
use sekimori::policy::{
    Arrival, AuthReport, Origin, Pattern, Policy, ScanReport, Screening, SubstringSet, SuffixSet,
};

const SUBJECT: &str = "【重要】お支払い方法の更新について Re: your invoice 2026-07";

fn mail(body_lines: usize) -> Vec<u8> {
    let header = "Received: from mx.example.net by mx.example.jp; Mon, 6 Jul 2026 10:00:00 +0900\r\n\
        From: =?UTF-8?B?5bGx55Sw5aSq6YOO?= <taro.yamada@mail.shop.example>\r\n\
        To: taro@east.example.jp\r\nMessage-ID: <1@mail.shop.example>\r\n\
        Subject: =?ISO-2022-JP?B?GyRCTCQ+NUJ6OS05cBsoQg==?= hello\r\n\
        MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n";
    let line = "The quick brown fox jumps over the lazy dog, and again over the dog.\r\n";
    format!("{header}{}", line.repeat(body_lines)).into_bytes()
}

fn patterns(count: u32, text: impl Fn(u32) -> String) -> Vec<Pattern> {
    let file: Arc<str> = Arc::from("taro.yaml");
    let pattern = |number| Pattern {
        text: text(number),
        origin: Origin {
            file: Arc::clone(&file),
            line: number + 1,
        },
    };
    (0..count).map(pattern).collect()
}

fn endings(count: u32) -> Vec<Pattern> {
    patterns(count, |number| {
        format!("@shop{:x}.example", number.wrapping_mul(0x9e37_79b9))
    })
}

/// Half Latin, half kana and kanji; beginnings as varied as in real lists.
fn words(count: u32) -> Vec<Pattern> {
    let letters: Vec<char> = "あいうえおかきくけこ広告無料当選重要支払更新確認限定特価"
        .chars()
        .collect();
    patterns(count, |number| {
        let mut rest = number.wrapping_mul(0x9e37_79b9);
        if number % 2 == 0 {
            return format!("{:x} offer", rest | 0x1000_0000);
        }
        let mut word = String::new();
        for _ in 0..8 {
            word.push(letters[rest as usize % letters.len()]);
            rest = rest / 7 + number;
        }
        word
    })
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for lines in [10, 700, 14_000] {
        let raw = mail(lines);
        group.throughput(Throughput::Bytes(raw.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(raw.len()), |b| {
            b.iter(|| Message::parse(black_box(&raw), &Bounds::default()));
        });
    }
    group.finish();
    c.bench_function("fold/subject", |b| b.iter(|| fold(black_box(SUBJECT))));
    c.bench_function("fold/address", |b| {
        b.iter(|| fold_address(black_box("Taro.Yamada@xn--wgv71a.Example.JP")));
    });
}

fn suffix(c: &mut Criterion) {
    let address = fold_address("taro.yamada@mail.shop.example");
    for count in [1_000, 100_000, 1_000_000] {
        let set = SuffixSet::build(endings(count));
        c.bench_function(&format!("suffix/find/{count}"), |b| {
            b.iter(|| set.find(black_box(&address)));
        });
    }
    build(c, "suffix", endings, |patterns| {
        drop(SuffixSet::build(patterns))
    });
}

fn substring(c: &mut Criterion) {
    let subject = fold(SUBJECT);
    let hostile = fold(&"特価限定確認 offer".repeat(40_000));
    for count in [1_000, 10_000, 100_000, 1_000_000] {
        let set = SubstringSet::build(words(count));
        c.bench_function(&format!("substring/find/{count}"), |b| {
            b.iter(|| set.find(black_box(&subject)));
        });
        c.bench_function(&format!("substring/hostile/{count}"), |b| {
            b.iter(|| set.find(black_box(&hostile)));
        });
    }
    build(c, "substring", words, |patterns| {
        drop(SubstringSet::build(patterns))
    });
}

fn build(
    c: &mut Criterion,
    name: &str,
    patterns: impl Fn(u32) -> Vec<Pattern>,
    compile: impl Fn(Vec<Pattern>),
) {
    let mut group = c.benchmark_group(format!("{name}/build"));
    group.sample_size(10);
    for count in [1_000, 100_000] {
        let list = patterns(count);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_batched(|| list.clone(), &compile, criterion::BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn decide(c: &mut Criterion) {
    let mut policy = Policy::new(Address::parse("taro@east.example.jp").unwrap());
    policy.from_suffixes = SuffixSet::build(endings(10_000));
    policy.subject_contains = SubstringSet::build(words(10_000));
    let message = Message::parse(&mail(10), &Bounds::default());
    let arrival = Arrival {
        now: 1_800_000_000,
        sender: &ReversePath::Null,
        recipient: &policy.mailbox,
        trusted_client: false,
        auth: &AuthReport::default(),
        looping: false,
    };
    let scan = ScanReport::default();
    c.bench_function("screen + decide", |b| {
        b.iter(|| match policy.screen(black_box(&message), &arrival) {
            Screening::Passed(passed) => policy.decide(&message, &arrival, passed, &scan),
            Screening::Settled(plan) => *plan,
        });
    });
}

criterion_group!(core, parse, suffix, substring, decide);
criterion_main!(core);
