//! What was decided and answered: hand-offs, why-records, the 24 h ledger.

use super::batch::{self, tag};
use super::told::has_effect;
use super::{
    Batch, Claim, Handoff, HandoffKey, HistoryFilter, Id, SeenKey, Store, StoreError, WhyRecord,
    seen,
};

impl Store {
    /// One hand-off.
    ///
    /// # Errors
    /// [`StoreError::Failed`] after a failed sync for one with effects, since that sync may have
    /// been theirs; [`StoreError::Damaged`] and kin.
    pub fn handoff_get(&self, key: &HandoffKey) -> Result<Option<Handoff>, StoreError> {
        let found = self.0.index.handoff(key)?;
        let has_effects =
            |handoff: &Handoff| handoff.quarantine.is_some() || !handoff.outgoing.is_empty();
        if found.as_ref().is_some_and(has_effects) {
            self.0.index.believed()?;
        }
        Ok(found)
    }

    /// The right to answer a sender once within `window` milliseconds; `None` when he had his
    /// answer or another mail is about to give it. A mark that lies further ahead than `window`
    /// (the clock went back, or the setting was shortened) is cut to it (D15).
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn claim(&self, key: SeenKey, now: i64, window: i64) -> Result<Option<Claim>, StoreError> {
        self.0.claims.claim(key, now, window, || {
            let value = self.0.index.get(&batch::key(tag::SEEN, &key.0))?;
            let until = value.and_then(|value| seen::decode(&value));
            let latest = now.saturating_add(window);
            if until.is_some_and(|until| until > latest) {
                let mut batch = Batch::new();
                batch.put_seen(key, latest);
                self.submit(batch);
                return Ok(Some(latest));
            }
            Ok(until)
        })
    }

    /// One why-record.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn history_get(&self, id: Id) -> Result<Option<WhyRecord>, StoreError> {
        let index = &self.0.index;
        let get = || index.get_record(tag::HISTORY, id.as_str().as_bytes());
        if let Some(why) = get()? {
            return Ok(Some(why));
        }
        index.apply_gathered();
        get()
    }

    /// The why-record of a mail, or of the mail that the outgoing item of this id was prepared for:
    /// that bears the mail's time.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn history_find(&self, id: Id) -> Result<Option<WhyRecord>, StoreError> {
        if let Some(why) = self.history_get(id)? {
            return Ok(Some(why));
        }
        let bound = |time| batch::key(tag::HISTORY, Id::floor(time).as_str().as_bytes());
        let (from, to) = (bound(id.millis()), bound(id.millis().saturating_add(1)));
        for why in self.0.index.records_between::<WhyRecord>(from, to) {
            match why {
                Ok(why) if has_effect(&why, id) => return Ok(Some(why)),
                // What cannot be read is another's.
                Ok(_) | Err(StoreError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The why-records that match, in the order of time, read as they are asked for. A record that
    /// cannot be read is an error in its place.
    pub fn history_list(
        &self,
        filter: HistoryFilter,
    ) -> impl Iterator<Item = Result<WhyRecord, StoreError>> + Send + use<> {
        self.0.index.apply_gathered();
        let from = Id::since(filter.since);
        let all: Box<dyn Iterator<Item = Result<WhyRecord, StoreError>> + Send> = match filter
            .mailbox
        {
            None => Box::new(self.0.index.records(tag::HISTORY, from.as_str().as_bytes())),
            Some(mailbox) => {
                let store = self.clone();
                let found = self.ids_of(&mailbox, from);
                Box::new(
                    found.filter_map(move |id| id.and_then(|id| store.history_get(id)).transpose()),
                )
            }
        };
        let since = filter.since;
        all.filter(move |why: &Result<WhyRecord, _>| {
            let in_time = |why: &WhyRecord| since.is_none_or(|since| why.received_at >= since);
            why.as_ref().map_or(true, in_time)
        })
    }
}
