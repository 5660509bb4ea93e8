//! The entries of one list, compact: a million of them are a few arenas, not a million strings.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Hit, Origin, Pattern};
use crate::mail::Folded;

/// Texts as written and folded, each with its place, in file order.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    written: Arena,
    folded: Arena,
    lines: Vec<u32>,
    /// The first entry of each run of entries of one file.
    files: Vec<(usize, Arc<str>)>,
}

impl Entries {
    /// Folds and stores the patterns. One that folds to nothing would match every mail: config
    /// refuses it with its line, here it is left out.
    pub(super) fn build(
        patterns: impl IntoIterator<Item = Pattern>,
        fold: impl Fn(&str) -> Folded,
    ) -> Self {
        let mut entries = Self::default();
        for pattern in patterns {
            let folded = fold(&pattern.text);
            if !folded.is_empty() && entries.len() < u32::MAX as usize {
                entries.push(&pattern, &folded);
            }
        }
        entries.written.shrink();
        entries.folded.shrink();
        entries.lines.shrink_to_fit();
        entries
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The folded text of entry `index`; empty beyond the last.
    pub(super) fn folded(&self, index: u32) -> &str {
        self.folded.get(index as usize)
    }

    /// Every entry as a person wrote it, in file order.
    pub(super) fn hits(&self) -> impl Iterator<Item = Hit> {
        (0..self.len() as u32).filter_map(|index| self.hit(index))
    }

    /// Entry `index` as a person wrote it.
    pub(super) fn hit(&self, index: u32) -> Option<Hit> {
        let index = index as usize;
        let run = self.files.partition_point(|(first, _)| *first <= index);
        let (_, file) = self.files.get(run.checked_sub(1)?)?;
        Some(Hit {
            entry: self.written.get(index).to_owned(),
            origin: Some(Origin {
                file: Arc::clone(file),
                line: *self.lines.get(index)?,
            }),
        })
    }

    /// The entries of these indexes, each once, the first `most` in file order.
    pub(super) fn first_hits(&self, indexes: impl Iterator<Item = u32>, most: usize) -> Vec<Hit> {
        let mut first = BTreeSet::new();
        for index in indexes {
            first.insert(index);
            if first.len() > most {
                first.pop_last();
            }
        }
        first
            .into_iter()
            .filter_map(|index| self.hit(index))
            .collect()
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.written.heap_bytes() + self.folded.heap_bytes() + 4 * self.lines.capacity()
    }

    fn push(&mut self, pattern: &Pattern, folded: &Folded) {
        let file = &pattern.origin.file;
        if self.files.last().is_none_or(|(_, last)| last != file) {
            self.files.push((self.len(), Arc::clone(file)));
        }
        self.written.push(&pattern.text);
        self.folded.push(folded.as_str());
        self.lines.push(pattern.origin.line);
    }
}

/// Texts end to end in one string.
#[derive(Debug, Clone, Default)]
struct Arena {
    text: String,
    ends: Vec<usize>,
}

impl Arena {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    fn get(&self, index: usize) -> &str {
        let start = match index.checked_sub(1) {
            Some(before) => self.ends.get(before).copied(),
            None => Some(0),
        };
        start
            .zip(self.ends.get(index))
            .and_then(|(start, &end)| self.text.get(start..end))
            .unwrap_or_default()
    }

    fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        self.text.capacity() + size_of::<usize>() * self.ends.capacity()
    }
}
