//! JSON for a person: one line an entry, or one line a member. Text of a mail is made harmless for
//! a terminal.

use std::io::Write;

use serde_json::Value;

use crate::mail::{harmless, is_harmful};

/// A text without control, format and direction characters (they could repaint a terminal).
pub(super) fn clean(text: &str) -> String {
    harmless(text)
}

/// The same for several lines, whose ends stay.
pub(super) fn clean_lines(text: &str) -> String {
    text.split_inclusive('\n').map(clean_line).collect()
}

/// The same for one line of a settings file: its tabs and its end stay.
pub(super) fn clean_line(line: &str) -> String {
    let body = line.trim_end_matches(['\r', '\n']);
    let pieces: Vec<String> = body.split('\t').map(clean).collect();
    pieces.join("\t") + line.get(body.len()..).unwrap_or_default()
}

/// One line of JSON; the same characters stand in it as escapes (RFC 8259 7).
pub(super) fn json(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        // Outside a string JSON has none of them.
        if is_harmful(c) {
            line.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            line.push(c);
        }
    }
    line
}

/// A value in one word or a list of them; `-` for nothing.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
            let words: Vec<String> = items.iter().map(word).collect();
            if words.is_empty() {
                "-".to_owned()
            } else {
                words.join(", ")
            }
        }
        other => clean(&other.to_string()),
    }
}

/// One held mail.
pub(super) fn held(entry: &Value) -> String {
    let [id, received, state, mailbox, stage] =
        ["id", "received_at", "state", "mailbox", "stage"].map(|name| word(&entry[name]));
    let [hit, from, subject] = ["entry", "from", "subject"].map(|name| word(&entry[name]));
    let day = received.get(..16).unwrap_or(&received);
    format!("{id}  {day}  {state:9}  {mailbox}  {stage} {hit}  {from}  {subject}")
}

/// One outgoing mail.
pub(super) fn queued(item: &Value) -> String {
    let [id, kind, mailbox, to] =
        ["id", "kind", "mailbox", "recipients"].map(|name| word(&item[name]));
    let [attempts, next, reply] =
        ["attempts", "next_attempt_at", "last_reply"].map(|name| word(&item[name]));
    format!("{id}  {kind:17}  {mailbox} -> {to}  attempts {attempts}, next {next}, last: {reply}")
}

/// What a command did, in one line.
pub(super) fn done(value: &Value) -> String {
    let told = [
        "id",
        "state",
        "mailbox",
        "allowed",
        "still_held_by",
        "learned",
        "deleted",
    ];
    let told = told.iter().filter(|name| !value[**name].is_null());
    let words: Vec<String> = told
        .map(|name| format!("{name}: {}", word(&value[*name])))
        .collect();
    words.join("  ")
}

/// One why-record.
pub(super) fn record(why: &Value) -> String {
    let [id, received, mailbox, verdict] =
        ["id", "received_at", "mailbox", "verdict"].map(|name| word(&why[name]));
    let [sender, subject] = ["sender", "subject"].map(|name| word(&why[name]));
    let by = decided_by(why).map_or_else(String::new, |by| format!(" by {by}"));
    let second = second(&received);
    format!("{id}  {second}  {mailbox}  {verdict}{by}  {sender}  {subject}")
}

/// One change that a draft would make.
pub(super) fn change(change: &Value) -> String {
    let [received, sender, subject] =
        ["received_at", "sender", "subject"].map(|name| word(&change[name]));
    let second = second(&received);
    let by = decided_by(change).unwrap_or_default();
    let to = match &change["to"] {
        Value::Null => String::new(),
        to => format!(" to {}", word(to)),
    };
    format!("{second}  {sender}  {subject}  {by}{to}")
}

/// A time of UTC without the parts of its second; its zone is told, since a log may be in another.
fn second(time: &str) -> String {
    let parts = time.get(..19).filter(|_| time.ends_with('Z'));
    parts.map_or_else(|| time.to_owned(), |second| format!("{second}Z"))
}

/// Stage, entry and place.
fn decided_by(value: &Value) -> Option<String> {
    let stage = value["stage"].as_str()?;
    Some(match &value["origin"] {
        Value::Null => format!("{stage}: {}", word(&value["entry"])),
        origin => format!("{stage}: {} ({})", word(&value["entry"]), word(origin)),
    })
}

/// All members, one a line; those of an object in it by their path.
pub(super) fn members(value: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    for (name, value) in value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "schema")
    {
        member(name, value, out)?;
    }
    Ok(())
}

fn member(path: &str, value: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    match value {
        Value::Object(inner) => inner
            .iter()
            .try_for_each(|(name, value)| member(&format!("{path}.{name}"), value, out)),
        value => writeln!(out, "{:14} {}", format!("{path}:"), word(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_means_the_same_without_a_harmful_character() {
        let value = json!({"a": "\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{feff}\n\"太郎"});
        let line = super::json(&value);
        assert!(!line.contains(is_harmful), "{line:?}");
        assert!(line.contains("太郎"), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn nothing_repaints_a_terminal() {
        let line = held(
            &json!({"id": "x", "received_at": "2026-11-22T00:00:00Z", "state": "held", "mailbox": "a@b",
            "stage": "spam", "entry": null, "from": "\u{1b}[2J<a@b>", "subject": "a\nb\u{202e}c"}),
        );
        assert!(!line.contains(['\u{1b}', '\n', '\u{202e}']), "{line:?}");
        assert!(line.contains("2026-11-22T00:00"), "{line}");
    }

    #[test]
    fn what_is_in_a_member_has_a_line_of_its_own() {
        let status = json!({"schema": "x", "pid": 1, "scanners": {"virus": null,
            "spam": {"engine": "rspamd", "error": "a\u{1b}b"}}});
        let mut out = Vec::new();
        members(&status, &mut out).unwrap();
        let lines = "pid:           1\nscanners.virus: -\nscanners.spam.engine: rspamd\n\
                     scanners.spam.error: a\u{FFFD}b\n";
        assert_eq!(String::from_utf8(out).unwrap(), lines);
    }

    /// A name of a file, an answer of another server: whatever a failure quotes.
    #[test]
    fn a_failure_repaints_no_terminal() {
        let failure = crate::cli::Failure::new(crate::cli::Exit::Data, "a\u{1b}[2J\n\tb\u{202e}");
        assert_eq!(failure.to_string(), "a\u{FFFD}[2J\n\tb\u{FFFD}");
    }
}
