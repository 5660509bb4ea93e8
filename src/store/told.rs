//! What becomes of an effect is told in its why-record, in the commit that makes it so.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::batch::{self, tag};
use super::record;
use super::{Batch, Id, OutgoingItem, OutgoingKind, Refusal, Store, WhyRecord};

/// The `state` of an effect once it has moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectState {
    /// The next hop has it.
    Sent,
    /// A failed forward, kept for its owner.
    InMailbox,
    /// It is tried again.
    Waiting,
    /// Given up.
    Dead,
    /// A crash came while it was sent, and it goes out at most once: it may have arrived.
    InDoubt,
    /// The operator gave it up.
    Dropped,
    /// A release is tried again.
    Releasing,
    /// It was released.
    Released,
    /// Held again: its release failed.
    Held,
    /// Removed from the quarantine.
    Deleted,
    /// Its retention is over.
    Expired,
}

impl EffectState {
    /// An outgoing item stays in the queue.
    pub(super) fn stays(self) -> bool {
        matches!(self, Self::Waiting | Self::Dead | Self::Releasing)
    }

    /// The word of JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::InMailbox => "in_mailbox",
            Self::Waiting => "waiting",
            Self::Dead => "dead",
            Self::InDoubt => "in_doubt",
            Self::Dropped => "dropped",
            Self::Releasing => "releasing",
            Self::Released => "released",
            Self::Held => "held",
            Self::Deleted => "deleted",
            Self::Expired => "expired",
        }
    }
}

/// A why-record is read, changed and written by one at a time; those of other mails go on, so that
/// they share a sync. Taken behind the lock of an entry's move.
#[derive(Debug)]
pub(super) struct Telling([Mutex<()>; 32]);

impl Default for Telling {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Telling {
    fn of(&self, why: Id) -> MutexGuard<'_, ()> {
        let last = why.as_str().bytes().last().unwrap_or_default();
        hold(&self.0[usize::from(last) % self.0.len()])
    }

    /// Of all records, always in the same order.
    pub(super) fn all(&self) -> Vec<MutexGuard<'_, ()>> {
        self.0.iter().map(hold).collect()
    }
}

fn hold(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Puts the news of an outgoing item into the batch that makes them true, for a caller that holds
    /// [`Telling::all`].
    pub(super) fn tell_of_item(&self, batch: &mut Batch, item: &OutgoingItem, state: EffectState) {
        let why = match (item.kind, item.handoff) {
            // A release has the id of its quarantine entry, and that is the why-record's.
            (OutgoingKind::Release, _) => Some(item.id),
            (_, Some(key)) => self
                .handoff_get(&key)
                .ok()
                .flatten()
                .map(|handoff| handoff.answer.id),
            (_, None) => None,
        };
        let Some(why) = why else {
            return;
        };
        let open = Some(&item.recipients).filter(|_| {
            matches!(
                state,
                EffectState::Waiting | EffectState::Dead | EffectState::Dropped
            )
        });
        self.tell(batch, why, item.id, |effect| {
            effect["state"] = state.as_str().into();
            effect["reply"] = item.last_reply.clone().into();
            set_open(effect, open.map(Vec::as_slice));
            set_refused(effect, &item.refused);
        });
    }

    /// Puts the news of a quarantine entry into the batch that makes them true.
    pub(super) fn tell_of_held(
        &self,
        batch: &mut Batch,
        id: Id,
        state: EffectState,
        reply: Option<&str>,
    ) -> MutexGuard<'_, ()> {
        let telling = self.0.telling.of(id);
        self.tell_of_held_unlocked(batch, id, state, reply);
        telling
    }

    /// As [`Store::tell_of_held`], for a caller that holds [`Telling::all`].
    pub(super) fn tell_of_held_unlocked(
        &self,
        batch: &mut Batch,
        id: Id,
        state: EffectState,
        reply: Option<&str>,
    ) {
        let gone = matches!(state, EffectState::Deleted | EffectState::Expired);
        self.tell(batch, id, id, |effect| {
            // Its owner has it: that stays true.
            if gone && effect["state"] == EffectState::Released.as_str() {
                return;
            }
            effect["state"] = state.as_str().into();
            effect["reply"] = reply.into();
        });
    }

    /// A record that is gone, or cannot be read, holds up nothing. One that the batch has is newer.
    fn tell(&self, batch: &mut Batch, why: Id, effect: Id, change: impl FnOnce(&mut Value)) {
        let key = batch::key(tag::HISTORY, why.as_str().as_bytes());
        let found = match batch.value_of(&key) {
            Some(value) => record::decode(value).map(Some),
            None => self.history_get(why),
        };
        match found {
            Ok(Some(mut record)) => {
                if let Some(effect) = effect_of(&mut record, effect) {
                    change(effect);
                    batch.put_why(&record);
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(id = %why, %error, "a why-record is not up to date"),
        }
    }
}

/// Whether the item is one of the record's effects.
pub(super) fn has_effect(why: &WhyRecord, id: Id) -> bool {
    let effects = why.body["effects"].as_array();
    effects.is_some_and(|all| all.iter().any(|effect| effect["id"] == id.as_str()))
}

fn effect_of(why: &mut WhyRecord, id: Id) -> Option<&mut Value> {
    let effects = why.body.get_mut("effects")?.as_array_mut()?;
    effects
        .iter_mut()
        .find(|effect| effect["id"] == id.as_str())
}

/// `open` names those of an effect's recipients who do not have it, where that is not all of them.
fn set_open(effect: &mut Value, open: Option<&[String]>) {
    let part = open.filter(|open| {
        let all = effect["to"].as_array().map_or(0, Vec::len);
        open.len() < all
    });
    let part = part.map(<[String]>::to_vec);
    let Some(members) = effect.as_object_mut() else {
        return;
    };
    match part {
        Some(open) => members.insert("open".to_owned(), open.into()),
        None => members.shift_remove("open"),
    };
}

/// `refused` names those who refused for good while the others were served.
fn set_refused(effect: &mut Value, refused: &[Refusal]) {
    let Some(members) = effect.as_object_mut().filter(|_| !refused.is_empty()) else {
        return;
    };
    let of_one = |refusal: &Refusal| json!({"to": refusal.to, "reply": refusal.reply});
    let all = refused.iter().map(of_one).collect();
    members.insert("refused".to_owned(), Value::Array(all));
}
