//! Which mailbox an alias belongs to: an index over all mailbox files.
//!
//! An address without a file of its own may be an alias in any file, so all of them are looked
//! through once, in a thread of their own, and then watched (inotify). Only files that may have the
//! key are parsed, one at a time; only those with aliases take memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecursiveMode, Watcher as _};

use super::source::Report;
use super::tree::{self, Kind};
use super::{MOST_FILE_BYTES, location, patterns};
use crate::mail::Address;

/// How long a look-up waits for the first index.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Without inotify the files are looked through this often.
const POLL: Duration = Duration::from_secs(60);
/// How soon a folder that was made or replaced is seen: a change counts within a second.
const LOOK: Duration = Duration::from_millis(500);

/// A file's text is read into room for so much, which is kept for the next file, octets.
const ROOM: usize = 64 << 10;

/// The index and the thread that keeps it, which ends with it.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    index: Arc<Index>,
    /// `None` until the thread is started.
    thread: Mutex<Option<Sender<Wake>>>,
}

/// The index, shared with its thread.
#[derive(Debug, Default)]
struct Index {
    state: Mutex<State>,
    built: Condvar,
    /// Files read since the start.
    files_read: AtomicU64,
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
enum Wake {
    /// The file system's news.
    News(notify::Result<notify::Event>),
    /// The daemon file was read again.
    Reloaded,
    /// The index is gone.
    Stop,
}

impl Aliases {
    /// Starts the thread. Where it runs already, it looks through all files again: not every file
    /// system tells of every change.
    pub(crate) fn start(&self, dir: &Path, watch: bool) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*thread {
            let _ = running.send(Wake::Reloaded);
        }
        if !self.index.begin() {
            return;
        }
        let (sender, news) = channel();
        let (index, dir, wake) = (Arc::clone(&self.index), dir.to_owned(), sender.clone());
        let run = move || index.run(&dir, watch, &wake, &news);
        let named = std::thread::Builder::new().name("aliases".to_owned());
        if let Err(error) = named.spawn(run) {
            tracing::error!(%error, "the alias index does not run");
            self.index.end(Phase::NotStarted);
            return;
        }
        *thread = Some(sender);
    }

    /// Reads all files once, in this thread.
    pub(crate) fn read_all(&self, dir: &Path) {
        if self.index.begin() {
            self.index.build(dir);
        }
    }

    /// The file that claims the alias. Waits for the first index when it is being built.
    pub(crate) fn file_of(&self, alias: &str) -> Option<PathBuf> {
        self.index.file_of(alias)
    }

    /// Files read since the start.
    pub(crate) fn files_read(&self) -> u64 {
        self.index.files_read.load(Ordering::Relaxed)
    }
}

impl Drop for Aliases {
    fn drop(&mut self) {
        if let Ok(Some(thread)) = self.thread.get_mut().map(Option::take) {
            let _ = thread.send(Wake::Stop);
        }
    }
}

impl Index {
    fn file_of(&self, alias: &str) -> Option<PathBuf> {
        let building = |state: &mut State| state.phase == Phase::Building;
        let state = self.lock();
        let (state, _) = self
            .built
            .wait_timeout_while(state, LONGEST_WAIT, building)
            .unwrap_or_else(PoisonError::into_inner);
        state.claims.get(alias)?.first().cloned()
    }

    /// Makes look-ups wait for [`Index::build`]; false when that was done before.
    fn begin(&self) -> bool {
        let mut state = self.lock();
        let first = state.phase == Phase::NotStarted;
        if first {
            state.phase = Phase::Building;
        }
        first
    }

    /// Looks through all files below `dir`.
    fn build(&self, dir: &Path) {
        let known: Vec<PathBuf> = self.lock().of_file.keys().cloned().collect();
        for gone in known.iter().filter(|path| !path.is_file()) {
            self.replace(gone, Vec::new());
        }
        let mut room = Vec::with_capacity(ROOM);
        location::each_file(dir, &mut |entry| {
            if location::is_file(entry) {
                self.update(&entry.path(), &mut room);
            }
        });
        self.end(Phase::Built);
    }

    /// Ends the waiting, whatever was found.
    fn end(&self, phase: Phase) {
        self.lock().phase = phase;
        self.built.notify_all();
    }

    /// Reads one file's aliases anew, into `room`; none when it is gone.
    fn update(&self, path: &Path, room: &mut Vec<u8>) {
        room.clear();
        room.shrink_to(ROOM);
        let read = File::open(path)
            .and_then(|file| file.take(MOST_FILE_BYTES + 1).read_to_end(room))
            .is_ok_and(|octets| octets as u64 <= MOST_FILE_BYTES);
        self.files_read.fetch_add(1, Ordering::Relaxed);
        let aliases = match read && may_have_aliases(room) {
            true => aliases_in(path, room.clone()),
            false => Vec::new(),
        };
        self.replace(path, aliases);
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
    fn run(&self, dir: &Path, watch: bool, sender: &Sender<Wake>, news: &Receiver<Wake>) {
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
                Ok(Wake::Reloaded) => self.build(dir),
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
        let mut room = Vec::new();
        for path in paths.into_iter().filter(|path| is_file(path)) {
            match path.is_file() {
                true => self.update(path, &mut room),
                false => self.replace(path, Vec::new()),
            }
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
    let forward = move |news: notify::Result<notify::Event>| {
        // That a file is opened is told as well, of each that we read.
        if news.as_ref().map_or(true, is_change) {
            let _ = sender.send(Wake::News(news));
        }
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

/// Whether something is another than before, and not only looked at.
fn is_change(event: &notify::Event) -> bool {
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    !event.kind.is_access() || event.kind == written || event.need_rescan()
}

/// Whether the key may stand in a text: its word on a line that is no comment, or anything escaped.
fn may_have_aliases(text: &[u8]) -> bool {
    let in_comment = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        let line = memchr::memrchr2(b'\n', b'\r', before).map_or(0, |end| end + 1);
        let line = before.get(line..).unwrap_or_default();
        line.trim_ascii_start().starts_with(b"#")
    };
    let mut words = memmem::find_iter(text, b"aliases");
    words.any(|at| !in_comment(at)) || memchr::memchr(b'\\', text).is_some()
}

/// The keys of a file's aliases. A file that is no good has none.
fn aliases_in(path: &Path, bytes: Vec<u8>) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_without_the_key_need_not_be_parsed() {
        for (text, may) in [
            ("version: 1\n", false),
            ("aliases: [a@b.jp]\n", true),
            ("version: 1\r# aliases: [a@b.jp]\r", false),
            ("# aliases\n  # no aliases\n", false),
            ("version: 1 # aliases\n", true),
            ("\"\\x61liases\": [a@b.jp]\n", true),
        ] {
            assert_eq!(may_have_aliases(text.as_bytes()), may, "{text:?}");
        }
    }

    const PIECES: &[&str] = &[
        "aliases: [a@b.jp]",
        "'aliases': [a@b.jp]",
        "\"\\u0061liases\":",
        "\"ali\\",
        "? aliases",
        ": [a@b.jp]",
        "- a@b.jp",
        "  # aliases:",
        "#",
        "{aliases: [a@b.jp]}",
        "text: |",
        "'",
        "\"",
    ];

    proptest! {
        #[test]
        fn no_alias_is_overlooked(
            lines in prop::collection::vec((prop::sample::select(PIECES), "[\n\r]|\r\n| "), 0..8),
        ) {
            let text: String = lines.into_iter().map(|(line, end)| line.to_owned() + &end).collect();
            if !may_have_aliases(text.as_bytes()) {
                let aliases = aliases_in(Path::new("taro.yaml"), text.into_bytes());
                prop_assert!(aliases.is_empty());
            }
        }
    }
}
