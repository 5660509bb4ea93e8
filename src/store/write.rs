//! What one commit writes: the changes it was given, the keys that follow from them (the order of
//! time, the list of each mailbox), and the counts.

use std::borrow::Cow;

use super::batch::{tag, timed_key};
use super::committer::{old_handoff_expiry, outgoing_expiry};
use super::holders;
use super::record;
use super::totals::Totals;
use super::{OutgoingItem, OutgoingState, QuarantineEntry, seen};

/// The keys and values of one commit, in the order in which they are to be applied.
#[derive(Debug)]
pub(super) struct Write<'a> {
    /// The counts with this commit.
    pub(super) totals: Totals,
    /// `None` removes a key.
    pub(super) keys: Vec<(Cow<'a, [u8]>, Option<Cow<'a, [u8]>>)>,
    /// Whose outgoing items came (`true`) and went.
    pub(super) moved: Vec<(String, bool)>,
}

/// What of a value other keys and the counts follow from. A value that cannot be read has nothing.
enum Known {
    Held(QuarantineEntry),
    Outgoing(OutgoingItem),
    /// When it expires.
    Expiring(i64),
}

impl Known {
    fn of(key: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let value = value?;
        match *key.first()? {
            tag::QUARANTINE => record::decode(value).ok().map(Self::Held),
            tag::OUTGOING => record::decode(value).ok().map(Self::Outgoing),
            tag::SEEN => seen::decode(value).map(Self::Expiring),
            tag::OLD_HANDOFF => old_handoff_expiry(value).ok().map(Self::Expiring),
            _ => None,
        }
    }

    /// The key in the order of time that belongs to an entry. What a value that cannot be read leaves
    /// behind the sweep clears.
    fn timed_key(&self, key: &[u8]) -> Option<Vec<u8>> {
        let expiry = |time| Some(timed_key(tag::EXPIRY, time, key));
        match self {
            Self::Held(entry) => expiry(entry.expires_at),
            Self::Outgoing(item) => match item.state {
                OutgoingState::Ready => {
                    Some(timed_key(tag::DUE, item.next_attempt_at, key.get(1..)?))
                }
                OutgoingState::Sending | OutgoingState::Transmitting => None,
                OutgoingState::Held | OutgoingState::Dead => expiry(outgoing_expiry(item)?),
            },
            Self::Expiring(at) => expiry(*at),
        }
    }
}

impl<'a> Write<'a> {
    /// The commit after that of these counts.
    pub(super) fn after(totals: Totals) -> Self {
        let seq = totals.seq + 1;
        Self {
            totals: Totals { seq, ..totals },
            keys: Vec::new(),
            moved: Vec::new(),
        }
    }

    /// A key changes from `old` to `new`, and with it what follows from it. For a key of the orders
    /// of time, which only goes and only where nothing else names it, `old` is not asked for.
    pub(super) fn change(&mut self, key: &'a [u8], old: Option<&[u8]>, new: Option<&'a [u8]>) {
        let (was, is) = (Known::of(key, old), Known::of(key, new));
        self.count(key, (old, &was), (new, &is));
        let [timed_before, timed] =
            [&was, &is].map(|known| known.as_ref().and_then(|known| known.timed_key(key)));
        match (was, is) {
            // What a value that cannot be read leaves in the list the next opening clears.
            (None, Some(Known::Held(entry))) if old.is_none() => {
                let number = holders::encode_number(self.totals.seq);
                self.follow(holders::key(&entry), Some(number));
            }
            (Some(Known::Held(entry)), None) if new.is_none() => {
                self.follow(holders::key(&entry), None);
            }
            (None, Some(Known::Outgoing(item))) if old.is_none() => {
                self.moved.push((item.mailbox, true));
            }
            (Some(Known::Outgoing(item)), None) if new.is_none() => {
                self.moved.push((item.mailbox, false));
            }
            _ => {}
        }
        if let Some(timed) = timed_before {
            self.follow(timed, None);
        }
        if let Some(timed) = timed {
            self.follow(timed, Some(Vec::new()));
        }
        if !is_timed(key) {
            self.weigh(key, old, false);
            self.weigh(key, new, true);
        }
        self.keys.push((key.into(), new.map(Cow::Borrowed)));
    }

    /// The counts themselves, last.
    pub(super) fn end(&mut self) {
        let value = self.totals.encode();
        self.keys
            .push((Totals::KEY.to_vec().into(), Some(value.into())));
    }

    /// A key that follows from another; what has none goes, and was there.
    fn follow(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match &value {
            Some(value) => self.weigh(&key, Some(value), true),
            None => self.weigh(&key, Some(follower_value(&key)), false),
        }
        self.keys.push((key.into(), value.map(Cow::Owned)));
    }

    /// Keeps the octets in step.
    fn weigh(&mut self, key: &[u8], value: Option<&[u8]>, comes: bool) {
        let octets = value.map_or(0, |value| key.len() + value.len());
        let octets = u64::try_from(octets).unwrap_or(u64::MAX);
        self.totals.live = self.totals.live.map(|live| match comes {
            true => live.saturating_add(octets),
            false => live.saturating_sub(octets),
        });
    }

    /// Keeps the counts of entries in step.
    fn count(&mut self, key: &[u8], old: Value<'_>, new: Value<'_>) {
        let step = |number: &mut u64, old: u64, new: u64| {
            *number = number.saturating_add(new).saturating_sub(old);
        };
        let here = |value: Value<'_>| u64::from(value.0.is_some());
        let size = |value: Value<'_>| match value.1 {
            Some(Known::Held(entry)) => entry.size,
            _ => 0,
        };
        let totals = &mut self.totals;
        match key.first() {
            Some(&tag::QUARANTINE) => {
                step(&mut totals.quarantine, here(old), here(new));
                step(&mut totals.quarantine_bytes, size(old), size(new));
            }
            Some(&tag::OUTGOING) => step(&mut totals.outgoing, here(old), here(new)),
            _ => {}
        }
    }
}

/// A value and what is known of it.
type Value<'a> = (Option<&'a [u8]>, &'a Option<Known>);

/// Whether a change of this key has to know what is there. Facts are put once only.
pub(super) fn may_replace(key: &[u8], new: Option<&[u8]>) -> bool {
    let is_fresh = new.is_some() && key.first() == Some(&tag::FACTS);
    !is_fresh && !is_timed(key)
}

fn is_timed(key: &[u8]) -> bool {
    matches!(key.first(), Some(&(tag::EXPIRY | tag::DUE)))
}

/// A value as long as that of a key that follows from another.
fn follower_value(key: &[u8]) -> &'static [u8] {
    match is_timed(key) {
        true => &[],
        false => &[0; holders::NUMBER],
    }
}
