//! Real mail: every fact of `oracle.jsonl` comes out the same.
//!
//! The whole corpus is used where `SEKIMORI_CORPUS` names it or `../shared/corpus` is there, else
//! the selection in `tests/corpus/` (sources and licences in its `SOURCES.md`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use bytes::Bytes;
use sekimori::mail::{
    Bounds, Fetching, FromField, Message, Octets, Piece, Stored, SubjectField, cleaned, parts,
};
use sekimori::store::MailDigest;
use serde_json::Value;

/// Facts that come out differently on purpose: the mail, the fact, the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

#[test]
fn every_strict_fact_comes_out_the_same() {
    let corpus = Corpus::open();
    let mut wrong = Vec::new();
    let mut met = Vec::new();
    let mut strict = 0;
    for line in corpus.lines.iter().filter(|line| line["strict"] == true) {
        strict += 1;
        let id = text(&line["id"]);
        let raw = corpus.raw(line);
        let message = Message::parse(&raw, &Bounds::default());
        for (fact, expected, actual) in facts(line, &message) {
            let excepted = EXCEPTIONS.iter().any(|row| row.0 == id && row.1 == fact);
            if excepted {
                met.push((id.clone(), fact));
            }
            if (expected == actual) == excepted {
                wrong.push(format!(
                    "{id} {} {fact}: expected {expected}, got {actual}",
                    text(&line["path"])
                ));
            }
        }
    }
    assert!(strict >= 200, "only {strict} strict lines");
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    if corpus.whole {
        assert_eq!(met.len(), EXCEPTIONS.len(), "exceptions that name no line");
    }
}

/// What is not in memory; read in pieces of its own size.
#[derive(Debug)]
struct Elsewhere(Vec<u8>);

impl Stored for Elsewhere {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, at: u64, room: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        room.copy_from_slice(&self.0[at..at + room.len()]);
        Ok(())
    }

    fn fetch(&self, at: u64, length: usize) -> Fetching<'_> {
        let mut room = vec![0; length];
        let read = self.read_at(at, &mut room);
        Box::pin(std::future::ready(read.map(|()| room.into())))
    }

    fn whole(&self) -> Fetching<'_> {
        self.fetch(0, self.0.len())
    }
}

/// No CR or LF stands alone, as in all that comes over SMTP.
fn is_of_the_wire(raw: &[u8]) -> bool {
    let ends = memchr::memmem::find_iter(raw, b"\r\n").count();
    memchr::memchr2_iter(b'\r', b'\n', raw).count() == 2 * ends
}

/// Wherever the header block ends, the rest may lie elsewhere.
#[test]
fn a_mail_that_is_not_in_memory_reads_the_same() {
    let corpus = Corpus::open();
    let mut stored = 0;
    for line in &corpus.lines {
        let raw = corpus.raw(line);
        let parsed = Message::parse(&raw, &Bounds::default());
        let all: Arc<dyn Stored> = Arc::new(Elsewhere(raw.clone()));
        for more in [1, 2, 3, 100, 1001] {
            let head = raw.get(..parsed.body_start + more).unwrap_or(&raw);
            let Some(octets) = Octets::stored(Bytes::copy_from_slice(head), all.clone()) else {
                continue;
            };
            stored += 1;
            let read = Message::read(&octets, &Bounds::default()).unwrap();
            assert_eq!(
                format!("{read:?}"),
                format!("{parsed:?}"),
                "{}",
                line["path"]
            );
            if is_of_the_wire(&raw) {
                let digest = MailDigest::read(&octets).unwrap();
                assert_eq!(digest, MailDigest::of(&raw), "{}", line["path"]);
            }
        }
    }
    assert!(stored > corpus.lines.len(), "only {stored} mails");
}

#[test]
fn every_mail_has_one_reading() {
    let corpus = Corpus::open();
    for line in &corpus.lines {
        let raw = corpus.raw(line);
        let first = Message::parse(&raw, &Bounds::default());
        let again = Message::parse(&raw, &Bounds::default());
        assert_eq!(reading(&first), reading(&again), "{}", line["path"]);
        if first
            .header
            .fields()
            .first()
            .is_some_and(|field| field.span.start == 0)
        {
            let traced = [b"Received: from a by b; date\r\n".as_slice(), &raw].concat();
            let traced = Message::parse(&traced, &Bounds::default());
            assert_eq!(reading(&first), reading(&traced), "{}", line["path"]);
        }
        let lf: Vec<u8> = String::from_utf8_lossy(&raw).replace("\r\n", "\n").into();
        if std::str::from_utf8(&raw).is_ok() && !raw.contains(&b'\0') {
            let lf = Message::parse(&lf, &Bounds::default());
            assert_eq!(reading(&first), reading(&lf), "{} as LF", line["path"]);
        }
    }
}

#[test]
fn any_part_of_a_mail_can_be_removed_and_the_others_stay() {
    let corpus = Corpus::open();
    let mut removals = 0;
    for line in &corpus.lines {
        let raw = corpus.raw(line);
        let old = parts(&raw, &Bounds::default());
        for removed in 0..old.len().min(9) {
            let virus = "Eicar".to_owned();
            let Some(pieces) = cleaned(&raw, &old, &[(removed, virus)]) else {
                continue;
            };
            let octets = pieces.iter().map(|piece| match piece {
                Piece::Original(place) => &raw[place.clone()],
                Piece::New(octets) => octets,
            });
            let cleaned = octets.collect::<Vec<_>>().concat();
            let new = parts(&cleaned, &Bounds::default());
            let path = text(&line["path"]);
            assert_eq!(old.len(), new.len(), "{path}");
            for (at, (old, new)) in old.iter().zip(&new).enumerate() {
                let body = new.decoded(&cleaned);
                if at == removed {
                    let body = String::from_utf8(body.into_owned()).unwrap();
                    assert!(body.contains("the virus Eicar was found in it"), "{path}");
                } else {
                    assert_eq!((&old.path, &old.name), (&new.path, &new.name), "{path}");
                    assert_eq!(old.decoded(&raw), body, "{path} {}", old.path);
                }
            }
            removals += 1;
        }
    }
    assert!(removals >= 100, "only {removals} parts removed");
}

/// The facts that rules look at.
fn reading(message: &Message) -> (FromField, String, SubjectField, bool, bool) {
    (
        message.from.clone(),
        message.from_text.clone(),
        message.subject.clone(),
        message.attachment,
        message.exceeded.is_some(),
    )
}

/// Each fact's name, what the oracle says and what we read.
fn facts(line: &Value, message: &Message) -> Vec<(&'static str, String, String)> {
    let mut facts = vec![
        (
            "size_crlf",
            line["size_crlf"].to_string(),
            message.size.to_string(),
        ),
        (
            "from_addresses",
            addresses(
                line["from_addresses"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(text),
            ),
            match &message.from {
                FromField::Addresses(found) => addresses(found.iter().map(|a| a.text.clone())),
                _ => addresses(std::iter::empty()),
            },
        ),
        (
            "from_header",
            text(&line["from_header"]),
            match message.from {
                FromField::Addresses(_) | FromField::EmptyAddress => "present",
                FromField::Empty => "empty",
                FromField::Missing => "missing",
            }
            .to_owned(),
        ),
        (
            "subject_header",
            text(&line["subject_header"]),
            match message.subject {
                SubjectField::Text(_) => "present",
                SubjectField::Empty => "empty",
                SubjectField::Missing => "missing",
            }
            .to_owned(),
        ),
        (
            "subject_decoded",
            text(&line["subject_decoded"]),
            message.subject_text().to_owned(),
        ),
        (
            "has_attachment",
            line["has_attachment"].to_string(),
            message.attachment.to_string(),
        ),
    ];
    if line["from_null"] == true {
        let null = message.from == FromField::EmptyAddress;
        facts.push(("from_null", "true".to_owned(), null.to_string()));
    }
    facts
}

fn addresses(found: impl Iterator<Item = String>) -> String {
    let mut found: Vec<String> = found.map(|address| address.to_lowercase()).collect();
    found.sort();
    found.dedup();
    found.join(" ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

struct Corpus {
    folder: PathBuf,
    lines: Vec<Value>,
    whole: bool,
}

impl Corpus {
    fn open() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let beside = here.join("../shared/corpus");
        let (folder, whole) = match std::env::var_os("SEKIMORI_CORPUS") {
            Some(folder) => (PathBuf::from(folder), true),
            None if beside.join("oracle.jsonl").exists() => (beside, true),
            None => (here.join("tests/corpus"), false),
        };
        let oracle = fs::read_to_string(folder.join("oracle.jsonl")).unwrap();
        let lines = oracle
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        Self {
            folder,
            lines,
            whole,
        }
    }

    /// A mail as it comes over SMTP: every LF a CRLF.
    fn raw(&self, line: &Value) -> Vec<u8> {
        let stored = fs::read(self.folder.join(text(&line["path"]))).unwrap();
        let mut raw = Vec::with_capacity(stored.len() + stored.len() / 32);
        for (at, octet) in stored.iter().enumerate() {
            if *octet == b'\n' && (at == 0 || stored[at - 1] != b'\r') {
                raw.push(b'\r');
            }
            raw.push(*octet);
        }
        raw
    }
}
