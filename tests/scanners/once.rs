//! One scan a mail, and only for whom it is for.

use crate::clamd::Clamd;
use crate::harness::{JIRO, TARO};
use crate::hop::closed_port;
use crate::mails;
use crate::scene::{Plan, SENDER, SpamEngine, clamd, rspamd, with_clamd};

const OFF: &str = "virus: {scan: false}\nspam: {scan: false}\n";

fn many(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("m{number}@east.example.jp"))
        .collect()
}

#[test]
fn twenty_recipients_are_one_scan() {
    let virus = Clamd::start();
    SpamEngine::each(|engine| {
        let scene = Plan::new()
            .virus(&clamd(virus.port, ""))
            .spam(&engine.settings(engine.port(), ""))
            .start();
        let mailboxes = many(20);
        let recipients: Vec<&str> = mailboxes.iter().map(String::as_str).collect();
        let before = (virus.scans(), engine.scans());
        let answers = scene.hand_over(SENDER, &recipients, &mails::ham());
        assert!(answers.iter().all(|answer| answer.verdict() == "deliver"));
        assert_eq!(
            (virus.scans(), engine.scans()),
            (before.0 + 1, before.1 + 1)
        );
    });
}

#[test]
fn an_infected_mail_costs_as_many_scans_for_twenty_as_for_one() {
    let (engine, scene) = with_clamd();
    assert_eq!(
        scene.taro(&mails::infected_deep()).verdict(),
        "replace/virus"
    );
    let for_one = engine.scans();
    let mailboxes = many(20);
    let recipients: Vec<&str> = mailboxes.iter().map(String::as_str).collect();
    let answers = scene.hand_over(SENDER, &recipients, &mails::infected_deep());
    assert!(
        answers
            .iter()
            .all(|answer| answer.verdict() == "replace/virus")
    );
    assert_eq!(engine.scans(), 2 * for_one);
}

/// The other recipient of the same mail waits for the engine and is deferred with it.
#[test]
fn a_mailbox_without_scans_is_not_scanned_and_not_deferred() {
    let scene = Plan::new()
        .virus(&clamd(closed_port(), "on_error: tempfail"))
        .spam(&rspamd(closed_port(), "on_error: tempfail"))
        .mailbox(JIRO, OFF)
        .start();
    let answers = scene.hand_over(SENDER, &[TARO, JIRO], &mails::ham());
    assert!(answers[0].0.starts_with("451 4.3.0 "), "{}", answers[0].0);
    assert_eq!(answers[1].verdict(), "deliver");

    let (engine, scene) = with_clamd();
    let scene = {
        drop(scene);
        Plan::new()
            .virus(&clamd(engine.port, ""))
            .mailbox(JIRO, OFF)
            .start()
    };
    assert_eq!(
        scene.give(SENDER, JIRO, &mails::infected()).verdict(),
        "deliver"
    );
    assert_eq!(engine.scans(), 0);
    let answers = scene.hand_over(SENDER, &[JIRO, TARO], &mails::infected());
    assert_eq!(answers[0].verdict(), "deliver");
    assert_eq!(answers[1].verdict(), "replace/virus");
}

#[test]
fn an_allowed_sender_skips_the_spam_stage_but_not_the_virus_stage() {
    let virus = Clamd::start();
    SpamEngine::each(|engine| {
        let scene = Plan::new()
            .virus(&clamd(virus.port, ""))
            .spam(&engine.settings(engine.port(), ""))
            .mailbox(
                TARO,
                &format!("virus: {{scan: true}}\nspam: {{scan: true, quarantine: true}}\nallow:\n  senders: |\n    {SENDER}\n"),
            )
            .start();
        assert_eq!(scene.taro(&mails::spam()).verdict(), "deliver");
        assert_eq!(engine.scans(), 0);
        assert_eq!(scene.taro(&mails::infected()).verdict(), "replace/virus");
    });
}

/// Who is settled before the scanners needs none.
#[test]
fn a_rejected_mail_is_not_scanned() {
    let (engine, _) = with_clamd();
    let scene = Plan::new()
        .virus(&clamd(engine.port, ""))
        .mailbox(
            TARO,
            "virus: {scan: true}\nreject:\n  subject_contains: |\n    Files\n",
        )
        .start();
    let answer = scene.taro(&mails::infected());
    assert_eq!(answer.verdict(), "quarantine/reject.subject_contains");
    assert_eq!(engine.scans(), 0);
}

#[test]
fn the_retry_of_a_mail_repeats_nothing() {
    let (engine, scene) = with_clamd();
    let raw = mails::infected();
    let first = scene.taro(&raw);
    assert_eq!(first.verdict(), "replace/virus");
    scene.await_mail(TARO);
    let scans = engine.scans();
    let again = scene.taro(&raw);
    assert_eq!(again, first, "the retry has the first try's answer");
    scene.await_empty_queue();
    assert_eq!(scene.mailbox(TARO).len(), 1, "one report");
    assert_eq!(scene.quarantine().len(), 1, "one original");
    assert_eq!(engine.scans(), scans, "nothing is scanned again");
}
