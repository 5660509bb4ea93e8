//! Outgoing mail: what is due, and its way from ready over sending to gone.
//!
//! That a mail is being sent is known in memory: a crash makes it ready again, and what goes out at most
//! once is recorded durably before its data (RELIABILITY C10). Nobody else moves an item in hand.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use super::batch::{split_timed_key, tag, timed_key};
use super::{
    Batch, EffectState, Id, OutgoingItem, OutgoingKind, OutgoingState, Shelf, Store, StoreError,
};
use crate::failpoint::{Point, reach};

impl Store {
    /// One outgoing item.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn outgoing_get(&self, id: Id) -> Result<Option<OutgoingItem>, StoreError> {
        // Asked first: a try that ends in between has written its result by then.
        let is_in_hand = self.in_hand().contains(&id);
        let name = id.as_str().as_bytes();
        let item = self.0.index.get_record(tag::OUTGOING, name)?;
        Ok(item.map(|item| as_it_is(item, is_in_hand)))
    }

    pub(super) fn in_hand(&self) -> MutexGuard<'_, BTreeSet<Id>> {
        self.0
            .in_hand
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// All outgoing items, in the order of time, read as they are asked for. An item that cannot be
    /// read is an error in its place.
    pub fn outgoing_list(
        &self,
    ) -> impl Iterator<Item = Result<OutgoingItem, StoreError>> + Send + use<> {
        let store = self.clone();
        let items = self.0.index.records(tag::OUTGOING, b"");
        items.map(move |item| {
            let item: OutgoingItem = item?;
            let is_in_hand = store.in_hand().contains(&item.id);
            Ok(as_it_is(item, is_in_hand))
        })
    }

    /// How many outgoing items there are, in whatever state.
    pub fn outgoing_count(&self) -> u64 {
        self.0.index.outgoing_count()
    }

    /// How many of them are a mailbox's, named by its key.
    pub fn outgoing_count_of(&self, mailbox: &str) -> u64 {
        self.0.index.outgoing_count_of(mailbox)
    }

    /// Up to `limit` ready items whose `next_attempt_at` has come, the longest due first; none in hand.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn outgoing_due(&self, now: i64, limit: usize) -> Result<Vec<OutgoingItem>, StoreError> {
        let end = timed_key(tag::DUE, now.saturating_add(1), b"");
        let in_hand = self.in_hand().clone();
        let mut due = Vec::new();
        let mut stale = Batch::new();
        for pair in self.0.index.scan(vec![tag::DUE], end) {
            if due.len() >= limit {
                break;
            }
            let (key, _) = pair?;
            let (at, name) = split_timed_key(&key).unwrap_or_default();
            if in_hand.iter().any(|id| id.as_str().as_bytes() == name) {
                continue;
            }
            match self.0.index.get_record::<OutgoingItem>(tag::OUTGOING, name) {
                Ok(Some(item))
                    if item.state == OutgoingState::Ready && item.next_attempt_at == at =>
                {
                    due.push(item);
                }
                Ok(_) => stale.remove_key(key.to_vec()),
                Err(StoreError::Damaged(what)) => {
                    // Its file stays, and `store verify` names it; the rest of the queue goes on.
                    tracing::error!(
                        what,
                        "a record of the outgoing queue is damaged and set aside"
                    );
                    stale.remove_key(key.to_vec());
                }
                Err(error) => return Err(error),
            }
        }
        if !stale.is_empty() {
            self.submit(stale);
        }
        Ok(due)
    }

    /// When the next ready item that is not in hand is due; `None` when nothing waits.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn next_due_at(&self) -> Result<Option<i64>, StoreError> {
        let in_hand = self.in_hand().clone();
        let waits = |key: &[u8]| {
            let (at, name) = split_timed_key(key)?;
            let known = in_hand.iter().any(|id| id.as_str().as_bytes() == name);
            (!known).then_some(at)
        };
        let keys = self.0.index.scan(vec![tag::DUE], vec![tag::DUE + 1]);
        for pair in keys {
            if let Some(at) = waits(&pair?.0) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Ready → sending, one try more: it is in hand until [`Store::outgoing_settle`] or
    /// [`Store::release_end`], or a restart.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is not ready.
    pub fn outgoing_begin(&self, id: Id) -> Result<OutgoingItem, StoreError> {
        let _moving = self.move_lock(id);
        self.0.index.believed()?;
        let item = self.outgoing_item(id)?;
        if item.state != OutgoingState::Ready {
            return Err(StoreError::Conflict(format!(
                "{id} is {}",
                item.state.as_str()
            )));
        }
        self.in_hand().insert(id);
        Ok(sending(item))
    }

    /// [`Store::outgoing_begin`] of up to `limit` items that are due, the longest due first.
    ///
    /// # Errors
    /// [`StoreError::Full`] where no result could be recorded; [`StoreError::Damaged`] and kin.
    pub fn outgoing_take(&self, now: i64, limit: usize) -> Result<Vec<OutgoingItem>, StoreError> {
        let _moving = self.move_locks();
        self.0.index.believed()?;
        let mut due = self.outgoing_due(now, limit)?;
        if !due.is_empty() && !self.can_record() {
            return Err(StoreError::Full(self.0.settings.path.clone()));
        }
        due.retain(|item| {
            reach(Point::CourierDue);
            self.in_hand().insert(item.id)
        });
        Ok(due.into_iter().map(sending).collect())
    }

    /// Sending → transmitting, durably: the next thing is its data, and after a crash from here on
    /// it is not sent again.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; as [`Store::commit`].
    pub fn outgoing_transmit(&self, id: Id) -> Result<(), StoreError> {
        let _moving = self.move_lock(id);
        let mut item = self.outgoing_item(id)?;
        item.state = OutgoingState::Transmitting;
        self.put_outgoing(&item)
    }

    /// The end of a try, for each item in hand: ready again at `next_attempt_at`, or dead until then,
    /// with the courier's changes (open recipients, `last_reply`, `fallback`, `state`); or done with it:
    /// item and file go. In the same commit its why-record says how the effect stands, with the last
    /// reply and the open recipients. It waits for the next commit, or a moment, so that many share a
    /// sync.
    ///
    /// # Errors
    /// One result each: as [`Store::commit`]; [`StoreError::NotFound`] when it was dropped meanwhile.
    pub fn outgoing_settle(
        &self,
        tried: &[(OutgoingItem, EffectState)],
    ) -> Vec<Result<(), StoreError>> {
        let telling = self.0.telling.all();
        let mut batch = Batch::new();
        let mut put = |(item, effect): &(OutgoingItem, EffectState)| {
            self.outgoing_item(item.id)?;
            let mut end = Batch::new();
            match effect.stays() {
                true => end.put_outgoing(item),
                false => end.remove_outgoing(item.id),
            };
            batch.append(end)?;
            self.tell_of_item(&mut batch, item, *effect);
            Ok(())
        };
        let mut results: Vec<_> = tried.iter().map(&mut put).collect();
        let committed = match batch.is_empty() {
            true => Ok(()),
            false => self.0.index.commit_patiently(batch),
        };
        drop(telling);
        for (result, (item, effect)) in results.iter_mut().zip(tried) {
            if result.is_ok() {
                result.clone_from(&committed);
            }
            if matches!(result, Ok(()) | Err(StoreError::NotFound(_))) {
                self.in_hand().remove(&item.id);
            }
            if result.is_ok() && !effect.stays() {
                reach(Point::OutgoingRemoved);
                self.leave_outgoing_file(item.id);
            }
        }
        results
    }

    /// `queue drop`: gives an item up for good; a release leaves its mail held.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] for one that is being sent; as [`Store::commit`].
    pub fn outgoing_drop(&self, id: Id) -> Result<(), StoreError> {
        let _moving = self.move_lock(id);
        let item = self.outgoing_item(id)?;
        if item.state.is_under_way() {
            return Err(StoreError::Conflict(format!("{id} is being sent")));
        }
        if item.kind == OutgoingKind::Release {
            return self.release_over(id, false, None);
        }
        let ended = self.outgoing_settle(&[(item, EffectState::Dropped)]);
        ended.into_iter().collect()
    }

    /// A notice or reply goes out at most once: what a crash caught on its way is not sent again
    /// (RELIABILITY C10).
    pub(super) fn drop_in_doubt(&self, items: &[OutgoingItem]) -> Result<(), StoreError> {
        for item in items {
            tracing::warn!(id = %item.id, kind = item.kind.as_str(), "dropped: it may have been sent");
        }
        let items: Vec<_> = items
            .iter()
            .map(|item| (item.clone(), EffectState::InDoubt))
            .collect();
        self.outgoing_settle(&items).into_iter().collect()
    }

    /// Removes the file of an item that has ended. What cannot be removed is nobody's, and goes in
    /// time: an error here would have the end recorded again and again.
    pub(super) fn leave_outgoing_file(&self, id: Id) {
        if let Err(error) = self.remove_mail(Shelf::Outgoing, id) {
            tracing::warn!(%id, %error, "the file of an ended item stays behind");
        }
    }

    /// `queue retry`: due at `now`; `None` for all. Dead items come back to life, held ones do not.
    /// How many.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] for one that is held or being sent.
    pub fn outgoing_retry(&self, id: Option<Id>, now: i64) -> Result<u64, StoreError> {
        let Some(id) = id else {
            return self.outgoing_retry_all(now);
        };
        let _moving = self.move_lock(id);
        let item = self.outgoing_item(id)?;
        if self.retry(item, now)? {
            Ok(1)
        } else {
            Err(StoreError::Conflict(format!("{id} is held or being sent")))
        }
    }

    fn outgoing_retry_all(&self, now: i64) -> Result<u64, StoreError> {
        let mut count = 0;
        for item in self.outgoing_list() {
            let id = item?.id;
            let _moving = self.move_lock(id);
            if let Some(item) = self.outgoing_get(id)? {
                count += u64::from(self.retry(item, now)?);
            }
        }
        Ok(count)
    }

    /// Whether the item can be tried again.
    fn retry(&self, mut item: OutgoingItem, now: i64) -> Result<bool, StoreError> {
        match item.state {
            OutgoingState::Held | OutgoingState::Sending | OutgoingState::Transmitting => {
                return Ok(false);
            }
            OutgoingState::Ready | OutgoingState::Dead => {}
        }
        item.state = OutgoingState::Ready;
        item.next_attempt_at = now;
        self.put_outgoing(&item)?;
        Ok(true)
    }

    fn outgoing_item(&self, id: Id) -> Result<OutgoingItem, StoreError> {
        let item = self.outgoing_get(id)?;
        item.ok_or_else(|| StoreError::NotFound(id.to_string()))
    }

    fn put_outgoing(&self, item: &OutgoingItem) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put_outgoing(item);
        self.commit_blocking(batch)
    }
}

/// A stored item, or one that is in hand as that.
fn as_it_is(item: OutgoingItem, is_in_hand: bool) -> OutgoingItem {
    match is_in_hand && item.state == OutgoingState::Ready {
        true => sending(item),
        false => item,
    }
}

/// An item as it is while it is in hand.
fn sending(item: OutgoingItem) -> OutgoingItem {
    OutgoingItem {
        state: OutgoingState::Sending,
        attempts: item.attempts.saturating_add(1),
        ..item
    }
}
