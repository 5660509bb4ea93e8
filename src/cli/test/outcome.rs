//! What came of a case: the decision beside what was expected of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::text;
use crate::config::ruletests::{Expectation, Notified, RuleCase};
use crate::mail::Address;

/// What came of one case.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) file: PathBuf,
    pub(super) line: u32,
    /// Empty: passed.
    pub(super) differences: Vec<Difference>,
    /// For a case that failed: what decided, or why there was no reply.
    pub(super) reason: Option<String>,
}

/// One expectation that was not met; the values as JSON.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) what: &'static str,
    pub(super) expected: Value,
    pub(super) got: Value,
}

impl Outcome {
    /// Compares a decision, as `explain --json` shows it, with what a case expects.
    pub(super) fn of(file: &Path, case: &RuleCase, decided: &Value) -> Self {
        let differences = compare(&case.expect, decided);
        Self {
            name: case.name.clone(),
            file: file.to_owned(),
            line: case.line,
            reason: reason(decided, &differences),
            differences,
        }
    }

    pub(super) fn passed(&self) -> bool {
        self.differences.is_empty()
    }

    /// What went wrong, one line a difference.
    pub(super) fn complaints(&self) -> impl Iterator<Item = String> {
        let differences = self.differences.iter().map(|difference| {
            let Difference {
                what,
                expected,
                got,
            } = difference;
            let [expected, got] = [expected, got].map(text::word);
            format!("{what}: expected {expected}, got {got}")
        });
        differences.chain(self.reason.clone())
    }
}

/// Every expectation that a decision, as `explain --json` shows it, does not meet.
fn compare(expect: &Expectation, decided: &Value) -> Vec<Difference> {
    let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
    let forward = &decided["forward"];
    let keep = Some(&forward["keep"]).filter(|_| !forward["rule"].is_null());
    let notified = addresses(&decided["notify"]);
    let (expected_notified, notified) = match &expect.notified {
        Some(Notified::Count(count)) => (Some(json!(count)), json!(notified.len())),
        Some(Notified::To(to)) => (Some(keys(to)), keys(&notified)),
        None => (None, Value::Null),
    };
    let rows = [
        (
            "verdict",
            expect.verdict.map(|verdict| json!(verdict.as_str())),
            decided["verdict"].clone(),
        ),
        (
            "stage",
            expect.stage.map(|stage| json!(stage.as_str())),
            decided["stage"].clone(),
        ),
        ("entry", text(&expect.entry), decided["entry"].clone()),
        ("origin", text(&expect.origin), decided["origin"].clone()),
        ("rule", text(&expect.rule), forward["rule"].clone()),
        (
            "forwarded_to",
            expect.forwarded_to.as_deref().map(keys),
            keys(&addresses(&forward["to"])),
        ),
        (
            "keep_copy",
            expect.keep_copy.map(Value::from),
            keep.cloned().unwrap_or_default(),
        ),
        ("notified", expected_notified, notified),
        (
            "auto_reply",
            expect.auto_reply.map(Value::from),
            decided["auto_reply"]["would_send"].clone(),
        ),
        (
            "mark",
            text(&expect.mark),
            json!(decided["mark"].as_str().unwrap_or_default()),
        ),
    ];
    let unmet = rows.into_iter().filter_map(|(what, expected, got)| {
        let expected = expected.filter(|expected| *expected != got)?;
        Some(Difference {
            what,
            expected,
            got,
        })
    });
    unmet.collect()
}

fn addresses(list: &Value) -> Vec<Address> {
    let texts = list.as_array().into_iter().flatten();
    texts
        .filter_map(|text| Address::parse(text.as_str()?).ok())
        .collect()
}

/// Addresses as they are compared: case does not count, nor the order.
fn keys(addresses: &[Address]) -> Value {
    let keys: BTreeSet<String> = addresses.iter().map(Address::key).collect();
    json!(keys)
}

/// For a case that failed: what holds the mail, or why there is no reply where one was expected.
fn reason(decided: &Value, differences: &[Difference]) -> Option<String> {
    let wanted_reply = differences.iter().any(|d| d.what == "auto_reply");
    if differences.is_empty() {
        return None;
    }
    if decided["stage"].is_null() {
        let reason = decided["auto_reply"]["reason"].as_str();
        return reason
            .filter(|_| wanted_reply)
            .map(|reason| format!("no auto-reply: {reason}"));
    }
    let [stage, entry, origin] =
        ["stage", "entry", "origin"].map(|name| text::word(&decided[name]));
    Some(format!("decided by {stage}: {entry} ({origin})"))
}
