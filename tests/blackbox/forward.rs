//! Stage 7: what is sent on, and what becomes of it.

use crate::harness::{JIRO, Site, TARO, crlf, eventually, mail};
use crate::hop::{Hop, closed_port, field};

fn forward_all(keep: bool) -> String {
    format!("forwarding:\n  mode: all\n  all: {{to: [home@else.example], keep_copy: {keep}}}\n")
}

#[test]
fn a_forward_is_the_original_with_header_lines_before_it() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, &forward_all(true))
        .start();
    let raw = crlf(
        "Return-Path: <x@y.example>\nFrom: a@friend.example\nSubject: =?UTF-8?B?44GT?=\n =?UTF-8?B?44KT?=\n\n.\n..x\n bare 8bit: é\n",
    );
    daemon.give("bounce+1@friend.example", TARO, &raw);
    let sent = relay.await_mail("home@else.example");
    assert!(sent.data.ends_with(&raw), "{}", sent.text());
    assert_eq!(sent.sender, "bounce+1@friend.example");
    assert_eq!(sent.recipients, ["home@else.example"]);
    assert!(sent.text().contains("Received: "), "{}", sent.text());
    assert_eq!(daemon.mailbox(TARO).len(), 1);
}

#[test]
fn rules_in_order_and_the_first_match_ends_it() {
    let relay = Hop::smtp();
    let rules = "\
forwarding:
  mode: rules
  rules:
    - name: paused
      paused: true
      subject_contains: [invoice]
      to: [paused@else.example]
      keep_copy: false
    - name: all of it
      match: all
      subject_contains: |
        請求書
        invoice
      from_suffixes: [\"@supplier.example\"]
      to: [keiri@else.example, archive@else.example]
      keep_copy: true
    - name: any of it
      match: any
      subject_contains: [urgent]
      size: {at_least: 10KiB}
      to: [fast@else.example]
      keep_copy: false
    - name: attachments
      attachment: true
      to: [files@else.example]
      keep_copy: true
";
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, rules)
        .start();
    let give = |raw: &[u8]| daemon.give("a@s.example", TARO, raw).verdict();
    assert_eq!(give(&mail("a@supplier.example", "Your INVOICE")), "deliver");
    assert_eq!(give(&mail("a@other.example", "invoice")), "deliver");
    assert_eq!(give(&mail("a@other.example", "Urgent!")), "forward");
    let big = crlf(&format!(
        "From: a@other.example\nSubject: x\n\n{}\n",
        "0123456789\n".repeat(1200)
    ));
    assert_eq!(give(&big), "forward");
    let attachment = crlf(
        "From: a@other.example\nSubject: x\nContent-Type: application/pdf; name=a.pdf\nContent-Disposition: attachment; filename=a.pdf\n\nx\n",
    );
    assert_eq!(give(&attachment), "deliver");
    for (target, count) in [
        ("keiri", 1),
        ("archive", 1),
        ("fast", 2),
        ("files", 1),
        ("paused", 0),
    ] {
        let target = format!("{target}@else.example");
        eventually(&target, || {
            (relay.mails_to(&target).len() == count).then_some(())
        });
    }
    daemon.await_empty_queue();
    assert_eq!(relay.mails_to("fast@else.example").len(), 2);
    assert_eq!(daemon.mailbox(TARO).len(), 3);
}

#[test]
fn a_forward_refused_for_good_ends_in_its_owners_mailbox_with_a_note() {
    let relay = Hop::smtp();
    relay.at_rcpt("home@else.example", "550 5.1.1 no such mailbox");
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, &forward_all(false))
        .start();
    let raw = mail("a@friend.example", "x");
    assert_eq!(
        daemon.give("a@friend.example", TARO, &raw).verdict(),
        "forward"
    );
    let stored = daemon.await_mail(TARO);
    let note = field(&stored, "X-Sekimori-Forward-Failed").unwrap();
    assert!(note.contains("550"), "{note}");
    assert!(stored.ends_with(String::from_utf8(raw).unwrap().replace('\r', "").as_bytes()));
    daemon.await_empty_queue();
    assert!(relay.mails().is_empty());
}

#[test]
fn a_refusal_after_the_data_counts_as_well() {
    let relay = Hop::smtp();
    relay.at_end("home@else.example", "554 5.6.0 we do not like it");
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, &forward_all(false))
        .start();
    daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
    assert!(field(&daemon.await_mail(TARO), "X-Sekimori-Forward-Failed").is_some());
}

#[test]
fn a_refused_forward_whose_copy_is_there_puts_no_second_one() {
    let relay = Hop::smtp();
    relay.at_rcpt("home@else.example", "550 5.1.1 no such mailbox");
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, &forward_all(true))
        .start();
    daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
    daemon.await_empty_queue();
    assert!(field(&daemon.await_mail(TARO), "X-Sekimori-Forward-Failed").is_none());
}

#[test]
fn the_other_targets_of_a_rule_are_served() {
    let relay = Hop::smtp();
    relay.at_rcpt("gone@else.example", "550 5.1.1 no such mailbox");
    relay.at_rcpt("slow@else.example", "450 4.2.0 later");
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, "forwarding:\n  mode: all\n  all: {to: [gone@else.example, slow@else.example, home@else.example], keep_copy: false}\n")
        .start();
    daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
    relay.await_mail("home@else.example");
    assert!(field(&daemon.await_mail(TARO), "X-Sekimori-Forward-Failed").is_some());
    eventually("only the slow target is left", || {
        let queue = daemon.queue();
        (queue.len() == 1 && queue[0]["recipients"] == serde_json::json!(["slow@else.example"]))
            .then_some(())
    });
    relay.relent();
    relay.await_mail("slow@else.example");
    daemon.await_empty_queue();
    assert_eq!(daemon.mailbox(TARO).len(), 1);
    assert_eq!(relay.mails_to("home@else.example").len(), 1);
}

#[test]
fn a_forward_that_nobody_takes_in_time_ends_in_the_mailbox() {
    let daemon = Site::new()
        .with_relay(closed_port())
        .with("give_up: 1h", "give_up: 2s")
        .with_mailbox(TARO, &forward_all(false))
        .start();
    daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
    assert!(field(&daemon.await_mail(TARO), "X-Sekimori-Forward-Failed").is_some());
    daemon.await_empty_queue();
}

#[test]
fn a_forward_that_comes_back_is_kept_and_not_sent_again() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, &forward_all(false))
        .start();
    daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
    let sent = relay.await_mail("home@else.example");
    let back = [
        b"Received: from else.example by mta.example.net; Sun, 22 Nov 2026 09:00:01 +0900\r\n"
            .as_slice(),
        &sent.data,
    ]
    .concat();
    assert_eq!(daemon.give(&sent.sender, TARO, &back).verdict(), "deliver");
    daemon.await_empty_queue();
    assert_eq!(relay.mails().len(), 1);
    assert_eq!(daemon.mailbox(TARO).len(), 1);
}

#[test]
fn two_mailboxes_that_forward_to_each_other_stop() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, &forward_all(false).replace("home@else.example", JIRO))
        .with_mailbox(JIRO, &forward_all(false).replace("home@else.example", TARO))
        .start();
    daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
    let first = relay.await_mail(JIRO);
    assert_eq!(
        daemon.give(&first.sender, JIRO, &first.data).verdict(),
        "forward"
    );
    let second = relay.await_mail(TARO);
    assert_eq!(
        daemon.give(&second.sender, TARO, &second.data).verdict(),
        "deliver"
    );
    daemon.await_empty_queue();
    assert_eq!(relay.mails().len(), 2);
    assert_eq!(daemon.mailbox(TARO).len(), 1);
}

#[test]
fn too_many_hops_end_a_loop_without_our_mark() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, &forward_all(false))
        .start();
    let hops = "Received: from a by b; Sun, 22 Nov 2026 09:00:00 +0900\n".repeat(150);
    let raw = crlf(&format!("{hops}From: a@friend.example\nSubject: x\n\nx\n"));
    assert_eq!(
        daemon.give("a@friend.example", TARO, &raw).verdict(),
        "deliver"
    );
    assert_eq!(daemon.mailbox(TARO).len(), 1);
}

#[test]
fn null_sender_mail_is_forwarded_with_the_null_sender() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, &forward_all(true))
        .start();
    daemon.give("", TARO, &mail("mailer-daemon@friend.example", "failure"));
    assert_eq!(relay.await_mail("home@else.example").sender, "");
}
