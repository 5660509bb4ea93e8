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
        let entries = Entries::build(patterns, fold_address);
        let mut set = Self {
            table: HashMap::with_capacity_and_hasher(entries.len(), FixedState::default()),
            base: RandomState::new().hash_one(0_u8) % MODULUS,
            ..Self::default()
        };
        for index in 0..entries.len() as u32 {
            set.insert(index, &entries);
        }
        set.entries = entries;
        set
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first entry in file order that `address` ends with.
    pub fn find(&self, address: &Folded) -> Option<Hit> {
        self.find_any([address])
    }

    /// The first entry in file order that any of the addresses ends with.
    pub fn find_any<'a>(&self, addresses: impl IntoIterator<Item = &'a Folded>) -> Option<Hit> {
        self.find_any_where(addresses, |_, _| true)
    }

    /// Octets on the heap, for a cache's books.
    pub fn heap_bytes(&self) -> usize {
        let slot = size_of::<(u64, u32)>() + 1;
        self.entries.heap_bytes() + self.lengths.len() + slot * self.table.capacity() * 8 / 7
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
        &self,
        addresses: impl IntoIterator<Item = &'a Folded>,
        counts: impl Fn(&str, &str) -> bool,
    ) -> Option<Hit> {
        let mut first = None;
        for address in addresses {
            let text = address.as_str();
            let table = self
                .suffix_hashes(text)
                .filter_map(|hash| self.table.get(&hash));
            let best = table
                .chain(&self.collided)
                .copied()
                .filter(|&index| {
                    let entry = self.entries.folded(index);
                    text.ends_with(entry) && counts(text, entry)
                })
                .min();
            first = first.into_iter().chain(best).min();
        }
        self.entries.hit(first?)
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

    /// The first entry in file order that covers `address`.
    pub fn find(&self, address: &Folded) -> Option<Hit> {
        self.find_any([address])
    }

    /// The first entry in file order that covers any of the addresses.
    pub fn find_any<'a>(&self, addresses: impl IntoIterator<Item = &'a Folded>) -> Option<Hit> {
        self.0.find_any_where(addresses, |address, entry| {
            entry.len() == address.len() || entry.rfind('@').is_none_or(|at| at == 0)
        })
    }

    /// Octets on the heap, for a cache's books.
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

/// The Mersenne prime 2^61 - 1: with a base drawn at random for each set, two texts of n octets
/// have the same hash with a chance of n in 2^61, whoever chose them.
const MODULUS: u64 = (1 << 61) - 1;
