//! What rspamd and spamd say, and what the owner's settings make of it.

use crate::harness::{JIRO, TARO};
use crate::hop::field;
use crate::mails;
use crate::scene::{Plan, SENDER, SpamEngine};
use crate::virus::held;

const SABURO: &str = "saburo@east.example.jp";
const HOME: &str = "home@else.example";

#[test]
fn spam_is_held_and_ham_passes() {
    SpamEngine::each(|engine| {
        let scene = Plan::new()
            .spam(&engine.settings(engine.port(), ""))
            .start();
        let ham = mails::ham();
        let answer = scene.taro(&ham);
        assert_eq!(answer.verdict(), "deliver");
        let stored = scene.await_mail(TARO);
        let value = |name| field(&stored, name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(value("X-Spam-Flag"), "NO");
        let score: f64 = value("X-Spam-Score").parse().unwrap();
        assert!(score < 5.0, "{score}");
        let status = value("X-Spam-Status");
        assert!(status.starts_with("No, score="), "{status}");
        let engine_named = format!(" engine={} ", engine.name());
        assert!(status.contains(&engine_named), "{status}");
        let lf = String::from_utf8(ham).unwrap().replace("\r\n", "\n");
        assert!(stored.ends_with(lf.as_bytes()));

        let answer = scene.give(SENDER, JIRO, &mails::spam());
        assert_eq!(answer.verdict(), "quarantine/spam");
        let entry = held(&scene, JIRO);
        assert_eq!(entry["class"], "spam", "{entry}");
        let why = scene.why(&answer);
        assert!(why["scan"].to_string().contains("GTUBE"), "{why}");
        assert!(scene.mailbox(JIRO).is_empty());
    });
}

#[test]
fn marked_spam_tells_score_and_symbols_on_every_copy() {
    SpamEngine::each(|engine| {
        let scene = Plan::new()
            .spam(&engine.settings(engine.port(), ""))
            .mailbox(
                TARO,
                &format!(
                    "spam: {{scan: true, quarantine: false, mark_subject: \"[迷惑]\"}}\n\
                     forwarding:\n  mode: all\n  all: {{to: [{HOME}], keep_copy: true}}\n"
                ),
            )
            .start();
        let raw = mails::seven_points();
        assert_eq!(scene.taro(&raw).verdict(), "deliver");
        let stored = scene.await_mail(TARO);
        let sent = scene.relay.await_mail(HOME);
        for mail in [&stored, &sent.data] {
            let value = |name| field(mail, name).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(value("X-Spam-Flag"), "YES");
            assert_eq!(value("X-Spam-Score"), mails::SEVEN_POINTS);
            let status = value("X-Spam-Status");
            // rspamd would reject from 15 points on: its action is why 7 are spam.
            let by = match engine.name() {
                "rspamd" => "action=\"add header\"",
                _ => "required=5.0",
            };
            let begin = format!("Yes, score={} {by} ", mails::SEVEN_POINTS);
            assert!(status.starts_with(&begin), "{status}");
            assert!(status.contains("TEST_SEVEN"), "{status}");
        }
        let marked = field(&stored, "Subject").unwrap();
        assert!(marked.ends_with(" Minutes of Thursday"), "{marked}");
        assert!(marked.starts_with("=?UTF-8?"), "{marked}");
        assert_eq!(sent.field("Subject").unwrap(), "Minutes of Thursday");
        assert!(sent.data.ends_with(&raw), "the forward is what came in");
    });
}

/// 7.2 points: `spam.score` of the mailbox decides where it is set, else the engine's own word.
#[test]
fn each_mailbox_has_its_own_threshold() {
    SpamEngine::each(|engine| {
        let scene = Plan::new()
            .spam(&engine.settings(engine.port(), ""))
            .mailbox(TARO, "spam: {scan: true, quarantine: true, score: 7.2}\n")
            .mailbox(JIRO, "spam: {scan: true, quarantine: true, score: 7.3}\n")
            .start();
        let raw = mails::seven_points();
        let answers = scene.hand_over(SENDER, &[TARO, JIRO, SABURO], &raw);
        let verdicts: Vec<String> = answers.iter().map(|answer| answer.verdict()).collect();
        assert_eq!(
            verdicts,
            ["quarantine/spam", "deliver", "quarantine/spam"],
            "{}",
            engine.name()
        );
        assert_eq!(engine.scans(), 1);
        let kept = scene.await_mail(JIRO);
        assert_eq!(field(&kept, "X-Spam-Flag").as_deref(), Some("NO"));
        let status = field(&kept, "X-Spam-Status").unwrap();
        assert!(
            status.starts_with("No, score=7.2 required=7.3 "),
            "{status}"
        );
        let why = scene.why(&answers[1]);
        assert_eq!(why["scan"]["spam_threshold"], 7.3, "{why}");
    });
}

/// What a mail says of itself counts for nothing where an engine is asked.
#[test]
fn forged_verdicts_count_for_nothing() {
    SpamEngine::each(|engine| {
        let scene = Plan::new()
            .spam(&engine.settings(engine.port(), ""))
            .start();
        let forged = |flag: &str, raw: Vec<u8>| {
            [format!("X-Spam-Flag: {flag}\r\n").as_bytes(), &raw].concat()
        };
        let spam = forged("NO", mails::spam());
        assert_eq!(scene.taro(&spam).verdict(), "quarantine/spam");
        let ham = forged("YES", mails::ham());
        assert_eq!(scene.give(SENDER, JIRO, &ham).verdict(), "deliver");
        let stored = scene.await_mail(JIRO);
        assert_eq!(field(&stored, "X-Spam-Flag").as_deref(), Some("NO"));
    });
}
