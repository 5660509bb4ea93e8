//! A script as RFC 5228 section 8.2 builds it, and its text.
//!
//! Equality looks at what a script does: not at places, comments or the way a string was quoted.

use std::fmt::{self, Write as _};

/// Where something begins: both from 1, columns in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: u32,
    /// Column.
    pub col: u32,
}

/// A whole script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// Its commands in order.
    pub commands: Vec<Node>,
}

/// A command or a test: both are a word with arguments.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Where its word stands.
    pub place: Place,
    /// The lines of the comments before it, without `#` and white space around. Only commands have
    /// them.
    pub comments: Vec<String>,
    /// The word in lower case.
    pub name: String,
    /// What follows the word.
    pub arguments: Vec<Argument>,
    /// The tests behind the arguments.
    pub tests: Tests,
    /// The block of a command that has one.
    pub block: Option<Vec<Node>>,
}

/// The tests of a command or of a test.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tests {
    /// None.
    #[default]
    None,
    /// One, without parentheses.
    One(Box<Node>),
    /// A list in parentheses.
    List(Vec<Node>),
}

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// `:word`, in lower case, without the colon.
    Tag(String),
    /// A number, its unit counted in.
    Number(u64),
    /// A string list; a string alone is a list of one.
    Strings(Vec<String>),
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.arguments == other.arguments
            && self.tests == other.tests
            && self.block == other.block
    }
}

impl Eq for Node {}

impl Node {
    /// A word without arguments.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// With a tag (given without its colon).
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.arguments.push(Argument::Tag(tag.to_owned()));
        self
    }

    /// With a number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.arguments.push(Argument::Number(number));
        self
    }

    /// With a string.
    #[must_use]
    pub fn string(self, text: impl Into<String>) -> Self {
        self.strings(vec![text.into()])
    }

    /// With a string list; it must not be empty.
    #[must_use]
    pub fn strings(mut self, texts: Vec<String>) -> Self {
        self.arguments.push(Argument::Strings(texts));
        self
    }

    /// With one test.
    #[must_use]
    pub fn test(mut self, test: Self) -> Self {
        self.tests = Tests::One(Box::new(test));
        self
    }

    /// With a block.
    #[must_use]
    pub fn block(mut self, commands: Vec<Self>) -> Self {
        self.block = Some(commands);
        self
    }

    /// With a line of comment before it.
    #[must_use]
    pub fn comment(mut self, line: impl Into<String>) -> Self {
        self.comments.push(line.into());
        self
    }

    /// `allof`; of one test that test.
    pub fn all(tests: Vec<Self>) -> Self {
        Self::joined("allof", "true", tests)
    }

    /// `anyof`; of one test that test, of none `false`.
    pub fn any(tests: Vec<Self>) -> Self {
        Self::joined("anyof", "false", tests)
    }

    /// The opposite.
    pub fn negated(test: Self) -> Self {
        Self::new("not").test(test)
    }

    fn joined(name: &str, of_none: &str, mut tests: Vec<Self>) -> Self {
        match (tests.pop(), tests.is_empty()) {
            (None, _) => Self::new(of_none),
            (Some(only), true) => only,
            (Some(last), false) => {
                tests.push(last);
                Self {
                    tests: Tests::List(tests),
                    ..Self::new(name)
                }
            }
        }
    }

    /// The tests, however they are written.
    pub fn inner(&self) -> &[Self] {
        match &self.tests {
            Tests::None => &[],
            Tests::One(test) => std::slice::from_ref(test),
            Tests::List(tests) => tests,
        }
    }
}

/// Text as a quoted string (RFC 5228 2.4.2). NUL has no place in a script and is left out.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars().filter(|c| *c != '\0') {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        commands(&mut text, &self.commands, 0);
        f.write_str(&text)
    }
}

fn commands(text: &mut String, nodes: &[Node], depth: usize) {
    for node in nodes {
        for line in &node.comments {
            indent(text, depth);
            let _ = writeln!(text, "{}", format!("# {}", one_line(line)).trim_end());
        }
        indent(text, depth);
        word(text, node, depth);
        match &node.block {
            None => text.push_str(";\n"),
            Some(block) => {
                text.push_str(" {\n");
                commands(text, block, depth + 1);
                indent(text, depth);
                text.push_str("}\n");
            }
        }
    }
}

fn word(text: &mut String, node: &Node, depth: usize) {
    text.push_str(&node.name);
    for argument in &node.arguments {
        text.push(' ');
        match argument {
            Argument::Tag(tag) => {
                text.push(':');
                text.push_str(tag);
            }
            Argument::Number(number) => {
                let _ = write!(text, "{number}");
            }
            Argument::Strings(texts) => strings(text, texts, depth),
        }
    }
    match &node.tests {
        Tests::None => {}
        Tests::One(test) => {
            text.push(' ');
            word(text, test, depth);
        }
        Tests::List(tests) => {
            text.push_str(" (");
            for (at, test) in tests.iter().enumerate() {
                text.push_str(if at == 0 { "\n" } else { ",\n" });
                indent(text, depth + 1);
                word(text, test, depth + 1);
            }
            text.push(')');
        }
    }
}

fn strings(text: &mut String, texts: &[String], depth: usize) {
    if let [only] = texts {
        text.push_str(&quoted(only));
        return;
    }
    text.push('[');
    let short = texts.iter().map(|text| text.len() + 4).sum::<usize>() < 60;
    for (at, item) in texts.iter().enumerate() {
        if short {
            text.push_str(if at == 0 { "" } else { ", " });
            text.push_str(&quoted(item));
            continue;
        }
        text.push_str(if at == 0 { "\n" } else { ",\n" });
        indent(text, depth + 2);
        text.push_str(&quoted(item));
    }
    text.push(']');
}

fn indent(text: &mut String, depth: usize) {
    for _ in 0..depth {
        text.push_str("  ");
    }
}

/// A comment ends with its line, and what stands in it may come from a person.
fn one_line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.collect()
}
