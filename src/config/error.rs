//! One mistake or doubt in a settings file, with its place.

use std::fmt;
use std::path::PathBuf;

use crate::mail::harmless;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file does not count.
    Error,
    /// The file counts, but does perhaps not what was meant.
    Warning,
}

impl Severity {
    /// The word of the first line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One error or warning. Displays as `FILE:LINE:COL: error[id]: message`, the source line with a
/// caret below it, and a help line; no line end behind the last (CONTRACT section 4, `check`). What
/// could repaint a terminal is U+FFFD then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// A stable word for the kind of mistake (`unknown-key`, `empty-pattern`, `not-built`, ...).
    pub id: &'static str,
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// From 1, in code points.
    pub col: u32,
    /// What is wrong, on one line; control characters as spaces.
    pub message: String,
    /// The source line around `col` and the caret's place in it; `None` without a source.
    pub snippet: Option<Snippet>,
    /// What to write instead.
    pub help: Option<String>,
}

/// A piece of a source line, at most [`Snippet::WIDTH`] code points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The text; control characters as spaces.
    pub text: String,
    /// Code points before the caret.
    pub caret: usize,
}

impl Snippet {
    /// Longer lines are cut to this around the caret, code points.
    pub const WIDTH: usize = 120;

    /// Cuts a line around the place between `before` and `behind`; `None` when it is blank.
    pub(crate) fn of(before: &str, behind: &str) -> Option<Self> {
        let blank = |text: &str| text.chars().all(char::is_whitespace);
        if blank(behind) && blank(before) {
            return None;
        }
        let from = before.char_indices().rev().nth(Self::WIDTH / 2 - 1);
        let head = before
            .get(from.map_or(0, |(at, _)| at)..)
            .unwrap_or_default();
        let text = head.chars().chain(behind.chars()).take(Self::WIDTH);
        Some(Self {
            text: text.map(|c| if c.is_control() { ' ' } else { c }).collect(),
            caret: head.chars().count(),
        })
    }
}

impl Diagnostic {
    /// Whether it keeps the file from counting.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            col,
            id,
            message,
            ..
        } = self;
        let word = self.severity.as_str();
        let file = harmless(&file.display().to_string());
        let message = harmless(message);
        write!(f, "{file}:{line}:{col}: {word}[{id}]: {message}")?;
        if let Some(Snippet { text, caret }) = &self.snippet {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let shown = harmless(text.trim_end());
            write!(f, "\n {number} | {shown}\n {margin} | ")?;
            for c in text.chars().take(*caret) {
                f.write_str(if is_wide(c) { "  " } else { " " })?;
            }
            f.write_str("^")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n   help: {}", harmless(help))?;
        }
        Ok(())
    }
}

/// East Asian wide and full-width characters take two columns of a terminal (the ranges that
/// matter for a caret, UAX #11).
pub(crate) fn is_wide(c: char) -> bool {
    matches!(u32::from(c),
        0x1100..=0x115F | 0x2E80..=0x303E | 0x3041..=0xA4CF | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF | 0xFE30..=0xFE6F | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF | 0x20000..=0x3FFFD)
}
