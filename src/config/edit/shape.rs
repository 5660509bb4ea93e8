//! What a mailbox file says, whatever its style: the measure of an edit. [`Shape::after`] does to
//! the meaning what the editor does to the text; the two must agree, or nothing is written.

use std::collections::BTreeMap;

use super::{Change, Step, Value};
use crate::config::tree::{Kind, Node};

/// Keys whose value is a list of patterns, as a block of text or as a YAML list.
const LINES: [&str; 4] = [
    "from_suffixes",
    "subject_contains",
    "senders",
    "verified_senders",
];

/// Whether a path leads to a list of patterns.
pub(super) fn is_patterns(path: &[Step]) -> bool {
    matches!(path.last(), Some(Step::Key(key)) if LINES.contains(&key.as_str()))
}

/// A value without its style. An empty section is none.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Text(String),
    List(Vec<Shape>),
    Map(BTreeMap<String, Shape>),
}

impl Shape {
    pub(super) fn of(node: &Node) -> Self {
        Self::of_value(node, "").unwrap_or(Self::Map(BTreeMap::new()))
    }

    /// `None`: nothing, or an empty section.
    fn of_value(node: &Node, key: &str) -> Option<Self> {
        match &node.kind {
            Kind::Scalar(scalar) if LINES.contains(&key) => Some(entries(&scalar.text)),
            Kind::Scalar(scalar) => Some(Self::Text(scalar.text.clone())),
            Kind::Seq(items) if LINES.contains(&key) => {
                let text = |item: &Node| match &item.kind {
                    Kind::Scalar(scalar) => Some(Self::Text(scalar.text.trim().to_owned())),
                    _ => None,
                };
                Some(Self::List(items.iter().filter_map(text).collect()))
            }
            Kind::Seq(items) => {
                let item = |item| Self::of_value(item, "").unwrap_or(Self::Map(BTreeMap::new()));
                Some(Self::List(items.iter().map(item).collect()))
            }
            Kind::Map(pairs) => {
                let pair = |pair: &crate::config::tree::Pair| {
                    let value = Self::of_value(&pair.value, &pair.key)?;
                    Some((pair.key.clone(), value))
                };
                let pairs: BTreeMap<String, Self> = pairs.iter().filter_map(pair).collect();
                (!pairs.is_empty()).then_some(Self::Map(pairs))
            }
            Kind::Null | Kind::Refused => None,
        }
    }

    fn of_new(value: &Value) -> Self {
        match value {
            Value::Word(text) | Value::Text(text) => Self::Text(text.clone()),
            Value::Lines(texts) => Self::List(texts.iter().cloned().map(Self::Text).collect()),
            Value::List(items) => Self::List(items.iter().map(Self::of_new).collect()),
            Value::Map(pairs) => {
                let pair = |(key, value): &(String, Value)| (key.clone(), Self::of_new(value));
                Self::Map(pairs.iter().map(pair).collect())
            }
        }
    }

    /// The value at a path.
    pub(super) fn at(&self, path: &[Step]) -> Option<&Self> {
        let Some((step, rest)) = path.split_first() else {
            return Some(self);
        };
        match (self, step) {
            (Self::Map(pairs), Step::Key(key)) => pairs.get(key)?.at(rest),
            (Self::List(items), Step::Item(index)) => items.get(*index)?.at(rest),
            _ => None,
        }
    }

    /// What the file says after the change; `None` when there is no such place.
    pub(super) fn after(mut self, change: &Change) -> Option<Self> {
        match change {
            Change::Set(path, value) => *self.place(path)? = Self::of_new(value),
            Change::Remove(path) => {
                self.at(path)?;
                self.remove(path);
            }
            Change::Add(path, texts) => {
                if self.at(path).is_none() {
                    *self.place(path)? = Self::List(Vec::new());
                }
                let new = texts.iter().cloned().map(Self::Text);
                self.list(path)?.extend(new);
            }
            Change::Take(path, indexes) => {
                let items = self.list(path)?;
                let mut index = 0;
                items.retain(|_| {
                    index += 1;
                    !indexes.contains(&(index - 1))
                });
                if items.is_empty() {
                    self.remove(path);
                }
            }
            Change::Insert(path, index, value) => {
                if self.at(path).is_none() {
                    *self.place(path)? = Self::List(Vec::new());
                }
                let items = self.list(path)?;
                items.insert((*index).min(items.len()), Self::of_new(value));
            }
            Change::Move(path, from, to) => {
                let items = self.list(path)?;
                if *from >= items.len() || *to >= items.len() {
                    return None;
                }
                let item = items.remove(*from);
                items.insert(*to, item);
            }
        }
        Some(self)
    }

    fn list(&mut self, path: &[Step]) -> Option<&mut Vec<Self>> {
        match self.place(path)? {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value at a path; sections on the way are made.
    fn place(&mut self, path: &[Step]) -> Option<&mut Self> {
        let Some((step, rest)) = path.split_first() else {
            return Some(self);
        };
        match (self, step) {
            (Self::Map(pairs), Step::Key(key)) => pairs
                .entry(key.clone())
                .or_insert_with(|| Self::Map(BTreeMap::new()))
                .place(rest),
            (Self::List(items), Step::Item(index)) => items.get_mut(*index)?.place(rest),
            _ => None,
        }
    }

    /// Removes the value at a path, and each section that is empty then.
    fn remove(&mut self, path: &[Step]) {
        match (self, path) {
            (Self::Map(pairs), [Step::Key(key)]) => {
                pairs.remove(key);
            }
            (Self::Map(pairs), [Step::Key(key), rest @ ..]) => {
                if let Some(inner) = pairs.get_mut(key) {
                    inner.remove(rest);
                    if matches!(inner, Self::Map(pairs) if pairs.is_empty()) {
                        pairs.remove(key);
                    }
                }
            }
            (Self::List(items), [Step::Item(index), rest @ ..]) => {
                if let Some(inner) = items.get_mut(*index) {
                    inner.remove(rest);
                }
            }
            _ => {}
        }
    }
}

fn entries(text: &str) -> Shape {
    let entries = text.split('\n').map(str::trim).filter(|t| !t.is_empty());
    Shape::List(entries.map(|t| Shape::Text(t.to_owned())).collect())
}
