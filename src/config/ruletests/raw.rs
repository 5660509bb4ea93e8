//! A file of rule tests as written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::config::field::Field;
use crate::config::text::{Mail, Text};
use crate::policy::{Stage, Verdict};

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTests {
    pub(super) version: Field<u64>,
    pub(super) mailbox: Field<Text<Mail>>,
    pub(super) cases: Field<Vec<Field<RawCase>>>,
}

/// One of `cases`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCase {
    pub(super) name: Field<String>,
    pub(super) mailbox: Field<Text<Mail>>,
    pub(super) message: Field<String>,
    pub(super) headers: Field<String>,
    pub(super) body: Field<String>,
    pub(super) sender: Field<String>,
    pub(super) at: Field<String>,
    pub(super) trusted_client: Field<bool>,
    pub(super) dmarc_pass: Field<bool>,
    pub(super) scan: Field<RawScan>,
    pub(super) expect: Field<RawExpect>,
}

/// `scan` of a case.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawScan {
    pub(super) spam: Field<bool>,
    pub(super) virus: Field<String>,
}

/// `expect` of a case.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawExpect {
    pub(super) verdict: Field<RawVerdict>,
    pub(super) stage: Field<RawStage>,
    pub(super) entry: Field<String>,
    pub(super) origin: Field<String>,
    pub(super) rule: Field<String>,
    pub(super) forwarded_to: Field<Vec<Field<Text<Mail>>>>,
    pub(super) keep_copy: Field<bool>,
    pub(super) notified: Field<RawNotified>,
    pub(super) auto_reply: Field<bool>,
    pub(super) mark: Field<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawVerdict {
    Deliver,
    Forward,
    Quarantine,
    Replace,
}

/// The stages that can decide.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) enum RawStage {
    #[serde(rename = "reject.from_suffixes")]
    RejectFromSuffixes,
    #[serde(rename = "reject.subject_contains")]
    RejectSubjectContains,
    #[serde(rename = "reject.headers")]
    RejectHeaders,
    #[serde(rename = "virus")]
    Virus,
    #[serde(rename = "spam")]
    Spam,
}

/// A number, or a list of addresses.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RawNotified {
    Count(u64),
    To(Vec<Field<Text<Mail>>>),
}

impl<'de> Deserialize<'de> for RawNotified {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NotifiedVisitor)
    }
}

struct NotifiedVisitor;

impl<'de> Visitor<'de> for NotifiedVisitor {
    type Value = RawNotified;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of addresses, or a list of them")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<RawNotified, E> {
        Ok(RawNotified::Count(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawNotified, E> {
        match text.parse() {
            Ok(number) => Ok(RawNotified::Count(number)),
            Err(_) => Err(E::custom(format!(
                "{text:?} is neither a number of addresses nor a list of them"
            ))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawNotified, A::Error> {
        let mut to = Vec::new();
        while let Some(address) = seq.next_element()? {
            to.push(address);
        }
        Ok(RawNotified::To(to))
    }
}

impl From<RawVerdict> for Verdict {
    fn from(raw: RawVerdict) -> Self {
        match raw {
            RawVerdict::Deliver => Self::Deliver,
            RawVerdict::Forward => Self::Forward,
            RawVerdict::Quarantine => Self::Quarantine,
            RawVerdict::Replace => Self::Replace,
        }
    }
}

impl From<RawStage> for Stage {
    fn from(raw: RawStage) -> Self {
        match raw {
            RawStage::RejectFromSuffixes => Self::RejectFromSuffixes,
            RawStage::RejectSubjectContains => Self::RejectSubjectContains,
            RawStage::RejectHeaders => Self::RejectHeaders,
            RawStage::Virus => Self::Virus,
            RawStage::Spam => Self::Spam,
        }
    }
}
