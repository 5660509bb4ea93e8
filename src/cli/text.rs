//! JSON for a person: one line an entry, or one line a member. Text of a mail is made harmless for
//! a terminal.

use std::io::Write;

use serde_json::Value;

use crate::mail::is_harmful;

/// A text without control, format and direction characters (they could repaint a terminal).
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if is_harmful(c) { '\u{FFFD}' } else { c })
        .collect()
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

fn word(value: &Value) -> String {
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
        "deleted",
    ];
    let told = told.iter().filter(|name| !value[**name].is_null());
    let words: Vec<String> = told
        .map(|name| format!("{name}: {}", word(&value[*name])))
        .collect();
    words.join("  ")
}

/// All members, one a line.
pub(super) fn members(value: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    for (name, value) in value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "schema")
    {
        writeln!(out, "{:14} {}", format!("{name}:"), word(value))?;
    }
    Ok(())
}

/// A decision: the verdict, each stage, what is done.
pub(super) fn decision(value: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    for name in [
        "id",
        "mailbox",
        "received_at",
        "sender",
        "client",
        "message_id",
        "size",
    ] {
        if let Some(value) = value.get(name) {
            writeln!(out, "{:14} {}", format!("{name}:"), word(value))?;
        }
    }
    let by = match value["stage"].as_str() {
        Some(stage) => format!(
            " by {stage}: {} ({})",
            word(&value["entry"]),
            word(&value["origin"])
        ),
        None => String::new(),
    };
    writeln!(out, "verdict:       {}{by}", word(&value["verdict"]))?;
    for step in value["steps"].as_array().into_iter().flatten() {
        let found = match step.get("entry") {
            Some(entry) if step["origin"].is_null() => format!("  {}", word(entry)),
            Some(entry) => format!("  {} ({})", word(entry), word(&step["origin"])),
            None => String::new(),
        };
        writeln!(
            out,
            "  {:24} {}{found}",
            word(&step["stage"]),
            word(&step["outcome"])
        )?;
    }
    consequences(value, out)
}

fn consequences(value: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    if let Some(mark) = value["mark"].as_str() {
        writeln!(out, "mark:          {}", clean(mark))?;
    }
    let forward = &value["forward"];
    if !forward["rule"].is_null() {
        let keep = if forward["keep"] == true {
            "a copy is kept"
        } else {
            "no copy is kept"
        };
        writeln!(
            out,
            "forward:       {} to {}, {keep}",
            word(&forward["rule"]),
            word(&forward["to"])
        )?;
    }
    if value["notify"].as_array().is_some_and(|to| !to.is_empty()) {
        writeln!(out, "notify:        {}", word(&value["notify"]))?;
    }
    let reply = &value["auto_reply"];
    let words = if reply["would_send"] == true {
        "yes".to_owned()
    } else {
        format!("no, {}", word(&reply["reason"]))
    };
    writeln!(out, "auto-reply:    {words}")?;
    for effect in value["effects"].as_array().into_iter().flatten() {
        let [kind, to, state, reply] =
            ["kind", "to", "state", "reply"].map(|name| word(&effect[name]));
        writeln!(out, "effect:        {kind} to {to}: {state} {reply}")?;
    }
    Ok(())
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
}
