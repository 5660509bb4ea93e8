//! Names of mails, entries and outgoing items: 26 characters, sortable by time, never a path.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Crockford's alphabet in lower case: no `i`, `l`, `o`, `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of an id.
pub(super) const LEN: usize = 26;
/// The largest time that fits into 48 bits, in milliseconds (the year 10889).
const MAX_TIME: u64 = (1 << 48) - 1;
/// An id may be this much older than the `received_at` of what it names, milliseconds.
const SLACK: i64 = 3_600_000;

/// A unique id: 48 bits of time in milliseconds, 80 random bits, as 26 lower-case characters whose
/// order is the order of time. Parsing accepts exactly what [`Id::new`] makes, so an id that came
/// from a command line can be used in a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id([u8; LEN]);

/// The text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id (26 characters of 0-9 and a-z without i, l, o, u)")]
pub struct IdError;

impl Id {
    /// A new id for a mail of this wall time (unix milliseconds; a time before 1970 counts as 1970).
    pub fn new(now: i64) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let state = RandomState::new();
        let seed = (now, count);
        let high = u128::from(state.hash_one((seed, 0_u8)));
        let low = u128::from(state.hash_one((seed, 1_u8)));
        Self::encode(now, (high << 64) | low)
    }

    /// The least id of this wall time, for ranges.
    pub fn floor(time: i64) -> Self {
        Self::encode(time, 0)
    }

    /// Where a range starts that holds everything received since then.
    pub(crate) fn since(received_at: Option<i64>) -> Self {
        Self::floor(received_at.unwrap_or(0).saturating_sub(SLACK))
    }

    /// The time it was made with, in unix milliseconds.
    pub fn millis(self) -> i64 {
        let time = self.0[..10].iter().fold(0_i64, |sum, byte| {
            let digit = ALPHABET.iter().position(|c| c == byte).unwrap_or(0);
            (sum << 5) | i64::try_from(digit).unwrap_or(0)
        });
        time.min(i64::try_from(MAX_TIME).unwrap_or(i64::MAX))
    }

    /// The characters.
    pub(super) fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// The 26 characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn encode(time: i64, random: u128) -> Self {
        let time = u64::try_from(time).unwrap_or(0).min(MAX_TIME);
        let bits = (u128::from(time) << 80) | (random & ((1 << 80) - 1));
        Self(std::array::from_fn(|at| {
            let shift = 5 * (LEN - 1 - at);
            let digit = usize::try_from((bits >> shift) & 31).unwrap_or(0);
            ALPHABET[digit]
        }))
    }
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes: [u8; LEN] = text.as_bytes().try_into().map_err(|_| IdError)?;
        let fits = bytes[0] <= b'7';
        if fits && bytes.iter().all(|byte| ALPHABET.contains(byte)) {
            Ok(Self(bytes))
        } else {
            Err(IdError)
        }
    }
}

impl TryFrom<String> for Id {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parsing_refuses_whatever_could_be_a_path() {
        let good = Id::new(1_700_000_000_000).to_string();
        let table = [
            (good.as_str(), true),
            ("01arz3ndektsv4rrffq69g5fav", true),
            ("7zzzzzzzzzzzzzzzzzzzzzzzzz", true),
            ("8zzzzzzzzzzzzzzzzzzzzzzzzz", false),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV", false),
            ("", false),
            (".", false),
            ("../../../../../../etc/pass", false),
            ("/etc/passwd_______________", false),
            ("01arz3ndektsv4rrffq69g5fa/", false),
            ("01arz3ndektsv4rrffq69g5fa\0", false),
            ("01arz3ndektsv4rrffq69g5faé", false),
            ("01arz3ndektsv4rrffq69g5fail", false),
            (" 1arz3ndektsv4rrffq69g5fav", false),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Id>().is_ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn ids_are_unique_and_sort_by_time() {
        let ids: Vec<Id> = (0..10_000).map(|_| Id::new(1)).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        let later = Id::new(2);
        assert!(ids.iter().all(|id| *id < later && *id >= Id::floor(1)));
        assert!(Id::new(-5) < Id::new(1));
        assert_eq!(Id::new(i64::MAX).millis(), (1 << 48) - 1);
    }

    proptest! {
        #[test]
        fn text_and_time_come_back(time in 0_i64..(1 << 48)) {
            let id = Id::new(time);
            prop_assert_eq!(id.to_string().parse::<Id>(), Ok(id));
            prop_assert_eq!(id.millis(), time);
            prop_assert!(Id::floor(time) <= id);
        }

        #[test]
        fn any_text_parses_to_itself_or_not_at_all(text in ".{0,40}") {
            if let Ok(id) = text.parse::<Id>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
