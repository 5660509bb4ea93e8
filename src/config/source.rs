//! The texts under examination and what was found in them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Diagnostic, Severity, Snippet};
use crate::policy::Origin;

/// More findings than this are counted, not listed: a hostile file must not make memory grow.
const MOST_FINDINGS: usize = 500;

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
}

/// All findings of one run over a file and the files that it names.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sources: Vec<Source>,
    found: Vec<Diagnostic>,
    errors: usize,
    left_off: usize,
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

    /// The folder that relative paths at `place` belong to.
    pub(crate) fn folder(&self, place: Place) -> &Path {
        self.source(place.file)
            .and_then(|s| s.path.parent())
            .unwrap_or(Path::new(""))
    }

    /// The place as why-records name it.
    pub(crate) fn origin(&self, place: Place) -> Origin {
        let file = self
            .source(place.file)
            .map_or_else(|| "".into(), |s| Arc::clone(&s.name));
        Origin {
            file,
            line: place.line,
        }
    }

    pub(crate) fn error(&mut self, id: &'static str, at: Place, message: impl Into<String>) {
        self.push(Severity::Error, id, at, message.into(), None);
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

    /// Octets of all texts.
    pub(crate) fn octets(&self) -> usize {
        self.sources.iter().map(|source| source.text.len()).sum()
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The findings in the order of files and places.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.found
            .sort_by(|a, b| (&a.file, a.line, a.col).cmp(&(&b.file, b.line, b.col)));
        if let (Some(last), n @ 1..) = (self.found.last().cloned(), self.left_off) {
            let message = format!("{n} more findings are not listed");
            self.found.push(Diagnostic {
                id: "more",
                message,
                snippet: None,
                help: None,
                ..last
            });
        }
        self.found
    }

    pub(crate) fn push(
        &mut self,
        severity: Severity,
        id: &'static str,
        at: Place,
        message: String,
        help: Option<String>,
    ) {
        self.errors += usize::from(severity == Severity::Error);
        if self.found.len() >= MOST_FINDINGS {
            self.left_off += 1;
            return;
        }
        let source = self.source(at.file);
        let line = source.map(|s| s.line(at.line)).unwrap_or_default();
        let snippet = (!line.trim().is_empty()).then(|| Snippet::of(line, at.col));
        let file = source.map(|s| s.path.clone()).unwrap_or_default();
        self.found.push(Diagnostic {
            severity,
            id,
            file,
            line: at.line.max(1),
            col: at.col.max(1),
            message,
            snippet,
            help,
        });
    }
}
