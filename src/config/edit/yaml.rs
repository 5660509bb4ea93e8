//! One change to a YAML text; all that it does not touch stays octet for octet.
//!
//! The tree says where things stand, the change becomes a few splices, and the new text is read
//! again: it must say what the old one said with exactly that change ([`Shape`]). A form of YAML
//! that the splices do not fit is so refused, never mangled. No I/O. Linear in the text.

use std::collections::BTreeSet;

use saphyr_parser::ScalarStyle;

use super::layout::{Layout, Splice};
use super::shape::{Shape, is_patterns};
use super::value::{Rendered, Value, indented, quoted};
use super::{Change, Step};
use crate::config::source::{Place, Report};
use crate::config::tree::{self, Kind, Node, Pair};

/// The form is one that only a person should change; the place is where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByHand {
    /// From 1.
    pub line: u32,
    /// From 1, code points.
    pub col: u32,
}

impl ByHand {
    fn at(place: Place) -> Self {
        Self {
            line: place.line.max(1),
            col: place.col.max(1),
        }
    }
}

/// The text after the change. The text must be one that [`super::Session`] has found good.
///
/// # Errors
/// [`ByHand`]; also for a place that is not there.
pub fn apply(text: &str, change: &Change) -> Result<String, ByHand> {
    let (bom, text) = match text.strip_prefix('\u{feff}') {
        Some(text) => ("\u{feff}", text),
        None => ("", text),
    };
    let root = read(text).ok_or(ByHand { line: 1, col: 1 })?;
    let by_hand = ByHand::at(deepest(&root, change.path()).place);
    let wanted = Shape::of(&root).after(change).ok_or(by_hand)?;
    let new = edited(text, &root, change).filter(|new| says(new, &wanted));
    let new = new.or_else(|| {
        // The list as a whole: an entry less may change what the others' indents mean.
        let rewrite = rewritten(&root, &wanted, change.path())?;
        edited(text, &root, &rewrite).filter(|new| says(new, &wanted))
    });
    Ok(format!("{bom}{}", new.ok_or(by_hand)?))
}

/// Whether the text has something at the path.
pub(super) fn has(text: &str, path: &[Step]) -> bool {
    let root = read(text.strip_prefix('\u{feff}').unwrap_or(text));
    root.is_some_and(|root| path.iter().try_fold(&root, child).is_some())
}

fn says(text: &str, wanted: &Shape) -> bool {
    read(text).is_some_and(|root| Shape::of(&root) == *wanted)
}

fn read(text: &str) -> Option<Node> {
    let mut report = Report::default();
    let file = report.add(std::path::Path::new(""), text.to_owned());
    let tree = tree::read(&mut report, file)?;
    (tree.whole && !report.has_errors()).then_some(tree.root)
}

/// A list of patterns that is one scalar, and so has no comments: written anew.
fn rewritten(root: &Node, wanted: &Shape, path: &[Step]) -> Option<Change> {
    let node = deepest(root, path);
    let Kind::Scalar(_) = node.kind else {
        return None;
    };
    let Shape::List(items) = wanted.at(path).filter(|_| is_patterns(path))? else {
        return None;
    };
    let text = |item: &Shape| match item {
        Shape::Text(text) => Some(text.clone()),
        _ => None,
    };
    let texts = items.iter().filter_map(text).collect();
    Some(Change::Set(path.to_vec(), Value::Lines(texts)))
}

/// The node at the path, or the last one on the way to it.
fn deepest<'a>(root: &'a Node, path: &[Step]) -> &'a Node {
    let mut node = root;
    for step in path {
        let Some(next) = child(node, step) else { break };
        node = next;
    }
    node
}

fn child<'a>(node: &'a Node, step: &Step) -> Option<&'a Node> {
    match (&node.kind, step) {
        (Kind::Map(pairs), Step::Key(key)) => {
            pairs.iter().find(|pair| pair.key == *key).map(|p| &p.value)
        }
        (Kind::Seq(items), Step::Item(index)) => items.get(*index),
        _ => None,
    }
}

fn edited(text: &str, root: &Node, change: &Change) -> Option<String> {
    let ends = text.ends_with('\n');
    let padded;
    let whole = if ends {
        text
    } else {
        let eol = Layout::new(text).eol;
        padded = format!("{text}{eol}");
        &padded
    };
    let editor = Editor {
        layout: Layout::new(whole),
        root,
    };
    let splices = match change {
        Change::Set(path, value) => editor.set(path, value),
        Change::Remove(path) => editor.remove(path),
        Change::Add(path, texts) => editor.add(path, texts),
        Change::Take(path, indexes) => editor.take(path, indexes),
        Change::Insert(path, index, value) => editor.insert(path, *index, value),
        Change::Move(path, from, to) => editor.shift(path, *from, *to),
    };
    let mut new = editor.layout.spliced(splices?)?;
    if !ends {
        new.truncate(new.trim_end_matches(['\r', '\n']).len());
    }
    Some(new)
}

struct Editor<'a> {
    layout: Layout<'a>,
    root: &'a Node,
}

impl<'a> Editor<'a> {
    fn find(&self, path: &[Step]) -> Option<&'a Node> {
        path.iter().try_fold(self.root, child)
    }

    /// The section that holds the pair at the path, and the pair's index in it.
    fn pair(&self, path: &[Step]) -> Option<(&'a Node, &'a [Pair], usize)> {
        let (Step::Key(key), before) = path.split_last()? else {
            return None;
        };
        let map = self.find(before)?;
        let Kind::Map(pairs) = &map.kind else {
            return None;
        };
        let index = pairs.iter().position(|pair| pair.key == *key)?;
        Some((map, pairs, index))
    }

    fn set(&self, path: &[Step], value: &Value) -> Option<Vec<Splice>> {
        if let Some((map, pairs, index)) = self.pair(path) {
            return self.replace(map, pairs.get(index)?, value);
        }
        let there = (0..path.len()).rev().find(|n| {
            let node = path.get(..*n).and_then(|before| self.find(before));
            node.is_some_and(|node| matches!(node.kind, Kind::Map(_)))
        })?;
        let (before, rest) = path.split_at_checked(there)?;
        let (Step::Key(key), deeper) = rest.split_first()? else {
            return None;
        };
        let mut value = value.clone();
        for step in deeper.iter().rev() {
            let Step::Key(key) = step else { return None };
            value = Value::Map(vec![(key.clone(), value)]);
        }
        let map = self.find(before)?;
        if self.layout.is_flow(map) {
            return self.insert_in_braces(map, key, &value);
        }
        self.insert_pair(before, map, key, &value)
    }

    fn insert_in_braces(&self, map: &Node, key: &str, value: &Value) -> Option<Vec<Splice>> {
        let Kind::Map(pairs) = &map.kind else {
            return None;
        };
        let pair = format!("{key}: {}", value.inline());
        let splice = match pairs.last() {
            Some(last) => Splice::insert(self.layout.end(&last.value)?, format!(", {pair}")),
            None => Splice::insert(self.layout.start(map) + 1, pair),
        };
        Some(vec![splice])
    }

    /// A new key: at the end of the file, below the line of its section, or at the end of an item.
    fn insert_pair(
        &self,
        path: &[Step],
        map: &Node,
        key: &str,
        value: &Value,
    ) -> Option<Vec<Splice>> {
        let layout = &self.layout;
        let Kind::Map(pairs) = &map.kind else {
            return None;
        };
        let at = match path.last() {
            None => layout.text.len(),
            Some(Step::Item(_)) => layout.next_line(layout.end(map)?),
            Some(Step::Key(_)) => {
                let (_, pairs, index) = self.pair(path)?;
                layout.next_line(layout.colon(pairs.get(index)?)?)
            }
        };
        let indent = layout.column(layout.key(pairs.first()?));
        let lines = value.pair(key, indent);
        Some(vec![Splice::insert(at, self.joined(&lines))])
    }

    fn joined(&self, lines: &[String]) -> String {
        let eol = self.layout.eol;
        lines.iter().map(|line| format!("{line}{eol}")).collect()
    }

    /// Another value for a pair that is there.
    fn replace(&self, map: &Node, pair: &Pair, value: &Value) -> Option<Vec<Splice>> {
        let layout = &self.layout;
        if layout.is_flow(map) {
            let (from, to) = (layout.start(&pair.value), layout.end(&pair.value)?);
            return Some(vec![Splice::new(from, to, value.inline())]);
        }
        let key = layout.key(pair);
        let Rendered { head, body } = value.block(layout.column(key));
        let (from, to, lines) = self.value_of(pair)?;
        let space = if from == layout.colon(pair)? { " " } else { "" };
        let mut splices = vec![Splice::new(from, to, format!("{space}{head}"))];
        if head.is_empty() {
            splices = vec![Splice::delete(layout.colon(pair)?, to)];
        }
        let below = layout.next_line(to);
        splices.extend(lines.map(|end| Splice::delete(below, end)));
        if !body.is_empty() {
            splices.push(Splice::insert(below, self.joined(&body)));
        }
        Some(splices)
    }

    /// What stands behind the colon of a pair in block style: from, to, and the end of the lines
    /// below that belong to it.
    fn value_of(&self, pair: &Pair) -> Option<(usize, usize, Option<usize>)> {
        let layout = &self.layout;
        let colon = layout.colon(pair)?;
        let value = &pair.value;
        let end = || Some(layout.next_line(layout.end(value)?));
        match &value.kind {
            Kind::Scalar(scalar)
                if matches!(scalar.style, ScalarStyle::Literal | ScalarStyle::Folded) =>
            {
                let rest = layout.rest(colon);
                let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
                let from = colon + blank;
                let mark = |c: char| matches!(c, '|' | '>' | '+' | '-') || c.is_ascii_digit();
                let rest = layout.rest(from);
                let to = from + rest.len() - rest.trim_start_matches(mark).len();
                let good = rest.starts_with(['|', '>']);
                let lines = match scalar.text.trim().is_empty() {
                    true => None,
                    false => Some(end()?),
                };
                good.then_some((from, to, lines))
            }
            Kind::Scalar(_) => Some((layout.start(value), layout.end(value)?, None)),
            Kind::Seq(_) | Kind::Map(_) if layout.is_flow(value) => {
                Some((layout.start(value), layout.end(value)?, None))
            }
            Kind::Seq(_) | Kind::Map(_) => Some((colon, colon, Some(end()?))),
            Kind::Null | Kind::Refused => None,
        }
    }

    fn remove(&self, path: &[Step]) -> Option<Vec<Splice>> {
        let (_, pairs, index) = self.pair(path)?;
        let key = self.layout.key(pairs.get(index)?);
        // Sections that would be empty go too, but not the comments in them.
        let mut top = path;
        while let Some((_, before)) = top.split_last()
            && let (Some((_, [_], _)), Some(Step::Key(_))) = (self.pair(top), before.last())
        {
            top = before;
        }
        let (map, pairs, index) = self.pair(top)?;
        let mut splices = self.remove_pair(map, pairs, index)?;
        if top != path && !self.layout.is_flow(map) {
            splices.push(self.kept_comments(pairs.get(index)?, key));
        }
        Some(splices)
    }

    fn remove_pair(&self, map: &Node, pairs: &[Pair], index: usize) -> Option<Vec<Splice>> {
        let layout = &self.layout;
        if layout.is_flow(map) {
            let extent = |pair: &Pair| Some((layout.key(pair), layout.end(&pair.value)?));
            let extents: Option<Vec<_>> = pairs.iter().map(extent).collect();
            return self.drop_from_brackets(&extents?, &BTreeSet::from([index]));
        }
        let pair = pairs.get(index)?;
        let key = layout.key(pair);
        let (from, end) = (layout.line(key), layout.end(&pair.value));
        let end = layout.next_line(end.or_else(|| layout.colon(pair))?);
        let own_line = layout.is_blank(from, key);
        own_line.then(|| vec![Splice::delete(from, end)])
    }

    /// The comment lines between the line of a section and the key `first` below it, moved out to
    /// where the section stood: deeper they could become part of the text above.
    fn kept_comments(&self, section: &Pair, first: usize) -> Splice {
        let layout = &self.layout;
        let key = layout.key(section);
        let between = layout.between(layout.next_line(key), layout.line(first));
        let comments = between.lines().map(str::trim);
        let comments: Vec<String> = comments
            .filter(|line| line.starts_with('#'))
            .map(|line| indented(line, layout.column(key)))
            .collect();
        Splice::insert(layout.line(key), self.joined(&comments))
    }

    fn add(&self, path: &[Step], texts: &[String]) -> Option<Vec<Splice>> {
        let layout = &self.layout;
        let patterns = is_patterns(path);
        let inline = |text: &String| match patterns {
            true => quoted(text),
            false => Value::Text(text.clone()).inline(),
        };
        let Some(node) = self.find(path) else {
            let items = || texts.iter().cloned().map(Value::Text).collect();
            let value = match patterns {
                true => Value::Lines(texts.to_vec()),
                false => Value::List(items()),
            };
            return self.set(path, &value);
        };
        let (at, new) = match &node.kind {
            Kind::Scalar(scalar) if scalar.style == ScalarStyle::Literal => {
                let indent = layout.column(layout.start(node));
                let lines: Vec<String> = texts.iter().map(|t| indented(t, indent)).collect();
                (layout.next_line(layout.end(node)?), self.joined(&lines))
            }
            Kind::Seq(items) if layout.is_flow(node) => {
                let new: Vec<String> = texts.iter().map(inline).collect();
                match items.last() {
                    Some(last) => (layout.end(last)?, format!(", {}", new.join(", "))),
                    None => (layout.start(node) + 1, new.join(", ")),
                }
            }
            Kind::Seq(items) => {
                let dash = layout.dashes(items)?;
                let item = |text| indented(&format!("- {}", inline(text)), dash);
                let lines: Vec<String> = texts.iter().map(item).collect();
                let end = layout.next_line(layout.end(items.last()?)?);
                (end, self.joined(&lines))
            }
            _ => return None,
        };
        Some(vec![Splice::insert(at, new)])
    }

    fn take(&self, path: &[Step], indexes: &BTreeSet<usize>) -> Option<Vec<Splice>> {
        let layout = &self.layout;
        let node = self.find(path)?;
        let taken = |index: &usize| indexes.contains(index);
        match &node.kind {
            Kind::Scalar(scalar) if scalar.style == ScalarStyle::Literal => {
                let lines = layout.content(node)?;
                if (0..lines.len()).all(|index| taken(&index)) {
                    return self.remove(path);
                }
                let lines = lines.into_iter().enumerate();
                let gone = lines.filter(|(index, _)| taken(index));
                Some(
                    gone.map(|(_, (from, to))| Splice::delete(from, to))
                        .collect(),
                )
            }
            Kind::Seq(items) if (0..items.len()).all(|index| taken(&index)) => self.remove(path),
            Kind::Seq(items) if layout.is_flow(node) => {
                let extent = |item: &Node| Some((layout.start(item), layout.end(item)?));
                let extents: Option<Vec<_>> = items.iter().map(extent).collect();
                self.drop_from_brackets(&extents?, indexes)
            }
            Kind::Seq(items) => {
                let gone = items.iter().enumerate().filter(|(index, _)| taken(index));
                gone.map(|(_, item)| {
                    let end = layout.next_line(layout.end(item)?);
                    Some(Splice::delete(layout.line(layout.dash(item)?), end))
                })
                .collect()
            }
            // One scalar is one entry, or none of them stands on a line of its own.
            Kind::Scalar(_) if indexes.len() == entry_count(node) => self.remove(path),
            _ => None,
        }
    }

    /// Items of a list or map in brackets, each with one of the commas around it.
    fn drop_from_brackets(
        &self,
        extents: &[(usize, usize)],
        gone: &BTreeSet<usize>,
    ) -> Option<Vec<Splice>> {
        let layout = &self.layout;
        let mut splices = Vec::new();
        let mut rest = extents.len();
        if let Some((_, last)) = extents.last()
            && layout.comma(*last).is_none()
        {
            // The last ones have no comma behind them: it is the one before that goes.
            let kept = (0..rest).rev().find(|index| !gone.contains(index));
            let kept = kept.filter(|index| index + 1 < rest);
            if let Some(index) = kept {
                let comma = layout.comma(extents.get(index)?.1)?;
                if layout.between(comma, *last).contains(['\n', '#']) {
                    splices.push(Splice::delete(comma, comma + 1));
                } else {
                    splices.push(Splice::delete(comma, *last));
                    rest = index;
                }
            }
        }
        for (index, (from, end)) in extents.iter().enumerate().take(rest) {
            if !gone.contains(&index) {
                continue;
            }
            let Some(comma) = layout.comma(*end) else {
                let (line, next) = (layout.line(*from), layout.next_line(*end));
                let alone = layout.is_blank(line, *from) && layout.is_blank(*end, next);
                splices.push(match alone {
                    true => Splice::delete(line, next),
                    false => Splice::delete(*from, *end),
                });
                continue;
            };
            if !layout.is_blank(*end, comma) {
                splices.push(Splice::delete(*from, *end));
                splices.push(Splice::delete(comma, comma + 1));
                continue;
            }
            let (line, next) = (layout.line(*from), layout.next_line(comma));
            let alone = layout.is_blank(line, *from) && layout.is_blank(comma + 1, next);
            let behind = layout.rest(comma + 1);
            let blank = behind.len() - behind.trim_start_matches(' ').len();
            splices.push(match alone {
                true => Splice::delete(line, next),
                false => Splice::delete(*from, comma + 1 + blank),
            });
        }
        Some(splices)
    }

    fn insert(&self, path: &[Step], index: usize, value: &Value) -> Option<Vec<Splice>> {
        let layout = &self.layout;
        let Some(node) = self.find(path) else {
            return self.set(path, &Value::List(vec![value.clone()]));
        };
        let Kind::Seq(items) = &node.kind else {
            return None;
        };
        if layout.is_flow(node) {
            let new = value.inline();
            let splice = match (items.get(index), items.last()) {
                (Some(next), _) => Splice::insert(layout.start(next), format!("{new}, ")),
                (None, Some(last)) => Splice::insert(layout.end(last)?, format!(", {new}")),
                (None, None) => Splice::insert(layout.start(node) + 1, new),
            };
            return Some(vec![splice]);
        }
        let column = layout.dashes(items)?;
        let at = match items.get(index) {
            Some(next) => layout.above_comments(layout.dash(next)?),
            None => layout.next_line(layout.end(items.last()?)?),
        };
        let lines = value.item(column);
        Some(vec![Splice::insert(at, self.joined(&lines))])
    }

    /// An item goes elsewhere in its list; the comment lines directly above it go with it.
    fn shift(&self, path: &[Step], from: usize, to: usize) -> Option<Vec<Splice>> {
        let layout = &self.layout;
        let node = self.find(path)?;
        let Kind::Seq(items) = &node.kind else {
            return None;
        };
        if from == to {
            return Some(Vec::new());
        }
        // The one that it comes to stand before; behind the last there is none.
        let before = if to > from { to + 1 } else { to };
        let item = items.get(from)?;
        if layout.is_flow(node) {
            let extent = |item: &Node| Some((layout.start(item), layout.end(item)?));
            let extents: Option<Vec<_>> = items.iter().map(extent).collect();
            let text = layout.between(layout.start(item), layout.end(item)?);
            let mut splices = self.drop_from_brackets(&extents?, &BTreeSet::from([from]))?;
            splices.push(match items.get(before) {
                Some(next) => Splice::insert(layout.start(next), format!("{text}, ")),
                None => Splice::insert(layout.end(items.last()?)?, format!(", {text}")),
            });
            return Some(splices);
        }
        let top = |item| Some(layout.above_comments(layout.dash(item)?));
        let (start, end) = (top(item)?, layout.next_line(layout.end(item)?));
        let at = match items.get(before) {
            Some(next) => top(next)?,
            None => layout.next_line(layout.end(items.last()?)?),
        };
        let text = layout.between(start, end);
        Some(vec![Splice::delete(start, end), Splice::insert(at, text)])
    }
}

fn entry_count(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar(scalar) => scalar
            .text
            .split('\n')
            .filter(|t| !t.trim().is_empty())
            .count(),
        _ => 0,
    }
}
