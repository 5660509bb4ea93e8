//! What a decision was made on and what it was, kept for each mail of a mailbox beside the
//! why-record, under keys that begin with the mailbox: one mailbox's mail is read without the others'.

use serde::{Deserialize, Serialize};

use super::batch::tag;
use super::record::Record;
use super::{Id, Store, StoreError};

/// Octets of a mailbox's name in keys.
pub(super) const NAME: usize = 16;

/// The facts of one decision, stored and shown alike; what is false or empty is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactsRecord {
    /// The why-record's; its time is when the mail came in.
    pub id: Id,
    /// Reverse path, empty for the null path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sender: String,
    /// The recipient where it is not the mailbox itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The addresses of the header From, folded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_from: Option<Absent>,
    /// Every Subject with text, decoded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject: Vec<String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_subject: Option<Absent>,
    /// The mail has an attachment.
    #[serde(default, skip_serializing_if = "is_false")]
    pub attachment: bool,
    /// Octets of the mail as received.
    pub size: u64,
    /// What the virus scanner said; `None` = not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virus: Option<Virus>,
    /// Whether the spam scanner said spam; `None` = not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spam: Option<bool>,
    /// Its score in thousandths of a point; `None` = it gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spam_score: Option<i64>,
    /// The header From is DMARC-aligned and passing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dmarc: bool,
    /// It came from a trusted client.
    #[serde(default, skip_serializing_if = "is_false")]
    pub trusted: bool,
    /// It had been here before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub looping: bool,
    /// Nothing can be decided on them: they were shortened, or nobody looked into the mail.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
    /// What was done, where it is not `deliver`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The stage that held it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The entry that held it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The entry's file and line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Where it was sent on to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward: Vec<String>,
}

/// What is not in a header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absent {
    /// No such field.
    Missing,
    /// The field is empty.
    Empty,
    /// Text without an address.
    EmptyAddress,
}

/// The word of a virus scanner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Virus {
    /// Nothing found.
    Clean,
    /// Found, with its name.
    Infected(String),
}

impl FactsRecord {
    /// Facts of a mail of that size of which nothing else is known yet.
    pub fn new(id: Id, size: u64) -> Self {
        Self {
            id,
            sender: String::new(),
            recipient: None,
            from: Vec::new(),
            no_from: None,
            subject: Vec::new(),
            no_subject: None,
            attachment: false,
            size,
            virus: None,
            spam: None,
            spam_score: None,
            dmarc: false,
            trusted: false,
            looping: false,
            cut: false,
            verdict: None,
            stage: None,
            entry: None,
            origin: None,
            forward: Vec::new(),
        }
    }
}

impl Record for FactsRecord {
    fn shorten(&mut self) {
        self.cut = true;
    }

    fn texts(&mut self) -> Vec<&mut String> {
        let places = self.entry.iter_mut().chain(self.origin.iter_mut());
        places.chain(&mut self.subject).collect()
    }

    fn reduce(&mut self) -> bool {
        let lists = [&mut self.from, &mut self.subject, &mut self.forward];
        match lists.into_iter().max_by_key(|list| list.len()) {
            Some(list) if !list.is_empty() => {
                list.truncate(list.len() / 2);
                true
            }
            _ => false,
        }
    }
}

impl Store {
    /// The facts of a mailbox's mail received since then, in the order of time, read as they are
    /// asked for. A record that cannot be read is an error in its place.
    pub fn facts_list(
        &self,
        mailbox: &str,
        since: Option<i64>,
    ) -> impl Iterator<Item = Result<FactsRecord, StoreError>> + Send + use<> {
        self.0.index.apply_gathered();
        let from = key(mailbox, Id::floor(since.unwrap_or(0)));
        self.0.index.records_between(from, end(mailbox))
    }

    /// The ids of a mailbox's mail received since then, in the order of time.
    pub(super) fn ids_of(
        &self,
        mailbox: &str,
        since: Id,
    ) -> impl Iterator<Item = Result<Id, StoreError>> + Send + use<> {
        let all = self.0.index.scan(key(mailbox, since), end(mailbox));
        all.map(|pair| {
            let (key, _) = pair?;
            let id = key
                .get(1 + NAME..)
                .and_then(|id| std::str::from_utf8(id).ok());
            id.and_then(|id| id.parse().ok())
                .ok_or_else(|| StoreError::Damaged("index: a key of facts names no id".to_owned()))
        })
    }
}

/// The key of one mail's facts.
pub(super) fn key(mailbox: &str, id: Id) -> Vec<u8> {
    let mut key = prefix(mailbox);
    key.extend_from_slice(id.as_str().as_bytes());
    key
}

/// Behind the last of a mailbox's keys: no id begins so.
fn end(mailbox: &str) -> Vec<u8> {
    let mut end = prefix(mailbox);
    end.push(u8::MAX);
    end
}

fn prefix(mailbox: &str) -> Vec<u8> {
    super::batch::key(tag::FACTS, &name(mailbox))
}

/// A mailbox in keys.
pub(super) fn name(mailbox: &str) -> [u8; NAME] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(mailbox.to_lowercase().as_bytes());
    let mut name = [0; NAME];
    hasher.finalize_xof().fill(&mut name);
    name
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::super::record::{MAX_VALUE, decode, encode};
    use super::*;

    #[test]
    fn facts_that_were_shortened_say_so() {
        let whole = FactsRecord {
            subject: vec!["未承諾広告".to_owned()],
            virus: Some(Virus::Infected("Eicar".to_owned())),
            spam: Some(false),
            spam_score: Some(-1500),
            no_from: Some(Absent::EmptyAddress),
            ..FactsRecord::new(Id::new(7), 12)
        };
        let back: FactsRecord = decode(&encode(&whole).unwrap()).unwrap();
        assert_eq!(back, whole);
        let address = |n| format!("a{n}@b.example");
        for long in [
            FactsRecord {
                subject: vec!["\u{1}".repeat(100_000)],
                ..whole.clone()
            },
            FactsRecord {
                from: (0..1000).map(address).collect(),
                ..whole.clone()
            },
            FactsRecord {
                subject: vec!["x".to_owned(); 5000],
                ..whole
            },
        ] {
            let value = encode(&long).unwrap();
            assert!(value.len() <= MAX_VALUE);
            let back: FactsRecord = decode(&value).unwrap();
            assert!(back.cut && back.size == 12, "{back:?}");
        }
    }
}
