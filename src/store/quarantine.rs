//! Held mail: asking, releasing, deleting.

use super::batch::tag;
use super::{
    Batch, EffectState, Id, QuarantineEntry, QuarantineFilter, QuarantineState, Shelf, Store,
    StoreError,
};
use crate::failpoint::{Point, reach};

/// Entries that a purge removes in one commit: no more than other commits can wait for.
const PURGE: usize = 100;

impl QuarantineFilter {
    /// Whether an entry is among those asked for.
    pub fn matches(&self, entry: &QuarantineEntry) -> bool {
        let same = |wanted: &Option<String>, have: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.to_lowercase() == have.to_lowercase())
        };
        let sender = self.sender.as_ref().is_none_or(|wanted| {
            let wanted = wanted.to_lowercase();
            [&entry.sender, &entry.from]
                .iter()
                .any(|have| have.to_lowercase().contains(&wanted))
        });
        sender
            && same(&self.mailbox, &entry.mailbox)
            && self
                .stage
                .as_ref()
                .is_none_or(|stage| *stage == entry.stage)
            && self.since.is_none_or(|since| entry.received_at >= since)
    }
}

impl Store {
    /// One quarantine entry.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn quarantine_get(&self, id: Id) -> Result<Option<QuarantineEntry>, StoreError> {
        self.0
            .index
            .get_record(tag::QUARANTINE, id.as_str().as_bytes())
    }

    /// The quarantine entries that match, in the order of time, read as they are asked for; with a
    /// mailbox none but its own are read, unless [`unlisted`](super::OpenReport::unlisted). An entry that cannot be read is an error in its place.
    pub fn quarantine_list(
        &self,
        filter: QuarantineFilter,
    ) -> impl Iterator<Item = Result<QuarantineEntry, StoreError>> + Send + use<> {
        let from = Id::since(filter.since);
        let index = &self.0.index;
        let (mut of_one, mut of_all) = (None, None);
        match &filter.mailbox {
            Some(mailbox) if !self.0.opened.unlisted => {
                of_one = Some(self.listed_since(mailbox, from))
            }
            _ => of_all = Some(index.records(tag::QUARANTINE, from.as_str().as_bytes())),
        }
        let entries = of_one.into_iter().flatten();
        let entries = entries.chain(of_all.into_iter().flatten());
        entries.filter(move |entry: &Result<QuarantineEntry, _>| {
            entry.as_ref().map_or(true, |entry| filter.matches(entry))
        })
    }

    /// Sum of the sizes of all quarantine entries, in octets.
    pub fn quarantine_bytes(&self) -> u64 {
        self.0.index.quarantine_bytes()
    }

    /// Whether `size` more octets stay within `quarantine.max_size`; else the verdict is answered
    /// `452 4.3.1`.
    pub fn quarantine_has_room(&self, size: u64) -> bool {
        self.quarantine_bytes().saturating_add(size) <= self.0.settings.quarantine_max_bytes
    }

    /// Held → releasing. The caller then delivers, or writes an outgoing item of kind `release`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is being released or was released
    /// already, also where the caller has read otherwise a moment before.
    pub fn release_begin(&self, id: Id, to: Option<String>) -> Result<QuarantineEntry, StoreError> {
        let _moving = self.move_lock(id);
        let mut entry = self.quarantine_entry(id)?;
        if entry.state != QuarantineState::Held {
            return Err(StoreError::Conflict(format!("{id} is released already")));
        }
        entry.state = QuarantineState::Releasing;
        entry.release_to = to;
        self.put_quarantine(&entry)?;
        Ok(entry)
    }

    /// An entry whose release a crash cut short before it was in the queue. Nothing for one that the
    /// courier has, or has ended meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn release_halfway(&self, id: Id) -> Result<Option<QuarantineEntry>, StoreError> {
        let _moving = self.move_lock(id);
        let queued = self.outgoing_get(id)?.is_some();
        let entry = self.quarantine_get(id)?;
        Ok(entry.filter(|entry| !queued && entry.state == QuarantineState::Releasing))
    }

    /// Releasing → released (`done`), or back to held; its outgoing item goes in the same commit, so
    /// that it is not sent once more, nor sent after it was dropped; `reply` is what the why-record
    /// tells of it. An entry or item that has gone meanwhile is no error.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn release_end(&self, id: Id, done: bool, reply: Option<&str>) -> Result<(), StoreError> {
        let _moving = self.move_lock(id);
        self.release_over(id, done, reply)
    }

    /// [`Store::release_end`] for a caller that holds the entry's move lock.
    pub(super) fn release_over(
        &self,
        id: Id,
        done: bool,
        reply: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let mut telling = None;
        if let Some(mut entry) = self.quarantine_get(id)? {
            let (state, effect) = if done {
                (QuarantineState::Released, EffectState::Released)
            } else {
                (QuarantineState::Held, EffectState::Held)
            };
            entry.state = state;
            batch.put_quarantine(&entry);
            telling = Some(self.tell_of_held(&mut batch, id, effect, reply));
        }
        if self.outgoing_get(id)?.is_some() {
            batch.remove_outgoing(id);
        }
        if !batch.is_empty() {
            self.commit_blocking(batch)?;
        }
        drop(telling);
        self.in_hand().remove(&id);
        reach(Point::ReleaseEnded);
        self.leave_outgoing_file(id);
        Ok(())
    }

    /// Removes entry and file.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn quarantine_delete(&self, id: Id) -> Result<(), StoreError> {
        let _moving = self.move_lock(id);
        self.quarantine_entry(id)?;
        self.quarantine_remove(&[id])
    }

    /// Removes all entries that match, with their files; how many.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn quarantine_purge(&self, filter: QuarantineFilter) -> Result<u64, StoreError> {
        let mut purged = 0;
        let mut ids = Vec::new();
        for entry in self.quarantine_list(filter) {
            ids.push(entry?.id);
            if ids.len() == PURGE {
                self.quarantine_remove_all(&ids)?;
                purged += ids.len();
                ids.clear();
            }
        }
        self.quarantine_remove_all(&ids)?;
        Ok(u64::try_from(purged + ids.len()).unwrap_or(u64::MAX))
    }

    /// While none of them moves: the end of a release would bring an entry back without its file.
    fn quarantine_remove_all(&self, ids: &[Id]) -> Result<(), StoreError> {
        let _moving = self.move_locks();
        self.quarantine_remove(ids)
    }

    /// The index entries first, then the files. To be called with their moves locked.
    fn quarantine_remove(&self, ids: &[Id]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        let _telling = self.0.telling.all();
        for id in ids {
            batch.remove_quarantine(*id);
            self.tell_of_held_unlocked(&mut batch, *id, EffectState::Deleted, None);
        }
        self.commit_blocking(batch)?;
        ids.iter()
            .try_for_each(|id| self.remove_mail(Shelf::Quarantine, *id))
    }

    fn quarantine_entry(&self, id: Id) -> Result<QuarantineEntry, StoreError> {
        let entry = self.quarantine_get(id)?;
        entry.ok_or_else(|| StoreError::NotFound(id.to_string()))
    }

    fn put_quarantine(&self, entry: &QuarantineEntry) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put_quarantine(entry);
        self.commit_blocking(batch)
    }
}
