//! Outgoing mail: what is due, and its way from ready over sending to gone.

use super::batch::{split_timed_key, tag, timed_key};
use super::{Batch, EffectState, Id, OutgoingItem, OutgoingState, Shelf, Store, StoreError};
use crate::failpoint::{Point, reach};

impl Store {
    /// One outgoing item.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn outgoing_get(&self, id: Id) -> Result<Option<OutgoingItem>, StoreError> {
        self.0
            .index
            .get_record(tag::OUTGOING, id.as_str().as_bytes())
    }

    /// All outgoing items, in the order of time, read as they are asked for. An item that cannot be
    /// read is an error in its place.
    pub fn outgoing_list(
        &self,
    ) -> impl Iterator<Item = Result<OutgoingItem, StoreError>> + Send + use<> {
        self.0.index.records(tag::OUTGOING, b"")
    }

    /// How many outgoing items there are, in whatever state.
    pub fn outgoing_count(&self) -> u64 {
        self.0.index.outgoing_count()
    }

    /// How many of them are a mailbox's, named by its key.
    pub fn outgoing_count_of(&self, mailbox: &str) -> u64 {
        self.0.index.outgoing_count_of(mailbox)
    }

    /// Up to `limit` ready items whose `next_attempt_at` has come, the longest due first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn outgoing_due(&self, now: i64, limit: usize) -> Result<Vec<OutgoingItem>, StoreError> {
        let end = timed_key(tag::DUE, now.saturating_add(1), b"");
        let mut due = Vec::new();
        let mut stale = Batch::new();
        for pair in self.0.index.scan(vec![tag::DUE], end) {
            if due.len() >= limit {
                break;
            }
            let (key, _) = pair?;
            let name = split_timed_key(&key).map_or(b"".as_slice(), |(_, name)| name);
            match self.0.index.get_record::<OutgoingItem>(tag::OUTGOING, name) {
                Ok(Some(item)) => due.push(item),
                Ok(None) => stale.remove_key(key.to_vec()),
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

    /// When the next ready item is due; `None` when nothing waits.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn next_due_at(&self) -> Result<Option<i64>, StoreError> {
        self.0.index.first_time(tag::DUE)
    }

    /// Ready → sending, one try more. Durable before the first octet is sent, so that a notice goes
    /// out at most once.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is not ready.
    pub fn outgoing_begin(&self, id: Id) -> Result<OutgoingItem, StoreError> {
        let _moving = self.move_lock(id);
        let mut item = self.outgoing_item(id)?;
        if item.state != OutgoingState::Ready {
            return Err(StoreError::Conflict(format!(
                "{id} is {}",
                item.state.as_str()
            )));
        }
        item.state = OutgoingState::Sending;
        item.attempts = item.attempts.saturating_add(1);
        self.put_outgoing(&item)?;
        Ok(item)
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

    /// Sending or transmitting → ready again at `item.next_attempt_at`, or dead until then: stores the courier's
    /// changed `item` (open recipients, `last_reply`, `fallback`, `state`), and in its why-record how
    /// the effect stands.
    ///
    /// # Errors
    /// As [`Store::commit`]; [`StoreError::NotFound`] when it was dropped meanwhile.
    pub fn outgoing_update(
        &self,
        item: &OutgoingItem,
        effect: EffectState,
    ) -> Result<(), StoreError> {
        let _moving = self.move_lock(item.id);
        self.outgoing_item(item.id)?;
        let mut batch = Batch::new();
        batch.put_outgoing(item);
        let _telling = self.tell_of_item(&mut batch, item, effect);
        self.commit_blocking(batch)
    }

    /// Done with it, sent or dropped: removes item and file, and in the same commit its why-record
    /// says what became of the effect, with the last reply and the open recipients of `item`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn outgoing_remove(
        &self,
        item: &OutgoingItem,
        effect: EffectState,
    ) -> Result<(), StoreError> {
        let id = item.id;
        let _moving = self.move_lock(id);
        self.outgoing_item(id)?;
        let mut batch = Batch::new();
        batch.remove_outgoing(id);
        let _telling = self.tell_of_item(&mut batch, item, effect);
        self.commit_blocking(batch)?;
        reach(Point::OutgoingRemoved);
        self.leave_outgoing_file(id);
        Ok(())
    }

    /// A notice or reply goes out at most once: what a crash caught on its way is not sent again
    /// (RELIABILITY C10).
    pub(super) fn drop_in_doubt(&self, items: &[OutgoingItem]) -> Result<(), StoreError> {
        items.iter().try_for_each(|item| {
            tracing::warn!(id = %item.id, kind = item.kind.as_str(), "dropped: it may have been sent");
            self.outgoing_remove(item, EffectState::InDoubt)
        })
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
