//! Whole conversations, with a caller that answers by local part.

use super::*;
use proptest::prelude::*;

fn session(protocol: Protocol, trusted: bool) -> Session {
    Session::new(SessionSettings {
        protocol,
        hostname: "mx.example.jp".into(),
        default_domain: Some("east.example.jp".into()),
        bare_newline: BareNewline::Reject,
        starttls: false,
        limits: Limits {
            message_size: 64,
            recipients: 3,
            errors: 4,
        },
        client: Client {
            ip: None,
            helo: String::new(),
            tls: false,
            trusted,
            origin_ip: None,
            origin_name: None,
        },
    })
}

fn taken(id: &str, verdict: &'static str, stage: Option<&'static str>) -> Answer {
    Answer::Taken {
        id: id.into(),
        verdict,
        stage,
    }
}

/// What the caller says to a recipient, by its local part.
fn answer_for(recipient: &Address, at: usize) -> Answer {
    match recipient.local() {
        "held" => taken(&format!("Q{at}"), "quarantine", Some("reject.headers")),
        "later" => Answer::Refused(Reply::new(451, 3, 0, "later")),
        "never" => Answer::Refused(Reply::new(550, 2, 0, "never")),
        "odd" => Answer::Refused(Reply::new(250, 0, 0, "not an answer")),
        _ => taken(&format!("Q{at}"), "deliver", None),
    }
}

/// Feeds pieces and answers every event; gives the replies and the events.
fn converse(session: &mut Session, pieces: &[&[u8]]) -> (String, Vec<Event>) {
    let mut output = Vec::new();
    let mut events = Vec::new();
    for piece in pieces {
        session.feed(piece);
        while let Some(event) = session.next_event() {
            assert_eq!(session.next_event(), None, "an event waits for its answer");
            match &event {
                Event::Mail { .. } => session.accept(),
                Event::Recipient(address) if address.local() == "unknown" => {
                    session.refuse(Reply::new(550, 1, 1, "unknown"));
                }
                Event::Recipient(_) => session.accept(),
                Event::Message { envelope, .. } => {
                    assert_eq!(session.unanswered(), envelope.recipients.len());
                    for (at, recipient) in envelope.recipients.iter().enumerate() {
                        session.answer(answer_for(recipient, at));
                    }
                    assert_eq!(session.unanswered(), 0);
                }
                Event::StartTls => session.tls_is_on(),
                Event::Close => {}
            }
            events.push(event);
        }
        output.extend(session.take_output());
    }
    (String::from_utf8(output).unwrap(), events)
}

fn codes(output: &str) -> Vec<&str> {
    output
        .lines()
        .map(|line| line.get(..3).unwrap_or(line))
        .collect()
}

fn mail_to(recipients: &[&str], body: &str) -> String {
    let recipients: String = recipients
        .iter()
        .map(|to| format!("RCPT TO:<{to}>\r\n"))
        .collect();
    format!("MAIL FROM:<a@example.org>\r\n{recipients}DATA\r\n{body}.\r\n")
}

#[test]
fn greetings() {
    let rows = [
        (
            Protocol::Lmtp,
            true,
            "LHLO c\r\n",
            "250-mx.example.jp|250-PIPELINING|250-8BITMIME|250-SMTPUTF8|250-SIZE 64|250-ENHANCEDSTATUSCODES|250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE|",
        ),
        (
            Protocol::Smtp,
            false,
            "EHLO c\r\n",
            "250-mx.example.jp|250-PIPELINING|250-8BITMIME|250-SMTPUTF8|250-SIZE 64|250 ENHANCEDSTATUSCODES|",
        ),
        (Protocol::Smtp, true, "HELO c\r\n", "250 mx.example.jp|"),
        (
            Protocol::Smtp,
            true,
            "LHLO c\r\n",
            "500 5.5.1 this is SMTP: say EHLO|",
        ),
        (
            Protocol::Lmtp,
            true,
            "EHLO c\r\n",
            "500 5.5.1 this is LMTP: say LHLO|",
        ),
        (
            Protocol::Lmtp,
            true,
            "HELO c\r\n",
            "500 5.5.1 this is LMTP: say LHLO|",
        ),
        (
            Protocol::Lmtp,
            true,
            "MAIL FROM:<>\r\n",
            "503 5.5.1 say hello first|",
        ),
    ];
    for (protocol, trusted, line, expected) in rows {
        let mut session = session(protocol, trusted);
        let kind = if protocol == Protocol::Lmtp {
            "LMTP"
        } else {
            "ESMTP"
        };
        assert_eq!(
            session.take_output(),
            format!("220 mx.example.jp {kind} ready\r\n").into_bytes()
        );
        let (output, _) = converse(&mut session, &[line.as_bytes()]);
        assert_eq!(output.replace("\r\n", "|"), expected, "{line:?}");
    }
}

#[test]
fn sequences() {
    let rows: &[(&str, &[&str])] = &[
        ("DATA\r\n", &["503"]),
        ("RCPT TO:<a>\r\n", &["503"]),
        ("MAIL FROM:<>\r\nDATA\r\n", &["250", "503"]),
        (
            "MAIL FROM:<>\r\nRCPT TO:<unknown>\r\nDATA\r\n",
            &["250", "550", "503"],
        ),
        ("MAIL FROM:<>\r\nMAIL FROM:<>\r\n", &["250", "503"]),
        (
            "MAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>\r\n",
            &["250", "250", "250"],
        ),
        (
            "MAIL FROM:<> SIZE=65\r\nMAIL FROM:<> SIZE=64\r\n",
            &["552", "250"],
        ),
        (
            "MAIL FROM:<>\r\nRCPT TO:<a>\r\nRCPT TO:<a>\r\nRCPT TO:<a>\r\nRCPT TO:<a>\r\n",
            &["250", "250", "250", "250", "452"],
        ),
        (
            "MAIL FROM:<>\r\nRCPT TO:<\u{3042}@b.example>\r\n",
            &["250", "553"],
        ),
        (
            "MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<\u{3042}@b.example>\r\n",
            &["250", "250"],
        ),
        (
            "MAIL FROM:<>\r\nXFORWARD ADDR=192.0.2.1\r\n",
            &["250", "503"],
        ),
        (
            "MAIL FROM:<>\r\nRCPT TO:<a>\r\nLHLO again\r\nDATA\r\n",
            &[
                "250", "250", "250", "250", "250", "250", "250", "250", "250", "503",
            ],
        ),
        (
            "STARTTLS\r\nEXPN a\r\nVRFY a\r\nHELP\r\n",
            &["502", "502", "252", "214"],
        ),
        ("NOOP\nNOOP\r\nNOOP\r\n", &["500", "250"]),
        ("RSET\rQUIT\r\nNOOP\r\n", &["500", "250"]),
        ("QUIT\r\nNOOP\r\n", &["221"]),
        ("BDAT 6\r\nQUIT\r\n", &["502"]),
        ("POST / HTTP/1.1\r\nNOOP\r\n", &["421"]),
        (
            "X\r\nX\r\nX\r\nX\r\nX\r\n",
            &["500", "500", "500", "500", "421"],
        ),
    ];
    for (lines, expected) in rows {
        let mut session = session(Protocol::Lmtp, true);
        converse(&mut session, &[b"LHLO c\r\n"]);
        let (output, _) = converse(&mut session, &[lines.as_bytes()]);
        assert_eq!(codes(&output), *expected, "{lines:?}");
    }
}

#[test]
fn line_length() {
    for (octets, code) in [(512, "250"), (2048, "250"), (2049, "500"), (1 << 20, "500")] {
        let mut session = session(Protocol::Lmtp, true);
        session.take_output();
        let line = format!("NOOP {}\r\nNOOP\r\n", "x".repeat(octets - 7));
        let (output, _) = converse(&mut session, &[line.as_bytes()]);
        assert_eq!(codes(&output), [code, "250"], "{octets}");
    }
}

#[test]
fn replies_after_the_data() {
    let rows: &[(&[&str], &str, &str)] = &[
        (
            &["a"],
            "250 2.0.0 <a@east.example.jp> q=Q0 verdict=deliver|",
            "250 2.0.0 <a@east.example.jp> q=Q0 verdict=deliver|",
        ),
        (
            &["held", "a"],
            "250 2.0.0 <held@east.example.jp> q=Q0 verdict=quarantine stage=reject.headers|250 2.0.0 <a@east.example.jp> q=Q1 verdict=deliver|",
            "250 2.0.0 q=Q0 q=Q1 verdict=mixed|",
        ),
        (
            &["held", "held"],
            "250 2.0.0 <held@east.example.jp> q=Q0 verdict=quarantine stage=reject.headers|250 2.0.0 <held@east.example.jp> q=Q1 verdict=quarantine stage=reject.headers|",
            "250 2.0.0 q=Q0 q=Q1 verdict=quarantine stage=reject.headers|",
        ),
        (
            &["a", "later"],
            "250 2.0.0 <a@east.example.jp> q=Q0 verdict=deliver|451 4.3.0 later|",
            "451 4.3.0 later|",
        ),
        (
            &["never", "later"],
            "550 5.2.0 never|451 4.3.0 later|",
            "451 4.3.0 later|",
        ),
        (&["never"], "550 5.2.0 never|", "550 5.2.0 never|"),
        (
            &["never", "a"],
            "550 5.2.0 never|250 2.0.0 <a@east.example.jp> q=Q1 verdict=deliver|",
            "550 5.2.0 never|",
        ),
        (
            &["odd"],
            "451 4.3.0 internal error|",
            "451 4.3.0 internal error|",
        ),
    ];
    for (recipients, lmtp, smtp) in rows {
        for (protocol, hello, expected) in [
            (Protocol::Lmtp, "LHLO c\r\n", lmtp),
            (Protocol::Smtp, "EHLO c\r\n", smtp),
        ] {
            let mut session = session(protocol, false);
            converse(&mut session, &[hello.as_bytes()]);
            let (output, events) =
                converse(&mut session, &[mail_to(recipients, "b\r\n").as_bytes()]);
            let (_, after) = output
                .split_once("354 end with a dot on a line of its own\r\n")
                .unwrap();
            assert_eq!(after.replace("\r\n", "|"), *expected, "{recipients:?}");
            let Some(Event::Message { raw, .. }) = events.last() else {
                panic!("no mail")
            };
            assert_eq!(raw, b"b\r\n");
            assert!(session.is_idle());
        }
    }
}

#[test]
fn refused_data() {
    let big = "x".repeat(63);
    let rows = [
        ("a\nb\r\n", "550 5.6.11"),
        (big.as_str(), "552 5.3.4 "),
        ("a\n.\r\nQUIT\r\n", "550 5.6.11"),
    ];
    for (body, expected) in rows {
        for (protocol, hello, replies) in [
            (Protocol::Lmtp, "LHLO c\r\n", 2),
            (Protocol::Smtp, "EHLO c\r\n", 1),
        ] {
            let mut session = session(protocol, false);
            converse(&mut session, &[hello.as_bytes()]);
            let body = format!("{body}\r\n");
            let (output, events) = converse(
                &mut session,
                &[mail_to(&["a", "b"], &body).as_bytes(), b"NOOP\r\n"],
            );
            assert_eq!(
                output.matches(expected).count(),
                replies,
                "{body:?} {output:?}"
            );
            assert!(output.ends_with("250 2.0.0 ok\r\n"));
            assert!(
                !events
                    .iter()
                    .any(|event| matches!(event, Event::Message { .. } | Event::Close))
            );
        }
    }
}

#[test]
fn abandoned_data() {
    for (why, reply) in [(DataFault::NoRoom, "452"), (DataFault::NotKept, "451")] {
        let mut session = session(Protocol::Lmtp, false);
        converse(
            &mut session,
            &[b"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a>\r\nDATA\r\nhalf"],
        );
        assert!(session.is_in_data() && session.held_data() > Some(0));
        session.abandon_data(why);
        assert_eq!(session.held_data(), None);
        let (output, events) = converse(&mut session, &[b" a mail\r\n.\r\nNOOP\r\n"]);
        assert_eq!(codes(&output), [reply, "250"]);
        assert_eq!(events, []);
    }
}

#[test]
fn idle_commands_have_an_end() {
    for line in ["NOOP\r\n", "RSET\r\n", "VRFY a\r\n", "HELP\r\n"] {
        let mut session = session(Protocol::Lmtp, false);
        converse(&mut session, &[b"LHLO c\r\n"]);
        let (output, events) = converse(&mut session, &[line.repeat(99).as_bytes()]);
        assert_eq!((codes(&output).len(), events.len()), (99, 0), "{line:?}");
        converse(&mut session, &[mail_to(&["a"], "").as_bytes()]);
        let (output, events) = converse(&mut session, &[line.repeat(200).as_bytes()]);
        let codes = codes(&output);
        assert_eq!(
            (codes.len(), codes[100]),
            (101, "421"),
            "a mail allows more: {line:?}"
        );
        assert_eq!(events, [Event::Close]);
    }
}

#[test]
fn origin_lasts_one_mail() {
    let mut session = session(Protocol::Lmtp, true);
    let first = format!(
        "LHLO c\r\nXFORWARD NAME=real.example ADDR=192.0.2.9\r\nXFORWARD PORT=1\r\n{}",
        mail_to(&["a"], "")
    );
    let (_, events) = converse(
        &mut session,
        &[first.as_bytes(), mail_to(&["a"], "").as_bytes()],
    );
    let origins: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Message { envelope, .. } => Some((
                envelope.client.origin_ip,
                envelope.client.origin_name.clone(),
            )),
            _ => None,
        })
        .collect();
    assert_eq!(
        origins,
        [
            ("192.0.2.9".parse().ok(), Some("real.example".into())),
            (None, None)
        ]
    );
    let mut stranger = self::session(Protocol::Lmtp, false);
    stranger.take_output();
    let (output, _) = converse(&mut stranger, &[b"LHLO c\r\nXFORWARD NAME=x\r\n"]);
    assert!(output.ends_with("550 5.7.1 XFORWARD is for trusted clients\r\n"));
}

fn starttls_session(protocol: Protocol) -> Session {
    let plain = session(protocol, true).settings;
    let mut session = Session::new(SessionSettings {
        starttls: true,
        ..plain
    });
    session.take_output();
    session
}

#[test]
fn starttls_replies() {
    let rows = [
        ("STARTTLS\r\n", "503 5.5.1 say hello first|", false),
        ("LHLO c\r\nSTARTTLS now\r\n", "501 5.5.4 ", false),
        ("LHLO c\r\nstarttls\r\n", "220 2.0.0 ready for TLS|", true),
        (
            "LHLO c\r\nMAIL FROM:<>\r\nSTARTTLS\r\n",
            "503 5.5.1 a mail is open|",
            false,
        ),
        (
            "LHLO c\r\nMAIL FROM:<>\r\nRSET\r\nSTARTTLS\r\n",
            "220 2.0.0 ready for TLS|",
            true,
        ),
        ("LHLO c\r\nSTARTTLS\n", "500 5.5.2 ", false),
    ];
    for (lines, last, starts) in rows {
        let mut session = starttls_session(Protocol::Lmtp);
        let (output, events) = converse(&mut session, &[lines.as_bytes()]);
        let output = output.replace("\r\n", "|");
        let at = output
            .trim_end_matches('|')
            .rfind('|')
            .map_or(0, |at| at + 1);
        assert!(output[at..].starts_with(last), "{lines:?}: {output}");
        assert_eq!(events.contains(&Event::StartTls), starts, "{lines:?}");
        assert_eq!(session.settings.client.tls, starts, "{lines:?}");
    }
}

#[test]
fn starttls_is_offered_until_tls_is_on() {
    for (protocol, hello) in [
        (Protocol::Lmtp, "LHLO c\r\n"),
        (Protocol::Smtp, "EHLO c\r\n"),
    ] {
        let mut session = starttls_session(protocol);
        let (clear, _) = converse(&mut session, &[hello.as_bytes()]);
        assert_eq!(clear.matches("STARTTLS").count(), 1, "{clear}");
        converse(&mut session, &[b"STARTTLS\r\n"]);
        let (secure, _) = converse(&mut session, &[hello.as_bytes(), b"STARTTLS\r\n"]);
        assert_eq!(
            clear.replace("250-STARTTLS\r\n", ""),
            secure.replace("503 5.5.1 TLS is on already\r\n", "")
        );
        assert!(
            secure.ends_with("503 5.5.1 TLS is on already\r\n"),
            "{secure}"
        );
    }
}

/// RFC 3207 4.2; only the errors are not forgiven.
#[test]
fn what_was_said_in_the_clear_is_forgotten() {
    let mut session = starttls_session(Protocol::Lmtp);
    let clear =
        "X\r\nX\r\nLHLO clear.example\r\nXFORWARD ADDR=192.0.2.9 NAME=real.example\r\nSTARTTLS\r\n";
    converse(&mut session, &[clear.as_bytes()]);
    let (output, _) = converse(&mut session, &[b"MAIL FROM:<>\r\n"]);
    assert_eq!(output, "503 5.5.1 say hello first\r\n");
    let mail = format!("LHLO secure.example\r\n{}", mail_to(&["a"], "b\r\n"));
    let (_, events) = converse(&mut session, &[mail.as_bytes()]);
    let Some(Event::Message { envelope, .. }) = events.last() else {
        panic!("no mail")
    };
    let client = &envelope.client;
    assert_eq!(client.helo, "secure.example");
    assert!(client.tls && client.origin_ip.is_none() && client.origin_name.is_none());

    let mut session = starttls_session(Protocol::Lmtp);
    converse(
        &mut session,
        &[b"X\r\nX\r\nX\r\nLHLO c\r\n", b"STARTTLS\r\n"],
    );
    let (output, _) = converse(&mut session, &[b"X\r\n"]);
    assert_eq!(codes(&output), ["500", "421"]);
}

/// CVE-2011-0411, CVE-2021-33515 and their kin.
#[test]
fn clear_text_behind_starttls_ends_the_session() {
    for injected in ["M", "MAIL FROM:<>\r\n", "\r\n", "\x16\x03\x01", "QUIT\r\n"] {
        let mut session = starttls_session(Protocol::Lmtp);
        let talk = format!("LHLO c\r\nSTARTTLS\r\n{injected}");
        let (output, events) = converse(&mut session, &[talk.as_bytes(), b"NOOP\r\n"]);
        assert!(
            output.ends_with("554 5.5.0 nothing may follow STARTTLS\r\n"),
            "{injected:?}: {output}"
        );
        assert_eq!(events, [Event::Close], "{injected:?}");
    }
}

fn talk() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("LHLO c\r\n"),
        Just("MAIL FROM:<a@example.org>\r\n"),
        Just("MAIL FROM:<> SIZE=5\r\n"),
        Just("RCPT TO:<a>\r\n"),
        Just("RCPT TO:<unknown>\r\n"),
        Just("RCPT TO:<later>\r\n"),
        Just("DATA\r\n"),
        Just("text\r\n"),
        Just("\r\n.\r\n"),
        Just(".\r\n"),
        Just(".\n"),
        Just("\r.\r"),
        Just("RSET\r\n"),
        Just("NOOP\n"),
        Just("QUIT\r\n"),
        Just("BDAT 3\r\n"),
        Just("XFORWARD NAME=a\r\n"),
        Just("\0\u{3042}"),
    ];
    proptest::collection::vec(line, 0..16).prop_map(|lines| {
        let talk = lines.concat();
        format!("LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a>\r\n{talk}").into_bytes()
    })
}

proptest! {
    #[test]
    fn pieces_do_not_matter(talk in talk(), smtp in any::<bool>()) {
        let protocol = if smtp { Protocol::Smtp } else { Protocol::Lmtp };
        let whole = converse(&mut session(protocol, true), &[&talk]);
        let octets: Vec<&[u8]> = talk.chunks(1).collect();
        prop_assert_eq!(&converse(&mut session(protocol, true), &octets), &whole);
        for cut in 0..talk.len() {
            let (head, tail) = talk.split_at(cut);
            prop_assert_eq!(&converse(&mut session(protocol, true), &[head, tail]), &whole);
        }
    }

    /// Nor across `STARTTLS`, where the clear text ends with it.
    #[test]
    fn pieces_do_not_matter_to_starttls(clear in talk(), secure in talk()) {
        let clear = [&clear[..], b"\r\n.\r\nRSET\r\nSTARTTLS\r\n"].concat();
        let run = |pieces: &[&[u8]], secure_pieces: &[&[u8]]| {
            let mut session = starttls_session(Protocol::Lmtp);
            let first = converse(&mut session, pieces);
            let on = session.settings.client.tls;
            prop_assert_eq!(on, first.1.last() == Some(&Event::StartTls));
            Ok((on, first, converse(&mut session, secure_pieces)))
        };
        let whole = run(&[&clear], &[&secure])?;
        let octets: Vec<&[u8]> = clear.chunks(1).collect();
        let secure_octets: Vec<&[u8]> = secure.chunks(1).collect();
        prop_assert_eq!(&run(&octets, &secure_octets)?, &whole);
        for cut in 0..clear.len() {
            let (head, tail) = clear.split_at(cut);
            prop_assert_eq!(&run(&[head, tail], &[&secure])?, &whole);
        }
    }

    /// Every verdict in a reply is one that the caller gave.
    #[test]
    fn no_mail_is_taken_unasked(talk in talk()) {
        let (output, events) = converse(&mut session(Protocol::Lmtp, true), &[&talk]);
        let answers: usize = events
            .iter()
            .map(|event| match event {
                Event::Message { envelope, .. } => {
                    envelope.recipients.iter().filter(|to| to.local() == "a").count()
                }
                _ => 0,
            })
            .sum();
        prop_assert_eq!(output.matches("verdict=").count(), answers);
    }

    #[test]
    fn any_octets(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (output, _) = converse(&mut session(Protocol::Smtp, false), &[&octets]);
        prop_assert!(output.bytes().all(|octet| octet == b'\r' || octet == b'\n' || (b' '..=b'~').contains(&octet)));
    }
}
