//! Any octets as a mail: its facts, their folding, and the edits that are made to it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sekimori::mail::{Address, Bounds, FromField, Message, SubjectField, edit, fold};

fuzz_target!(|raw: &[u8]| {
    let bounds = Bounds::default();
    let message = Message::parse(raw, &bounds);
    assert!(message.body_start <= raw.len());
    assert!(!(message.attachment && message.exceeded.is_some()));
    if let SubjectField::Text(texts) = &message.subject {
        for text in texts {
            assert_eq!(fold::fold(text.folded.as_str()), text.folded);
        }
    }
    if let FromField::Addresses(addresses) = &message.from {
        for address in addresses {
            assert_eq!(fold::fold_address(address.folded.as_str()), address.folded);
            if let Ok(parsed) = Address::parse(&address.text) {
                assert_eq!(parsed.to_string(), address.text);
            }
        }
    }
    message.header.address_keys("To");
    message.message_id();

    let (head, body) = raw.split_at(message.body_start);
    for mark in ["[spam]", "[迷惑]"] {
        let marked = edit::mark_subject(raw, &message, mark);
        let again = [&marked, body].concat();
        let fields = Message::parse(&again, &bounds).header.fields().len();
        assert!(message.exceeded.is_some() || fields >= message.header.fields().len());
    }
    let kept = edit::without_field(head, "Return-Path");
    assert!(kept.len() <= head.len());
});
