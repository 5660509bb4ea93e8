//! What each stage decides and how the reply says it.

use crate::harness::{Daemon, JIRO, Site, TARO, crlf, eventually, mail};
use crate::hop::Hop;

const RULES: &str = "\
aliases: [t.yamada@east.example.jp]
announcements: true
reject:
  from_suffixes: |
    @spam.example
    .bulk.example
    noreply@shop.example
  subject_contains: |
    未承諾広告
    [広告]
    #1 offer
    アダルト
  headers: [from_missing, from_empty, from_empty_address, subject_missing, subject_empty]
allow:
  senders: |
    partner@example.com
    @example.or.jp
virus: {scan: true}
spam: {scan: true, mark_subject: \"[spam]\", quarantine: true, notice: off}
";

fn daemon() -> Daemon {
    Site::new().with_mailbox(TARO, RULES).start()
}

#[test]
fn every_stage_names_itself_in_the_reply() {
    let daemon = daemon();
    let check = |fields: &str, expected: &str| {
        let raw = crlf(&format!("{fields}\n\nHello.\n"));
        let answer = daemon.give("a@sender.example", TARO, &raw);
        assert_eq!(answer.verdict(), expected, "{fields}");
        let named = format!("250 2.0.0 <{TARO}> q={} verdict=", answer.id());
        assert!(answer.0.starts_with(&named), "{}", answer.0);
    };
    let suffixes = "quarantine/reject.from_suffixes";
    let subject = "quarantine/reject.subject_contains";
    let headers = "quarantine/reject.headers";
    for (fields, expected) in [
        ("From: a@friend.example\nSubject: hello", "deliver"),
        ("From: a@spam.example\nSubject: hello", suffixes),
        ("From: A@SPAM.EXAMPLE\nSubject: hello", suffixes),
        ("From: a@notspam.example\nSubject: hello", "deliver"),
        ("From: a@x.bulk.example\nSubject: hello", suffixes),
        ("From: a@bulk.example\nSubject: hello", "deliver"),
        ("From: noreply@shop.example\nSubject: hello", suffixes),
        ("From: xnoreply@shop.example\nSubject: hello", suffixes),
        (
            "From: b@friend.example, a@spam.example\nSubject: hello",
            suffixes,
        ),
        (
            "From: \"a@spam.example\" <b@friend.example>\nSubject: hello",
            "deliver",
        ),
        ("From: a@friend.example\nSubject: 未承諾広告 です", subject),
        (
            "From: a@friend.example\nSubject: =?UTF-8?B?5pyq5om/6Ku+5bqD5ZGK?=",
            subject,
        ),
        (
            "From: a@friend.example\nSubject: =?ISO-2022-JP?B?GyRCTCQ+NUJ6OS05cBsoQg==?=",
            subject,
        ),
        ("From: a@friend.example\nSubject: Re: [広告] x", subject),
        (
            "From: a@friend.example\nSubject: the #1  Offer of the day",
            subject,
        ),
        ("From: a@friend.example\nSubject: ＃１ ＯＦＦＥＲ", subject),
        ("From: a@friend.example\nSubject: ｱﾀﾞﾙﾄ", subject),
        ("From: a@friend.example\nSubject: ｱﾀ゛ﾙﾄ", subject),
        ("From: a@friend.example\nSubject: アダ\u{200b}ルト", subject),
        ("Subject: hello", headers),
        ("From:\nSubject: hello", headers),
        ("From: <>\nSubject: hello", headers),
        ("From: nobody\nSubject: hello", headers),
        ("From: a@friend.example", headers),
        ("From: a@friend.example\nSubject:", headers),
        ("From: a@friend.example\nSubject: \n ", headers),
        (
            "From: a@friend.example\nSubject: hello\nX-Spam-Flag: YES",
            "quarantine/spam",
        ),
        (
            "From: a@friend.example\nSubject: hello\nX-Spam-Flag: NO",
            "deliver",
        ),
        (
            "From: partner@example.com\nSubject: hello\nX-Spam-Flag: YES",
            "deliver",
        ),
        (
            "From: xpartner@example.com\nSubject: hello\nX-Spam-Flag: YES",
            "quarantine/spam",
        ),
        (
            "From: a@example.or.jp\nSubject: hello\nX-Spam-Flag: YES",
            "deliver",
        ),
        ("From: a@example.or.jp\nSubject: 未承諾広告", subject),
        (
            "From: a@friend.example\nSubject: hello\nX-Virus-Status: Infected (Eicar)",
            "replace/virus",
        ),
        (
            "From: a@example.or.jp\nSubject: hello\nX-Virus-Status: Infected (Eicar)",
            "replace/virus",
        ),
        (
            "From: a@friend.example\nSubject: hello\nX-Virus-Status: Clean",
            "deliver",
        ),
    ] {
        check(fields, expected);
    }
}

#[test]
fn allow_before_reject_wins_over_the_reject_stages_and_not_over_the_virus_stage() {
    let rules = RULES.replace("allow:\n", "allow:\n  before_reject: true\n");
    let daemon = Site::new().with_mailbox(TARO, &rules).start();
    let give = |fields: &str| {
        daemon
            .give("a@s.example", TARO, &crlf(&format!("{fields}\n\nx\n")))
            .verdict()
    };
    assert_eq!(
        give("From: partner@example.com\nSubject: 未承諾広告"),
        "deliver"
    );
    assert_eq!(give("From: partner@example.com"), "deliver");
    assert_eq!(
        give("From: other@example.com\nSubject: 未承諾広告"),
        "quarantine/reject.subject_contains"
    );
    assert_eq!(
        give("From: partner@example.com\nSubject: x\nX-Virus-Status: Infected"),
        "replace/virus"
    );
}

#[test]
fn spam_that_is_not_held_is_marked() {
    let daemon = Site::new()
        .with_mailbox(
            TARO,
            "spam: {scan: true, mark_subject: \"[spam]\", quarantine: false}\n",
        )
        .start();
    let raw = crlf("From: a@friend.example\nSubject: hello\nX-Spam-Flag: YES\n\nx\n");
    assert_eq!(daemon.give("a@s.example", TARO, &raw).verdict(), "deliver");
    let stored = String::from_utf8(daemon.await_mail(TARO)).unwrap();
    assert!(
        stored.contains("\nSubject: [spam] hello\nX-Spam-Flag: YES\n\nx\n"),
        "{stored}"
    );
}

#[test]
fn a_mail_sent_on_without_a_copy_is_a_forward() {
    let relay = Hop::smtp();
    let forwarding =
        "forwarding:\n  mode: all\n  all: {to: [home@else.example], keep_copy: false}\n";
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, forwarding)
        .start();
    let answer = daemon.give("a@s.example", TARO, &mail("a@friend.example", "hello"));
    assert_eq!(answer.verdict(), "forward");
    relay.await_mail("home@else.example");
    assert!(daemon.mailbox(TARO).is_empty());
}

#[test]
fn a_client_that_is_not_named_is_turned_away() {
    let daemon = Site::new()
        .with(
            "- {name: smtp, protocol: smtp, listen: \"127.0.0.1:0\", clients: [127.0.0.0/8]}",
            "- {name: smtp, protocol: smtp, listen: \"127.0.0.1:0\", clients: [127.0.0.2/32]}",
        )
        .with_mailbox(TARO, RULES)
        .start();
    // Who may connect is who is trusted: another client cannot forge an upstream header.
    let greeting = daemon.smtp().greeting;
    assert!(greeting.starts_with("554 "), "{greeting}");
}

/// A milter adds its field at the end, behind as many as the sender cared to write.
#[test]
fn fields_beyond_the_bounds_hide_no_verdict_of_the_scanner_before_us() {
    let daemon = Site::new()
        .with_mailbox(TARO, "virus: {scan: true}\n")
        .start();
    let many = "A: b\n".repeat(1100);
    let raw = crlf(&format!(
        "From: a@friend.example\nSubject: x\n{many}X-Virus-Status: Infected (Eicar)\n\nx\n"
    ));
    let answer = daemon.give("a@s.example", TARO, &raw);
    assert_eq!(answer.verdict(), "replace/virus");
}

#[test]
fn announcements_pass_the_rules_of_their_readers_only() {
    let daemon = Site::new()
        .with(
            "delivery:\n",
            "announcement_senders: |\n  @announce.example.jp\ndelivery:\n",
        )
        .with_mailbox(TARO, RULES)
        .with_mailbox(
            JIRO,
            &RULES
                .replace("announcements: true", "announcements: false")
                .replace("t.yamada", "j.yamada"),
        )
        .start();
    let raw = crlf("From: news@announce.example.jp\nSubject: 未承諾広告\nX-Spam-Flag: YES\n\nx\n");
    let verdicts: Vec<String> = daemon
        .hand_over("news@announce.example.jp", &[TARO, JIRO], &raw)
        .iter()
        .map(|answer| answer.verdict())
        .collect();
    assert_eq!(verdicts, ["deliver", "quarantine/reject.subject_contains"]);
}

#[test]
fn two_hundred_mailboxes_get_their_own_decision_from_one_mail() {
    let mut site = Site::new();
    let recipients: Vec<String> = (0..200)
        .map(|n| format!("user{n}@east.example.jp"))
        .collect();
    for (n, recipient) in recipients.iter().enumerate() {
        let settings = match n % 5 {
            0 => "reject: {subject_contains: [invoice]}\n",
            1 => "reject: {from_suffixes: [\"@supplier.example\"]}\n",
            2 => "spam: {scan: true, quarantine: true}\n",
            3 => "spam: {scan: true, quarantine: false, mark_subject: \"[junk]\"}\n",
            _ => "spam: {scan: false}\n",
        };
        site = site.with_mailbox(recipient, settings);
    }
    let daemon = site.start();
    let raw = crlf("From: a@supplier.example\nSubject: Invoice 7\nX-Spam-Flag: YES\n\nx\n");
    let names: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let answers = daemon.hand_over("a@supplier.example", &names, &raw);
    let mut ids = std::collections::HashSet::new();
    for (n, (answer, recipient)) in answers.iter().zip(&recipients).enumerate() {
        let expected = [
            "quarantine/reject.subject_contains",
            "quarantine/reject.from_suffixes",
            "quarantine/spam",
            "deliver",
            "deliver",
        ];
        assert_eq!(answer.verdict(), expected[n % 5], "{recipient}");
        assert!(
            answer.0.contains(&format!(" <{recipient}> ")),
            "{}",
            answer.0
        );
        assert!(ids.insert(answer.id()), "q= is one for each mailbox");
    }
    assert_eq!(daemon.quarantine().len(), 120);
    let subject =
        |n: usize| crate::hop::field(&daemon.await_mail(&recipients[n]), "subject").unwrap();
    assert_eq!(subject(3), "[junk] Invoice 7");
    assert_eq!(subject(4), "Invoice 7");
    assert!(daemon.mailbox(&recipients[0]).is_empty());
}

#[test]
fn a_recipient_twice_gets_two_replies_and_one_delivery() {
    let daemon = daemon();
    let answers = daemon.hand_over(
        "a@s.example",
        &[TARO, JIRO, TARO],
        &mail("a@friend.example", "x"),
    );
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0], answers[2]);
    assert_ne!(answers[0].id(), answers[1].id());
    assert_eq!(daemon.mailbox(TARO).len(), 1);
    assert_eq!(daemon.mailbox(JIRO).len(), 1);
}

#[test]
fn names_of_one_mailbox() {
    let daemon = daemon();
    let raw = mail("a@friend.example", "未承諾広告");
    let held = "quarantine/reject.subject_contains";
    for name in [
        "taro",
        "taro+news@east.example.jp",
        "t.yamada@east.example.jp",
        "TARO@EAST.EXAMPLE.JP",
    ] {
        let answer = daemon.give(
            "a@s.example",
            name,
            &crlf(&format!("X: {name}\n{}", String::from_utf8_lossy(&raw))),
        );
        assert_eq!(answer.verdict(), held, "{name}");
    }
    for entry in daemon.quarantine() {
        assert_eq!(entry["mailbox"], TARO);
    }
    assert_eq!(
        daemon
            .give("a@s.example", "taro@west.example.jp", &raw)
            .verdict(),
        "deliver"
    );
}

#[test]
fn aliases_of_one_mailbox_in_one_mail_are_one_delivery() {
    let daemon = daemon();
    let answers = daemon.hand_over(
        "a@s.example",
        &[TARO, "t.yamada@east.example.jp"],
        &mail("a@friend.example", "x"),
    );
    assert_eq!(answers[0].verdict(), "deliver");
    assert_eq!(answers[1].verdict(), "deliver");
    assert_eq!(answers[0].id(), answers[1].id());
    assert_eq!(daemon.mailbox(TARO).len(), 1);
}

#[test]
fn smtp_answers_once() {
    let daemon = daemon();
    let mut session = daemon.smtp();
    let raw = |subject: &str| mail("a@friend.example", subject);
    let one = session.submit("a@s.example", &[TARO], &raw("未承諾広告"));
    assert_eq!(one.verdict(), "quarantine/reject.subject_contains");
    let agreed = session.submit("a@s.example", &[TARO, JIRO], &raw("hello"));
    assert_eq!(agreed.verdict(), "deliver");
    let mixed = session.submit("a@s.example", &[TARO, JIRO], &raw("未承諾広告"));
    assert_eq!(mixed.verdict(), "mixed");
    session.expect("QUIT", "221 2.0.0");
    assert_eq!(daemon.mailbox(JIRO).len(), 2);
}

#[test]
fn a_virus_is_replaced_by_a_report_and_held() {
    let daemon = daemon();
    let raw = crlf(
        "From: a@friend.example\nTo: taro@east.example.jp\nSubject: photo\nX-Virus-Status: Infected (Eicar)\n\nEVIL-BODY\n",
    );
    let answer = daemon.give("a@s.example", TARO, &raw);
    assert_eq!(answer.verdict(), "replace/virus");
    let report = String::from_utf8(daemon.await_mail(TARO)).unwrap();
    assert!(!report.contains("EVIL-BODY"), "{report}");
    assert!(
        crate::hop::field(report.as_bytes(), "auto-submitted").is_some(),
        "{report}"
    );
    let held = daemon.one(&["quarantine", "show", &answer.id()]);
    assert_eq!(held["class"], "virus");
    assert_eq!(held["stage"], "virus");
    let exported = daemon
        .cli(&["quarantine", "export", &answer.id()])
        .success();
    assert_eq!(exported.stdout, raw);
}

#[test]
fn each_notice_tells_of_held_spam() {
    let daemon = Site::new()
        .with_mailbox(
            TARO,
            "language: en\nspam: {scan: true, quarantine: true, notice: each}\n",
        )
        .start();
    let raw = crlf("From: a@friend.example\nSubject: cheap pills\nX-Spam-Flag: YES\n\nx\n");
    let answer = daemon.give("a@s.example", TARO, &raw);
    assert_eq!(answer.verdict(), "quarantine/spam");
    let notice = daemon.await_mail(TARO);
    assert_eq!(crate::hop::field(&notice, "return-path").unwrap(), "<>");
    assert!(
        crate::hop::field(&notice, "auto-submitted")
            .unwrap()
            .starts_with("auto-")
    );
    eventually("the notice is out of the queue", || {
        daemon.queue().is_empty().then_some(())
    });
}

#[test]
fn hostile_header_text_reaches_neither_reply_nor_log_unescaped() {
    let daemon = daemon();
    let raw = b"From: \"\x1b[2J\" <a@friend.example>\r\nSubject: a\x1b]0;x\x07 level=error msg=forged =?UTF-8?Q?b=0D=0Alevel=3Derror_forged?=\r\nMessage-ID: <\x1b[31m@x>\r\n\r\nx\r\n";
    let answer = daemon.give("a@s.example", TARO, raw);
    assert_eq!(answer.verdict(), "deliver");
    let log = daemon.log();
    assert!(!log.contains('\u{1b}') && !log.contains('\u{7}'), "{log:?}");
    assert!(
        !log.lines()
            .any(|line| line.starts_with("level=error_forged")
                || line.starts_with("level=error forged")),
        "{log}"
    );
}

#[test]
fn a_mail_over_the_mime_bounds_is_decided_on_its_header_and_delivered_whole() {
    let daemon = daemon();
    let mut raw = b"From: a@friend.example\r\nSubject: deep\r\nContent-Type: multipart/mixed; boundary=b0\r\n\r\n".to_vec();
    for depth in 0..200 {
        raw.extend(
            format!(
                "--b{depth}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n",
                depth + 1
            )
            .into_bytes(),
        );
    }
    raw.extend_from_slice(b"end\r\n");
    let answer = daemon.give("a@s.example", TARO, &raw);
    assert_eq!(answer.verdict(), "deliver");
    let stored = daemon.await_mail(TARO);
    let expected = String::from_utf8(raw)
        .unwrap()
        .replace("\r\n", "\n")
        .into_bytes();
    assert!(stored.ends_with(&expected));
    let why = daemon.one(&["why", &answer.id()]);
    assert!(!why["bounds"].is_null(), "its record says so: {why}");
}

#[test]
fn verified_senders_need_a_verification() {
    let daemon = Site::new()
        .with_mailbox(
            TARO,
            "allow: {verified_senders: [bank@example.net]}\nspam: {scan: true, quarantine: true}\n",
        )
        .start();
    let raw = crlf(
        "From: bank@example.net\nAuthentication-Results: mx.example.jp; dmarc=pass header.from=example.net\nSubject: x\nX-Spam-Flag: YES\n\nx\n",
    );
    assert_eq!(
        daemon.give("bank@example.net", TARO, &raw).verdict(),
        "quarantine/spam"
    );
}

#[test]
fn functions_that_are_off_do_nothing() {
    let daemon = Site::new().start();
    let raw = crlf("X-Spam-Flag: YES\nX-Virus-Status: Infected\n\nno From, no Subject\n");
    assert_eq!(daemon.give("a@s.example", TARO, &raw).verdict(), "deliver");
    assert!(
        daemon
            .await_mail(TARO)
            .ends_with(b"\n\nno From, no Subject\n")
    );
}

#[test]
fn an_infected_original_need_not_be_kept() {
    let daemon = Site::new()
        .with(
            "    upstream: {header: X-Virus-Status, infected: Infected}\n",
            "    upstream: {header: X-Virus-Status, infected: Infected}\n    keep_original: false\n",
        )
        .with_mailbox(TARO, "virus: {scan: true}\n")
        .start();
    let raw = crlf("From: a@b.example\nSubject: x\nX-Virus-Status: Infected\n\nEVIL-BODY\n");
    assert_eq!(
        daemon.give("a@s.example", TARO, &raw).verdict(),
        "replace/virus"
    );
    daemon.await_mail(TARO);
    assert!(daemon.quarantine().is_empty());
    eventually("the report is out of the queue", || {
        daemon.queue().is_empty().then_some(())
    });
    let kept = crate::harness::files_below(&daemon.path(""))
        .iter()
        .filter_map(|path| std::fs::read(path).ok())
        .any(|bytes| bytes.windows(9).any(|window| window == b"EVIL-BODY"));
    assert!(!kept);
}
