//! What a cure with the real clamd comes to, wherever a virus hides. `cargo test --test scan -- --ignored`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sekimori::mail::{Bounds, edit};
use sekimori::scan::{Clamd, Cure, Remains, cure};

use crate::engines::clamd;
use crate::peer::{far, mail, octets};

/// The body of a signature that is found anywhere.
const VIRUS: &str = "SEKIMORI-TEST-VIRUS";
const TRACE: &[u8] = b"Received: by us.example\r\n";
const HEAD: &str =
    "From: a@b.example\r\nTo: c@d.example\r\nSubject: lunch\r\nMIME-Version: 1.0\r\n";

fn base64(content: impl AsRef<[u8]>) -> String {
    let encoded = STANDARD.encode(content);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(76)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    lines.join("\r\n")
}

fn file(fields: &str, content: impl AsRef<[u8]>) -> String {
    format!(
        "Content-Type: application/octet-stream; name=\"a.bin\"\r\n{fields}\r\n\r\n{}",
        base64(content)
    )
}

fn mixed(boundary: &str, parts: &[&str]) -> String {
    let parts: String = parts
        .iter()
        .map(|part| format!("--{boundary}\r\n{part}\r\n"))
        .collect();
    format!(
        "{HEAD}Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n{parts}--{boundary}--\r\n"
    )
}

/// Whether the word stands in the octets as it is or in base64, however it lies in its groups.
fn holds(octets: &[u8]) -> bool {
    let unfolded: Vec<u8> = octets
        .iter()
        .copied()
        .filter(|octet| !octet.is_ascii_whitespace())
        .collect();
    let has = |word: &[u8]| unfolded.windows(word.len()).any(|found| found == word);
    let shifted = (0..3).any(|shift| {
        let encoded = STANDARD.encode([&b"xxx"[..shift], VIRUS.as_bytes()].concat());
        has(&encoded.as_bytes()[4..encoded.len() - 4])
    });
    shifted || has(VIRUS.as_bytes())
}

async fn cured(engine: &Clamd, raw: &Bytes) -> Cure {
    let scan = async |pieces: Vec<Bytes>| {
        let found = engine.scan(&mail(&octets(&pieces)), far()).await?;
        Ok::<_, sekimori::scan::ScanError>(found.virus)
    };
    cure(raw, &Bytes::from_static(TRACE), &Bounds::default(), scan).await
}

/// Where a virus hides in a mail, and what remains: `mail`, `header` or `nothing`.
fn rows() -> Vec<(&'static str, String, &'static str)> {
    const ENCODED: &str = "Content-Transfer-Encoding: base64";
    let text = "Content-Type: text/plain\r\n\r\nhello";
    let evil = file(ENCODED, VIRUS);
    let good = file(ENCODED, "nothing");
    let within = |fields: &str| mixed("b", &[text, &file(fields, VIRUS), &good]);
    let clean = mixed("b", &[text, &good]);
    let inner = mixed("c", &[text, &evil]);
    let encoded = |inner: &str| {
        format!(
            "Content-Type: message/rfc822\r\n{ENCODED}\r\n\r\n{}",
            base64(inner)
        )
    };
    vec![
        ("a file", within(ENCODED), "mail"),
        (
            "folded encoding",
            within("Content-Transfer-Encoding:\r\n\tBASE64"),
            "mail",
        ),
        (
            "encoding and comment",
            within("Content-Transfer-Encoding: base64 (x)"),
            "mail",
        ),
        (
            "two encodings",
            within(&format!("Content-Transfer-Encoding: 7bit\r\n{ENCODED}")),
            "header",
        ),
        (
            "unknown encoding",
            within("Content-Transfer-Encoding: base-64"),
            "header",
        ),
        (
            "a forwarded mail",
            mixed(
                "b",
                &[
                    text,
                    &format!("Content-Type: message/rfc822\r\n\r\n{inner}"),
                ],
            ),
            "mail",
        ),
        (
            "an encoded mail",
            mixed("b", &[text, &encoded(&inner)]),
            "mail",
        ),
        (
            "an encoded mail that begins oddly",
            mixed("b", &[text, &encoded(&format!("Zz: 1\r\n{inner}"))]),
            "mail",
        ),
        (
            "an encoded mail in another",
            mixed("b", &[text, &encoded(&mixed("d", &[&encoded(&inner)]))]),
            "mail",
        ),
        (
            "quoted-printable",
            mixed(
                "b",
                &[
                    text,
                    "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>SEKIMORI=2DTEST=\r\n=2DVIRUS</p>",
                ],
            ),
            "mail",
        ),
        (
            "an unclosed multipart",
            within(ENCODED).replace("--b--\r\n", ""),
            "mail",
        ),
        (
            "a multipart in a multipart",
            mixed("b", &[text, inner.split_once("1.0\r\n").unwrap().1]),
            "mail",
        ),
        (
            "the same boundary within",
            mixed(
                "b",
                &[
                    text,
                    &format!(
                        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{evil}\r\n--b--"
                    ),
                ],
            ),
            "mail",
        ),
        (
            "the preamble",
            clean.replacen("--b", &format!("{VIRUS}\r\n--b"), 1),
            "header",
        ),
        ("the epilogue", clean.clone() + VIRUS, "header"),
        ("a file and the epilogue", within(ENCODED) + VIRUS, "header"),
        (
            "a field of a part",
            mixed("b", &[text, &format!("X-A: {VIRUS}\r\n{good}")]),
            "header",
        ),
        (
            "a field of the mail",
            clean.replacen("lunch", VIRUS, 1),
            "nothing",
        ),
        (
            "an encoded Subject",
            within(ENCODED).replacen(
                "lunch",
                &format!("=?utf-8?B?{}?=", STANDARD.encode(VIRUS)),
                1,
            ),
            "nothing",
        ),
        (
            "a file name",
            mixed("b", &[text, &evil.replace("a.bin", VIRUS)]),
            "nothing",
        ),
        (
            "an encoded file name",
            mixed(
                "b",
                &[
                    text,
                    &evil.replace("a.bin", "=?utf-8?Q?SEKIMORI=2DTEST=2DVIRUS?="),
                ],
            ),
            "nothing",
        ),
        ("no multipart at all", format!("{HEAD}{evil}"), "header"),
        ("all there is", mixed("b", &[&evil, &evil]), "header"),
        (
            "a multipart without a part",
            format!("{HEAD}Content-Type: multipart/mixed; boundary=b\r\n\r\n{VIRUS}"),
            "header",
        ),
        (
            "no empty line",
            format!("Subject: x\r\n{VIRUS}\r\n"),
            "nothing",
        ),
        (
            "beyond the bounds",
            mixed("b", &[&text; 1001].map(|part| *part)) + VIRUS,
            "header",
        ),
    ]
}

#[tokio::test]
#[ignore = "needs clamd"]
async fn a_virus_that_clamd_finds_is_shown_to_nobody() {
    let (_engine, settings, _) = clamd();
    let engine = Clamd::new(settings);
    for (name, raw, expected) in rows() {
        let raw = Bytes::from(raw);
        let whole = vec![Bytes::from_static(TRACE), raw.clone()];
        let found = engine.scan(&mail(&octets(&whole)), far()).await.unwrap();
        assert!(found.virus.is_some(), "{name}: clamd does not see it");
        let cure = cured(&engine, &raw).await;
        let (remains, shown) = match &cure.remains {
            Remains::Mail(pieces) => ("mail", pieces.concat()),
            Remains::Header => ("header", raw[..edit::header_length(&raw)].to_vec()),
            Remains::Nothing => ("nothing", Vec::new()),
        };
        assert!(expected.contains(remains), "{name}: {remains}");
        assert!(
            !holds(&shown),
            "{name}: {}",
            String::from_utf8_lossy(&shown)
        );
        for part in &cure.parts {
            assert!(!holds(part.name.as_bytes()), "{name}: {part:?}");
        }
    }
}
