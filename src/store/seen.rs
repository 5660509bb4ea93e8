//! The ledger of "one reply a sender in 24 hours": who had what, until when.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::checksum;

/// Hash of mailbox, purpose and sender: no address is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeenKey(pub(crate) [u8; 16]);

impl SeenKey {
    /// `mailbox` and `sender` as keys (folded addresses), `purpose` such as `auto_reply`.
    pub fn new(mailbox: &str, purpose: &str, sender: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in [mailbox, purpose, sender] {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Self(key)
    }
}

/// The right to answer a sender, held against concurrent mails. It goes into the batch that
/// commits the answer ([`super::Batch::mark_seen`]); dropped before, it is free again.
#[derive(Debug)]
pub struct Claim {
    pub(crate) key: SeenKey,
    pub(crate) expires_at: i64,
    held: Held,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.held.set().remove(&self.key);
    }
}

/// The claims that are neither committed nor dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<Mutex<HashSet<SeenKey>>>);

impl Held {
    /// A claim until `now + window`, unless somebody holds one or `marked` says that the sender had
    /// his answer. `marked` gives the stored expiry and runs while nobody else can claim.
    pub(crate) fn claim<E>(
        &self,
        key: SeenKey,
        now: i64,
        window: i64,
        marked: impl FnOnce() -> Result<Option<i64>, E>,
    ) -> Result<Option<Claim>, E> {
        let mut held = self.set();
        if held.contains(&key) {
            return Ok(None);
        }
        let expires_at = now.saturating_add(window);
        if marked()?.is_some_and(|until| until > now) {
            return Ok(None);
        }
        held.insert(key);
        Ok(Some(Claim {
            key,
            expires_at,
            held: self.clone(),
        }))
    }

    fn set(&self) -> MutexGuard<'_, HashSet<SeenKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of a mark: checksum and expiry.
pub(crate) fn encode(expires_at: i64) -> Vec<u8> {
    let time = expires_at.to_be_bytes();
    [checksum(&time).as_slice(), &time].concat()
}

/// The expiry of a mark; a damaged one is none.
pub(crate) fn decode(value: &[u8]) -> Option<i64> {
    let (sum, time) = value.split_first_chunk::<4>()?;
    let time: [u8; 8] = time.try_into().ok()?;
    (*sum == checksum(&time)).then(|| i64::from_be_bytes(time))
}
