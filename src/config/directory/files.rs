//! The mailbox files: read on first use, and again when they have changed.
//!
//! Whoever is first to need a file that was never read waits until it is read, and all others with
//! it. An ordinary file that has changed is read by the look-up that finds it so, which takes a
//! fraction of a millisecond; meanwhile the others get its old settings. A large one takes up to a
//! second: a thread of its own looks for changes and reads, and all mail gets the old settings
//! until it is done. Only where a change makes an ordinary file a large one does one look-up wait.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::cache::{Cache, Entry, Standing};
use super::stamp::Stamp;
use crate::config::{
    Attempt, Config, Diagnostic, Engine, Mailbox, compile_mailbox, default_mailbox, generation,
    read_mailbox,
};
use crate::mail::Address;

/// Octets of a mailbox file and those of its lists together from which they are large: a few
/// milliseconds' work.
const LARGE: usize = 128 << 10;
/// How often the large ones are looked at: a change counts within a second.
const LOOK: Duration = Duration::from_millis(250);

/// The files below `mailboxes.dir`, and what was made of those that were asked for.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) config: Arc<Config>,
    cache: Mutex<Cache>,
    /// A reading has ended.
    ended: Condvar,
    /// Compiled at the first need.
    defaults: OnceLock<Mailbox>,
    /// Files read since the start.
    pub(super) read: AtomicU64,
}

impl Files {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            cache: Mutex::default(),
            ended: Condvar::new(),
            defaults: OnceLock::new(),
            read: AtomicU64::new(0),
        }
    }

    /// Those of `old` that the new daemon file leaves as they are go on; the others count until they
    /// are made anew. Where scanners came or went, whether a mailbox is scanned counts at once.
    pub(super) fn reloaded(config: Arc<Config>, old: &Self) -> Arc<Self> {
        let standing = if !compile_mailbox::scans_as(&config, &old.config) {
            Standing::Void
        } else if compile_mailbox::makes_as(&config, &old.config) {
            Standing::Current
        } else {
            Standing::Outdated
        };
        let same = config.generation == old.config.generation;
        let renewed = |entry: &Entry| {
            if same {
                return Arc::clone(&entry.mailbox);
            }
            Arc::new(Mailbox {
                generation: match &entry.texts {
                    Some(texts) => generation(&config, texts),
                    None => config.generation.clone(),
                },
                ..Mailbox::clone(&entry.mailbox)
            })
        };
        let entries = old.lock().entries();
        let cache = Cache::carried(entries, standing, same, renewed);
        let files = Arc::new(Self {
            cache: Mutex::new(cache),
            ..Self::new(config)
        });
        if !files.lock().large().is_empty() {
            files.keep_large();
        }
        files
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings of an address without a file.
    pub(super) fn default(&self, address: &Address) -> Mailbox {
        let defaults = self
            .defaults
            .get_or_init(|| default_mailbox(&self.config, address));
        let mut mailbox = defaults.clone();
        Arc::make_mut(&mut mailbox.policy).mailbox = address.clone();
        mailbox.key = address.key();
        mailbox
    }

    /// The settings in the first of these files that is known, where they count without a look at it.
    pub(super) fn at_hand(&self, paths: &[PathBuf]) -> Option<Arc<Mailbox>> {
        let mut cache = self.lock();
        let entry = paths.iter().find_map(|path| cache.get(path))?;
        drop(cache);
        let at_hand = entry.is_at_hand(self.config.mailboxes.watch);
        at_hand.then(|| Arc::clone(&entry.mailbox))
    }

    /// One of these files is known.
    pub(super) fn has(&self, paths: &[PathBuf]) -> bool {
        let mut cache = self.lock();
        paths.iter().any(|path| cache.get(path).is_some())
    }

    /// The settings in a file; `None` when there is no such file, and why it cannot be read.
    pub(super) fn find(
        self: &Arc<Self>,
        path: &Path,
        address: &Address,
    ) -> Option<Result<Arc<Mailbox>, String>> {
        let known = self.lock().get(path);
        let Some(entry) = known.filter(|entry| entry.standing != Standing::Void) else {
            return self.first(path, address);
        };
        let found = Some(Ok(Arc::clone(&entry.mailbox)));
        if entry.large || entry.is_current(self.config.mailboxes.watch) {
            return found;
        }
        match Reading::begin(self, path) {
            Some(_reading) => self
                .read(path, address, Some(&entry))
                .map(|read| read.or(Ok(entry.mailbox.clone()))),
            None => found,
        }
    }

    /// As [`Files::find`] of a file of which nothing is known that counts.
    fn first(
        self: &Arc<Self>,
        path: &Path,
        address: &Address,
    ) -> Option<Result<Arc<Mailbox>, String>> {
        // Most of what is asked for has no file of its own.
        if matches!(Stamp::of(path), Ok(None)) {
            self.lock().remove(path);
            return None;
        }
        let _reading = Reading::wait(self, path);
        // Another one may have read it meanwhile.
        let known = self.lock().get(path);
        match known {
            Some(entry) if entry.is_at_hand(self.config.mailboxes.watch) => {
                Some(Ok(Arc::clone(&entry.mailbox)))
            }
            known => self.read(path, address, known.as_deref()),
        }
    }

    /// Reads a file anew; `None` when there is none, and why it cannot be read. To be called by who
    /// has its [`Reading`].
    fn read(
        self: &Arc<Self>,
        path: &Path,
        address: &Address,
        old: Option<&Entry>,
    ) -> Option<Result<Arc<Mailbox>, String>> {
        let begun = SystemTime::now();
        match Stamp::of(path) {
            Ok(Some(_)) => {}
            Ok(None) => {
                self.lock().remove(path);
                return None;
            }
            Err(error) => return Some(Err(unreadable(path, &error.to_string()))),
        }
        self.read.fetch_add(1, Ordering::Relaxed);
        let attempt = read_mailbox(&self.config, path, Some(address));
        let failed = attempt
            .found
            .iter()
            .find(|d| d.id == "unreadable" && d.file == path);
        if let (None, Some(error)) = (&attempt.mailbox, failed) {
            return Some(Err(unreadable(path, &error.message)));
        }
        Some(Ok(self.put(path, address, attempt, old, begun)))
    }

    /// Puts what was read into the cache; of a bad file the old settings, or the defaults.
    fn put(
        self: &Arc<Self>,
        path: &Path,
        address: &Address,
        attempt: Attempt,
        old: Option<&Entry>,
        begun: SystemTime,
    ) -> Arc<Mailbox> {
        let bad = attempt.mailbox.is_none();
        let say = |words: &str| warn(path, &attempt.found, words);
        let (mailbox, texts) = match (attempt.mailbox, old) {
            (Some(mailbox), _) => (Arc::new(mailbox), Some(attempt.texts)),
            (None, Some(old)) => {
                say("a bad mailbox file: its old settings stay");
                (self.scanned(old, address), old.texts.clone())
            }
            (None, None) => {
                say("a bad mailbox file: the defaults count");
                (Arc::new(self.default(address)), None)
            }
        };
        let stamped = |file: PathBuf| (Stamp::settled(&file, begun), file);
        // What cannot be read now is asked for again, by the look-ups.
        let unreadable = attempt.found.iter().any(|d| d.id == "unreadable");
        let large = attempt.octets > LARGE && !unreadable;
        let stamps = attempt.files.into_iter().map(stamped);
        let entry = Entry {
            mailbox: Arc::clone(&mailbox),
            texts,
            stamps: stamps
                .chain(unreadable.then(|| (None, path.to_owned())))
                .collect(),
            cost: 4096 + (mailbox.policy.list_bytes() + attempt.octets) as u64,
            bad,
            large,
            standing: Standing::Current,
            used: AtomicU64::new(0),
            seen: Mutex::new(Some(Instant::now())),
        };
        let gone = self.lock().insert(path, entry, self.config.mailboxes.cache);
        drop(gone);
        if large && self.config.mailboxes.watch {
            self.keep_large();
        }
        mailbox
    }

    /// The old settings of a file that is bad by now. Where scanners came since, what it says of them is
    /// not known: they are asked.
    fn scanned(&self, old: &Entry, address: &Address) -> Arc<Mailbox> {
        let mut mailbox = Arc::clone(&old.mailbox);
        if old.standing == Standing::Void {
            let policy = Arc::make_mut(&mut Arc::make_mut(&mut mailbox).policy);
            policy.virus |= self.config.scanners.virus.engine != Engine::Off;
            if policy.spam.is_none() {
                policy.spam.clone_from(&self.default(address).policy.spam);
            }
        }
        mailbox
    }

    /// Sees to it that a thread looks after the large ones. Where there can be none, they are read
    /// as ordinary ones are.
    fn keep_large(self: &Arc<Self>) {
        if std::mem::replace(&mut self.lock().kept, true) {
            return;
        }
        let files = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("settings".to_owned());
        if let Err(error) = thread.spawn(move || keep(&files)) {
            tracing::error!(%error, "no thread for large settings");
            let mut cache = self.lock();
            cache.kept = false;
            cache.let_go(|_| true);
        }
    }

    /// Reads those of the large ones that have changed.
    fn renew_large(self: &Arc<Self>) {
        let large = self.lock().large();
        for (path, entry) in large {
            if entry.is_current(self.config.mailboxes.watch) {
                continue;
            }
            let Some(_reading) = Reading::begin(self, &path) else {
                continue;
            };
            let address = &entry.mailbox.policy.mailbox;
            if let Some(Err(_)) = self.read(&path, address, Some(&entry)) {
                // Tried again when it is asked for.
                self.lock().let_go(|of| *of == *path);
            }
        }
    }
}

/// Looks after the large ones, until there are none, or nothing more to see.
fn keep(files: &Weak<Files>) {
    while let Some(files) = files.upgrade() {
        files.renew_large();
        let mut cache = files.lock();
        if !files.config.mailboxes.watch || cache.large().is_empty() {
            cache.kept = false;
            return;
        }
        drop(cache);
        drop(files);
        std::thread::sleep(LOOK);
    }
}

fn unreadable(path: &Path, error: &str) -> String {
    tracing::warn!(file = %path.display(), error, "a mailbox file cannot be read");
    format!("{}: {error}", path.display())
}

fn warn(path: &Path, found: &[Diagnostic], words: &str) {
    let first = found.iter().find(|d| d.is_error());
    let error = first
        .map(|d| format!("{}:{}: {}", d.line, d.col, d.message))
        .unwrap_or_default();
    tracing::warn!(file = %path.display(), error, errors = found.len(), "{words}");
}

/// The right to read a file, until it is dropped.
pub(super) struct Reading<'a> {
    files: &'a Files,
    path: PathBuf,
}

impl<'a> Reading<'a> {
    /// `None` when another one reads it already.
    pub(super) fn begin(files: &'a Files, path: &Path) -> Option<Self> {
        let first = files.lock().reading.insert(path.to_owned());
        let path = path.to_owned();
        first.then_some(Self { files, path })
    }

    /// Once no other one reads it any more.
    fn wait(files: &'a Files, path: &Path) -> Self {
        let is_read = |cache: &mut Cache| cache.reading.contains(path);
        let cache = files.ended.wait_while(files.lock(), is_read);
        let mut cache = cache.unwrap_or_else(PoisonError::into_inner);
        let path = path.to_owned();
        cache.reading.insert(path.clone());
        Self { files, path }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.files.lock().reading.remove(&self.path);
        self.files.ended.notify_all();
    }
}
