//! Removes what has expired, exactly on time (hand-offs within a second), and what crashes left behind.

use std::path::Path;
use std::sync::PoisonError;
use std::time::UNIX_EPOCH;

use super::batch::{split_timed_key, tag, timed_key};
use super::census::Census;
use super::committer::{HANDOFF_LIFE, old_handoff_expiry, outgoing_expiry};
use super::rebuild::unnamed;
use super::{
    Batch, EffectState, FileEntry, Id, OutgoingItem, QuarantineEntry, Shelf, Store, StoreError,
    Swept, WhyRecord, facts, places, record, seen,
};
use crate::failpoint::{Point, reach};

const HOUR: i64 = 3_600_000;
/// Entries removed in one commit, for which other commits wait: with 100 a third less mail came in meanwhile.
const CHUNK: usize = 25;
/// A file without an entry is nobody's after this; its hand-off has been answered or given up.
const ORPHAN_LIFE: i64 = 7 * 24 * HOUR;
/// How often all files are looked at for such.
const ORPHAN_ROUND: i64 = 24 * HOUR;

/// What sweeps remember from one to the next.
#[derive(Debug)]
pub(crate) struct Sweeper {
    /// The orphans that opening found, until the first sweep.
    found: Option<Vec<(Shelf, Id)>>,
    /// Wall clock less monotonic clock, as last believed.
    offset: Option<i64>,
    /// Monotonic time until which a jump ahead is not believed.
    held_until: Option<i64>,
    /// Monotonic time of the next look for orphans.
    orphans_at: Option<i64>,
}

impl Sweeper {
    pub(crate) fn new(orphans: Vec<(Shelf, Id)>) -> Self {
        Self {
            found: Some(orphans),
            offset: None,
            held_until: None,
            orphans_at: None,
        }
    }

    /// Milliseconds of hold that are left; `None` when the clocks agree (D15). A step back is
    /// believed at once: it removes nothing early.
    fn hold(&mut self, now: i64, monotonic: i64) -> Option<i64> {
        let offset = now.saturating_sub(monotonic);
        let jumped = self
            .offset
            .is_some_and(|known| offset.saturating_sub(known) > HOUR);
        if jumped {
            let until = *self.held_until.get_or_insert_with(|| {
                tracing::warn!(
                    "the clock jumped ahead by more than an hour: nothing expires for an hour"
                );
                monotonic.saturating_add(HOUR)
            });
            if monotonic < until {
                return Some(until - monotonic);
            }
        }
        self.offset = Some(offset);
        self.held_until = None;
        None
    }

    fn orphans_due(&mut self, monotonic: i64) -> bool {
        let due = self.orphans_at.is_none_or(|at| monotonic >= at);
        if due {
            self.orphans_at = Some(monotonic.saturating_add(ORPHAN_ROUND));
        }
        due
    }
}

impl Store {
    /// Removes all that has expired: the index entry first, then the file. `monotonic_ms` is any
    /// clock that only goes on at its pace; the two clocks must agree within an hour from one sweep
    /// to the next. One sweep at a time; others wait.
    ///
    /// # Errors
    /// As [`Store::commit`], and those of the file system.
    pub fn sweep(&self, now: i64, monotonic_ms: i64) -> Result<Swept, StoreError> {
        self.sweep_while(now, monotonic_ms, || true)
    }

    /// [`Store::sweep`], which breaks off once `goes_on` says no; what is left is for the next one.
    ///
    /// # Errors
    /// As [`Store::sweep`].
    pub fn sweep_while(
        &self,
        now: i64,
        monotonic_ms: i64,
        goes_on: impl Fn() -> bool,
    ) -> Result<Swept, StoreError> {
        let mut sweeper = self
            .0
            .sweeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut swept = Swept::default();
        self.keep_ballast();
        if let Some(left) = sweeper.hold(now, monotonic_ms) {
            swept.held = true;
            swept.next = now.saturating_add(left);
            return Ok(swept);
        }
        while goes_on() && self.sweep_expired(now, &mut swept)? {}
        while goes_on() && self.sweep_handoffs(now, &mut swept)? {}
        while goes_on() && self.sweep_history(now, &mut swept)? {}
        if goes_on() && sweeper.orphans_due(monotonic_ms) {
            let orphans = match sweeper.found.take() {
                Some(found) => found,
                None => self.orphans(goes_on)?,
            };
            self.sweep_orphans(orphans, now, &mut swept)?;
        }
        let latest = now.saturating_add(HOUR);
        swept.next = self.next_expiry()?.map_or(latest, |next| next.min(latest));
        Ok(swept)
    }

    /// When the next thing expires, in wall time; prefer [`Swept::next`], which knows of a hold.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn next_expiry(&self) -> Result<Option<i64>, StoreError> {
        let expiry = self.0.index.first_time(tag::EXPIRY)?;
        let oldest = self.0.index.first(tag::HISTORY)?;
        let history = oldest.and_then(|key| {
            let id: Id = std::str::from_utf8(key.get(1..)?).ok()?.parse().ok()?;
            Some(
                id.millis()
                    .saturating_add(self.0.settings.history_retention_ms),
            )
        });
        let handoff = self.0.index.first(tag::HANDOFF)?;
        let handoff =
            handoff.and_then(|key| Some(places::over_at(&key)?.saturating_add(HANDOFF_LIFE)));
        Ok([expiry, handoff, history].into_iter().flatten().min())
    }

    /// One commit; whether there may be more.
    fn sweep_expired(&self, now: i64, swept: &mut Swept) -> Result<bool, StoreError> {
        let end = timed_key(tag::EXPIRY, now.saturating_add(1), b"");
        let mut batch = Batch::new();
        let mut files = Vec::new();
        let mut seen = 0;
        // The end of a release would bring an entry back without its file.
        let moving = self.move_locks();
        let telling = self.0.telling.all();
        for pair in self.0.index.scan(vec![tag::EXPIRY], end).take(CHUNK) {
            let (timed, _) = pair?;
            seen += 1;
            // The committer takes the timed key with its entry; this is for one left without.
            batch.remove_key(timed.to_vec());
            let Some((_, key)) = split_timed_key(&timed) else {
                continue;
            };
            if self.expired(key, now)? {
                batch.remove_key(key.to_vec());
                let file = count(key, swept);
                match file {
                    Some((Shelf::Quarantine, id)) if id.millis() > self.oldest_history(now) => {
                        let state = EffectState::Expired;
                        self.tell_of_held_unlocked(&mut batch, id, state, None);
                    }
                    _ => {}
                }
                files.extend(file);
            }
        }
        if seen == 0 {
            return Ok(false);
        }
        self.commit_blocking(batch)?;
        drop((telling, moving));
        if !files.is_empty() {
            reach(Point::SweepIndex);
        }
        for (shelf, id) in files {
            self.remove_mail(shelf, id)?;
        }
        Ok(seen == CHUNK)
    }

    /// Whether what lies under a key says itself that its time is over. What cannot be read is
    /// taken at the word of the timed key.
    fn expired(&self, key: &[u8], now: i64) -> Result<bool, StoreError> {
        let Some(value) = self.0.index.get(key)? else {
            return Ok(false);
        };
        let at = match key.first() {
            Some(&tag::QUARANTINE) => {
                record::decode::<QuarantineEntry>(&value).map(|entry| Some(entry.expires_at))
            }
            Some(&tag::OUTGOING) => {
                record::decode::<OutgoingItem>(&value).map(|item| outgoing_expiry(&item))
            }
            Some(&tag::SEEN) => Ok(seen::decode(&value)),
            Some(&tag::OLD_HANDOFF) => old_handoff_expiry(&value).map(Some),
            _ => Ok(None),
        };
        Ok(at.map_or(true, |at| at.is_some_and(|at| at <= now)))
    }

    /// One commit; whether there may be more.
    fn sweep_handoffs(&self, now: i64, swept: &mut Swept) -> Result<bool, StoreError> {
        let end = places::end(now.saturating_sub(HANDOFF_LIFE));
        let mut batch = Batch::new();
        for pair in self.0.index.scan(vec![tag::HANDOFF], end).take(CHUNK) {
            batch.remove_key(pair?.0.to_vec());
        }
        let seen = batch.changes.len();
        if seen > 0 {
            self.commit_blocking(batch)?;
        }
        swept.handoffs += u64::try_from(seen).unwrap_or(u64::MAX);
        Ok(seen == CHUNK)
    }

    /// What was received up to then has no why-record any more.
    fn oldest_history(&self, now: i64) -> i64 {
        now.saturating_sub(self.0.settings.history_retention_ms)
    }

    /// Why-records, and with each its facts.
    fn sweep_history(&self, now: i64, swept: &mut Swept) -> Result<bool, StoreError> {
        let oldest = self.oldest_history(now);
        let end = super::batch::key(
            tag::HISTORY,
            Id::floor(oldest.saturating_add(1)).as_str().as_bytes(),
        );
        let mut batch = Batch::new();
        let mut seen = 0;
        for pair in self.0.index.scan(vec![tag::HISTORY], end).take(CHUNK) {
            let (key, value) = pair?;
            if let Ok(why) = record::decode::<WhyRecord>(&value) {
                batch.remove_key(facts::key(&why.mailbox, why.id));
            }
            batch.remove_key(key.to_vec());
            seen += 1;
        }
        if seen > 0 {
            self.commit_blocking(batch)?;
        }
        swept.history += u64::try_from(seen).unwrap_or(u64::MAX);
        Ok(seen == CHUNK)
    }

    /// Files whose entry is gone or never came.
    fn orphans(&self, goes_on: impl Fn() -> bool) -> Result<Vec<(Shelf, Id)>, StoreError> {
        let mut orphans = Vec::new();
        for shelf in Shelf::ALL {
            let mut named = Census::default();
            for id in self.0.index.files(shelf) {
                named.add(id?);
                if !goes_on() {
                    return Ok(Vec::new());
                }
            }
            orphans.extend(unnamed(&self.0.index, &self.0.mails, shelf, &named)?);
        }
        Ok(orphans)
    }

    /// Removes those of the orphans whose time is over (RELIABILITY C4, C12).
    fn sweep_orphans(
        &self,
        orphans: Vec<(Shelf, Id)>,
        now: i64,
        swept: &mut Swept,
    ) -> Result<(), StoreError> {
        for (shelf, id) in orphans {
            if self.0.index.has_file(shelf, id)? {
                continue;
            }
            let header = self.0.mails.read_header(shelf, id).ok();
            let entry = header.as_ref().and_then(|header| header.entry(shelf, id));
            if orphan_is_over(entry, &self.0.mails.path(shelf, id), now) {
                self.remove_mail(shelf, id)?;
                swept.orphans += 1;
                // Its retry comes no more.
                if let Some(key) = entry.and_then(FileEntry::handoff) {
                    self.forget_prepared(&key);
                }
            }
        }
        Ok(())
    }
}

fn orphan_is_over(entry: Option<&FileEntry>, path: &Path, now: i64) -> bool {
    let old = modified(path).is_some_and(|at| at.saturating_add(ORPHAN_LIFE) <= now);
    let expired = matches!(entry, Some(FileEntry::Quarantine(entry)) if entry.expires_at <= now);
    old || expired
}

/// Counts what goes with a key, and names its file.
fn count(key: &[u8], swept: &mut Swept) -> Option<(Shelf, Id)> {
    let (kind, name) = key.split_first()?;
    let shelf = match *kind {
        tag::QUARANTINE => {
            swept.quarantine += 1;
            Shelf::Quarantine
        }
        tag::OUTGOING => {
            swept.outgoing += 1;
            Shelf::Outgoing
        }
        tag::OLD_HANDOFF => {
            swept.handoffs += 1;
            return None;
        }
        _ => {
            swept.seen += 1;
            return None;
        }
    };
    Some((shelf, std::str::from_utf8(name).ok()?.parse().ok()?))
}

/// When a file was written, in unix milliseconds.
fn modified(path: &Path) -> Option<i64> {
    let time = path.metadata().ok()?.modified().ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_ahead_holds_for_an_hour() {
        // Steps of (wall, monotonic) in minutes, and whether the sweep is held.
        type Step = (i64, i64, bool);
        let table: [(&str, &[Step]); 6] = [
            (
                "steady",
                &[(0, 0, false), (60, 60, false), (600, 600, false)],
            ),
            ("half an hour ahead", &[(0, 0, false), (90, 60, false)]),
            (
                "a day back",
                &[(2000, 0, false), (560, 10, false), (570, 20, false)],
            ),
            (
                "ahead and believed",
                &[
                    (0, 0, false),
                    (1000, 10, true),
                    (1059, 69, true),
                    (1060, 70, false),
                    (1061, 71, false),
                ],
            ),
            (
                "ahead and back",
                &[
                    (0, 0, false),
                    (1000, 10, true),
                    (20, 20, false),
                    (30, 30, false),
                ],
            ),
            (
                "ahead, back, ahead",
                &[
                    (0, 0, false),
                    (1000, 10, true),
                    (20, 20, false),
                    (1065, 75, true),
                    (1124, 134, true),
                    (1125, 135, false),
                ],
            ),
        ];
        for (name, steps) in table {
            let mut sweeper = Sweeper::new(Vec::new());
            for (wall, monotonic, held) in steps {
                let hold = sweeper.hold(wall * 60_000, monotonic * 60_000);
                assert_eq!(hold.is_some(), *held, "{name}: {wall} {monotonic}");
            }
        }
    }
}
