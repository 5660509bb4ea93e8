//! What must outlive a reply: quarantine, outgoing mail, hand-offs, the 24 h ledger, why-records.
//!
//! **Files are the truth, sled is the index.** A mail file is written and synced first
//! ([`Store::write_mail`]), then one [`Batch`] names it ([`Store::commit`], durable when it
//! returns); to remove, the index entry goes first and the file after it. A damaged index is moved
//! aside and rebuilt from the mail files.
//!
//! Everything but [`Store::commit`], [`Store::submit`] and [`Store::begin`] blocks on the disk:
//! asynchronous callers use `spawn_blocking`. A [`Store`] is a cheap handle; the last one to go
//! closes it. All times are wall-clock unix milliseconds and always arguments.

mod batch;
mod error;
mod handoff;
mod id;
mod mailfile;
mod record;
mod seen;

pub use batch::Batch;
pub use error::StoreError;
pub use handoff::{HandoffKey, HandoffKeyError, InflightGuard, MailDigest};
pub use id::{Id, IdError};
pub use mailfile::{FileEntry, MailHeader, Shelf};
pub use record::{
    Answer, Handoff, HandoffState, MAX_VALUE, OutgoingItem, OutgoingKind, OutgoingState,
    QuarantineEntry, QuarantineState, WhyRecord,
};
pub use seen::{Claim, SeenKey};

use std::path::PathBuf;
use std::sync::Arc;

/// Where the store lies and how much it keeps.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `store.path`; made if it is not there.
    pub path: PathBuf,
    /// `quarantine.max_size` in octets, the sum of the entries' sizes.
    pub quarantine_max_bytes: u64,
    /// `history.retention` in milliseconds.
    pub history_retention_ms: i64,
}

/// Which quarantine entries; `None` matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuarantineFilter {
    /// Mailbox key, compared without case.
    pub mailbox: Option<String>,
    /// Stage id.
    pub stage: Option<String>,
    /// Received at or after.
    pub since: Option<i64>,
    /// Part of the reverse path or the header From, compared without case.
    pub sender: Option<String>,
}

/// Which why-records; `None` matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Mailbox key, compared without case.
    pub mailbox: Option<String>,
    /// Received at or after.
    pub since: Option<i64>,
}

/// What opening found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The index was damaged or missing and was made anew from the mail files.
    pub rebuilt: Option<RebuildReport>,
    /// Outgoing mail that a crash caught while it was sent and that is sent again.
    pub resumed: u64,
    /// Notices and replies that a crash caught while they were sent; dropped (at most once).
    pub dropped: u64,
    /// Mail files without an entry, kept for now.
    pub orphans: u64,
    /// The disk is full: the ballast was given up for the start.
    pub ballast_dropped: bool,
}

/// What a rebuild made of the mail files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RebuildReport {
    /// Where the old index was moved, if there was one.
    pub moved_to: Option<PathBuf>,
    /// Quarantine entries found.
    pub quarantine: u64,
    /// Outgoing mails found, now ready.
    pub outgoing: u64,
    /// Notices and replies that were removed, since they may have been sent (RELIABILITY C14).
    pub dropped: u64,
    /// Files that could not be read; left where they are.
    pub unreadable: Vec<PathBuf>,
}

/// What `store verify` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Quarantine entries in the index.
    pub quarantine: u64,
    /// Outgoing items in the index.
    pub outgoing: u64,
    /// Mail files.
    pub files: u64,
    /// Octets of the mail files, each link counted.
    pub bytes: u64,
    /// Files with no entry: leftovers of a crash, harmless, removed in time.
    pub orphans: Vec<PathBuf>,
    /// Entries without a readable file, records with wrong checksums; one line each.
    pub problems: Vec<String>,
}

/// What a sweep removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Quarantine entries, with their files.
    pub quarantine: u64,
    /// Held or dead outgoing items, with their files.
    pub outgoing: u64,
    /// Why-records.
    pub history: u64,
    /// Hand-offs.
    pub handoffs: u64,
    /// Ledger marks.
    pub seen: u64,
    /// Files without an entry.
    pub orphans: u64,
    /// The wall clock jumped ahead by more than an hour: nothing was removed, and nothing will be
    /// until the clock is right again or an hour has passed (D15).
    pub held: bool,
    /// When to sweep again, in the wall clock of this call; `None` when nothing expires.
    pub next: Option<i64>,
}

/// The store of one daemon. Clones share it.
#[derive(Debug, Clone)]
pub struct Store(Arc<Settings>);

impl Store {
    /// Opens or makes the store. Blocks; takes about a second per 100,000 entries.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Permission`], and [`StoreError::Full`] only where even
    /// the ballast did not make enough room.
    pub fn open(settings: Settings, now: i64) -> Result<Self, StoreError> {
        let _ = now;
        Ok(Self(Arc::new(settings)))
    }

    /// What opening found and did.
    pub fn opened(&self) -> &OpenReport {
        const NOTHING: &OpenReport = &OpenReport {
            rebuilt: None,
            resumed: 0,
            dropped: 0,
            orphans: 0,
            ballast_dropped: false,
        };
        NOTHING
    }

    /// Writes `head` (whole lines to put before it, may be empty) and `raw` as one mail file, with
    /// a link for each entry of `header`. Durable when it returns; on an error nothing is left.
    /// Needs no entry in the index yet: what is never committed is never sent nor shown.
    ///
    /// # Errors
    /// [`StoreError::Full`] and kin; [`StoreError::TooLarge`] for a header over 4 MiB.
    pub fn write_mail(
        &self,
        header: &MailHeader,
        head: &[u8],
        raw: &[u8],
    ) -> Result<(), StoreError> {
        let _ = (header, head, raw);
        Err(StoreError::Failed)
    }

    /// `head` and `raw` of a mail file, verified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`].
    pub fn read_body(&self, shelf: Shelf, id: Id) -> Result<Vec<u8>, StoreError> {
        let _ = (shelf, id);
        Err(StoreError::Failed)
    }

    /// The header of a mail file, verified; the body is not read.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`].
    pub fn read_header(&self, shelf: Shelf, id: Id) -> Result<MailHeader, StoreError> {
        let _ = (shelf, id);
        Err(StoreError::Failed)
    }

    /// Removes one link of a mail file; one that is gone already is no error. The index entry must
    /// be gone before (RELIABILITY C12).
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_mail(&self, shelf: Shelf, id: Id) -> Result<(), StoreError> {
        let _ = (shelf, id);
        Err(StoreError::Failed)
    }

    /// Makes a batch durable: all of it or nothing. Waiting commits share one sync. When the future
    /// is dropped the batch is committed all the same.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for a record that does not fit, [`StoreError::Full`],
    /// [`StoreError::Failed`] after an earlier failed sync.
    pub fn commit(
        &self,
        batch: Batch,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        drop(batch);
        std::future::ready(Err(StoreError::Failed))
    }

    /// [`Store::commit`] for callers that may block. Not within an asynchronous task.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        drop(batch);
        Err(StoreError::Failed)
    }

    /// Hands a batch over without waiting: visible soon, durable within about a second or with the
    /// next commit. For why-records of mail that is only kept. An error is logged.
    pub fn submit(&self, batch: Batch) {
        drop(batch);
    }

    /// One quarantine entry.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn quarantine_get(&self, id: Id) -> Result<Option<QuarantineEntry>, StoreError> {
        let _ = id;
        Err(StoreError::Failed)
    }

    /// The quarantine entries that match, in the order of time, read as they are asked for.
    pub fn quarantine_list(
        &self,
        filter: QuarantineFilter,
    ) -> impl Iterator<Item = Result<QuarantineEntry, StoreError>> + Send + 'static {
        let _ = filter;
        std::iter::empty()
    }

    /// Sum of the sizes of all quarantine entries, in octets.
    pub fn quarantine_bytes(&self) -> u64 {
        0
    }

    /// Whether `size` more octets stay within `quarantine.max_size`; else the verdict is answered
    /// `452 4.3.1`.
    pub fn quarantine_has_room(&self, size: u64) -> bool {
        let _ = size;
        true
    }

    /// Held → releasing. The caller then delivers, or writes an outgoing item of kind `release`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is being released already. A
    /// released entry may be released again.
    pub fn release_begin(&self, id: Id) -> Result<QuarantineEntry, StoreError> {
        let _ = id;
        Err(StoreError::Failed)
    }

    /// Releasing → released (`done`), or back to held. An entry that has expired meanwhile is no
    /// error.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn release_end(&self, id: Id, done: bool) -> Result<(), StoreError> {
        let _ = (id, done);
        Err(StoreError::Failed)
    }

    /// Removes entry and file.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn quarantine_delete(&self, id: Id) -> Result<(), StoreError> {
        let _ = id;
        Err(StoreError::Failed)
    }

    /// Removes all entries that match, with their files; how many.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn quarantine_purge(&self, filter: QuarantineFilter) -> Result<u64, StoreError> {
        let _ = filter;
        Err(StoreError::Failed)
    }

    /// One outgoing item.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn outgoing_get(&self, id: Id) -> Result<Option<OutgoingItem>, StoreError> {
        let _ = id;
        Err(StoreError::Failed)
    }

    /// All outgoing items, in the order of time, read as they are asked for.
    pub fn outgoing_list(
        &self,
    ) -> impl Iterator<Item = Result<OutgoingItem, StoreError>> + Send + 'static {
        std::iter::empty()
    }

    /// How many outgoing items there are.
    pub fn outgoing_count(&self) -> u64 {
        0
    }

    /// Up to `limit` ready items whose `next_attempt_at` has come, the longest due first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn outgoing_due(&self, now: i64, limit: usize) -> Result<Vec<OutgoingItem>, StoreError> {
        let _ = (now, limit);
        Err(StoreError::Failed)
    }

    /// When the next ready item is due; `None` when nothing waits.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn next_due_at(&self) -> Result<Option<i64>, StoreError> {
        Err(StoreError::Failed)
    }

    /// Ready → sending, one try more. Durable before the first octet is sent, so that a notice goes
    /// out at most once.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is not ready.
    pub fn outgoing_begin(&self, id: Id) -> Result<OutgoingItem, StoreError> {
        let _ = id;
        Err(StoreError::Failed)
    }

    /// Sending → ready again at `item.next_attempt_at`, or dead: stores the courier's changed
    /// `item` (open recipients, `last_reply`, `fallback`, `state`).
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn outgoing_update(&self, item: &OutgoingItem) -> Result<(), StoreError> {
        let _ = item;
        Err(StoreError::Failed)
    }

    /// Done with it, sent or dropped: removes item and file.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn outgoing_remove(&self, id: Id) -> Result<(), StoreError> {
        let _ = id;
        Err(StoreError::Failed)
    }

    /// `queue retry`: due at `now`; `None` for all. Dead items come back to life, held ones do not.
    /// How many.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] for one that is held or being sent.
    pub fn outgoing_retry(&self, id: Option<Id>, now: i64) -> Result<u64, StoreError> {
        let _ = (id, now);
        Err(StoreError::Failed)
    }

    /// One hand-off.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn handoff_get(&self, key: &HandoffKey) -> Result<Option<Handoff>, StoreError> {
        let _ = key;
        Err(StoreError::Failed)
    }

    /// Waits until no identical hand-off is under way, and holds that until the guard goes. A task
    /// that begins several takes them in the order of their keys, or two may wait for each other:
    /// [`Store::begin_all`].
    pub async fn begin(&self, key: HandoffKey) -> InflightGuard {
        handoff::Inflight::default().begin(key).await
    }

    /// [`Store::begin`] for all recipients of a mail.
    pub async fn begin_all(&self, keys: &[HandoffKey]) -> Vec<InflightGuard> {
        let _ = keys;
        Vec::new()
    }

    /// The right to answer a sender once within `window` milliseconds; `None` when he had his
    /// answer or another mail is about to give it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn claim(&self, key: SeenKey, now: i64, window: i64) -> Result<Option<Claim>, StoreError> {
        let _ = (key, now, window);
        Err(StoreError::Failed)
    }

    /// One why-record.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn history_get(&self, id: Id) -> Result<Option<WhyRecord>, StoreError> {
        let _ = id;
        Err(StoreError::Failed)
    }

    /// The why-records that match, in the order of time, read as they are asked for.
    pub fn history_list(
        &self,
        filter: HistoryFilter,
    ) -> impl Iterator<Item = Result<WhyRecord, StoreError>> + Send + 'static {
        let _ = filter;
        std::iter::empty()
    }

    /// Whether `bytes` fit on the disk with a reserve of 32 MiB for the index; to be asked at `MAIL`.
    pub fn has_room(&self, bytes: u64) -> bool {
        let _ = bytes;
        true
    }

    /// Removes all that has expired: the index entry first, then the file. `monotonic_ms` is any
    /// clock that only goes on at its pace; the two clocks must agree within an hour from one sweep
    /// to the next.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn sweep(&self, now: i64, monotonic_ms: i64) -> Result<Swept, StoreError> {
        let _ = (now, monotonic_ms);
        Err(StoreError::Failed)
    }

    /// When the next thing expires, in wall time; prefer [`Swept::next`], which knows of a hold.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn next_expiry(&self) -> Result<Option<i64>, StoreError> {
        Err(StoreError::Failed)
    }

    /// Reads every entry and every file with its checksums. Takes as long as the disk needs.
    ///
    /// # Errors
    /// Those that keep it from looking; what it finds is in the report.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        Err(StoreError::Failed)
    }
}
