//! Sets of address endings, sub-linear in their size.
//!
//! A hash of each entry, read from its end, puts it into one of many small buckets; a single pass
//! over an address from its end gives the hash of every suffix. So a look-up costs one
//! multiplication an octet, and a bucket only for those suffixes that are as long as some entry.
//! Nothing in front of the longest entry's length is read, however long a hostile address is.
//!
//! An entry takes its text and seven octets. A hash table of (hash, index) pairs beside texts as
//! written and folded was as fast, and took five times the text.

use std::hash::{BuildHasher, RandomState};

use super::entries::Entries;
use super::{Hit, Pattern};
use crate::mail::Folded;
use crate::mail::fold::fold_address;

/// Endings of addresses: a plain string suffix of the folded address (manual A06, A11).
///
/// An entry may begin anywhere: `spam.example`, `@spam.example`, `.bulk.example`, `ample.jp`.
/// A million entries of 18 octets take 25 MB.
#[derive(Debug, Clone, Default)]
pub struct SuffixSet {
    entries: Entries,
    /// Where each bucket's entries begin in `tags` and `places`; the last is where they all end.
    starts: Vec<u32>,
    /// Of each entry some bits of its hash: nearly always enough to tell that it does not fit.
    tags: Vec<u8>,
    places: Vec<u32>,
    /// `lengths[n]`: some entry is `n` octets long.
    lengths: Vec<bool>,
    base: u64,
}

/// Entries in a bucket, in the mean.
const BUCKET: usize = 4;

impl SuffixSet {
    /// Compiles the entries; their order is the file's.
    pub fn build(patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Self::with_base(patterns, RandomState::new().hash_one(0_u8) & MODULUS)
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that differ when folded.
    pub fn distinct(&self) -> usize {
        self.places.len()
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
    pub fn heap_bytes(&self) -> usize {
        self.entries.heap_bytes()
            + size_of::<u32>() * (self.starts.capacity() + self.places.capacity())
            + self.tags.capacity()
            + self.lengths.capacity()
    }

    fn with_base(patterns: impl IntoIterator<Item = Pattern>, base: u64) -> Self {
        let entries = Entries::build(patterns, fold_address);
        let mut set = Self {
            starts: vec![0; entries.len().div_ceil(BUCKET) + 1],
            base,
            ..Self::default()
        };
        let hashes = entries.places().map(|place| {
            let text = entries.folded(place).iter().rev();
            let hash = text.fold(0, |hash, &octet| set.step(hash, octet));
            (spread(hash), place)
        });
        let mut hashes: Vec<(u64, u32)> = hashes.collect();
        // Buckets are ranges of hashes, so this is their order too; in a bucket it is the file's.
        hashes.sort_unstable();
        hashes.dedup_by(|(hash, place), (last, before)| {
            hash == last && entries.folded(*place) == entries.folded(*before)
        });
        set.tags = hashes.iter().map(|&(hash, _)| tag(hash)).collect();
        set.places = hashes.iter().map(|&(_, place)| place).collect();
        for (hash, place) in hashes {
            let bucket = set.bucket(hash);
            if let Some(start) = set.starts.get_mut(bucket + 1) {
                *start += 1;
            }
            let length = entries.folded(place).len();
            if set.lengths.len() <= length {
                set.lengths.resize(length + 1, false);
            }
            if let Some(seen) = set.lengths.get_mut(length) {
                *seen = true;
            }
        }
        let mut sum = 0;
        for start in &mut set.starts {
            sum += *start;
            *start = sum;
        }
        set.entries = entries;
        set
    }

    /// The bucket of a spread hash.
    fn bucket(&self, hash: u64) -> usize {
        let buckets = self.starts.len().saturating_sub(1) as u64;
        (((hash >> 32) * buckets) >> 32) as usize
    }

    /// The places of the entries that may have this hash.
    fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        let hash = spread(hash);
        let range = match self.starts.get(self.bucket(hash)..) {
            Some(&[start, end, ..]) => start as usize..end as usize,
            _ => 0..0,
        };
        let tags = self.tags.get(range.clone()).unwrap_or_default();
        let fits = move |(at, &of_entry): (usize, &u8)| {
            (of_entry == tag(hash)).then(|| self.places.get(range.start + at).copied())?
        };
        tags.iter().enumerate().filter_map(fits)
    }

    /// As [`SuffixSet::find_any`], counting only what `counts(address, entry)` accepts, both folded.
    fn find_any_where<'a>(
        &'a self,
        addresses: impl IntoIterator<Item = &'a Folded>,
        counts: impl Fn(&[u8], &[u8]) -> bool + Copy,
    ) -> Option<Hit> {
        // Unlike `min`, it asks for no first one: nearly always there is none.
        let least = |least: Option<u32>, place| Some(least.map_or(place, |least| least.min(place)));
        let first = self.matching(addresses, counts).fold(None, least);
        self.entries.hit(first?)
    }

    fn find_all_where<'a>(
        &'a self,
        addresses: impl IntoIterator<Item = &'a Folded>,
        most: usize,
        counts: impl Fn(&[u8], &[u8]) -> bool + Copy,
    ) -> Vec<Hit> {
        self.entries
            .first_hits(self.matching(addresses, counts), most)
    }

    /// The places of the entries that fit, in no order, one perhaps several times.
    fn matching<'a>(
        &'a self,
        addresses: impl IntoIterator<Item = &'a Folded>,
        counts: impl Fn(&[u8], &[u8]) -> bool + Copy,
    ) -> impl Iterator<Item = u32> {
        addresses.into_iter().flat_map(move |address| {
            let text = address.as_str().as_bytes();
            let hashes = self.suffix_hashes(text);
            let candidates = hashes.flat_map(|hash| self.candidates(hash));
            candidates.filter(move |&place| {
                let entry = self.entries.folded(place);
                text.ends_with(entry) && counts(text, entry)
            })
        })
    }

    /// The hashes of those suffixes of `text` that are as long as some entry, the shortest first.
    fn suffix_hashes(&self, text: &[u8]) -> impl Iterator<Item = u64> {
        let lengths = self.lengths.iter().skip(1);
        text.iter()
            .rev()
            .zip(lengths)
            .scan(0, |hash, (&octet, &wanted)| {
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

    /// Entries that differ when folded.
    pub fn distinct(&self) -> usize {
        self.0.distinct()
    }

    /// Octets on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
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
fn covers(address: &[u8], entry: &[u8]) -> bool {
    entry.len() == address.len() || memchr::memrchr(b'@', entry).is_none_or(|at| at == 0)
}

/// The same hash with its differences in all bits: entries that differ in their first octet only
/// have hashes side by side.
fn spread(hash: u64) -> u64 {
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Bits of a spread hash that have no part in its bucket.
fn tag(hash: u64) -> u8 {
    hash as u8
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
        assert!(set.suffix_hashes(long.as_str().as_bytes()).count() <= 4);
    }

    #[test]
    fn a_large_set_takes_little_more_than_its_text() {
        let mut text = String::new();
        let mut octets = 0;
        let patterns = (0..20_000).map(|number| {
            text.clear();
            write!(text, "@m{number}.example").unwrap();
            octets += text.len();
            let mut pattern = lines(&[&text]).remove(0);
            pattern.origin.line = 1 + number;
            pattern
        });
        let set = SuffixSet::build(patterns);
        let heap = set.heap_bytes();
        assert!(2 * heap <= 3 * octets, "{heap} octets for {octets} of text");
        let hit = named(set.find(&fold_address("a@m19999.example")));
        assert_eq!(hit, Some(("@m19999.example".to_owned(), 20_000)));
        assert!(set.find(&fold_address("a@m20000.example")).is_none());
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
