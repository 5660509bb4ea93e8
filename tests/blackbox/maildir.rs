//! What lies in a Maildir: our header fields, then the untouched mail.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Site, TARO, crlf, files, mail};
use crate::hop::{Hop, field};

#[test]
fn our_fields_stand_before_the_untouched_octets() {
    let daemon = Site::new().start();
    let raw = crlf(
        "Received: from a by b; Sun, 22 Nov 2026 09:00:00 +0900\nX-Odd :  kept  as is \nFrom: a@friend.example\nSubject: =?x?=\n folded\n\nbody \n\n.\ntail without sense\n",
    );
    daemon.give("bounce@s.example", "taro+news@east.example.jp", &raw);
    let stored = daemon.await_mail(TARO);
    assert!(!stored.contains(&b'\r'));
    let expected = String::from_utf8(raw).unwrap().replace('\r', "");
    let text = String::from_utf8(stored).unwrap();
    let ours = text
        .strip_suffix(&expected)
        .unwrap_or_else(|| panic!("changed: {text}"));
    let names: Vec<&str> = ours
        .lines()
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(names, ["Return-Path", "Delivered-To", "Received"], "{ours}");
    assert!(
        ours.starts_with("Return-Path: <bounce@s.example>\n"),
        "{ours}"
    );
    assert!(ours.contains("by mx.example.jp"), "{ours}");
    assert!(ours.contains("with LMTP"), "{ours}");
}

#[test]
fn an_older_return_path_is_replaced() {
    let daemon = Site::new().start();
    let raw = crlf(
        "Return-Path: <old@s.example>\nFrom: a@friend.example\nReturn-Path:\n <older@s.example>\nSubject: x\n\nReturn-Path: <body>\n",
    );
    daemon.give("new@s.example", TARO, &raw);
    let stored = String::from_utf8(daemon.await_mail(TARO)).unwrap();
    assert!(
        stored.starts_with("Return-Path: <new@s.example>\n"),
        "{stored}"
    );
    assert!(!stored.contains("old@s.example"), "{stored}");
    assert!(stored.ends_with("\n\nReturn-Path: <body>\n"), "{stored}");
}

#[test]
fn eight_bit_and_odd_octets_survive() {
    let daemon = Site::new().start();
    let mut raw = b"From: a@friend.example\r\nSubject: \x83e\x83X\x83g\r\n\r\n".to_vec();
    raw.extend((0u8..=255).filter(|byte| *byte != b'\r' && *byte != b'\n'));
    raw.extend_from_slice(b"\r\n");
    daemon.give("a@s.example", TARO, &raw);
    let expected: Vec<u8> = raw.iter().copied().filter(|byte| *byte != b'\r').collect();
    assert!(daemon.await_mail(TARO).ends_with(&expected));
}

#[test]
fn the_mark_stands_on_the_local_copy_and_never_on_the_forward() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(
            TARO,
            "spam: {scan: true, quarantine: false, mark_subject: \"[spam]\"}\nforwarding:\n  mode: all\n  all: {to: [home@else.example], keep_copy: true}\n",
        )
        .start();
    let raw = crlf(
        "From: a@friend.example\nX-Spam-Flag: YES\nSubject: =?UTF-8?B?44GT44KT44Gr44Gh44Gv?=\n\nx\n",
    );
    assert_eq!(daemon.give("a@s.example", TARO, &raw).verdict(), "deliver");
    let stored = daemon.await_mail(TARO);
    assert_eq!(
        field(&stored, "subject").unwrap(),
        "[spam] =?UTF-8?B?44GT44KT44Gr44Gh44Gv?="
    );
    let forward = relay.await_mail("home@else.example");
    assert!(forward.data.ends_with(&raw), "{}", forward.text());
}

#[test]
fn a_japanese_mark_is_encoded() {
    let daemon = Site::new()
        .with_mailbox(
            TARO,
            "spam: {scan: true, quarantine: false, mark_subject: \"【迷惑】\"}\n",
        )
        .start();
    let raw = crlf("From: a@friend.example\nX-Spam-Flag: YES\nSubject: hello\n\nx\n");
    daemon.give("a@s.example", TARO, &raw);
    let subject = field(&daemon.await_mail(TARO), "subject").unwrap();
    assert!(subject.is_ascii(), "{subject}");
    assert!(subject.ends_with(" hello"), "{subject}");
}

#[test]
fn a_maildir_is_private_and_leaves_nothing_in_tmp() {
    let daemon = Site::new().start();
    daemon.give("a@s.example", TARO, &mail("a@friend.example", "x"));
    let maildir = daemon.path("mail/east.example.jp/taro");
    for folder in ["new", "cur", "tmp"] {
        let mode = std::fs::metadata(maildir.join(folder))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{folder} {mode:o}");
    }
    let stored = files(&maildir.join("new"));
    assert_eq!(stored.len(), 1);
    assert_eq!(
        std::fs::metadata(&stored[0]).unwrap().permissions().mode() & 0o077,
        0
    );
    assert!(files(&maildir.join("tmp")).is_empty());
}

#[test]
fn no_address_reaches_outside_the_folder() {
    let daemon = Site::new()
        .with("domains: [east.example.jp, west.example.jp]", "domains: []")
        .start();
    for name in [
        "\"../../escape\"@east.example.jp",
        "\"a/b\"@east.example.jp",
        "\"..\"@east.example.jp",
        "\".\"@east.example.jp",
    ] {
        let mut session = daemon.lmtp();
        session.expect("LHLO mta.example.net", "250");
        session.expect("MAIL FROM:<a@s.example>", "250");
        if session
            .command(&format!("RCPT TO:<{name}>"))
            .starts_with("250")
        {
            session.expect("DATA", "354");
            session.data(&mail("a@friend.example", name));
            let reply = session.reply();
            assert!(reply.starts_with("250"), "{name}: {reply}");
        }
    }
    let outside: Vec<_> = crate::harness::files_below(&daemon.path(""))
        .into_iter()
        .filter(|path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"Return-Path:")))
        .filter(|path| {
            let inside = path.strip_prefix(daemon.path("mail/east.example.jp"));
            inside.map_or(true, |inside| inside.components().count() != 3)
        })
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn a_maildir_that_cannot_be_written_is_a_451_and_loses_nothing() {
    let daemon = Site::new().start();
    daemon.write(
        "mail/east.example.jp/taro",
        "a file where the folder should be",
    );
    let answers = daemon.hand_over(
        "a@s.example",
        &[TARO, "jiro"],
        &mail("a@friend.example", "x"),
    );
    assert!(answers[0].0.starts_with("451 4."), "{}", answers[0].0);
    assert_eq!(answers[1].verdict(), "deliver");
    assert_eq!(daemon.mailbox("jiro@east.example.jp").len(), 1);
}
