//! The one thread that writes the index: it collects the batches that wait, applies them as one,
//! syncs once and tells all who wait.
//!
//! Batches that nobody waits for, or with patience, gather for a moment first: to apply one costs sled a write and its
//! threads' attention, however little is in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::StoreError;
use super::compaction::{self, Compaction, Copied, Space};
use super::index::{Job, Order, Shared, Waiter};
use super::opening::{Found, Place, close_db, guarded, open_loaded, read_seq, write_seq};
use super::record::{self, Handoff, OutgoingItem, OutgoingState};
use super::totals::Totals;
use super::write::{Write, may_replace};
use crate::failpoint::{Point, reach};

/// Batches that share a sync.
const MAX_GROUP: usize = 1024;
/// Changes that are applied as one, where they are not one batch's: until it is through with them
/// sled frees none of the pages that they replace. With twice as many, 2 MiB more are resident.
const MAX_CHANGES: usize = 256;
/// What may wait is applied after this, with all that came meanwhile.
const GATHER: Duration = Duration::from_millis(20);
/// What nobody waits for is durable after this.
const UNWAITED_SYNC: Duration = Duration::from_secs(1);
/// Pause between two attempts to open sled again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// Without a commit for so long there is time to copy the index.
const QUIET: Duration = Duration::from_secs(1);
/// How often it is asked whether a copy is there.
const LOOK: Duration = Duration::from_millis(100);
/// Pause after a copy of the index that did not succeed.
const COPY_PAUSE: Duration = Duration::from_secs(3600);
/// The same after another trouble than a full disk: this file system may not be able to exchange folders.
const LONG_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// Hand-offs, and outgoing mail that was never committed, live longer than an MTA retries (5 days).
pub(crate) const HANDOFF_LIFE: i64 = 6 * 24 * 3_600_000;

pub(crate) struct Committer {
    shared: Arc<Shared>,
    place: Place,
    /// Our own descriptor of sled's file. Reopened with it, never after a failed sync.
    sync: File,
    seq_file: File,
    totals: Totals,
    /// Since when batches that may wait gather.
    gathering: Option<Instant>,
    /// Readers who wait until all that has gathered is applied.
    readers: Vec<SyncSender<()>>,
    /// Since when something is applied but not synced.
    dirty: Option<Instant>,
    /// Why sled is closed, and since when.
    down: Option<(StoreError, Instant)>,
    /// A smaller copy of the index that is being made.
    compaction: Option<Compaction>,
    /// Octets of sled's file after the last copy.
    copied: u64,
    /// The last commit.
    changed_at: Instant,
    /// When the space is looked at; `None` while nothing has changed since.
    look_at: Option<Instant>,
    /// Until when no copy is begun, since the last one did not succeed.
    no_copy_until: Option<Instant>,
    /// Who removes the index that was exchanged last.
    disposing: Option<JoinHandle<()>>,
}

impl Drop for Committer {
    /// Whoever waits for what has gathered learns that nobody will commit it.
    fn drop(&mut self) {
        drop(self.shared.take_gathered(usize::MAX));
    }
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        place: Place,
        sync: File,
        seq_file: File,
        totals: Totals,
    ) -> Self {
        Self {
            shared,
            place,
            sync,
            seq_file,
            totals,
            gathering: None,
            readers: Vec::new(),
            dirty: None,
            down: None,
            compaction: None,
            copied: 0,
            changed_at: Instant::now(),
            look_at: Some(Instant::now() + QUIET),
            no_copy_until: None,
            disposing: None,
        }
    }

    /// Until all senders are gone.
    pub(crate) fn run(mut self, orders: &Receiver<Order>) {
        while let Some(mut group) = self.wait(orders) {
            group.retain(|job| !job.waiter.has_gone());
            if !group.is_empty() {
                let result = self.commit(&group);
                group.into_iter().for_each(|job| self.tell(job, &result));
            }
            if self.gathering.is_none() {
                for reader in self.readers.drain(..) {
                    // Perhaps it has gone.
                    let _ = reader.send(());
                }
            }
            self.compact();
        }
        self.sync_if_dirty();
    }

    /// The next jobs to be committed together; `None` when there will be no more.
    fn wait(&mut self, orders: &Receiver<Order>) -> Option<Vec<Job>> {
        loop {
            let pause = match (&self.down, self.gathering, self.dirty) {
                (Some(_), ..) => Some(REOPEN_PAUSE),
                (None, Some(since), _) => Some(GATHER.saturating_sub(since.elapsed())),
                (None, None, Some(since)) => Some(UNWAITED_SYNC.saturating_sub(since.elapsed())),
                (None, None, None) => self
                    .look_at
                    .map(|at| at.saturating_duration_since(Instant::now())),
            };
            let order = match pause {
                Some(pause) => orders.recv_timeout(pause),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(Order::Gather) => {
                    self.gathering.get_or_insert_with(Instant::now);
                }
                Ok(Order::Apply(reader)) => {
                    self.readers.push(reader);
                    return Some(self.gathered());
                }
                Ok(Order::Commit(job)) => return Some(self.group(job, orders)),
                Err(RecvTimeoutError::Disconnected) => {
                    let rest = self.gathered();
                    return (!rest.is_empty()).then_some(rest);
                }
                // Whoever reads first never comes to commit: opening waits for nobody.
                Err(RecvTimeoutError::Timeout) if self.down.is_some() => {
                    if let Err(error) = self.ready() {
                        tracing::debug!(%error, "the index stays closed");
                    }
                    return Some(self.gathered());
                }
                Err(RecvTimeoutError::Timeout) if self.gathering.is_some() => {
                    return Some(self.gathered());
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.sync_if_dirty();
                    self.compact();
                }
            }
        }
    }

    /// What has gathered, then a job and those that wait behind it.
    fn group(&mut self, first: Job, orders: &Receiver<Order>) -> Vec<Job> {
        let mut group = self.gathered();
        group.push(first);
        for order in orders.try_iter().take(MAX_GROUP - 1) {
            match order {
                Order::Commit(job) => group.push(job),
                Order::Gather => {
                    self.gathering.get_or_insert_with(Instant::now);
                }
                Order::Apply(reader) => self.readers.push(reader),
            }
        }
        group
    }

    fn gathered(&mut self) -> Vec<Job> {
        let (jobs, more) = self.shared.take_gathered(MAX_GROUP);
        self.gathering = more.then(Instant::now);
        jobs
    }

    fn tell(&self, job: Job, result: &Result<(), StoreError>) {
        if result.is_ok() {
            for id in &job.batch.decisions {
                // Perhaps nobody follows.
                let _ = self.shared.decisions.send(*id);
            }
        }
        match job.waiter {
            Waiter::Task(task) => drop(task.send(result.clone())),
            Waiter::Thread(thread) => drop(thread.send(result.clone())),
            Waiter::None => {
                // A retry finds it, or searches.
                if let Err(error) = result {
                    self.shared.lost(error);
                }
                self.shared.settled(&job.batch);
            }
        }
    }

    fn commit(&mut self, group: &[Job]) -> Result<(), StoreError> {
        self.ready()?;
        self.write(group)
            .map_err(|error| StoreError::InDoubt(Arc::new(error)))
    }

    /// An error leaves open what of it is found later.
    fn write(&mut self, group: &[Job]) -> Result<(), StoreError> {
        let mut changes = BTreeMap::new();
        for job in group {
            let more = &job.batch.changes;
            if !changes.is_empty() && changes.len() + more.len() > MAX_CHANGES {
                let some = std::mem::take(&mut changes);
                self.apply(&some).map_err(|error| self.close(error))?;
            }
            changes.extend(
                more.iter()
                    .map(|(key, value)| (key.as_slice(), value.as_deref())),
            );
        }
        self.apply(&changes).map_err(|error| self.close(error))?;
        reach(Point::CommitApplied);
        let waited = group.iter().any(|job| !matches!(job.waiter, Waiter::None));
        let since = *self.dirty.get_or_insert_with(Instant::now);
        if waited || since.elapsed() >= UNWAITED_SYNC {
            self.sync()?;
        }
        Ok(())
    }

    fn apply(&mut self, changes: &BTreeMap<&[u8], Option<&[u8]>>) -> Result<(), StoreError> {
        let db = self.db()?;
        let mut write = Write::after(self.totals);
        let failed = |error| StoreError::index(&self.place.dir, error);
        guarded(|| {
            for (key, value) in changes {
                let old = match may_replace(key, *value) {
                    true => db.get(key).map_err(failed)?,
                    false => None,
                };
                write.change(key, old.as_deref(), *value);
            }
            write.end();
            let mut batch = sled::Batch::default();
            for (key, value) in &write.keys {
                match value {
                    Some(value) => batch.insert(key.as_ref(), value.as_ref()),
                    None => batch.remove(key.as_ref()),
                }
            }
            db.apply_batch(batch).map_err(failed)
        })?;
        self.totals = write.totals;
        self.changed_at = Instant::now();
        self.look_at.get_or_insert(self.changed_at + QUIET);
        self.shared.publish(&self.totals);
        let mut places = self.shared.places();
        for (key, value) in &write.keys {
            match value {
                Some(_) => places.add(key),
                None => places.remove(key),
            }
        }
        drop(places);
        if let Some(compaction) = &self.compaction {
            compaction.touch(write.keys.into_iter().map(|(key, _)| key.into_owned()));
        }
        for (mailbox, came) in write.moved {
            self.shared.count_outgoing(mailbox, came);
        }
        Ok(())
    }

    /// Makes durable what is applied.
    fn sync(&mut self) -> Result<(), StoreError> {
        let failed = |error| StoreError::index(&self.place.dir, error);
        guarded(|| self.db()?.flush().map(drop).map_err(failed))
            .map_err(|error| self.close(error))?;
        reach(Point::CommitFlushed);
        if let Err(error) = self.sync.sync_data() {
            tracing::error!(%error, "the store could not be synced and takes no more writes");
            self.shared.failed.store(true, Ordering::SeqCst);
            let error = StoreError::io(&self.place.dir, error);
            self.lose_unsynced(&error);
            return Err(error);
        }
        reach(Point::Committed);
        self.dirty = None;
        if let Err(error) = write_seq(&self.seq_file, self.totals.seq) {
            tracing::warn!(%error, "{} is behind", self.place.seq.display());
        }
        Ok(())
    }

    fn sync_if_dirty(&mut self) {
        if self.dirty.is_none() || self.shared.failed.load(Ordering::SeqCst) {
            self.dirty = None;
        } else {
            // What fails here has been told.
            let _ = self.sync();
        }
    }

    fn lose_unsynced(&mut self, error: &StoreError) {
        if self.dirty.take().is_some() {
            self.shared.lost(error);
        }
    }

    /// Has the index copied where it takes much more space than what lives in it, and puts the copy
    /// into its place once it is there.
    fn compact(&mut self) {
        let now = Instant::now();
        if self.down.is_some() || self.look_at.is_none_or(|at| now < at) {
            return;
        }
        let quiet = now.duration_since(self.changed_at) >= QUIET;
        let done = match &mut self.compaction {
            Some(compaction) => match compaction.poll() {
                Some(copied) => copied.and_then(|copied| self.take_over(copied)),
                None => Ok(()),
            },
            None => self.begin_copy(now, quiet),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the index is not made smaller");
            self.compaction = None;
            let pause = if error.is_full() {
                COPY_PAUSE
            } else {
                LONG_PAUSE
            };
            self.no_copy_until = Some(now + pause);
        }
        self.look_at = match self.compaction {
            Some(_) => Some(now + LOOK),
            None => (!quiet).then_some(now + QUIET),
        };
    }

    fn begin_copy(&mut self, now: Instant, quiet: bool) -> Result<(), StoreError> {
        let pauses = self.no_copy_until.is_some_and(|until| now < until);
        let disposing = self.disposing.as_ref();
        let disposing = disposing.is_some_and(|thread| !thread.is_finished());
        if pauses || disposing || self.shared.failed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let file = self.sync.metadata();
        let file = file.map_err(|error| StoreError::io(&self.place.dir, error))?;
        let space = Space {
            live: self.totals.live,
            taken: file.len(),
            copied: self.copied,
        };
        if space.is_wasted(quiet) {
            self.compaction = Compaction::begin(&self.shared, &self.place, space)?;
        }
        Ok(())
    }

    fn take_over(&mut self, mut copied: Copied) -> Result<(), StoreError> {
        let Some(compaction) = self.compaction.take() else {
            return Ok(());
        };
        let failed = &self.shared.failed;
        let old = self.db()?;
        let live = self.totals.live;
        let exchanged =
            guarded(|| compaction.exchange(&old, &mut copied, live, &self.place, failed));
        drop(old);
        if let Err(error) = exchanged {
            // After a failed sync of the names it may be the index.
            match self.shared.failed.load(Ordering::SeqCst) {
                true => close_db(copied.db),
                false => compaction.discard(copied),
            }
            return Err(error);
        }
        let old = self.shared.exchange(Some(copied.db));
        self.sync = copied.sync;
        self.totals.live = Some(copied.live);
        self.dirty = None;
        self.copied = self.sync.metadata().map_or(0, |file| file.len());
        self.disposing = compaction::dispose(old, &self.place);
        let live = copied.live;
        tracing::info!(octets = self.copied, live, "the index is smaller");
        Ok(())
    }

    /// After a write error sled takes nothing until it is opened again.
    fn close(&mut self, error: StoreError) -> StoreError {
        tracing::error!(%error, "the index is closed and will be opened again");
        // A copy may have what is lost now.
        self.compaction = None;
        self.shared.replace(None);
        self.lose_unsynced(&error);
        self.down = Some((error.clone(), Instant::now()));
        error
    }

    fn ready(&mut self) -> Result<(), StoreError> {
        if self.shared.failed.load(Ordering::SeqCst) {
            return Err(StoreError::Failed);
        }
        let Some((error, since)) = &self.down else {
            return Ok(());
        };
        if since.elapsed() < REOPEN_PAUSE {
            return Err(error.clone());
        }
        match self.reopen() {
            Ok(()) => {
                self.down = None;
                Ok(())
            }
            Err(error) => {
                if matches!(error, StoreError::Damaged(_)) {
                    self.shared.failed.store(true, Ordering::SeqCst);
                }
                self.down = Some((error.clone(), Instant::now()));
                Err(error)
            }
        }
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        let seq = read_seq(&self.seq_file).unwrap_or(0);
        let mut found = Found::default();
        let (db, totals, sync) = open_loaded(&self.place, seq, &mut found)?;
        self.sync = sync;
        self.totals = totals.unwrap_or(self.totals);
        self.shared.publish(&self.totals);
        self.shared.take_up(&mut found);
        self.shared.replace(Some(db));
        tracing::info!("the index is open again");
        Ok(())
    }

    fn db(&self) -> Result<sled::Db, StoreError> {
        let db = self.shared.db.read();
        let db = db.unwrap_or_else(std::sync::PoisonError::into_inner);
        db.clone().ok_or(StoreError::Closed)
    }
}

/// When an outgoing item is swept away; one that is ready or being sent never is, nor a forward that
/// its target and its mailbox refused.
pub(crate) fn outgoing_expiry(item: &OutgoingItem) -> Option<i64> {
    match item.state {
        OutgoingState::Held => Some(item.created_at.saturating_add(HANDOFF_LIFE)),
        // The only copy of a mail: the operator decides.
        OutgoingState::Dead if item.fallback => None,
        OutgoingState::Dead => Some(item.next_attempt_at),
        OutgoingState::Ready | OutgoingState::Sending | OutgoingState::Transmitting => None,
    }
}

/// When a hand-off that an older version put is swept away.
pub(crate) fn old_handoff_expiry(value: &[u8]) -> Result<i64, StoreError> {
    let handoff: Handoff = record::decode(value)?;
    Ok(handoff.created_at.saturating_add(HANDOFF_LIFE))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};
    use std::thread;

    use super::super::index::Index;
    use super::super::opening::{db_file, open_db};
    use super::super::{Batch, Id, QuarantineEntry, QuarantineState};
    use super::*;

    fn place(dir: &tempfile::TempDir) -> Place {
        Place {
            dir: dir.path().join("index"),
            seq: dir.path().join("index.seq"),
            ballast: dir.path().join("ballast"),
        }
    }

    fn batch(id: Id) -> Batch {
        let mut batch = Batch::new();
        batch.put_quarantine(&QuarantineEntry {
            id,
            mailbox: "taro@example.jp".to_owned(),
            stage: String::new(),
            class: String::new(),
            entry: None,
            origin: None,
            sender: String::new(),
            from: String::new(),
            subject: String::new(),
            size: 1,
            received_at: 1,
            expires_at: 2,
            state: QuarantineState::Held,
            release_to: None,
            handoff: None,
        });
        batch
    }

    #[test]
    fn a_commit_whose_sync_fails_is_in_doubt_and_ends_all_others() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(&dir);
        drop(Index::open(&place).unwrap());
        let shared = Arc::new(Shared::new(open_db(&place).unwrap()));
        // A device that cannot be synced (EINVAL).
        let sync = File::open("/dev/null").unwrap();
        let seq = File::options().write(true).open(&place.seq).unwrap();
        let committer = Committer::new(shared, place, sync, seq, Totals::default());
        let (sender, receiver) = channel();
        let thread = thread::spawn(move || committer.run(&receiver));
        let commit = || {
            let (waiter, done) = sync_channel(1);
            let (batch, waiter) = (batch(Id::new(1)), Waiter::Thread(waiter));
            sender.send(Order::Commit(Job { batch, waiter })).unwrap();
            done.recv().unwrap()
        };
        assert!(matches!(commit(), Err(StoreError::InDoubt(_))));
        assert!(matches!(commit(), Err(StoreError::Failed)));
        drop(sender);
        thread.join().unwrap();
    }

    #[test]
    fn a_closed_index_is_opened_again_without_a_commit() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(&dir);
        let (index, _) = Index::open(&place).unwrap();
        index.commit_blocking(batch(Id::new(1))).unwrap();
        drop(index);
        let shared = Arc::new(Shared::new(open_db(&place).unwrap()));
        let sync = db_file(&place).unwrap();
        let seq = File::options().read(true).write(true).open(&place.seq);
        let mut committer =
            Committer::new(shared.clone(), place, sync, seq.unwrap(), Totals::default());
        committer.close(StoreError::Closed);
        let (sender, receiver) = channel();
        let thread = thread::spawn(move || committer.run(&receiver));
        let started = Instant::now();
        while shared.db.read().unwrap().is_none() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "it stays closed"
            );
            thread::yield_now();
        }
        drop(sender);
        thread.join().unwrap();
    }
}
