//! The index made small again while it is in use. sled gives no space back: what was overwritten and
//! removed keeps its segments, the more so the more often they are filled again.
//!
//! A thread copies all live keys into a new database beside the old one, in small chunks; the
//! committer notes which keys change meanwhile, and the thread copies those again until few are
//! left. The committer copies the last of them, syncs the new database and exchanges the two folders
//! in one step (`RENAME_EXCHANGE`). At each moment the folder `index` is one of the two, whole and
//! durable up to the last commit; what lies beside it is nobody's, and goes at the next opening.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sled::IVec;

use super::index::{Scan, Shared};
use super::mailfile::{make_folder, sync_folder};
use super::opening::{Place, close_db, db_file, guarded, open_new};
use super::{StoreError, room_at};
use crate::failpoint::{Point, reach};

/// Space beyond what the live data need that is not worth a copy.
const LEAST_WASTE: u64 = 16 << 20;
/// The copy is only begun with so many times its live data free on the disk.
const ROOM: u64 = 3;
/// Keys that are copied at once, and then the thread gives way.
const CHUNK: usize = 256;
const GIVE_WAY: Duration = Duration::from_millis(1);
/// Keys that are read at once. sled gives a page up after 64 looks at its 256th part of all pages:
/// a walk that looks at each page once would hold 16,384 of them.
const AT_ONCE: usize = 2;
/// So many keys the committer copies itself, while commits wait.
const FEW: usize = 500;
/// Octets of the counts themselves, which are in the copy's count and perhaps not in the index's.
const COUNTS: u64 = 64;
/// Rounds of copying again what has changed, at most.
const ROUNDS: usize = 20;

/// What the index holds and what it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    /// Octets of all keys and values; `None` for an index of an older version.
    pub(super) live: Option<u64>,
    /// Octets of sled's file.
    pub(super) taken: u64,
    /// The same after the last copy.
    pub(super) copied: u64,
}

impl Space {
    /// Whether a copy would give back more than it costs; while commits come in it costs them too.
    /// sled writes each key and value two to three times until they lie in a full leaf, so a copy
    /// takes that much.
    pub(super) fn is_wasted(self, quiet: bool) -> bool {
        let (halves, waste) = match quiet {
            true => (7, LEAST_WASTE),
            false => (12, LEAST_WASTE * 4),
        };
        let needed = self.live.unwrap_or(0).saturating_mul(halves) / 2;
        let least = needed.max(self.copied.saturating_mul(3) / 2);
        self.taken > least.saturating_add(waste)
    }
}

/// A copy that is being made.
#[derive(Debug)]
pub(super) struct Compaction {
    /// Where it lies.
    dir: PathBuf,
    work: Arc<Work>,
    thread: Option<JoinHandle<Result<Copied, StoreError>>>,
}

#[derive(Debug, Default)]
struct Work {
    /// Keys that changed since they were last copied.
    touched: Mutex<BTreeSet<Vec<u8>>>,
    /// Nobody wants the copy any more.
    ended: AtomicBool,
}

/// A new database with all that the old one has but for the keys touched since.
#[derive(Debug)]
pub(super) struct Copied {
    /// The database.
    pub(super) db: sled::Db,
    /// Our own descriptor of its file.
    pub(super) sync: File,
    /// Octets of its keys and values.
    pub(super) live: u64,
}

impl Compaction {
    /// Begins a copy; `None` where the disk has no room for it.
    ///
    /// # Errors
    /// Those of making a thread.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        place: &Place,
        space: Space,
    ) -> Result<Option<Self>, StoreError> {
        let needed = space.live.unwrap_or(space.taken).saturating_mul(ROOM);
        if !room_at(&place.dir, needed) {
            return Ok(None);
        }
        let work = Arc::new(Work::default());
        let copying = (Arc::clone(shared), beside(place), Arc::clone(&work));
        let thread = thread::Builder::new()
            .name("store-compact".to_owned())
            .spawn(move || {
                let (shared, place, work) = copying;
                guarded(|| copy_all(&shared, &place, &work)).inspect_err(|_| remove(&place.dir))
            })
            .map_err(|error| StoreError::io(&place.dir, error))?;
        Ok(Some(Self {
            dir: beside(place).dir,
            work,
            thread: Some(thread),
        }))
    }

    /// Keys that a commit has changed; to be called once it is applied.
    pub(super) fn touch(&self, keys: impl Iterator<Item = Vec<u8>>) {
        self.work.touched().extend(keys);
    }

    /// Nobody uses its result.
    pub(super) fn discard(&self, copied: Copied) {
        copied.discard(&self.dir);
    }

    /// The result, if it is there.
    pub(super) fn poll(&mut self) -> Option<Result<Copied, StoreError>> {
        let thread = self.thread.take_if(|thread| thread.is_finished())?;
        let copied = thread.join();
        Some(copied.unwrap_or_else(|_| Err(StoreError::Closed)))
    }

    /// Copies what is left, makes it durable and puts it into the old one's place; the caller then
    /// uses it. Commits wait meanwhile. `live` is what the old one's counts say of its octets.
    ///
    /// # Errors
    /// Without `failed`: nothing has changed. With it: nobody knows which of the two is there after
    /// a power cut.
    pub(super) fn exchange(
        &self,
        old: &sled::Db,
        copied: &mut Copied,
        live: Option<u64>,
        place: &Place,
        failed: &AtomicBool,
    ) -> Result<(), StoreError> {
        let keys = std::mem::take(&mut *self.work.touched());
        copy_keys(old, copied, keys)?;
        if live.is_some_and(|live| live.abs_diff(copied.live) > COUNTS) {
            let (copied, dir) = (copied.live, place.dir.display());
            let what = format!("{dir}: a copy has {copied} octets, {live:?} are there");
            return Err(StoreError::Damaged(what));
        }
        sync(copied, &place.dir)?;
        reach(Point::IndexCopied);
        let other = beside(place).dir;
        renameat_with(CWD, &place.dir, CWD, &other, RenameFlags::EXCHANGE)
            .map_err(|error| StoreError::io(&place.dir, error.into()))?;
        reach(Point::IndexExchanged);
        let synced = place.dir.parent().map_or(Ok(()), sync_folder);
        synced.inspect_err(|_| failed.store(true, Ordering::SeqCst))
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.work.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && let Ok(Ok(copied)) = thread.join()
        {
            copied.discard(&self.dir);
        }
    }
}

impl Copied {
    /// Closes and removes a copy that nobody uses.
    fn discard(self, dir: &Path) {
        close_db(self.db);
        remove(dir);
    }
}

impl Work {
    fn touched(&self) -> MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn go_on(&self) -> Result<(), StoreError> {
        match self.ended.load(Ordering::SeqCst) {
            true => Err(StoreError::Closed),
            false => Ok(()),
        }
    }
}

/// Removes what a copy that broke off, or the exchange, left beside the index.
pub(super) fn clear(place: &Place) {
    remove(&beside(place).dir);
}

/// Closes the database that was exchanged and removes it, while work goes on; no copy is begun before
/// that is over.
pub(super) fn dispose(old: Option<sled::Db>, place: &Place) -> Option<JoinHandle<()>> {
    let dir = beside(place).dir;
    let disposing = move || {
        old.into_iter().for_each(close_db);
        remove(&dir);
    };
    // Where there is no thread for it, the next opening clears it.
    let thread = thread::Builder::new().spawn(disposing);
    thread
        .inspect_err(
            |error| tracing::warn!(%error, "an old index stays behind until the next start"),
        )
        .ok()
}

fn remove(dir: &Path) {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "{} stays behind", dir.display());
        }
        _ => {}
    }
}

fn beside(place: &Place) -> Place {
    let dir: PathBuf = place.dir.with_file_name("index.new");
    Place {
        dir,
        ..place.clone()
    }
}

fn copy_all(shared: &Arc<Shared>, place: &Place, work: &Work) -> Result<Copied, StoreError> {
    remove(&place.dir);
    make_folder(&place.dir)?;
    let whole = |db: sled::Db, recovered: bool| match db.was_recovered() == recovered {
        true => Ok(db),
        false => {
            close_db(db);
            let dir = place.dir.display();
            Err(StoreError::Conflict(format!("{dir} is not this copy")))
        }
    };
    // What sled leaves behind of each page it moves while it fills is cleared here and only here:
    // segments that are cleared before they are synced would not outlive a power cut.
    let mut copied = copied(whole(open_new(place, true)?, false)?, place, 0)?;
    let copying = copy_scanned(shared, &mut copied, work);
    let caught = copying.and_then(|()| catch_up(shared, &mut copied, work));
    let live = copied.live;
    close_db(copied.db);
    caught?;
    let mut copied = self::copied(whole(open_new(place, false)?, true)?, place, live)?;
    match catch_up(shared, &mut copied, work).and_then(|()| sync(&copied, &place.dir)) {
        Ok(()) => Ok(copied),
        Err(error) => {
            close_db(copied.db);
            Err(error)
        }
    }
}

fn copied(db: sled::Db, place: &Place, live: u64) -> Result<Copied, StoreError> {
    match db_file(place) {
        Ok(sync) => Ok(Copied { db, sync, live }),
        Err(error) => {
            close_db(db);
            Err(error)
        }
    }
}

fn copy_scanned(shared: &Arc<Shared>, copied: &mut Copied, work: &Work) -> Result<(), StoreError> {
    let mut all = Scan::new(Arc::clone(shared), vec![0], vec![u8::MAX], AT_ONCE);
    loop {
        work.go_on()?;
        let chunk = all.by_ref().take(CHUNK).collect::<Result<Vec<_>, _>>()?;
        if chunk.is_empty() {
            return Ok(());
        }
        // Every other key first: sled halves a leaf of more than 16 keys, and the second half of
        // the keys fills up the first's leaves.
        for odd in [0, 1] {
            let mut batch = sled::Batch::default();
            for (key, value) in chunk.iter().skip(odd).step_by(2) {
                copied.live += octets(key, Some(value));
                batch.insert(key, value);
            }
            copied.db.apply_batch(batch).map_err(failed)?;
        }
        thread::sleep(GIVE_WAY);
    }
}

/// Until so few keys are left that commits can wait for them.
fn catch_up(shared: &Shared, copied: &mut Copied, work: &Work) -> Result<(), StoreError> {
    for _ in 0..ROUNDS {
        let mut keys = std::mem::take(&mut *work.touched());
        let few = keys.len() < FEW;
        while !keys.is_empty() {
            work.go_on()?;
            let rest = keys.iter().nth(CHUNK).cloned();
            let rest = rest.map(|first| keys.split_off(&first));
            shared.read_with(|db| copy_keys(db, copied, keys))?;
            keys = rest.unwrap_or_default();
        }
        if few {
            break;
        }
    }
    Ok(())
}

fn copy_keys(
    from: &sled::Db,
    copied: &mut Copied,
    keys: BTreeSet<Vec<u8>>,
) -> Result<(), StoreError> {
    for key in keys {
        let value = from.get(&key).map_err(failed)?;
        copied.live += octets(&key, value.as_ref());
        let old = match value {
            Some(value) => copied.db.insert(&key, value),
            None => copied.db.remove(&key),
        };
        let old = old.map_err(failed)?;
        copied.live = copied.live.saturating_sub(octets(&key, old.as_ref()));
    }
    Ok(())
}

fn sync(copied: &Copied, dir: &Path) -> Result<(), StoreError> {
    copied.db.flush().map_err(failed)?;
    let synced = copied.sync.sync_data();
    synced.map_err(|error| StoreError::io(dir, error))
}

fn octets(key: &[u8], value: Option<&IVec>) -> u64 {
    let octets = value.map_or(0, |value| key.len() + value.len());
    u64::try_from(octets).unwrap_or(u64::MAX)
}

fn failed(error: sled::Error) -> StoreError {
    StoreError::index(Path::new("index"), error)
}
