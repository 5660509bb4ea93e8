//! The mailboxes in memory, bounded by octets.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

use super::stamp::Stamp;
use crate::config::Mailbox;

/// How long the word of a look at the disk is taken where nobody wants to wait for another one.
pub(super) const LATELY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Arc<Path>, Arc<Entry>, RandomState>,
    /// Files that are read just now.
    pub(super) reading: HashSet<PathBuf>,
    /// A thread looks after the large ones.
    pub(super) kept: bool,
    pub(super) total: u64,
    clock: u64,
}

/// The settings of one mailbox, and what they were made of.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) mailbox: Arc<Mailbox>,
    /// Names the texts it was made of; `None` where it is the defaults for want of a good one.
    pub(super) texts: Option<String>,
    /// Of the file and of the files of its lists.
    pub(super) stamps: Vec<(Option<Stamp>, PathBuf)>,
    /// Octets, approximate.
    pub(super) cost: u64,
    /// The settings are older than the file: they must not be lost.
    pub(super) bad: bool,
    /// Takes its time to make: a thread of its own looks for changes and makes it anew.
    pub(super) large: bool,
    pub(super) standing: Standing,
    /// When it was last asked for, by the cache's clock.
    pub(super) used: AtomicU64,
    /// When its files were last found as they were read, since the daemon file was read.
    pub(super) seen: Mutex<Option<Instant>>,
}

/// What reloads of the daemon file mean for a mailbox that was made before, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Nothing.
    Current,
    /// It would be made differently now, and counts until it is.
    Outdated,
    /// It counts no more, but is what a bad file falls back to.
    Void,
}

impl Entry {
    /// Whether it counts without a look at the disk: a second old at most, where it is watched.
    pub(super) fn is_at_hand(&self, watch: bool) -> bool {
        match (self.standing, self.large) {
            (Standing::Void, _) | (Standing::Outdated, false) => false,
            (_, true) => true,
            (Standing::Current, false) => {
                let seen = *self.seen();
                seen.is_some_and(|seen| !watch || seen.elapsed() < LATELY)
            }
        }
    }

    /// Whether it is as its files are.
    pub(super) fn is_current(&self, watch: bool) -> bool {
        if self.standing != Standing::Current {
            return false;
        }
        let current = !watch && self.seen().is_some() || self.is_fresh();
        if current {
            *self.seen() = Some(Instant::now());
        }
        current
    }

    fn is_fresh(&self) -> bool {
        self.stamps
            .iter()
            .all(|(stamp, path)| stamp.is_some() && Stamp::of(path).is_ok_and(|now| now == *stamp))
    }

    fn seen(&self) -> MutexGuard<'_, Option<Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same with what a reload makes of it.
    fn carried(&self, mailbox: Arc<Mailbox>, standing: Standing) -> Self {
        Self {
            mailbox,
            texts: self.texts.clone(),
            stamps: self.stamps.clone(),
            cost: self.cost,
            bad: self.bad,
            large: self.large,
            standing,
            used: AtomicU64::new(self.used.load(Ordering::Relaxed)),
            seen: Mutex::new(None),
        }
    }
}

impl Cache {
    /// All that it holds.
    pub(super) fn entries(&self) -> Vec<(Arc<Path>, Arc<Entry>)> {
        let entries = self.entries.iter();
        entries
            .map(|(path, entry)| (Arc::clone(path), Arc::clone(entry)))
            .collect()
    }

    /// What is left of `old` after a reload: `renewed` gives each mailbox as it is now. What a reload
    /// before meant for one still holds; the old defaults are nothing to fall back to, and stay only
    /// where the daemon file and its lists are the `same`.
    pub(super) fn carried(
        old: Vec<(Arc<Path>, Arc<Entry>)>,
        standing: Standing,
        same: bool,
        renewed: impl Fn(&Entry) -> Arc<Mailbox>,
    ) -> Self {
        let carried = |(path, entry): (Arc<Path>, Arc<Entry>)| {
            let standing = standing.max(entry.standing);
            let keeps = entry.texts.is_some() || same && standing == Standing::Current;
            // What was made by older settings goes by their name.
            let mailbox = if standing == Standing::Current && !entry.bad {
                renewed(&entry)
            } else {
                Arc::clone(&entry.mailbox)
            };
            keeps.then(|| (path, Arc::new(entry.carried(mailbox, standing))))
        };
        let entries: HashMap<_, _, _> = old.into_iter().filter_map(carried).collect();
        let used = |entry: &Arc<Entry>| entry.used.load(Ordering::Relaxed);
        Self {
            total: entries.values().map(|entry| entry.cost).sum(),
            clock: entries.values().map(used).max().unwrap_or_default(),
            entries,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn large(&self) -> Vec<(Arc<Path>, Arc<Entry>)> {
        let large = self.entries.iter().filter(|(_, entry)| entry.large);
        large
            .map(|(path, entry)| (Arc::clone(path), Arc::clone(entry)))
            .collect()
    }

    /// From now on these are read as ordinary ones are.
    pub(super) fn let_go(&mut self, is_meant: impl Fn(&Path) -> bool) {
        for (path, entry) in &mut self.entries {
            if entry.large && is_meant(path) {
                let mut ordinary = entry.carried(Arc::clone(&entry.mailbox), entry.standing);
                ordinary.large = false;
                *entry = Arc::new(ordinary);
            }
        }
    }

    pub(super) fn get(&mut self, path: &Path) -> Option<Arc<Entry>> {
        self.clock += 1;
        let entry = self.entries.get(path)?;
        entry.used.store(self.clock, Ordering::Relaxed);
        Some(Arc::clone(entry))
    }

    /// Gives what had to go for it: to be dropped when the cache is no longer locked.
    #[must_use]
    pub(super) fn insert(&mut self, path: &Path, entry: Entry, budget: u64) -> Vec<Arc<Entry>> {
        self.clock += 1;
        entry.used.store(self.clock, Ordering::Relaxed);
        self.total += entry.cost;
        let old = self.entries.insert(path.into(), Arc::new(entry));
        let mut gone: Vec<Arc<Entry>> = old.into_iter().collect();
        self.total -= gone.iter().map(|entry| entry.cost).sum::<u64>();
        if self.total > budget {
            gone.extend(self.shrink(budget / 4 * 3));
        }
        gone
    }

    pub(super) fn remove(&mut self, path: &Path) -> Option<Arc<Entry>> {
        let gone = self.entries.remove(path)?;
        self.total -= gone.cost;
        Some(gone)
    }

    /// Lets the longest unused go; the newest and the bad ones stay.
    fn shrink(&mut self, target: u64) -> Vec<Arc<Entry>> {
        let used = |entry: &Entry| entry.used.load(Ordering::Relaxed);
        let clock = self.clock;
        let may_go = |entry: &Entry| !entry.bad && used(entry) != clock;
        let entries = self.entries.values().filter(|entry| may_go(entry));
        let mut old: Vec<(u64, u64)> = entries.map(|entry| (used(entry), entry.cost)).collect();
        old.sort_unstable();
        let mut last = 0;
        for (used, cost) in old {
            if self.total <= target {
                break;
            }
            (last, self.total) = (used, self.total - cost);
        }
        let goes = |entry: &Entry| may_go(entry) && used(entry) <= last;
        let gone = self.entries.extract_if(|_, entry| goes(entry));
        gone.map(|(_, entry)| entry).collect()
    }
}
