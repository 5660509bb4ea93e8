//! Opening sled and closing it: guarded, read through for loss, its names made durable (RELIABILITY F1-F3).
//!
//! sled may open a damaged file and miss records. A smaller sequence number in it than the one in
//! `index.seq` is a lost tail, other counts than it stored are lost pages.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::batch::tag;
use super::census::Census;
use super::holders;
use super::mailfile::sync_folder;
use super::places::Places;
use super::record::{self, checksum};
use super::totals::Totals;
use super::{Id, OutgoingItem, QuarantineEntry, QuarantineState, Shelf, StoreError};

/// What sled keeps of its pages. Octets of the disk's cache are as near, and this comes on top;
/// each of its 256 shares must hold the largest inner node, of 256 keys.
const CACHE: u64 = 4 << 20;
/// How often sled's own thread clears half-empty segments, milliseconds.
const CLEANING: u64 = 200;
/// sled's threads may still hold its lock for a moment after it was closed.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Where the index lies and what else it needs on the disk.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// sled's folder.
    pub(crate) dir: PathBuf,
    /// The last durable sequence number.
    pub(crate) seq: PathBuf,
    /// Space that is given up so that sled opens on a full disk.
    pub(crate) ballast: PathBuf,
}

/// What opening saw in the entries.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Items that were being sent.
    pub(crate) sending: Vec<OutgoingItem>,
    /// Entries that were being released.
    pub(crate) releasing: Vec<Id>,
    /// Outgoing items of each mailbox.
    pub(crate) outgoing_of: HashMap<String, u64>,
    /// Where the hand-offs lie.
    pub(crate) places: Places,
    /// The entries of held mail.
    pub(super) held: Census,
    /// The items on their way out.
    pub(super) leaving: Census,
    /// The lists of the mailboxes' entries do not have just these.
    pub(crate) unlisted: bool,
    /// Nothing says which commit was the last: later ones may be lost.
    pub(crate) unsure: bool,
}

impl Found {
    /// The ids on a shelf that have an entry.
    pub(crate) fn named(&self, shelf: Shelf) -> &Census {
        match shelf {
            Shelf::Quarantine => &self.held,
            Shelf::Outgoing => &self.leaving,
        }
    }
}

/// Opens sled on a thread of its own, with all its panics caught; gives up the ballast if that is
/// what it takes.
///
/// # Errors
/// [`StoreError::Damaged`] for what is not a matter of space or permission.
pub(crate) fn open_db(place: &Place) -> Result<sled::Db, StoreError> {
    let opened = open_locked(&place.dir, None);
    match opened {
        Err(error) if error.is_full() && std::fs::remove_file(&place.ballast).is_ok() => {
            tracing::error!("the disk is full: the ballast is given up to open the store");
            open_locked(&place.dir, None)
        }
        opened => opened,
    }
}

/// Opens a database that is not in use yet; with `cleaning` sled's own thread for that goes along.
///
/// # Errors
/// As [`open_db`].
pub(super) fn open_new(place: &Place, cleaning: bool) -> Result<sled::Db, StoreError> {
    open_locked(&place.dir, cleaning.then_some(CLEANING))
}

/// Opens sled, reads it through, and makes its names durable.
pub(crate) fn open_loaded(
    place: &Place,
    seq: u64,
    found: &mut Found,
) -> Result<(sled::Db, Option<Totals>, File), StoreError> {
    let db = open_db(place)?;
    let loaded = guarded(|| load(&db, seq, found));
    match loaded.and_then(|totals| Ok((totals, db_file(place)?))) {
        Ok((totals, sync)) => Ok((db, totals, sync)),
        Err(error) => {
            close_db(db);
            Err(error)
        }
    }
}

/// The last handle syncs when it goes, and panics where that fails.
pub(super) fn close_db(db: sled::Db) {
    let closed = guarded(|| {
        drop(db);
        Ok(())
    });
    if closed.is_err() {
        tracing::error!("the index could not be synced when it was closed");
    }
}

/// What a database holds and whether anything is missing; `None` for a new one.
fn load(db: &sled::Db, seq: u64, found: &mut Found) -> Result<Option<Totals>, StoreError> {
    let failed = |error| StoreError::index(Path::new("index"), error);
    let Some(value) = db.get(Totals::KEY).map_err(failed)? else {
        return match db.first().map_err(failed)? {
            None => Ok(None),
            Some(_) => Err(StoreError::Damaged("index: the counts are lost".to_owned())),
        };
    };
    let totals = Totals::decode(&value)
        .ok_or_else(|| StoreError::Damaged("index: wrong checksum of the counts".to_owned()))?;
    if totals.seq < seq {
        return Err(StoreError::Damaged(format!(
            "index: commit {seq} is lost, the last is {}",
            totals.seq
        )));
    }
    let mut seen = Totals {
        seq: totals.seq,
        live: totals.live,
        ..Totals::default()
    };
    for pair in db.scan_prefix([tag::QUARANTINE]) {
        let entry: QuarantineEntry = record::decode(&pair.map_err(failed)?.1)?;
        found.held.add(entry.id);
        seen.quarantine += 1;
        seen.quarantine_bytes += entry.size;
        if entry.state == QuarantineState::Releasing {
            found.releasing.push(entry.id);
        }
    }
    for pair in db.scan_prefix([tag::OUTGOING]) {
        let item: OutgoingItem = record::decode(&pair.map_err(failed)?.1)?;
        found.leaving.add(item.id);
        seen.outgoing += 1;
        *found.outgoing_of.entry(item.mailbox.clone()).or_default() += 1;
        if item.state.is_under_way() {
            found.sending.push(item);
        }
    }
    for key in db.scan_prefix([tag::HANDOFF]).keys() {
        found.places.add(&key.map_err(failed)?);
    }
    let older = db.scan_prefix([tag::OLD_HANDOFF]).next().transpose();
    found.places.older = older.map_err(failed)?.is_some();
    let mut listed = Census::default();
    for pair in db.scan_prefix([tag::HOLDER]) {
        let (key, value) = pair.map_err(failed)?;
        holders::listed(&key, &value)
            .into_iter()
            .for_each(|id| listed.add(id));
    }
    found.unlisted = listed != found.held;
    if seen == totals {
        Ok(Some(totals))
    } else {
        Err(StoreError::Damaged(format!(
            "index: {seen:?} is there of {totals:?}"
        )))
    }
}

/// The file that sled writes, on a descriptor of our own, and all its names durable.
pub(crate) fn db_file(place: &Place) -> Result<File, StoreError> {
    let path = place.dir.join("db");
    let open = |path: &Path| {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.and_then(|file| file.sync_all().map(|()| file));
        file.map_err(|error| StoreError::io(path, error))
    };
    let file = open(&path)?;
    open(&place.dir.join("conf"))?;
    sync_folder(&place.dir)?;
    place.dir.parent().map_or(Ok(()), sync_folder)?;
    Ok(file)
}

/// The last sequence number that was durable, or an earlier one; `None` when it cannot be read.
pub(crate) fn read_seq(file: &File) -> Option<u64> {
    let (mut number, mut sum) = ([0; 8], [0; 4]);
    let read = file
        .read_exact_at(&mut number, 0)
        .and_then(|()| file.read_exact_at(&mut sum, 8));
    if read.is_err() || sum != checksum(&number) {
        return None;
    }
    Some(u64::from_be_bytes(number))
}

/// Written after each sync and never synced itself: it may lag, it must not lead.
pub(crate) fn write_seq(file: &File, seq: u64) -> std::io::Result<()> {
    let number = seq.to_be_bytes();
    let value = [number.as_slice(), &checksum(&number)].concat();
    file.write_all_at(&value, 0)
}

/// Runs `work`; a panic of sled becomes [`StoreError::Damaged`].
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::Damaged("index: sled panicked".to_owned())))
}

pub(super) fn open_seq(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    options
        .mode(0o600)
        .open(path)
        .map_err(|error| StoreError::io(path, error))
}

fn open_locked(dir: &Path, cleaning: Option<u64>) -> Result<sled::Db, StoreError> {
    remove_unfinished_snapshots(dir).map_err(|error| StoreError::io(dir, error))?;
    for _ in 0..LOCK_TRIES {
        match open_guarded(dir, cleaning) {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                thread::sleep(LOCK_PAUSE);
            }
            opened => return opened.map_err(|error| StoreError::index(dir, error)),
        }
    }
    Err(StoreError::Busy(dir.to_owned()))
}

/// sled writes `snap.N.generating`, then renames it. One that a kill left behind it takes for the
/// newest snapshot, and calls the whole database corrupt; the snapshot before it is still there.
fn remove_unfinished_snapshots(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "generating") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn open_guarded(dir: &Path, cleaning: Option<u64>) -> sled::Result<sled::Db> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE)
        .flush_every_ms(cleaning)
        .use_compression(false);
    let opener = thread::Builder::new()
        .name("store-open".to_owned())
        .spawn(move || config.open())?;
    opener
        .join()
        .unwrap_or_else(|_| Err(sled::Error::ReportableBug("panic while opening".to_owned())))
}
