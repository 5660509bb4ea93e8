//! sled, held the way that survives (RELIABILITY F1-F3): one thread writes, every commit is synced
//! on a descriptor of our own, opening is guarded, loss is noticed (`opening`).
//!
//! * `flush` does not reach the disk, so `fdatasync` on `db` follows, shared by all waiting commits.
//! * Each commit stores a sequence number and the counts of entries (`totals`); the number goes, after
//!   the sync, into the file `index.seq` too.
//! * After a write error sled refuses everything until it is opened again, which needs space; the
//!   committer opens it again by itself. After a sync error nothing is believed any more.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use sled::IVec;
use tokio::sync::broadcast;

use super::batch::{self, Batch, tag};
use super::committer::Committer;
use super::compaction;
use super::mailfile::make_folder;
use super::opening::{Found, Place, close_db, guarded, open_loaded, open_seq, read_seq, write_seq};
use super::places::Places;
use super::record::{self, Record};
use super::totals::Totals;
use super::{Handoff, HandoffKey, Id, Shelf, StoreError};

/// Entries that a scan reads at once.
const CHUNK: usize = 256;
/// Batches that nobody waits for, at most; more are dropped, so that a slow disk costs no memory.
const MAX_UNWAITED: u64 = 10_000;
/// Decisions that one who follows may be behind.
const FOLLOWED: usize = 4096;

/// What readers and the committer share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// `None` while it is closed after a write error, and at the end.
    pub(crate) db: RwLock<Option<sled::Db>>,
    /// Set once a sync failed; never cleared.
    pub(crate) failed: AtomicBool,
    /// A record that nobody waited for may be lost; never cleared.
    pub(crate) lost: AtomicBool,
    pub(crate) quarantine_bytes: AtomicU64,
    pub(crate) outgoing: AtomicU64,
    /// Outgoing items of each mailbox that has some.
    outgoing_of: Mutex<HashMap<String, u64>>,
    /// Batches on their way that nobody waits for.
    pub(crate) unwaited: AtomicU64,
    /// Those of them that the committer has not taken yet, and those that are waited for with patience.
    gathered: Mutex<VecDeque<Job>>,
    /// The hand-offs in them: a retry must find its first try at once.
    unwaited_handoffs: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    /// Where those and all others lie.
    places: Mutex<Places>,
    /// The decisions as they come in.
    pub(crate) decisions: broadcast::Sender<Id>,
}

impl Shared {
    pub(crate) fn new(db: sled::Db) -> Self {
        Self {
            db: RwLock::new(Some(db)),
            failed: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            quarantine_bytes: AtomicU64::new(0),
            outgoing: AtomicU64::new(0),
            outgoing_of: Mutex::default(),
            unwaited: AtomicU64::new(0),
            gathered: Mutex::default(),
            unwaited_handoffs: Mutex::default(),
            places: Mutex::default(),
            decisions: broadcast::Sender::new(FOLLOWED),
        }
    }

    fn submitted(&self, batch: &Batch) {
        self.unwaited.fetch_add(1, Ordering::Relaxed);
        for (key, value) in batch.changes.iter().filter(|change| is_handoff(&change.0)) {
            let value = value.clone().map(|value| (key.clone(), value));
            self.unwaited_handoffs().extend(value);
            self.places().add(key);
        }
    }

    /// Up to `most` of the batches that may wait, the oldest first, and whether there are more.
    pub(crate) fn take_gathered(&self, most: usize) -> (Vec<Job>, bool) {
        let mut gathered = self.gathered();
        let count = gathered.len().min(most);
        let taken = gathered.drain(..count).collect();
        (taken, !gathered.is_empty())
    }

    /// A batch that nobody waited for is not durable and never will be.
    pub(crate) fn lost(&self, error: &StoreError) {
        tracing::warn!(%error, "records that nobody waited for are not stored");
        self.lost.store(true, Ordering::SeqCst);
    }

    /// A batch that nobody waits for is applied, or lost.
    pub(crate) fn settled(&self, batch: &Batch) {
        self.unwaited.fetch_sub(1, Ordering::Relaxed);
        let mut handoffs = self.unwaited_handoffs();
        for (key, _) in batch.changes.iter().filter(|change| is_handoff(&change.0)) {
            handoffs.remove(key);
        }
    }

    /// What opening counted and found.
    pub(crate) fn take_up(&self, found: &mut Found) {
        *self.outgoing_of() = std::mem::take(&mut found.outgoing_of);
        self.places().append(&mut found.places);
    }

    /// An outgoing item of a mailbox came or went.
    pub(crate) fn count_outgoing(&self, mailbox: String, came: bool) {
        let mut counts = self.outgoing_of();
        match counts.entry(mailbox) {
            Entry::Vacant(place) if came => drop(place.insert(1)),
            Entry::Vacant(_) => {}
            Entry::Occupied(mut place) if came => *place.get_mut() += 1,
            Entry::Occupied(place) if *place.get() <= 1 => drop(place.remove()),
            Entry::Occupied(mut place) => *place.get_mut() -= 1,
        }
    }

    fn outgoing_of(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.outgoing_of
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn gathered(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwaited_handoffs(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Vec<u8>>> {
        self.unwaited_handoffs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn publish(&self, totals: &Totals) {
        self.quarantine_bytes
            .store(totals.quarantine_bytes, Ordering::Relaxed);
        self.outgoing.store(totals.outgoing, Ordering::Relaxed);
    }

    /// Closes what was open.
    pub(crate) fn replace(&self, db: Option<sled::Db>) {
        self.exchange(db).into_iter().for_each(close_db);
    }

    /// What was open.
    pub(super) fn exchange(&self, db: Option<sled::Db>) -> Option<sled::Db> {
        let mut place = self.db.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, db)
    }

    fn read<T>(&self, read: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, StoreError> {
        let failed = |error| StoreError::index(Path::new("index"), error);
        self.read_with(|db| read(db).map_err(failed))
    }

    /// Runs `read` on the open database; a panic of sled becomes [`StoreError::Damaged`].
    pub(super) fn read_with<T>(
        &self,
        read: impl FnOnce(&sled::Db) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or(StoreError::Closed)?;
        guarded(|| read(db))
    }
}

/// Who waits for a batch.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A task.
    Task(tokio::sync::oneshot::Sender<Result<(), StoreError>>),
    /// A thread.
    Thread(SyncSender<Result<(), StoreError>>),
    /// Nobody.
    None,
}

impl Waiter {
    /// A task that was dropped: what it would have answered is answered as not done.
    pub(crate) fn has_gone(&self) -> bool {
        match self {
            Self::Task(task) => task.is_closed(),
            Self::Thread(_) | Self::None => false,
        }
    }
}

/// A batch on its way to the committer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) batch: Batch,
    pub(crate) waiter: Waiter,
}

/// What the committer is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// To be committed now, with whatever has gathered.
    Commit(Job),
    /// The first batch that may wait is there.
    Gather,
    /// What has gathered is to be applied now, for a reader.
    Apply(SyncSender<()>),
}

/// The open index. Dropping it syncs what is open and closes sled.
#[derive(Debug)]
pub(crate) struct Index {
    shared: Arc<Shared>,
    sender: Option<Sender<Order>>,
    committer: Option<JoinHandle<()>>,
}

impl Index {
    /// Opens or makes the index and looks for loss. `None` for one that is new and empty and has to
    /// be filled; its first commit makes it whole.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it must be rebuilt; [`StoreError::Full`] and kin.
    pub(crate) fn open(place: &Place) -> Result<(Self, Option<Found>), StoreError> {
        compaction::clear(place);
        make_folder(&place.dir)?;
        let seq_file = open_seq(&place.seq)?;
        let known = read_seq(&seq_file);
        let seq = known.unwrap_or(0);
        let mut found = Found {
            unsure: known.is_none(),
            ..Found::default()
        };
        let (db, totals, sync) = open_loaded(place, seq, &mut found)?;
        if totals.is_none() {
            // Later numbers take its place and need no sync.
            let begun = write_seq(&seq_file, seq).and_then(|()| seq_file.sync_all());
            if let Err(error) = begun {
                tracing::warn!(%error, "{} is not durable", place.seq.display());
            }
        }
        let shared = Arc::new(Shared::new(db));
        let start = totals.unwrap_or(Totals {
            seq,
            live: Some(0),
            ..Totals::default()
        });
        shared.publish(&start);
        shared.take_up(&mut found);
        let (sender, receiver) = channel();
        let committer = Committer::new(Arc::clone(&shared), place.clone(), sync, seq_file, start);
        let committer = thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || committer.run(&receiver))
            .map_err(|error| StoreError::io(&place.dir, error))?;
        let index = Self {
            shared,
            sender: Some(sender),
            committer: Some(committer),
        };
        Ok((index, totals.map(|_| found)))
    }

    pub(crate) fn commit(
        &self,
        batch: Batch,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sent = self.send(batch, Waiter::Task(sender));
        async move {
            sent?;
            receiver.await.unwrap_or_else(|_| Err(lost()))
        }
    }

    pub(crate) fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        let (sender, receiver) = sync_channel(1);
        self.send(batch, Waiter::Thread(sender))?;
        receiver.recv().unwrap_or_else(|_| Err(lost()))
    }

    pub(crate) fn submit(&self, batch: Batch) {
        let lost = |error: StoreError| self.shared.lost(&error);
        if self.shared.unwaited.load(Ordering::Relaxed) >= MAX_UNWAITED {
            return lost(StoreError::Failed);
        }
        if let Err(error) = batch.check() {
            return lost(error);
        }
        self.shared.submitted(&batch);
        let waiter = Waiter::None;
        self.gather(Job { batch, waiter });
    }

    /// [`Index::commit_blocking`] for what is in no hurry: it goes with the next commit, or a moment
    /// later.
    pub(crate) fn commit_patiently(&self, batch: Batch) -> Result<(), StoreError> {
        batch.check()?;
        let (sender, receiver) = sync_channel(1);
        let waiter = Waiter::Thread(sender);
        self.gather(Job { batch, waiter });
        receiver.recv().unwrap_or_else(|_| Err(lost()))
    }

    fn gather(&self, job: Job) {
        let mut gathered = self.shared.gathered();
        gathered.push_back(job);
        let first = gathered.len() == 1;
        drop(gathered);
        let sender = self.sender.as_ref().filter(|_| first);
        if sender.is_some_and(|sender| sender.send(Order::Gather).is_err()) {
            // The committer is gone: whoever waits learns it by this.
            drop(self.shared.take_gathered(usize::MAX));
        }
    }

    /// Until all that was submitted before can be read.
    pub(crate) fn apply_gathered(&self) {
        let Some(sender) = &self.sender else {
            return;
        };
        if self.shared.unwaited.load(Ordering::Relaxed) > 0 {
            let (done, applied) = sync_channel(1);
            // An error: the committer is gone, and applies nothing any more.
            let _ = sender.send(Order::Apply(done));
            let _ = applied.recv();
        }
    }

    pub(crate) fn follow(&self) -> broadcast::Receiver<Id> {
        self.shared.decisions.subscribe()
    }

    pub(crate) fn quarantine_bytes(&self) -> u64 {
        self.shared.quarantine_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn outgoing_count(&self) -> u64 {
        self.shared.outgoing.load(Ordering::Relaxed)
    }

    pub(crate) fn outgoing_count_of(&self, mailbox: &str) -> u64 {
        self.shared.outgoing_of().get(mailbox).copied().unwrap_or(0)
    }

    /// A sync failed; never cleared.
    pub(crate) fn is_failed(&self) -> bool {
        self.shared.failed.load(Ordering::SeqCst)
    }

    /// A record that nobody waited for may be lost; never cleared.
    pub(crate) fn has_lost(&self) -> bool {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// After a failed sync nothing that is read is known to be durable.
    pub(crate) fn believed(&self) -> Result<(), StoreError> {
        match self.is_failed() {
            true => Err(StoreError::Failed),
            false => Ok(()),
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.shared.read(|db| db.get(key))
    }

    /// One hand-off, also one that is on its way. A closed index knows none and takes no mail.
    pub(crate) fn handoff(&self, handoff: &HandoffKey) -> Result<Option<Handoff>, StoreError> {
        let failed = |error| StoreError::index(Path::new("index"), error);
        // Asked within: where the index has just been opened again, its places are all known.
        self.shared.read_with(|db| {
            let keys = self.shared.places().of(handoff);
            for key in keys {
                let waiting = self.shared.unwaited_handoffs().get(&key).cloned();
                let value = match waiting {
                    Some(value) => Some(value.into()),
                    None => db.get(&key).map_err(failed)?,
                };
                if let Some(value) = value {
                    return record::decode(&value).map(Some);
                }
            }
            Ok(None)
        })
    }

    pub(crate) fn get_record<R: Record>(
        &self,
        tag: u8,
        name: &[u8],
    ) -> Result<Option<R>, StoreError> {
        let value = self.get(&batch::key(tag, name))?;
        value.map(|value| record::decode(&value)).transpose()
    }

    /// The first key of a kind.
    pub(crate) fn first(&self, tag: u8) -> Result<Option<IVec>, StoreError> {
        self.first_between(&[tag], &[tag + 1])
    }

    /// The first key from `from` up to but without `to`.
    pub(crate) fn first_between(&self, from: &[u8], to: &[u8]) -> Result<Option<IVec>, StoreError> {
        if from >= to {
            return Ok(None);
        }
        self.shared.read(|db| {
            let first = db.range(from..to).next();
            first.map(|pair| pair.map(|(key, _)| key)).transpose()
        })
    }

    /// The earliest time among the timed keys of a kind.
    pub(crate) fn first_time(&self, tag: u8) -> Result<Option<i64>, StoreError> {
        let first = self.first(tag)?;
        Ok(first.and_then(|key| batch::split_timed_key(&key).map(|(time, _)| time)))
    }

    /// Whether a mail file has an entry.
    pub(crate) fn has_file(&self, shelf: Shelf, id: Id) -> Result<bool, StoreError> {
        let key = batch::key(tag_of(shelf), id.as_str().as_bytes());
        self.shared.read(|db| db.contains_key(key))
    }

    /// The mail files that have an entry.
    pub(crate) fn files(&self, shelf: Shelf) -> impl Iterator<Item = Result<Id, StoreError>> {
        let tag = tag_of(shelf);
        self.scan(vec![tag], vec![tag + 1])
            .filter_map(|pair| match pair {
                Ok((key, _)) => Some(Ok(std::str::from_utf8(key.get(1..)?).ok()?.parse().ok()?)),
                Err(error) => Some(Err(error)),
            })
    }

    /// Keys and values from `from` up to but without `to`, read in small chunks.
    pub(crate) fn scan(&self, from: Vec<u8>, to: Vec<u8>) -> Scan {
        Scan::new(Arc::clone(&self.shared), from, to, CHUNK)
    }

    /// All records of a kind from a name on.
    pub(crate) fn records<R: Record>(
        &self,
        tag: u8,
        from: &[u8],
    ) -> impl Iterator<Item = Result<R, StoreError>> + Send + use<R> {
        self.records_between(batch::key(tag, from), vec![tag + 1])
    }

    /// All records from a key up to but without another.
    pub(crate) fn records_between<R: Record>(
        &self,
        from: Vec<u8>,
        to: Vec<u8>,
    ) -> impl Iterator<Item = Result<R, StoreError>> + Send + use<R> {
        let scan = self.scan(from, to);
        scan.map(|pair| pair.and_then(|(_, value)| record::decode(&value)))
    }

    fn send(&self, batch: Batch, waiter: Waiter) -> Result<(), StoreError> {
        batch.check()?;
        let sender = self.sender.as_ref().ok_or(StoreError::Failed)?;
        sender
            .send(Order::Commit(Job { batch, waiter }))
            .map_err(|_| StoreError::Failed)
    }
}

impl Index {
    /// Syncs what is open and closes sled.
    pub(crate) fn close(&mut self) {
        drop(self.sender.take());
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
        self.shared.replace(None);
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.close();
    }
}

/// A walk through the index that holds nothing open between its chunks.
#[derive(Debug)]
pub(crate) struct Scan {
    shared: Arc<Shared>,
    /// Where the next chunk starts; `None` at the end.
    next: Option<Vec<u8>>,
    to: Vec<u8>,
    at_once: usize,
    chunk: VecDeque<(IVec, IVec)>,
}

impl Scan {
    /// `at_once` keys are read in one chunk.
    pub(super) fn new(shared: Arc<Shared>, from: Vec<u8>, to: Vec<u8>, at_once: usize) -> Self {
        Self {
            shared,
            next: Some(from),
            to,
            at_once,
            chunk: VecDeque::new(),
        }
    }
}

impl Iterator for Scan {
    type Item = Result<(IVec, IVec), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.chunk.is_empty() {
            let from = self.next.take()?;
            if from >= self.to {
                return None;
            }
            let to = self.to.as_slice();
            let read = self.shared.read(|db| {
                let range = db.range(from.as_slice()..to);
                range
                    .take(self.at_once)
                    .collect::<sled::Result<VecDeque<_>>>()
            });
            match read {
                Ok(chunk) => self.chunk = chunk,
                Err(error) => return Some(Err(error)),
            }
            if self.chunk.len() == self.at_once {
                self.next = self
                    .chunk
                    .back()
                    .map(|(key, _)| [key, [0].as_slice()].concat());
            }
        }
        self.chunk.pop_front().map(Ok)
    }
}

/// Under which kind of entry the files of a shelf are.
fn tag_of(shelf: Shelf) -> u8 {
    match shelf {
        Shelf::Quarantine => tag::QUARANTINE,
        Shelf::Outgoing => tag::OUTGOING,
    }
}

fn is_handoff(key: &[u8]) -> bool {
    key.first() == Some(&tag::HANDOFF)
}

/// The committer is gone with a batch in its hands.
fn lost() -> StoreError {
    StoreError::InDoubt(Arc::new(StoreError::Failed))
}

#[cfg(test)]
mod tests {
    use super::super::committer::HANDOFF_LIFE;
    use super::super::{Answer, FactsRecord, QuarantineEntry, QuarantineState, WhyRecord};
    use super::*;

    fn open() -> (tempfile::TempDir, Index) {
        let dir = tempfile::tempdir().unwrap();
        let place = Place {
            dir: dir.path().join("index"),
            seq: dir.path().join("index.seq"),
            ballast: dir.path().join("ballast"),
        };
        let (index, _) = Index::open(&place).unwrap();
        (dir, index)
    }

    fn why(id: Id) -> WhyRecord {
        WhyRecord {
            id,
            mailbox: "taro@example.jp".to_owned(),
            received_at: 1,
            body: serde_json::Value::Null,
        }
    }

    fn handoff(created_at: i64) -> Handoff {
        Handoff {
            answer: Answer {
                id: Id::new(created_at),
                verdict: "deliver".to_owned(),
                stage: None,
            },
            outgoing: Vec::new(),
            quarantine: None,
            created_at,
        }
    }

    #[test]
    fn a_mailbox_without_outgoing_mail_is_not_counted() {
        let (_dir, index) = open();
        let count = |mailbox: &str, came| index.shared.count_outgoing(mailbox.to_owned(), came);
        for (mailbox, came, expected) in [
            ("a", false, 0),
            ("a", true, 1),
            ("a", true, 2),
            ("b", true, 1),
            ("a", false, 1),
            ("b", false, 0),
            ("a", false, 0),
        ] {
            count(mailbox, came);
            assert_eq!(index.outgoing_count_of(mailbox), expected);
        }
        assert!(index.shared.outgoing_of().is_empty());
    }

    #[test]
    fn the_octets_that_live_are_counted() {
        let (_dir, index) = open();
        let counted = |index: &Index| {
            let counts = index.get(&Totals::KEY).unwrap().unwrap();
            let all = index.scan(vec![0], vec![u8::MAX]).map(Result::unwrap);
            let all = all.filter(|(key, _)| key.as_ref() != Totals::KEY);
            let octets: usize = all.map(|(key, value)| key.len() + value.len()).sum();
            (Totals::decode(&counts).unwrap().live, Some(octets as u64))
        };
        let mut entry = QuarantineEntry {
            id: Id::new(1),
            mailbox: "taro@example.jp".to_owned(),
            stage: "spam".to_owned(),
            class: "spam".to_owned(),
            entry: None,
            origin: None,
            sender: String::new(),
            from: "one".to_owned(),
            subject: String::new(),
            size: 1,
            received_at: 1,
            expires_at: 2,
            state: QuarantineState::Held,
            release_to: None,
            handoff: None,
        };
        let put = |entry: &QuarantineEntry| {
            let mut batch = Batch::new();
            batch.put_quarantine(entry);
            index.commit_blocking(batch).unwrap();
        };
        put(&entry);
        let once = counted(&index);
        entry.state = QuarantineState::Releasing;
        entry.from = "another".to_owned();
        put(&entry);
        entry.expires_at = 3;
        put(&entry);
        let id = entry.id;
        let mut batch = Batch::new();
        batch.put_decision(&why(id), &FactsRecord::new(id, 1));
        index.commit_blocking(batch).unwrap();
        let full = counted(&index);
        let mut batch = Batch::new();
        batch.put_why(&WhyRecord {
            body: "longer".into(),
            ..why(id)
        });
        batch.remove_key(batch::timed_key(
            tag::EXPIRY,
            3,
            &batch::key(tag::QUARANTINE, id.as_str().as_bytes()),
        ));
        batch.remove_quarantine(id);
        index.commit_blocking(batch).unwrap();
        let rest = counted(&index);
        let key: HandoffKey = format!("{:064x}", 1).parse().unwrap();
        let older = batch::key(tag::OLD_HANDOFF, key.as_bytes());
        let value = record::encode(&handoff(4)).unwrap();
        let mut batch = Batch::new();
        batch.changes.push((older.clone(), Some(value)));
        batch.put_handoff(&key, &handoff(5));
        index.commit_blocking(batch).unwrap();
        let handoffs = counted(&index);
        let mut batch = Batch::new();
        let expiry = 4 + HANDOFF_LIFE;
        batch.remove_key(batch::timed_key(tag::EXPIRY, expiry, &older));
        batch.remove_key(older);
        index.commit_blocking(batch).unwrap();
        for (known, there) in [once, full, rest, handoffs, counted(&index)] {
            assert_eq!(known, there);
        }
        assert!(rest < full && once < full);
    }

    #[test]
    fn a_hand_off_is_found_wherever_it_lies() {
        let (dir, index) = open();
        let key = |number: u8| -> HandoffKey { format!("{number:064x}").parse().unwrap() };
        let mut batch = Batch::new();
        let older = record::encode(&handoff(1)).unwrap();
        let older = (batch::key(tag::OLD_HANDOFF, key(1).as_bytes()), Some(older));
        batch.changes.push(older);
        batch.put_handoff(&key(2), &handoff(2_000));
        batch.put_handoff(&key(3), &handoff(3_000));
        index.commit_blocking(batch).unwrap();
        let mut batch = Batch::new();
        batch.put_handoff(&key(4), &handoff(4_000));
        index.submit(batch);
        let found = |index: &Index| {
            let found = (1..6).map(|number| index.handoff(&key(number)).unwrap());
            found
                .map(|found| found.map_or(0, |found| found.created_at))
                .collect::<Vec<_>>()
        };
        assert_eq!(found(&index), [0, 2_000, 3_000, 4_000, 0]);
        drop(index);
        let place = Place {
            dir: dir.path().join("index"),
            seq: dir.path().join("index.seq"),
            ballast: dir.path().join("ballast"),
        };
        let (index, _) = Index::open(&place).unwrap();
        assert_eq!(found(&index), [1, 2_000, 3_000, 4_000, 0]);
        index.shared.replace(None);
        assert!(matches!(index.handoff(&key(9)), Err(StoreError::Closed)));
    }

    #[test]
    fn nothing_is_believed_after_a_failed_sync() {
        let (_dir, index) = open();
        assert!(index.believed().is_ok());
        index.shared.failed.store(true, Ordering::SeqCst);
        assert!(matches!(index.believed(), Err(StoreError::Failed)));
    }

    #[test]
    fn a_batch_whose_task_has_gone_is_not_applied() {
        let (_dir, index) = open();
        let batch = |id| {
            let mut batch = Batch::new();
            batch.put_why(&why(id));
            batch
        };
        let (gone, stays) = (Id::new(1), Id::new(2));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        drop(receiver);
        index.send(batch(gone), Waiter::Task(sender)).unwrap();
        index.commit_blocking(batch(stays)).unwrap();
        let found = |id: Id| index.get_record::<WhyRecord>(tag::HISTORY, id.as_str().as_bytes());
        assert!(found(gone).unwrap().is_none());
        assert!(found(stays).unwrap().is_some());
    }
}
