//! Which ids there are, without keeping them: two walks over many tell by their sums whether they saw the same.

use super::Id;
use super::id::LEN;

/// Room for all groups; some 500 are in use, as some characters share their five low bits.
const GROUPS: usize = 1024;

/// How many ids a group has, and the ids one over the other. Two sets of ids that are not the same have
/// no such sum in common but by a chance of 1 in 2^70.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Group {
    count: u64,
    ids: [u8; LEN],
}

/// The ids that one walk saw; where two walks differ it says so by groups of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Census(Vec<Group>);

impl Default for Census {
    fn default() -> Self {
        Self(vec![Group::default(); GROUPS])
    }
}

impl Census {
    pub(super) fn add(&mut self, id: Id) {
        let group = &mut self.0[group(id)];
        group.count += 1;
        for (sum, octet) in group.ids.iter_mut().zip(id.as_bytes()) {
            *sum ^= octet;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|group| group.count).sum()
    }

    /// Whether both saw the group of this id alike, and so the id itself.
    pub(super) fn agrees(&self, other: &Self, id: Id) -> bool {
        self.0[group(id)] == other.0[group(id)]
    }
}

/// By the last two characters, which are chance.
fn group(id: Id) -> usize {
    let [.., last, end] = *id.as_bytes();
    usize::from(last & 31) << 5 | usize::from(end & 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn census(ids: impl IntoIterator<Item = Id>) -> Census {
        let mut census = Census::default();
        ids.into_iter().for_each(|id| census.add(id));
        census
    }

    proptest! {
        #[test]
        fn what_only_one_of_two_walks_saw_is_where_they_differ(
            seen in prop::collection::vec((0..3_u8, 0..9_i64), 0..300),
        ) {
            let ids: Vec<_> = seen.iter().map(|(by, time)| (*by, Id::new(*time))).collect();
            let by = |walk: u8| ids.iter().filter(move |(by, _)| *by != walk).map(|(_, id)| *id);
            let (one, other) = (census(by(0)), census(by(1)));
            for (by, id) in &ids {
                prop_assert!(*by == 2 || !one.agrees(&other, *id));
            }
            prop_assert_eq!(one == other, ids.iter().all(|(by, _)| *by == 2));
            let sorted: BTreeSet<_> = by(0).collect();
            prop_assert_eq!(census(sorted.into_iter().rev()), one);
        }
    }
}
