//! The infected original: its owner sees it, the operator can have it.

use serde_json::{Value, json};

use crate::clamd::Clamd;
use crate::harness::{TARO, eventually};
use crate::http::{get, request};
use crate::mails;
use crate::scene::{Plan, clamd, with_clamd};
use crate::virus::held;

#[test]
fn the_owner_sees_the_original_and_cannot_release_it() {
    let (engine, scene) = with_clamd();
    let raw = mails::infected();
    assert_eq!(scene.taro(&raw).verdict(), "replace/virus");
    scene.await_mail(TARO);
    let entry = held(&scene, TARO);
    let id = entry["id"].as_str().unwrap();
    let listed = get(&scene, &format!("/v1/quarantine?mailbox={TARO}"));
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["class"], "virus");

    let path = format!("/v1/quarantine/{id}/release");
    let body = json!({"as": "owner"}).to_string();
    let (status, said) = request(&scene, "POST", &path, &body);
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(status, 403, "{said}");
    let export = format!("/v1/quarantine/{id}/raw?as=owner");
    let (status, said) = request(&scene, "GET", &export, "");
    assert_eq!(status, 403, "{}", String::from_utf8_lossy(&said));
    assert_eq!(engine.finds(&said), None);
    assert_eq!(held(&scene, TARO)["state"], "held");
    assert_eq!(scene.mailbox(TARO).len(), 1, "the report alone");

    scene.cli(&["quarantine", "release", id]).success();
    let mails = eventually("the original", || {
        Some(scene.mailbox(TARO)).filter(|mails| mails.len() == 2)
    });
    let lf = String::from_utf8(raw).unwrap().replace("\r\n", "\n");
    assert!(mails.iter().any(|mail| mail.ends_with(lf.as_bytes())));
}

/// A reject rule holds mail before a scanner sees it.
#[test]
fn what_no_scanner_saw_is_scanned_when_its_owner_wants_it() {
    let mut engine = Clamd::start();
    let scene = Plan::new()
        .virus(&clamd(engine.port, ""))
        .mailbox(
            TARO,
            "virus: {scan: true}\nreject: {from_suffixes: [\"@partner.example\"]}\n",
        )
        .start();
    let hold = |mail: &[u8]| {
        let answer = scene.taro(mail);
        assert_eq!(answer.verdict(), "quarantine/reject.from_suffixes");
        answer.id()
    };
    let (virus, ham) = (mails::infected(), mails::ham());
    let (infected, clean, other) = (hold(&virus), hold(&ham), hold(&mails::ham()));
    let ask = |id: &str, export: bool| {
        let body = json!({"as": "owner"}).to_string();
        match export {
            true => request(
                &scene,
                "GET",
                &format!("/v1/quarantine/{id}/raw?as=owner"),
                "",
            ),
            false => request(
                &scene,
                "POST",
                &format!("/v1/quarantine/{id}/release"),
                &body,
            ),
        }
    };
    for export in [true, false] {
        let (status, said) = ask(&infected, export);
        assert_eq!(status, 403, "{}", String::from_utf8_lossy(&said));
        assert_eq!(engine.finds(&said), None);
        assert_eq!(ask(&clean, export).0, 200);
    }
    assert!(scene.await_mail(TARO).ends_with(&lf(&ham)));

    engine.engine.kill();
    assert_eq!(ask(&other, false).0, 503, "no scanner, no release");
    scene.cli(&["quarantine", "release", &infected]).success();
    let mails = eventually("the operator's release", || {
        Some(scene.mailbox(TARO)).filter(|mails| mails.len() == 2)
    });
    let raw = lf(&virus);
    assert!(mails.iter().any(|mail| mail.ends_with(&raw)));
}

fn lf(mail: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(mail.to_vec()).unwrap();
    text.replace("\r\n", "\n").into_bytes()
}

#[test]
fn without_keep_original_nothing_is_held() {
    let engine = Clamd::start();
    let scene = Plan::new()
        .virus(&clamd(engine.port, "keep_original: false"))
        .start();
    assert_eq!(scene.taro(&mails::infected()).verdict(), "replace/virus");
    scene.await_mail(TARO);
    assert!(scene.quarantine().is_empty());
}
