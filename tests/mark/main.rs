//! The spam mark, read by a second parser: the decoded Subject is the mark and the old Subject, every
//! other octet is as before.
//!
//! Over the mails of `tests/corpus/`; `tests/mark/run` takes a whole corpus. Needs Python 3;
//! `tests/run` sees to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

#[path = "../sieve/corpus.rs"]
mod corpus;
mod daemon;
mod exceptions;
#[path = "../blackbox/harness.rs"]
#[allow(dead_code, reason = "not all of the harness is needed here")]
mod harness;
mod second;
#[path = "../blackbox/session.rs"]
#[allow(dead_code, reason = "not all of the harness is needed here")]
mod session;

use std::collections::BTreeMap;

use second::Case;
use sekimori::mail::{Message, edit};

/// Printable ASCII, one encoded word, and more than one.
const MARKS: &[&str] = &[
    "[spam]",
    "[迷惑メール]",
    "【このメールは迷惑メールと判定されました。添付ファイルやリンクを開かないでください】",
];

/// The mail as a delivery with that mark writes it.
fn marked(raw: &[u8], message: &Message, mark: &str) -> Vec<u8> {
    let splice = edit::mark_subject(raw, message, mark);
    [&raw[..splice.at.start], &splice.with, &raw[splice.at.end..]].concat()
}

#[test]
fn the_second_parser_reads_the_mark_and_the_old_subject() {
    let mails = corpus::mails();
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    let mut report = exceptions::Report::new();
    for some in mails.chunks(200) {
        let mut cases = Vec::new();
        for mail in some {
            for mark in MARKS {
                cases.push(Case {
                    name: mail.path.clone(),
                    mark: (*mark).to_owned(),
                    old: mail.raw.clone(),
                    new: marked(&mail.raw, &mail.message, mark),
                });
            }
        }
        for opinion in second::ask(&cases) {
            *states.entry(opinion.subject.clone()).or_default() += 1;
            report.take(&opinion);
        }
    }
    eprintln!("{} mails, {} marks: {states:?}", mails.len(), MARKS.len());
    report.end();
}
