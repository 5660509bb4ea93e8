//! New settings while mail comes in.

use crate::harness::{Site, TARO, eventually, mail};
use crate::http;

const OFFERS: &str = "reject: {subject_contains: [offer]}\n";
const INVOICES: &str = "reject: {subject_contains: [invoice]}\n";
const HELD: &str = "quarantine/reject.subject_contains";

#[test]
fn a_changed_mailbox_file_counts_within_a_second() {
    let daemon = Site::new().with_mailbox(TARO, OFFERS).start();
    let give = |subject: &str| {
        daemon
            .give("a@s.example", TARO, &mail("a@friend.example", subject))
            .verdict()
    };
    assert_eq!(give("offer"), HELD);
    daemon.set_mailbox(TARO, INVOICES);
    let changed = std::time::Instant::now();
    eventually("the new rules", || (give("invoice") == HELD).then_some(()));
    assert!(
        changed.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        changed.elapsed()
    );
    assert_eq!(give("offer"), "deliver");
}

#[test]
fn a_new_and_a_removed_mailbox_file_count() {
    let daemon = Site::new()
        .with("unknown: accept", "unknown: reject")
        .start();
    let known = || {
        let mut session = daemon.lmtp();
        session.expect("LHLO mta.example.net", "250");
        session.expect("MAIL FROM:<a@s.example>", "250");
        session.command(&format!("RCPT TO:<{TARO}>"))
    };
    assert!(known().starts_with("550 5.1.1"));
    daemon.set_mailbox(TARO, OFFERS);
    eventually("known", || known().starts_with("250").then_some(()));
    std::fs::remove_file(daemon.path("mailboxes/east.example.jp/taro.yaml")).unwrap();
    eventually("unknown again", || {
        known().starts_with("550 5.1.1").then_some(())
    });
}

#[test]
fn a_bad_mailbox_file_keeps_the_old_settings() {
    let daemon = Site::new().with_mailbox(TARO, OFFERS).start();
    let give = |subject: &str| {
        daemon
            .give("a@s.example", TARO, &mail("a@friend.example", subject))
            .verdict()
    };
    assert_eq!(give("offer"), HELD);
    daemon.set_mailbox(TARO, "reject: {subject_contains: [\"\"]}\n");
    let reloaded = daemon.cli(&["reload", "--wait"]);
    assert!([0, 78].contains(&reloaded.code), "{reloaded:?}");
    assert_eq!(give("offer"), HELD);
    assert_eq!(give("hello"), "deliver");
    eventually("the log tells", || {
        daemon.log().contains("taro.yaml").then_some(())
    });
    daemon.set_mailbox(TARO, INVOICES);
    eventually("the mended file", || {
        (give("invoice") == HELD).then_some(())
    });
}

#[test]
fn a_mailbox_file_that_is_bad_from_the_start_stops_no_mail() {
    let daemon = Site::new().with_mailbox(TARO, "nonsense: 1\n").start();
    let answer = daemon.give("a@s.example", TARO, &mail("a@friend.example", "x"));
    assert!(
        answer.0.starts_with("250 ") || answer.0.starts_with("451 "),
        "{}",
        answer.0
    );
    assert_eq!(
        daemon
            .give("a@s.example", "jiro", &mail("a@friend.example", "x"))
            .verdict(),
        "deliver"
    );
}

#[test]
fn reload_takes_a_new_daemon_file() {
    let mut daemon = Site::new().start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.expect("MAIL FROM:<a@s.example>", "250");
    session.expect("RCPT TO:<x@north.example.jp>", "550 5.1.2");
    daemon
        .site
        .replace("west.example.jp]", "west.example.jp, north.example.jp]");
    daemon.cli(&["reload", "--wait"]).success();
    session.expect("RCPT TO:<x@north.example.jp>", "250 2.1.5");
    let (status, _) = http::request(&daemon, "POST", "/v1/reload", "");
    assert_eq!(status, 200);
}

#[test]
fn reload_refuses_a_bad_daemon_file_and_keeps_the_old() {
    let mut daemon = Site::new().with_mailbox(TARO, OFFERS).start();
    daemon.site.replace("unknown: accept", "unknown: perhaps");
    let refused = daemon.cli(&["reload", "--wait"]).exit(78);
    assert!(
        refused.stderr.contains("sekimori.yaml:") && refused.stderr.contains("error["),
        "{}",
        refused.stderr
    );
    let (status, _) = http::request(&daemon, "POST", "/v1/reload", "");
    assert_eq!(status, 422);
    assert_eq!(
        daemon
            .give("a@s.example", TARO, &mail("a@friend.example", "offer"))
            .verdict(),
        HELD
    );
    daemon.site.replace("unknown: perhaps", "unknown: reject");
    daemon.cli(&["reload", "--wait"]).success();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.expect("MAIL FROM:<a@s.example>", "250");
    session.expect("RCPT TO:<x@east.example.jp>", "550 5.1.1");
}

#[test]
fn sighup_reloads() {
    let mut daemon = Site::new().start();
    daemon
        .site
        .replace("west.example.jp]", "west.example.jp, north.example.jp]");
    daemon.signal(rustix::process::Signal::HUP);
    eventually("the new domain", || {
        let mut session = daemon.lmtp();
        session.expect("LHLO mta.example.net", "250");
        session.expect("MAIL FROM:<a@s.example>", "250");
        session
            .command("RCPT TO:<x@north.example.jp>")
            .starts_with("250")
            .then_some(())
    });
}

#[test]
fn status_tells_of_the_running_daemon() {
    let daemon = Site::new().start();
    let status = daemon.one(&["status"]);
    assert_eq!(status["schema"], "sekimori.status/1");
    assert!(
        status["pid"].is_number() && status["version"].is_string(),
        "{status}"
    );
    assert_eq!(http::get(&daemon, "/v1/status")[0]["pid"], status["pid"]);
    assert!(daemon.cli(&["status"]).success().text().contains("version"));
}
