//! From a recipient to its mailbox's settings.
//!
//! Mailbox files load on first use, are compared with the disk on each look-up (`mailboxes.watch`)
//! and fall out of a byte-bounded cache. A file that went bad keeps its old settings; one that was
//! bad from the first has the defaults (RELIABILITY D20). Neither touches another mailbox. While one
//! look-up reads a file that has changed, which takes a second where a list has a million entries,
//! the others get its old settings.
//!
//! The order: the address's own file, the alias index, both again without the address extension,
//! then what `mailboxes.unknown` says.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::aliases::{Index, Wake};
use super::settings::{Config, Unknown};
use super::{Attempt, Diagnostic, Mailbox, default_mailbox, location, read_mailbox};
use crate::mail::Address;

/// How long [`Directory::ready`] takes the word of a look at the disk.
const LATELY: Duration = Duration::from_secs(1);

/// All mailboxes.
#[derive(Debug)]
pub struct Directory {
    config: Arc<Config>,
    domains: HashSet<String>,
    cache: Mutex<Cache>,
    /// Compiled at the first need.
    defaults: OnceLock<Mailbox>,
    index: Arc<Index>,
    /// Ends the indexing thread; `None` until it is started.
    stop: Mutex<Option<Sender<Wake>>>,
    files_read: AtomicU64,
}

/// What is known of a recipient.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// Its settings; those of the defaults when it has no file and `mailboxes.unknown: accept`.
    Found(Arc<Mailbox>),
    /// `550 5.1.2`.
    UnknownDomain,
    /// `550 5.1.1`.
    UnknownMailbox,
    /// Its file cannot be read just now (`451 4.3.0`); the text is for the log.
    Unavailable(String),
}

/// What it has read and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryStats {
    /// Mailbox files read since the start, by look-ups and by the alias index.
    pub files_read: u64,
    /// Mailboxes in the cache.
    pub cached: usize,
    /// Octets they are booked with (approximate).
    pub cached_bytes: u64,
}

impl Directory {
    /// Reads nothing yet: mailbox files load on first use.
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            domains: config.mailboxes.domains.iter().cloned().collect(),
            cache: Mutex::default(),
            defaults: OnceLock::new(),
            index: Arc::default(),
            stop: Mutex::default(),
            files_read: AtomicU64::new(0),
            config,
        }
    }

    /// The directory after a reload of the daemon file. What `old` knows stays what a mailbox file
    /// that is bad by now falls back to; every file is read anew at its next use.
    pub fn reloaded(config: Arc<Config>, old: &Self) -> Self {
        let directory = Self::new(config);
        *directory.lock() = old.lock().stale();
        directory
    }

    /// The settings it serves.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// What it has read and holds.
    pub fn stats(&self) -> DirectoryStats {
        let cache = self.lock();
        let indexed = self.index.files_read.load(Ordering::Relaxed);
        DirectoryStats {
            files_read: self.files_read.load(Ordering::Relaxed) + indexed,
            cached: cache.entries.len(),
            cached_bytes: cache.total,
        }
    }

    /// Starts a thread that indexes the `aliases` of all mailbox files and then watches the folders
    /// (`mailboxes.watch`). It ends when the directory is dropped. Until the first index is done,
    /// [`Directory::lookup`] of an address without a file of its own waits, 30 s at most. Without
    /// this call or [`Directory::index_now`] no alias is known.
    pub fn start_indexing(&self) {
        if !self.index.begin() {
            return;
        }
        let (sender, news) = channel();
        let (index, config, wake) = (
            Arc::clone(&self.index),
            Arc::clone(&self.config),
            sender.clone(),
        );
        let run = move || index.run(&config.mailboxes.dir, config.mailboxes.watch, &wake, &news);
        let thread = std::thread::Builder::new()
            .name("aliases".to_owned())
            .spawn(run);
        if let Err(error) = thread {
            tracing::error!(%error, "the alias index does not run");
            self.index.finish();
        }
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    }

    /// Indexes the `aliases` of all mailbox files once, in this thread (for commands).
    pub fn index_now(&self) {
        if self.index.begin() {
            self.index.build(&self.config.mailboxes.dir);
        }
    }

    /// The settings for a recipient. Blocking (stat, on first use a read): call it where that is
    /// allowed.
    pub fn lookup(&self, recipient: &Address) -> Lookup {
        // A mailbox is named the same whoever asked for it first.
        let recipient = &recipient.canonical();
        if !self.serves(recipient) {
            return Lookup::UnknownDomain;
        }
        let base = self.without_extension(recipient);
        for address in std::iter::once(recipient).chain(&base) {
            match self.own_file(address).or_else(|| self.by_alias(address)) {
                Some(Ok(mailbox)) => return Lookup::Found(mailbox),
                Some(Err(why)) => return Lookup::Unavailable(why),
                None => {}
            }
        }
        match self.config.mailboxes.unknown {
            Unknown::Reject => Lookup::UnknownMailbox,
            Unknown::Accept => {
                Lookup::Found(Arc::new(self.default(&base.unwrap_or(recipient.clone()))))
            }
        }
    }

    /// What [`Directory::lookup`] would say, as far as memory knows it: an unknown domain, or the
    /// settings of a recipient's own file that a look-up found unchanged within the last second.
    /// `None` is for [`Directory::lookup`] to answer. Never blocks.
    pub fn ready(&self, recipient: &Address) -> Option<Lookup> {
        let recipient = &recipient.canonical();
        if !self.serves(recipient) {
            return Some(Lookup::UnknownDomain);
        }
        let paths = location::candidates(&self.config.mailboxes.dir, recipient);
        let mut cache = self.lock();
        let entry = paths.iter().find_map(|path| cache.get(path))?;
        drop(cache);
        let lately = !self.config.mailboxes.watch || entry.seen().elapsed() < LATELY;
        (lately && !entry.stale).then(|| Lookup::Found(Arc::clone(&entry.mailbox)))
    }

    /// A look-up found the recipient's own file on the disk within the last second. Never blocks:
    /// enough to accept a recipient whose settings are looked up once its mail is here.
    pub fn has_lately(&self, recipient: &Address) -> bool {
        matches!(self.ready(recipient), Some(Lookup::Found(_)))
    }

    /// The file whose settings a recipient has, good or bad; `None` when the defaults alone count.
    pub fn path_of(&self, recipient: &Address) -> Option<PathBuf> {
        let base = self.without_extension(recipient);
        let file = |address: &Address| {
            let own = location::candidates(&self.config.mailboxes.dir, address);
            let own = own.into_iter().find(|path| path.exists());
            own.or_else(|| self.index.file_of(&address.key()))
        };
        std::iter::once(recipient).chain(&base).find_map(file)
    }

    /// The mailbox whose file gives a recipient its settings; `None` when no file does.
    pub fn owner_of(&self, recipient: &Address) -> Option<Address> {
        if !self.serves(recipient) {
            return None;
        }
        location::address_of(&self.path_of(recipient)?)
    }

    /// Whether `mailboxes.domains` has the address's domain.
    fn serves(&self, address: &Address) -> bool {
        let key = address.key();
        let domain = key.rsplit_once('@').map_or("", |(_, domain)| domain);
        self.domains.is_empty() || self.domains.contains(domain)
    }

    /// `taro@` for `taro+news@`.
    fn without_extension(&self, address: &Address) -> Option<Address> {
        let sign = self.config.mailboxes.address_extension?;
        let (base, _) = address.local().split_once(sign)?;
        Address::parse(&format!("{base}@{}", address.domain())).ok()
    }

    fn default(&self, address: &Address) -> Mailbox {
        let defaults = self
            .defaults
            .get_or_init(|| default_mailbox(&self.config, address));
        let mut mailbox = defaults.clone();
        mailbox.policy.mailbox = address.clone();
        mailbox
    }

    fn own_file(&self, address: &Address) -> Option<Result<Arc<Mailbox>, String>> {
        let candidates = location::candidates(&self.config.mailboxes.dir, address);
        candidates.iter().find_map(|path| self.file(path, address))
    }

    fn by_alias(&self, alias: &Address) -> Option<Result<Arc<Mailbox>, String>> {
        let key = alias.key();
        let path = self.index.file_of(&key)?;
        let owner = location::address_of(&path)?.canonical();
        let found = self.file(&path, &owner)?;
        // The index may be a moment behind the file.
        let still = |mailbox: &Arc<Mailbox>| mailbox.policy.aliases.iter().any(|a| a.key() == key);
        match found {
            Ok(mailbox) => still(&mailbox).then_some(Ok(mailbox)),
            unavailable => Some(unavailable),
        }
    }

    /// The settings in a file; `None` when there is no such file.
    fn file(&self, path: &Path, address: &Address) -> Option<Result<Arc<Mailbox>, String>> {
        let old = self.lock().get(path);
        if let Some(entry) = &old
            && !entry.stale
            && (!self.config.mailboxes.watch || entry.is_fresh())
        {
            *entry.seen() = Instant::now();
            return Some(Ok(Arc::clone(&entry.mailbox)));
        }
        let reading = Reading::begin(&self.cache, path);
        if let (Some(entry), None) = (&old, &reading)
            && !entry.stale
        {
            return Some(Ok(Arc::clone(&entry.mailbox)));
        }
        let begun = SystemTime::now();
        match Stamp::of(path) {
            Ok(Some(_)) => {}
            Ok(None) => {
                self.lock().remove(path);
                return None;
            }
            Err(error) => return Some(self.unreadable(path, old, &error.to_string())),
        }
        self.files_read.fetch_add(1, Ordering::Relaxed);
        let attempt = read_mailbox(&self.config, path, Some(address));
        let unreadable = attempt
            .found
            .iter()
            .find(|d| d.id == "unreadable" && d.file == path);
        if let (None, Some(error)) = (&attempt.mailbox, unreadable) {
            return Some(self.unreadable(path, old, &error.message));
        }
        Some(Ok(self.keep(path, address, attempt, old, begun)))
    }

    fn unreadable(
        &self,
        path: &Path,
        old: Option<Arc<Entry>>,
        error: &str,
    ) -> Result<Arc<Mailbox>, String> {
        tracing::warn!(file = %path.display(), error, "a mailbox file cannot be read");
        match old {
            Some(entry) => Ok(Arc::clone(&entry.mailbox)),
            None => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Puts what was read into the cache; of a bad file the old settings, or the defaults.
    fn keep(
        &self,
        path: &Path,
        address: &Address,
        attempt: Attempt,
        old: Option<Arc<Entry>>,
        begun: SystemTime,
    ) -> Arc<Mailbox> {
        let bad = attempt.mailbox.is_none();
        let mailbox = match (attempt.mailbox, old) {
            (Some(mailbox), _) => Arc::new(mailbox),
            (None, Some(old)) => {
                warn(
                    path,
                    &attempt.found,
                    "a bad mailbox file: its old settings stay",
                );
                Arc::clone(&old.mailbox)
            }
            (None, None) => {
                warn(
                    path,
                    &attempt.found,
                    "a bad mailbox file: the defaults count",
                );
                Arc::new(self.default(address))
            }
        };
        let entry = Entry {
            mailbox: Arc::clone(&mailbox),
            stamps: attempt
                .files
                .into_iter()
                .map(|file| (Stamp::settled(&file, begun), file))
                .collect(),
            cost: 4096 + 4 * attempt.octets as u64,
            bad,
            stale: false,
            used: AtomicU64::new(0),
            seen: Mutex::new(Instant::now()),
        };
        self.lock().insert(path, entry, self.config.mailboxes.cache);
        mailbox
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        lock(&self.cache)
    }
}

fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A look-up that reads a file, until it is dropped.
struct Reading<'a> {
    cache: &'a Mutex<Cache>,
    path: &'a Path,
}

impl<'a> Reading<'a> {
    /// `None` when another one reads it already.
    fn begin(cache: &'a Mutex<Cache>, path: &'a Path) -> Option<Self> {
        let first = lock(cache).reading.insert(path.to_owned());
        first.then_some(Self { cache, path })
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        lock(self.cache).reading.remove(self.path);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Ok(Some(stop)) = self.stop.get_mut().map(Option::take) {
            let _ = stop.send(Wake::Stop);
        }
    }
}

fn warn(path: &Path, found: &[Diagnostic], words: &str) {
    let first = found.iter().find(|d| d.is_error());
    let error = first
        .map(|d| format!("{}:{}: {}", d.line, d.col, d.message))
        .unwrap_or_default();
    tracing::warn!(file = %path.display(), error, errors = found.len(), "{words}");
}

/// What tells that a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

/// A change within the clock's grain of a reading would leave the stamp as it was.
const GRAIN: Duration = Duration::from_millis(20);

impl Stamp {
    /// `None` when there is no such file.
    fn of(path: &Path) -> std::io::Result<Option<Self>> {
        use std::io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
        match std::fs::metadata(path) {
            Ok(meta) => Ok(Some(Self {
                modified: (meta.mtime(), meta.mtime_nsec()),
                changed: (meta.ctime(), meta.ctime_nsec()),
                size: meta.size(),
                inode: meta.ino(),
            })),
            Err(e) if matches!(e.kind(), NotFound | NotADirectory | InvalidFilename) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The stamp of a file that was read after `begun`; `None` (never fresh) when it was changed so
    /// lately that the reading may have missed it.
    fn settled(path: &Path, begun: SystemTime) -> Option<Self> {
        let stamp = Self::of(path).ok().flatten()?;
        let begun = begun.duration_since(UNIX_EPOCH).unwrap_or_default();
        let begun = begun.saturating_sub(GRAIN);
        let begun = (
            i64::try_from(begun.as_secs()).ok()?,
            i64::from(begun.subsec_nanos()),
        );
        (stamp.changed < begun).then_some(stamp)
    }
}

#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<PathBuf, Arc<Entry>>,
    /// Files that a look-up reads just now.
    reading: HashSet<PathBuf>,
    total: u64,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    mailbox: Arc<Mailbox>,
    /// Of the file and of the files of its lists.
    stamps: Vec<(Option<Stamp>, PathBuf)>,
    /// Octets, approximate.
    cost: u64,
    /// The settings are older than the file: they must not be lost.
    bad: bool,
    /// Made with the daemon file before: read the file before use.
    stale: bool,
    /// When it was last asked for, by the cache's clock.
    used: AtomicU64,
    /// When its file was last found as it was read.
    seen: Mutex<Instant>,
}

impl Entry {
    fn seen(&self) -> MutexGuard<'_, Instant> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self) -> bool {
        self.stamps
            .iter()
            .all(|(stamp, path)| stamp.is_some() && Stamp::of(path).is_ok_and(|now| now == *stamp))
    }
}

impl Cache {
    fn stale(&self) -> Self {
        let entry = |(path, entry): (&PathBuf, &Arc<Entry>)| {
            let stale = Entry {
                mailbox: Arc::clone(&entry.mailbox),
                stamps: Vec::new(),
                cost: entry.cost,
                bad: entry.bad,
                stale: true,
                used: AtomicU64::new(entry.used.load(Ordering::Relaxed)),
                seen: Mutex::new(*entry.seen()),
            };
            (path.clone(), Arc::new(stale))
        };
        Self {
            entries: self.entries.iter().map(entry).collect(),
            reading: HashSet::new(),
            clock: self.clock,
            total: self.total,
        }
    }

    fn get(&mut self, path: &Path) -> Option<Arc<Entry>> {
        self.clock += 1;
        let entry = self.entries.get(path)?;
        entry.used.store(self.clock, Ordering::Relaxed);
        Some(Arc::clone(entry))
    }

    fn insert(&mut self, path: &Path, entry: Entry, budget: u64) {
        self.remove(path);
        self.clock += 1;
        entry.used.store(self.clock, Ordering::Relaxed);
        self.total += entry.cost;
        self.entries.insert(path.to_owned(), Arc::new(entry));
        if self.total > budget {
            self.shrink(budget / 4 * 3);
        }
    }

    fn remove(&mut self, path: &Path) {
        if let Some(entry) = self.entries.remove(path) {
            self.total -= entry.cost;
        }
    }

    /// Lets the longest unused go; the newest and the bad ones stay.
    fn shrink(&mut self, target: u64) {
        let mut old: Vec<(u64, PathBuf)> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.bad)
            .map(|(path, entry)| (entry.used.load(Ordering::Relaxed), path.clone()))
            .filter(|(used, _)| *used != self.clock)
            .collect();
        old.sort();
        for (_, path) in old {
            if self.total <= target {
                break;
            }
            self.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_up_lately_is_ready() {
        let site = tempfile::tempdir().unwrap();
        let taro = Address::parse("taro@a.jp").unwrap();
        let path = site.path().join("a.jp/taro.yaml");
        std::fs::create_dir(site.path().join("a.jp")).unwrap();
        std::fs::write(&path, "version: 1\n").unwrap();
        for watch in [true, false] {
            let text =
                format!("version: 1\nmailboxes: {{dir: ., domains: [a.jp], watch: {watch}}}\n");
            let config = Config::parse(&text, site.path()).unwrap().config;
            let directory = Directory::new(Arc::new(config));
            assert!(directory.ready(&taro).is_none());
            directory.lookup(&taro);
            let entry = directory.lock().get(&path).unwrap();
            *entry.seen() = Instant::now() + LATELY;
            let ready = directory.ready(&Address::parse("Taro@A.JP").unwrap());
            assert!(
                matches!(ready, Some(Lookup::Found(found)) if Arc::ptr_eq(&found, &entry.mailbox))
            );
            *entry.seen() = Instant::now() - LATELY;
            assert_eq!(directory.ready(&taro).is_none(), watch);
            let stranger = directory.ready(&Address::parse("taro@b.jp").unwrap());
            assert!(matches!(stranger, Some(Lookup::UnknownDomain)));
        }
    }

    #[test]
    fn while_a_changed_file_is_read_the_old_settings_count() {
        let site = tempfile::tempdir().unwrap();
        let config = Config::parse("version: 1\nmailboxes: {dir: .}\n", site.path()).unwrap();
        let directory = Directory::new(Arc::new(config.config));
        let taro = Address::parse("taro@a.jp").unwrap();
        let path = site.path().join("a.jp/taro.yaml");
        std::fs::create_dir(site.path().join("a.jp")).unwrap();
        let aliases = || match directory.lookup(&taro) {
            Lookup::Found(mailbox) => mailbox.policy.aliases.len(),
            other => panic!("{other:?}"),
        };
        std::fs::write(&path, "version: 1\n").unwrap();
        assert_eq!(aliases(), 0);
        std::fs::write(&path, "version: 1\naliases: [t@a.jp]\n").unwrap();
        let reading = Reading::begin(&directory.cache, &path).unwrap();
        assert_eq!(aliases(), 0);
        drop(reading);
        assert_eq!(aliases(), 1);
        assert!(directory.lock().reading.is_empty());
    }
}
