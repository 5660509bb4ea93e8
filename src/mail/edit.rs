//! The few changes that are ever made to a message: header lines put before it, an older
//! `Return-Path` taken out, the mark put before the local copy's Subject. The body is never touched.

use core::net::IpAddr;
use core::ops::Range;
use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Bounds, Client, Envelope, Message, Protocol, header, words};

/// Octets of a header line that folding keeps to (RFC 5322 2.1.1).
const LINE: usize = 78;
/// Octets that a line may have at most (RFC 5322 2.1.1).
const LONGEST_LINE: usize = 998;
/// Octets of text in one encoded word: with label and base64 they stay within 75 (RFC 2047 2).
const WORD_TEXT: usize = 42;
/// What is kept of a name that a client gave.
const MAX_HELO: usize = 255;
/// The field that [`divider`] gives.
const STRAY: &[u8] = b"X-Sekimori-Stray: the mail begins with a line that belongs to no field\r\n";

/// A `Received:` line for a mail that we took over (RFC 5321 4.4), CRLF included.
///
/// `date` is an RFC 5322 date; `for` is named only when the mail has one recipient (7.2).
pub fn received(envelope: &Envelope, hostname: &str, id: &str, date: &str) -> Vec<u8> {
    let mut words = vec![
        ["from ", &client(&envelope.client)].concat(),
        ["by ", &domain(hostname), " (sekimori)"].concat(),
        ["with ", protocol(envelope)].concat(),
        ["id ", &domain(id)].concat(),
    ];
    if let [recipient] = envelope.recipients.as_slice() {
        let text = recipient.to_string();
        if envelope.smtputf8 || text.is_ascii() {
            words.push(["for <", &text, ">"].concat());
        }
    }
    if let Some(last) = words.last_mut() {
        last.push(';');
    }
    words.push(date.to_owned());
    folded("Received:", &words)
}

/// Octets that stand for some of a mail's. However large the mail is, they are few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// What they stand for; may be empty.
    pub at: Range<usize>,
    /// What is sent.
    pub with: Vec<u8>,
}

/// What puts `mark` and one space before the text of the first Subject; a Subject
/// field with the mark alone where there is none. Everything else stays as it is.
///
/// A mark that is not printable ASCII is put in encoded words (RFC 2047), with the space inside
/// where an encoded word follows: the space between two is not shown.
pub fn mark_subject(raw: &[u8], message: &Message, mark: &str) -> Splice {
    let block = raw.get(..message.body_start).unwrap_or(raw);
    let Some(field) = message.header.first("Subject") else {
        return with_subject(block, message, &encoded(mark, ""));
    };
    let text = field.value.trim_ascii_start();
    let blanks = field.value.len() - text.len();
    let folded_first = field
        .value
        .iter()
        .take(blanks)
        .any(|octet| matches!(octet, b'\r' | b'\n'));
    let space = if words::begins_with_word(text) {
        " "
    } else {
        ""
    };
    let mark = encoded(mark, space);
    let colon = block
        .get(field.span.clone())
        .and_then(|octets| memchr::memchr(b':', octets))
        .map_or(field.span.end, |at| field.span.start + at + 1);
    let beside =
        || colon - field.span.start + 1 + last_line(mark.as_bytes()) + 1 + first_line(text);
    let gap: &[u8] = if text.is_empty() {
        b""
    } else if folded_first || beside() > LONGEST_LINE {
        b"\r\n "
    } else {
        b" "
    };
    Splice {
        at: colon..colon + blanks,
        with: [b" ", mark.as_bytes(), gap].concat(),
    }
}

/// Octets of the header block at the beginning of `raw`, the empty line included.
pub fn header_length(raw: &[u8]) -> usize {
    let bounds = Bounds {
        header_fields: 0,
        ..Bounds::default()
    };
    header::scan(raw, &bounds).body_start
}

/// One header field of our own, folded, with its CRLF. What is not printable ASCII in `text` is
/// left out.
pub fn field(name: &str, text: &str) -> Vec<u8> {
    let clean = text.chars().filter(|c| *c == ' ' || c.is_ascii_graphic());
    let words: Vec<String> = clean
        .collect::<String>()
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    folded(&format!("{name}:"), &words)
}

/// What must stand between header lines of ours and the mail that begins with `mail`: nothing, or a
/// field of ours where the mail's first line begins with white space. That line would else be
/// taken for more of our last field (RFC 5322 2.2.3), whose value the sender could so forge.
pub fn divider<'a>(mail: impl IntoIterator<Item = &'a [u8]>) -> &'static [u8] {
    match mail.into_iter().flatten().next() {
        Some(b' ' | b'\t') => STRAY,
        _ => b"",
    }
}

/// Gives where a header block's octets lie, but for its fields of that name, to `keep`: in order, the
/// last piece up to the end of the block, which may be empty.
///
/// # Errors
/// The first one of `keep`, which is not called again then.
pub fn without_field<E>(
    header_block: &[u8],
    name: &str,
    keep: impl FnMut(Range<usize>) -> Result<(), E>,
) -> Result<(), E> {
    header::without(header_block, name, keep)
}

/// Adds a Subject behind the last field; without one before the empty line, as a line that begins
/// with white space would be taken for more of the Subject before it.
fn with_subject(block: &[u8], message: &Message, mark: &str) -> Splice {
    let last = message.header.fields().last();
    let at = last.map_or_else(|| end_of_fields(block), |field| field.span.end);
    let line_end: &[u8] = match block.get(..at).unwrap_or(block) {
        b"" | b"\xEF\xBB\xBF" | [.., b'\r' | b'\n'] => b"",
        _ => b"\r\n",
    };
    Splice {
        at: at..at,
        with: [line_end, b"Subject: ", mark.as_bytes(), b"\r\n"].concat(),
    }
}

/// Octets before the first line end.
fn first_line(text: &[u8]) -> usize {
    memchr::memchr2(b'\r', b'\n', text).unwrap_or(text.len())
}

/// Octets behind the last line end.
fn last_line(text: &[u8]) -> usize {
    memchr::memrchr(b'\n', text).map_or(text.len(), |at| text.len() - at - 1)
}

/// Where the empty line begins that ends the block, or the end.
fn end_of_fields(block: &[u8]) -> usize {
    let empty = header::Lines::new(block, header::preamble(block))
        .last()
        .filter(|line| line.content.is_empty());
    empty.map_or(block.len(), |line| line.content.start)
}

/// The mark as it stands in a header field; `space` goes into an encoded word only.
fn encoded(mark: &str, space: &str) -> String {
    let plain = mark.bytes().all(|octet| matches!(octet, b' '..=b'~')) && !mark.contains("=?");
    if plain {
        return mark.to_owned();
    }
    let text: String = mark
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .chain(space.chars())
        .collect();
    let mut words: Vec<String> = Vec::new();
    let mut chunk = String::new();
    for c in text.chars() {
        if chunk.len() + c.len_utf8() > WORD_TEXT {
            words.push(std::mem::take(&mut chunk));
        }
        chunk.push(c);
    }
    words.push(chunk);
    let words: Vec<String> = words
        .iter()
        .map(|text| format!("=?UTF-8?B?{}?=", STANDARD.encode(text)))
        .collect();
    words.join("\r\n ")
}

fn client(client: &Client) -> Cow<'_, str> {
    let helo = domain(&client.helo);
    match client.ip {
        Some(IpAddr::V4(ip)) => format!("{helo} ([{ip}])").into(),
        Some(IpAddr::V6(ip)) => format!("{helo} ([IPv6:{ip}])").into(),
        None => helo,
    }
}

/// A name as RFC 5321 lets one stand in a trace field; any other character becomes `?`, so that
/// nothing of what a client said can end the line, the comment or the clause.
fn domain(text: &str) -> Cow<'_, str> {
    let stands =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    match text {
        "" => "unknown".into(),
        _ if text.len() <= MAX_HELO && text.chars().all(stands) => text.into(),
        _ => {
            let shown = |c| if stands(c) { c } else { '?' };
            text.chars().take(MAX_HELO).map(shown).collect()
        }
    }
}

fn protocol(envelope: &Envelope) -> &'static str {
    match (envelope.protocol, envelope.smtputf8, envelope.client.tls) {
        (Protocol::Lmtp, false, false) => "LMTP",
        (Protocol::Lmtp, false, true) => "LMTPS",
        (Protocol::Lmtp, true, false) => "UTF8LMTP",
        (Protocol::Lmtp, true, true) => "UTF8LMTPS",
        (Protocol::Smtp, false, false) => "ESMTP",
        (Protocol::Smtp, false, true) => "ESMTPS",
        (Protocol::Smtp, true, false) => "UTF8SMTP",
        (Protocol::Smtp, true, true) => "UTF8SMTPS",
    }
}

/// A field of these clauses, folded between them to lines of at most [`LINE`] octets.
fn folded(name: &str, clauses: &[String]) -> Vec<u8> {
    let room = |clause: &String| clause.len() + "\r\n ".len();
    let room = name.len() + clauses.iter().map(room).sum::<usize>() + "\r\n".len();
    let mut field = String::with_capacity(room);
    field.push_str(name);
    let mut column = field.len();
    for clause in clauses {
        if column + 1 + clause.len() > LINE {
            field.push_str("\r\n ");
            column = 1 + clause.len();
        } else {
            field.push(' ');
            column += 1 + clause.len();
        }
        field.push_str(clause);
    }
    field.push_str("\r\n");
    field.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Address, Bounds, ReversePath};
    use proptest::prelude::*;

    fn envelope(helo: &str, recipients: &[&str]) -> Envelope {
        Envelope {
            sender: ReversePath::Null,
            recipients: recipients
                .iter()
                .map(|text| Address::parse(text).unwrap())
                .collect(),
            smtputf8: false,
            eight_bit: true,
            protocol: Protocol::Lmtp,
            client: Client {
                ip: Some(IpAddr::from([192, 0, 2, 1])),
                helo: helo.to_owned(),
                tls: false,
                trusted: true,
                origin_ip: None,
                origin_name: None,
            },
        }
    }

    const DATE: &str = "Sun, 22 Nov 2026 03:46:00 +0900";

    fn line(envelope: &Envelope) -> String {
        let line = received(envelope, "mx.example.jp", "ab12", DATE);
        assert!(
            line.split(|octet| *octet == b'\n')
                .all(|line| line.len() < 80)
        );
        String::from_utf8(line).unwrap().replace("\r\n ", " ")
    }

    #[test]
    fn trace_lines() {
        let mut one = envelope("mta.example.jp", &["taro@x.jp"]);
        assert_eq!(
            line(&one),
            "Received: from mta.example.jp ([192.0.2.1]) by mx.example.jp (sekimori) \
             with LMTP id ab12 for <taro@x.jp>; Sun, 22 Nov 2026 03:46:00 +0900\r\n"
        );
        one.client.ip = None;
        one.protocol = Protocol::Smtp;
        assert!(line(&one).starts_with("Received: from mta.example.jp by mx"));
        assert!(line(&one).contains("with ESMTP id"));
        one.smtputf8 = true;
        assert!(line(&one).contains("with UTF8SMTP id"));
        one.client.tls = true;
        assert!(line(&one).contains("with UTF8SMTPS id"));
        one.protocol = Protocol::Lmtp;
        assert!(line(&one).contains("with UTF8LMTPS id"));
        one.smtputf8 = false;
        assert!(line(&one).contains("with LMTPS id"));
        one.protocol = Protocol::Smtp;
        assert!(line(&one).contains("with ESMTPS id"));
        one.client.ip = Some("2001:db8::1".parse().unwrap());
        assert!(line(&one).contains("([IPv6:2001:db8::1])"));
        let two = envelope("a", &["taro@x.jp", "jiro@x.jp"]);
        assert!(line(&two).ends_with("with LMTP id ab12; Sun, 22 Nov 2026 03:46:00 +0900\r\n"));
        assert!(line(&envelope("", &[])).starts_with("Received: from unknown ("));
    }

    fn spliced(raw: &[u8], splice: &Splice) -> Vec<u8> {
        let (before, after) = (&raw[..splice.at.start], &raw[splice.at.end..]);
        [before, &splice.with, after].concat()
    }

    fn marked(raw: &str, mark: &str) -> String {
        let message = Message::parse(raw.as_bytes(), &Bounds::default());
        let splice = mark_subject(raw.as_bytes(), &message, mark);
        assert!(splice.at.end <= message.body_start);
        String::from_utf8(spliced(raw.as_bytes(), &splice)).unwrap()
    }

    #[test]
    fn marks() {
        let rows = [
            (
                "Subject: Hi\r\n\r\nSubject: no\r\n",
                "Subject: [spam] Hi\r\n\r\nSubject: no\r\n",
            ),
            (
                "A: b\r\nsubject:Hi\r\n\r\n",
                "A: b\r\nsubject: [spam] Hi\r\n\r\n",
            ),
            ("Subject:   Hi\r\n\r\n", "Subject: [spam] Hi\r\n\r\n"),
            ("Subject:\r\n Hi\r\n\r\n", "Subject: [spam]\r\n Hi\r\n\r\n"),
            ("Subject:\r\n\r\nx", "Subject: [spam]\r\n\r\nx"),
            ("Subject: \r\n\r\nx", "Subject: [spam]\r\n\r\nx"),
            (
                "Subject: a\r\nSubject: b\r\n\r\n",
                "Subject: [spam] a\r\nSubject: b\r\n\r\n",
            ),
            (
                "From: a\r\n\r\nbody",
                "From: a\r\nSubject: [spam]\r\n\r\nbody",
            ),
            ("From: a", "From: a\r\nSubject: [spam]\r\n"),
            ("\r\nbody", "Subject: [spam]\r\n\r\nbody"),
        ];
        for (raw, expected) in rows {
            assert_eq!(marked(raw, "[spam]"), expected, "{raw:?}");
        }
    }

    #[test]
    fn a_new_subject_takes_in_no_line_of_a_mail_without_fields() {
        let rows = [
            (
                " From: <a@b>\r\n\r\nbody",
                " From: <a@b>\r\nSubject: [spam]\r\n\r\nbody",
            ),
            ("\tjunk", "\tjunk\r\nSubject: [spam]\r\n"),
            (" \n\nbody", " \nSubject: [spam]\r\n\nbody"),
            ("", "Subject: [spam]\r\n"),
        ];
        for (raw, expected) in rows {
            assert_eq!(marked(raw, "[spam]"), expected, "{raw:?}");
        }
    }

    #[test]
    fn a_new_subject_stands_before_the_empty_line_behind_a_byte_order_mark() {
        let rows = [
            ("\u{feff}\r\nbody", "\u{feff}Subject: [spam]\r\n\r\nbody"),
            (
                "\u{feff}\r\nFrom a@b Sun\r\n\r\nSubject: no",
                "\u{feff}Subject: [spam]\r\n\r\nFrom a@b Sun\r\n\r\nSubject: no",
            ),
            ("\u{feff}", "\u{feff}Subject: [spam]\r\n"),
            ("From a@b Sun", "From a@b Sun\r\nSubject: [spam]\r\n"),
        ];
        for (raw, expected) in rows {
            assert_eq!(marked(raw, "[spam]"), expected, "{raw:?}");
        }
    }

    #[test]
    fn a_new_subject_stands_behind_a_preamble_and_a_field_beyond_the_bounds() {
        let bounds = Bounds {
            header_bytes: 4,
            ..Bounds::default()
        };
        for before in ["", "\r\n", "\u{feff}", "From a@b Sun\r\n"] {
            let raw = format!("{before}From: a@b\r\n\r\nbody");
            let message = Message::parse(raw.as_bytes(), &bounds);
            let splice = mark_subject(raw.as_bytes(), &message, "[spam]");
            let new = spliced(raw.as_bytes(), &splice);
            let expected = format!("{before}From: a@b\r\nSubject: [spam]\r\n\r\nbody");
            assert_eq!(new, expected.as_bytes(), "{raw:?}");
        }
    }

    #[test]
    fn the_mark_is_read_before_one_space() {
        let long = "長い印".repeat(20);
        for mark in ["[spam]", "[迷惑]", "=?x", long.as_str()] {
            for (text, shown) in [
                ("Hi", "Hi"),
                ("=?UTF-8?B?44OG44K544OI?=", "テスト"),
                ("\r\n =?UTF-8?B?44OG44K544OI?=", "テスト"),
                ("\r\n\tHi", "Hi"),
            ] {
                let raw = format!("Subject: {text}\r\n\r\nbody");
                let new = marked(&raw, mark);
                let message = Message::parse(new.as_bytes(), &Bounds::default());
                let subject = message.subject_text().replace('\t', " ");
                assert_eq!(subject, format!("{mark} {shown}"), "{new:?}");
            }
        }
    }

    #[test]
    fn text_that_only_looks_like_an_encoded_word_gets_one_space() {
        for text in ["=?", "=? Hi", "=?x?y", "=?UTF-8?B?44OG", "=?UTF-8?X?aGk=?="] {
            let raw = format!("Subject: {text}\r\n\r\nbody");
            let new = marked(&raw, "[迷惑]");
            assert_eq!(
                new,
                format!("Subject: =?UTF-8?B?W+i/t+aDkV0=?= {text}\r\n\r\nbody")
            );
        }
        let folded = "Subject: =?UTF-8?B?44OG\r\n 44K544OI?=\r\n\r\nbody";
        let message = marked(folded, "[迷惑]");
        let message = Message::parse(message.as_bytes(), &Bounds::default());
        assert_eq!(message.subject_text(), "[迷惑] テスト");
    }

    #[test]
    fn the_mark_makes_no_line_longer_than_a_line_may_be() {
        for length in 970..=998 - "Subject: ".len() {
            let text = "x".repeat(length);
            for mark in ["[spam]", "[迷惑メール]"] {
                let new = marked(&format!("Subject: {text}\r\n more\r\n\r\nbody"), mark);
                let longest = new.lines().map(str::len).max();
                assert!(longest <= Some(LONGEST_LINE), "{length} {longest:?}");
                let message = Message::parse(new.as_bytes(), &Bounds::default());
                assert_eq!(message.subject_text(), format!("{mark} {text} more"));
            }
        }
    }

    #[test]
    fn a_mail_that_begins_with_white_space_continues_no_field_of_ours() {
        let ours = line(&envelope("mta.example.jp", &[]));
        let rows = [
            (" lead\r\nA: b\r\n\r\n", true),
            ("\tlead", true),
            (" \r\n\r\nbody", true),
            ("A: b\r\n c\r\n\r\n", false),
            ("\r\n body", false),
            ("no field\r\n", false),
            ("", false),
        ];
        for (mail, divided) in rows {
            for at in [0, mail.len()] {
                let (header, body) = mail.as_bytes().split_at(at);
                let divider = divider([header, body]);
                assert_eq!(divider == STRAY, divided, "{mail:?}");
                let whole = [ours.as_bytes(), divider, mail.as_bytes()].concat();
                let message = Message::parse(&whole, &Bounds::default());
                let received = &message.header.fields()[0];
                assert_eq!(&whole[received.span.clone()], ours.as_bytes(), "{mail:?}");
            }
        }
    }

    #[test]
    fn fields_taken_out() {
        let rows = [
            ("Return-Path: <a>\r\nA: b\r\n\r\n", "A: b\r\n\r\n"),
            (
                "A: b\r\nreturn-path:\r\n <a>\r\nC: d\r\n\r\n",
                "A: b\r\nC: d\r\n\r\n",
            ),
            ("A: b\r\n\r\n", "A: b\r\n\r\n"),
            ("Return-Path: <a>", ""),
            ("", ""),
        ];
        for (block, expected) in rows {
            let mut kept = Vec::new();
            let all: Result<(), ()> = without_field(block.as_bytes(), "Return-Path", |piece| {
                kept.extend_from_slice(&block.as_bytes()[piece]);
                Ok(())
            });
            assert_eq!(
                (kept.as_slice(), all),
                (expected.as_bytes(), Ok(())),
                "{block:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_injects_a_line(helo in any::<String>(), id in any::<String>()) {
            let envelope = envelope(&helo, &[]);
            let raw = received(&envelope, "mx.example.jp", &id, DATE);
            let message = Message::parse(&[&raw, b"\r\n".as_slice()].concat(), &Bounds::default());
            prop_assert_eq!(message.header.fields().len(), 1);
            prop_assert!(raw.is_ascii());
        }

        #[test]
        fn edits_keep_body_and_other_fields(
            head in "((Subject|From|X-A|junk)[: ]{1,2}[a-z=? \r\t]{0,6}(\r\n ?|\n)){0,4}\r?\n?",
            body in any::<Vec<u8>>(),
            mark in "\\PC{1,5}",
        ) {
            let raw = [head.as_bytes(), body.as_slice()].concat();
            let message = Message::parse(&raw, &Bounds::default());
            let new = spliced(&raw, &mark_subject(&raw, &message, &mark));
            let body = raw.get(message.body_start..).unwrap();
            let after = Message::parse(&new, &Bounds::default());
            prop_assert_eq!(new.get(after.body_start..).unwrap(), body);
            let others = |message: &Message| {
                let mut seen = false;
                let all = message.header.fields().iter().filter(|field| {
                    let first = !seen && field.name.eq_ignore_ascii_case("Subject");
                    seen |= first;
                    !first
                });
                all.map(|field| (field.name.clone(), field.value.clone())).collect::<Vec<_>>()
            };
            prop_assert_eq!(others(&message), others(&after));
        }
    }
}
