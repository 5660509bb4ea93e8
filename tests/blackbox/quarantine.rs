//! Held mail: listed, shown, exported, released, deleted, purged, expired.

use serde_json::json;

use crate::harness::{Daemon, JIRO, Site, TARO, crlf, eventually, files_below, mail};
use crate::hop::{Hop, closed_port, field};
use crate::http;

/// Everything that a mail can cause, to see that a held one causes none of it.
const RULES: &str = "\
reject: {subject_contains: [未承諾広告]}
spam: {scan: true, quarantine: true, mark_subject: \"[spam]\"}
forwarding:
  mode: all
  all: {to: [home@else.example], keep_copy: true}
notify: {to: [mobile@else.example]}
auto_reply: {enabled: true, subject: away, message: \"I am away.\"}
";

fn advertisement() -> Vec<u8> {
    mail(
        "\"Ad\" <a@ad.example>",
        "=?UTF-8?B?5pyq5om/6Ku+5bqD5ZGK?= 1",
    )
}

fn daemon() -> Daemon {
    Site::new().with_mailbox(TARO, RULES).start()
}

/// A daemon that holds one mail; its id and octets.
fn holding() -> (Daemon, String, Vec<u8>) {
    let daemon = daemon();
    let raw = advertisement();
    let id = daemon.give("bounce@ad.example", TARO, &raw).id();
    (daemon, id, raw)
}

#[test]
fn list_has_exactly_its_members() {
    let (daemon, id, raw) = holding();
    let listed = daemon.quarantine();
    assert_eq!(listed.len(), 1);
    let entry = &listed[0];
    let mut names: Vec<&str> = entry
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "class",
            "entry",
            "expires_at",
            "from",
            "id",
            "mailbox",
            "received_at",
            "schema",
            "sender",
            "size",
            "stage",
            "state",
            "subject"
        ]
    );
    assert_eq!(entry["id"], id);
    assert_eq!(entry["mailbox"], TARO);
    assert_eq!(entry["stage"], "reject.subject_contains");
    assert_eq!(entry["class"], "user_rule");
    assert_eq!(entry["entry"], "未承諾広告");
    assert_eq!(entry["sender"], "bounce@ad.example");
    assert!(
        entry["from"].as_str().unwrap().contains("a@ad.example"),
        "{entry}"
    );
    assert_eq!(entry["subject"], "未承諾広告 1");
    assert_eq!(entry["size"], raw.len());
    assert_eq!(entry["state"], "held");
    let time = |name: &str| {
        entry[name]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    };
    let kept = time("expires_at").as_second() - time("received_at").as_second();
    assert_eq!(kept, 7 * 24 * 3600);
}

#[test]
fn list_filters() {
    let daemon = Site::new()
        .with_mailbox(TARO, RULES)
        .with_mailbox(JIRO, RULES)
        .start();
    daemon.hand_over("bounce@ad.example", &[TARO, JIRO], &advertisement());
    let spam = crlf("From: a@friend.example\nSubject: x\nX-Spam-Flag: YES\n\nx\n");
    daemon.give("other@friend.example", TARO, &spam);
    let count = |arguments: &[&str]| {
        daemon
            .json(&[&["quarantine", "list"], arguments].concat())
            .len()
    };
    assert_eq!(count(&[]), 3);
    assert_eq!(count(&["--mailbox", TARO]), 2);
    assert_eq!(count(&["--mailbox", "TARO@East.example.jp"]), 2);
    assert_eq!(count(&["--mailbox", TARO, "--stage", "spam"]), 1);
    assert_eq!(count(&["--stage", "reject.subject_contains"]), 2);
    assert_eq!(count(&["--sender", "other@friend.example"]), 1);
    assert_eq!(count(&["--sender", "OTHER@friend.example"]), 1);
    assert_eq!(count(&["--since", "1h"]), 3);
    assert_eq!(count(&["--since", "2000-01-01T00:00:00Z"]), 3);
    assert_eq!(count(&["--since", "2999-01-01T00:00:00Z"]), 0);
    assert_eq!(count(&["--mailbox", "nobody@east.example.jp"]), 0);
    daemon
        .cli(&["quarantine", "list", "--since", "yesterday-ish"])
        .exit(64);
}

#[test]
fn show_and_the_control_socket_say_the_same_as_list() {
    let (daemon, id, _) = holding();
    let listed = daemon.quarantine().remove(0);
    assert_eq!(daemon.one(&["quarantine", "show", &id]), listed);
    assert_eq!(
        http::get(&daemon, "/v1/quarantine?mailbox=taro%40east.example.jp"),
        std::slice::from_ref(&listed)
    );
    assert_eq!(
        http::get(&daemon, &format!("/v1/quarantine/{id}")),
        [listed]
    );
    let text = daemon.cli(&["quarantine", "list"]).success().text();
    assert!(
        text.contains(&id) && text.contains("未承諾広告") && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn export_gives_the_octets_that_came_in() {
    let (daemon, id, raw) = holding();
    assert_eq!(
        daemon.cli(&["quarantine", "export", &id]).success().stdout,
        raw
    );
    let output = daemon.path("out.eml");
    let done = daemon
        .cli(&[
            "quarantine",
            "export",
            &id,
            "--output",
            output.to_str().unwrap(),
        ])
        .success();
    assert!(done.stdout.is_empty());
    assert_eq!(std::fs::read(output).unwrap(), raw);
}

#[test]
fn a_held_mail_causes_nothing_and_its_release_causes_nothing_but_its_arrival() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, RULES)
        .start();
    let spam = crlf(
        "From: a@friend.example\nTo: taro@east.example.jp\nSubject: hello\nX-Spam-Flag: YES\n\nx\n",
    );
    let answer = daemon.give("a@friend.example", TARO, &spam);
    assert_eq!(answer.verdict(), "quarantine/spam");
    assert!(daemon.mailbox(TARO).is_empty());
    let done = daemon.one(&["quarantine", "release", &answer.id()]);
    assert_eq!(done["state"], "released");
    let stored = String::from_utf8(daemon.await_mail(TARO)).unwrap();
    assert!(
        stored.ends_with(&String::from_utf8(spam).unwrap().replace('\r', "")),
        "unmarked, unchanged: {stored}"
    );
    assert!(
        stored.starts_with(
            "Return-Path: <a@friend.example>\nDelivered-To: taro@east.example.jp\nReceived: "
        ),
        "{stored}"
    );
    // A mail that does cause something proves that the relay would have seen the others by now.
    daemon.give("b@friend.example", TARO, &mail("b@friend.example", "fine"));
    relay.await_mail("home@else.example");
    relay.await_mail("mobile@else.example");
    relay.await_mail("b@friend.example");
    daemon.await_empty_queue();
    assert_eq!(relay.mails().len(), 3);
}

#[test]
fn released_twice_arrives_once() {
    let (daemon, id, _) = holding();
    daemon.one(&["quarantine", "release", &id]);
    let again = daemon.cli(&["quarantine", "release", &id, "--json"]);
    assert!([0, 66, 75].contains(&again.code), "{again:?}");
    let (status, _) = http::request(
        &daemon,
        "POST",
        &format!("/v1/quarantine/{id}/release"),
        "{}",
    );
    assert!(status < 500, "{status}");
    assert_eq!(daemon.mailbox(TARO).len(), 1);
    let states: Vec<_> = daemon
        .quarantine()
        .iter()
        .map(|entry| entry["state"].clone())
        .collect();
    assert!(
        states.is_empty() || states == [json!("released")],
        "{states:?}"
    );
}

#[test]
fn a_release_that_could_not_be_queued_is_taken_up_when_it_is_asked_for_again() {
    let mut daemon = Site::new()
        .with_mailbox(TARO, RULES)
        .with_environment("SEKIMORI_KILL_AT", "release-begun:1")
        .start();
    let id = daemon
        .give("bounce@ad.example", TARO, &advertisement())
        .id();
    let _ = daemon.cli(&["quarantine", "release", &id]);
    daemon.await_end();
    // Nothing can be written into the queue.
    let tmp = daemon.path("state/mail/tmp");
    std::fs::remove_dir(&tmp).unwrap();
    std::fs::write(&tmp, "no folder").unwrap();
    daemon.site.clear_environment();
    daemon.start_again();
    eventually("the start cannot take it up", || {
        daemon.log().contains("release not resumed").then_some(())
    });
    std::fs::remove_file(&tmp).unwrap();
    std::fs::create_dir(&tmp).unwrap();
    let released = daemon.one(&["quarantine", "release", &id]);
    assert_eq!(released["state"], "released");
    assert_eq!(daemon.mailbox(TARO).len(), 1);
}

#[test]
fn release_over_http_without_a_body() {
    let (daemon, id, _) = holding();
    let (status, body) =
        http::request(&daemon, "POST", &format!("/v1/quarantine/{id}/release"), "");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    daemon.await_mail(TARO);
}

#[test]
fn release_to_another_address_goes_by_the_relay() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, RULES)
        .start();
    let raw = advertisement();
    let id = daemon.give("bounce@ad.example", TARO, &raw).id();
    daemon
        .cli(&["quarantine", "release", "--to", "not an address", &id])
        .exit(64);
    daemon
        .cli(&["quarantine", "release", "--to", "audit@else.example", &id])
        .success();
    let sent = relay.await_mail("audit@else.example");
    assert!(sent.data.ends_with(&raw), "{}", sent.text());
    assert!(daemon.mailbox(TARO).is_empty());
}

#[test]
fn release_to_another_address_here_arrives_there() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, RULES)
        .start();
    let id = daemon
        .give("bounce@ad.example", TARO, &advertisement())
        .id();
    daemon
        .cli(&["quarantine", "release", "--to", JIRO, &id])
        .success();
    eventually("the release arrives", || {
        (relay.mails_to(JIRO).len() + daemon.mailbox(JIRO).len() == 1).then_some(())
    });
}

#[test]
fn a_release_that_the_relay_refuses_leaves_the_mail_held() {
    let relay = Hop::smtp();
    relay.at_rcpt("audit@else.example", "550 5.1.1 no such mailbox");
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, RULES)
        .start();
    let id = daemon
        .give("bounce@ad.example", TARO, &advertisement())
        .id();
    daemon.cli(&["quarantine", "release", "--to", "audit@else.example", &id]);
    eventually("held again", || {
        (daemon.quarantine()[0]["state"] == "held").then_some(())
    });
    daemon.cli(&["quarantine", "release", &id]).success();
    daemon.await_mail(TARO);
}

#[test]
fn a_release_waits_in_the_queue_while_its_way_is_closed() {
    let port = closed_port();
    let daemon = Site::new()
        .with_relay(port)
        .with(
            "first: 1s, factor: 1, longest: 1s",
            "first: 1h, factor: 1, longest: 1h",
        )
        .with_mailbox(TARO, RULES)
        .start();
    let id = daemon
        .give("bounce@ad.example", TARO, &advertisement())
        .id();
    daemon.cli(&["quarantine", "release", "--to", "audit@else.example", &id]);
    assert_eq!(daemon.quarantine()[0]["state"], "releasing");
    let queue = daemon.queue();
    assert_eq!(queue.len(), 1);
    assert_eq!(queue[0]["kind"], "release");
    assert_eq!(queue[0]["recipients"], json!(["audit@else.example"]));
    let relay = Hop::smtp_on(port);
    daemon
        .cli(&["queue", "retry", queue[0]["id"].as_str().unwrap()])
        .success();
    relay.await_mail("audit@else.example");
}

#[test]
fn delete_removes_entry_and_octets() {
    let daemon = daemon();
    let raw = crlf("From: a@ad.example\nSubject: 未承諾広告\n\nNEEDLE-IN-A-BODY\n");
    let id = daemon.give("bounce@ad.example", TARO, &raw).id();
    assert!(on_disk(&daemon, b"NEEDLE-IN-A-BODY"));
    daemon.cli(&["quarantine", "delete", &id]).success();
    assert!(daemon.quarantine().is_empty());
    daemon.cli(&["quarantine", "export", &id]).exit(66);
    daemon.cli(&["quarantine", "delete", &id]).exit(66);
    eventually("the octets are gone", || {
        (!on_disk(&daemon, b"NEEDLE-IN-A-BODY")).then_some(())
    });
    assert!(daemon.mailbox(TARO).is_empty());
}

#[test]
fn a_mail_held_for_two_lives_on_for_the_other() {
    let daemon = Site::new()
        .with_mailbox(TARO, RULES)
        .with_mailbox(JIRO, RULES)
        .start();
    let raw = advertisement();
    let answers = daemon.hand_over("bounce@ad.example", &[TARO, JIRO], &raw);
    daemon
        .cli(&["quarantine", "delete", &answers[0].id()])
        .success();
    assert_eq!(
        daemon
            .cli(&["quarantine", "export", &answers[1].id()])
            .success()
            .stdout,
        raw
    );
    daemon
        .cli(&["quarantine", "release", &answers[1].id()])
        .success();
    daemon.await_mail(JIRO);
    assert!(daemon.mailbox(TARO).is_empty());
}

#[test]
fn purge_wants_to_be_told_twice() {
    let daemon = Site::new()
        .with_mailbox(TARO, RULES)
        .with_mailbox(JIRO, RULES)
        .start();
    daemon.hand_over("bounce@ad.example", &[TARO, JIRO], &advertisement());
    daemon.cli(&["quarantine", "purge"]).exit(64);
    daemon.cli(&["quarantine", "purge", "--all"]).exit(64);
    daemon.cli(&["quarantine", "purge", "--yes"]).exit(64);
    assert_eq!(daemon.quarantine().len(), 2);
    daemon
        .cli(&["quarantine", "purge", "--mailbox", JIRO, "--yes"])
        .success();
    assert_eq!(daemon.quarantine().len(), 1);
    daemon
        .cli(&["quarantine", "purge", "--all", "--yes"])
        .success();
    assert!(daemon.quarantine().is_empty());
}

#[test]
fn an_entry_lives_its_retention_and_is_then_gone_from_list_and_disk() {
    let daemon = Site::new()
        .with("retention: 7d", "retention: 2s")
        .with_mailbox(TARO, RULES)
        .start();
    let raw = crlf("From: a@ad.example\nSubject: 未承諾広告\n\nNEEDLE-IN-A-BODY\n");
    let before = std::time::Instant::now();
    let id = daemon.give("bounce@ad.example", TARO, &raw).id();
    let listed = daemon.quarantine();
    if before.elapsed() < std::time::Duration::from_millis(1500) {
        assert_eq!(listed.len(), 1);
    }
    eventually("expired", || daemon.quarantine().is_empty().then_some(()));
    assert!(before.elapsed() >= std::time::Duration::from_secs(2));
    eventually("gone from the disk", || {
        (!on_disk(&daemon, b"NEEDLE-IN-A-BODY")).then_some(())
    });
    daemon.cli(&["quarantine", "release", &id]).exit(66);
    assert!(daemon.mailbox(TARO).is_empty());
}

#[test]
fn ids_that_are_not_there() {
    let daemon = daemon();
    for id in [
        "01m80r8cznpnz2pq5rpvmvbnn6",
        "x",
        "../../etc/passwd",
        "",
        "01M80R8CZNPNZ2PQ5RPVMVBNN6%2f",
    ] {
        for command in ["show", "export", "release", "delete"] {
            let done = daemon.cli(&["quarantine", command, id]);
            assert_eq!(done.code, 66, "{command} {id:?}: {}", done.stderr);
            assert!(!done.stderr.is_empty());
        }
    }
    let (status, _) = http::request(&daemon, "GET", "/v1/quarantine/nothing", "");
    assert_eq!(status, 404);
}

#[test]
fn a_full_quarantine_puts_off_what_it_would_hold_and_nothing_else() {
    let daemon = Site::new()
        .with(
            "quarantine: {retention: 7d}",
            "quarantine: {retention: 7d, max_size: 4KiB}",
        )
        .with_mailbox(TARO, RULES)
        .start();
    let big = |n: u32| {
        crlf(&format!(
            "From: a@ad.example\nSubject: 未承諾広告 {n}\n\n{}\n",
            "x".repeat(3000)
        ))
    };
    assert_eq!(
        daemon.give("a@ad.example", TARO, &big(1)).verdict(),
        "quarantine/reject.subject_contains"
    );
    let answers = daemon.hand_over("a@ad.example", &[TARO, JIRO], &big(2));
    assert!(answers[0].0.starts_with("452 4.3.1"), "{}", answers[0].0);
    assert_eq!(answers[1].verdict(), "deliver");
    assert_eq!(daemon.quarantine().len(), 1);
}

#[test]
fn a_held_mail_outlives_a_restart_and_a_lost_index() {
    let (mut daemon, id, raw) = holding();
    daemon.kill();
    daemon.start_again();
    assert_eq!(daemon.quarantine()[0]["id"], id);
    daemon.kill();
    let index: Vec<_> = std::fs::read_dir(daemon.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| files_below(path).iter().any(|file| file.ends_with("db")))
        .collect();
    assert_eq!(index.len(), 1, "one sled folder");
    std::fs::remove_dir_all(&index[0]).unwrap();
    daemon.start_again();
    assert_eq!(daemon.quarantine()[0]["id"], id);
    assert_eq!(
        daemon.cli(&["quarantine", "export", &id]).success().stdout,
        raw
    );
}

#[test]
fn the_null_sender_filters_and_shows_as_it_is() {
    let daemon = daemon();
    daemon.give("", TARO, &advertisement());
    let listed = daemon.quarantine();
    assert!(
        ["", "<>"].contains(&listed[0]["sender"].as_str().unwrap()),
        "{}",
        listed[0]
    );
    let stored = daemon.one(&["quarantine", "release", listed[0]["id"].as_str().unwrap()]);
    assert_eq!(stored["state"], "released");
    assert_eq!(
        field(&daemon.await_mail(TARO), "return-path").unwrap(),
        "<>"
    );
}

fn on_disk(daemon: &Daemon, needle: &[u8]) -> bool {
    files_below(&daemon.path("state"))
        .iter()
        .filter_map(|path| std::fs::read(path).ok())
        .any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
}

#[test]
fn several_ids_in_one_command() {
    let daemon = daemon();
    let ids: Vec<String> = (0..3)
        .map(|_| daemon.give("a@ad.example", TARO, &advertisement()).id())
        .collect();
    daemon
        .cli(&["quarantine", "release", &ids[0], &ids[1]])
        .success();
    assert_eq!(daemon.mailbox(TARO).len(), 2);
    daemon
        .cli(&["quarantine", "delete", "nonsense", &ids[2]])
        .exit(66);
    assert!(
        daemon
            .quarantine()
            .iter()
            .all(|entry| entry["id"] != ids[2].as_str()),
        "the good id is done beside the bad one"
    );
}

#[test]
fn export_to_a_pipe_that_closes_is_no_error() {
    let daemon = daemon();
    let raw = crlf(&format!(
        "From: a@ad.example\nSubject: 未承諾広告\n\n{}",
        "0123456789\n".repeat(60_000)
    ));
    let id = daemon.give("a@ad.example", TARO, &raw).id();
    let mut child = std::process::Command::new(crate::harness::PROGRAM)
        .arg("--config")
        .arg(daemon.path("sekimori.yaml"))
        .args(["quarantine", "export", &id])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!(
        done.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn release_and_allow_says_what_still_holds() {
    let rules =
        "# mine\nspam: {scan: true, quarantine: true}\nreject: {subject_contains: [未承諾広告]}\n";
    let daemon = Site::new().with_mailbox(TARO, rules).start();
    let spam = [
        b"X-Spam-Flag: YES\r\n".as_slice(),
        &mail("n@friend.example", "hello"),
    ]
    .concat();
    let id = daemon.give("n@friend.example", TARO, &spam).id();
    let done = daemon.one(&["quarantine", "release", "--allow-sender", &id]);
    assert_eq!(done["allowed"], "n@friend.example");
    assert_eq!(done["still_held_by"], json!(null));
    daemon.await_mail(TARO);
    let again = [
        b"X-Spam-Flag: YES\r\n".as_slice(),
        &mail("n@friend.example", "again"),
    ]
    .concat();
    assert_eq!(
        daemon.give("n@friend.example", TARO, &again).verdict(),
        "deliver"
    );

    let id = daemon.give("a@ad.example", TARO, &advertisement()).id();
    let done = daemon.one(&["quarantine", "release", "--allow-sender", &id]);
    let held_by = done["still_held_by"].as_str().unwrap();
    assert!(
        held_by.starts_with("reject.subject_contains: 未承諾広告 (taro.yaml:"),
        "{held_by}"
    );
    assert_eq!(
        daemon
            .give("a@ad.example", TARO, &mail("a@ad.example", "未承諾広告 2"))
            .verdict(),
        "quarantine/reject.subject_contains"
    );
}
