//! Looks for a sample where it should be: in folders and in the store, not in what was said.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::samples::Place;
use super::{Handed, text};
use crate::store::{Id, Store};

/// One line of the table.
pub(super) struct Row {
    name: &'static str,
    recipient: &'static str,
    verdict: String,
    stage: String,
    decided: String,
    places: Vec<String>,
    pub(super) as_expected: bool,
}

impl Row {
    pub(super) fn json(&self) -> Value {
        json!({"schema": "sekimori.demo/1", "mail": self.name, "mailbox": self.recipient, "verdict": self.verdict,
            "stage": self.stage, "decided": self.decided, "places": self.places, "as_expected": self.as_expected})
    }

    pub(super) fn text(&self) -> String {
        let sign = if self.as_expected { "ok  " } else { "FAIL" };
        let stage = if self.stage.is_empty() {
            "-"
        } else {
            &self.stage
        };
        let head = format!(
            "{sign} {:22} {:22} {:10} {stage:23} {}",
            self.name, self.recipient, self.verdict, self.decided
        );
        self.places
            .iter()
            .fold(head, |text, place| format!("{text}\n{:28}{place}", ""))
    }
}

/// Compares what became of a sample with what should.
pub(super) fn row(folder: &Path, store: &Store, handed: &Handed) -> Row {
    let expected = handed
        .sample
        .expected
        .iter()
        .find(|(recipient, ..)| *recipient == handed.recipient);
    let (_, verdict, stage, places) = expected.copied().unwrap_or(("", "", "", &[]));
    let why = handed
        .word("q")
        .parse::<Id>()
        .ok()
        .and_then(|id| store.history_get(id).ok().flatten());
    let why = why.map(|record| record.body).unwrap_or_default();
    let look = Look {
        folder,
        store,
        handed,
        why: &why,
    };
    let found: Vec<Option<String>> = places.iter().map(|place| look.find(*place)).collect();
    let effects = why["effects"].as_array().into_iter().flatten();
    let effects = effects
        .filter(|effect| effect["state"] != "left_out")
        .count();
    let meant = places
        .iter()
        .filter(|place| !matches!(place, Place::Mailbox | Place::Marked))
        .count();
    let kept = places
        .iter()
        .any(|place| matches!(place, Place::Mailbox | Place::Marked));
    let nowhere_else = effects == meant && kept == look.original_in_mailbox().is_some();
    Row {
        name: handed.sample.name,
        recipient: handed.recipient,
        verdict: handed.word("verdict").to_owned(),
        stage: handed.word("stage").to_owned(),
        decided: decided(&why),
        as_expected: handed.word("verdict") == verdict
            && handed.word("stage") == stage
            && found.iter().all(Option::is_some)
            && nowhere_else,
        places: places
            .iter()
            .zip(found)
            .map(|(place, found)| {
                found.unwrap_or_else(|| {
                    format!(
                        "NOT FOUND: {place:?}; reply: {}",
                        text::clean(&handed.reply)
                    )
                })
            })
            .collect(),
    }
}

/// The entry that decided, or the stages that applied.
fn decided(why: &Value) -> String {
    if let Some(entry) = why["entry"].as_str() {
        let origin = why["origin"]
            .as_str()
            .map(|origin| format!(" ({origin})"))
            .unwrap_or_default();
        return format!("{}{origin}", text::clean(entry));
    }
    let steps = why["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|step| step["outcome"] == "match");
    let stages: Vec<&str> = steps.filter_map(|step| step["stage"].as_str()).collect();
    if stages.is_empty() {
        "nothing held it".to_owned()
    } else {
        stages.join(", ")
    }
}

struct Look<'a> {
    folder: &'a Path,
    store: &'a Store,
    handed: &'a Handed,
    why: &'a Value,
}

impl Look<'_> {
    fn find(&self, place: Place) -> Option<String> {
        match place {
            Place::Mailbox => self
                .original_in_mailbox()
                .map(|path| format!("mailbox {}", self.short(&path))),
            Place::Marked => {
                let path = self.original_in_mailbox()?;
                let text = std::fs::read(&path).ok()?;
                let subject = String::from_utf8_lossy(&text)
                    .lines()
                    .find(|line| line.starts_with("Subject:"))?
                    .to_owned();
                subject
                    .starts_with("Subject: [spam] ")
                    .then(|| format!("mailbox, marked {}", self.short(&path)))
            }
            Place::Quarantine => {
                let id = self.handed.word("q").parse().ok()?;
                let entry = self.store.quarantine_get(id).ok()??;
                Some(format!("quarantine {id}, {}", entry.class))
            }
            Place::Report => self
                .letter_in_mailbox("virus_report")
                .map(|path| format!("mailbox, report {}", self.short(&path))),
            Place::HeldNotice => self
                .letter_in_mailbox("quarantine_notice")
                .map(|path| format!("mailbox, notice {}", self.short(&path))),
            Place::Forward(to) => {
                let path = one_file_with(&self.relay(to), self.original_id()?)?;
                Some(format!("forwarded {}", self.short(&path)))
            }
            Place::Notice(to) => self
                .letter_at_relay("notify", to)
                .map(|path| format!("notice {}", self.short(&path))),
            Place::Reply(to) => self
                .letter_at_relay("auto_reply", to)
                .map(|path| format!("reply {}", self.short(&path))),
        }
    }

    fn original_in_mailbox(&self) -> Option<PathBuf> {
        one_file_with(&self.maildir(), self.original_id()?)
    }

    fn letter_in_mailbox(&self, kind: &str) -> Option<PathBuf> {
        one_file_with(&self.maildir(), &self.letter_id(kind)?)
    }

    fn letter_at_relay(&self, kind: &str, to: &str) -> Option<PathBuf> {
        one_file_with(&self.relay(to), &self.letter_id(kind)?)
    }

    fn original_id(&self) -> Option<&'static str> {
        let line = self
            .handed
            .sample
            .message
            .lines()
            .find(|line| line.starts_with("Message-ID: "))?;
        line.strip_prefix("Message-ID: ")
    }

    /// The start of the Message-ID of a letter of ours.
    fn letter_id(&self, kind: &str) -> Option<String> {
        let effect = self.why["effects"]
            .as_array()?
            .iter()
            .find(|effect| effect["kind"] == kind)?;
        Some(format!("Message-ID: <{}@", effect["id"].as_str()?))
    }

    fn maildir(&self) -> PathBuf {
        let (local, domain) = self.handed.recipient.split_once('@').unwrap_or_default();
        self.folder
            .join("mail")
            .join(domain)
            .join(local)
            .join("new")
    }

    fn relay(&self, to: &str) -> PathBuf {
        self.folder.join("relay").join(to)
    }

    fn short(&self, path: &Path) -> String {
        path.strip_prefix(self.folder)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}

/// The file of a folder whose header holds `text`, if there is exactly one.
fn one_file_with(folder: &Path, text: &str) -> Option<PathBuf> {
    let mut found = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|file| file.path())
        .filter(|path| {
            std::fs::read(path).is_ok_and(|bytes| {
                let bytes = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
                let header = bytes
                    .split_once("\n\n")
                    .map_or(bytes.as_str(), |(header, _)| header);
                header
                    .lines()
                    .any(|line| line.starts_with("Message-ID:") && line.contains(text))
            })
        });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}
