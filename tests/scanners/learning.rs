//! A release that lets the engine learn.

use crate::harness::{TARO, eventually};
use crate::mails;
use crate::rspamd::Rspamd;
use crate::scene::{Plan, rspamd, spamd};
use crate::spamd::Spamd;
use crate::virus::held;

#[test]
fn rspamd_learns_ham_by_a_release_that_asks_for_it() {
    let engine = Rspamd::start();
    let learn = format!(
        "learn: {{address: \"http://127.0.0.1:{}\", password_file: controller.password}}",
        engine.controller
    );
    let scene = Plan::new().spam(&rspamd(engine.port, &learn)).start();
    for (arguments, learned) in [([].as_slice(), 0), (["--learn"].as_slice(), 1)] {
        assert_eq!(
            scene.taro(&mails::seven_points()).verdict(),
            "quarantine/spam"
        );
        let entry = eventually("one held", || {
            let entries = scene.json(&["quarantine", "list", "--mailbox", TARO]);
            entries.into_iter().find(|entry| entry["state"] == "held")
        });
        let id = entry["id"].as_str().unwrap();
        scene
            .cli(&[&["quarantine", "release", id], arguments].concat())
            .success();
        scene.await_empty_queue();
        eventually("what it learned", || {
            (engine.count("total_learns") == learned).then_some(())
        });
    }
    assert_eq!(scene.mailbox(TARO).len(), 2);
}

#[test]
fn spamd_learns_ham_by_a_release_that_asks_for_it() {
    let engine = Spamd::start();
    let learn = format!(
        "learn: {{address: \"{}\", password_file: \"\"}}",
        engine.address()
    );
    let scene = Plan::new().spam(&spamd(engine.port, &learn)).start();
    assert_eq!(
        scene.taro(&mails::seven_points()).verdict(),
        "quarantine/spam"
    );
    let entry = held(&scene, TARO);
    let id = entry["id"].as_str().unwrap();
    scene
        .cli(&["quarantine", "release", id, "--learn"])
        .success();
    scene.await_empty_queue();
    eventually("what it learned", || (engine.learned() == 1).then_some(()));
    assert!(engine.has_learned_words());
    assert_eq!(scene.mailbox(TARO).len(), 1);
}

/// Learning that fails keeps no mail back, and can be asked for again.
#[test]
fn a_release_goes_on_when_the_engine_cannot_learn() {
    let mut engine = Rspamd::start();
    let learn = format!(
        "learn: {{address: \"http://127.0.0.1:{}\", password_file: controller.password}}",
        engine.controller
    );
    let scene = Plan::new().spam(&rspamd(engine.port, &learn)).start();
    assert_eq!(
        scene.taro(&mails::seven_points()).verdict(),
        "quarantine/spam"
    );
    engine.engine.kill();
    let entry = held(&scene, TARO);
    let id = entry["id"].as_str().unwrap();
    let release = ["quarantine", "release", id, "--learn"];
    scene.cli(&release).exit(75);
    scene.await_mail(TARO);
    let engine = engine.start_again();
    scene.cli(&release).success();
    eventually("what it learned", || {
        (engine.count("total_learns") == 1).then_some(())
    });
    assert_eq!(scene.mailbox(TARO).len(), 1, "it is released once");
}
