//! Texts that a script could take for something else, and spellings: each decides as ours does.

use base64::Engine as _;
use sekimori::mail::{Bounds, Message};
use serde_json::json;

use crate::differential::{decide, script};
use crate::pigeonhole::Site;
use crate::settings::{OWNER, Settings};

#[test]
fn hard_texts_are_held_alike() {
    let subjects: &[(&str, &str, bool)] = &[
        ("a*b?c", "xa*b?cx", true),
        ("a*b?c", "aXbYc", false),
        ("say \"hi\" \\ now", "we say \"hi\" \\ now", true),
        ("cost ${1}", "cost ${1} only", true),
        ("cost ${1}", "cost  only", false),
        ("${dollar}{subject}", "${dollar}{subject}", true),
        ("${subject}", "anything", false),
        ("${hex:40}", "a ${hex:40} b", true),
        ("#1 offer", "the #1 OFFER", true),
        ("アダルト", "ｱﾀﾞﾙﾄ", true),
        ("ｱﾀﾞﾙﾄ", "アダルト", true),
        ("spam", "ＳＰＡＭ", true),
        ("ＳＰＡＭ", "a Spam b", true),
        ("straße", "STRASSE", true),
        ("éa", "ÉA", true),
        ("/* c */", "/* c */ d", true),
    ];
    let site = Site::new();
    for (number, (entry, subject, held)) in subjects.iter().enumerate() {
        let value =
            json!({"version": 1, "mailbox": OWNER, "reject": {"subject_contains": [entry]}});
        let word = base64::engine::general_purpose::STANDARD.encode(subject);
        let raw = format!("From: a@b.example\r\nSubject: =?utf-8?B?{word}?=\r\n\r\nx\r\n");
        check(
            &site,
            number,
            value,
            &raw,
            *held,
            &format!("{entry:?} in {subject:?}"),
        );
    }
    let addresses: &[(&str, &str, bool)] = &[
        ("@spam.example", "A <a@SPAM.example>", true),
        ("@spam.example", "a@xspam.example", false),
        ("spam.example", "a@xspam.example", true),
        (".spam.example", "a@b.spam.example", true),
        ("a*@b.example", "aa@b.example", false),
        ("a*@b.example", "a*@b.example", true),
        ("a?b@c.example", "axb@c.example", false),
        ("@日本.example", "a@xn--wgv71a.example", true),
        ("@xn--wgv71a.example", "a@xn--wgv71a.example", true),
        ("@b.example", "x@y.example, G: z@b.example;", true),
        ("@b.example", "\"a@b.example\" <x@y.example>", false),
        ("${1}@b.example", "a@b.example", false),
    ];
    for (number, (entry, from, held)) in addresses.iter().enumerate() {
        let value = json!({"version": 1, "mailbox": OWNER, "reject": {"from_suffixes": [entry]}});
        let raw = format!("From: {from}\r\nSubject: x\r\n\r\nx\r\n");
        check(
            &site,
            100 + number,
            value,
            &raw,
            *held,
            &format!("{entry:?} in {from:?}"),
        );
    }
    let headers: &[(&str, &str, bool)] = &[
        ("from_missing", "Subject: x\r\n", true),
        ("from_missing", "From:\r\n", false),
        ("from_empty", "From:\r\n", true),
        ("from_empty", "From: \r\n \r\n", true),
        ("from_empty", "From: <>\r\n", false),
        ("from_empty", "Subject: x\r\n", false),
        ("from_empty_address", "From: <>\r\n", true),
        ("from_empty_address", "From: root\r\n", true),
        ("from_empty_address", "From: \"A\" <>\r\n", true),
        ("from_empty_address", "From: G:;\r\n", true),
        ("from_empty_address", "From: a@b.example\r\n", false),
        ("from_empty_address", "From:\r\n", false),
        ("subject_missing", "From: a@b.example\r\n", true),
        ("subject_missing", "Subject:\r\n", false),
        ("subject_empty", "Subject:\r\n", true),
        ("subject_empty", "Subject: =?utf-8?Q??=\r\n", true),
        ("subject_empty", "Subject: x\r\n", false),
        ("subject_empty", "From: a@b.example\r\n", false),
    ];
    for (number, (word, fields, held)) in headers.iter().enumerate() {
        let value = json!({"version": 1, "mailbox": OWNER, "reject": {"headers": [word]}});
        check(
            &site,
            200 + number,
            value,
            &format!("{fields}\r\nx\r\n"),
            *held,
            &format!("{word} with {fields:?}"),
        );
    }
}

fn check(site: &Site, number: usize, value: serde_json::Value, raw: &str, held: bool, what: &str) {
    let settings = Settings::of(value, 0, 0);
    let text = script(&settings);
    let path = site.script(&format!("text{number}.sieve"), &text);
    let file = site.mail("mail.eml", raw.as_bytes());
    let theirs = site
        .execute(&path, &file, "a@b.example", OWNER)
        .outcome(&[]);
    let message = Message::parse(raw.as_bytes(), &Bounds::default());
    let ours = decide(
        &settings.policy,
        &settings.config,
        raw.as_bytes(),
        &message,
        "a@b.example",
        0,
        &[],
    )
    .outcome;
    assert_eq!(ours.stored.contains("Quarantine"), held, "ours: {what}");
    assert_eq!(theirs, ours, "{what}\n{text}");
}
