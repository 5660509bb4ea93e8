//! `on_error`: what becomes of mail when the scanner fails. Nothing listens in the engine's place.

use crate::harness::TARO;
use crate::hop::{closed_port, field};
use crate::mails;
use crate::scene::{Plan, Scene, clamd, rspamd, spamd};
use crate::virus::held;

type Make = fn(u16, &str) -> String;

/// `scanners.virus` or `scanners.spam`, its stage, its header field.
const ENGINES: &[(&str, Make, &str, &str)] = &[
    ("clamd", clamd, "virus", "X-Virus-Status"),
    ("rspamd", rspamd, "spam", "X-Spam-Status"),
    ("spamd", spamd, "spam", "X-Spam-Status"),
];

fn each(on_error: &str, test: impl Fn(Scene, &'static str, &'static str)) {
    for (name, make, stage, header) in ENGINES {
        eprintln!("{name}");
        let settings = make(closed_port(), &format!("on_error: {on_error}"));
        let plan = match *stage {
            "virus" => Plan::new().virus(&settings),
            _ => Plan::new().spam(&settings),
        };
        test(plan.start(), stage, header);
    }
}

#[test]
fn tempfail_leaves_the_mail_with_the_mta() {
    each("tempfail", |scene, _, _| {
        let ham = mails::ham();
        let answer = scene.taro(&ham);
        assert!(answer.0.starts_with("451 4.3.0 "), "{}", answer.0);
        assert!(scene.mailbox(TARO).is_empty());
        assert!(scene.quarantine().is_empty());
        let log = scene.log();
        assert!(
            log.contains("127.0.0.1:"),
            "the log names the engine: {log}"
        );
        let told = log.lines().find(|line| line.contains("was not scanned"));
        let id = field(&ham, "Message-ID").unwrap();
        assert!(told.unwrap().contains(&id), "and the mail: {log}");
    });
}

#[test]
fn deliver_says_so_in_the_mail_and_in_the_record() {
    each("deliver", |scene, _, header| {
        let raw = mails::ham();
        let answer = scene.taro(&raw);
        assert_eq!(answer.verdict(), "deliver");
        let stored = scene.await_mail(TARO);
        assert_eq!(
            field(&stored, header).as_deref(),
            Some("Not scanned (scanner error)")
        );
        let lf = String::from_utf8(raw).unwrap().replace("\r\n", "\n");
        assert!(stored.ends_with(lf.as_bytes()));
        let why = scene.why(&answer);
        assert!(why["scan"].to_string().contains("error"), "{why}");
    });
}

#[test]
fn quarantine_holds_in_the_scanners_stage_and_class() {
    each("quarantine", |scene, stage, _| {
        let answer = scene.taro(&mails::ham());
        assert_eq!(answer.verdict(), format!("quarantine/{stage}"));
        let entry = held(&scene, TARO);
        assert_eq!(entry["class"], stage, "{entry}");
        assert_eq!(entry["stage"], stage, "{entry}");
        assert_eq!(entry["entry"], "scanner-error", "{entry}");
        let why = scene.why(&answer);
        assert_eq!(why["verdict"], "quarantine", "{why}");
        assert_eq!(why["entry"], "scanner-error", "{why}");
        assert!(why["scan"].to_string().contains("error"), "{why}");
        assert!(scene.mailbox(TARO).is_empty());
    });
}

#[test]
fn a_notice_does_not_call_spam_what_no_scanner_has_seen() {
    let scene = Plan::new()
        .spam(&rspamd(closed_port(), "on_error: quarantine"))
        .mailbox(
            TARO,
            "language: en\nspam: {scan: true, quarantine: true, notice: each}\n",
        )
        .start();
    assert_eq!(scene.taro(&mails::ham()).verdict(), "quarantine/spam");
    let notice = String::from_utf8(scene.await_mail(TARO)).unwrap();
    assert!(
        notice.contains("Reason: could not be checked for spam\n"),
        "{notice}"
    );
}
