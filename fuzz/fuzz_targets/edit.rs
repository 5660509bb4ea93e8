//! Any octets as a mail, and any text as the mark of its Subject, a client's greeting, a field:
//! no edit changes an octet of the body or another field, each adds what it says and no more, and
//! what was put before a mail can be taken off again.
//!
//! An input is the mark, a line end, the greeting, a line end, the mail.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sekimori::mail::{
    Address, Bounds, Client, Envelope, Exceeded, Message, Protocol, ReversePath, edit,
};
use sekimori_fuzz::within;

const TIGHT: Bounds = Bounds {
    header_fields: 4,
    header_bytes: 200,
    mime_parts: 3,
    mime_depth: 2,
};
/// One field more than is read of a mail as it came.
const WIDE: Bounds = Bounds {
    header_fields: 1001,
    header_bytes: 2 << 20,
    mime_parts: 1000,
    mime_depth: 64,
};

fuzz_target!(|input: &[u8]| {
    let mut pieces = input.splitn(3, |&octet| octet == b'\n');
    let mut next = || pieces.next().unwrap_or_default();
    let (mark, helo, raw) = (next(), next(), next());
    let mark = String::from_utf8_lossy(mark);
    let helo = String::from_utf8_lossy(helo);
    let full = Message::parse(raw, &Bounds::default());
    within((1 << 20) + 128 * input.len(), || {
        let before = edit::field("X-Sekimori-Note", &mark);
        one_field(&before, "X-Sekimori-Note");
        put_before(raw, &full, &before);
        for envelope in [envelope(&helo, Some(&mark)), envelope(&mark, None)] {
            let before = edit::received(&envelope, &helo, &mark, "Sun, 22 Nov 2026 03:46:00 +0900");
            one_field(&before, "Received");
            put_before(raw, &full, &before);
        }
        if matches!(
            full.exceeded,
            Some(Exceeded::HeaderFields | Exceeded::HeaderBytes)
        ) {
            return;
        }
        let tight = Message::parse(raw, &TIGHT);
        for mark in [mark.as_ref(), "[spam]", "=?x"] {
            marked(raw, &full, &full, mark);
            marked(raw, &full, &tight, mark);
        }
        without_a_field(raw, &full);
    });
});

fn envelope(helo: &str, recipient: Option<&str>) -> Envelope {
    let recipient = recipient.and_then(|text| Address::parse(text).ok());
    Envelope {
        sender: ReversePath::Null,
        recipients: recipient.into_iter().collect(),
        smtputf8: helo.len() % 2 == 0,
        eight_bit: true,
        protocol: Protocol::Lmtp,
        client: Client {
            ip: None,
            helo: helo.to_owned(),
            tls: false,
            trusted: true,
            origin_ip: None,
            origin_name: None,
        },
    }
}

/// A field of ours: one, in lines that are no longer than one may be, but for a longer word.
fn one_field(octets: &[u8], name: &str) {
    let alone = Message::parse(&[octets, b"\r\n"].concat(), &Bounds::default());
    let names: Vec<_> = alone
        .header
        .fields()
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    assert_eq!(names, [name]);
    assert_eq!(alone.body_start, octets.len() + 2);
    let text = std::str::from_utf8(octets).expect("text");
    for line in text.strip_suffix("\r\n").expect("a line").split("\r\n") {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let one_word = !line.trim().contains(' ');
        assert!(line.len() <= 998 || one_word, "{line}");
    }
}

/// The mail behind a field of ours has the same fields and the same body.
fn put_before(raw: &[u8], full: &Message, before: &[u8]) {
    let divider = edit::divider([raw]);
    let stored = [before, divider, raw].concat();
    let after = Message::parse(&stored, &WIDE);
    let ours = &after.header.fields()[0];
    assert_eq!(
        &stored[ours.span.clone()],
        before,
        "the mail goes on in our field"
    );
    // What a mail has before its first field (blank lines, an mbox line) hides behind ours or ends
    // the header.
    let starts = full
        .header
        .fields()
        .first()
        .is_some_and(|field| field.span.start == 0);
    if starts && full.exceeded.is_none() {
        assert_eq!(others(full, None), others(&after, Some(0)));
        assert_eq!(&stored[after.body_start..], &raw[full.body_start..]);
        assert_eq!(after.subject_text(), full.subject_text());
        assert_eq!(after.attachment, full.attachment);
        let name = &ours.name;
        if !others(full, None)
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
        {
            let (head, body) = stored.split_at(after.body_start);
            assert_eq!([&without_field(head, name), body].concat(), raw);
        }
    }
}

/// Name and value of every field but the one at `skip`.
fn others(message: &Message, skip: Option<usize>) -> Vec<(&str, &[u8])> {
    let fields = message.header.fields().iter().enumerate();
    let kept = fields.filter(|(at, _)| Some(*at) != skip);
    kept.map(|(_, field)| (field.name.as_str(), field.value.as_slice()))
        .collect()
}

fn subject_at(message: &Message) -> Option<usize> {
    let mut fields = message.header.fields().iter();
    fields.position(|field| field.name.eq_ignore_ascii_case("Subject"))
}

/// Marks by what `seen` knows of the mail; `full` knows all of it.
fn marked(raw: &[u8], full: &Message, seen: &Message, mark: &str) {
    let body = &raw[full.body_start..];
    let splice = edit::mark_subject(raw, seen, mark);
    assert!(splice.at.end <= full.body_start && splice.with.len() <= 64 + 8 * mark.len());
    let again = [&raw[..splice.at.start], &splice.with, &raw[splice.at.end..]].concat();
    let after = Message::parse(&again, &WIDE);
    assert_eq!(&again[after.body_start..], body, "the body is not the same");
    let subject = match subject_at(seen) {
        Some(at) => {
            assert_eq!(subject_at(&after), Some(at));
            assert_eq!(others(full, Some(at)), others(&after, Some(at)));
            at
        }
        None => {
            let known = if seen.header.fields().is_empty() {
                full
            } else {
                seen
            };
            let added = known.header.fields().len();
            assert_eq!(others(full, None), others(&after, Some(added)));
            added
        }
    };
    // A setting gives one line of text; of anything else only the rest of the mail is promised.
    if mark.is_empty() || mark.trim() != mark || mark.chars().any(char::is_control) {
        return;
    }
    let squeezed = |text: &str| text.split_whitespace().collect::<String>();
    let text = after.header.fields()[subject].text();
    if subject_at(seen).is_none() {
        assert_eq!(squeezed(&text), squeezed(mark));
        return;
    }
    let field = &full.header.fields()[subject];
    let before = field.text();
    assert!(
        squeezed(&text).starts_with(&squeezed(mark)),
        "{text:?} does not begin with {mark:?}"
    );
    // A raw octet beside other raw text may be read in another charset than before.
    if field.value.is_ascii() && !before.contains('\u{1b}') {
        assert_eq!(squeezed(&text), squeezed(&format!("{mark} {before}")));
    }
}

/// As it is stored: behind header lines of ours.
fn without_a_field(raw: &[u8], full: &Message) {
    let Some(first) = full
        .header
        .fields()
        .first()
        .filter(|first| first.span.start == 0)
    else {
        return;
    };
    let (head, body) = raw.split_at(full.body_start);
    let name = first.name.as_str();
    if name.contains('\u{fffd}') {
        return;
    }
    let kept = without_field(head, name);
    let again = [b"Delivered-To: a@b\r\n".as_slice(), &kept, body].concat();
    let after = Message::parse(&again, &WIDE);
    let left: Vec<_> = others(full, None)
        .into_iter()
        .filter(|(other, _)| !other.eq_ignore_ascii_case(name))
        .collect();
    assert_eq!(left, others(&after, Some(0)));
    assert_eq!(&again[after.body_start..], body);
}

fn without_field(block: &[u8], name: &str) -> Vec<u8> {
    let mut kept = Vec::new();
    let _: Result<(), ()> = edit::without_field(block, name, |piece| {
        kept.extend_from_slice(&block[piece]);
        Ok(())
    });
    kept
}
