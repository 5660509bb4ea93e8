//! The settings that count, and where each came from: a built-in value, a line of the daemon file,
//! a line of a mailbox file.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::error::Diagnostic;
use super::field::Field;
use super::mailbox::{RawForwarding, RawMailbox, RawMode, VERSION};
use super::setting::{Item, Setting, Shown};
use super::settings::Config;
use super::source::{DAEMON_FILE, Place, Report};
use super::text::{Mail, Text};
use super::{compile, compile_mailbox, patterns, read_file};
use crate::mail::{Address, harmless, is_harmful};

/// The settings of one file over those below it.
#[derive(Debug)]
pub struct Settings {
    root: Shown,
    report: Report,
    /// Whether the daemon file lies below: its values are those of `mailboxes.defaults`.
    of_mailbox: bool,
}

/// One value that counts. A list is one value, but a list of sections is not.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// As in `server.listeners[0].name`.
    pub key: String,
    /// The value.
    pub value: Value,
    /// `built-in`, `FILE:LINE` or `mailboxes.defaults FILE:LINE`.
    pub origin: String,
}

/// The settings of the daemon file at `path`.
///
/// # Errors
/// All errors and warnings when there is an error.
pub fn show(path: &Path) -> Result<Settings, Vec<Diagnostic>> {
    let mut report = Report::default();
    let bytes = read_file(path)?;
    let raw = patterns::add_text(&mut report, path, bytes).and_then(|_| compile::read(&mut report));
    if let Some(raw) = &raw {
        compile::config(&mut report, path, raw);
    }
    settings(raw.as_ref(), report, false)
}

/// The settings of the mailbox file at `path` over the defaults of `config`; without a path those
/// of a mailbox that has no file. `address` is used where the file names no mailbox.
///
/// # Errors
/// All errors and warnings when there is an error.
pub fn show_mailbox(
    config: &Config,
    path: Option<&Path>,
    address: &Address,
) -> Result<Settings, Vec<Diagnostic>> {
    let mut report = Report::beside(&config.path);
    let mut raw = match path {
        Some(path) => {
            let bytes = read_file(path)?;
            let merged = super::merged(&mut report, config, path, bytes, Some(address));
            merged.map(|(raw, _)| raw)
        }
        None => Some(RawMailbox {
            version: Field {
                value: Some(VERSION),
                at: None,
            },
            ..RawMailbox::clone(&config.mailboxes.defaults)
        }),
    };
    if let Some(raw) = &mut raw {
        compile_mailbox::compile(&mut report, config, raw, address, &mut Vec::new());
        let name = Text(Mail(address.clone()));
        raw.mailbox = std::mem::take(&mut raw.mailbox).or_built_in(name);
        raw.forwarding.value.iter_mut().for_each(one_kind);
    }
    settings(raw.as_ref(), report, true)
}

/// Of the defaults' kind of forwarding and the mailbox's own, which no file has both of, that counts
/// which `mode` names; with neither named the mailbox's own is shown.
fn one_kind(forwarding: &mut RawForwarding) {
    let RawForwarding { mode, all, rules } = forwarding;
    if !all.is_given() || !rules.is_given() {
        return;
    }
    let keeps_all = match mode.or_default() {
        RawMode::All => true,
        RawMode::Rules => false,
        RawMode::Off => rules.key().file == DAEMON_FILE,
    };
    match keeps_all {
        true => *rules = Field::default(),
        false => *all = Field::default(),
    }
}

fn settings<T: Setting>(
    raw: Option<&T>,
    report: Report,
    of_mailbox: bool,
) -> Result<Settings, Vec<Diagnostic>> {
    match raw {
        Some(raw) if !report.has_errors() => Ok(Settings {
            root: raw.shown(&report, Place::default()),
            report,
            of_mailbox,
        }),
        _ => Err(report.finish()),
    }
}

impl Settings {
    /// A settings file with every value that counts; with `origin` each line tells where its value
    /// came from. Read in the place of the file it gives the same settings.
    pub fn yaml(&self, origin: bool) -> String {
        let mut out = String::new();
        self.of_value(&mut out, &self.root, 0, origin);
        out
    }

    /// The values one by one, in the order of the file.
    pub fn leaves(&self) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        self.add_leaves(&mut leaves, String::new(), None, &self.root);
        leaves
    }

    fn origin(&self, at: Option<Place>) -> String {
        let Some(place) = at else {
            return "built-in".to_owned();
        };
        let name = harmless(&self.report.origin(place).to_string());
        match self.of_mailbox && place.file == DAEMON_FILE {
            true => format!("mailboxes.defaults {name}"),
            false => name,
        }
    }

    fn comment(&self, item: &Item, origin: bool) -> String {
        match origin {
            true => format!("  # {}", self.origin(item.at)),
            false => String::new(),
        }
    }

    /// The lines of a section or a list, `indent` deep.
    fn of_value(&self, out: &mut String, value: &Shown, indent: usize, origin: bool) {
        match value {
            Shown::Section(items) => {
                for (key, item) in items {
                    let _ = write!(out, "{:indent$}{key}:", "");
                    self.of_item(out, item, indent + 2, origin);
                }
            }
            Shown::List(items) => {
                for item in items {
                    if let Shown::Section(_) = item.value {
                        let mut section = String::new();
                        self.of_value(&mut section, &item.value, indent + 2, origin);
                        let body = section.get(indent + 2..).unwrap_or("{}\n");
                        let _ = write!(out, "{:indent$}- {body}", "");
                    } else {
                        let _ = write!(out, "{:indent$}-", "");
                        self.of_item(out, item, indent + 2, origin);
                    }
                }
            }
            Shown::Leaf(_) => {}
        }
    }

    /// What stands behind `key:` or `-`.
    fn of_item(&self, out: &mut String, item: &Item, indent: usize, origin: bool) {
        let comment = self.comment(item, origin);
        let _ = match &item.value {
            Shown::Leaf(value) => writeln!(out, " {}{comment}", scalar(value)),
            Shown::List(items) if items.is_empty() => writeln!(out, " []{comment}"),
            Shown::List(_) => writeln!(out, "{comment}"),
            Shown::Section(items) if items.is_empty() => writeln!(out, " {{}}{comment}"),
            Shown::Section(_) => writeln!(out),
        };
        self.of_value(out, &item.value, indent, origin);
    }

    fn add_leaves(&self, leaves: &mut Vec<Leaf>, key: String, at: Option<Place>, value: &Shown) {
        match value {
            Shown::Section(items) => {
                for (name, item) in items {
                    let key = match key.as_str() {
                        "" => (*name).to_owned(),
                        above => format!("{above}.{name}"),
                    };
                    self.add_leaves(leaves, key, item.at, &item.value);
                }
            }
            Shown::List(items) if items.iter().any(|item| item.value.is_section()) => {
                for (index, item) in items.iter().enumerate() {
                    self.add_leaves(leaves, format!("{key}[{index}]"), item.at, &item.value);
                }
            }
            Shown::List(items) => {
                let value = items.iter().map(|item| item.value.leaf()).collect();
                leaves.push(Leaf {
                    key,
                    value,
                    origin: self.origin(at),
                });
            }
            Shown::Leaf(value) => leaves.push(Leaf {
                key,
                value: value.clone(),
                origin: self.origin(at),
            }),
        }
    }
}

impl Shown {
    fn is_section(&self) -> bool {
        matches!(self, Self::Section(_))
    }

    fn leaf(&self) -> Value {
        match self {
            Self::Leaf(value) => value.clone(),
            _ => Value::Null,
        }
    }
}

/// A value as YAML on one line, in quotes where it could be read as something else.
pub(crate) fn scalar(value: &Value) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let plain = serde_yaml::to_string(text).unwrap_or_default();
    // Old YAML takes 07:00 for a number.
    let is_clock = text.chars().all(|c| c.is_ascii_digit() || c == ':');
    if plain.strip_suffix('\n') == Some(text) && !text.contains(is_harmful) && !is_clock {
        return text.clone();
    }
    // A JSON string is one of YAML; what could break or repaint a line stands in it as an escape.
    let mut quoted = String::new();
    for c in value.to_string().chars() {
        let _ = match is_harmful(c) {
            true => write!(quoted, "\\u{:04x}", u32::from(c)),
            false => write!(quoted, "{c}"),
        };
    }
    quoted
}
