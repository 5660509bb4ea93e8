//! The same through the real daemon: what comes to lie in the Maildir.

use std::collections::BTreeMap;

use crate::corpus::{self, Mail};
use crate::exceptions::Report;
use crate::harness::Site;
use crate::second::{self, Case};

/// Spam, as the MTA before us says. The words behind tell this field from any of ours.
const FLAG: &[u8] = b"X-Spam-Flag: YES (said before the hand-off)\r\n";
const MARK: &str = "[迷惑メール]";
/// Mails of each kind of Subject.
const OF_EACH: usize = 10;
/// Below the daemon's `limits.message_size`.
const LARGEST: usize = 512 << 10;

#[test]
fn the_local_copy_is_marked_and_nothing_else_of_it_changes() {
    let settings = format!(
        "  unknown: accept\n  defaults:\n    spam: {{scan: true, quarantine: false, notice: off, mark_subject: \"{MARK}\"}}\n"
    );
    let daemon = Site::new().with("  unknown: accept\n", &settings).start();
    let mails = corpus::mails();
    let mut cases = Vec::new();
    for (number, mail) in chosen(&mails).into_iter().enumerate() {
        let mailbox = format!("box{number}@east.example.jp");
        let old = [FLAG, &mail.raw].concat();
        let answer = daemon.give("a@sender.example", &mailbox, &old);
        assert_eq!(answer.verdict(), "deliver", "{}", mail.path);
        cases.push(Case {
            name: mail.path.clone(),
            mark: MARK.to_owned(),
            old: lf(&old),
            new: behind_ours(&daemon.await_mail(&mailbox)),
        });
    }
    let mut report = Report::new();
    assert!(cases.len() >= 40, "{} mails", cases.len());
    let opinions = second::ask(&cases);
    opinions.iter().for_each(|opinion| report.take(opinion));
    report.end();
}

/// Some mails of each kind of Subject, spread over the corpus. Only such as a hand-off and a Maildir leave as they are.
fn chosen(mails: &[Mail]) -> Vec<&Mail> {
    let mut kinds: BTreeMap<&str, Vec<&Mail>> = BTreeMap::new();
    for mail in mails.iter().filter(|mail| is_left_as_it_is(mail)) {
        kinds.entry(kind(mail)).or_default().push(mail);
    }
    assert_eq!(kinds.len(), 6, "{:?}", kinds.keys());
    let of_each = kinds.into_values().map(|of_kind| {
        let step = of_kind.len().div_ceil(OF_EACH);
        of_kind.into_iter().step_by(step)
    });
    of_each.flatten().collect()
}

fn kind(mail: &Mail) -> &'static str {
    let Some(field) = mail.message.header.first("Subject") else {
        return "missing";
    };
    let text = field.value.trim_ascii();
    if text.is_empty() {
        "empty"
    } else if !text.is_ascii() {
        "raw 8-bit"
    } else if text.contains(&b'\n') {
        "folded"
    } else if text.starts_with(b"=?") {
        "encoded"
    } else {
        "plain"
    }
}

fn is_left_as_it_is(mail: &Mail) -> bool {
    let raw = &mail.raw;
    let breaks = |octet: u8| raw.iter().filter(|found| **found == octet).count();
    let first = mail.message.header.fields().first();
    raw.len() <= LARGEST
        && raw.ends_with(b"\r\n")
        && breaks(b'\r') == breaks(b'\n')
        && mail.message.header.first("Return-Path").is_none()
        && first.is_some_and(|field| field.span.start == 0)
}

/// Without the header lines that the delivery puts before the mail.
fn behind_ours(stored: &[u8]) -> Vec<u8> {
    let flag = lf(FLAG);
    let at = stored
        .windows(flag.len())
        .position(|window| window == flag)
        .unwrap();
    stored[at..].to_vec()
}

fn lf(mail: &[u8]) -> Vec<u8> {
    mail.iter()
        .copied()
        .filter(|octet| *octet != b'\r')
        .collect()
}
