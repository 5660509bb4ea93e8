//! A mail that crashes whoever reads it comes through at the fourth try, unread; no other is touched.

use serde_json::{Value, json};

use crate::harness::{Daemon, Site, TARO, mail};
use crate::hop::field;

const EVERYTHING: &str = "\
reject: {subject_contains: [poison]}
forwarding:
  mode: all
  all: {to: [home@else.example], keep_copy: true}
notify: {to: [mobile@else.example]}
auto_reply: {enabled: true, message: \"away\"}
";

fn site(crash: &str) -> Site {
    Site::new()
        .with_mailbox(TARO, EVERYTHING)
        .with_environment("SEKIMORI_CRASH_ON", &format!("{crash}:poison"))
}

/// The fourth try: delivered raw, nothing beside it.
fn comes_through(daemon: &Daemon, raw: &[u8]) {
    let before = daemon.queue().len();
    let answer = daemon.give("a@friend.example", TARO, raw);
    assert_eq!(answer.verdict(), "deliver");
    let mails = daemon.mailbox(TARO);
    let marked = mails
        .iter()
        .find(|mail| field(mail, "X-Sekimori-Bypass").as_deref() == Some("crash"))
        .unwrap();
    let body = String::from_utf8(raw.to_vec())
        .unwrap()
        .replace("\r\n", "\n");
    assert!(String::from_utf8_lossy(marked).ends_with(&body));
    assert_eq!(daemon.queue().len(), before, "no forward, notice or reply");
    assert!(daemon.quarantine().is_empty());
    let why = daemon.one(&["why", &answer.id()]);
    assert_eq!(why["bypass"], json!("crash"));
    assert_eq!(why["verdict"], json!("deliver"));
    assert_eq!(why["stage"], Value::Null);
    // A field of the MTA's scanner was not looked for: nobody says that it is clean.
    assert_eq!(
        why["scan"],
        json!({"virus": "not_scanned", "spam": "not_scanned"})
    );
    assert!(daemon.log().contains("delivered unread"));
    assert_eq!(daemon.give("a@friend.example", TARO, raw), answer);
}

#[test]
fn a_mail_that_ends_the_process_three_times_is_delivered_unread() {
    let mut daemon = site("abort").start();
    let raw = mail("a@friend.example", "poison");
    for round in 0..3 {
        let mut session = daemon.lmtp();
        session.expect("LHLO mta.example.net", "250");
        session.transaction("a@friend.example", &[TARO]);
        session.data(&raw);
        assert!(!daemon.await_end().success(), "round {round}");
        daemon.start_again();
        let other = mail("b@friend.example", &format!("good {round}"));
        let answer = daemon.give("b@friend.example", TARO, &other);
        assert_eq!(answer.verdict(), "deliver", "other mail goes on");
    }
    let other = daemon.mailbox(TARO);
    assert!(
        other
            .iter()
            .all(|mail| field(mail, "X-Sekimori-Bypass").is_none())
    );
    comes_through(&daemon, &raw);
}

#[test]
fn a_mail_that_panics_three_times_is_delivered_unread_and_a_restart_forgets_no_count() {
    let mut daemon = site("panic").start();
    let raw = mail("a@friend.example", "poison");
    for round in 0..3 {
        if round == 2 {
            daemon.kill();
            daemon.start_again();
        }
        let refused = daemon.give("a@friend.example", TARO, &raw);
        assert!(refused.0.starts_with("451 4.3.0"), "{round}: {}", refused.0);
    }
    comes_through(&daemon, &raw);
}

#[test]
fn kills_at_other_moments_count_against_no_mail() {
    let mut daemon = Site::new()
        .with_mailbox(TARO, "reject: {subject_contains: [poison]}\n")
        .with_environment("SEKIMORI_KILL_AT", "prepared:1")
        .start();
    let raw = mail("a@friend.example", "poison");
    for _ in 0..4 {
        let mut session = daemon.lmtp();
        session.expect("LHLO mta.example.net", "250");
        session.transaction("a@friend.example", &[TARO]);
        session.data(&raw);
        assert!(!daemon.await_end().success());
        daemon.start_again();
    }
    daemon.kill();
    daemon.site.clear_environment();
    daemon.start_again();
    let answer = daemon.give("a@friend.example", TARO, &raw);
    assert_eq!(answer.verdict(), "quarantine/reject.subject_contains");
}
