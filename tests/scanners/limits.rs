//! Mail that is too large: for our own limit, and for the engine's.

use crate::clamd::Clamd;
use crate::clamd::STREAM_MAX;
use crate::harness::{JIRO, TARO};
use crate::hop::field;
use crate::mails::{self, file_part, mixed, multipart, text_part};
use crate::scene::{Plan, SENDER, SpamEngine, clamd, with_clamd};

/// An infected mail of more than that many octets.
fn large(octets: usize) -> Vec<u8> {
    mixed(&[
        text_part(&"All work and no play makes Jack a dull boy.\n".repeat(octets / 44 + 1)),
        file_part("report.com", &mails::eicar()),
    ])
}

#[test]
fn mail_above_max_size_is_not_scanned_and_says_so() {
    let engine = Clamd::start();
    let scene = Plan::new()
        .virus(&clamd(engine.port, "max_size: 100KiB"))
        .start();
    let answer = scene.taro(&large(100 << 10));
    assert_eq!(answer.verdict(), "deliver");
    assert_eq!(engine.scans(), 0);
    let stored = scene.await_mail(TARO);
    assert_eq!(
        field(&stored, "X-Virus-Status").as_deref(),
        Some("Not scanned (larger than max_size)")
    );
    assert_eq!(
        scene.give(SENDER, JIRO, &large(50 << 10)).verdict(),
        "replace/virus"
    );
}

#[test]
fn the_same_for_spam() {
    SpamEngine::each(|engine| {
        let scene = Plan::new()
            .spam(&engine.settings(engine.port(), "max_size: 20KiB"))
            .start();
        let body = format!("{}{}", "Lorem ipsum dolor.\n".repeat(1200), mails::gtube());
        let answer = scene.taro(&mails::text("large", &body));
        assert_eq!(answer.verdict(), "deliver");
        let stored = scene.await_mail(TARO);
        assert_eq!(
            field(&stored, "X-Spam-Status").as_deref(),
            Some("Not scanned (larger than max_size)")
        );
        assert_eq!(field(&stored, "X-Spam-Flag"), None);
        assert_eq!(engine.scans(), 0);
    });
}

/// It is the mail's fault, not the engine's: the next one is scanned, however many there were.
#[test]
fn mail_above_the_engines_own_limit_is_a_scanner_error() {
    let (engine, scene) = with_clamd();
    let raw = large(STREAM_MAX);
    for _ in 0..12 {
        let answer = scene.taro(&raw);
        assert!(answer.0.starts_with("451 4.3.0"), "{}", answer.0);
    }
    assert_eq!(scene.taro(&mails::infected()).verdict(), "replace/virus");
    assert!(engine.engine.log().contains("Size limit reached"));

    let scene = Plan::new()
        .virus(&clamd(engine.port, "on_error: deliver"))
        .start();
    assert_eq!(scene.taro(&raw).verdict(), "deliver");
    let stored = scene.await_mail(TARO);
    assert_eq!(
        field(&stored, "X-Virus-Status").as_deref(),
        Some("Not scanned (scanner error)")
    );
}

/// Without `AlertExceedsMax yes` clamd calls clean what it did not look into.
#[test]
fn a_virus_deeper_than_clamd_looks_is_found_part_by_part() {
    let deep = |mail: u32| {
        let nested = (0..30).fold(file_part("a.com", &mails::eicar()), |within, level| {
            multipart(&format!("m{mail}b{level}"), &[text_part("clean"), within])
        });
        mixed(&[nested])
    };
    for more in ["", "AlertExceedsMax yes\n"] {
        let engine = Clamd::start_with(more);
        let scene = Plan::new().virus(&clamd(engine.port, "")).start();
        assert_eq!(scene.taro(&deep(1)).verdict(), "replace/virus", "{more:?}");
    }
}
