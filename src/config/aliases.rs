//! Which mailbox an alias belongs to: an index over all mailbox files.
//!
//! An address without a file of its own may be an alias in any file, so all of them are looked
//! through once, in a thread of their own, and then watched (inotify). Only files in which the word
//! `aliases` stands are parsed, only those with aliases take memory.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecursiveMode, Watcher as _};

use super::source::Report;
use super::tree::{self, Kind};
use super::{MOST_FILE_BYTES, patterns};
use crate::mail::Address;

/// How long a look-up waits for the first index.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Without inotify the files are looked through this often.
const POLL: Duration = Duration::from_secs(60);
/// How soon a folder that was made or replaced is seen: a change counts within a second.
const LOOK: Duration = Duration::from_millis(500);

/// The index, shared by the directory and its thread.
#[derive(Debug, Default)]
pub(crate) struct Index {
    state: Mutex<State>,
    built: Condvar,
    /// Files read since the start.
    pub(crate) files_read: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// Key of the alias to the files that claim it, sorted: the first has it.
    claims: HashMap<String, Vec<PathBuf>>,
    /// The other way round, to forget a file's old aliases.
    of_file: HashMap<PathBuf, Vec<String>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Phase {
    #[default]
    NotStarted,
    Building,
    Built,
}

/// What wakes the thread.
pub(crate) enum Wake {
    /// The file system's news.
    News(notify::Result<notify::Event>),
    /// The directory is gone.
    Stop,
}

impl Index {
    /// The file that claims the alias. Waits for the first index when it is being built.
    pub(crate) fn file_of(&self, alias: &str) -> Option<PathBuf> {
        let building = |state: &mut State| state.phase == Phase::Building;
        let state = self.lock();
        let (state, _) = self
            .built
            .wait_timeout_while(state, LONGEST_WAIT, building)
            .unwrap_or_else(PoisonError::into_inner);
        state.claims.get(alias)?.first().cloned()
    }

    /// Makes look-ups wait for [`Index::build`]; false when that was done before.
    pub(crate) fn begin(&self) -> bool {
        let mut state = self.lock();
        let first = state.phase == Phase::NotStarted;
        if first {
            state.phase = Phase::Building;
        }
        first
    }

    /// Looks through all files below `dir`.
    pub(crate) fn build(&self, dir: &Path) {
        let files = files_below(dir);
        let known: Vec<PathBuf> = self.lock().of_file.keys().cloned().collect();
        for gone in known
            .iter()
            .filter(|path| files.binary_search(path).is_err())
        {
            self.replace(gone, Vec::new());
        }
        for path in &files {
            self.update(path);
        }
        self.finish();
    }

    /// Ends the waiting, whatever was found.
    pub(crate) fn finish(&self) {
        self.lock().phase = Phase::Built;
        self.built.notify_all();
    }

    /// Reads one file's aliases anew; none when it is gone.
    fn update(&self, path: &Path) {
        let bytes = patterns::read_text(path, MOST_FILE_BYTES).unwrap_or_default();
        self.files_read.fetch_add(1, Ordering::Relaxed);
        self.replace(path, aliases_in(path, bytes));
    }

    fn replace(&self, path: &Path, aliases: Vec<String>) {
        let mut state = self.lock();
        for old in state.of_file.remove(path).unwrap_or_default() {
            if let Some(files) = state.claims.get_mut(&old) {
                files.retain(|file| file != path);
                if files.is_empty() {
                    state.claims.remove(&old);
                }
            }
        }
        for alias in &aliases {
            let files = state.claims.entry(alias.clone()).or_default();
            if let Err(at) = files.binary_search_by(|file| file.as_path().cmp(path)) {
                files.insert(at, path.to_owned());
            }
        }
        if !aliases.is_empty() {
            state.of_file.insert(path.to_owned(), aliases);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: first index, then what changes, until [`Wake::Stop`].
    pub(crate) fn run(
        &self,
        dir: &Path,
        watch: bool,
        sender: &Sender<Wake>,
        news: &Receiver<Wake>,
    ) {
        // Watched before it is read, so that no change falls between.
        let mut seen = identity(dir);
        let mut watcher = if watch { watcher_of(dir, sender) } else { None };
        self.build(dir);
        if !watch {
            return;
        }
        let mut polled = Instant::now();
        // A new folder is watched a moment after it was made: once more when it has settled.
        let mut unsettled = false;
        loop {
            match news.recv_timeout(LOOK) {
                Ok(Wake::News(Ok(event))) => unsettled |= self.news(dir, &event),
                Ok(Wake::News(Err(_))) => self.build(dir),
                Err(RecvTimeoutError::Timeout) if identity(dir) != seen => {
                    // The folder was made since, or another one took its place.
                    seen = identity(dir);
                    watcher = watcher_of(dir, sender);
                    self.build(dir);
                }
                Err(RecvTimeoutError::Timeout) if unsettled => {
                    unsettled = false;
                    self.build(dir);
                }
                Err(RecvTimeoutError::Timeout) if watcher.is_none() && polled.elapsed() >= POLL => {
                    polled = Instant::now();
                    self.build(dir);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    /// True when folders changed, and not only files.
    fn news(&self, dir: &Path, event: &notify::Event) -> bool {
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        if event.kind.is_access() && event.kind != written {
            return false;
        }
        let is_file = |path: &PathBuf| path.extension().is_some_and(|e| e == "yaml");
        // What a writer has beside the file until its rename.
        let is_hidden = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default();
            name.as_encoded_bytes().starts_with(b".")
        };
        let paths: Vec<&PathBuf> = event.paths.iter().filter(|p| !is_hidden(p)).collect();
        if event.need_rescan()
            || !paths
                .iter()
                .all(|p| is_file(p) || !p.is_dir() && p.exists())
        {
            self.build(dir);
            return true;
        }
        for path in paths.into_iter().filter(|path| is_file(path)) {
            self.update(path);
        }
        false
    }
}

/// Which folder lies there, if any.
fn identity(dir: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(dir).ok()?;
    Some((found.dev(), found.ino()))
}

fn watcher_of(dir: &Path, sender: &Sender<Wake>) -> Option<notify::RecommendedWatcher> {
    let sender = sender.clone();
    let forward = move |event| {
        let _ = sender.send(Wake::News(event));
    };
    let watcher = notify::recommended_watcher(forward).and_then(|mut watcher| {
        watcher.watch(dir, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(
            |error| tracing::warn!(dir = %dir.display(), %error, "aliases are not watched"),
        )
        .ok()
}

/// The keys of a file's aliases. A file that is no good has none.
fn aliases_in(path: &Path, bytes: Vec<u8>) -> Vec<String> {
    if memmem::find(&bytes, b"aliases").is_none() {
        return Vec::new();
    }
    let mut report = Report::default();
    let root =
        patterns::add_text(&mut report, path, bytes).and_then(|file| tree::read(&mut report, file));
    let Some(Kind::Map(pairs)) = root.map(|tree| tree.root.kind) else {
        return Vec::new();
    };
    let items = pairs
        .into_iter()
        .find(|pair| pair.key == "aliases")
        .map(|pair| pair.value.kind);
    let Some(Kind::Seq(items)) = items else {
        return Vec::new();
    };
    let address = |kind: &Kind| match kind {
        Kind::Scalar(scalar) => Address::parse(&scalar.text)
            .ok()
            .map(|address| address.key()),
        _ => None,
    };
    items
        .iter()
        .filter_map(|item| address(&item.kind))
        .collect()
}

/// All mailbox files `<dir>/<domain>/<localpart>.yaml`, sorted. Folders that cannot be read have
/// none.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| {
        let entries = std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        entries.map(|entry| entry.path())
    };
    let is_mailbox = |path: &PathBuf| {
        path.extension().is_some_and(|e| e == "yaml")
            && !path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut files = Vec::new();
    for entry in entries(dir) {
        if is_mailbox(&entry) && !entry.is_dir() {
            files.push(entry);
        } else {
            files.extend(entries(&entry).filter(is_mailbox));
        }
    }
    files.sort();
    files
}
