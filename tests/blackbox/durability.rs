//! Retries of a hand-off and crashes: nothing lost, nothing doubled.

use std::collections::HashSet;

use crate::harness::{JIRO, Site, TARO, eventually, mail};
use crate::hop::{Hop, closed_port};
use crate::session::Answer;

const EVERYTHING: &str = "\
forwarding:
  mode: all
  all: {to: [home@else.example], keep_copy: true}
notify: {to: [mobile@else.example]}
auto_reply: {enabled: true, message: \"away\"}
";

#[test]
fn the_retry_of_a_hand_off_repeats_nothing() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, EVERYTHING)
        .start();
    let raw = mail("a@friend.example", "x");
    let first = daemon.give("a@friend.example", TARO, &raw);
    let second = daemon.give("a@friend.example", TARO, &raw);
    assert_eq!(first, second);
    assert_eq!(
        daemon.smtp().submit("a@friend.example", &[TARO], &raw).id(),
        first.id()
    );
    daemon.await_empty_queue();
    assert_eq!(daemon.mailbox(TARO).len(), 1);
    for to in [
        "home@else.example",
        "mobile@else.example",
        "a@friend.example",
    ] {
        assert_eq!(relay.mails_to(to).len(), 1, "{to}");
    }
}

#[test]
fn the_retry_is_known_after_a_crash_and_after_a_reload_of_other_rules() {
    let mut daemon = Site::new()
        .with_mailbox(TARO, "reject: {subject_contains: [offer]}\n")
        .start();
    let raw = mail("a@friend.example", "offer");
    let first = daemon.give("a@friend.example", TARO, &raw);
    daemon.kill();
    daemon.set_mailbox(TARO, "reject: {subject_contains: [other]}\n");
    daemon.start_again();
    assert_eq!(daemon.give("a@friend.example", TARO, &raw), first);
    assert_eq!(daemon.quarantine().len(), 1);
    assert!(daemon.mailbox(TARO).is_empty());
}

#[test]
fn the_fields_that_a_delivering_mta_rewrites_do_not_make_a_new_mail() {
    let daemon = Site::new().start();
    let raw = mail("a@friend.example", "x");
    let with = |fields: &str| [fields.as_bytes(), &raw].concat();
    let first = daemon.give(
        "a@friend.example",
        TARO,
        &with(
            "Return-Path: <a@friend.example>\r\nDelivery-date: Sun, 22 Nov 2026 09:00:00 +0900\r\n",
        ),
    );
    let second = daemon.give(
        "a@friend.example",
        TARO,
        &with(
            "Return-Path: <a@friend.example>\r\nDelivery-date: Sun, 22 Nov 2026 09:05:00 +0900\r\n",
        ),
    );
    assert_eq!(first.id(), second.id());
    let resent = daemon.give(
        "a@friend.example",
        TARO,
        &with("Received: by mta.example.net id NEW; Sun, 22 Nov 2026 09:00:00 +0900\r\n"),
    );
    assert_ne!(first.id(), resent.id());
    assert_eq!(daemon.mailbox(TARO).len(), 2);
}

#[test]
fn the_same_message_id_is_not_the_same_mail() {
    let daemon = Site::new().start();
    let first = daemon.give("a@friend.example", TARO, &mail("a@friend.example", "one"));
    let second = daemon.give("a@friend.example", TARO, &mail("a@friend.example", "two"));
    assert_ne!(first.id(), second.id());
    assert_eq!(daemon.mailbox(TARO).len(), 2);
}

#[test]
fn the_same_hand_off_many_times_at_once_is_one_mail() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, EVERYTHING)
        .start();
    let raw = mail("a@friend.example", "x");
    let answers: HashSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| daemon.give("a@friend.example", TARO, &raw).id()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(answers.len(), 1);
    daemon.await_empty_queue();
    assert_eq!(daemon.mailbox(TARO).len(), 1);
    assert_eq!(relay.mails().len(), 3);
}

#[test]
fn effects_that_were_answered_for_outlive_a_crash_and_happen_once() {
    let port = closed_port();
    let mut daemon = Site::new()
        .with_relay(port)
        .with_mailbox(TARO, EVERYTHING)
        .start();
    let raw = mail("a@friend.example", "x");
    let first = daemon.give("a@friend.example", TARO, &raw);
    daemon.kill();
    daemon.start_again();
    assert_eq!(daemon.give("a@friend.example", TARO, &raw), first);
    let relay = Hop::smtp_on(port);
    for to in [
        "home@else.example",
        "mobile@else.example",
        "a@friend.example",
    ] {
        relay.await_mail(to);
    }
    daemon.await_empty_queue();
    assert_eq!(relay.mails().len(), 3);
    assert_eq!(daemon.mailbox(TARO).len(), 1);
}

#[test]
fn crashes_in_the_middle_of_mail_lose_and_double_nothing() {
    let relay = Hop::smtp();
    let mut daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(
            TARO,
            "forwarding:\n  mode: all\n  all: {to: [home@else.example], keep_copy: true}\nnotify: {to: [mobile@else.example]}\n",
        )
        .with_mailbox(JIRO, "reject: {subject_contains: [offer]}\n")
        .start();
    let mut answered = 0;
    for round in 0..6 {
        let mails: Vec<Vec<u8>> = (0..10)
            .map(|n| mail("a@friend.example", &format!("offer {round}.{n}")))
            .collect();
        let stop = std::sync::atomic::AtomicUsize::new(0);
        let (port_session, after) = (daemon.lmtp(), round * 2 + 1);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                // The session breaks with the daemon; what was answered before stands.
                let mut session = port_session;
                for raw in &mails {
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        session.hand_over("a@friend.example", &[TARO, JIRO], raw)
                    }));
                    if done.is_err() {
                        break;
                    }
                    stop.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
            eventually("some mails are in", || {
                (stop.load(std::sync::atomic::Ordering::Relaxed) >= after.min(9)).then_some(())
            });
            daemon.kill();
            worker.join().unwrap();
        });
        daemon.start_again();
        // The MTA hands all of them over again: it cannot know which answers were meant.
        for raw in &mails {
            let answers = daemon.hand_over("a@friend.example", &[TARO, JIRO], raw);
            assert_eq!(answers[0].verdict(), "deliver");
            assert_eq!(answers[1].verdict(), "quarantine/reject.subject_contains");
            answered += 1;
        }
    }
    daemon.await_empty_queue();
    assert_eq!(
        daemon.mailbox(TARO).len(),
        answered,
        "each once in the mailbox"
    );
    assert_eq!(
        daemon.quarantine().len(),
        answered,
        "each once in quarantine"
    );
    // A crash between the data and the relay's answer may cost a notice, and never doubles one.
    let notices = relay.mails_to("mobile@else.example").len();
    assert!(notices > 0 && notices <= answered, "{notices} notices");
    let subjects: HashSet<String> = relay
        .mails_to("home@else.example")
        .iter()
        .filter_map(|mail| mail.field("subject"))
        .collect();
    assert_eq!(subjects.len(), answered, "each forwarded");
    let verified = daemon.one(&["store", "verify"]);
    assert_eq!(verified["problems"], serde_json::json!([]));
}

#[test]
fn sigterm_finishes_an_open_mail_and_exits_0() {
    let mut daemon = Site::new().start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.transaction("a@s.example", &[TARO]);
    session.send(b"From: a@friend.example\r\nSubject: x\r\n\r\n");
    daemon.signal(rustix::process::Signal::TERM);
    eventually("no new connections", || {
        std::os::unix::net::UnixStream::connect(daemon.path("lmtp.sock"))
            .is_err()
            .then_some(())
    });
    session.send(b"body\r\n.\r\n");
    let answer = Answer(session.reply());
    assert_eq!(answer.verdict(), "deliver");
    assert_eq!(daemon.await_end().code(), Some(0));
    assert_eq!(daemon.mailbox(TARO).len(), 1);
}

#[test]
fn sigterm_does_not_wait_for_idle_sessions() {
    let mut daemon = Site::new().start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    let before = std::time::Instant::now();
    daemon.signal(rustix::process::Signal::TERM);
    let bye = session.reply();
    assert!(bye.starts_with("421 4.3.2"), "{bye}");
    assert_eq!(daemon.await_end().code(), Some(0));
    assert!(before.elapsed() < std::time::Duration::from_secs(10));
    assert!(!daemon.path("control.sock").exists());
}

#[test]
fn store_verify_with_and_without_a_daemon() {
    let mut daemon = Site::new()
        .with_mailbox(TARO, "reject: {subject_contains: [offer]}\n")
        .start();
    let id = daemon
        .give("a@friend.example", TARO, &mail("a@friend.example", "offer"))
        .id();
    assert_eq!(daemon.one(&["store", "verify"])["quarantine"], 1);
    daemon.kill();
    assert_eq!(daemon.one(&["store", "verify"])["quarantine"], 1);
    let file = crate::harness::files_below(&daemon.path("state"))
        .into_iter()
        .find(|path| path.to_string_lossy().contains(&id))
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let damaged = daemon.cli(&["store", "verify", "--json"]);
    assert_eq!(damaged.code, 65, "{damaged:?}");
    assert_ne!(damaged.json()[0]["problems"], serde_json::json!([]));
}
