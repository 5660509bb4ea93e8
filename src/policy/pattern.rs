//! A pattern as a person wrote it, and where.

use std::fmt;
use std::sync::Arc;

/// The place of a setting: file name and line. Displays as `taro.yaml:14`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file's name without its folder.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One entry of a list, trimmed, not empty when folded (config refuses such entries).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// As written.
    pub text: String,
    /// Where.
    pub origin: Origin,
}

/// Entries as they stand in a file, one a line from line 1.
#[cfg(test)]
pub(super) fn lines(texts: &[&str]) -> Vec<Pattern> {
    let file: Arc<str> = Arc::from("list.txt");
    let numbered = texts.iter().zip(1..);
    numbered
        .map(|(text, line)| Pattern {
            text: (*text).to_owned(),
            origin: Origin {
                file: Arc::clone(&file),
                line,
            },
        })
        .collect()
}
