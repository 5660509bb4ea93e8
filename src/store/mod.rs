//! What must outlive a reply: quarantine, outgoing mail, hand-offs, the 24 h ledger, why-records.
//!
//! **Files are the truth, sled is the index.** A mail file is written and synced first
//! ([`Store::write_mail`]), then one [`Batch`] names it ([`Store::commit`], durable when it
//! returns); to remove, the index entry goes first and the file after it. A damaged index is moved
//! aside and rebuilt from the mail files.
//!
//! Everything but [`Store::commit`], [`Store::submit`], [`Store::begin_all`] and [`Store::had_plenty`]
//! blocks on the disk: asynchronous callers use [`blocking`]. A [`Store`] is a cheap handle; the last one to go
//! closes it. All times are wall-clock unix milliseconds and always arguments.

mod batch;
mod census;
mod committer;
mod compaction;
mod dictionary;
mod doubt;
mod draft;
mod error;
mod facts;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handoff;
mod history;
mod holders;
mod id;
mod index;
mod mailfile;
mod opening;
mod outbox;
mod packed;
mod places;
mod prepared;
mod quarantine;
mod rebuild;
mod record;
mod report;
mod seen;
mod suspects;
mod sweep;
mod told;
mod totals;
mod write;

pub use batch::Batch;
pub(crate) use draft::Draft;
pub use error::StoreError;
pub use facts::{Absent, FactsRecord, Virus};
pub use handoff::{HandoffKey, HandoffKeyError, InflightGuard, MailDigest};
pub use holders::{Holder, Told};
pub use id::{Id, IdError};
pub use mailfile::{FileEntry, MailHeader, Shelf};
pub use record::{
    Answer, Handoff, MAX_VALUE, OutgoingItem, OutgoingKind, OutgoingState, QuarantineEntry,
    QuarantineState, Refusal, WhyRecord, beginning,
};
pub use report::{
    HistoryFilter, OpenReport, QuarantineFilter, RebuildReport, Settings, Swept, VerifyReport,
};
pub use seen::{Claim, SeenKey};
pub use suspects::Reading;
pub use told::EffectState;

use std::any::Any;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use index::Index;
use mailfile::Mails;
use opening::Place;

use crate::durable::{self, Turns};
use crate::mail::Octets;

/// Space that is given up when sled does not open on a full disk.
const BALLAST: u64 = 16 << 20;
/// What `has_room` leaves for the index and the ballast.
const RESERVE: u64 = 32 << 20;
/// Inodes that `has_room` leaves.
const RESERVE_INODES: u64 = 64;
/// Without so much nothing is sent: its result could not be written down.
const RESULTS: u64 = 1 << 20;
/// Space and inodes that are not used up within [`PLENTY_FOR`].
const PLENTY: u64 = 4 << 30;
const PLENTY_INODES: u64 = 1 << 16;
/// How long plenty of room is believed in without asking again.
const PLENTY_FOR: Duration = Duration::from_secs(1);

/// Mail files that wait for a second turn beside the one at work: those of a turn share a commit too.
const SECOND_TURN: usize = 8;

/// The store of one daemon. Clones share it.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

/// Fields are dropped in this order: the index is closed before the lock goes.
#[derive(Debug)]
struct Inner {
    index: Index,
    mails: Mails,
    /// The mail files that wait to be written.
    turns: Turns,
    settings: Settings,
    place: Place,
    opened: OpenReport,
    claims: seen::Held,
    inflight: Arc<handoff::Inflight>,
    prepared: prepared::Prepared,
    suspects: suspects::Suspects,
    /// One for each last character of an id: a state is read and changed by one at a time.
    moves: [Mutex<()>; 32],
    telling: told::Telling,
    /// Outgoing mail that is being sent, or whose result is not recorded.
    in_hand: Mutex<BTreeSet<Id>>,
    sweeper: Mutex<sweep::Sweeper>,
    /// When [`Store::has_room`] last found plenty.
    plenty: Mutex<Option<Instant>>,
    /// Ends behind the index, and before the lock.
    doubt: doubt::Doubt,
    _lock: File,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.index.close();
        if self.index.has_lost() {
            self.doubt.raise();
        }
    }
}

impl Store {
    /// Opens or makes the store. Blocks; takes about a second per 100,000 entries.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Permission`], and [`StoreError::Full`] only where even
    /// the ballast did not make enough room.
    pub fn open(settings: Settings, now: i64) -> Result<Self, StoreError> {
        let path = &settings.path;
        make_root(path)?;
        let lock = take_lock(path)?;
        let place = Place {
            dir: path.join("index"),
            seq: path.join("index.seq"),
            ballast: path.join("ballast"),
        };
        let had_ballast = place.ballast.exists();
        let doubt = doubt::Doubt::open(path, now);
        let suspects = suspects::Suspects::open(path, now);
        let mails = Mails::open(path.join("mail"))?;
        let prepared = prepared::Prepared::default();
        let opened = rebuild::open(&place, &mails, &prepared, now)?;
        let (index, mut report) = (opened.index, opened.report);
        report.dropped = u64::try_from(opened.in_doubt.len()).unwrap_or(u64::MAX);
        report.ballast_dropped = had_ballast && !place.ballast.exists();
        let store = Self(Arc::new(Inner {
            index,
            mails,
            turns: Turns::new(SECOND_TURN),
            settings,
            place,
            opened: report,
            claims: seen::Held::default(),
            inflight: Arc::default(),
            prepared,
            suspects,
            moves: std::array::from_fn(|_| Mutex::new(())),
            telling: told::Telling::default(),
            in_hand: Mutex::default(),
            sweeper: Mutex::new(sweep::Sweeper::new(opened.orphans)),
            plenty: Mutex::default(),
            doubt,
            _lock: lock,
        }));
        store.drop_in_doubt(&opened.in_doubt)?;
        store.keep_ballast();
        Ok(store)
    }

    /// What opening found and did.
    pub fn opened(&self) -> &OpenReport {
        &self.0.opened
    }

    /// Writes the octets of `pieces`, one after the other, as one mail file, with a link for each
    /// entry of `header`. Durable when it returns; on an error nothing is left. Needs no entry in
    /// the index yet: what is never committed is never sent nor shown, and goes by
    /// [`Store::clear_prepared`].
    ///
    /// # Errors
    /// [`StoreError::Full`] and kin; [`StoreError::TooLarge`] for a header over 4 MiB;
    /// [`StoreError::Conflict`] for a header without an entry.
    pub fn write_mail(&self, header: &MailHeader, pieces: &[&[u8]]) -> Result<(), StoreError> {
        let pieces = pieces.iter().map(|piece| piece.to_vec().into());
        let mut draft = self.draft(header, pieces.collect())?;
        let mut ended = draft.ended();
        durable::make(&mut draft);
        ended.try_recv().unwrap_or_else(|_| Err(broken_off()))
    }

    /// A mail file that [`Store::write_draft`] writes.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for a header over 4 MiB; [`StoreError::Conflict`] for one without an
    /// entry.
    pub(crate) fn draft(
        &self,
        header: &MailHeader,
        pieces: Vec<Octets>,
    ) -> Result<Draft, StoreError> {
        let draft = self.0.mails.draft(header, pieces)?;
        self.0.prepared.note_all(header);
        Ok(draft)
    }

    /// [`Store::write_mail`] for asynchronous callers: files that wait share their syncs. It is on its
    /// way when this returns, and `under_way` lives until it is over; dropping the future takes it
    /// back only where its turn has not come yet.
    pub(crate) fn write_draft(
        &self,
        mut draft: Draft,
        under_way: Arc<dyn Any + Send + Sync>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let turns = self.0.turns.clone();
        let mut ended = draft.ended();
        draft.under_way = Some(under_way);
        let octets = draft.octets();
        turns.wait(Box::new(draft), octets);
        async move {
            let told = turns.told(&mut ended).await;
            told.unwrap_or_else(|| Err(broken_off()))
        }
    }

    /// The octets of a mail file, verified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`].
    pub fn read_body(&self, shelf: Shelf, id: Id) -> Result<Vec<u8>, StoreError> {
        self.read_mail(shelf, id).map(|(_, body)| body)
    }

    /// The header and the octets of a mail file, verified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`].
    pub fn read_mail(&self, shelf: Shelf, id: Id) -> Result<(MailHeader, Vec<u8>), StoreError> {
        self.0.mails.read(shelf, id)
    }

    /// Octets of a mail file, its header included.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn mail_size(&self, shelf: Shelf, id: Id) -> Result<u64, StoreError> {
        let path = self.0.mails.path(shelf, id);
        let found = fs::metadata(&path).map_err(|error| StoreError::io(&path, error))?;
        Ok(found.len())
    }

    /// Removes one link of a mail file; one that is gone already is no error. The index entry must
    /// be gone before (RELIABILITY C12).
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_mail(&self, shelf: Shelf, id: Id) -> Result<(), StoreError> {
        self.0.mails.remove(shelf, id).map(drop)
    }

    /// Makes a batch durable: all of it or nothing. Waiting commits share one sync. The batch is on
    /// its way when this returns; dropping the future takes it back only where its turn has not
    /// come yet.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for a record that does not fit, [`StoreError::Full`],
    /// [`StoreError::Failed`] after an earlier failed sync.
    pub fn commit(
        &self,
        batch: Batch,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.0.index.commit(batch)
    }

    /// [`Store::commit`] for callers that may block. Not within an asynchronous task.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        self.0.index.commit_blocking(batch)
    }

    /// Hands a batch over without waiting: visible soon, durable within about a second or with the
    /// next commit. For why-records of mail that is only kept. An error is logged.
    pub fn submit(&self, batch: Batch) {
        self.0.index.submit(batch);
    }

    /// The ids of decisions from now on, as they come into the index. Who falls behind by more than
    /// 4,096 is told how many he missed.
    pub fn follow(&self) -> tokio::sync::broadcast::Receiver<Id> {
        self.0.index.follow()
    }

    /// Waits until no identical hand-off of any of these is under way, and holds that for all of them until the
    /// guard goes.
    pub async fn begin_all(&self, keys: &[HandoffKey]) -> InflightGuard {
        self.0.inflight.begin_all(keys).await
    }

    /// [`Store::begin_all`] where nothing has to be waited for; `None` where something has.
    pub fn try_begin_all(&self, keys: &[HandoffKey]) -> Option<InflightGuard> {
        self.0.inflight.try_begin_all(keys).ok()
    }

    /// A mail may have been delivered without a record of it: its retry would be taken for new.
    pub fn doubt(&self) {
        self.0.doubt.raise();
    }

    /// Whether a hand-off that the store does not know may have been delivered all the same: for
    /// six days after a crash, after [`Store::doubt`] or after a lost [`Store::submit`]. A Maildir is then searched first.
    pub fn is_in_doubt(&self, now: i64) -> bool {
        self.0.doubt.is_raised(now) || self.0.index.has_lost()
    }

    /// A sync failed: nothing is known to be durable until a restart has read it anew (D4).
    pub fn is_failed(&self) -> bool {
        self.0.index.is_failed()
    }

    /// Whether `bytes` fit on the disk with a reserve of 32 MiB and 64 inodes for the index; to be
    /// asked at `MAIL`. A file system that does not say counts as having room.
    pub fn has_room(&self, bytes: u64) -> bool {
        let Some((free, inodes)) = free_at(&self.0.settings.path) else {
            return true;
        };
        let plenty = free >= PLENTY && inodes >= PLENTY_INODES;
        *self.plenty() = plenty.then(Instant::now);
        fits(bytes, free, inodes)
    }

    /// [`Store::has_room`] was so sure within the last second that nobody need ask the disk again.
    /// Never blocks.
    pub fn had_plenty(&self, bytes: u64) -> bool {
        let lately = |at: Instant| at.elapsed() < PLENTY_FOR;
        bytes <= PLENTY / 4 && self.plenty().is_some_and(lately)
    }

    /// Whether what becomes of mail that is sent can be written down. Far below what `MAIL` leaves free:
    /// sending is what empties a disk that outgoing mail has filled.
    fn can_record(&self) -> bool {
        self.had_plenty(0) || free_at(&self.0.settings.path).is_none_or(|(free, _)| free >= RESULTS)
    }

    fn plenty(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.plenty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the ballast again once there is space for it.
    fn keep_ballast(&self) {
        let ballast = &self.0.place.ballast;
        if ballast.exists() || !self.has_room(BALLAST) {
            return;
        }
        if let Err(error) = make_ballast(ballast) {
            tracing::warn!(%error, "no ballast for a full disk");
            let _ = fs::remove_file(ballast);
        }
    }

    /// Held while the state of an entry is read and changed.
    fn move_lock(&self, id: Id) -> MutexGuard<'_, ()> {
        let last = id.as_str().bytes().last().unwrap_or_default();
        let lock = &self.0.moves[usize::from(last) % self.0.moves.len()];
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Store::move_lock`] of all entries, always in the same order.
    fn move_locks(&self) -> Vec<MutexGuard<'_, ()>> {
        let locks = self.0.moves.iter();
        locks
            .map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner))
            .collect()
    }
}

/// Runs work of the store where it may block.
///
/// # Errors
/// Those of the work; [`StoreError::Damaged`] when it panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StoreError::Damaged(error.to_string())))
}

fn broken_off() -> StoreError {
    StoreError::Damaged("a mail file: writing it was broken off".to_owned())
}

/// See [`Store::has_room`].
fn room_at(path: &Path, bytes: u64) -> bool {
    free_at(path).is_none_or(|(free, inodes)| fits(bytes, free, inodes))
}

fn fits(bytes: u64, free: u64, inodes: u64) -> bool {
    free >= bytes.saturating_add(RESERVE) && inodes >= RESERVE_INODES
}

/// Octets and inodes that are free for us; `None` where the file system does not say.
fn free_at(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let inodes = if stat.f_files == 0 {
        u64::MAX
    } else {
        stat.f_favail
    };
    Some((stat.f_bavail.saturating_mul(stat.f_frsize), inodes))
}

fn make_root(path: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|error| StoreError::io(path, error))
}

fn take_lock(path: &Path) -> Result<File, StoreError> {
    let name = path.join("lock");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = options
        .open(&name)
        .map_err(|error| StoreError::io(&name, error))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Busy(path.to_owned())),
        Err(error) => Err(StoreError::io(&name, error.into())),
    }
}

fn make_ballast(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST)?;
    Ok(())
}
