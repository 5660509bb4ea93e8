//! Where the pieces of a YAML text stand, in octets: what the tree knows, made exact.

use crate::config::tree::{Kind, Node, Pair};
use saphyr_parser::ScalarStyle;

/// A text that ends with a line end, and the way from the tree's code points to octets.
pub(super) struct Layout<'a> {
    pub(super) text: &'a str,
    /// The line end of the first line.
    pub(super) eol: &'static str,
    /// Octet of each code point; empty when they are the same.
    octets: Vec<u32>,
    /// Octet of the beginning of each line.
    lines: Vec<usize>,
}

/// Octets `from..to` of the text become `new`.
#[derive(Debug)]
pub(super) struct Splice {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) new: String,
}

impl<'a> Layout<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let octet = |(at, _)| u32::try_from(at).unwrap_or(u32::MAX);
        let octets = match text.is_ascii() {
            true => Vec::new(),
            false => text.char_indices().map(octet).collect(),
        };
        let first = text.find('\n').and_then(|at| text.get(..at));
        let crlf = first.is_some_and(|line| line.ends_with('\r'));
        Self {
            text,
            eol: if crlf { "\r\n" } else { "\n" },
            octets,
            lines: std::iter::once(0)
                .chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end + 1))
                .collect(),
        }
    }

    fn octet(&self, index: usize) -> usize {
        if self.octets.is_empty() {
            return index.min(self.text.len());
        }
        self.octets
            .get(index)
            .map_or(self.text.len(), |at| *at as usize)
    }

    pub(super) fn rest(&self, at: usize) -> &'a str {
        self.text.get(at..).unwrap_or_default()
    }

    pub(super) fn between(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    pub(super) fn start(&self, node: &Node) -> usize {
        self.octet(node.span.start)
    }

    pub(super) fn key(&self, pair: &Pair) -> usize {
        self.octet(pair.key_start)
    }

    /// Whether a list or map stands in brackets.
    pub(super) fn is_flow(&self, node: &Node) -> bool {
        let bracket = match node.kind {
            Kind::Seq(_) => '[',
            Kind::Map(_) => '{',
            _ => return false,
        };
        self.rest(self.start(node)).starts_with(bracket)
    }

    /// The beginning of the line in which `at` stands.
    pub(super) fn line(&self, at: usize) -> usize {
        let before = self.lines.partition_point(|line| *line <= at);
        before
            .checked_sub(1)
            .and_then(|line| self.lines.get(line))
            .copied()
            .unwrap_or(0)
    }

    /// The beginning of the line after that.
    pub(super) fn next_line(&self, at: usize) -> usize {
        let next = self.lines.partition_point(|line| *line <= at);
        self.lines.get(next).copied().unwrap_or(self.text.len())
    }

    /// Octets before `at` in its line: the column of what stands behind spaces and dashes only.
    pub(super) fn column(&self, at: usize) -> usize {
        at - self.line(at)
    }

    /// The octet behind the colon of a pair.
    pub(super) fn colon(&self, pair: &Pair) -> Option<usize> {
        let key = self.key(pair);
        let end = match self.rest(key).chars().next()? {
            quote @ ('"' | '\'') => self.quote_end(key, quote)?,
            _ => key + pair.key.len(),
        };
        let blank = self.rest(end).len() - self.rest(end).trim_start_matches([' ', '\t']).len();
        let colon = end + blank;
        self.rest(colon).starts_with(':').then_some(colon + 1)
    }

    /// The octet behind a quoted scalar that begins at `at`.
    fn quote_end(&self, at: usize, quote: char) -> Option<usize> {
        let mut inside = self.rest(at + 1).char_indices().peekable();
        while let Some((offset, c)) = inside.next() {
            if c == '\\' && quote == '"' {
                inside.next();
            } else if c == quote {
                if quote == '\'' && inside.peek().is_some_and(|(_, next)| *next == quote) {
                    inside.next();
                    continue;
                }
                return Some(at + 1 + offset + 1);
            }
        }
        None
    }

    /// The octet behind the last character of a value, before blanks, comment and line end.
    pub(super) fn end(&self, node: &Node) -> Option<usize> {
        let start = self.start(node);
        match &node.kind {
            Kind::Scalar(scalar) => match scalar.style {
                ScalarStyle::Plain => Some(self.octet(node.span.end)),
                ScalarStyle::DoubleQuoted => self.quote_end(start, '"'),
                ScalarStyle::SingleQuoted => self.quote_end(start, '\''),
                ScalarStyle::Literal | ScalarStyle::Folded => {
                    let last = self.content(node)?.pop()?;
                    Some(
                        last.0
                            + self
                                .between(last.0, last.1)
                                .trim_end_matches(['\r', '\n'])
                                .len(),
                    )
                }
            },
            Kind::Seq(_) | Kind::Map(_) if self.is_flow(node) => Some(self.octet(node.span.end)),
            Kind::Seq(items) => self.end(items.last()?),
            Kind::Map(pairs) => self.end(&pairs.last()?.value),
            Kind::Null | Kind::Refused => None,
        }
    }

    /// The lines of a block scalar that are not blank, each with its end. `None` when there is none.
    pub(super) fn content(&self, node: &Node) -> Option<Vec<(usize, usize)>> {
        let first = self.start(node);
        let indent = self.column(first);
        let mut at = self.line(first);
        let mut found = Vec::new();
        while at < self.text.len() {
            let next = self.next_line(at);
            let line = self.between(at, next);
            let blank = line.trim().is_empty();
            if !blank && line.len() - line.trim_start_matches(' ').len() < indent {
                break;
            }
            if !blank {
                found.push((at, next));
            }
            at = next;
        }
        (!found.is_empty() && indent > 0).then_some(found)
    }

    /// The dash of an item of a block list, the first in its line.
    pub(super) fn dash(&self, item: &Node) -> Option<usize> {
        let start = self.start(item);
        let mut line = self.line(start);
        loop {
            let text = self.between(line, self.next_line(line));
            let dash = line + text.len() - text.trim_start_matches(' ').len();
            let behind = self.rest(dash).strip_prefix('-');
            if dash < start && behind.is_some_and(|rest| rest.starts_with([' ', '\t', '\r', '\n']))
            {
                return Some(dash);
            }
            // The value may stand below its dash, behind comments.
            let text = text.trim();
            if line < self.line(start) && !text.is_empty() && !text.starts_with('#') {
                return None;
            }
            line = self.line(line.checked_sub(1)?);
        }
    }

    /// The column of the dashes of a block list.
    pub(super) fn dashes(&self, items: &[Node]) -> Option<usize> {
        Some(self.column(self.dash(items.first()?)?))
    }

    /// `at`, moved up over the comment lines that stand directly above it and as deep.
    pub(super) fn above_comments(&self, at: usize) -> usize {
        let mut line = self.line(at);
        let indent = self.column(at);
        while let Some(end) = line.checked_sub(1) {
            let before = self.line(end);
            let text = self.between(before, end);
            let comment = text.trim_start_matches(' ');
            if !comment.starts_with('#') || text.len() - comment.len() != indent {
                break;
            }
            line = before;
        }
        line
    }

    /// Whether nothing but blanks stands between the two.
    pub(super) fn is_blank(&self, from: usize, to: usize) -> bool {
        self.between(from, to).trim().is_empty()
    }

    /// The comma behind a value in brackets, with nothing but blanks and comments before it.
    pub(super) fn comma(&self, end: usize) -> Option<usize> {
        let mut comment = false;
        for (offset, c) in self.rest(end).char_indices() {
            match c {
                '\n' => comment = false,
                _ if comment => {}
                '#' => comment = true,
                ',' => return Some(end + offset),
                c if c.is_whitespace() => {}
                _ => return None,
            }
        }
        None
    }

    /// The text with the splices done; `None` when two of them touch the same piece.
    pub(super) fn spliced(&self, mut splices: Vec<Splice>) -> Option<String> {
        splices.sort_by_key(|splice| (splice.from, splice.to));
        let mut out = String::with_capacity(self.text.len() + 256);
        let mut at = 0;
        for Splice { from, to, new } in splices {
            out.push_str(self.text.get(at..from)?);
            out.push_str(&new);
            at = to;
        }
        out.push_str(self.text.get(at..)?);
        Some(out)
    }
}

impl Splice {
    pub(super) fn delete(from: usize, to: usize) -> Self {
        Self::new(from, to, String::new())
    }

    pub(super) fn insert(at: usize, new: impl Into<String>) -> Self {
        Self::new(at, at, new)
    }

    pub(super) fn new(from: usize, to: usize, new: impl Into<String>) -> Self {
        Self {
            from,
            to,
            new: new.into(),
        }
    }
}
