//! Why a script decided otherwise: each reason is proved, not guessed. The mail with its doubtful
//! octets mended is run again; or our own decision is made again with the facts that Pigeonhole
//! read, and without the entries that only folding finds. When both sides then agree, and the mail
//! shows why it is read in two ways, that is the reason.

use std::path::Path;

use sekimori::mail::fold::fold;
use sekimori::mail::{Address, Field, FromField, SubjectField};
use sekimori::policy::{Origin, Pattern, Policy, SubstringSet};
use sekimori::sieve::export::{self, export};
use sekimori::sieve::script::{Argument, Node};
use serde_json::Value;

use crate::corpus::Mail;
use crate::differential::{Decision, decide};
use crate::facts::Facts;
use crate::pigeonhole::{Outcome, Run, Site};
use crate::settings::{self, OWNER, Settings};

/// One mail and one mailbox's settings where the sides differ.
pub(crate) struct Case<'a> {
    pub(crate) site: &'a Site,
    pub(crate) script: &'a Path,
    pub(crate) settings: &'a Settings,
    pub(crate) mail: &'a Mail,
    pub(crate) file: &'a Path,
    pub(crate) sender: &'a str,
    pub(crate) now: i64,
    pub(crate) ours: &'a Decision,
    pub(crate) theirs: &'a Outcome,
    pub(crate) run: &'a Run,
}

/// The proved reasons, or what is not explained.
pub(crate) fn of(case: &Case<'_>) -> Result<String, String> {
    if let Some(reason) = case.mending_explains() {
        return Ok(reason.to_owned());
    }
    if let Some(reason) = case.reply_explains() {
        return Ok(reason.to_owned());
    }
    let ours = Facts::ours(&case.mail.message);
    let theirs = Facts::theirs(case.site, case.file);
    // Fewest first.
    for which in [
        0b0001, 0b0010, 0b0100, 0b1000, 0b0011, 0b0101, 0b0110, 0b1001, 0b1010, 0b1111,
    ] {
        let [from, subject, attachment, folding] = [1, 2, 4, 8].map(|bit| which & bit != 0);
        let mixed = Facts {
            from: if from { &theirs } else { &ours }.from.clone(),
            subject: if subject { &theirs } else { &ours }.subject.clone(),
            attachment: if attachment { &theirs } else { &ours }.attachment,
        };
        if case.decide_with(&mixed, folding) != *case.theirs {
            continue;
        }
        let mut reasons = Vec::new();
        if from {
            reasons.push(case.cause_in_from(&ours.from, &theirs.from));
        }
        if subject {
            reasons.push(case.cause_in_subject(&ours.subject, &theirs.subject));
        }
        if attachment {
            reasons.push(case.attachment_cause());
        }
        if folding {
            reasons.push(Some("folding: an entry that only folding finds"));
        }
        let named: Option<Vec<&str>> = reasons.into_iter().collect();
        if let Some(named) = named {
            return Ok(named.join(" + "));
        }
    }
    Err(format!("{theirs:?}"))
}

impl Case<'_> {
    fn fields<'b>(&'b self, name: &'b str) -> Vec<&'b Field> {
        self.mail.message.header.all(name).collect()
    }

    /// With its octets mended, the script decides as we do.
    fn mending_explains(&self) -> Option<&'static str> {
        let raw = self.mail.raw.as_slice();
        let unmarked = raw.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(raw).to_vec();
        let mended = [
            (
                with_line_ends(raw),
                "line ends: a bare CR ends a line of a header here",
            ),
            (
                unmarked,
                "header: a byte order mark stands before the first field",
            ),
        ];
        let mut mended = mended.into_iter().filter(|(mended, _)| mended != raw);
        let found = mended.find(|(mended, _)| self.agrees_about(mended));
        found.map(|(_, reason)| reason)
    }

    fn agrees_about(&self, raw: &[u8]) -> bool {
        let file = self.site.mail("mended.eml", raw);
        let run = self.site.execute(self.script, &file, self.sender, OWNER);
        run.outcome(&settings::texts()) == self.ours.outcome
    }

    /// Only the reply differs, and `vacation` says why it was silent.
    fn reply_explains(&self) -> Option<&'static str> {
        let but_for_reply = |outcome: &Outcome| Outcome {
            reply: None,
            ..outcome.clone()
        };
        if but_for_reply(&self.ours.outcome) != but_for_reply(self.theirs) {
            return None;
        }
        let said = self.run.no_vacation()?;
        if self.ours.outcome.reply.is_some() && said.contains("system address") {
            return Some("reply: Pigeonhole has more system addresses");
        }
        None
    }

    /// Our decision with those facts; without `folding` entries.
    fn decide_with(&self, facts: &Facts, without_folding: bool) -> Outcome {
        let mut message = self.mail.message.clone();
        message.from = facts.from.clone();
        message.subject = facts.subject.clone();
        message.attachment = facts.attachment;
        let unfolded = without_folding.then(|| self.without_folded_entries(&facts.subject));
        let policy = unfolded
            .as_ref()
            .map_or(&self.settings.policy, |settings| &settings.policy);
        decide(
            policy,
            &self.settings.config,
            &self.mail.raw,
            &message,
            self.sender,
            self.now,
            &settings::texts(),
        )
        .outcome
    }

    /// The settings without the Subject entries that are in the Subject only once both are folded.
    fn without_folded_entries(&self, subject: &SubjectField) -> Settings {
        let texts: Vec<String> = match subject {
            SubjectField::Text(texts) => texts.iter().map(|text| text.decoded.clone()).collect(),
            SubjectField::Empty | SubjectField::Missing => Vec::new(),
        };
        let only_folded = |entry: &Value| {
            let entry = entry.as_str().unwrap();
            let lower = |text: &str| text.to_ascii_lowercase();
            let written = spellings(entry)
                .iter()
                .any(|form| texts.iter().any(|text| lower(text).contains(&lower(form))));
            let folded = fold(entry);
            !written
                && texts
                    .iter()
                    .any(|text| fold(text).as_str().contains(folded.as_str()))
        };
        let strip = |list: &mut Value| {
            let entries = list.as_array_mut().unwrap();
            entries.retain(|entry| !only_folded(entry));
            entries.push("no subject has this".into());
        };
        let mut value = self.settings.value.clone();
        let rejected = value.pointer_mut("/reject/subject_contains");
        rejected.into_iter().for_each(strip);
        let rules = value.pointer_mut("/forwarding/rules");
        let rules = rules.and_then(Value::as_array_mut).into_iter().flatten();
        rules
            .filter_map(|rule| rule.get_mut("subject_contains"))
            .for_each(strip);
        Settings::of(value, 0, 0)
    }

    fn cause_in_from(&self, ours: &FromField, theirs: &FromField) -> Option<&'static str> {
        let raw = self.fields("From");
        let octets: Vec<u8> = raw.iter().flat_map(|field| field.value.to_vec()).collect();
        let text = String::from_utf8_lossy(&octets).into_owned();
        if format!("{ours:?}") == format!("{theirs:?}") {
            return None;
        }
        if !octets.is_ascii() {
            return Some("From: raw 8-bit text in an address field");
        }
        if text.contains('\x1b') {
            return Some("From: raw ISO-2022-JP in an address field");
        }
        if text.contains("=?") {
            return Some("From: an encoded word where an address must stand");
        }
        if text.contains('[') && !text.contains('<') {
            return Some("From: an address in square brackets");
        }
        if text.contains('"') && text.contains("\"@") {
            return Some("From: a quoted local part");
        }
        None
    }

    fn cause_in_subject(&self, ours: &SubjectField, theirs: &SubjectField) -> Option<&'static str> {
        let raw = self.fields("Subject");
        let octets: Vec<u8> = raw.iter().flat_map(|field| field.value.to_vec()).collect();
        if format!("{ours:?}") == format!("{theirs:?}") {
            return None;
        }
        if !octets.is_ascii() {
            return Some("Subject: raw 8-bit text, whose charset we look for");
        }
        if octets.contains(&0x1b) {
            return Some("Subject: raw ISO-2022-JP");
        }
        if String::from_utf8_lossy(&octets).contains("=?") {
            return Some("Subject: encoded words that are not quite RFC 2047");
        }
        None
    }

    fn attachment_cause(&self) -> Option<&'static str> {
        let text = String::from_utf8_lossy(&self.mail.raw).to_lowercase();
        if text.contains("multipart/digest") {
            return Some("attachment: a part of a digest is a message");
        }
        let types = text.split("content-type:").skip(1);
        let mut types = types.map(|rest| rest.split([';', '\r', '\n']).next().unwrap_or_default());
        if types.any(|kind| !kind.contains('/')) {
            return Some("attachment: a Content-Type without a subtype");
        }
        None
    }
}

/// Every CR a line end.
fn with_line_ends(raw: &[u8]) -> Vec<u8> {
    let mut mended = Vec::with_capacity(raw.len());
    for (at, octet) in raw.iter().enumerate() {
        mended.push(*octet);
        if *octet == b'\r' && raw.get(at + 1) != Some(&b'\n') {
            mended.push(b'\n');
        }
    }
    mended
}

/// How the exporter writes a Subject entry.
fn spellings(entry: &str) -> Vec<String> {
    let mut policy = Policy::new(Address::parse(OWNER).unwrap());
    policy.subject_contains = SubstringSet::build([Pattern {
        text: entry.to_owned(),
        origin: Origin {
            file: "x".into(),
            line: 1,
        },
    }]);
    let script = export(&export::Settings {
        policy: &policy,
        virus: None,
        spam: None,
    })
    .script;
    let tests = script.commands.iter().flat_map(Node::inner);
    let lists =
        tests
            .filter(|test| test.name == "header")
            .map(|test| match test.arguments.last() {
                Some(Argument::Strings(texts)) => texts.clone(),
                _ => Vec::new(),
            });
    lists
        .flatten()
        .map(|text| text.replace("${dollar}", "$"))
        .collect()
}
