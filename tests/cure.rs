//! What may be shown of an infected mail, with a scanner that looks for a word: in the octets of a
//! stream and, where that is a mail, in its parts, decoded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::cell::Cell;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use bytes::Bytes;
use proptest::prelude::*;
use sekimori::mail::{Bounds, edit, parts};
use sekimori::scan::{Cure, Remains, cure};

const VIRUS: &str = "EVIL";
const TRACE: &[u8] = b"Received: by mx\r\n";

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(work)
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Whether the scanner finds the word in a stream.
fn is_infected(stream: &[u8]) -> bool {
    let has_word = |octets: &[u8]| octets.windows(VIRUS.len()).any(|o| o == VIRUS.as_bytes());
    let in_parts = |mail: &[u8]| {
        let bodies = parts(mail, &Bounds::default());
        bodies.iter().any(|part| {
            let body = part.decoded(mail);
            has_word(&body) || part.is_message() && is_infected(&[TRACE, &body].concat())
        })
    };
    has_word(stream) || stream.starts_with(b"Received:") && in_parts(stream)
}

/// The result for a mail, and how often the scanner was asked. From its call of this number on the
/// scanner fails.
fn cured(raw: &str, fails_at: usize) -> (Cure, usize) {
    let raw = Bytes::from(raw.to_owned());
    let calls = Cell::new(0);
    let scan = |pieces: Vec<Bytes>| {
        let stream = pieces.concat();
        let call = calls.replace(calls.get() + 1);
        async move {
            match call >= fails_at {
                true => Err("too late"),
                false => Ok(is_infected(&stream).then(|| "Evil.Test".to_owned())),
            }
        }
    };
    let trace = Bytes::from_static(TRACE);
    let cure = wait(cure(&raw, &trace, &Bounds::default(), scan));
    let memory = raw.as_ptr_range();
    if let Remains::Mail(pieces) = &cure.remains {
        let copied = pieces.iter().filter(|p| !memory.contains(&p.as_ptr()));
        let copied: usize = copied.map(Bytes::len).sum();
        assert!(copied <= 600 * cure.parts.len(), "{copied} octets copied");
    }
    (cure, calls.get())
}

/// All that a report shows of the mail.
fn shown(raw: &str, cure: &Cure) -> Vec<Vec<u8>> {
    let header = edit::header_length(raw.as_bytes());
    let mut shown = match &cure.remains {
        Remains::Mail(pieces) => vec![[TRACE, &pieces.concat()].concat()],
        Remains::Header => vec![raw.as_bytes()[..header].to_vec()],
        Remains::Nothing => Vec::new(),
    };
    for part in &cure.parts {
        let texts = [&part.path, &part.name, &part.media_type];
        shown.extend(texts.map(|text| text.clone().into_bytes()));
    }
    shown
}

/// `path name` of each infected part, and what remains: `mail`, `header` or `nothing`.
fn told(cure: &Cure) -> String {
    let parts = cure.parts.iter().map(|part| {
        assert_eq!(part.virus, "Evil.Test");
        format!("{} {}, ", part.path, part.name)
    });
    let remains = match cure.remains {
        Remains::Mail(_) => "mail",
        Remains::Header => "header",
        Remains::Nothing => "nothing",
    };
    parts.collect::<String>() + remains
}

fn mixed(parts: &[&str]) -> String {
    let parts: String = parts.iter().map(|p| format!("--b\r\n{p}\r\n")).collect();
    format!(
        "From: a@b\r\nSubject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n"
    )
}

fn attached(name: &str, content: &str) -> String {
    format!(
        "Content-Type: application/zip\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}",
        base64(content)
    )
}

const TEXT: &str = "Content-Type: text/plain\r\n\r\nhello";

fn rows() -> Vec<(String, &'static str)> {
    let evil = attached("a.zip", "PK EVIL");
    let good = attached("b.zip", "PK good");
    let forward = |inner: &str| format!("Content-Type: message/rfc822\r\n\r\n{inner}");
    let encoded = |inner: &str| {
        format!(
            "Content-Type: message/rfc822; name=f.eml\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
            base64(inner)
        )
    };
    let many: Vec<&str> = std::iter::repeat_n(evil.as_str(), 1000).collect();
    let evil_mail = mixed(&[TEXT, &evil]);
    vec![
        (evil_mail.clone(), "2 a.zip, mail"),
        (mixed(&[TEXT, &good, &evil]), "3 a.zip, mail"),
        (mixed(&[&evil, TEXT, &evil]), "1 a.zip, 3 a.zip, mail"),
        // A zip in a forwarded mail, in clear and encoded, and one within another.
        (
            mixed(&[
                TEXT,
                &forward(
                    &mixed(&[TEXT, &good, &evil])
                        .replace("=b", "=c")
                        .replace("--b", "--c"),
                ),
            ]),
            "2.3 a.zip, mail",
        ),
        (mixed(&[TEXT, &encoded(&evil_mail)]), "2 f.eml, mail"),
        (
            mixed(&[TEXT, &encoded(&mixed(&[&encoded(&evil_mail)]))]),
            "2 f.eml, mail",
        ),
        (
            mixed(&[TEXT, &forward("Subject: y\r\n\r\nEVIL")]),
            "2.1 , mail",
        ),
        // A text is a part as well.
        (
            mixed(&[TEXT, "Content-Type: text/html\r\n\r\n<script>EVIL</script>"]),
            "2 , mail",
        ),
        (
            mixed(&[
                TEXT,
                "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=45VI=\r\nL",
            ]),
            "2 , mail",
        ),
        // Nothing safe is left.
        (mixed(&[&evil]), "1 a.zip, header"),
        (mixed(&[&evil, &evil]), "1 a.zip, 2 a.zip, header"),
        ("Subject: x\r\n\r\nEVIL".into(), "1 , header"),
        (format!("Subject: x\r\n{evil}"), "1 a.zip, header"),
        (mixed(&many), "header"),
        // Where no part is.
        (
            mixed(&[TEXT, &good]).replacen("--b", "EVIL\r\n--b", 1),
            "header",
        ),
        (evil_mail.clone() + "EVIL", "2 a.zip, header"),
        (
            mixed(&[TEXT, "Content-Type: x/y\r\nX-A: EVIL\r\n\r\nx", &evil]),
            "3 a.zip, header",
        ),
        (
            mixed(&[
                TEXT,
                "Content-Type: x/y\r\nContent-Description: EVIL\r\n\r\nEVIL",
            ]),
            "2 , mail",
        ),
        (
            mixed(&[TEXT, &evil]).replace("--b--\r\n", ""),
            "2 a.zip, mail",
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\nEVIL".into(),
            "header",
        ),
        // In the header, as octets or when it is decoded; in a name that the report quotes.
        (
            evil_mail.replace("Subject: x", "Subject: EVIL"),
            "2 , nothing",
        ),
        (
            evil_mail.replace("Subject: x", "Subject: =?utf-8?Q?E=56IL?="),
            "2 , nothing",
        ),
        (mixed(&[TEXT, &attached("EVIL", "PK EVIL")]), "2 , nothing"),
        (
            mixed(&[TEXT, &attached("=?utf-8?Q?E=56IL?=", "PK EVIL")]),
            "2 , nothing",
        ),
        // No empty line: all of it is header.
        ("Subject: x\r\nEVIL".into(), "nothing"),
    ]
}

#[test]
fn what_is_found_is_named_and_what_is_clean_remains() {
    for (raw, expected) in rows() {
        let (cure, calls) = cured(&raw, usize::MAX);
        assert_eq!(told(&cure), expected, "{raw:.300}");
        assert!(calls <= parts(raw.as_bytes(), &Bounds::default()).len() + 3);
        for shown in shown(&raw, &cure) {
            assert!(!is_infected(&shown), "{raw:.300}");
        }
    }
}

#[test]
fn what_cannot_be_scanned_is_not_shown() {
    for (raw, _) in rows() {
        let (whole, calls) = cured(&raw, usize::MAX);
        for fails_at in 0..calls.min(12) {
            let (cure, made) = cured(&raw, fails_at);
            assert_eq!(cure.remains, Remains::Nothing, "{raw:.300}");
            assert!(
                made <= fails_at + 2,
                "{made} calls, no answer from {fails_at} on"
            );
            let names: Vec<_> = cure.parts.iter().map(|part| &part.name).collect();
            assert!(names.iter().all(|name| name.is_empty()), "{names:?}");
            let found = cure.parts.len();
            assert!(found <= whole.parts.len() && found <= fails_at);
        }
    }
}

#[test]
fn one_failure_costs_the_mail_and_not_its_header() {
    let raw = Bytes::from(mixed(&[TEXT, &attached("a.zip", "EVIL"), TEXT]));
    // Behind the three parts come the quoted texts, what remains, the header.
    let rows = [
        "header",
        "header",
        "2 a.zip, header",
        "2 , nothing",
        "2 a.zip, header",
    ];
    for (fails_at, expected) in rows.into_iter().enumerate() {
        let calls = AtomicUsize::new(0);
        let scan = |pieces: Vec<Bytes>| {
            let is_error = calls.fetch_add(1, Ordering::Relaxed) == fails_at;
            let found = is_infected(&pieces.concat()).then(|| "Evil.Test".to_owned());
            async move { if is_error { Err(()) } else { Ok(found) } }
        };
        let trace = Bytes::from_static(TRACE);
        let cure = wait(cure(&raw, &trace, &Bounds::default(), scan));
        assert_eq!(told(&cure), expected, "call {fails_at} fails");
    }
}

#[test]
fn a_virus_that_only_the_whole_mail_shows_leaves_the_header() {
    let raw = Bytes::from(mixed(&[TEXT, TEXT]));
    let scan = |pieces: Vec<Bytes>| async move {
        let stream = pieces.concat();
        let halves = stream.windows(5).filter(|octets| octets == b"hello");
        Ok::<_, ()>((halves.count() == 2).then(|| "Both".to_owned()))
    };
    let trace = Bytes::from_static(TRACE);
    let cure = wait(cure(&raw, &trace, &Bounds::default(), scan));
    assert_eq!(told(&cure), "header");
}

#[test]
fn a_mail_that_begins_with_white_space_does_not_continue_our_field() {
    let raw = Bytes::from(format!(
        " lead\r\n{}",
        mixed(&[TEXT, &attached("a", "EVIL")])
    ));
    let scan = |pieces: Vec<Bytes>| async move {
        let stream = pieces.concat();
        let is_mail = stream.starts_with(TRACE);
        let continued = is_mail && stream.get(TRACE.len()) == Some(&b' ');
        assert!(!continued, "{}", String::from_utf8_lossy(&stream));
        Ok::<_, ()>(is_infected(&stream).then(|| "Evil.Test".to_owned()))
    };
    let trace = Bytes::from_static(TRACE);
    let cure = wait(cure(&raw, &trace, &Bounds::default(), scan));
    assert_eq!(told(&cure), "2 a, mail");
    let Remains::Mail(pieces) = cure.remains else {
        panic!("no mail");
    };
    assert!(pieces.concat().starts_with(b" lead\r\n"));
}

#[test]
fn it_can_run_on_any_thread() {
    fn sent<T: Send>(work: T) -> T {
        work
    }
    let (raw, trace, bounds) = (Bytes::new(), Bytes::new(), Bounds::default());
    let scan = |_| async { Ok::<_, std::io::Error>(None) };
    wait(sent(cure(&raw, &trace, &bounds, scan)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_infected_octet_is_shown(
        raw in "((Subject|Content-Type|Content-Disposition|Content-Transfer-Encoding|X): ?(multipart/mixed|message/rfc822|base64|EVIL|RVZJTA==|[a-z/]{0,5})(; ?(boundary|name|filename)=\"?(EVIL|[a-c]{0,2})\"?)?\r\n|--[a-c]{1,2}(--)?\r\n|\r\n|[A-Z]{1,9}|EVIL|RVZJTA==){0,30}",
        fails_at in prop_oneof![0..9usize, Just(usize::MAX)],
    ) {
        let (cure, _) = cured(&raw, fails_at);
        for shown in shown(&raw, &cure) {
            prop_assert!(!is_infected(&shown));
        }
    }
}
