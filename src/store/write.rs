//! What one commit writes: the changes it was given, the keys that follow from them (the order of
//! time, the list of each mailbox), and the counts.

use std::borrow::Cow;

use super::batch::{tag, timed_key};
use super::committer::{handoff_expiry, outgoing_expiry};
use super::holders;
use super::index::Totals;
use super::record;
use super::{OutgoingItem, OutgoingState, QuarantineEntry, seen};

/// The keys and values of one commit, in the order in which they are to be applied.
#[derive(Debug)]
pub(super) struct Write<'a> {
    /// The counts with this commit.
    pub(super) totals: Totals,
    /// `None` removes a key.
    pub(super) keys: Vec<(Cow<'a, [u8]>, Option<Cow<'a, [u8]>>)>,
}

impl<'a> Write<'a> {
    /// The commit after that of these counts.
    pub(super) fn after(totals: Totals) -> Self {
        let seq = totals.seq + 1;
        Self {
            totals: Totals { seq, ..totals },
            keys: Vec::new(),
        }
    }

    /// A key changes from `old` to `new`, and with it what follows from it. For a key of the orders
    /// of time, which only goes and only where nothing else names it, `old` is not asked for.
    pub(super) fn change(&mut self, key: &'a [u8], old: Option<&[u8]>, new: Option<&'a [u8]>) {
        self.count(key, old, new);
        if let Some((listed, here)) = listed(key, old, new) {
            let number = here.then(|| holders::encode_number(self.totals.seq));
            self.follow(listed, number);
        }
        if let Some(timed) = timed_key_of(key, old) {
            self.follow(timed, None);
        }
        if let Some(timed) = timed_key_of(key, new) {
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
    fn count(&mut self, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        let step = |number: &mut u64, old: u64, new: u64| {
            *number = number.saturating_add(new).saturating_sub(old);
        };
        let here = |value: Option<&[u8]>| u64::from(value.is_some());
        let size = |value: Option<&[u8]>| {
            let entry = value.and_then(|value| record::decode::<QuarantineEntry>(value).ok());
            entry.map_or(0, |entry| entry.size)
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

/// The key in its mailbox's list of an entry that came (`true`) or went with a change. A value that
/// cannot be read has none; what it leaves behind the next opening clears.
fn listed(key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) -> Option<(Vec<u8>, bool)> {
    if key.first() != Some(&tag::QUARANTINE) {
        return None;
    }
    match (old, new) {
        (None, Some(value)) => Some((holders::key_of(value)?, true)),
        (Some(value), None) => Some((holders::key_of(value)?, false)),
        _ => None,
    }
}

/// Whose outgoing item came (`true`) or went with a change.
pub(super) fn outgoing_moved(
    key: &[u8],
    old: Option<&[u8]>,
    new: Option<&[u8]>,
) -> Option<(String, bool)> {
    let value = match (key.first(), old, new) {
        (Some(&tag::OUTGOING), Some(value), None) | (Some(&tag::OUTGOING), None, Some(value)) => {
            value
        }
        _ => return None,
    };
    let item = record::decode::<OutgoingItem>(value).ok()?;
    Some((item.mailbox, new.is_some()))
}

/// The key in the order of time that belongs to an entry. A value that cannot be read has none;
/// what it leaves behind the sweep clears.
fn timed_key_of(key: &[u8], value: Option<&[u8]>) -> Option<Vec<u8>> {
    let value = value?;
    let (&kind, name) = key.split_first()?;
    let expiry = |time| Some(timed_key(tag::EXPIRY, time, key));
    match kind {
        tag::QUARANTINE => expiry(record::decode::<QuarantineEntry>(value).ok()?.expires_at),
        tag::OUTGOING => {
            let item = record::decode::<OutgoingItem>(value).ok()?;
            match item.state {
                OutgoingState::Ready => Some(timed_key(tag::DUE, item.next_attempt_at, name)),
                OutgoingState::Sending | OutgoingState::Transmitting => None,
                OutgoingState::Held | OutgoingState::Dead => expiry(outgoing_expiry(&item)?),
            }
        }
        tag::HANDOFF => expiry(handoff_expiry(&record::decode(value).ok()?)),
        tag::SEEN => expiry(seen::decode(value)?),
        _ => None,
    }
}
