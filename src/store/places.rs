//! Where each hand-off lies in the index. Its key there begins with its time, so that new ones lie together:
//! by the hash alone each would lie on a page of its own, to be read from the disk for every mail. A
//! retry brings the hash only, and most mails are none, so all times are known here.

use std::collections::BTreeSet;

use super::HandoffKey;
use super::batch::{self, split_timed_key, tag, timed_key};

/// The key of a hand-off in the index; `created_at` in unix milliseconds.
pub(super) fn key(handoff: &HandoffKey, created_at: i64) -> Vec<u8> {
    let seconds = created_at.div_euclid(1000).min(u32::MAX.into());
    timed_key(tag::HANDOFF, seconds, handoff.as_bytes())
}

/// Where the keys of hand-offs end that were first seen before the second of `time`, unix milliseconds.
pub(super) fn end(time: i64) -> Vec<u8> {
    timed_key(tag::HANDOFF, time.div_euclid(1000), b"")
}

/// When the second of such a key is over, unix milliseconds.
pub(super) fn over_at(key: &[u8]) -> Option<i64> {
    let (seconds, _) = split_timed_key(key)?;
    seconds.checked_add(1)?.checked_mul(1000)
}

/// What is known of all hand-offs in the index.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// The first four octets of each one's hash and its unix second: 16 octets each.
    seconds: BTreeSet<(u32, u32)>,
    /// An older version left some under their hashes.
    pub(super) older: bool,
}

impl Places {
    /// Takes up a key of the index, if it is one of a hand-off.
    pub(super) fn add(&mut self, key: &[u8]) {
        self.seconds.extend(place(key));
    }

    /// Such a key is there no more. Another one of its second that begins alike is not found either: what goes
    /// has expired, and so has that.
    pub(super) fn remove(&mut self, key: &[u8]) {
        if let Some(place) = place(key) {
            self.seconds.remove(&place);
        }
    }

    /// Takes all of another.
    pub(super) fn append(&mut self, other: &mut Self) {
        self.seconds.append(&mut other.seconds);
        self.older |= other.older;
    }

    /// The keys under which a hand-off may lie, the newest first: none for nearly every new mail.
    pub(super) fn of(&self, handoff: &HandoffKey) -> Vec<Vec<u8>> {
        let start = start(handoff.as_bytes());
        let seconds = self.seconds.range((start, 0)..=(start, u32::MAX)).rev();
        let older = self
            .older
            .then(|| batch::key(tag::OLD_HANDOFF, handoff.as_bytes()));
        seconds
            .map(|(_, seconds)| timed_key(tag::HANDOFF, (*seconds).into(), handoff.as_bytes()))
            .chain(older)
            .collect()
    }
}

fn place(key: &[u8]) -> Option<(u32, u32)> {
    if key.first() != Some(&tag::HANDOFF) {
        return None;
    }
    let (seconds, hash) = split_timed_key(key)?;
    Some((start(hash.first_chunk()?), u32::try_from(seconds).ok()?))
}

fn start(hash: &[u8; 32]) -> u32 {
    let [a, b, c, d, ..] = *hash;
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few hashes, some with the same first octets.
    fn handoff(number: u8) -> HandoffKey {
        let text = format!("{:08x}{:056x}", number / 4, number % 4);
        text.parse().unwrap()
    }

    #[test]
    fn a_second_is_over_with_its_last_millisecond() {
        for (time, over) in [
            (0, 1000),
            (999, 1000),
            (1000, 2000),
            (1_790_000_000_123, 1_790_000_001_000),
        ] {
            let key = key(&handoff(1), time);
            assert_eq!(over_at(&key), Some(over));
            assert!(key >= end(time) && key < end(over), "{time}");
            assert!(key > end(over - 1001), "{time}");
        }
    }

    proptest! {
        #[test]
        fn what_is_there_is_found_newest_first(
            changes in prop::collection::vec((any::<bool>(), 0..16_u8, 0..5_000_i64), 0..60),
        ) {
            let (mut places, mut there) = (Places::default(), BTreeMap::new());
            for (comes, number, time) in changes {
                let key = key(&handoff(number), time);
                match comes {
                    true => {
                        places.add(&key);
                        there.insert(key, number);
                    }
                    false => {
                        let gone = there.extract_if(.., |other, _| over_at(other) == over_at(&key));
                        gone.for_each(|(key, _)| places.remove(&key));
                    }
                }
            }
            for number in 0..16 {
                let found = places.of(&handoff(number));
                prop_assert!(found.is_sorted_by(|left, right| left > right));
                let mut own = there.iter().filter(|(_, of)| **of == number);
                prop_assert!(own.all(|(key, _)| found.contains(key)));
            }
        }
    }
}
