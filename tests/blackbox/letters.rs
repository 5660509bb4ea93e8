//! Stages 8 and 9: receipt notices and auto-replies.

use crate::harness::{Daemon, Site, TARO, crlf, mail};
use crate::hop::Hop;

const AWAY: &str = "\
language: en
auto_reply:
  enabled: true
  subject: \"Auto: %{subject}\"
  message: |
    I am away.
  per_sender:
    - senders: |
        @supplier.example
      message: |
        Please phone.
";
const NOTICE: &str = "language: en\nnotify: {to: [mobile@else.example, pc@else.example], fields: [from, to, subject, attachment, size]}\n";

fn with(settings: &str) -> (Daemon, Hop) {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, settings)
        .start();
    (daemon, relay)
}

/// Gives `raw` and a mail from a probe that is answered; how many answers came besides the probe's.
fn answers(daemon: &Daemon, relay: &Hop, sender: &str, raw: &[u8]) -> usize {
    static PROBE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let before = relay.mails().len();
    daemon.give(sender, TARO, raw);
    let probe = format!(
        "probe{}@friend.example",
        PROBE.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    );
    daemon.give(&probe, TARO, &mail(&probe, "probe"));
    relay.await_mail(&probe);
    daemon.await_empty_queue();
    relay.mails().len() - before - 1
}

#[test]
fn a_notice_goes_to_each_address_and_tells_the_fields() {
    let (daemon, relay) = with(NOTICE);
    let raw = crlf(
        "From: \"山田\" <a@friend.example>\nTo: taro@east.example.jp\nSubject: =?UTF-8?B?44GT44KT44Gr44Gh44Gv?=\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=a.pdf\n\nSECRET-BODY\n",
    );
    assert_eq!(
        daemon.give("a@friend.example", TARO, &raw).verdict(),
        "deliver"
    );
    for to in ["mobile@else.example", "pc@else.example"] {
        let notice = relay.await_mail(to);
        assert_eq!(notice.sender, "", "null reverse path");
        assert_eq!(notice.recipients, [to]);
        assert!(
            notice.field("auto-submitted").unwrap().starts_with("auto-"),
            "{}",
            notice.text()
        );
        assert_eq!(notice.field("to").unwrap(), to);
        assert!(
            notice
                .field("from")
                .unwrap()
                .contains("mailer-daemon@example.jp")
        );
        for name in ["date", "message-id", "subject", "mime-version"] {
            assert!(
                notice.field(name).is_some_and(|value| !value.is_empty()),
                "{name} in {}",
                notice.text()
            );
        }
        let head = notice.text().split("\r\n\r\n").next().unwrap().to_owned();
        assert!(head.is_ascii(), "{head}");
        assert!(!notice.text().contains("SECRET-BODY"));
        let body = decoded_body(&notice.data);
        assert!(
            body.contains("a@friend.example") && body.contains("こんにちは"),
            "{body}"
        );
        assert!(
            body.contains(&raw.len().to_string()) || body.contains("bytes") || body.contains('B'),
            "{body}"
        );
    }
}

#[test]
fn notice_and_reply_go_out_for_mail_that_is_forwarded_without_a_copy() {
    let relay = Hop::smtp();
    let settings = format!(
        "{}notify: {{to: [mobile@else.example]}}\nforwarding:\n  mode: all\n  all: {{to: [home@else.example], keep_copy: false}}\n",
        AWAY
    );
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, &settings)
        .start();
    assert_eq!(
        daemon
            .give("a@friend.example", TARO, &mail("a@friend.example", "x"))
            .verdict(),
        "forward"
    );
    for to in [
        "home@else.example",
        "mobile@else.example",
        "a@friend.example",
    ] {
        relay.await_mail(to);
    }
}

#[test]
fn a_reply_has_the_header_that_stops_loops() {
    let (daemon, relay) = with(AWAY);
    let raw = crlf(
        "From: someone-else@friend.example\nReply-To: reply-to@friend.example\nTo: taro@east.example.jp\nSubject: =?UTF-8?B?44GT44KT44Gr44Gh44Gv?=\nMessage-ID: <m2@friend.example>\nReferences: <m0@friend.example> <m1@friend.example>\n\nx\n",
    );
    daemon.give("a@friend.example", TARO, &raw);
    let reply = relay.await_mail("a@friend.example");
    assert_eq!(relay.mails().len(), 1, "to the reverse path alone");
    assert_eq!(reply.sender, "");
    assert!(
        reply
            .field("auto-submitted")
            .unwrap()
            .starts_with("auto-replied"),
        "{}",
        reply.text()
    );
    assert_eq!(reply.field("in-reply-to").unwrap(), "<m2@friend.example>");
    assert_eq!(
        reply.field("references").unwrap(),
        "<m0@friend.example> <m1@friend.example> <m2@friend.example>"
    );
    assert!(reply.field("from").unwrap().contains(TARO));
    assert!(reply.field("to").unwrap().contains("a@friend.example"));
    let subject = reply.field("subject").unwrap();
    assert!(
        subject.starts_with("Auto: ") || subject.starts_with("=?"),
        "{subject}"
    );
    assert!(subject.is_ascii());
    assert!(decoded_body(&reply.data).contains("I am away."));
}

#[test]
fn one_reply_a_sender_in_a_day_whatever_its_text() {
    let (daemon, relay) = with(AWAY);
    let give = |sender: &str| answers(&daemon, &relay, sender, &mail(sender, "x"));
    assert_eq!(give("a@friend.example"), 1);
    assert_eq!(give("a@friend.example"), 0);
    assert_eq!(give("A@Friend.Example"), 0);
    assert_eq!(give("b@supplier.example"), 1);
    assert_eq!(give("b@supplier.example"), 0);
    let special = relay.await_mail("b@supplier.example");
    assert!(decoded_body(&special.data).contains("Please phone."));
}

#[test]
fn one_reply_a_day_also_over_a_crash() {
    let (mut daemon, relay) = with(AWAY);
    daemon.give("a@friend.example", TARO, &mail("a@friend.example", "1"));
    relay.await_mail("a@friend.example");
    daemon.kill();
    daemon.start_again();
    assert_eq!(
        answers(
            &daemon,
            &relay,
            "a@friend.example",
            &mail("a@friend.example", "2")
        ),
        0
    );
}

#[test]
fn two_mails_of_one_sender_at_once_get_one_reply() {
    let (daemon, relay) = with(AWAY);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x")));
        }
    });
    relay.await_mail("a@friend.example");
    assert_eq!(
        answers(
            &daemon,
            &relay,
            "a@friend.example",
            &mail("a@friend.example", "x")
        ),
        0
    );
    assert_eq!(relay.mails_to("a@friend.example").len(), 1);
}

#[test]
fn what_is_never_answered() {
    let (daemon, relay) = with(AWAY);
    let usual = "From: a@friend.example\nTo: taro@east.example.jp\nSubject: x";
    for (sender, fields) in [
        ("", usual.to_owned()),
        ("noreply@friend.example", usual.to_owned()),
        ("owner-list@friend.example", usual.to_owned()),
        (TARO, usual.to_owned()),
        (
            "a@friend.example",
            format!("{usual}\nAuto-Submitted: auto-generated"),
        ),
        (
            "a@friend.example",
            format!("{usual}\nList-Id: <x.friend.example>"),
        ),
        ("a@friend.example", format!("{usual}\nPrecedence: bulk")),
        (
            "a@friend.example",
            format!("{usual}\nX-Auto-Response-Suppress: All"),
        ),
        (
            "a@friend.example",
            format!("{usual}\nContent-Type: multipart/report; boundary=x"),
        ),
        (
            "a@friend.example",
            "From: a@friend.example\nTo: undisclosed-recipients:;\nSubject: x".to_owned(),
        ),
        ("a@friend.example", format!("{usual}\nX-Spam-Flag: YES")),
    ] {
        let settings = format!("{AWAY}spam: {{scan: true, quarantine: false}}\n");
        daemon.set_mailbox(TARO, &settings);
        let raw = crlf(&format!("{fields}\n\nx\n"));
        assert_eq!(
            answers(&daemon, &relay, sender, &raw),
            0,
            "{sender} {fields}"
        );
    }
}

#[test]
fn a_reply_waits_for_its_start_and_stops_at_its_end() {
    for (period, expected) in [
        ("start: 2999-01-01T00:00:00+09:00", 0),
        ("end: 2001-01-01T00:00:00+09:00", 0),
        (
            "start: 2001-01-01T00:00:00+09:00\n  end: 2999-01-01T00:00:00+09:00",
            1,
        ),
    ] {
        let (daemon, relay) =
            with(&AWAY.replace("enabled: true", &format!("enabled: true\n  {period}")));
        daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
        daemon.await_empty_queue();
        assert_eq!(
            relay.mails_to("a@friend.example").len(),
            expected,
            "{period}"
        );
    }
}

#[test]
fn header_text_of_a_mail_cannot_add_fields_to_ours() {
    let (daemon, relay) = with(&format!("{AWAY}notify: {{to: [mobile@else.example]}}\n"));
    let raw = crlf(
        "From: =?UTF-8?Q?x=0D=0ABcc:_evil@evil.example?= <a@friend.example>\nTo: taro@east.example.jp\nSubject: =?UTF-8?Q?hi=0D=0ABcc:_evil@evil.example=0D=0A=0D=0Abody?=\nMessage-ID: <a\tb@x>\n\nx\n",
    );
    daemon.give("a@friend.example", TARO, &raw);
    for to in ["mobile@else.example", "a@friend.example"] {
        let letter = relay.await_mail(to);
        assert!(letter.field("bcc").is_none(), "{}", letter.text());
    }
}

#[test]
fn a_letter_that_the_relay_refuses_is_gone_and_not_in_the_mailbox() {
    let (daemon, relay) = with(AWAY);
    relay.at_rcpt("a@friend.example", "550 5.1.1 nobody");
    daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
    daemon.await_empty_queue();
    assert_eq!(daemon.mailbox(TARO).len(), 1);
    assert!(relay.mails().is_empty());
}

/// The text of a one-part letter of ours.
fn decoded_body(letter: &[u8]) -> String {
    let message = mail_parser::MessageParser::default().parse(letter).unwrap();
    message.body_text(0).unwrap().into_owned()
}
