//! A complete settings file with a comment at each key, from the list of the keys.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::error::is_wide;
use super::schema::Kind;
use super::setting::{BuiltIn, Key, Section, Shape, Word};
use super::show::scalar;

/// The column where comments begin, if the value leaves room.
const COMMENT: usize = 41;

const DAEMON: &str = "\
# sekimori.yaml - operator settings. The daemon never writes this file.
# `sekimori check` finds every mistake in it; `sekimori config show --origin` tells where each value came from.
# Sizes: B KiB MiB GiB. Times: s m h d.
# A key that is left out has its built-in value: the one shown, unless the comment names another.
";

const MAILBOX: &str = "\
# One mailbox. Lists of patterns are plain text, one per line: nothing needs quoting.
# A key that is left out has the value of `mailboxes.defaults` in sekimori.yaml, else its built-in value:
# the one shown, unless the comment names another.
";

/// A file with every key. It counts as it stands: `check` finds nothing in it.
pub fn example(kind: Kind) -> String {
    let head = match kind {
        Kind::Daemon => DAEMON,
        Kind::Mailbox => MAILBOX,
    };
    let mut page = Page::new(0, COMMENT);
    if let Shape::Section(section) = kind.shape() {
        page.section(section, &Map::new());
    }
    format!("{head}{}", page.out)
}

/// Lines at one indent.
struct Page {
    out: String,
    indent: usize,
    comment: usize,
}

impl Page {
    fn new(indent: usize, comment: usize) -> Self {
        Self {
            out: String::new(),
            indent,
            comment,
        }
    }

    fn inner(&self, deeper: usize) -> Self {
        Self::new(self.indent + deeper, self.comment)
    }

    /// All keys. `given` are values that the section's own key states.
    fn section(&mut self, section: &Section, given: &Map<String, Value>) {
        let is_section = |key: &Key| matches!((key.shape)(), Shape::Section(_));
        let mut after_section = false;
        for key in section.keys {
            if self.indent == 0 && (is_section(key) || after_section) {
                self.out.push('\n');
            }
            after_section = is_section(key);
            self.key(key, given.get(key.name));
        }
    }

    fn key(&mut self, key: &Key, given: Option<&Value>) {
        let given = given.map(scalar);
        let live = given.as_deref().or(key.like).or(key.built_in());
        let is_section = matches!((key.shape)(), Shape::Section(_));
        if live.is_some() || is_section && key.built_in != BuiltIn::Absent {
            self.live(key, live.unwrap_or_default());
            return;
        }
        let mut comment = Self::new(self.indent, self.comment - 2);
        comment.live(key, key.or.unwrap_or_default());
        for line in comment.out.lines() {
            let rest = line.get(self.indent..).unwrap_or_default();
            let _ = writeln!(self.out, "{:1$}# {rest}", "", self.indent);
        }
    }

    fn live(&mut self, key: &Key, value: &str) {
        let shape = (key.shape)();
        let meaning = meaning(key, &shape);
        match &shape {
            Shape::Section(section) => {
                self.line(&format!("{}:", key.name), &meaning);
                self.below(key, section);
            }
            Shape::List(items) if is_expanded(items) => {
                self.line(&format!("{}:", key.name), &meaning);
                self.items(items);
            }
            _ => {
                let mut lines = value.lines();
                let first = lines.next().unwrap_or_default();
                self.line(&format!("{}: {first}", key.name), &meaning);
                lines.for_each(|line| self.line(line, ""));
            }
        }
    }

    /// The keys of a section below its own.
    fn below(&mut self, key: &Key, section: &Section) {
        let mut page = self.inner(2);
        match key.like {
            Some(text) if !text.is_empty() => text.lines().for_each(|line| page.line(line, "")),
            _ => {
                let given = key
                    .built_in()
                    .and_then(|text| serde_yaml::from_str(text).ok());
                page.section(section, &given.unwrap_or_default());
            }
        }
        self.out.push_str(&page.out);
    }

    fn items(&mut self, items: &Shape) {
        match items {
            Shape::Section(section) => {
                let mut page = self.inner(4);
                page.section(section, &Map::new());
                let body = page.out.get(page.indent..).unwrap_or_default();
                let _ = write!(self.out, "{:1$}- {body}", "", self.indent + 2);
            }
            Shape::Words(words) => {
                let mut page = self.inner(2);
                for word in *words {
                    page.line(&format!("- {}", word.name), word.doc);
                }
                self.out.push_str(&page.out);
            }
            _ => {}
        }
    }

    fn line(&mut self, text: &str, comment: &str) {
        let text = format!("{:1$}{text}", "", self.indent);
        let width = text
            .chars()
            .map(|c| 1 + usize::from(is_wide(c)))
            .sum::<usize>();
        let gap = self.comment.saturating_sub(width).max(2);
        let _ = match comment {
            "" => writeln!(self.out, "{text}"),
            _ => writeln!(self.out, "{text}{:gap$}# {comment}", ""),
        };
    }
}

/// Whether a list is shown item by item: of sections, and of words with a meaning each.
fn is_expanded(items: &Shape) -> bool {
    match items {
        Shape::Section(_) => true,
        Shape::Words(words) => words.iter().any(|word| !word.doc.is_empty()),
        _ => false,
    }
}

/// The words that may stand there, the meaning, and the built-in value where another is shown.
fn meaning(key: &Key, shape: &Shape) -> String {
    let mut text = key.doc.to_owned();
    if let Shape::Words(words) = shape {
        let word = |word: &Word| match word.doc {
            "" => word.name.to_owned(),
            doc => format!("{} ({doc})", word.name),
        };
        let words: Vec<String> = words.iter().map(word).collect();
        text = format!("{}: {text}", words.join(" | "));
    }
    if let (Some(built_in), Some(_)) = (key.built_in(), key.like) {
        let _ = write!(text, " (built in: {built_in})");
    }
    text
}
