//! Engines that are killed, stopped, dead, and come back.

use crate::clamd::Clamd;
use crate::harness::TARO;
use crate::mails;
use crate::rspamd::Rspamd;
use crate::scene::{Between, Manner, Plan, Scene, clamd, rspamd, spamd};
use crate::spamd::Spamd;

/// Mails for a dead engine.
const MAILS: usize = 16;

/// Hands the mail over to an engine that is stopped, and kills the engine when it has the mail.
fn hand_over_and_kill(scene: &Scene, between: &Between, raw: &[u8], kill: impl FnOnce()) {
    std::thread::scope(|scope| {
        let handed = scope.spawn(|| scene.taro(raw));
        between.await_octets(raw.len());
        kill();
        let answer = handed.join().unwrap();
        assert!(answer.0.starts_with("451 4.3.0 "), "{}", answer.0);
    });
    assert!(scene.mailbox(TARO).is_empty());
    assert!(scene.quarantine().is_empty());
}

#[test]
fn clamd_is_killed_with_a_mail_in_hand() {
    let mut engine = Clamd::start();
    let between = Between::start(Manner::Through(engine.port));
    let scene = Plan::new().virus(&clamd(between.port, "")).start();
    let raw = mails::infected();
    engine.engine.stop();
    hand_over_and_kill(&scene, &between, &raw, || engine.engine.kill());
    let _engine = engine.start_again();
    scene.await_verdict(&raw, "replace/virus");
}

#[test]
fn rspamd_is_killed_with_a_mail_in_hand() {
    let mut engine = Rspamd::start();
    let between = Between::start(Manner::Through(engine.port));
    let scene = Plan::new()
        .spam(&rspamd(between.port, "on_error: tempfail"))
        .start();
    let raw = mails::spam();
    engine.engine.stop();
    hand_over_and_kill(&scene, &between, &raw, || engine.engine.kill());
    let _engine = engine.start_again();
    scene.await_verdict(&raw, "quarantine/spam");
}

#[test]
fn spamd_is_killed_with_a_mail_in_hand() {
    let mut engine = Spamd::start();
    let between = Between::start(Manner::Through(engine.port));
    let scene = Plan::new()
        .spam(&spamd(between.port, "on_error: tempfail"))
        .start();
    let raw = mails::spam();
    engine.engine.stop();
    hand_over_and_kill(&scene, &between, &raw, || engine.engine.kill());
    let _engine = engine.start_again();
    scene.await_verdict(&raw, "quarantine/spam");
}

#[test]
fn a_slow_engine_costs_its_timeout_and_all_is_well_when_it_goes_on() {
    let clamd = Clamd::start();
    let virus = format!(
        "engine: clamd\naddress: 127.0.0.1:{}\ntimeout: 3s",
        clamd.port
    );
    let scene = Plan::new().virus(&virus).start();
    slow(
        &scene,
        &mails::infected(),
        "replace/virus",
        || clamd.engine.stop(),
        || clamd.engine.go_on(),
    );

    let rspamd = Rspamd::start();
    let spam = format!(
        "engine: rspamd\naddress: {}\ntimeout: 3s\non_error: tempfail",
        rspamd.address()
    );
    let scene = Plan::new().spam(&spam).start();
    slow(
        &scene,
        &mails::spam(),
        "quarantine/spam",
        || rspamd.engine.stop(),
        || rspamd.engine.go_on(),
    );

    let spamd = Spamd::start();
    let spam = format!(
        "engine: spamd\naddress: {}\ntimeout: 6s\non_error: tempfail",
        spamd.address()
    );
    let scene = Plan::new().spam(&spam).start();
    slow(
        &scene,
        &mails::spam(),
        "quarantine/spam",
        || spamd.engine.stop(),
        || spamd.engine.go_on(),
    );
}

fn slow(scene: &Scene, raw: &[u8], verdict: &str, stop: impl FnOnce(), go_on: impl FnOnce()) {
    stop();
    let answer = scene.taro(raw);
    assert!(answer.0.starts_with("451 4.3.0 "), "{}", answer.0);
    go_on();
    scene.await_verdict(raw, verdict);
    assert_eq!(scene.quarantine().len(), 1, "the original alone");
}

#[test]
fn a_dead_engine_does_not_cost_its_timeout_on_every_mail() {
    let engine = Clamd::start();
    let between = Between::start(Manner::Silent);
    let virus = format!(
        "engine: clamd\naddress: 127.0.0.1:{}\ntimeout: 3s",
        between.port
    );
    let scene = Plan::new().virus(&virus).start();
    for _ in 0..MAILS {
        let answer = scene.taro(&mails::ham());
        assert!(answer.0.starts_with("451 4.3.0 "), "{}", answer.0);
    }
    let tried = between.connections();
    assert!(
        (1..=MAILS / 2).contains(&tried),
        "{tried} of {MAILS} mails waited for a dead engine"
    );
    let status = scene.one(&["status"]).to_string();
    assert!(status.contains("\"resting\""), "{status}");
    between.change(Manner::Through(engine.port));
    scene.await_verdict(&mails::infected(), "replace/virus");
}

/// One engine's trouble is not the other's.
#[test]
fn a_dead_spam_scanner_leaves_the_virus_scanner_alone() {
    let engine = Clamd::start();
    let between = Between::start(Manner::Silent);
    let spam = format!(
        "engine: rspamd\naddress: http://127.0.0.1:{}\ntimeout: 1s\non_error: deliver",
        between.port
    );
    let scene = Plan::new()
        .virus(&clamd(engine.port, ""))
        .spam(&spam)
        .start();
    for _ in 0..6 {
        assert_eq!(scene.taro(&mails::ham()).verdict(), "deliver");
    }
    assert_eq!(scene.taro(&mails::infected()).verdict(), "replace/virus");
}
