//! The mailboxes in memory, bounded by octets.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::stamp::Stamp;
use crate::config::Mailbox;

/// How long the word of a look at the disk is taken where nobody wants to wait for another one.
pub(super) const LATELY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<PathBuf, Arc<Entry>>,
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
    /// What is left of it after a reload: `renewed` gives each mailbox as it is now. What a reload
    /// before meant for one still holds; the old defaults are nothing to fall back to.
    pub(super) fn carried(
        &self,
        standing: Standing,
        renewed: impl Fn(&Entry) -> Arc<Mailbox>,
    ) -> Self {
        let carried = |(path, entry): (&PathBuf, &Arc<Entry>)| {
            let standing = standing.max(entry.standing);
            let keeps = standing == Standing::Current || entry.texts.is_some();
            let carried = || Arc::new(entry.carried(renewed(entry), standing));
            keeps.then(|| (path.clone(), carried()))
        };
        let entries: HashMap<_, _> = self.entries.iter().filter_map(carried).collect();
        Self {
            total: entries.values().map(|entry| entry.cost).sum(),
            entries,
            clock: self.clock,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn large(&self) -> Vec<(PathBuf, Arc<Entry>)> {
        let large = self.entries.iter().filter(|(_, entry)| entry.large);
        large
            .map(|(path, entry)| (path.clone(), Arc::clone(entry)))
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

    pub(super) fn insert(&mut self, path: &Path, entry: Entry, budget: u64) {
        self.remove(path);
        self.clock += 1;
        entry.used.store(self.clock, Ordering::Relaxed);
        self.total += entry.cost;
        self.entries.insert(path.to_owned(), Arc::new(entry));
        if self.total > budget {
            self.shrink(budget / 4 * 3);
        }
    }

    pub(super) fn remove(&mut self, path: &Path) {
        if let Some(entry) = self.entries.remove(path) {
            self.total -= entry.cost;
        }
    }

    /// Lets the longest unused go; the newest and the bad ones stay.
    fn shrink(&mut self, target: u64) {
        let used = |entry: &Entry| entry.used.load(Ordering::Relaxed);
        let may_go = |entry: &Entry, clock| !entry.bad && used(entry) != clock;
        let clock = self.clock;
        let entries = self.entries.values().filter(|entry| may_go(entry, clock));
        let mut old: Vec<(u64, u64)> = entries.map(|entry| (used(entry), entry.cost)).collect();
        old.sort_unstable();
        let mut last = 0;
        for (used, cost) in old {
            if self.total <= target {
                break;
            }
            (last, self.total) = (used, self.total - cost);
        }
        self.entries
            .retain(|_, entry| !may_go(entry, clock) || used(entry) > last);
    }
}
