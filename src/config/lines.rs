//! `Lines`: lists of patterns as a block of text, one a line, or as a YAML list of strings.
//!
//! An entry that is empty, or folds to nothing, is an error: it would match every mail.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use saphyr_parser::ScalarStyle;

use super::source::{Place, Report};
use super::tree::{Kind, Node, Scalar};
use crate::mail::fold::fold;
use crate::policy::Pattern;

/// The name by which [`super::read`] knows [`Lines`].
pub(crate) const LINES: &str = "$lines";

/// The entries of one list, trimmed, none empty: a million of them lie end to end, not in a million
/// strings. Equality looks at the texts only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines {
    text: String,
    /// Of each entry its place, and where in `text` it ends.
    ends: Vec<(Place, u32)>,
}

/// One entry by itself.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) place: Place,
    pub(crate) text: String,
}

impl PartialEq for Lines {
    fn eq(&self, other: &Self) -> bool {
        let ends = |lines: &Self| lines.ends.iter().map(|(_, end)| *end).collect::<Vec<_>>();
        self.text == other.text && ends(self) == ends(other)
    }
}

impl Lines {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The entries in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |(place, end)| {
            let end = *end as usize;
            let text = self.text.get(start..end).unwrap_or_default();
            start = end;
            (*place, text)
        })
    }

    /// Each entry by itself.
    pub(crate) fn split(&self) -> Vec<Line> {
        let line = |(place, text): (Place, &str)| Line {
            place,
            text: text.to_owned(),
        };
        self.iter().map(line).collect()
    }

    /// The entries as the matching sets take them.
    pub(crate) fn patterns(&self, report: &Report) -> impl Iterator<Item = Pattern> {
        self.iter().map(|(place, text)| Pattern {
            text: text.to_owned(),
            origin: report.origin(place),
        })
    }

    /// Adds an entry. The texts of a list come from files that are far below 4 GiB.
    fn push(&mut self, place: Place, text: &str) {
        self.text.push_str(text);
        let end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.ends.push((place, end));
    }
}

/// The entries of a text file, one a line.
pub(crate) fn of_file(report: &mut Report, file: u16) -> Lines {
    let (entries, empty) = in_file(report, file);
    complain(report, empty);
    entries
}

/// The entries of a text file and the places of the empty ones.
pub(crate) fn in_file(report: &Report, file: u16) -> (Lines, Vec<Place>) {
    let mut entries = Lines::default();
    let mut empty = Vec::new();
    if let Some(source) = report.source(file) {
        for (line, text) in (1u32..).zip(source.text().lines()) {
            keep(Place { file, line, col: 1 }, text, &mut entries, &mut empty);
        }
    }
    (entries, empty)
}

/// The entries of a text value.
pub(crate) fn of_block(report: &mut Report, scalar: &Scalar, at: Place, key: Place) -> Lines {
    let mut entries = Lines::default();
    let mut empty = Vec::new();
    let mut finder = Finder::new(scalar, at);
    for (index, text) in scalar.text.split('\n').enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let place = finder.place(report, index, text);
        keep(place, text, &mut entries, &mut empty);
    }
    if entries.is_empty() && empty.is_empty() {
        let help = "write at least one entry, or leave the key out";
        report.error_help("empty", key, "a list without an entry", help);
    }
    complain(report, empty);
    entries
}

/// The entries of a YAML list.
pub(crate) fn of_list(report: &mut Report, items: &[Node]) -> Lines {
    let mut entries = Lines::default();
    let mut empty = Vec::new();
    for item in items {
        match &item.kind {
            Kind::Refused => {}
            Kind::Null => empty.push(item.place),
            Kind::Scalar(scalar) if !is_number_or_bool(scalar) => {
                let text = scalar.text.trim();
                if text.is_empty() {
                    empty.push(item.place);
                } else {
                    keep(item.place, text, &mut entries, &mut empty);
                }
            }
            Kind::Scalar(scalar) => {
                let message = format!("`{}` is not text but a number or a boolean", scalar.text);
                report.error_help("type", item.place, message, "put it in quotes");
            }
            _ => report.error_help(
                "type",
                item.place,
                "an entry must be text",
                "one text an item",
            ),
        }
    }
    complain(report, empty);
    entries
}

/// Whether a list entry as written is a number or boolean for YAML.
pub(crate) fn is_number_or_bool(scalar: &Scalar) -> bool {
    if scalar.style != ScalarStyle::Plain {
        return false;
    }
    let text = scalar.text.as_str();
    let number = text.strip_prefix(['-', '+']).unwrap_or(text);
    let radix = |mark: &str| {
        number
            .strip_prefix(mark)
            .is_some_and(|digits| !digits.is_empty())
    };
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
        || number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && (number.parse::<f64>().is_ok() || radix("0x") || radix("0o") || radix("0b"))
            && number
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+'))
        || matches!(number, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
}

fn keep(place: Place, text: &str, entries: &mut Lines, empty: &mut Vec<Place>) {
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    // A letter or digit never folds to nothing.
    if !text.contains(char::is_alphanumeric) && fold(text).is_empty() {
        empty.push(place);
    } else {
        entries.push(place, text);
    }
}

fn complain(report: &mut Report, empty: Vec<Place>) {
    for place in empty {
        let message = "an empty entry: it would match every mail";
        let help = "remove it; in a YAML list, text with `#` or `!` in front needs quotes";
        report.error_help("empty-pattern", place, message, help);
    }
}

/// Finds the source line of each entry of a text value.
struct Finder {
    style: ScalarStyle,
    /// Literal: the value's first line. Folded and plain: the first line not yet used up.
    next: Place,
    last_line: u32,
}

impl Finder {
    /// The parser puts a block's place at its first line that is not blank.
    fn new(scalar: &Scalar, at: Place) -> Self {
        let blank = scalar.text.bytes().take_while(|b| *b == b'\n').count();
        let blank = match scalar.style {
            ScalarStyle::Literal => u32::try_from(blank).unwrap_or(u32::MAX),
            _ => 0,
        };
        let next = Place {
            line: at.line.saturating_sub(blank),
            ..at
        };
        Self {
            style: scalar.style,
            next,
            last_line: scalar.last_line,
        }
    }

    /// The place of line `index` of the value. Quoted text: of its beginning.
    fn place(&mut self, report: &Report, index: usize, text: &str) -> Place {
        match self.style {
            ScalarStyle::Literal => {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                Place {
                    line: self.next.line.saturating_add(index),
                    ..self.next
                }
            }
            ScalarStyle::Folded | ScalarStyle::Plain if self.next.line < self.last_line => {
                self.unfold(report, text)
            }
            _ => self.next,
        }
    }

    /// Uses up the source lines that were joined to `text`.
    fn unfold(&mut self, report: &Report, text: &str) -> Place {
        let mut found = None;
        let mut rest = text.trim();
        while !rest.is_empty() && self.next.line <= self.last_line {
            let source = report
                .source(self.next.file)
                .map(|s| s.line(self.next.line));
            let skip = self.next.col as usize - 1;
            let line = source.unwrap_or_default();
            let line = line
                .char_indices()
                .nth(skip)
                .and_then(|(at, _)| line.get(at..));
            let line = line.unwrap_or_default().trim();
            if !line.is_empty() {
                found = found.or(Some(self.next));
                let Some(more) = rest.strip_prefix(line) else {
                    break;
                };
                rest = more.trim_start();
            }
            self.next = Place {
                line: self.next.line + 1,
                col: 1,
                ..self.next
            };
        }
        found.unwrap_or(self.next)
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(LINES, LinesVisitor)
    }
}

struct LinesVisitor;

impl<'de> Visitor<'de> for LinesVisitor {
    type Value = Lines;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a block of text or a list of strings")
    }

    /// serde_yaml: texts without places.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Lines, D::Error> {
        d.deserialize_any(TextsVisitor)
    }

    /// Our reader: file, line, column and text of each entry in turn.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lines, A::Error> {
        let mut entries = Lines::default();
        while let Some(file) = seq.next_element::<u32>()? {
            let missing = || A::Error::custom("an entry is file, line, column and text");
            let line = seq.next_element()?.ok_or_else(missing)?;
            let col = seq.next_element()?.ok_or_else(missing)?;
            let text: String = seq.next_element()?.ok_or_else(missing)?;
            let file = u16::try_from(file).unwrap_or(u16::MAX);
            entries.push(Place { file, line, col }, &text);
        }
        Ok(entries)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Lines;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a block of text or a list of strings")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Lines, E> {
        let mut entries = Lines::default();
        let texts = text.split('\n').map(str::trim).filter(|t| !t.is_empty());
        texts.for_each(|text| entries.push(Place::default(), text));
        Ok(entries)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lines, A::Error> {
        let mut entries = Lines::default();
        while let Some(text) = seq.next_element::<String>()? {
            entries.push(Place::default(), text.trim());
        }
        Ok(entries)
    }
}
