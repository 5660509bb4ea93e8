//! The mails: those of `tests/corpus/`, or the whole corpus where `SEKIMORI_CORPUS` names it.

use std::fs;
use std::path::{Path, PathBuf};

use sekimori::mail::{Bounds, Message};
use serde_json::Value;

/// One mail as it comes over SMTP.
pub(crate) struct Mail {
    pub(crate) path: String,
    pub(crate) raw: Vec<u8>,
    pub(crate) message: Message,
}

/// All mails, in the order of the oracle.
pub(crate) fn mails() -> Vec<Mail> {
    let folder = match std::env::var_os("SEKIMORI_CORPUS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus"),
    };
    let oracle = fs::read_to_string(folder.join("oracle.jsonl")).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let path = line["path"].as_str().unwrap().to_owned();
        let raw = crlf(&fs::read(folder.join(&path)).unwrap());
        let message = Message::parse(&raw, &Bounds::default());
        Mail { path, raw, message }
    };
    oracle.lines().map(line).collect()
}

fn crlf(stored: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(stored.len() + stored.len() / 32);
    for (at, octet) in stored.iter().enumerate() {
        if *octet == b'\n' && (at == 0 || stored[at - 1] != b'\r') {
            raw.push(b'\r');
        }
        raw.push(*octet);
    }
    raw
}
