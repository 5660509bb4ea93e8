//! YAML text to a tree with places, and everything refused that no settings file needs: anchors,
//! aliases, tags, further documents, duplicate keys, nesting over [`MOST_DEPTH`].
//!
//! serde_yaml stops at its first error, keeps the last of two equal keys and lets 180 KB of scalar
//! aliases grow to 2 GB; so nothing reaches it before this pass is clean. Linear in the text.

use std::collections::HashSet;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::patterns;
use super::source::{Cursor, Place, Report, Source};

/// Nesting of lists and maps; the example needs 5.
const MOST_DEPTH: usize = 32;

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) span: Extent,
    pub(crate) kind: Kind,
}

/// Code points from the beginning of the text. The end is exact for plain scalars and for lists and
/// maps in brackets; blanks and a comment may stand before that of a quoted scalar, and a value in
/// block style ends somewhere before the next one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extent {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Scalar(Scalar),
    Seq(Vec<Node>),
    Map(Vec<Pair>),
    /// Nothing, `~` or `null`.
    Null,
    /// Refused already: say nothing more about it.
    Refused,
}

#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: ScalarStyle,
    pub(crate) last_line: u32,
}

#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) key_start: usize,
    pub(crate) value: Node,
}

/// What could be read of a text.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: Node,
    /// False when reading ended at a mistake: what stands behind it is not in the tree.
    pub(crate) whole: bool,
}

/// Reads file `file` of the report. `None` when there is nothing to look at; the report says why.
pub(crate) fn read(report: &mut Report, file: u16) -> Option<Tree> {
    let mut builder = Builder {
        file,
        ..Builder::default()
    };
    if let Some(source) = report.source(file) {
        builder.text(source);
    }
    let Builder {
        findings,
        root,
        broken,
        ..
    } = builder;
    for Finding {
        id,
        at,
        message,
        help,
    } in findings
    {
        report.error_help(id, at, message, help);
    }
    if root.is_none() && !broken {
        let at = Place::top(file);
        report.error_help(
            "version",
            at,
            "the file is empty",
            "it begins with `version: 1`",
        );
    }
    Some(Tree {
        root: root?,
        whole: !broken,
    })
}

const SYNTAX_HELP: &str = "mind the indent (spaces, no tabs), `key: value` with a space, and quotes \
                           around text with special characters";

struct Finding {
    id: &'static str,
    at: Place,
    message: String,
    help: &'static str,
}

/// Findings of this pass are bounded as those of the report are.
const MOST_FINDINGS: usize = 1200;

enum Open {
    Seq(Place, usize, Vec<Node>),
    Map {
        place: Place,
        start: usize,
        pairs: Vec<Pair>,
        seen: HashSet<String>,
        key: Option<(String, Place, usize)>,
    },
}

#[derive(Default)]
struct Builder {
    file: u16,
    stack: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    broken: bool,
    findings: Vec<Finding>,
    /// Where the event before ended: tags and anchors stand behind it.
    before: Option<Marker>,
    cursor: Cursor,
}

impl Builder {
    /// Reads the whole text, or as far as it goes.
    fn text(&mut self, source: &Source) {
        if let Some(at) = control_character(source.text()) {
            let message = "a control character".to_owned();
            let at = Place {
                file: self.file,
                ..at
            };
            self.finding(
                "control",
                at,
                message,
                "write it as an escape in double quotes",
            );
            self.broken = true;
            return;
        }
        let mut parser = Parser::new_from_str(source.text());
        while let Some(next) = parser.next_event() {
            match next {
                Ok((Event::StreamEnd, _)) => break,
                Ok((event, span)) => {
                    if !self.event(event, span, source) {
                        break;
                    }
                }
                Err(error) => {
                    self.syntax(&error, source);
                    break;
                }
            }
        }
        while !self.stack.is_empty() {
            self.close(0);
        }
    }

    fn syntax(&mut self, error: &ScanError, source: &Source) {
        let mut at = self.place(*error.marker());
        let info = error.info();
        let help = if info.starts_with("unexpected character") {
            "put text that begins with this character in quotes, or use a block (`|`)"
        } else {
            SYNTAX_HELP
        };
        if info.contains("tab") {
            // The parser names the beginning of the text that the tab broke.
            let tab = (at.line..at.line.saturating_add(3)).find_map(|line| {
                let text = source.line(line);
                let col = text.chars().take_while(|c| *c == ' ').count();
                let col = u32::try_from(col).unwrap_or(0) + 1;
                text.trim_start_matches(' ')
                    .starts_with('\t')
                    .then_some(Place { line, col, ..at })
            });
            at = tab.unwrap_or(at);
        }
        self.doubt(at.line);
        self.finding("syntax", at, format!("this is not YAML: {info}"), help);
        self.broken = true;
    }

    /// The last value is perhaps half of what was meant: nothing more is said about it.
    fn doubt(&mut self, line: u32) {
        let last = match self.stack.last_mut() {
            Some(Open::Map { pairs, .. }) => pairs.last_mut().map(|pair| &mut pair.value),
            Some(Open::Seq(_, _, items)) => items.last_mut(),
            None => self.root.as_mut(),
        };
        if let Some(node) = last.filter(|node| node.place.line + 1 >= line) {
            node.kind = Kind::Refused;
        }
    }

    fn place(&self, mark: Marker) -> Place {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place {
            file: self.file,
            line: number(mark.line()),
            col: number(mark.col()) + 1,
        }
    }

    fn finding(&mut self, id: &'static str, at: Place, message: String, help: &'static str) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(Finding {
                id,
                at,
                message,
                help,
            });
        }
    }

    /// Takes one event; false = stop reading.
    fn event(&mut self, event: Event<'_>, span: Span, source: &Source) -> bool {
        let place = self.place(span.start);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a second document begins here".to_owned();
                    self.finding(
                        "documents",
                        place,
                        message,
                        "one file, one document: remove `---`",
                    );
                    return false;
                }
            }
            Event::Alias(_) => {
                let message = "a YAML alias (`*name`)".to_owned();
                self.finding(
                    "alias",
                    place,
                    message,
                    "write the value out; quote text with `*`",
                );
                self.add(Node {
                    place,
                    span: extent(span),
                    kind: Kind::Refused,
                });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let refused = self.refuse(anchor, tag.is_some(), span.start, source);
                let kind = if refused {
                    Kind::Refused
                } else if style == ScalarStyle::Plain && is_null(&text) {
                    Kind::Null
                } else {
                    let last_line = self.place(span.end).line;
                    Kind::Scalar(Scalar {
                        text: text.into_owned(),
                        style,
                        last_line,
                    })
                };
                self.add(Node {
                    place,
                    span: extent(span),
                    kind,
                });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse(anchor, tag.is_some(), span.start, source);
                let start = span.start.index();
                return self.open(Open::Seq(place, start, Vec::new()), place);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse(anchor, tag.is_some(), span.start, source);
                let map = Open::Map {
                    place,
                    start: span.start.index(),
                    pairs: Vec::new(),
                    seen: HashSet::new(),
                    key: None,
                };
                return self.open(map, place);
            }
            // Of a bracket the parser's end lies behind the blanks and the comment that follow.
            Event::SequenceEnd | Event::MappingEnd => self.close(span.start.index() + 1),
            _ => {}
        }
        self.before = Some(span.end);
        true
    }

    /// Reports an anchor and a tag before the value at `start`.
    fn refuse(&mut self, anchor: usize, tag: bool, start: Marker, source: &Source) -> bool {
        if anchor > 0 {
            let at = self.behind_last('&', start, source);
            let message = "a YAML anchor (`&name`)".to_owned();
            self.finding(
                "anchor",
                at,
                message,
                "write the value out; quote text with `&`",
            );
        }
        if tag {
            let at = self.behind_last('!', start, source);
            let message = "a YAML tag (`!name`)".to_owned();
            self.finding("tag", at, message, "quote text that begins with `!`");
        }
        tag || anchor > 0
    }

    /// The first `sign` between the event before and `start`: the parser gives no place for tags.
    fn behind_last(&mut self, sign: char, start: Marker, source: &Source) -> Place {
        let to = self.place(start);
        let Some(before) = self.before else {
            return to;
        };
        let mut at = self.place(before);
        while at.line <= to.line {
            let (_, behind, _) = self.cursor.split(source, at);
            let mut blank = true;
            for c in behind.chars() {
                if (at.line, at.col) >= (to.line, to.col) || c == '#' && blank {
                    break;
                }
                if c == sign {
                    return at;
                }
                blank = c.is_whitespace();
                at.col += 1;
            }
            at = Place {
                line: at.line + 1,
                col: 1,
                ..at
            };
        }
        to
    }

    fn open(&mut self, open: Open, place: Place) -> bool {
        if self.stack.len() >= MOST_DEPTH {
            let message = format!("nested more than {MOST_DEPTH} deep");
            self.finding("depth", place, message, "no setting lies that deep");
            self.broken = true;
            return false;
        }
        self.stack.push(open);
        true
    }

    fn close(&mut self, end: usize) {
        let node = match self.stack.pop() {
            Some(Open::Seq(place, start, items)) => Node {
                place,
                span: Extent { start, end },
                kind: Kind::Seq(items),
            },
            Some(Open::Map {
                place,
                start,
                pairs,
                ..
            }) => Node {
                place,
                span: Extent { start, end },
                kind: Kind::Map(pairs),
            },
            None => return,
        };
        self.add(node);
    }

    fn add(&mut self, node: Node) {
        let (place, start) = (node.place, node.span.start);
        let mut complaint = None;
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::Seq(_, _, items)) => items.push(node),
            Some(Open::Map {
                pairs, seen, key, ..
            }) => match key.take() {
                None => match node.kind {
                    Kind::Scalar(Scalar { text, .. }) => {
                        if !seen.insert(text.clone()) {
                            complaint = Some(("duplicate-key", format!("`{text}` is set twice")));
                        }
                        *key = Some((text, place, start));
                    }
                    kind => {
                        if !matches!(kind, Kind::Refused) {
                            complaint = Some(("key", "a key must be a word".to_owned()));
                        }
                        *key = Some((String::new(), place, start));
                    }
                },
                Some((key, key_place, key_start)) => pairs.push(Pair {
                    key,
                    key_place,
                    key_start,
                    value: node,
                }),
            },
        }
        if let Some((id, message)) = complaint {
            self.finding(id, place, message, "keep one `key: value` of each key");
        }
    }
}

fn extent(span: Span) -> Extent {
    Extent {
        start: span.start.index(),
        end: span.end.index(),
    }
}

/// The first character that no text file has: the parser would end at a NUL without a word.
fn control_character(text: &str) -> Option<Place> {
    // YAML 1.2, 5.1.
    let bad = |c: char| match c {
        '\t' | '\n' | '\r' | '\u{85}' => false,
        c => c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'),
    };
    Some(patterns::place_of(text.get(..text.find(bad)?)?))
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}
