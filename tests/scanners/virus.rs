//! What clamd finds, and what the owner gets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::clamd::Clamd;
use crate::harness::{TARO, crlf, eventually};
use crate::hop::field;
use crate::mails::{self, file_part, forwarded, mixed, multipart, part, text_part};
use crate::scene::{Plan, SENDER, Scene, with_clamd};
use crate::zip;

/// What remains of an infected mail.
enum Remains {
    /// Attached as a mail that holds these texts.
    These(&'static [&'static str]),
    /// The header alone.
    Header,
}

/// The only mail in the mailbox: the report.
fn report(scene: &Scene, mailbox: &str) -> String {
    let mails = eventually(&format!("the report for {mailbox}"), || {
        Some(scene.mailbox(mailbox)).filter(|mails| !mails.is_empty())
    });
    assert_eq!(mails.len(), 1, "one report in {mailbox}");
    let report = &mails[0];
    let submitted = field(report, "Auto-Submitted").unwrap_or_default();
    assert!(submitted.starts_with("auto-generated"), "{submitted}");
    String::from_utf8(report.clone()).unwrap()
}

/// The only held entry of a mailbox.
pub(crate) fn held(scene: &Scene, mailbox: &str) -> Value {
    let mut entries = scene.json(&["quarantine", "list", "--mailbox", mailbox]);
    assert_eq!(entries.len(), 1, "{mailbox}: {entries:?}");
    entries.remove(0)
}

/// The text as it is, or as it stands in a base64 body.
fn has(report: &str, text: &str) -> bool {
    report.contains(text) || report.contains(STANDARD.encode(text).trim_end_matches('='))
}

/// One mail for a mailbox of its own: verdict, report, held original.
fn check(clamd: &Clamd, scene: &Scene, row: usize, name: &str, raw: &[u8], remains: &Remains) {
    eprintln!("{name}");
    let mailbox = format!("row{row}@east.example.jp");
    let answer = scene.give(SENDER, &mailbox, raw);
    assert_eq!(answer.verdict(), "replace/virus", "{name}: {}", answer.0);
    let report = report(scene, &mailbox);
    assert_eq!(clamd.finds(report.as_bytes()), None, "{name}: {report}");
    let rest = report.contains("\nContent-Type: message/rfc822");
    match remains {
        Remains::These(texts) => {
            assert!(rest, "{name}: {report}");
            for text in *texts {
                assert!(has(&report, text), "{name}: no {text:?} in {report}");
            }
        }
        Remains::Header => assert!(
            !rest && report.contains("\nContent-Type: text/rfc822-headers"),
            "{name}: {report}"
        ),
    }
    assert!(
        has(&report, "From: Alice <alice@partner.example>"),
        "{name}: {report}"
    );
    let entry = held(scene, &mailbox);
    assert_eq!(entry["class"], "virus", "{entry}");
    assert_eq!(entry["stage"], "virus", "{entry}");
    let id = entry["id"].as_str().unwrap();
    let stored = scene.cli(&["quarantine", "export", id]).success().stdout;
    assert!(stored == raw, "{name}: the original is held as it came");
    let why = scene.why(&answer);
    assert_eq!(why["verdict"], "replace", "{why}");
    assert!(why["scan"].to_string().contains(".UNOFFICIAL"), "{why}");
}

#[test]
fn clean_mail_is_delivered_and_says_who_looked() {
    let (clamd, scene) = with_clamd();
    let raw = mails::ham();
    let answer = scene.taro(&raw);
    assert_eq!(answer.verdict(), "deliver");
    let stored = scene.await_mail(TARO);
    assert_eq!(field(&stored, "X-Virus-Status").as_deref(), Some("Clean"));
    let scanned = field(&stored, "X-Virus-Scanned").unwrap();
    assert!(scanned.starts_with("clamd (ClamAV 1."), "{scanned}");
    let lf = String::from_utf8(raw).unwrap().replace("\r\n", "\n");
    assert!(
        stored.ends_with(lf.as_bytes()),
        "byte for byte behind our header lines"
    );
    assert_eq!(clamd.scans(), 1);
    let why = scene.why(&answer).to_string();
    assert!(
        why.contains("ClamAV 1."),
        "the version is in the record: {why}"
    );
    assert!(scene.quarantine().is_empty());
}

#[test]
fn the_same_over_a_unix_socket() {
    let clamd = Clamd::start();
    let settings = format!(
        "engine: clamd\naddress: {}\ntimeout: 20s",
        clamd.socket().display()
    );
    let scene = Plan::new().virus(&settings).start();
    assert_eq!(scene.taro(&mails::ham()).verdict(), "deliver");
    assert_eq!(scene.taro(&mails::infected()).verdict(), "replace/virus");
    let log = clamd.engine.log();
    assert!(log.contains("instream(local)"), "{log}");
}

#[test]
fn infected_parts_go_and_the_rest_is_reported() {
    let (clamd, scene) = with_clamd();
    let ours = str::from_utf8(mails::OURS).unwrap();
    let eicar = mails::eicar();
    let archive = zip::stored("a.com", &eicar);
    let notes = || file_part("notes.txt", b"nothing special");
    let twice = zip::stored("b.zip", &archive);
    let rows: Vec<(&str, Vec<u8>, Remains)> = vec![
        (
            "attached file",
            mails::infected(),
            Remains::These(&["The report is attached."]),
        ),
        (
            "zip in a forwarded mail in a multipart",
            mails::infected_deep(),
            Remains::These(&["See what Carol sends.", "nothing special in here"]),
        ),
        (
            "zip in a zip",
            mixed(&[text_part("two boxes"), file_part("c.zip", &twice), notes()]),
            Remains::These(&["two boxes", "nothing special"]),
        ),
        (
            "text body beside a clean file",
            mixed(&[text_part(&format!("look: {ours} !")), notes()]),
            Remains::These(&["nothing special"]),
        ),
        (
            "several infected, several not",
            mixed(&[
                text_part("first text"),
                file_part("a.com", &eicar),
                notes(),
                file_part("b.com", mails::OURS),
                multipart(
                    "within",
                    &[text_part("second text"), file_part("c.zip", &archive)],
                ),
            ]),
            Remains::These(&["first text", "nothing special", "second text"]),
        ),
        (
            "infected text in a forwarded mail",
            mixed(&[
                text_part("outside"),
                forwarded(&[text_part(ours), text_part("inside")]),
            ]),
            Remains::These(&["outside"]),
        ),
        (
            "nothing but a text",
            mails::text("x", &format!("look: {ours} !")),
            Remains::Header,
        ),
        (
            "nothing but a file",
            crlf(&format!(
                "{}{}\n",
                mails::head("x"),
                file_part("a.com", &eicar)
            )),
            Remains::Header,
        ),
        (
            "quoted-printable text alone",
            crlf(&format!(
                "{}{}\n",
                mails::head("x"),
                part(
                    "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable",
                    &ours.replace('-', "=2D")
                )
            )),
            Remains::Header,
        ),
    ];
    for (row, (name, raw, remains)) in rows.iter().enumerate() {
        check(&clamd, &scene, row, name, raw, remains);
    }
}

/// A scanner that goes by the first octets would take some of these for something else than a mail.
#[test]
fn a_mail_that_begins_oddly_is_looked_into() {
    let (clamd, scene) = with_clamd();
    let mut missed_alone = Vec::new();
    for (row, first) in [
        "Zz-Odd: 1",
        "GIF89a: 1",
        "%PDF-1.4: 1",
        "MZ: 1",
        "#!/bin/sh: 1",
        "<html>: 1",
        "Rar!: 1",
        "BZh9: 1",
        "{\\rtf1: 1",
        "PK\u{3}\u{4}: 1",
        "\u{7f}ELF: 1",
        "From alice Sun Nov 22 09:00:00 2026",
        " white space",
        "no field at all",
    ]
    .iter()
    .enumerate()
    {
        let raw = [format!("{first}\r\n").as_bytes(), &mails::infected()].concat();
        if clamd.finds(&raw).is_none() {
            missed_alone.push(*first);
        }
        let mailbox = format!("odd{row}@east.example.jp");
        let answer = scene.give(SENDER, &mailbox, &raw);
        assert_eq!(answer.verdict(), "replace/virus", "{first:?}: {}", answer.0);
        let report = report(&scene, &mailbox);
        assert_eq!(clamd.finds(report.as_bytes()), None, "{first:?}");
    }
    eprintln!("clamd alone misses behind: {missed_alone:?}");
}

/// What a mail says of itself counts for nothing where an engine is asked.
#[test]
fn forged_verdicts_count_for_nothing() {
    let (_clamd, scene) = with_clamd();
    let forged = |value: &str, raw: Vec<u8>| {
        let field = format!("X-Virus-Status: {value}\r\nX-Virus-Scanned: clamd\r\n");
        [field.as_bytes(), &raw].concat()
    };
    let infected = forged("Clean", mails::infected());
    assert_eq!(scene.taro(&infected).verdict(), "replace/virus");
    let mailbox = "forged@east.example.jp";
    let clean = forged("Infected (Eicar)", mails::ham());
    assert_eq!(scene.give(SENDER, mailbox, &clean).verdict(), "deliver");
    let stored = scene.await_mail(mailbox);
    assert_eq!(
        field(&stored, "X-Virus-Status").as_deref(),
        Some("Clean"),
        "ours stands first"
    );
}

#[test]
fn smtp_has_one_reply() {
    let (clamd, scene) = with_clamd();
    let answer = scene
        .smtp()
        .submit(SENDER, &[TARO, "jiro@east.example.jp"], &mails::infected());
    assert_eq!(answer.verdict(), "replace/virus");
    for mailbox in [TARO, "jiro@east.example.jp"] {
        let report = report(&scene, mailbox);
        assert_eq!(clamd.finds(report.as_bytes()), None);
    }
    assert_eq!(scene.quarantine().len(), 2);
}
