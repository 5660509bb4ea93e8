//! Kept mail goes on by LMTP or SMTP: per-recipient results, and nothing left behind by a failure.

use crate::harness::{JIRO, Site, TARO, crlf, eventually, files_below, mail};
use crate::hop::{Hop, closed_port, field};

fn site(method: &str, port: u16) -> Site {
    Site::new().with(
        "method: maildir\n",
        &format!("method: {method}\n  {method}: {{address: \"127.0.0.1:{port}\", timeout: 10s}}\n"),
    )
}

#[test]
fn lmtp_gets_received_and_the_untouched_octets() {
    let hop = Hop::lmtp();
    let daemon = site("lmtp", hop.port).start();
    let raw = crlf("Return-Path: <old@x.example>\nFrom: a@friend.example\nSubject: x\n\n.\nx\n");
    let answer = daemon.give("bounce@friend.example", "taro+x@east.example.jp", &raw);
    assert_eq!(answer.verdict(), "deliver");
    let kept = hop.await_mail("taro+x@east.example.jp");
    assert_eq!(kept.sender, "bounce@friend.example");
    assert!(kept.text().starts_with("Received: "), "{}", kept.text());
    assert!(kept.data.ends_with(&raw), "{}", kept.text());
}

#[test]
fn recipients_with_equal_octets_share_one_transaction() {
    let hop = Hop::lmtp();
    let daemon = site("lmtp", hop.port)
        .with_mailbox(
            JIRO,
            "spam: {scan: true, quarantine: false, mark_subject: \"[spam]\"}\n",
        )
        .start();
    let raw = crlf("From: a@friend.example\nSubject: x\nX-Spam-Flag: YES\n\nx\n");
    daemon.hand_over("a@s.example", &[TARO, JIRO, "saburo", "shiro"], &raw);
    let mut groups: Vec<usize> = hop
        .mails()
        .iter()
        .map(|mail| mail.recipients.len())
        .collect();
    groups.sort_unstable();
    assert_eq!(groups, [1, 3]);
    assert_eq!(hop.await_mail(JIRO).field("subject").unwrap(), "[spam] x");
}

#[test]
fn each_recipient_gets_the_next_hops_own_answer() {
    let hop = Hop::lmtp();
    hop.at_rcpt("gone@east.example.jp", "550 5.1.1 no such user");
    hop.at_rcpt("later@east.example.jp", "450 4.2.1 busy");
    hop.at_end("full@east.example.jp", "452 4.2.2 over quota");
    hop.at_end("never@east.example.jp", "552 5.2.2 over quota for good");
    let daemon = site("lmtp", hop.port).start();
    let recipients = [
        TARO,
        "gone@east.example.jp",
        "later@east.example.jp",
        "full@east.example.jp",
        "never@east.example.jp",
        JIRO,
    ];
    let answers = daemon.hand_over("a@s.example", &recipients, &mail("a@friend.example", "x"));
    let starts = [
        "250 2.0.0",
        "550 5.1.1",
        "450 4.2.1",
        "452 4.2.2",
        "552 5.2.2",
        "250 2.0.0",
    ];
    for (answer, start) in answers.iter().zip(starts) {
        assert!(answer.0.starts_with(start), "{}, not {start}", answer.0);
    }
}

#[test]
fn a_mail_that_the_next_hop_takes_for_nobody_is_one_line_for_each_reason() {
    let hop = Hop::lmtp();
    hop.at_rcpt(JIRO, "550 5.1.1 no such user");
    hop.at_end("saburo@east.example.jp", "452 4.2.2 over quota");
    hop.at_end("shiro@east.example.jp", "452 4.2.2 over quota");
    let daemon = site("lmtp", hop.port).start();
    let recipients = [TARO, JIRO, "saburo", "shiro"];
    daemon.hand_over("a@s.example", &recipients, &mail("a@friend.example", "x"));
    let log = daemon.log();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("next hop did not take the mail"))
        .collect();
    assert_eq!(told.len(), 2, "{log}");
    for (line, words) in told
        .iter()
        .zip(["recipients=1 error=\"550 ", "recipients=2 error=\"452 "])
    {
        assert!(line.contains(words), "{line}");
    }
    // Each recipient has its own line all the same.
    assert_eq!(log.matches(" message=mail ").count(), 4, "{log}");
}

#[test]
fn a_next_hop_that_is_down_leaves_nothing_behind() {
    let relay = Hop::smtp();
    let daemon = site("lmtp", closed_port())
        .with_relay(relay.port)
        .with_mailbox(TARO, "forwarding:\n  mode: all\n  all: {to: [home@else.example], keep_copy: true}\nnotify: {to: [mobile@else.example]}\nauto_reply: {enabled: true, message: away}\n")
        .with_mailbox(JIRO, "reject: {subject_contains: [offer]}\n")
        .start();
    let answers = daemon.hand_over(
        "a@friend.example",
        &[TARO, JIRO, "saburo"],
        &mail("a@friend.example", "offer"),
    );
    assert!(answers[0].0.starts_with("451 4."), "{}", answers[0].0);
    assert_eq!(answers[1].verdict(), "quarantine/reject.subject_contains");
    assert!(answers[2].0.starts_with("451 4."), "{}", answers[2].0);
    assert!(daemon.queue().is_empty());
    assert_eq!(daemon.quarantine().len(), 1);
    assert!(relay.mails().is_empty());
    let outgoing = files_below(&daemon.path("state/mail/outgoing"));
    assert!(outgoing.is_empty(), "{outgoing:?}");
}

#[test]
fn the_retry_after_a_failure_is_decided_and_carried_out_once() {
    let (hop, relay) = (Hop::lmtp(), Hop::smtp());
    hop.at_end(TARO, "451 4.2.0 later");
    let daemon = site("lmtp", hop.port)
        .with_relay(relay.port)
        .with_mailbox(TARO, "auto_reply: {enabled: true, message: away}\n")
        .start();
    let raw = mail("a@friend.example", "x");
    let failed = daemon.hand_over("a@friend.example", &[TARO, JIRO], &raw);
    assert!(failed[0].0.starts_with("451 4.2.0"), "{}", failed[0].0);
    assert_eq!(failed[1].verdict(), "deliver");
    hop.relent();
    let taken = daemon.give("a@friend.example", TARO, &raw);
    assert_eq!(taken.verdict(), "deliver");
    relay.await_mail("a@friend.example");
    daemon.await_empty_queue();
    assert_eq!(relay.mails().len(), 1);
    assert_eq!(hop.mails_to(TARO).len(), 1);
    assert_eq!(hop.mails_to(JIRO).len(), 1);
}

#[test]
fn smtp_in_with_one_failure_is_temporary_for_all_and_doubles_nothing_later() {
    let hop = Hop::lmtp();
    hop.at_end(TARO, "451 4.2.0 later");
    let daemon = site("lmtp", hop.port).start();
    let raw = mail("a@friend.example", "x");
    let failed = daemon
        .smtp()
        .submit("a@friend.example", &[TARO, JIRO], &raw);
    assert!(failed.0.starts_with("451 4."), "{}", failed.0);
    hop.relent();
    let taken = daemon
        .smtp()
        .submit("a@friend.example", &[TARO, JIRO], &raw);
    assert_eq!(taken.verdict(), "deliver");
    assert_eq!(hop.mails_to(TARO).len(), 1);
    assert_eq!(hop.mails_to(JIRO).len(), 1);
}

#[test]
fn an_smtp_next_hop() {
    let hop = Hop::smtp();
    let daemon = site("smtp", hop.port).start();
    let raw = mail("a@friend.example", "x");
    assert_eq!(
        daemon.give("a@friend.example", TARO, &raw).verdict(),
        "deliver"
    );
    assert!(hop.await_mail(TARO).data.ends_with(&raw));
}

#[test]
fn connections_are_pooled() {
    let hop = Hop::lmtp();
    let daemon = site("lmtp", hop.port).start();
    let mut session = daemon.lmtp();
    for n in 0..10 {
        session.hand_over(
            "a@friend.example",
            &[TARO],
            &mail("a@friend.example", &n.to_string()),
        );
    }
    assert_eq!(hop.mails().len(), 10);
    assert!(hop.connections() <= 2, "{}", hop.connections());
}

#[test]
fn a_release_goes_to_the_next_hop() {
    let hop = Hop::lmtp();
    let daemon = site("lmtp", hop.port)
        .with_mailbox(TARO, "reject: {subject_contains: [offer]}\n")
        .start();
    let raw = mail("a@friend.example", "offer");
    let id = daemon.give("a@friend.example", TARO, &raw).id();
    assert!(hop.mails().is_empty());
    daemon.cli(&["quarantine", "release", &id]).success();
    let released = hop.await_mail(TARO);
    assert!(released.data.ends_with(&raw));
    eventually("released", || {
        daemon
            .quarantine()
            .iter()
            .all(|entry| entry["state"] == "released")
            .then_some(())
    });
    assert_eq!(field(&released.data, "subject").unwrap(), "offer");
}

#[test]
fn a_unix_socket_next_hop() {
    let site = Site::new().start();
    let socket = site.path("lmtp.sock");
    let daemon = Site::new()
        .with(
            "method: maildir\n",
            &format!("method: lmtp\n  lmtp: {{address: {}}}\n", socket.display()),
        )
        .start();
    assert_eq!(
        daemon
            .give("a@friend.example", TARO, &mail("a@friend.example", "x"))
            .verdict(),
        "deliver"
    );
    assert_eq!(site.mailbox(TARO).len(), 1);
}

#[test]
fn a_next_hop_that_hangs_is_a_451_before_the_mta_gives_up() {
    let hop = Hop::lmtp();
    hop.hang_at_end(TARO);
    let daemon = site("lmtp", hop.port)
        .with(
            "  limits: {message_size: 1MiB}",
            "  timeouts: {final_reply: 2s}\n  limits: {message_size: 1MiB}",
        )
        .with_mailbox(TARO, "notify: {to: [mobile@else.example]}\n")
        .start();
    let raw = mail("a@friend.example", "x");
    let begun = std::time::Instant::now();
    let put_off = daemon.give("a@friend.example", TARO, &raw);
    assert!(put_off.0.starts_with("451 4.4."), "{}", put_off.0);
    assert!(begun.elapsed() < std::time::Duration::from_secs(6));
    assert!(daemon.queue().is_empty());
    hop.relent();
    assert_eq!(
        daemon.give("a@friend.example", TARO, &raw).verdict(),
        "deliver"
    );
}

#[test]
fn one_recipient_that_hangs_holds_up_no_other_session() {
    let hop = Hop::lmtp();
    hop.hang_at_end(TARO);
    let daemon = site("lmtp", hop.port).start();
    let mut stuck = daemon.lmtp();
    stuck.expect("LHLO mta.example.net", "250");
    stuck.transaction("a@s.example", &[TARO]);
    stuck.data(&mail("a@friend.example", "x"));
    let begun = std::time::Instant::now();
    assert_eq!(
        daemon
            .give("a@s.example", JIRO, &mail("a@friend.example", "y"))
            .verdict(),
        "deliver"
    );
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}
