//! LMTP and SMTP as the MTA meets them.

use crate::harness::{JIRO, Site, TARO, crlf, mail};

#[test]
fn lmtp_over_tcp_and_over_a_unix_socket_offers_the_extensions() {
    let daemon = Site::new().start();
    for mut session in [daemon.lmtp(), daemon.local()] {
        assert!(
            session.greeting.starts_with("220 mx.example.jp"),
            "{}",
            session.greeting
        );
        let offers = session.expect("LHLO mta.example.net", "250");
        for offer in [
            "PIPELINING",
            "8BITMIME",
            "SMTPUTF8",
            "SIZE 1048576",
            "ENHANCEDSTATUSCODES",
        ] {
            assert!(
                offers.lines().any(|line| line.get(4..) == Some(offer)),
                "{offer} in {offers}"
            );
        }
        let answers = session.hand_over("a@s.example", &[TARO], &mail("a@friend.example", "x"));
        assert_eq!(answers[0].verdict(), "deliver");
    }
    assert_eq!(daemon.mailbox(TARO).len(), 2);
}

#[test]
fn each_protocol_has_its_own_greeting_command() {
    let daemon = Site::new().start();
    let mut lmtp = daemon.lmtp();
    lmtp.expect("EHLO mta.example.net", "500");
    lmtp.expect("HELO mta.example.net", "500");
    lmtp.expect("LHLO mta.example.net", "250");
    let mut smtp = daemon.smtp();
    smtp.expect("LHLO mta.example.net", "500");
    smtp.expect("EHLO mta.example.net", "250");
}

#[test]
fn recipients_that_are_not_here() {
    let daemon = Site::new().start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.expect("MAIL FROM:<a@s.example>", "250 2.1.0");
    session.expect("RCPT TO:<x@elsewhere.example>", "550 5.1.2");
    session.expect("RCPT TO:<taro>", "250 2.1.5");
    session.expect("RCPT TO:<nobody@west.example.jp>", "250 2.1.5");
    session.expect("DATA", "354");
    session.data(&mail("a@friend.example", "x"));
    assert!(session.reply().starts_with("250 2.0.0"));
    assert!(session.reply().starts_with("250 2.0.0"));
    assert_eq!(daemon.mailbox(TARO).len(), 1);
    assert_eq!(daemon.mailbox("nobody@west.example.jp").len(), 1);
}

#[test]
fn unknown_mailboxes_can_be_refused() {
    let daemon = Site::new()
        .with("unknown: accept", "unknown: reject")
        .with_mailbox(TARO, "aliases: [t.yamada@east.example.jp]\n")
        .start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.expect("MAIL FROM:<a@s.example>", "250");
    session.expect("RCPT TO:<nobody@east.example.jp>", "550 5.1.1");
    session.expect("RCPT TO:<nobody@elsewhere.example>", "550 5.1.2");
    session.expect("RCPT TO:<taro+x@east.example.jp>", "250 2.1.5");
    session.expect("RCPT TO:<t.yamada@east.example.jp>", "250 2.1.5");
}

#[test]
fn no_recipient_no_data() {
    let daemon = Site::new().start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.send(b"MAIL FROM:<a@s.example>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\nNOOP\r\n");
    assert!(session.reply().starts_with("250 2.1.0"));
    assert!(session.reply().starts_with("550 5.1.2"));
    assert!(session.reply().starts_with("503 5.5.1"));
    assert!(session.reply().starts_with("250 2.0.0"));
}

#[test]
fn the_size_limit() {
    let daemon = Site::new().start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.expect("MAIL FROM:<a@s.example> SIZE=1048577", "552 5.3.4");
    session.expect("MAIL FROM:<a@s.example> SIZE=1048576", "250 2.1.0");
    session.expect("RSET", "250 2.0.0");
    let body = |octets: usize| {
        let head = "From: a@friend.example\r\nSubject: big\r\n\r\n";
        let mut raw = head.to_owned();
        while raw.len() + 64 <= octets {
            raw.push_str(&"x".repeat(62));
            raw.push_str("\r\n");
        }
        raw.push_str(&"y".repeat(octets - raw.len() - 2));
        raw.push_str("\r\n");
        assert_eq!(raw.len(), octets);
        raw.into_bytes()
    };
    session.transaction("a@s.example", &[TARO, JIRO]);
    session.data(&body(1_048_577));
    assert!(session.reply().starts_with("552 5.3.4"));
    assert!(session.reply().starts_with("552 5.3.4"));
    assert!(daemon.mailbox(TARO).is_empty());
    session.transaction("a@s.example", &[TARO]);
    session.data(&body(1_048_576));
    let reply = session.reply();
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
}

#[test]
fn a_bare_newline_is_made_whole_by_lmtp_and_refused_by_smtp() {
    let daemon = Site::new().start();
    let raw =
        b"From: a@friend.example\r\nSubject: x\r\n\r\none\ntwo\rthree\r\n.\n\r\n\n.\r\nend\r\n";
    let mut lmtp = daemon.lmtp();
    lmtp.expect("LHLO mta.example.net", "250");
    lmtp.transaction("a@s.example", &[TARO]);
    lmtp.send(b"From: a@friend.example\r\nSubject: x\r\n\r\none\ntwo\rthree\r\nend\r\n.\r\n");
    assert!(lmtp.reply().starts_with("250 2.0.0"));
    let stored = daemon.await_mail(TARO);
    assert!(
        stored.ends_with(b"\n\none\ntwo\nthree\nend\n"),
        "{}",
        String::from_utf8_lossy(&stored)
    );
    let mut smtp = daemon.smtp();
    smtp.expect("EHLO mta.example.net", "250");
    smtp.transaction("a@s.example", &[TARO]);
    smtp.send(raw);
    smtp.send(b"MAIL FROM:<smuggled@s.example>\r\n.\r\n");
    assert!(smtp.reply().starts_with("550 5.6.11"));
    smtp.expect("NOOP", "250");
    assert_eq!(daemon.mailbox(TARO).len(), 1);
}

#[test]
fn nothing_but_crlf_dot_crlf_ends_the_data() {
    let daemon = Site::new().start();
    for ending in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n"] {
        let mut session = daemon.smtp();
        session.expect("EHLO mta.example.net", "250");
        session.transaction("a@s.example", &[TARO]);
        session.send(b"From: a@friend.example\r\nSubject: x\r\n\r\nbody");
        session.send(ending.as_bytes());
        session.send(b"QUIT\r\nMAIL FROM:<b@s.example>\r\nRCPT TO:<taro>\r\nDATA\r\n\r\n.\r\n");
        let reply = session.reply();
        assert!(reply.starts_with("550 5.6.11"), "{ending:?}: {reply}");
        session.expect("NOOP", "250 2.0.0");
    }
    assert!(daemon.mailbox(TARO).is_empty());
}

#[test]
fn a_whole_pipelined_session_in_one_segment() {
    let daemon = Site::new().start();
    let mut session = daemon.lmtp();
    let mut wire = b"LHLO mta.example.net\r\nMAIL FROM:<> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<taro>\r\nRCPT TO:<jiro>\r\nDATA\r\n".to_vec();
    wire.extend(mail("a@friend.example", "x"));
    wire.extend_from_slice(b".\r\nQUIT\r\n");
    session.send(&wire);
    let expected = [
        "250",
        "250 2.1.0",
        "250 2.1.5",
        "250 2.1.5",
        "354",
        "250 2.0.0",
        "250 2.0.0",
        "221 2.0.0",
    ];
    for code in expected {
        let reply = session.reply();
        assert!(reply.starts_with(code), "{reply}, not {code}");
    }
    assert_eq!(daemon.mailbox(JIRO).len(), 1);
}

#[test]
fn stuffed_dots_come_out_as_they_went_in() {
    let daemon = Site::new().start();
    let raw = crlf("From: a@friend.example\nSubject: x\n\n.\n..\n.a\n\n");
    daemon.give("a@s.example", TARO, &raw);
    assert!(daemon.await_mail(TARO).ends_with(b"\n\n.\n..\n.a\n\n"));
}

#[test]
fn xforward_names_the_client_of_the_mta() {
    let daemon = Site::new().start();
    let mut session = daemon.lmtp();
    let offers = session.expect("LHLO mta.example.net", "250");
    assert!(offers.contains("XFORWARD "), "{offers}");
    session.expect(
        "XFORWARD NAME=client.example.net ADDR=192.0.2.7 HELO=there PROTO=ESMTP",
        "250 2",
    );
    session.transaction("a@s.example", &[TARO]);
    session.data(&mail("a@friend.example", "x"));
    let id = crate::session::Answer(session.reply()).id();
    let why = daemon.one(&["why", &id]);
    assert_eq!(why["client"], "192.0.2.7");
}

#[test]
fn junk_is_answered_and_then_cut_off() {
    let daemon = Site::new().start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    let mut replies = Vec::new();
    for _ in 0..40 {
        let reply = session.command("\u{1}\u{2}JUNK \u{7f}");
        let cut = reply.starts_with("421");
        replies.push(reply);
        if cut {
            break;
        }
    }
    assert!(replies.last().unwrap().starts_with("421"), "{replies:?}");
    assert!(replies.len() >= 15, "{replies:?}");
    assert!(replies[0].starts_with("500 5.5."), "{replies:?}");
}

#[test]
fn too_many_recipients_are_put_off() {
    let daemon = Site::new()
        .with("message_size: 1MiB", "message_size: 1MiB, recipients: 3")
        .start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.expect("MAIL FROM:<a@s.example>", "250");
    for name in ["a", "b", "c"] {
        session.expect(&format!("RCPT TO:<{name}@east.example.jp>"), "250");
    }
    session.expect("RCPT TO:<d@east.example.jp>", "452 4.5.3");
}

#[test]
fn international_addresses() {
    let daemon = Site::new()
        .with("domains: [east.example.jp, west.example.jp]", "domains: []")
        .start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.expect("MAIL FROM:<送信@例え.jp> SMTPUTF8", "250");
    session.expect("RCPT TO:<太郎@例え.jp>", "250");
    session.expect("DATA", "354");
    session.data(&crlf("From: 送信@例え.jp\nSubject: こんにちは\n\nx\n"));
    assert!(session.reply().starts_with("250 2.0.0"));
}
