//! A mailbox file as a person would write it, from what an import took.

use std::collections::HashSet;
use std::fmt::Write as _;

/// Texts in their order, none twice in another spelling.
#[derive(Debug, Clone, Default)]
pub(super) struct Distinct {
    texts: Vec<String>,
    keys: HashSet<String>,
}

impl Distinct {
    /// `key` is the same for all spellings.
    pub(super) fn add(&mut self, key: String, text: &str) {
        if self.keys.insert(key) {
            self.texts.push(text.to_owned());
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.keys.iter()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// `forwarding.rules[N]`, or `forwarding.all` when it has no condition.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    pub(super) name: Option<String>,
    pub(super) any: bool,
    pub(super) subjects: Distinct,
    pub(super) suffixes: Distinct,
    /// `at_least` or `at_most`, and octets.
    pub(super) size: Option<(&'static str, u64)>,
    pub(super) to: Distinct,
    pub(super) keep_copy: bool,
}

/// `auto_reply`.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    pub(super) start: Option<String>,
    pub(super) end: Option<String>,
    pub(super) subject: String,
    pub(super) message: String,
    /// Entries and text.
    pub(super) per_sender: Vec<(Vec<String>, String)>,
}

/// Everything that was taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    pub(super) mailbox: Option<String>,
    pub(super) aliases: Distinct,
    pub(super) suffixes: Distinct,
    pub(super) subjects: Distinct,
    pub(super) headers: Vec<&'static str>,
    pub(super) allowed: Distinct,
    pub(super) rules: Vec<Rule>,
    pub(super) notify: Distinct,
    pub(super) reply: Option<Reply>,
}

impl Rule {
    fn has_condition(&self) -> bool {
        !self.subjects.is_empty() || !self.suffixes.is_empty() || self.size.is_some()
    }
}

/// The file's text.
pub(super) fn write(taken: &Taken) -> String {
    let mut text = String::from("version: 1\n");
    if let Some(mailbox) = &taken.mailbox {
        let _ = writeln!(text, "mailbox: {}", quoted(mailbox));
    }
    if !taken.aliases.is_empty() {
        let _ = writeln!(text, "aliases: {}", flow(taken.aliases.texts()));
    }
    let Taken {
        suffixes,
        subjects,
        headers,
        ..
    } = taken;
    if !suffixes.is_empty() || !subjects.is_empty() || !headers.is_empty() {
        text.push_str("\nreject:\n");
        lines(&mut text, 2, "from_suffixes", suffixes);
        lines(&mut text, 2, "subject_contains", subjects);
        if !headers.is_empty() {
            let _ = writeln!(text, "  headers: [{}]", headers.join(", "));
        }
    }
    if !taken.allowed.is_empty() {
        text.push_str("\nallow:\n  before_reject: true\n");
        lines(&mut text, 2, "senders", &taken.allowed);
    }
    forwarding(&mut text, &taken.rules);
    if !taken.notify.is_empty() {
        let _ = writeln!(text, "\nnotify:\n  to: {}", flow(taken.notify.texts()));
    }
    if let Some(reply) = &taken.reply {
        auto_reply(&mut text, reply);
    }
    text
}

fn forwarding(text: &mut String, rules: &[Rule]) {
    match rules {
        [] => {}
        [all] if !all.has_condition() => {
            let (to, keep) = (flow(all.to.texts()), all.keep_copy);
            let _ = writeln!(
                text,
                "\nforwarding:\n  mode: all\n  all: {{to: {to}, keep_copy: {keep}}}"
            );
        }
        rules => {
            text.push_str("\nforwarding:\n  mode: rules\n  rules:\n");
            for rule in rules {
                let name = rule.name.as_deref().unwrap_or("imported");
                let _ = writeln!(text, "    - name: {}", quoted(name));
                if rule.any {
                    text.push_str("      match: any\n");
                }
                lines(text, 6, "subject_contains", &rule.subjects);
                lines(text, 6, "from_suffixes", &rule.suffixes);
                match rule.size {
                    Some((bound, octets)) => {
                        let _ = writeln!(text, "      size: {{{bound}: {octets}B}}");
                    }
                    // Every mail: a rule without conditions would match none.
                    None if !rule.has_condition() => text.push_str("      size: {at_least: 0B}\n"),
                    None => {}
                }
                let _ = writeln!(text, "      to: {}", flow(rule.to.texts()));
                let _ = writeln!(text, "      keep_copy: {}", rule.keep_copy);
            }
        }
    }
}

fn auto_reply(text: &mut String, reply: &Reply) {
    text.push_str("\nauto_reply:\n  enabled: true\n");
    for (key, moment) in [("start", &reply.start), ("end", &reply.end)] {
        if let Some(moment) = moment {
            let _ = writeln!(text, "  {key}: {moment}");
        }
    }
    let _ = writeln!(text, "  subject: {}", quoted(&reply.subject));
    message(text, 2, &reply.message);
    if !reply.per_sender.is_empty() {
        text.push_str("  per_sender:\n");
    }
    for (senders, answer) in &reply.per_sender {
        let _ = writeln!(text, "    - senders: {}", flow(senders));
        message(text, 6, answer);
    }
}

/// A list of patterns, one a line.
fn lines(text: &mut String, indent: usize, key: &str, entries: &Distinct) {
    let entries = entries.texts();
    if entries.is_empty() {
        return;
    }
    let space = " ".repeat(indent);
    if entries.iter().all(|entry| is_plain(entry)) {
        let _ = writeln!(text, "{space}{key}: |");
        for entry in entries {
            let _ = writeln!(text, "{space}  {entry}");
        }
    } else {
        let _ = writeln!(text, "{space}{key}:");
        for entry in entries {
            let _ = writeln!(text, "{space}  - {}", quoted(entry));
        }
    }
}

fn message(text: &mut String, indent: usize, message: &str) {
    let space = " ".repeat(indent);
    let body = message.strip_suffix('\n').unwrap_or(message);
    let plain = |line: &str| line.is_empty() || is_plain(line);
    let indented = body.starts_with([' ', '\n']) || body.ends_with('\n');
    if body.is_empty() || indented || !body.split('\n').all(plain) {
        let _ = writeln!(text, "{space}message: {}", quoted(message));
        return;
    }
    let _ = writeln!(text, "{space}message: |");
    for line in body.split('\n') {
        let _ = writeln!(text, "{}", format!("{space}  {line}").trim_end_matches(' '));
    }
}

/// Whether a line may stand in a block of YAML as it is.
fn is_plain(line: &str) -> bool {
    let odd = |c: char| {
        c.is_control()
            || matches!(
                c,
                '\u{2028}' | '\u{2029}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}'
            )
    };
    !line.is_empty() && !line.ends_with(' ') && !line.contains(odd)
}

fn flow(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// A double-quoted scalar.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            _ if c == ' ' || is_plain(c.encode_utf8(&mut [0; 4])) => quoted.push(c),
            _ => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}
