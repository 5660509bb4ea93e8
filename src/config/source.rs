//! The texts under examination and what was found in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Diagnostic, Severity, Snippet};
use crate::policy::Origin;

/// Of one id in one file so many errors are listed, and so many warnings; the rest is counted. A
/// hostile file must not make memory grow, and a person reads the first few.
const MOST_ERRORS: usize = 100;
const MOST_WARNINGS: usize = 20;

/// The index of the daemon file in every report.
pub(crate) const DAEMON_FILE: u16 = 0;

/// The id of the line that counts what is not listed.
const MORE: &str = "more";

/// A place in one of a [`Report`]'s files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// Index of the file; 0 is the daemon file in every report.
    pub(crate) file: u16,
    /// From 1.
    pub(crate) line: u32,
    /// From 1, code points.
    pub(crate) col: u32,
}

impl Place {
    /// The first character of a file.
    pub(crate) fn top(file: u16) -> Self {
        Self {
            file,
            line: 1,
            col: 1,
        }
    }

    /// This place, or the other when nothing stands here (the key was left out).
    pub(crate) fn or(self, other: Self) -> Self {
        if self.line > 0 { self } else { other }
    }

    /// Of two places in one file the one further down.
    pub(crate) fn later(self, other: Self) -> Self {
        if (other.line, other.col) > (self.line, self.col) {
            other
        } else {
            self
        }
    }
}

/// A settings text by lines. Lines end as in YAML: LF, CR LF or a lone CR.
#[derive(Debug, Default)]
pub(crate) struct Source {
    path: PathBuf,
    name: Arc<str>,
    text: String,
    starts: Vec<usize>,
}

impl Source {
    fn new(path: &Path, text: String) -> Self {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into();
        let mut starts = vec![0];
        let bytes = text.as_bytes();
        starts.extend(memchr::memchr2_iter(b'\n', b'\r', bytes).filter_map(|at| {
            let crlf = bytes.get(at) == Some(&b'\r') && bytes.get(at + 1) == Some(&b'\n');
            (!crlf).then_some(at + 1)
        }));
        Self {
            path: path.to_owned(),
            name,
            text,
            starts,
        }
    }

    /// The text, without a byte order mark.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Line `number` (from 1) without its end; empty when there is none.
    pub(crate) fn line(&self, number: u32) -> &str {
        let index = (number as usize).saturating_sub(1);
        let Some(&from) = self.starts.get(index) else {
            return "";
        };
        let to = self
            .starts
            .get(index + 1)
            .copied()
            .unwrap_or(self.text.len());
        self.text
            .get(from..to)
            .unwrap_or_default()
            .trim_end_matches(['\r', '\n'])
    }

    /// The place, or the end of the text if it lies behind: parsers say where they stopped, not
    /// where the text did. Places of a text that is known by name only are left as they are.
    fn clamp(&self, at: Place) -> Place {
        let lines = u32::try_from(self.starts.len()).unwrap_or(u32::MAX);
        if self.text.is_empty() || at.line <= lines {
            return at;
        }
        Place {
            line: lines,
            col: 1,
            ..at
        }
    }
}

/// Finds columns in lines. Linear over all places that are asked for in order, whatever the length
/// of the lines.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    line: u32,
    /// Code points of the line before the cursor.
    chars: u32,
    /// Octets of the line before the cursor.
    octets: usize,
}

impl Cursor {
    /// The line of `at` before and behind its column, and the column: behind the last one if the
    /// line is shorter.
    pub(crate) fn split<'a>(&mut self, source: &'a Source, at: Place) -> (&'a str, &'a str, u32) {
        let line = source.line(at.line);
        let before = at.col.saturating_sub(1);
        if self.line != at.line || self.chars > before {
            *self = Self {
                line: at.line,
                ..Self::default()
            };
        }
        for c in line.get(self.octets..).unwrap_or_default().chars() {
            if self.chars >= before {
                break;
            }
            self.chars += 1;
            self.octets += c.len_utf8();
        }
        let (head, tail) = line.split_at_checked(self.octets).unwrap_or((line, ""));
        (head, tail, self.chars + 1)
    }
}

/// All findings of one run over a file and the files that it names.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sources: Vec<Source>,
    found: Vec<(Place, Diagnostic)>,
    errors: usize,
    /// What was found of each kind in each file.
    tallies: BTreeMap<(u16, &'static str, Severity), Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    count: usize,
    /// The first that is not listed.
    beyond: Option<Place>,
}

impl Severity {
    /// So many of one id in one file are listed.
    fn most(self) -> usize {
        match self {
            Self::Error => MOST_ERRORS,
            Self::Warning => MOST_WARNINGS,
        }
    }
}

impl Report {
    /// A report whose file 0 is the daemon file, known by name only.
    pub(crate) fn beside(daemon_file: &Path) -> Self {
        let mut report = Self::default();
        report.add(daemon_file, String::new());
        report
    }

    /// Adds a file and gives its index.
    pub(crate) fn add(&mut self, path: &Path, text: String) -> u16 {
        self.sources.push(Source::new(path, text));
        u16::try_from(self.sources.len() - 1).unwrap_or(u16::MAX)
    }

    pub(crate) fn source(&self, file: u16) -> Option<&Source> {
        self.sources.get(usize::from(file))
    }

    /// The index of a file that was added.
    pub(crate) fn file_of(&self, path: &Path) -> Option<u16> {
        let found = self.sources.iter().rposition(|source| source.path == path);
        found.and_then(|index| u16::try_from(index).ok())
    }

    /// The folder that relative paths at `place` belong to.
    pub(crate) fn folder(&self, place: Place) -> &Path {
        self.source(place.file)
            .and_then(|s| s.path.parent())
            .unwrap_or(Path::new(""))
    }

    /// The place as why-records name it. What is built in has the daemon file's first line.
    pub(crate) fn origin(&self, place: Place) -> Origin {
        let file = self
            .source(place.file)
            .map_or_else(|| "".into(), |s| Arc::clone(&s.name));
        Origin {
            file,
            line: place.line.max(1),
        }
    }

    /// An error whose help is the usual one of its id.
    pub(crate) fn error(&mut self, id: &'static str, at: Place, message: impl Into<String>) {
        let help = usual_help(id).map(str::to_owned);
        self.push(Severity::Error, id, at, message.into(), help);
    }

    pub(crate) fn error_help(
        &mut self,
        id: &'static str,
        at: Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Error, id, at, message.into(), Some(help.into()));
    }

    pub(crate) fn warning(
        &mut self,
        id: &'static str,
        at: Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Warning, id, at, message.into(), Some(help.into()));
    }

    /// A name for the contents of all texts: 16 hexadecimal digits.
    pub(crate) fn generation(&self) -> String {
        name(self.sources.iter().map(Source::text))
    }

    /// Octets of all texts.
    pub(crate) fn octets(&self) -> usize {
        self.sources.iter().map(|source| source.text.len()).sum()
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether further findings of this kind are only counted: spare the work of wording them.
    pub(crate) fn is_full(&self, severity: Severity, id: &'static str, file: u16) -> bool {
        let tally = self.tallies.get(&(file, id, severity));
        tally.is_some_and(|tally| tally.count >= severity.most())
    }

    /// The findings in the order of files and places, each with its piece of the source.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.count_the_rest();
        self.found
            .sort_by_key(|(at, d)| (at.file, at.line, at.col, d.id == MORE));
        let mut cursor = Cursor::default();
        let mut last_file = None;
        let mut found = Vec::with_capacity(self.found.len());
        for (at, mut diagnostic) in std::mem::take(&mut self.found) {
            if last_file.replace(at.file) != Some(at.file) {
                cursor = Cursor::default();
            }
            if let Some(source) = self.source(at.file).filter(|s| !s.text.is_empty()) {
                let (before, behind, col) = cursor.split(source, at);
                diagnostic.col = col;
                diagnostic.snippet = Snippet::of(before, behind);
            }
            found.push(diagnostic);
        }
        found
    }

    /// A line for what is not listed, at the first place of it.
    fn count_the_rest(&mut self) {
        for ((_, id, severity), tally) in std::mem::take(&mut self.tallies) {
            let Some(at) = tally.beyond else { continue };
            let more = tally.count - severity.most();
            let message = format!("{more} more of `{id}` in this file are not listed");
            let help = "mend those that are listed, then check again";
            self.list(severity, MORE, at, message, Some(help.to_owned()));
        }
    }

    pub(crate) fn push(
        &mut self,
        severity: Severity,
        id: &'static str,
        at: Place,
        message: String,
        help: Option<String>,
    ) {
        if severity == Severity::Error {
            self.errors += 1;
        }
        let tally = self.tallies.entry((at.file, id, severity)).or_default();
        tally.count += 1;
        if tally.count > severity.most() {
            tally.beyond.get_or_insert(at);
            return;
        }
        self.list(severity, id, at, message, help);
    }

    fn list(
        &mut self,
        severity: Severity,
        id: &'static str,
        at: Place,
        message: String,
        help: Option<String>,
    ) {
        let source = self.source(at.file);
        let at = source.map_or(at, |source| source.clamp(at));
        let file = source.map(|s| s.path.clone()).unwrap_or_default();
        let diagnostic = Diagnostic {
            severity,
            id,
            file,
            line: at.line.max(1),
            col: at.col.max(1),
            message: one_line(message),
            snippet: None,
            help: help.map(one_line),
        };
        self.found.push((at, diagnostic));
    }
}

/// A name for texts, in their order: 16 hexadecimal digits.
pub(crate) fn name<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}

/// What to do about an error where its place has nothing better to say.
fn usual_help(id: &str) -> Option<&'static str> {
    Some(match id {
        "certificate" => "name the PEM files of the server's certificate and of its key",
        "duplicate" => "remove one of the two",
        "empty" => "write something there, or leave the key out",
        "missing" => "add it",
        "range" => "let `end` be after `start`",
        "too-big" | "too-many" => "remove some; the operator sets how many, in `limits`",
        "too-long" | "too-short" => "the operator sets how long an entry is, in `limits`",
        "unreadable" => "name a file that the daemon's user can read",
        "value" => "write what is wanted, or leave the key out for the built-in value",
        _ => return None,
    })
}

/// Words that a finding quotes may hold anything: nothing of it ends the line or commands a
/// terminal.
fn one_line(text: String) -> String {
    if text.contains(char::is_control) {
        text.replace(char::is_control, " ")
    } else {
        text
    }
}
