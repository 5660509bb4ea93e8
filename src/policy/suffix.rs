//! Sets of address endings, sub-linear in their size.
//!
//! A hash of each entry, read from its end, lies in one table; a single pass over an address from
//! its end gives the hash of every suffix. So a look-up costs one multiplication an octet, and a
//! table access only for those suffixes that are as long as some entry. Nothing in front of the
//! longest entry's length is read, however long a hostile address is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};

use foldhash::fast::FixedState;

use super::entries::Entries;
use super::{Hit, Pattern};
use crate::mail::Folded;
use crate::mail::fold::fold_address;

/// Endings of addresses: a plain string suffix of the folded address (manual A06, A11).
///
/// An entry may begin anywhere: `spam.example`, `@spam.example`, `.bulk.example`, `ample.jp`.
/// A million entries of 18 octets take about 90 MiB.
#[derive(Debug, Clone, Default)]
pub struct SuffixSet {
    entries: Entries,
    /// Hash of a folded entry to the first entry with that hash.
    table: HashMap<u64, u32, FixedState>,
    /// Entries whose hash another text already has. In practice empty.
    collided: Vec<u32>,
    /// `lengths[n]`: some entry is `n` octets long.
    lengths: Vec<bool>,
    base: u64,
}

impl SuffixSet {
    /// Compiles the entries; their order is the file's.
    pub fn build(patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Self::with_base(patterns, RandomState::new().hash_one(0_u8) & MODULUS)
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries as written, in file order.
    pub fn entries(&self) -> impl Iterator<Item = Hit> {
        self.entries.hits()
    }

    /// The first entry in file order that `address` ends with.
    pub fn find(&self, address: &Folded) -> Option<Hit> {
        self.find_any([address])
    }

    /// The first entry in file order that any of the addresses ends with.
    pub fn find_any<'a>(&'a self, addresses: impl IntoIterator<Item = &'a Folded>) -> Option<Hit> {
        self.find_any_where(addresses, |_, _| true)
    }

    /// Every entry that any of the addresses ends with, the first `most` in file order.
    pub fn find_all<'a>(
        &'a self,
        addresses: impl IntoIterator<Item = &'a Folded>,
        most: usize,
    ) -> Vec<Hit> {
        self.find_all_where(addresses, most, |_, _| true)
    }

    /// Octets on the heap.
    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        let slot = size_of::<(u64, u32)>() + 1;
        self.entries.heap_bytes() + self.lengths.len() + slot * self.table.capacity() * 8 / 7
    }

    fn with_base(patterns: impl IntoIterator<Item = Pattern>, base: u64) -> Self {
        let entries = Entries::build(patterns, fold_address);
        let mut set = Self {
            table: HashMap::with_capacity_and_hasher(entries.len(), FixedState::default()),
            base,
            ..Self::default()
        };
        for index in 0..entries.len() as u32 {
            set.insert(index, &entries);
        }
        set.entries = entries;
        set
    }

    fn insert(&mut self, index: u32, entries: &Entries) {
        let text = entries.folded(index);
        let hash = text
            .bytes()
            .rev()
            .fold(0, |hash, octet| self.step(hash, octet));
        match self.table.entry(hash) {
            Entry::Vacant(slot) => {
                slot.insert(index);
            }
            Entry::Occupied(slot) if entries.folded(*slot.get()) == text => return,
            Entry::Occupied(_) => self.collided.push(index),
        }
        if self.lengths.len() <= text.len() {
            self.lengths.resize(text.len() + 1, false);
        }
        if let Some(seen) = self.lengths.get_mut(text.len()) {
            *seen = true;
        }
    }

    /// As [`SuffixSet::find_any`], counting only what `counts(address, entry)` accepts, both folded.
    fn find_any_where<'a>(
        &'a self,
        addresses: impl IntoIterator<Item = &'a Folded>,
        counts: impl Fn(&str, &str) -> bool + Copy,
    ) -> Option<Hit> {
        self.entries.hit(self.matching(addresses, counts).min()?)
    }

    fn find_all_where<'a>(
        &'a self,
        addresses: impl IntoIterator<Item = &'a Folded>,
        most: usize,
        counts: impl Fn(&str, &str) -> bool + Copy,
    ) -> Vec<Hit> {
        self.entries
            .first_hits(self.matching(addresses, counts), most)
    }

    /// The indexes of the entries that fit, in no order, one perhaps several times.
    fn matching<'a>(
        &'a self,
        addresses: impl IntoIterator<Item = &'a Folded>,
        counts: impl Fn(&str, &str) -> bool + Copy,
    ) -> impl Iterator<Item = u32> {
        addresses.into_iter().flat_map(move |address| {
            let text = address.as_str();
            let table = self
                .suffix_hashes(text)
                .filter_map(|hash| self.table.get(&hash));
            table.chain(&self.collided).copied().filter(move |&index| {
                let entry = self.entries.folded(index);
                text.ends_with(entry) && counts(text, entry)
            })
        })
    }

    /// The hashes of those suffixes of `text` that are as long as some entry, the shortest first.
    fn suffix_hashes(&self, text: &str) -> impl Iterator<Item = u64> {
        let lengths = self.lengths.iter().skip(1);
        text.bytes()
            .rev()
            .zip(lengths)
            .scan(0, |hash, (octet, &wanted)| {
                *hash = self.step(*hash, octet);
                Some(wanted.then_some(*hash))
            })
            .flatten()
    }

    /// One octet further to the left.
    fn step(&self, hash: u64, octet: u8) -> u64 {
        let product = u128::from(hash) * u128::from(self.base) + u128::from(octet) + 1;
        let sum = (product as u64 & MODULUS) + (product >> 61) as u64;
        if sum < MODULUS { sum } else { sum - MODULUS }
    }
}

/// As [`SuffixSet`], but an entry with a local part before its `@` must equal the whole address
/// (CONTRACT section 2, stage 4): `a@b.example` does not allow `aa@b.example`.
#[derive(Debug, Clone, Default)]
pub struct AllowSet(SuffixSet);

impl AllowSet {
    /// Compiles the entries; their order is the file's.
    pub fn build(patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Self(SuffixSet::build(patterns))
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All entries as written, in file order.
    pub fn entries(&self) -> impl Iterator<Item = Hit> {
        self.0.entries()
    }

    /// The first entry in file order that covers `address`.
    pub fn find(&self, address: &Folded) -> Option<Hit> {
        self.find_any([address])
    }

    /// The first entry in file order that covers any of the addresses.
    pub fn find_any<'a>(&'a self, addresses: impl IntoIterator<Item = &'a Folded>) -> Option<Hit> {
        self.0.find_any_where(addresses, covers)
    }

    /// Every entry that covers any of the addresses, the first `most` in file order.
    pub fn find_all<'a>(
        &'a self,
        addresses: impl IntoIterator<Item = &'a Folded>,
        most: usize,
    ) -> Vec<Hit> {
        self.0.find_all_where(addresses, most, covers)
    }
}

/// Whether an entry that `address` ends with is one of its domain, or the address itself.
fn covers(address: &str, entry: &str) -> bool {
    entry.len() == address.len() || entry.rfind('@').is_none_or(|at| at == 0)
}

/// The Mersenne prime 2^61 - 1: with a base drawn at random for each set, two texts of n octets
/// have the same hash with a chance of n in 2^61, whoever chose them.
const MODULUS: u64 = (1 << 61) - 1;

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::pattern::lines;

    fn named(hit: Option<Hit>) -> Option<(String, u32)> {
        hit.map(|hit| (hit.entry, hit.origin.unwrap().line))
    }

    #[test]
    fn an_entry_is_a_plain_ending() {
        let check = |entries: &[&str], address: &str, expected: Option<(&str, u32)>| {
            let expected = expected.map(|(entry, line)| (entry.to_owned(), line));
            let set = SuffixSet::build(lines(entries));
            let found = named(set.find(&fold_address(address)));
            assert_eq!(found, expected, "{entries:?} {address}");
        };
        let list = [
            "@spam.example",
            ".bulk.example",
            "noreply@shop.example",
            "ample.jp",
        ];
        check(&list, "a@spam.example", Some(("@spam.example", 1)));
        check(&list, "a@sub.spam.example", None);
        check(&list, "a@x.bulk.example", Some((".bulk.example", 2)));
        check(&list, "a@bulk.example", None);
        check(
            &list,
            "noreply@shop.example",
            Some(("noreply@shop.example", 3)),
        );
        check(
            &list,
            "xnoreply@shop.example",
            Some(("noreply@shop.example", 3)),
        );
        check(&list, "reply@shop.example", None);
        check(&list, "a@example.jp", Some(("ample.jp", 4)));
        check(&list, "ample.jp", Some(("ample.jp", 4)));
        check(&list, "mple.jp", None);
        check(&list, "", None);
        check(
            &["spam.example"],
            "a@spam.example",
            Some(("spam.example", 1)),
        );
        check(&["spam.example"], "a@spam.example.net", None);
        // The first in the file is named, whether the longer or the shorter.
        check(
            &[".example", "@spam.example"],
            "a@spam.example",
            Some((".example", 1)),
        );
        check(
            &["@spam.example", ".example"],
            "a@spam.example",
            Some(("@spam.example", 1)),
        );
        check(
            &["x", "@SPAM.example", "@spam.example"],
            "a@spam.example",
            Some(("@SPAM.example", 2)),
        );
        // Both sides are folded.
        check(
            &["@SPAM.Example"],
            "A@Spam.eXample",
            Some(("@SPAM.Example", 1)),
        );
        check(
            &["＠ｓｐａｍ．ｅｘａｍｐｌｅ"],
            "a@spam.example",
            Some(("＠ｓｐａｍ．ｅｘａｍｐｌｅ", 1)),
        );
        check(
            &["@xn--wgv71a.example"],
            "a@日本.example",
            Some(("@xn--wgv71a.example", 1)),
        );
        check(
            &["@日本.example"],
            "a@xn--wgv71a.example",
            Some(("@日本.example", 1)),
        );
        // An entry that folds to nothing never matches.
        check(&["\u{200b}"], "a@spam.example", None);
        check(&[], "a@spam.example", None);
    }

    #[test]
    fn an_allow_entry_with_a_local_part_is_a_whole_address() {
        let check = |entries: &[&str], address: &str, expected: Option<u32>| {
            let set = AllowSet::build(lines(entries));
            let found = named(set.find(&fold_address(address))).map(|(_, line)| line);
            assert_eq!(found, expected, "{entries:?} {address}");
        };
        check(&["partner@example.com"], "partner@example.com", Some(1));
        check(&["partner@example.com"], "PARTNER@Example.COM", Some(1));
        check(&["partner@example.com"], "xpartner@example.com", None);
        check(&["partner@example.com"], "a@partner@example.com", None);
        check(&["@example.or.jp"], "anyone@example.or.jp", Some(1));
        check(&["@example.or.jp"], "anyone@sub.example.or.jp", None);
        check(&["example.or.jp"], "anyone@sub.example.or.jp", Some(1));
        check(&["example.or.jp"], "anyone@notexample.or.jp", Some(1));
        check(&["b@c.example", "@c.example"], "ab@c.example", Some(2));
        check(&["b@c.example", "@c.example"], "b@c.example", Some(1));
        check(&[], "b@c.example", None);
    }

    #[test]
    fn of_several_addresses_the_first_entry_is_named() {
        let set = SuffixSet::build(lines(&["@a.example", "@b.example"]));
        let from = [fold_address("x@b.example"), fold_address("x@a.example")];
        assert_eq!(
            named(set.find_any(&from)),
            Some(("@a.example".to_owned(), 1))
        );
        assert_eq!(
            named(set.find_any(&from[..1])),
            Some(("@b.example".to_owned(), 2))
        );
        assert!(set.find_any([]).is_none());
    }

    #[test]
    fn a_hostile_address_reads_no_further_than_the_longest_entry() {
        let set = SuffixSet::build(lines(&["aab", "aaaa"]));
        let long = fold_address(&"a".repeat(1 << 20));
        assert_eq!(named(set.find(&long)), Some(("aaaa".to_owned(), 2)));
        assert!(set.suffix_hashes(long.as_str()).count() <= 4);
    }

    #[test]
    fn a_large_set_stays_small() {
        let mut text = String::new();
        let patterns = (0..20_000).map(|number| {
            text.clear();
            write!(text, "@m{number}.spam.example").unwrap();
            lines(&[&text]).remove(0)
        });
        let set = SuffixSet::build(patterns);
        assert!(set.heap_bytes() < 20_000 * 140, "{}", set.heap_bytes());
        let hit = named(set.find(&fold_address("a@m19999.spam.example")));
        assert_eq!(hit.unwrap().0, "@m19999.spam.example");
        assert!(set.find(&fold_address("a@m20000.spam.example")).is_none());
    }

    proptest! {
        /// With base 0 and 1 nearly all hashes collide; the answer stays the same.
        #[test]
        fn it_agrees_with_the_plain_search(
            entries in prop::collection::vec("[ab.@あ]{1,4}", 0..12),
            address in "[ab.@あ]{0,8}",
            base in prop::sample::select(vec![0, 1, 0x1234_5678_9abc_def0 & MODULUS]),
        ) {
            let texts: Vec<&str> = entries.iter().map(String::as_str).collect();
            let folded = fold_address(&address);
            let ends = |entry: &&str| {
                let entry = fold_address(entry);
                !entry.is_empty() && folded.as_str().ends_with(entry.as_str())
            };
            let expected = texts.iter().copied().find(|entry| ends(entry));
            let set = SuffixSet::with_base(lines(&texts), base);
            let found = set.find(&folded).map(|hit| hit.entry);
            prop_assert_eq!(found.as_deref(), expected);
            // Of two that fold alike the first may stand for both.
            let once = |all: &mut dyn Iterator<Item = String>| {
                let mut folded: Vec<Folded> = all.map(|entry| fold_address(&entry)).collect();
                let mut seen = std::collections::HashSet::new();
                folded.retain(|entry| seen.insert(entry.as_str().to_owned()));
                folded
            };
            let expected = once(&mut texts.iter().copied().filter(ends).map(str::to_owned));
            let found = set.find_all([&folded], 20);
            prop_assert_eq!(once(&mut found.into_iter().map(|hit| hit.entry)), expected);
        }
    }
}
