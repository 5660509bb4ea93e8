//! One change of the index, all or nothing: what a hand-off, a release or a sweep commits.

use std::sync::Arc;

use serde::Serialize;

use super::record::{self, Handoff, OutgoingItem, QuarantineEntry, Record, WhyRecord};
use super::seen::{self, Claim, SeenKey};
use super::{FactsRecord, HandoffKey, Id, InflightGuard, StoreError, facts, places};

/// First octet of a key: what lies under it. All kinds share sled's default tree, because one
/// `sled::Batch` is atomic over one tree only.
pub(crate) mod tag {
    /// Quarantine entry: id.
    pub(crate) const QUARANTINE: u8 = b'Q';
    /// Outgoing item: id.
    pub(crate) const OUTGOING: u8 = b'O';
    /// Why-record: id.
    pub(crate) const HISTORY: u8 = b'H';
    /// Facts of a decision: mailbox, id.
    pub(crate) const FACTS: u8 = b'F';
    /// Hand-off: time, key.
    pub(crate) const HANDOFF: u8 = b'A';
    /// Hand-off as older versions put it: key.
    pub(crate) const OLD_HANDOFF: u8 = b'K';
    /// Seen mark: key.
    pub(crate) const SEEN: u8 = b'S';
    /// Outgoing items in the order in which they are due: time, id.
    pub(crate) const DUE: u8 = b'D';
    /// What expires at its time, in that order: time, key.
    pub(crate) const EXPIRY: u8 = b'E';
    /// Quarantine entries of each mailbox: mailbox, id. Mailbox alone: how far its owner was told.
    pub(crate) const HOLDER: u8 = b'B';
    /// The last round of daily notices.
    pub(crate) const ROUND: u8 = b'N';
    /// Count of commits and entries, against silent loss (RELIABILITY F3).
    pub(crate) const META: u8 = b'M';
}

/// A key and its new value, or `None` to remove it.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// Changes that become durable together or not at all. Of several changes of one entry the last
/// counts. Committed with [`super::Store::commit`]; dropped, it does nothing and its claims are free.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) changes: Vec<Change>,
    pub(crate) claims: Vec<Claim>,
    /// The decisions in it, for those who follow.
    pub(crate) decisions: Vec<Id>,
    /// Until its outcome is known no retry of these hand-offs goes on, even where nobody waits for
    /// it any more.
    _under_way: Option<Arc<InflightGuard>>,
    error: Option<StoreError>,
}

impl Batch {
    /// Nothing to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing was put into it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.error.is_none()
    }

    /// Adds or replaces a quarantine entry. Its file must be written before.
    pub fn put_quarantine(&mut self, entry: &QuarantineEntry) -> &mut Self {
        self.put(tag::QUARANTINE, entry.id.as_str().as_bytes(), entry)
    }

    /// Removes a quarantine entry. Its file goes after the commit ([`super::Store::remove_mail`]).
    pub fn remove_quarantine(&mut self, id: Id) -> &mut Self {
        self.remove(tag::QUARANTINE, id.as_str().as_bytes())
    }

    /// Adds or replaces an outgoing item. Its file must be written before.
    pub fn put_outgoing(&mut self, item: &OutgoingItem) -> &mut Self {
        self.put(tag::OUTGOING, item.id.as_str().as_bytes(), item)
    }

    /// Removes an outgoing item. Its file goes after the commit ([`super::Store::remove_mail`]).
    pub fn remove_outgoing(&mut self, id: Id) -> &mut Self {
        self.remove(tag::OUTGOING, id.as_str().as_bytes())
    }

    /// Uses a claim up: its sender had his answer until the claim's expiry.
    pub fn mark_seen(&mut self, claim: Claim) -> &mut Self {
        self.put_seen(claim.key, claim.expires_at);
        self.claims.push(claim);
        self
    }

    /// Adds or replaces a why-record.
    pub fn put_why(&mut self, why: &WhyRecord) -> &mut Self {
        self.put(tag::HISTORY, why.id.as_str().as_bytes(), why)
    }

    /// Adds a new decision: its why-record, the facts that it was made on, and the news of it.
    pub fn put_decision<B: Serialize>(
        &mut self,
        why: &WhyRecord<B>,
        facts: &FactsRecord,
    ) -> &mut Self {
        self.decisions.push(why.id);
        let records = [
            (facts::key(&why.mailbox, facts.id), record::encode(facts)),
            (
                key(tag::HISTORY, why.id.as_str().as_bytes()),
                record::encode_why(why),
            ),
        ];
        for (key, value) in records {
            match value {
                Ok(value) => self.changes.push((key, Some(value))),
                Err(error) => self.error = Some(error),
            }
        }
        self
    }

    /// Adds or replaces a hand-off.
    pub fn put_handoff(&mut self, handoff_key: &HandoffKey, handoff: &Handoff) -> &mut Self {
        self.put_at(places::key(handoff_key, handoff.created_at), handoff)
    }

    /// Keeps hand-offs under way until the outcome of this batch is known.
    pub fn keep_under_way(&mut self, guard: Arc<InflightGuard>) -> &mut Self {
        self._under_way = Some(guard);
        self
    }

    pub(crate) fn put_seen(&mut self, seen: SeenKey, expires_at: i64) {
        let value = seen::encode(expires_at);
        self.changes.push((key(tag::SEEN, &seen.0), Some(value)));
    }

    /// What it makes of a key, where it changes that.
    pub(crate) fn value_of(&self, key: &[u8]) -> Option<&[u8]> {
        let mut changes = self.changes.iter().rev();
        let (_, value) = changes.find(|(changed, _)| changed == key)?;
        value.as_deref()
    }

    /// Adds all of another one, unless a record of that did not fit.
    pub(crate) fn append(&mut self, other: Self) -> Result<(), StoreError> {
        other.check()?;
        self.changes.extend(other.changes);
        Ok(())
    }

    /// Removes a key as it lies in the index.
    pub(crate) fn remove_key(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }

    /// The error of a record that did not fit, which fails the whole batch.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    fn put<R: Record>(&mut self, tag: u8, name: &[u8], record: &R) -> &mut Self {
        self.put_at(key(tag, name), record)
    }

    fn put_at<R: Record>(&mut self, key: Vec<u8>, record: &R) -> &mut Self {
        match record::encode(record) {
            Ok(value) => self.changes.push((key, Some(value))),
            Err(error) => self.error = Some(error),
        }
        self
    }

    fn remove(&mut self, tag: u8, name: &[u8]) -> &mut Self {
        self.changes.push((key(tag, name), None));
        self
    }
}

/// Tag and name.
pub(crate) fn key(tag: u8, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(tag);
    key.extend_from_slice(name);
    key
}

/// Tag, time (a negative one as 0) and name: sorts by time.
pub(crate) fn timed_key(tag: u8, time: i64, name: &[u8]) -> Vec<u8> {
    let mut timed = Vec::with_capacity(9 + name.len());
    timed.push(tag);
    timed.extend_from_slice(&u64::try_from(time).unwrap_or(0).to_be_bytes());
    timed.extend_from_slice(name);
    timed
}

/// Time and name of such a key.
pub(crate) fn split_timed_key(timed: &[u8]) -> Option<(i64, &[u8])> {
    let (time, name) = timed.get(1..)?.split_first_chunk::<8>()?;
    Some((i64::try_from(u64::from_be_bytes(*time)).ok()?, name))
}
