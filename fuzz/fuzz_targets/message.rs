//! Any octets as a mail, read within usual and within tight bounds: its facts, their folding, and
//! the edits that are made to it. An edit changes no octet of the body and no other field.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sekimori::mail::{Address, Bounds, Exceeded, FromField, Message, SubjectField, edit, fold};

const TIGHT: Bounds = Bounds {
    header_fields: 4,
    header_bytes: 200,
    mime_parts: 3,
    mime_depth: 2,
};

fuzz_target!(|raw: &[u8]| {
    let full = facts(raw, &Bounds::default());
    let tight = facts(raw, &TIGHT);
    assert_eq!(full.body_start, tight.body_start, "where the body begins depends on a bound");
    assert!(full.header.fields().starts_with(tight.header.fields()));
    assert_eq!(edit::header_length(raw), full.body_start);
    if matches!(full.exceeded, Some(Exceeded::HeaderFields | Exceeded::HeaderBytes)) {
        return;
    }
    for mark in ["[spam]", "[迷惑]", "=?x"] {
        marked(raw, &full, &full, mark);
        marked(raw, &full, &tight, mark);
    }
    without_a_field(raw, &full);
});

fn facts(raw: &[u8], bounds: &Bounds) -> Message {
    let message = Message::parse(raw, bounds);
    assert!(message.body_start <= raw.len());
    assert_eq!(message.size, raw.len() as u64);
    assert!(!(message.attachment && message.exceeded.is_some()));
    assert!(message.header.fields().len() <= bounds.header_fields);
    let mut at = 0;
    for field in message.header.fields() {
        assert!(at <= field.span.start && field.span.end <= message.body_start);
        let octets = &raw[field.span.clone()];
        assert!(field.name.len() > 0 && field.value.len() < octets.len());
        assert!(octets.windows(field.value.len().max(1)).any(|part| part.starts_with(&field.value)));
        at = field.span.end;
    }
    if let SubjectField::Text(texts) = &message.subject {
        assert!(!texts.is_empty());
        for text in texts {
            assert!(!text.folded.is_empty());
            assert_eq!(fold::fold(text.folded.as_str()), text.folded);
            assert_eq!(fold::fold(&text.decoded), text.folded);
        }
    }
    if let FromField::Addresses(addresses) = &message.from {
        assert!((1..=1000).contains(&addresses.len()));
        for address in addresses {
            assert_eq!(fold::fold_address(address.folded.as_str()), address.folded);
            if let Ok(parsed) = Address::parse(&address.text) {
                assert_eq!(parsed.to_string(), address.text);
                assert_eq!(parsed.key(), address.folded.as_str());
            }
        }
    }
    assert!(message.header.address_keys("To").len() <= 1000);
    if let Some(id) = message.message_id() {
        assert!(id.starts_with('<') && id.ends_with('>') && id.is_ascii() && !id.contains(['\r', '\n']));
    }
    message
}

/// Name and value of every field but the one at `skip`.
fn others(message: &Message, skip: Option<usize>) -> Vec<(&str, &[u8])> {
    let fields = message.header.fields().iter().enumerate();
    let kept = fields.filter(|(at, _)| Some(*at) != skip);
    kept.map(|(_, field)| (field.name.as_str(), field.value.as_slice())).collect()
}

fn subject_at(message: &Message) -> Option<usize> {
    let mut fields = message.header.fields().iter();
    fields.position(|field| field.name.eq_ignore_ascii_case("Subject"))
}

/// Marks by what `seen` knows of the mail; `full` knows all of it.
fn marked(raw: &[u8], full: &Message, seen: &Message, mark: &str) {
    let body = &raw[full.body_start..];
    let again = [&edit::mark_subject(raw, seen, mark), body].concat();
    let bounds = Bounds { header_fields: 1001, header_bytes: 2 << 20, ..Bounds::default() };
    let after = Message::parse(&again, &bounds);
    assert_eq!(&again[after.body_start..], body, "the body is not the same");
    match subject_at(seen) {
        Some(at) => {
            assert_eq!(subject_at(&after), Some(at));
            assert_eq!(others(full, Some(at)), others(&after, Some(at)));
            let mut before = full.header.fields()[at].text();
            if !before.is_empty() {
                before.insert(0, ' ');
            }
            let text = after.header.fields()[at].text();
            assert!(text.starts_with(mark), "{text:?} does not begin with {mark:?}");
            // A raw octet beside other raw text may be read in another charset than before.
            if full.header.fields()[at].value.is_ascii() && !before.contains('\u{1b}') {
                assert_eq!(text.split_whitespace().collect::<String>(),
                    format!("{mark}{before}").split_whitespace().collect::<String>());
            }
        }
        None => {
            let known = if seen.header.fields().is_empty() { full } else { seen };
            let added = known.header.fields().len();
            assert_eq!(others(full, None), others(&after, Some(added)));
            assert_eq!(after.header.fields()[added].text(), mark);
        }
    }
}

/// As it is stored: behind header lines of ours.
fn without_a_field(raw: &[u8], full: &Message) {
    let Some(first) = full.header.fields().first().filter(|first| first.span.start == 0) else {
        return;
    };
    let (head, body) = raw.split_at(full.body_start);
    let name = first.name.as_str();
    if name.contains('\u{fffd}') {
        return;
    }
    let kept = edit::without_field(head, name);
    let again = [b"Delivered-To: a@b\r\n".as_slice(), &kept, body].concat();
    let after = Message::parse(&again, &Bounds { header_fields: 1001, ..Bounds::default() });
    let left: Vec<_> = others(full, None)
        .into_iter()
        .filter(|(other, _)| !other.eq_ignore_ascii_case(name))
        .collect();
    assert_eq!(left, others(&after, Some(0)));
    assert_eq!(&again[after.body_start..], body);
}
