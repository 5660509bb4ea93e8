//! Any octets as a mail, read within usual and within tight bounds: its facts and their folding.
//! What is read within a bound depends on no bound; folding once is folding for good.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sekimori::mail::{
    Address, Bounds, Encoding, Exceeded, FromField, Message, Piece, SubjectField, cleaned, edit,
    fold, parts,
};
use sekimori_fuzz::within;

const TIGHT: Bounds = Bounds {
    header_fields: 4,
    header_bytes: 200,
    mime_parts: 3,
    mime_depth: 2,
};

fuzz_target!(|raw: &[u8]| {
    let full = facts(raw, &Bounds::default());
    let tight = facts(raw, &TIGHT);
    assert_eq!(
        full.body_start, tight.body_start,
        "where the body begins depends on a bound"
    );
    assert!(full.header.fields().starts_with(tight.header.fields()));
    assert_eq!(edit::header_length(raw), full.body_start);
    match tight.exceeded {
        None => {
            assert_eq!(full.exceeded, None);
            assert_eq!(full.header.fields(), tight.header.fields());
            assert_eq!(
                (&full.from, &full.from_text),
                (&tight.from, &tight.from_text)
            );
            assert_eq!(full.subject, tight.subject);
            assert_eq!(full.attachment, tight.attachment);
        }
        Some(Exceeded::MimeParts | Exceeded::MimeDepth) => {
            assert_eq!(full.header.fields(), tight.header.fields());
            assert_eq!(full.subject_text(), tight.subject_text());
        }
        Some(Exceeded::HeaderFields | Exceeded::HeaderBytes) => {}
    }
    for text in [
        String::from_utf8_lossy(raw).as_ref(),
        full.subject_text(),
        &full.from_text,
    ] {
        let folded = fold::fold(text);
        assert_eq!(fold::fold(folded.as_str()), folded);
        let folded = fold::fold_address(text);
        assert_eq!(fold::fold_address(folded.as_str()), folded);
    }
    for bounds in [Bounds::default(), TIGHT] {
        within((1 << 20) + 64 * raw.len(), || removals(raw, &bounds));
    }
});

/// The parts lie in the mail in order; without one or all but one of them the others are as they were.
fn removals(raw: &[u8], bounds: &Bounds) {
    let old = parts(raw, bounds);
    assert!(old.len() <= bounds.mime_parts);
    let mut end = 0;
    for part in &old {
        assert!(end <= part.head.start && part.head.end <= part.body.start);
        assert!(part.body.start <= part.body.end && part.body.end <= raw.len());
        assert!(part.name.chars().count() <= 257);
        assert!(part.media_type.len() <= 255 && part.media_type.is_ascii());
        end = part.body.end;
    }
    for kept in 0..old.len().min(4) {
        for removes_kept in [false, true] {
            let removed: Vec<_> = (0..old.len())
                .filter(|at| (*at == kept) == removes_kept)
                .map(|at| (at, "virus".to_owned()))
                .collect();
            let Some(pieces) = cleaned(raw, &old, &removed) else {
                continue;
            };
            let octets = pieces.iter().map(|piece| match piece {
                Piece::Original(place) => &raw[place.clone()],
                Piece::New(octets) => octets,
            });
            let new_mail = octets.collect::<Vec<_>>().concat();
            let new = parts(&new_mail, bounds);
            // What is put in may be more than a tight bound lets through.
            if new.is_empty() && *bounds == TIGHT {
                continue;
            }
            assert_eq!(old.len(), new.len());
            for (at, (old, new)) in old.iter().zip(&new).enumerate() {
                assert_eq!(old.path, new.path);
                let is_removed = removed.iter().any(|(removed, _)| *removed == at);
                let is_note = new.media_type == "text/plain" && new.encoding == Encoding::Base64;
                assert!(!is_removed || is_note);
                assert!(is_removed || old.decoded(raw) == new.decoded(&new_mail));
            }
        }
    }
}

fn facts(raw: &[u8], bounds: &Bounds) -> Message {
    let message = within((1 << 20) + 64 * raw.len(), || Message::parse(raw, bounds));
    assert!(message.body_start <= raw.len());
    assert_eq!(message.size, raw.len() as u64);
    assert!(!(message.attachment && message.exceeded.is_some()));
    assert!(message.header.fields().len() <= bounds.header_fields);
    let mut at = 0;
    let start = message
        .header
        .fields()
        .first()
        .map_or(0, |field| field.span.start);
    for field in message.header.fields() {
        assert!(at <= field.span.start && field.span.end <= message.body_start);
        assert!(field.span.end - start <= bounds.header_bytes);
        let octets = &raw[field.span.clone()];
        assert!(!field.name.is_empty() && field.value.len() < octets.len());
        assert!(!field.name.contains(['\r', '\n', ':']));
        assert!(
            octets
                .windows(field.value.len().max(1))
                .any(|part| part.starts_with(&field.value))
        );
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
        assert!(
            id.starts_with('<') && id.ends_with('>') && id.is_ascii() && !id.contains(['\r', '\n'])
        );
    }
    message
}
