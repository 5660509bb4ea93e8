//! SMTP smuggling, inward and outward (CVE-2023-51764, -51765, -51766 and kin), and hostile commands.
//!
//! Each form of an end of data stands between a mail and a second transaction that its sender hides
//! in it. Whatever the form, the daemon takes one mail or none, and hands on one or none.

use crate::harness::{Daemon, JIRO, Site, TARO, eventually, mail};
use crate::hop::{Captured, Hop};
use crate::session::Session;

/// A form that ends nothing, and whether a CR or LF stands alone in it.
const FORMS: &[(&[u8], bool)] = &[
    (b"\n.\n", true),
    (b"\n.\r\n", true),
    (b"\r\n.\n", true),
    (b"\r.\r", true),
    (b"\r\n.\r", true),
    (b"\r.\r\n", true),
    (b"\r.\n", true),
    (b"\n.\r", true),
    (b"\n\n.\n\n", true),
    (b"\n\r.\r\n", true),
    (b"\n\r.\n\r", true),
    (b"\r\r\n.\r\r\n", true),
    (b"\r\n.\r\r\n", true),
    (b"\r\n.\r\r\r\n", true),
    (b"\r\n\r.\r\n", true),
    (b"\r\n\n.\r\n", true),
    (b"\r\n.\n\r\n", true),
    (b"\r\n.\r.\r\n", true),
    (b"\n..\n", true),
    (b"\n..\r\n", true),
    (b"\r\n..\n", true),
    (b"\r\n..\r", true),
    (b"\r..\r", true),
    (b"\r\n..\r\n", false),
    (b"\r\n...\r\n", false),
    (b"\r\n\0.\r\n", false),
    (b"\r\n.\0\r\n", false),
    (b"\n\0.\n", true),
    (b"\r\0\n.\r\0\n", true),
    (b"\r\n. \r\n", false),
    (b"\r\n .\r\n", false),
    (b"\r\n.\t\r\n", false),
    (b"\x0B.\x0B", false),
    (b"\x0C.\x0C", false),
    (b"\x1A.\x1A", false),
    (b"\xC2\x85.\xC2\x85", false),
    (b"\xE2\x80\xA8.\xE2\x80\xA8", false),
    (b"\x8D\x8A.\x8D\x8A", false),
];

/// What does end the data: the transaction behind it is a real one.
const ENDS: &[(&[u8], bool)] = &[
    (b"\r\n.\r\n", false),
    (b"\r\r\n.\r\n", true),
    (b"\n\r\n.\r\n", true),
];

const SMUGGLED: &[u8] = b"MAIL FROM:<smuggled@s.example>\r\nRCPT TO:<jiro@east.example.jp>\r\nDATA\r\nFrom: smuggled@s.example\r\nSubject: smuggled\r\n\r\nsmuggled\r\n.\r\n";

/// All four: each protocol with each `bare_newline`.
const LISTENERS: [(&str, bool, bool); 4] = [
    ("lmtp", true, false),
    ("lmtp-reject", true, true),
    ("smtp-normalize", false, false),
    ("smtp", false, true),
];

fn site() -> Site {
    Site::new()
        .with(
            "    - {name: local, protocol: lmtp, listen: lmtp.sock}\n",
            "    - {name: lmtp-reject, protocol: lmtp, listen: \"127.0.0.1:0\", clients: [127.0.0.0/8], bare_newline: reject}\n    - {name: smtp-normalize, protocol: smtp, listen: \"127.0.0.1:0\", clients: [127.0.0.0/8], bare_newline: normalize}\n",
        )
        .with("fsync: true", "fsync: false")
}

fn greeted(daemon: &Daemon, listener: &str, is_lmtp: bool) -> Session {
    let mut session = Session::tcp(daemon.port(listener));
    let hello = if is_lmtp { "LHLO" } else { "EHLO" };
    session.expect(&format!("{hello} mta.example.net"), "250");
    session
}

/// Octets up to the form.
fn opening() -> Vec<u8> {
    let whole = mail("a@friend.example", "to be held");
    whole.strip_suffix(b".\r\n").unwrap().to_vec()
}

#[test]
fn no_form_smuggles_a_mail_in_whole_or_cut_at_any_octet() {
    let daemon = site().start();
    let mut kept = 0;
    for (listener, is_lmtp, rejects) in LISTENERS {
        for (form, bare) in FORMS {
            let mut session = greeted(&daemon, listener, is_lmtp);
            for cut in 0..=form.len() + 1 {
                session.transaction("a@s.example", &[TARO]);
                let mut wire = opening();
                let cut = wire.len() + cut;
                wire.extend_from_slice(form);
                wire.extend_from_slice(SMUGGLED);
                let (head, tail) = wire.split_at(cut);
                session.send(head);
                session.send(tail);
                let reply = session.reply();
                let expected = match *bare && rejects {
                    true => "550 5.6.11",
                    false => "250 2.0.0",
                };
                assert!(reply.starts_with(expected), "{listener} {form:?}: {reply}");
                kept += usize::from(expected.starts_with('2'));
                session.expect("NOOP", "250 2.0.0 ok");
            }
        }
    }
    let stored = daemon.mailbox(TARO);
    assert_eq!(stored.len(), kept);
    let holds = |mail: &Vec<u8>| {
        mail.windows(21)
            .any(|seen| seen == b"MAIL FROM:<smuggled@s")
    };
    assert!(stored.iter().all(holds), "the hidden transaction is text");
    assert!(daemon.mailbox(JIRO).is_empty());
}

#[test]
fn the_real_end_ends_whatever_stands_before_it() {
    let daemon = site().start();
    for (listener, is_lmtp, rejects) in LISTENERS {
        for (end, bare) in ENDS {
            let mut session = greeted(&daemon, listener, is_lmtp);
            session.transaction("a@s.example", &[TARO]);
            session.send(&[opening(), end.to_vec(), SMUGGLED.to_vec()].concat());
            let first = match *bare && rejects {
                true => "550 5.6.11",
                false => "250 2.0.0",
            };
            for code in [first, "250 2.1.0", "250 2.1.5", "354", "250 2.0.0"] {
                let reply = session.reply();
                assert!(reply.starts_with(code), "{listener} {end:?}: {reply}");
            }
            session.expect("NOOP", "250 2.0.0 ok");
        }
    }
    // The same octets from the same sender are one hand-off, repeated.
    assert_eq!(daemon.mailbox(JIRO).len(), 1);
}

const SABURO: &str = "saburo@east.example.jp";

#[test]
fn nothing_that_we_send_on_ends_early_at_the_next_hop() {
    let (hop, relay) = (Hop::lmtp(), Hop::smtp());
    relay.at_rcpt("gone@else.example", "550 5.1.1 no such mailbox");
    let daemon = site()
        .with_relay(relay.port)
        .with(
            "method: maildir\n",
            &format!(
                "method: lmtp\n  lmtp: {{address: \"127.0.0.1:{}\"}}\n",
                hop.port
            ),
        )
        .with_mailbox(TARO, "forwarding:\n  mode: all\n  all: {to: [home@else.example], keep_copy: true}\nnotify: {to: [mobile@else.example]}\n")
        .with_mailbox(JIRO, "reject: {subject_contains: [held]}\n")
        .with_mailbox(SABURO, "forwarding:\n  mode: all\n  all: {to: [gone@else.example], keep_copy: false}\n")
        .start();
    let mut session = greeted(&daemon, "lmtp", true);
    let mut sent = Vec::new();
    for (form, _) in FORMS {
        let received = [opening(), form.to_vec(), SMUGGLED.to_vec()].concat();
        session.transaction("a@friend.example", &[TARO, JIRO, SABURO]);
        session.send(&received);
        for verdict in ["verdict=deliver", "verdict=quarantine", "verdict=forward"] {
            let reply = session.reply();
            assert!(reply.contains(verdict), "{form:?}: {reply}");
        }
        sent.push(stored(&received));
    }
    for entry in daemon.quarantine() {
        let id = entry["id"].as_str().unwrap();
        daemon.cli(&["quarantine", "release", id]).success();
    }
    for (server, recipient) in [
        (&hop, TARO),
        (&hop, JIRO),
        (&hop, SABURO),
        (&relay, "home@else.example"),
    ] {
        let mails = eventually(recipient, || {
            Some(server.mails_to(recipient)).filter(|mails| mails.len() >= sent.len())
        });
        for mail in &sent {
            let mut copies = mails.iter().filter(|seen| seen.data.ends_with(mail));
            assert!(copies.next().is_some() && copies.next().is_none());
        }
    }
    daemon.await_empty_queue();
    assert_eq!(hop.mails().len(), 3 * sent.len());
    assert_eq!(relay.mails().len(), 2 * sent.len());
    hop.mails().iter().for_each(assert_sound);
    relay.mails().iter().for_each(assert_sound);
}

/// What the daemon must have of what came in behind `DATA`: dots taken off, line ends made whole.
fn stored(wire: &[u8]) -> Vec<u8> {
    let wire = wire.strip_suffix(b".\r\n").unwrap();
    let mut text = Vec::new();
    for line in split(wire, b"\r\n") {
        text.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        text.extend_from_slice(b"\r\n");
    }
    text.truncate(text.len() - 2);
    let latin: String = text.iter().copied().map(char::from).collect();
    let whole = latin.replace("\r\n", "\n").replace('\r', "\n");
    let whole = whole.replace('\n', "\r\n");
    whole.chars().map(|c| u8::try_from(c).unwrap()).collect()
}

fn split<'a>(mut octets: &'a [u8], by: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = octets.windows(by.len()).position(|seen| seen == by) {
        pieces.push(&octets[..at]);
        octets = &octets[at + by.len()..];
    }
    pieces.push(octets);
    pieces
}

/// RFC 5321 2.3.8 and 4.5.2 for the octets that a next hop got: whole line ends, one end of data.
fn assert_sound(mail: &Captured) {
    let lines = split(&mail.wire, b"\r\n");
    let (last, lines) = lines.split_last().unwrap();
    assert!(last.is_empty(), "{:?}", mail.text());
    for (at, line) in lines.iter().enumerate() {
        assert!(!line.contains(&b'\r') && !line.contains(&b'\n'), "{line:?}");
        let is_end = at + 1 == lines.len();
        assert_eq!(*line == b".", is_end, "{:?}", mail.text());
        assert!(
            !line.starts_with(b".") || is_end || line.starts_with(b".."),
            "{line:?}"
        );
    }
    assert!(!mail.sender.contains("smuggled"), "{:?}", mail.text());
}

/// Command lines, whether they are whole or not, that must not take the session out of step.
#[test]
fn no_command_hides_another_one() {
    let daemon = site().start();
    for (listener, is_lmtp, _) in LISTENERS {
        for line in [
            &b"NOOP\0RSET"[..],
            b"NOOP\rRSET\r",
            b"NOOP \x1B[2J",
            b"NOOP \x80\xFF",
            b"RCPT TO:<a\xFF@east.example.jp>",
            b"RCPT TO:<\"a\rb\"@east.example.jp>",
            b"RCPT TO:<\"a\0b\"@east.example.jp>",
            b"RCPT TO:<\"a\\\rb\"@east.example.jp>",
            b"RCPT TO:<a@east.example.jp\0>",
            b"RCPT TO:<a@east.example.jp>\rRCPT TO:<jiro@east.example.jp>",
            b"RCPT TO:<a@east.example.jp> RCPT TO:<jiro@east.example.jp>",
            b"RCPT TO:<a@east.example.jp><jiro@east.example.jp>",
            b"RCPT TO:<a,jiro@east.example.jp>",
            b"RCPT TO:<a@east.example.jp>,<jiro@east.example.jp>",
            b"RCPT TO:<@:jiro@east.example.jp>",
            b"RCPT TO:<@a,b:jiro@east.example.jp>",
            b"RCPT TO:jiro@east.example.jp",
            b"RCPT TO:<jiro@east.example.jp",
            b"RCPT TO:<jiro@east.example.jp> NOTIFY=NEVER",
            b"RCPT TO:<jiro@east.example.jp\x1B[2J>",
            b"RCPT TO:<a b@east.example.jp>",
            b"RCPT TO:<jiro@elsewhere.example@>",
        ] {
            let mut session = greeted(&daemon, listener, is_lmtp);
            session.expect("MAIL FROM:<a@s.example>", "250 2.1.0");
            session.send(&[line, b"\r\n"].concat());
            let reply = session.reply();
            let shown = String::from_utf8_lossy(line);
            assert!(reply.starts_with('5'), "{listener} {shown:?}: {reply}");
            assert!(reply.is_ascii() && !reply.contains(['\0', '\x1B', '\r']));
            session.expect("DATA", "503 5.5.1");
        }
    }
    assert!(daemon.mailbox(JIRO).is_empty());
}

#[test]
fn nothing_encoded_in_xforward_gets_through() {
    let daemon = site().start();
    let mut session = greeted(&daemon, "lmtp", true);
    for line in [
        "NAME=a+0D+0AMAIL",
        "NAME=a+00b",
        "NAME=a+1B[2J",
        "NAME=a+C2+9B2J",
        "ADDR=192.0.2.1+0D+0A",
        "ADDR=192.0.2.1/24",
        "HELO=a+0Ab",
        "IDENT=a+7F",
        "NAME=a+FF",
        "NAME=a+",
        "NAME=a+0",
        "NAME=a+zz",
    ] {
        session.expect(&format!("XFORWARD {line}"), "501 5.5.4");
    }
    session.transaction("a@s.example", &[TARO]);
    session.data(&mail("a@friend.example", "x"));
    let id = crate::session::Answer(session.reply()).id();
    assert_eq!(daemon.one(&["why", &id])["client"], "127.0.0.1");
}

/// A bare LF ends no command line (RFC 5321 2.3.8), so nothing behind it is a command.
#[test]
fn a_line_feed_alone_splits_no_command() {
    let daemon = site().start();
    for (listener, is_lmtp, _) in LISTENERS {
        let mut session = greeted(&daemon, listener, is_lmtp);
        session.send(b"NOOP\nMAIL FROM:<a@s.example>\nRCPT TO:<jiro@east.example.jp>\r\n");
        let reply = session.reply();
        assert!(reply.starts_with("500 5.5.2"), "{listener}: {reply}");
        session.expect("RCPT TO:<jiro@east.example.jp>", "503 5.5.1");
    }
}

#[test]
fn percent_signs_and_routes_are_no_way_to_another_domain() {
    let daemon = site().start();
    let mut session = greeted(&daemon, "lmtp", true);
    session.expect("MAIL FROM:<a@s.example>", "250 2.1.0");
    session.expect("RCPT TO:<jiro@elsewhere.example>", "550 5.1.2");
    session.expect(
        "RCPT TO:<@east.example.jp:jiro@elsewhere.example>",
        "550 5.1.2",
    );
    for plain in [
        "jiro%elsewhere.example@east.example.jp",
        "elsewhere.example!jiro@east.example.jp",
        "a%0d%0aRCPT@east.example.jp",
        "\"jiro@elsewhere.example\"@east.example.jp",
        "SRS0=aaaa=bb=elsewhere.example=jiro@east.example.jp",
    ] {
        session.expect(&format!("RCPT TO:<{plain}>"), "250 2.1.5");
    }
    session.expect("DATA", "354");
    session.data(&mail("a@friend.example", "x"));
    for _ in 0..5 {
        assert!(session.reply().starts_with("250 2.0.0"));
    }
    let maildirs = std::fs::read_dir(daemon.path("mail/east.example.jp")).unwrap();
    assert_eq!(maildirs.count(), 5);
}

#[test]
fn a_line_without_end_is_cut_off_and_costs_no_memory() {
    let daemon = site().start();
    for (listener, is_lmtp, _) in LISTENERS {
        for octets in [512, 513, 2048, 2049, 64 * 1024] {
            let mut session = greeted(&daemon, listener, is_lmtp);
            let line = format!("NOOP {}", "x".repeat(octets - 7));
            let expected = if octets <= 2048 {
                "250 2.0.0"
            } else {
                "500 5.5."
            };
            session.expect(&line, expected);
            session.expect("NOOP", "250 2.0.0");
        }
        let mut session = greeted(&daemon, listener, is_lmtp);
        // 10 MiB without a line end are one bad line, whatever stands in them.
        for _ in 0..160 {
            session.send(&b"RSET\n".repeat(13_108)[..65_536]);
        }
        session.send(b"\r\n");
        let reply = session.reply();
        assert!(reply.starts_with("500 5.5."), "{listener}: {reply}");
        session.expect("NOOP", "250 2.0.0");
    }
}
