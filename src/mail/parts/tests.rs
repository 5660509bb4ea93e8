//! The parts of mails that are nested, broken or hostile.

use super::*;
use proptest::prelude::*;

fn found(raw: &[u8]) -> Vec<Part> {
    let parts = parts(raw, &Bounds::default());
    let mut end = 0;
    for part in &parts {
        let order = [
            end,
            part.head.start,
            part.head.end,
            part.body.start,
            part.body.end,
            raw.len(),
        ];
        assert!(order.is_sorted(), "{part:?}");
        end = part.body.end;
    }
    parts
}

/// A line a part: path, type, name, body.
fn listed(raw: &str) -> Vec<String> {
    let parts = found(raw.as_bytes());
    let line = |part: &Part| {
        let body = String::from_utf8(part.decoded(raw.as_bytes()).into_owned()).unwrap();
        format!("{} {} [{}] {body:?}", part.path, part.media_type, part.name)
    };
    parts.iter().map(line).collect()
}

const NESTED: &str = "From: a@b\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\npreamble\r\n\
    --b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n\
    --c\r\n\r\nplain\r\n--c\r\nContent-Type: TEXT/html; charset=utf-8\r\n\
    Content-Transfer-Encoding: quoted-printable\r\n\r\n<b>=3D</b>\r\n--c--\r\nepilogue\r\n\
    --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\
    Content-Type: multipart/mixed; boundary=d\r\n\r\n--d\r\n\r\ninner\r\n\
    --d\r\nContent-Type: application/zip; name=x.zip\r\nContent-Transfer-Encoding: base64\r\n\
    Content-Disposition: attachment;\r\n filename*=utf-8''%E8%AB%8B%E6%B1%82.zip\r\n\r\nUEsD\r\nBA==\r\n--d--\r\n\
    --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\nalone\r\n\
    --b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nQTogYg==\r\n\
    --b--\r\nepilogue\r\n";

#[test]
fn leaves_and_their_numbers() {
    assert_eq!(
        listed(NESTED),
        [
            "1.1 text/plain [] \"plain\"",
            "1.2 text/html [] \"<b>=</b>\"",
            "2.1 text/plain [] \"inner\"",
            "2.2 application/zip [請求.zip] \"PK\\u{3}\\u{4}\"",
            "3.1 text/plain [] \"alone\"",
            "4 message/rfc822 [] \"A: b\"",
        ]
    );
}

#[test]
fn odd_mails() {
    let rows: &[(&str, &[&str])] = &[
        ("", &["1 text/plain [] \"\""]),
        ("A: b\r\n\r\nx\r\n", &["1 text/plain [] \"x\\r\\n\""]),
        (
            "Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\nx",
            &["1.1 text/plain [] \"x\""],
        ),
        (
            "Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\nx",
            &["1.1.1 text/plain [] \"x\""],
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nunclosed",
            &["1 text/plain [] \"unclosed\""],
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nA: b\r\n--b\r\n\r\n--b--",
            &["1 text/plain [] \"\"", "2 text/plain [] \"\""],
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\ry\n--b--\n",
            &["1 text/plain [] \"x\\ry\""],
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b",
            &["1 text/plain [] \"\""],
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: image/png; name=a",
            &["1 image/png [a] \"\""],
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--bc\r\ny\r\n--b--",
            &["1 text/plain [] \"x\\r\\n--bc\\r\\ny\""],
        ),
        (
            "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nA: b\r\n\r\nx\r\n--b--",
            &["1.1 text/plain [] \"x\""],
        ),
        (
            "Content-Type: multipart/mixed\r\n\r\nx",
            &["1 multipart/mixed [] \"x\""],
        ),
    ];
    for (raw, expected) in rows {
        assert_eq!(listed(raw), *expected, "{raw:?}");
    }
}

#[test]
fn a_name_is_looked_for_in_all_fields_and_cleaned() {
    let rows = [
        (
            "Content-Disposition: attachment; filename=a\r\nContent-Type: x/y; name=b",
            "a",
        ),
        (
            "Content-Disposition: attachment\r\nContent-Type: x/y; name=b",
            "b",
        ),
        (
            "Content-Disposition: attachment; filename=\"\"\r\nContent-Type: x/y; name=b",
            "b",
        ),
        (
            "Content-Disposition: inline\r\nContent-Disposition: attachment; filename=a",
            "a",
        ),
        (
            "Content-Disposition: x; filename*=utf-8''a%0D%0ABcc%3A%20x%E2%80%AEexe",
            "a Bcc: xexe",
        ),
        ("Content-Type: x/y", ""),
    ];
    for (fields, expected) in rows {
        let raw = format!("{fields}\r\n\r\nx");
        assert_eq!(found(raw.as_bytes())[0].name, expected, "{fields}");
    }
    let long = format!("Content-Type: x/y; name={}\r\n\r\nx", "a".repeat(100_000));
    assert_eq!(found(long.as_bytes())[0].name.chars().count(), 257);
    let long = format!("Content-Type: x/{}\r\n\r\nx", "y".repeat(100_000));
    assert_eq!(found(long.as_bytes())[0].media_type.len(), MAX_MEDIA_TYPE);
}

#[test]
fn none_beyond_the_bounds() {
    let many = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
        "--b\r\n\r\nx\r\n".repeat(1000)
    );
    assert_eq!(found(many.as_bytes()), []);
    let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(65) + "\r\nx";
    assert_eq!(found(deep.as_bytes()), []);
    let fields = "A: b\r\n".repeat(1001) + "\r\nx";
    assert_eq!(found(fields.as_bytes()), []);
}

#[test]
fn hostile_mails_are_walked_in_one_pass() {
    let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n";
    let nest = |n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n");
    let deep: String = (0..60).map(nest).collect();
    for (piece, times) in [
        ("--b0x\r\n", 200_000),
        ("Content-Type: x/y; name*0=a\r\n", 100_000),
        ("x\r\n", 400_000),
        ("=\r\n", 400_000),
    ] {
        let raw = format!("{head}{deep}{}", piece.repeat(times));
        assert_eq!(found(raw.as_bytes()).len(), 1, "{piece:?}");
    }
}

proptest! {
    #[test]
    fn any_octets(raw in any::<Vec<u8>>()) {
        for part in found(&raw) {
            part.decoded(&raw);
        }
    }

    #[test]
    fn any_mail(
        raw in "((Content-Type|Content-Disposition|Content-Transfer-Encoding|X)[ ]?:[ ]?(multipart/(mixed|digest)|message/rfc822|base64|attachment|[a-z/]{0,9})(; ?(boundary|name|filename)[*0]{0,3}=\"?[a-c]{0,2}\"?)?(\r\n|\n|\r|\r\n )|--[a-c]{1,2}(--)?\r\n|\r\n|[a-z=]{1,9}){0,40}",
    ) {
        let parts = found(raw.as_bytes());
        let mut paths: Vec<&str> = parts.iter().map(|part| part.path.as_str()).collect();
        let count = paths.len();
        paths.sort_unstable();
        paths.dedup();
        prop_assert_eq!(paths.len(), count, "each has its own number");
        for part in &parts {
            part.decoded(raw.as_bytes());
        }
    }
}
