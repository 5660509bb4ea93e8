//! What the index counts.

use super::batch::tag;
use super::record::checksum;

/// Kept in every commit; other counts than what is there are lost pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Commits so far.
    pub(crate) seq: u64,
    /// Quarantine entries.
    pub(crate) quarantine: u64,
    /// Sum of their sizes.
    pub(crate) quarantine_bytes: u64,
    /// Outgoing items.
    pub(crate) outgoing: u64,
    /// Octets of all keys and values but these counts'; `None` in an index of an older version.
    pub(crate) live: Option<u64>,
}

impl Totals {
    /// The key under which they lie.
    pub(crate) const KEY: [u8; 1] = [tag::META];

    pub(crate) fn encode(&self) -> Vec<u8> {
        let numbers = [
            self.seq,
            self.quarantine,
            self.quarantine_bytes,
            self.outgoing,
        ];
        let numbers: Vec<u8> = numbers
            .into_iter()
            .chain(self.live)
            .flat_map(u64::to_be_bytes)
            .collect();
        let mut value = checksum(&numbers).to_vec();
        value.extend_from_slice(&numbers);
        value
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (sum, numbers) = value.split_first_chunk::<4>()?;
        if *sum != checksum(numbers) || !matches!(numbers.len(), 32 | 40) {
            return None;
        }
        let mut words = numbers.chunks_exact(8).map(|word| {
            word.iter()
                .fold(0_u64, |number, byte| (number << 8) | u64::from(*byte))
        });
        Some(Self {
            seq: words.next()?,
            quarantine: words.next()?,
            quarantine_bytes: words.next()?,
            outgoing: words.next()?,
            live: words.next(),
        })
    }
}
