//! New files made durable in turns: all that wait are written, synced at once, named, and their
//! names are synced at once.
//!
//! Two `fsync` a file cost more than all else that is done with a small mail. Where two or more
//! files of one file system wait, one `syncfs` serves them all; a file that waits alone has its own
//! `fsync`, and so has each where `syncfs` is not known to make durable and to tell of errors
//! ([`is_shared`]), or took long: it writes what others have left unwritten as well.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{fstat, fstatfs, fsync, syncfs};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Files of one turn where syncs are shared; each has some descriptors open until it ends.
const TURN: usize = 16;
/// Octets of a file that gets a thread of its own, that no small one waits for it.
const LARGE: u64 = 1 << 20;
/// Threads at work at once, with a file each or with turns of several.
const THREADS: usize = 32;
const SHARING_THREADS: usize = 5;
/// After this a file that waits gets another thread: the one at work may hang.
const PATIENCE: Duration = Duration::from_millis(50);
/// A thread without work waits so long for the next file: to wake it costs less than to begin one.
const LINGER: Duration = Duration::from_millis(10);
/// A shared sync that took longer is not tried again for a while.
const SLOW: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(60);
/// `f_type` of statfs(2): ext2 to ext4, and XFS.
const SHARING: [u64; 2] = [0xEF53, 0x5846_5342];
/// Linux since which `syncfs` reports what could not be written, the file system's own records included.
const TELLING: (u32, u32) = (5, 17);

/// How a sync ended.
pub(crate) type Synced = Result<(), Errno>;

/// A file that becomes durable. Each step is called once, on a thread that may block, and only where
/// the one before said what is to be synced; the file tells its own end to whoever waits for it.
pub(crate) trait NewFile: Send {
    /// Somebody still waits for it; one that nobody wants is dropped before its turn.
    fn is_wanted(&self) -> bool;
    /// Writes the octets where nobody looks for them, or in one go gives it its name too. What to sync,
    /// the folders of names behind the octets; `None`: it has ended.
    fn write(&mut self) -> Option<Vec<BorrowedFd<'_>>>;
    /// Gives it its name. The folders to sync; `None`: it has ended.
    fn name(&mut self, octets: Synced) -> Option<Vec<BorrowedFd<'_>>>;
    /// Its name is durable, or is not. A shared sync may have said well of a file system that an error has
    /// made read-only: what it said counts only with [`still_writable`].
    fn end(&mut self, names: Synced);
}

/// Those that wait for their turn. Clones share them.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Inner>);

struct Inner {
    queue: Mutex<Queue>,
    /// So many that wait have a second turn beside the one at work: it writes while that one syncs.
    second: usize,
    /// There is something for the thread that lingers.
    handed: Condvar,
    /// The files of the last turn lay where syncs may be shared.
    sharing: AtomicBool,
    /// Until when no sync is shared.
    resting: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Box<dyn NewFile>>,
    /// Threads at work, and the one that lingers.
    threads: usize,
    lingers: bool,
    /// For the thread that lingers, which has not woken yet.
    handed: Option<Box<dyn NewFile>>,
}

impl Queue {
    /// The first of those that wait.
    fn take(&mut self, most: usize) -> Vec<Box<dyn NewFile>> {
        let count = self.waiting.len().min(most);
        self.waiting.drain(..count).collect()
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queue = self.0.queue();
        f.debug_struct("Turns")
            .field("waiting", &queue.waiting.len())
            .field("threads", &queue.threads)
            .finish()
    }
}

impl Turns {
    /// Turns of which a second one begins, beside the one at work, once `second` files wait. Early is quick; where
    /// what follows a file is shared as well, fewer and larger turns cost less.
    pub(crate) fn new(second: usize) -> Self {
        Self(Arc::new(Inner {
            queue: Mutex::default(),
            second,
            handed: Condvar::new(),
            sharing: AtomicBool::new(false),
            resting: Mutex::default(),
        }))
    }

    /// Puts a file of about so many octets behind those that wait. Within a tokio runtime.
    pub(crate) fn wait(&self, file: Box<dyn NewFile>, octets: u64) {
        let mut queue = self.0.queue();
        if queue.lingers && queue.handed.is_none() && octets <= LARGE {
            queue.handed = Some(file);
            drop(queue);
            return self.0.handed.notify_one();
        }
        let alone = octets > LARGE || !self.0.is_sharing();
        if queue.threads == 0 || alone && queue.threads < THREADS {
            self.work(&mut queue, vec![file]);
            return;
        }
        queue.waiting.push_back(file);
        if queue.threads == 1 && queue.waiting.len() >= self.0.second {
            let next = queue.take(TURN);
            self.work(&mut queue, next);
        }
    }

    /// What a file that waits here tells of its end, to be asked once it waits; `None` where it was
    /// broken off.
    pub(crate) async fn told<T>(&self, end: &mut oneshot::Receiver<T>) -> Option<T> {
        // A timer wakes the reactor: none for a file that has its turn.
        let may_wait = !self.0.queue().waiting.is_empty();
        if may_wait {
            if let Ok(told) = timeout(PATIENCE, &mut *end).await {
                return told.ok();
            }
            self.help();
        }
        end.await.ok()
    }

    /// Another thread for what waits, for the case that those at work hang. What nobody wants any
    /// more goes.
    pub(crate) fn help(&self) {
        let mut queue = self.0.queue();
        let (wanted, rest) = queue.waiting.drain(..).partition(|file| file.is_wanted());
        let rest: VecDeque<_> = rest;
        queue.waiting = wanted;
        let most = if self.0.is_sharing() {
            SHARING_THREADS
        } else {
            THREADS
        };
        if queue.threads < most
            && let Some(next) = queue.waiting.pop_front()
        {
            self.work(&mut queue, vec![next]);
        }
        drop(queue);
        drop(rest);
    }

    /// A thread that makes these files, then those that wait.
    fn work(&self, queue: &mut Queue, first: Vec<Box<dyn NewFile>>) {
        queue.threads += 1;
        let inner = Arc::clone(&self.0);
        spawn_blocking(move || {
            let mut turn = Some(first);
            while let Some(files) = turn {
                // Whoever waits for a file of this turn learns that it was broken off.
                if catch_unwind(AssertUnwindSafe(|| inner.make(files))).is_err() {
                    tracing::error!("files were not written: a thread panicked");
                }
                turn = inner.next();
            }
        });
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_sharing(&self) -> bool {
        self.sharing.load(Ordering::Relaxed)
    }

    /// The files of the next turn; `None`, and a thread less, where none came.
    fn next(&self) -> Option<Vec<Box<dyn NewFile>>> {
        let mut queue = self.queue();
        if queue.waiting.is_empty() && !queue.lingers {
            queue.lingers = true;
            let nothing = |queue: &mut Queue| queue.handed.is_none();
            let waited = self.handed.wait_timeout_while(queue, LINGER, nothing);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            queue.lingers = false;
        }
        let mut next: Vec<_> = queue.handed.take().into_iter().collect();
        let most = if self.is_sharing() { TURN } else { 1 };
        let rest = most - next.len();
        next.extend(queue.take(rest));
        if next.is_empty() {
            queue.threads -= 1;
            return None;
        }
        drop(queue);
        next.retain(|file| file.is_wanted());
        Some(next)
    }

    fn make(&self, mut files: Vec<Box<dyn NewFile>>) {
        let written: Vec<_> = files.iter_mut().map(|file| file.write()).collect();
        let octets = self.sync(&written);
        let named: Vec<_> = files
            .iter_mut()
            .zip(octets)
            .map(|(file, octets)| file.name(octets?))
            .collect();
        let names = self.sync(&named);
        for (file, names) in files.iter_mut().zip(names) {
            if let Some(names) = names {
                file.end(names);
            }
        }
    }

    /// Syncs what each file wants synced; `None` for those that have ended.
    fn sync(&self, files: &[Option<Vec<BorrowedFd<'_>>>]) -> Vec<Option<Synced>> {
        let mut shared = Shared::default();
        let first = files.iter().flatten().flatten().next();
        if let Some(first) = first {
            self.sharing.store(is_shared(first), Ordering::Relaxed);
        }
        if self.is_sharing() && !self.rests() {
            let began = Instant::now();
            shared.sync(files);
            if began.elapsed() > SLOW {
                tracing::info!("a shared sync took long: files are synced one by one for a while");
                *self.resting() = Some(Instant::now() + REST);
            }
        }
        let one = |file: &Vec<BorrowedFd<'_>>| file.iter().try_for_each(|fd| shared.of(*fd));
        files.iter().map(|file| file.as_ref().map(one)).collect()
    }

    fn rests(&self) -> bool {
        self.resting().is_some_and(|until| Instant::now() < until)
    }

    fn resting(&self) -> MutexGuard<'_, Option<Instant>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes one file durable on this thread.
pub(crate) fn make(file: &mut dyn NewFile) {
    let sync = |fds: &[BorrowedFd<'_>]| fds.iter().try_for_each(|fd| fsync(*fd));
    let octets = file.write().map(|fds| sync(&fds));
    let names = octets.and_then(|octets| file.name(octets).map(|fds| sync(&fds)));
    if let Some(names) = names {
        file.end(names);
    }
}

/// After a sync a change is made to the file system: where that fails, `fsync` of the folder has the word. One
/// that has become read-only after an error says nothing of it to `syncfs`, but refuses a change.
pub(crate) fn still_writable(changed: Synced, folder: impl AsFd) -> Synced {
    changed.or_else(|_| fsync(folder))
}

/// How the file systems that were synced as a whole came out, by device.
#[derive(Default)]
struct Shared(Vec<(u64, Synced)>);

impl Shared {
    /// Each file system with more than one of these files that may be synced so. The first descriptor
    /// on it is the one to ask: it was opened before anything of this turn was written, and tells of
    /// every error since.
    fn sync(&mut self, files: &[Option<Vec<BorrowedFd<'_>>>]) {
        let first = files.iter().flatten().filter_map(|file| file.first());
        let mut alone: Vec<(u64, BorrowedFd<'_>)> = Vec::new();
        for (device, fd) in first.filter_map(|fd| Some((device(*fd)?, *fd))) {
            if self.find(device).is_some() {
                continue;
            }
            match alone.iter().find(|(known, _)| *known == device) {
                Some((_, first)) if is_shared(*first) => self.0.push((device, syncfs(*first))),
                Some(_) => {}
                None => alone.push((device, fd)),
            }
        }
    }

    /// A descriptor's part in it, or its own sync.
    fn of(&self, fd: BorrowedFd<'_>) -> Synced {
        let known = match self.0.is_empty() {
            true => None,
            false => device(fd).and_then(|device| self.find(device)),
        };
        known.unwrap_or_else(|| fsync(fd))
    }

    fn find(&self, device: u64) -> Option<Synced> {
        let mut known = self.0.iter();
        known
            .find(|(known, _)| *known == device)
            .map(|(_, synced)| *synced)
    }
}

fn device(fd: BorrowedFd<'_>) -> Option<u64> {
    fstat(fd).ok().map(|stat| stat.st_dev)
}

/// Whether `syncfs` on this file system is as good as `fsync` of each file. Others may be as well
/// (on btrfs it costs more; FUSE leaves it out).
fn is_shared(fd: impl AsFd) -> bool {
    static TELLS: LazyLock<bool> = LazyLock::new(|| {
        let system = rustix::system::uname();
        version(&system.release().to_string_lossy()) >= Some(TELLING)
    });
    let kind = fstatfs(fd).map(|disk| u64::try_from(disk.f_type).unwrap_or_default());
    *TELLS && kind.is_ok_and(|kind| SHARING.contains(&kind))
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A file whose writing takes until the other end of its channel goes.
#[cfg(test)]
pub(crate) struct Hanging(std::sync::mpsc::Receiver<()>, Arc<AtomicBool>);

#[cfg(test)]
impl Hanging {
    pub(crate) fn new() -> (std::sync::mpsc::Sender<()>, Self) {
        let (go_on, hangs) = std::sync::mpsc::channel();
        (go_on, Self(hangs, Arc::default()))
    }

    /// Turns that share a sync and whose one thread hangs until the sender goes.
    pub(crate) fn turns() -> (std::sync::mpsc::Sender<()>, Turns) {
        let turns = Turns::new(8);
        turns.0.sharing.store(true, Ordering::Relaxed);
        let (go_on, hanging) = Self::new();
        let begun = hanging.begun();
        turns.wait(Box::new(hanging), 1);
        while !begun() {
            std::thread::yield_now();
        }
        (go_on, turns)
    }

    /// Asks whether it hangs already.
    pub(crate) fn begun(&self) -> impl Fn() -> bool + use<> {
        let begun = Arc::clone(&self.1);
        move || begun.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
impl NewFile for Hanging {
    fn is_wanted(&self) -> bool {
        true
    }

    fn write(&mut self) -> Option<Vec<BorrowedFd<'_>>> {
        self.1.store(true, Ordering::SeqCst);
        let _ = self.0.recv();
        None
    }

    fn name(&mut self, _: Synced) -> Option<Vec<BorrowedFd<'_>>> {
        None
    }

    fn end(&mut self, _: Synced) {}
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Writes `octets`, then is renamed to `name`; tells after which step it ended, and how.
    struct Plain {
        folder: PathBuf,
        name: String,
        open: Option<(File, File)>,
        /// Its octets go to a device that cannot be synced.
        broken: bool,
        panics: bool,
        waiter: Option<oneshot::Sender<(&'static str, Synced)>>,
    }

    type Ended = oneshot::Receiver<(&'static str, Synced)>;

    impl Plain {
        fn new(folder: &Path, name: &str) -> (Self, Ended) {
            let (waiter, ended) = oneshot::channel();
            let plain = Self {
                folder: folder.to_owned(),
                name: name.to_owned(),
                open: None,
                broken: false,
                panics: false,
                waiter: Some(waiter),
            };
            (plain, ended)
        }

        fn tell(&mut self, step: &'static str, synced: Synced) {
            let waiter = self.waiter.take().unwrap();
            let _ = waiter.send((step, synced));
        }
    }

    impl NewFile for Plain {
        fn is_wanted(&self) -> bool {
            self.waiter
                .as_ref()
                .is_some_and(|waiter| !waiter.is_closed())
        }

        fn write(&mut self) -> Option<Vec<BorrowedFd<'_>>> {
            assert!(!self.panics);
            let path = match self.broken {
                true => PathBuf::from("/dev/null"),
                false => self.folder.join(format!("{}.tmp", self.name)),
            };
            std::fs::write(&path, &self.name).unwrap();
            let open = (File::open(path).unwrap(), File::open(&self.folder).unwrap());
            Some(vec![self.open.insert(open).0.as_fd()])
        }

        fn name(&mut self, octets: Synced) -> Option<Vec<BorrowedFd<'_>>> {
            if octets.is_err() {
                self.tell("octets", octets);
                return None;
            }
            let tmp = self.folder.join(format!("{}.tmp", self.name));
            std::fs::rename(tmp, self.folder.join(&self.name)).unwrap();
            self.open.as_ref().map(|(_, folder)| vec![folder.as_fd()])
        }

        fn end(&mut self, names: Synced) {
            self.tell("names", names);
        }
    }

    #[tokio::test]
    async fn all_that_wait_are_made_and_each_has_its_own_end() {
        let folder = tempfile::tempdir().unwrap();
        let (go_on, turns) = Hanging::turns();
        let mut ended = Vec::new();
        for number in 0..2 * TURN {
            let (mut plain, end) = Plain::new(folder.path(), &number.to_string());
            plain.broken = number == 3;
            turns.wait(Box::new(plain), 1);
            ended.push(end);
        }
        drop(go_on);
        for (number, end) in ended.into_iter().enumerate() {
            let expected = match number {
                3 => ("octets", Err(Errno::INVAL)),
                _ => ("names", Ok(())),
            };
            assert_eq!(end.await.unwrap(), expected);
            assert_eq!(folder.path().join(number.to_string()).exists(), number != 3);
        }
    }

    #[tokio::test]
    async fn a_turn_that_panics_breaks_off_its_files_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let turns = Turns::new(8);
        let (mut bad, end) = Plain::new(folder.path(), "bad");
        bad.panics = true;
        turns.wait(Box::new(bad), 1);
        assert!(end.await.is_err());
        let (good, end) = Plain::new(folder.path(), "good");
        turns.wait(Box::new(good), 1);
        assert_eq!(end.await.unwrap(), ("names", Ok(())));
    }

    #[tokio::test]
    async fn a_large_file_and_one_that_is_helped_wait_for_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (go_on, turns) = Hanging::turns();
        let (large, end) = Plain::new(folder.path(), "large");
        turns.wait(Box::new(large), LARGE + 1);
        assert_eq!(end.await.unwrap(), ("names", Ok(())));
        let (unwanted, end) = Plain::new(folder.path(), "unwanted");
        turns.wait(Box::new(unwanted), 1);
        drop(end);
        let (wanted, end) = Plain::new(folder.path(), "wanted");
        turns.wait(Box::new(wanted), 1);
        turns.help();
        assert_eq!(end.await.unwrap(), ("names", Ok(())));
        assert!(!folder.path().join("unwanted.tmp").exists());
        turns.0.sharing.store(false, Ordering::Relaxed);
        let (alone, end) = Plain::new(folder.path(), "alone");
        turns.wait(Box::new(alone), 1);
        assert_eq!(end.await.unwrap(), ("names", Ok(())));
        drop(go_on);
    }

    #[tokio::test]
    async fn many_that_wait_have_a_turn_beside_one_that_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let (go_on, turns) = Hanging::turns();
        let mut ended = Vec::new();
        for number in 0..8 {
            let (plain, end) = Plain::new(folder.path(), &number.to_string());
            turns.wait(Box::new(plain), 1);
            ended.push(end);
        }
        for end in ended {
            assert_eq!(end.await.unwrap(), ("names", Ok(())));
        }
        drop(go_on);
    }

    #[test]
    fn where_a_change_fails_the_folder_has_the_word() {
        let folder = tempfile::tempdir().unwrap();
        let folder = File::open(folder.path()).unwrap();
        // A device that cannot be synced.
        let broken = File::open("/dev/null").unwrap();
        for (changed, folder, expected) in [
            (Ok(()), &broken, Ok(())),
            (Err(Errno::NOENT), &folder, Ok(())),
            (Err(Errno::ROFS), &broken, Err(Errno::INVAL)),
        ] {
            assert_eq!(still_writable(changed, folder), expected);
        }
    }

    #[test]
    fn the_version_of_a_kernel() {
        for (release, expected) in [
            ("6.1.0-28-amd64", Some((6, 1))),
            ("5.8", Some((5, 8))),
            ("5.10.0", Some((5, 10))),
            ("x", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }
}
