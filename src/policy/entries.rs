//! The entries of one list, compact: a million of them lie end to end, not in a million strings.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Hit, Origin, Pattern};
use crate::mail::Folded;

/// Texts as written and folded, each with its origin, in file order.
///
/// An entry is named by its place: where it begins in `octets`. So places have the file's order.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    /// An entry is a head and the text as written; where folding changes it, another head and the
    /// folded text. A head is twice the text's length, one more when a folded text follows, in base
    /// 128, the lowest digit first.
    octets: Vec<u8>,
    count: usize,
    /// Places whose lines are known; those behind one of them are counted up from it.
    marks: Vec<Mark>,
    /// The first place of each run of entries of one file.
    files: Vec<(u32, Arc<str>)>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    place: u32,
    line: u32,
}

/// Every so manieth entry has a mark in any case: it bounds the walk to an entry's line.
const STRIDE: usize = 64;

struct Entry<'a> {
    written: &'a [u8],
    folded: &'a [u8],
    /// Where the next one begins.
    end: usize,
}

impl Entries {
    /// Folds and stores the patterns. One that folds to nothing would match every mail: config
    /// refuses it with its line, here it is left out; so is what lies beyond 4 GiB.
    pub(super) fn build(
        patterns: impl IntoIterator<Item = Pattern>,
        fold: impl Fn(&str) -> Folded,
    ) -> Self {
        let mut entries = Self::default();
        // The line that the next entry has if the lines run on.
        let mut next_line = 0;
        for pattern in patterns {
            let folded = fold(&pattern.text);
            let place = u32::try_from(entries.octets.len());
            if let (false, Ok(place)) = (folded.is_empty(), place) {
                entries.push(place, &pattern, &folded, next_line);
                next_line = pattern.origin.line.saturating_add(1);
            }
        }
        entries.octets.shrink_to_fit();
        entries.marks.shrink_to_fit();
        entries.files.shrink_to_fit();
        entries
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The places of all entries.
    pub(super) fn places(&self) -> impl Iterator<Item = u32> {
        self.places_from(0)
    }

    /// The folded text of the entry at `place`; empty where none begins.
    pub(super) fn folded(&self, place: u32) -> &[u8] {
        self.entry(place).map_or(&[], |entry| entry.folded)
    }

    /// Every entry as a person wrote it, in file order.
    pub(super) fn hits(&self) -> impl Iterator<Item = Hit> {
        self.places().filter_map(|place| self.hit(place))
    }

    /// The entry at `place` as a person wrote it.
    pub(super) fn hit(&self, place: u32) -> Option<Hit> {
        let run = self.files.partition_point(|(first, _)| *first <= place);
        let (_, file) = self.files.get(run.checked_sub(1)?)?;
        let written = self.entry(place)?.written;
        Some(Hit {
            entry: String::from_utf8_lossy(written).into_owned(),
            origin: Some(Origin {
                file: Arc::clone(file),
                line: self.line(place)?,
            }),
        })
    }

    /// The entries at these places, each once, the first `most` in file order.
    pub(super) fn first_hits(&self, places: impl Iterator<Item = u32>, most: usize) -> Vec<Hit> {
        let mut first = BTreeSet::new();
        for place in places {
            first.insert(place);
            if first.len() > most {
                first.pop_last();
            }
        }
        first
            .into_iter()
            .filter_map(|place| self.hit(place))
            .collect()
    }

    /// Octets on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.octets.capacity()
            + size_of::<Mark>() * self.marks.capacity()
            + size_of::<(u32, Arc<str>)>() * self.files.capacity()
    }

    fn push(&mut self, place: u32, pattern: &Pattern, folded: &Folded, next_line: u32) {
        let Origin { file, line } = &pattern.origin;
        if self.files.last().is_none_or(|(_, last)| last != file) {
            self.files.push((place, Arc::clone(file)));
        }
        if *line != next_line || self.count.is_multiple_of(STRIDE) {
            self.marks.push(Mark { place, line: *line });
        }
        let (written, folded) = (pattern.text.as_bytes(), folded.as_str().as_bytes());
        let differs = written != folded;
        self.push_text(written, differs);
        if differs {
            self.push_text(folded, false);
        }
        self.count += 1;
    }

    fn push_text(&mut self, text: &[u8], another_follows: bool) {
        let mut head = text.len() << 1 | usize::from(another_follows);
        while head >= 0x80 {
            self.octets.push(head as u8 | 0x80);
            head >>= 7;
        }
        self.octets.push(head as u8);
        self.octets.extend_from_slice(text);
    }

    fn entry(&self, place: u32) -> Option<Entry<'_>> {
        let (written, differs, end) = self.text(place as usize)?;
        let (folded, end) = if differs {
            let (folded, _, end) = self.text(end)?;
            (folded, end)
        } else {
            (written, end)
        };
        Some(Entry {
            written,
            folded,
            end,
        })
    }

    /// `place` and those behind it.
    fn places_from(&self, place: u32) -> impl Iterator<Item = u32> {
        let mut next = place as usize;
        std::iter::from_fn(move || {
            let place = u32::try_from(next).ok()?;
            next = self.entry(place)?.end;
            Some(place)
        })
    }

    /// The text whose head is at `at`, whether another one follows, and where it ends.
    fn text(&self, mut at: usize) -> Option<(&[u8], bool, usize)> {
        let (mut head, mut shift) = (0, 0);
        loop {
            let digit = usize::from(*self.octets.get(at)?);
            at += 1;
            head |= (digit & 0x7f) << shift;
            shift += 7;
            if digit < 0x80 {
                break;
            }
        }
        let end = at + (head >> 1);
        Some((self.octets.get(at..end)?, head & 1 == 1, end))
    }

    fn line(&self, place: u32) -> Option<u32> {
        let mark = self.marks.partition_point(|mark| mark.place <= place);
        let mark = self.marks.get(mark.checked_sub(1)?)?;
        let between = self.places_from(mark.place).take_while(|at| *at < place);
        Some(mark.line + between.count() as u32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::fold::fold;

    proptest! {
        /// Texts that folding changes or not, heads of one octet and of two, lines that run on,
        /// stay, jump and go back, several files.
        #[test]
        fn it_gives_back_what_was_put_in(
            rows in prop::collection::vec(("[a-zA-Z あｱ\u{200b}]{0,4}", 1_usize..60, 0_u32..3, 0_u8..12), 0..300),
        ) {
            let mut line = 9;
            let patterns: Vec<Pattern> = rows
                .into_iter()
                .map(|(text, times, step, file)| {
                    line = if step == 2 && file == 0 { 1 } else { line + step };
                    Pattern {
                        text: text.repeat(times),
                        origin: Origin { file: format!("{}.txt", file / 10).into(), line },
                    }
                })
                .collect();
            let entries = Entries::build(patterns.clone(), fold);
            let kept = patterns.iter().filter(|pattern| !fold(&pattern.text).is_empty());
            let kept: Vec<&Pattern> = kept.collect();
            prop_assert_eq!(entries.len(), kept.len());
            prop_assert_eq!(entries.hits().count(), kept.len());
            for (place, pattern) in entries.places().zip(kept) {
                let hit = entries.hit(place).unwrap();
                prop_assert_eq!(&hit.entry, &pattern.text);
                prop_assert_eq!(hit.origin.as_ref(), Some(&pattern.origin));
                let folded = fold(&pattern.text);
                prop_assert_eq!(entries.folded(place), folded.as_str().as_bytes());
            }
        }
    }
}
