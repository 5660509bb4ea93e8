//! Header injection: whatever stands in a mail's fields, what we write ourselves keeps its fields,
//! a log its lines and a terminal its state.

use std::collections::BTreeSet;

use crate::harness::{Daemon, JIRO, Site, TARO, crlf, eventually};
use crate::hop::{Captured, Hop, field};

const SABURO: &str = "saburo@east.example.jp";

/// Values of fields that want to be more than a value.
fn values() -> Vec<Vec<u8>> {
    let text: &[&[u8]] = &[
        b"=?utf-8?q?a=0d=0aBcc:_x@evil.example?=",
        b"=?utf-8?q?a=0aBcc:_x@evil.example=0a=0abody?=",
        b"=?utf-8?q?a=0dBcc:_x@evil.example?=",
        b"=?utf-8?b?YQ0KQmNjOiB4QGV2aWwuZXhhbXBsZQ0KDQpib2R5?=",
        b"=?utf-8?q?a=0d?=\r\n =?utf-8?q?=0aBcc:_x@evil.example?=",
        b"=?utf-16be?b?AA0ACgBCAGMAYwA6ACAAeA==?=",
        b"=?utf-7?q?+AA0ACg-Bcc:_x@evil.example?=",
        b"=?iso-2022-jp?b?GyRCJCIKQmNjOiB4?=",
        b"=?us-ascii?q?=?us-ascii?q?=0aBcc:_x?=?=",
        b"=?utf-8?q?=1b[2J=1b]0;owned=07=9b2J=00?=",
        b"=?utf-8?q?=c2=9b2J=e2=80=ae=e2=80=a8Bcc:_x=e2=81=a6?=",
        b"a\x1B[2J\x1B]0;owned\x07\x9B2J\x00\x7F\x08b",
        "a\u{9b}2J\u{202e}\u{2066}\u{2028}Bcc: x\u{85}y\u{feff}".as_bytes(),
        b"level=error msg=\"owned\" \\\" \" = {\"a\":1}",
        b"\xFF\xFE\x83\x5C\x1B$B$\"\n x",
        b"--=_sekimori_report\r\n\tContent-Type: text/html",
        b"%{subject} %s %n {} {0}",
    ];
    let long = [
        b"a ".repeat(5_000),
        b"=0d=0a".repeat(5_000),
        b"x".repeat(60_000),
    ];
    text.iter()
        .map(|value| value.to_vec())
        .chain(long)
        .collect()
}

/// A mail to each of our mailboxes with `value` in every field that is quoted somewhere.
fn evil(value: &[u8], number: usize) -> Vec<u8> {
    let plain = format!(
        "Received: by mta.example.net id {number}; Sun, 22 Nov 2026 09:00:00 +0900\r\nTo: {TARO}, {JIRO}, {SABURO}\r\n"
    );
    let mut raw = plain.into_bytes();
    let fields: [(&str, &[u8], &[u8]); 6] = [
        ("From", b"\"", b"\" <a@friend.example>"),
        ("Subject", b"", b""),
        ("Message-ID", b"<", b"@friend.example>"),
        ("References", b"<a@b> <", b"> <c@d>"),
        ("In-Reply-To", b"<", b">"),
        ("Reply-To", b"", b" <x@evil.example>"),
    ];
    for (name, before, after) in fields {
        let line = [name.as_bytes(), b": ", before, value, after, b"\r\n"];
        raw.extend(line.concat());
    }
    raw.extend_from_slice(b"\r\nbody\r\n");
    raw
}

struct Scene {
    daemon: Daemon,
    relay: Hop,
}

/// TARO notifies and answers, JIRO holds, SABURO's forward fails; all of it with hostile fields.
fn scene(format: &str) -> Scene {
    let relay = Hop::smtp();
    relay.at_rcpt(
        "gone@else.example",
        "550 5.1.1 gone\u{1b}[2J \u{9b}2J\u{202e} X-Injected: =?utf-8?q?=0d=0aX-Injected:_yes?=",
    );
    let daemon = Site::new()
        .with_relay(relay.port)
        .with("format: logfmt, level: info", format)
        .with_mailbox(TARO, "language: en\nnotify: {to: [mobile@else.example], fields: [from, to, subject, attachment, size]}\nauto_reply: {enabled: true, subject: \"Auto: %{subject}\", message: away}\n")
        .with_mailbox(JIRO, "language: en\nspam: {scan: true, quarantine: true, notice: each}\nvirus: {scan: true}\n")
        .with_mailbox(SABURO, "forwarding:\n  mode: all\n  all: {to: [gone@else.example], keep_copy: false}\n")
        .start();
    let mut session = daemon.local();
    for (number, value) in [b"plain".to_vec()].iter().chain(&values()).enumerate() {
        let raw = evil(value, number);
        let sender = format!("s{number}@friend.example");
        for answer in session.hand_over(&sender, &[TARO, SABURO], &raw) {
            assert!(answer.0.starts_with("250 2.0.0 "), "{}", answer.0);
        }
        for (flag, verdict) in [
            ("X-Virus-Status: Infected", "replace/virus"),
            ("X-Spam-Flag: YES", "quarantine/spam"),
        ] {
            let raw = [flag.as_bytes(), b"\r\n", &raw].concat();
            let answer = session.hand_over(&sender, &[JIRO], &raw).remove(0);
            assert_eq!(answer.verdict(), verdict);
        }
    }
    daemon.await_empty_queue();
    Scene { daemon, relay }
}

/// The names of a mail's fields as another parser reads them.
fn names(mail: &[u8]) -> Vec<String> {
    let parsed = mail_parser::MessageParser::default().parse(mail).unwrap();
    let names = parsed.headers().iter().map(|field| field.name());
    names.map(str::to_owned).collect()
}

fn harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[track_caller]
fn assert_letter(letter: &[u8], plain: &[u8]) {
    let text = String::from_utf8(letter.to_vec()).unwrap();
    assert!(text.is_ascii(), "{text}");
    let text = text.replace("\r\n", "\n");
    assert!(
        !text.contains(|c| c != '\n' && c != '\t' && harmful(c)),
        "{text:?}"
    );
    assert!(text.lines().all(|line| line.len() <= 998), "{text}");
    let optional = |name: &String| !["In-Reply-To", "References"].contains(&name.as_str());
    let fields = |mail| names(mail).into_iter().filter(optional).collect::<Vec<_>>();
    assert_eq!(fields(letter), fields(plain), "{text}");
    assert_eq!(field(letter, "Bcc"), None);
    let parsed = mail_parser::MessageParser::default().parse(letter).unwrap();
    assert!(parsed.parts.len() <= 3, "{text}");
}

#[test]
fn letters_keep_their_fields_whatever_they_quote() {
    let Scene { daemon, relay } = scene("format: logfmt, level: info");
    let count = values().len() + 1;
    let notices = relay.mails_to("mobile@else.example");
    assert_eq!(notices.len(), count);
    let replies: Vec<Captured> = (0..count)
        .map(|number| relay.await_mail(&format!("s{number}@friend.example")))
        .collect();
    assert_eq!(relay.mails().len(), 2 * count);
    for mails in [&notices, &replies] {
        let recipients: BTreeSet<usize> = mails.iter().map(|m| m.recipients.len()).collect();
        assert_eq!(recipients, BTreeSet::from([1]));
        for mail in mails.iter() {
            assert_letter(&mail.data, &mails[0].data);
        }
    }
    for reply in &replies {
        let ids = [reply.field("In-Reply-To"), reply.field("References")].concat_words();
        assert!(
            ids.iter()
                .all(|id| id.starts_with('<') && id.ends_with('>')),
            "{ids:?}"
        );
    }
    let mailbox = daemon.mailbox(JIRO);
    assert_eq!(mailbox.len(), 2 * count);
    for subject in ["virus", "Virus", "spam", "held", "quarantine"] {
        let of_a_kind: Vec<&Vec<u8>> = mailbox
            .iter()
            .filter(|mail| field(mail, "Subject").unwrap().contains(subject))
            .collect();
        of_a_kind
            .iter()
            .for_each(|mail| assert_letter(mail, of_a_kind[0]));
    }
}

trait Words {
    fn concat_words(self) -> Vec<String>;
}

impl Words for [Option<String>; 2] {
    fn concat_words(self) -> Vec<String> {
        let words = self.into_iter().flatten();
        words
            .flat_map(|text| {
                text.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

#[test]
fn the_note_of_a_failed_forward_is_one_field_whatever_the_relay_said() {
    let Scene { daemon, .. } = scene("format: logfmt, level: info");
    let mailbox = daemon.mailbox(SABURO);
    assert_eq!(mailbox.len(), values().len() + 1);
    for mail in mailbox {
        let head = mail.split(|octet| *octet == b'\n');
        let ours: Vec<&[u8]> = head
            .take_while(|line| !line.starts_with(b"Received: by mta"))
            .collect();
        let ours = String::from_utf8(ours.join(&b'\n')).unwrap();
        assert!(
            ours.is_ascii() && !ours.contains(|c| c != '\n' && harmful(c)),
            "{ours:?}"
        );
        assert!(!names(&mail).contains(&"X-Injected".to_owned()), "{ours}");
        assert!(ours.contains("X-Sekimori-Forward-Failed: "), "{ours}");
    }
}

#[test]
fn a_log_has_a_line_an_event_and_no_control_character() {
    for format in ["format: logfmt, level: debug", "format: json, level: debug"] {
        let Scene { daemon, .. } = scene(format);
        let log = daemon.log();
        let is_json = format.contains("json");
        let mut mails = 0;
        for line in log.lines().filter(|line| *line != "ready") {
            assert!(!line.contains(harmful), "{line:?}");
            assert!(
                !line.contains('\u{FFFD}') || line.contains("subject"),
                "{line:?}"
            );
            if is_json {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                mails += usize::from(event["message"] == "mail");
            } else {
                assert!(line.starts_with("ts="), "{line:?}");
                mails += usize::from(line.contains(" message=mail "));
            }
        }
        assert_eq!(mails, 4 * (values().len() + 1), "{log}");
    }
}

#[test]
fn commands_print_lines_that_repaint_no_terminal() {
    let Scene { daemon, relay } = scene("format: logfmt, level: info");
    relay.at_rcpt(
        "mobile@else.example",
        "450 4.2.0 \u{1b}[2J later \u{9b}\u{202e}",
    );
    let raw = evil(b"=?utf-8?q?=1b[2J=c2=9b=e2=80=ae=0aowned?=\x1B", 999);
    let id = daemon.give("s999@friend.example", TARO, &raw).id();
    eventually("the relay has refused", || {
        let queue = daemon.queue();
        queue
            .iter()
            .any(|item| !item["last_reply"].is_null())
            .then_some(())
    });
    let held = daemon.quarantine()[0]["id"].as_str().unwrap().to_owned();
    daemon.write("evil.eml", &raw);
    let file = daemon.path("evil.eml").display().to_string();
    for command in [
        &["quarantine", "list"][..],
        &["quarantine", "show", &held],
        &["queue", "list"],
        &["why", &id],
        &["explain", "--mailbox", TARO, &file],
    ] {
        let text = daemon.cli(command).success().text();
        let harm = text.chars().find(|c| *c != '\n' && harmful(*c));
        assert_eq!(harm, None, "{command:?}: {text:?}");
        assert!(
            text.lines().all(|line| !line.starts_with("owned")),
            "{text}"
        );
        let json = daemon.cli(&[command, &["--json"]].concat()).success();
        assert!(!json.json().is_empty(), "{command:?}");
        assert!(
            !json
                .text()
                .contains(|c: char| c != '\n' && c.is_ascii_control())
        );
    }
}

#[test]
fn a_reply_is_printable_ascii_whatever_the_address() {
    let daemon = Site::new()
        .with("domains: [east.example.jp, west.example.jp]", "domains: []")
        .start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.expect(
        "MAIL FROM:<\"a\u{202e}\u{2066}b\"@s.example> SMTPUTF8",
        "250",
    );
    for name in [
        "\u{202e}x",
        "\"q\u{2066} \\\" verdict=deliver\"",
        "太郎",
        "a\u{feff}b",
    ] {
        session.expect(&format!("RCPT TO:<{name}@east.example.jp>"), "250");
    }
    session.expect("DATA", "354");
    session.data(&crlf("From: a@friend.example\nSubject: x\n\nx\n"));
    for _ in 0..4 {
        let reply = session.reply();
        assert!(
            reply.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
            "{reply:?}"
        );
        assert!(reply.starts_with("250 2.0.0 <"), "{reply}");
    }
}

/// RFC 5322 2.2.3: a line that begins with white space is more of the field before it. A mail that
/// begins with one would so rewrite the last field that we put before it.
#[test]
fn a_mail_that_begins_with_white_space_continues_no_field_of_ours() {
    let (hop, relay) = (Hop::lmtp(), Hop::smtp());
    relay.at_rcpt("gone@else.example", "550 5.1.1 no such mailbox");
    let lmtp = format!(
        "method: lmtp\n  lmtp: {{address: \"127.0.0.1:{}\"}}\n",
        hop.port
    );
    for (method, leading) in [("method: maildir\n", " "), (lmtp.as_str(), "\t")] {
        let daemon = Site::new()
            .with_relay(relay.port)
            .with("method: maildir\n", method)
            .with_mailbox(TARO, "spam: {scan: true, quarantine: false, mark_subject: \"[spam]\"}\nforwarding:\n  mode: all\n  all: {to: [home@else.example], keep_copy: true}\n")
            .with_mailbox(JIRO, "reject: {headers: [subject_missing]}\n")
            .with_mailbox(SABURO, "forwarding:\n  mode: all\n  all: {to: [gone@else.example], keep_copy: false}\n")
            .start();
        let raw = crlf(&format!(
            "{leading}; forged by evil.example\nX-Spam-Flag: YES\nFrom: a@friend.example\n\nbody\n"
        ));
        daemon.hand_over("a@friend.example", &[TARO, JIRO, SABURO], &raw);
        let held = daemon.quarantine()[0]["id"].as_str().unwrap().to_owned();
        daemon.cli(&["quarantine", "release", &held]).success();
        daemon.await_empty_queue();
        let is_lmtp = method.contains("lmtp");
        let mut copies: Vec<Vec<u8>> = match is_lmtp {
            true => hop.mails().into_iter().map(|mail| mail.data).collect(),
            false => [TARO, JIRO, SABURO]
                .iter()
                .flat_map(|to| daemon.mailbox(to))
                .collect(),
        };
        assert_eq!(copies.len(), 3);
        copies.extend(
            relay
                .mails_to("home@else.example")
                .pop()
                .map(|mail| mail.data),
        );
        let marked = String::from_utf8(raw.clone()).unwrap();
        let marked = marked.replace("\r\n\r\n", "\r\nSubject: [spam]\r\n\r\n");
        for copy in copies {
            let copy = crlf(&String::from_utf8(copy).unwrap());
            let text = String::from_utf8_lossy(&copy).into_owned();
            assert!(
                copy.ends_with(&raw) || copy.ends_with(marked.as_bytes()),
                "{text}"
            );
            let received = field(&copy, "Received").unwrap();
            assert!(!received.contains("forged"), "{text}");
            let stray = field(&copy, "X-Sekimori-Stray").unwrap();
            assert!(stray.ends_with("; forged by evil.example"), "{text}");
            for name in [
                "X-Sekimori-Fwd",
                "X-Sekimori-Forward-Failed",
                "Delivered-To",
                "Return-Path",
            ] {
                assert!(!field(&copy, name).is_some_and(|value| value.contains("forged")));
            }
        }
    }
}
