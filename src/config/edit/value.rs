//! What a setting is set to, and how it is written as YAML: plain where that is safe, in double
//! quotes where it is not, as a block of text where there are several lines.

use std::fmt::Write as _;

/// A new value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `true`, a number, one word of a few: written as it is.
    Word(String),
    /// Text, quoted where it must be.
    Text(String),
    /// A list of patterns: a block of text, one a line.
    Lines(Vec<String>),
    /// A list of words or addresses, or of sections.
    List(Vec<Value>),
    /// A section.
    Map(Vec<(String, Value)>),
}

/// A value as lines: what stands behind `key:`, and the lines below it (without line ends).
pub(super) struct Rendered {
    pub(super) head: String,
    pub(super) body: Vec<String>,
}

impl Value {
    /// A list of patterns, trimmed as they are when they are read.
    pub fn patterns(entries: &[String]) -> Self {
        let entries = entries.iter().map(|entry| entry.trim().to_owned());
        Self::Lines(entries.collect())
    }

    /// In brackets and quotes, on one line.
    pub(super) fn inline(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Text(text) if is_plain(text) => text.clone(),
            Self::Text(text) => quoted(text),
            Self::Lines(entries) => brackets(entries.iter().map(|entry| quoted(entry))),
            Self::List(items) => brackets(items.iter().map(Self::inline)),
            Self::Map(pairs) => {
                let pair = |(key, value): &(String, Self)| format!("{key}: {}", value.inline());
                let pairs: Vec<String> = pairs.iter().map(pair).collect();
                format!("{{{}}}", pairs.join(", "))
            }
        }
    }

    /// As the value of a key that is indented by `indent`.
    pub(super) fn block(&self, indent: usize) -> Rendered {
        let deeper = indent + 2;
        match self {
            Self::Lines(entries) if !entries.is_empty() && entries.iter().all(|e| is_line(e)) => {
                lines("|", entries.iter().map(String::as_str), deeper)
            }
            Self::Lines(entries) if !entries.is_empty() => Rendered {
                head: String::new(),
                body: entries
                    .iter()
                    .map(|entry| indented(&format!("- {}", quoted(entry)), deeper))
                    .collect(),
            },
            Self::Text(text) if text.contains('\n') && is_block(text) => {
                let header = if text.ends_with('\n') { "|" } else { "|-" };
                lines(header, text.lines(), deeper)
            }
            Self::List(items) if items.iter().any(|item| matches!(item, Self::Map(_))) => {
                Rendered {
                    head: String::new(),
                    body: items.iter().flat_map(|item| item.item(deeper)).collect(),
                }
            }
            Self::Map(pairs) if !pairs.is_empty() => Rendered {
                head: String::new(),
                body: pairs
                    .iter()
                    .flat_map(|(key, value)| value.pair(key, deeper))
                    .collect(),
            },
            _ => Rendered {
                head: self.inline(),
                body: Vec::new(),
            },
        }
    }

    /// The lines of `key: value`, the key indented by `indent`.
    pub(super) fn pair(&self, key: &str, indent: usize) -> Vec<String> {
        let Rendered { head, body } = self.block(indent);
        let space = if head.is_empty() { "" } else { " " };
        let first = indented(&format!("{key}:{space}{head}"), indent);
        std::iter::once(first).chain(body).collect()
    }

    /// The lines of one item of a list whose dashes are indented by `indent`.
    pub(super) fn item(&self, indent: usize) -> Vec<String> {
        let Self::Map(pairs) = self else {
            return vec![indented(&format!("- {}", self.inline()), indent)];
        };
        let mut found: Vec<String> = pairs
            .iter()
            .flat_map(|(key, value)| value.pair(key, indent + 2))
            .collect();
        if let Some(first) = found.first_mut() {
            *first = indented(&format!("- {}", first.trim_start()), indent);
        }
        found
    }
}

fn lines<'a>(header: &str, texts: impl Iterator<Item = &'a str>, indent: usize) -> Rendered {
    Rendered {
        head: header.to_owned(),
        body: texts.map(|text| indented(text, indent)).collect(),
    }
}

pub(super) fn indented(text: &str, by: usize) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("{}{text}", " ".repeat(by))
}

fn brackets(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    format!("[{}]", items.join(", "))
}

/// Whether a text means itself without quotes wherever it stands. Narrower than YAML.
fn is_plain(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    if unit.len() < text.len() && ["B", "KiB", "MiB", "GiB"].contains(&unit) {
        return true;
    }
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./@+".contains(&b))
        && !words.contains(&text.to_ascii_lowercase().as_str())
}

/// Whether a text may be one line of a block.
pub(super) fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.starts_with([' ', '\t']) && !text.contains(needs_escape)
}

/// Whether a text of several lines may be a block. Of blank lines at its end those behind the block
/// could become part.
fn is_block(text: &str) -> bool {
    if text.ends_with("\n\n") {
        return false;
    }
    let first = text.split('\n').find(|line| !line.is_empty());
    first.is_some_and(is_line) && text.split('\n').all(|line| !line.contains(needs_escape))
}

/// Characters that some YAML reader takes for a line end, refuses, or leaves out.
fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

/// In double quotes (YAML 1.2, 5.7).
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
