//! Maildir: one file a mail, safe against a power cut, a planted symlink and a repeated hand-off.
//!
//! `tmp/` (exclusive) → write → `fsync` → `link` into `new/` → `fsync` of `new/` → `unlink`. The
//! file is named `<unix seconds>.<key>.sekimori`; before writing, `new/` and `cur/` are searched
//! for the key, so that a repeated hand-off makes no second copy (RELIABILITY C6, 5g). The search
//! reads both folders: its cost grows with the number of mails in the mailbox.
//!
//! What stands before the first `%{…}` of the path belongs to the operator and may hold symlinks;
//! behind it none is followed, and no mailbox name leaves its folder; one too long for a folder is
//! replaced by its hash. Files are 0600, folders
//! 0700, line ends LF.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::lf::LfWriter;
use super::{Accepted, DeliverError, Delivery, Outcome, Recipient};
use crate::durable::{NewFile, Synced, Turns, still_writable};
use crate::failpoint::{Point, reach};
use crate::mail::{Address, edit};
use crate::smtp::Reply;

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);
const WRITING: &str = "writing to the Maildir";
const CHUNK: usize = 128 * 1024;
/// Mails that wait for a second turn beside the one at work.
const SECOND_TURN: usize = 2;
const SUFFIX: &str = "sekimori";
/// Longest name of a folder, octets (Linux).
const MOST_NAME: usize = 255;

/// `delivery.maildir`.
#[derive(Debug, Clone)]
pub struct MaildirSettings {
    /// The folder of one mailbox; `%{domain}` and `%{localpart}` stand for the parts of the
    /// mailbox's [key](Address::key), percent-encoded. Relative paths are already resolved.
    pub path: PathBuf,
    /// `fsync` of file and folder before a mail counts as delivered.
    pub fsync: bool,
}

/// Writes mail into Maildirs.
#[derive(Debug, Clone)]
pub struct Maildir {
    settings: Arc<MaildirSettings>,
    turns: Turns,
}

impl Maildir {
    /// A writer; touches nothing yet.
    pub fn new(settings: MaildirSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            turns: Turns::new(SECOND_TURN),
        }
    }

    /// The folder of a mailbox, whether it exists or not.
    pub fn folder(&self, mailbox: &Address) -> PathBuf {
        let (base, below) = split_template(&self.settings.path);
        below
            .iter()
            .fold(base, |folder, part| folder.join(fill(part, mailbox)))
    }

    /// Delivers to each recipient's Maildir on the blocking threads. What was begun goes on to its end
    /// where nobody waits for it any more.
    ///
    /// A full disk or quota is `452 4.3.1`, every other trouble `451 4.3.0`.
    pub async fn deliver(&self, delivery: &Delivery) -> Vec<Outcome> {
        let shared = Arc::new(delivery.clone());
        let started: Vec<_> = (0..delivery.recipients.len())
            .map(|index| self.start(&shared, index))
            .collect();
        let mut outcomes = Vec::with_capacity(started.len());
        for one in started {
            outcomes.push(self.outcome(delivery.deadline, one).await);
        }
        outcomes
    }

    fn start(&self, delivery: &Arc<Delivery>, index: usize) -> oneshot::Receiver<Outcome> {
        let (copy, outcome) = LocalCopy::new(&self.settings, delivery, index);
        self.turns.wait(Box::new(copy), delivery.content.size());
        outcome
    }

    async fn outcome(
        &self,
        deadline: Option<Instant>,
        mut outcome: oneshot::Receiver<Outcome>,
    ) -> Outcome {
        let told = self.turns.told(&mut outcome);
        let told = match deadline {
            None => Ok(told.await),
            Some(deadline) => timeout_at(deadline.into(), told).await,
        };
        match told {
            Ok(told) => told.unwrap_or_else(|| Err(broken_off())),
            Err(_) => {
                drop(outcome);
                self.turns.help();
                Err(too_late())
            }
        }
    }
}

/// One recipient's copy on its way into the Maildir.
struct LocalCopy {
    settings: Arc<MaildirSettings>,
    delivery: Arc<Delivery>,
    index: usize,
    folder: Option<Folder>,
    /// Its name in `tmp`.
    tmp: String,
    /// Written, and not synced yet.
    file: Option<File>,
    /// Where it lies: in `new`, or in `cur` where an earlier try had put it and somebody has read it.
    place: Option<(&'static str, String)>,
    repeated: bool,
    waiter: Option<oneshot::Sender<Outcome>>,
}

impl LocalCopy {
    fn new(
        settings: &Arc<MaildirSettings>,
        delivery: &Arc<Delivery>,
        index: usize,
    ) -> (Self, oneshot::Receiver<Outcome>) {
        let (waiter, outcome) = oneshot::channel();
        let copy = Self {
            settings: Arc::clone(settings),
            delivery: Arc::clone(delivery),
            index,
            folder: None,
            tmp: String::new(),
            file: None,
            place: None,
            repeated: false,
            waiter: Some(waiter),
        };
        (copy, outcome)
    }

    fn recipient(&self) -> Result<&Recipient, DeliverError> {
        let recipients = &self.delivery.recipients;
        recipients
            .get(self.index)
            .ok_or_else(|| failed(&"no such recipient"))
    }

    fn begin(&mut self) -> Result<(), DeliverError> {
        in_time(&self.delivery)?;
        let recipient = self.recipient()?;
        let (key, maybe_there) = (recipient.key.clone(), recipient.maybe_there);
        if !(1..=128).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(failed(&"the hand-off's key is not a file name"));
        }
        let folder = Folder::open(&self.settings, &recipient.mailbox)
            .map_err(|error| storage(&error, "opening the Maildir"))?;
        let folder = self.folder.insert(folder);
        if maybe_there {
            let found = folder.find(&key);
            self.place = found.map_err(|error| storage(&error, "searching the Maildir"))?;
            self.repeated = self.place.is_some();
        }
        if !self.repeated {
            self.tmp = temporary_name(&key);
            let written = folder.write(&self.tmp, &self.delivery, self.index);
            self.file = Some(written.map_err(|error| storage(&error, WRITING))?);
        }
        Ok(())
    }

    /// From `tmp` into `new`.
    fn link(&mut self, octets: Synced) -> Result<(), DeliverError> {
        self.file = None;
        let Some(folder) = &self.folder else {
            return Err(failed(&"no folder"));
        };
        let trouble = |error: Errno| storage(&error.into(), WRITING);
        let linked = octets.map_err(trouble).and_then(|()| {
            reach(Point::MaildirWritten);
            in_time(&self.delivery)?;
            let name = format!("{}.{}.{SUFFIX}", unix_seconds(), self.recipient()?.key);
            rustix::fs::linkat(&folder.tmp, &self.tmp, &folder.new, &name, AtFlags::empty())
                .map_err(trouble)?;
            Ok(name)
        });
        if linked.is_err() {
            let _ = folder.remove(&self.tmp);
        }
        self.place = Some(("new", linked?));
        reach(Point::MaildirLinked);
        Ok(())
    }

    /// Removes its name in `tmp`, which is a change as well ([`still_writable`]).
    fn clear(&self, names: Synced) -> Synced {
        let Some(folder) = &self.folder else {
            return names;
        };
        let removed = match self.repeated {
            true => Err(Errno::NOENT),
            false => folder.remove(&self.tmp),
        };
        match self.place.as_ref().and_then(|(sub, _)| folder.sub(sub)) {
            Some(sub) if self.settings.fsync => names.and_then(|()| still_writable(removed, sub)),
            _ => names,
        }
    }

    fn accepted(&self) -> Outcome {
        match (&self.folder, &self.place) {
            (Some(folder), Some((sub, name))) => Ok(Accepted {
                place: folder.path.join(sub).join(name).display().to_string(),
                reply: None,
                repeated: self.repeated,
            }),
            _ => Err(failed(&"no folder")),
        }
    }

    fn tell(&mut self, outcome: Outcome) {
        if let Some(waiter) = self.waiter.take() {
            // Perhaps nobody waits any more.
            let _ = waiter.send(outcome);
        }
    }

    /// Goes on where a step went well; the end of it where not.
    fn went(&mut self, step: Result<(), DeliverError>) -> Option<()> {
        step.map_err(|error| self.tell(Err(error))).ok()
    }

    /// What is to be synced of these.
    fn synced<'a>(&self, fd: Option<impl Into<BorrowedFd<'a>>>) -> Vec<BorrowedFd<'a>> {
        let fd = fd.filter(|_| self.settings.fsync);
        fd.into_iter().map(Into::into).collect()
    }
}

impl NewFile for LocalCopy {
    fn is_wanted(&self) -> bool {
        self.waiter
            .as_ref()
            .is_some_and(|waiter| !waiter.is_closed())
    }

    fn write(&mut self) -> Option<Vec<BorrowedFd<'_>>> {
        let begun = self.begin();
        self.went(begun)?;
        Some(self.synced(self.file.as_ref().map(File::as_fd)))
    }

    fn name(&mut self, octets: Synced) -> Option<Vec<BorrowedFd<'_>>> {
        if !self.repeated {
            let linked = self.link(octets);
            self.went(linked)?;
        }
        let (folder, (sub, _)) = (self.folder.as_ref()?, self.place.as_ref()?);
        Some(self.synced(folder.sub(sub).map(OwnedFd::as_fd)))
    }

    fn end(&mut self, names: Synced) {
        let outcome = match self.clear(names) {
            Ok(()) => self.accepted(),
            Err(error) => Err(ambiguous(storage(&error.into(), "fsync of the Maildir"))),
        };
        self.tell(outcome);
    }
}

/// One open Maildir.
struct Folder {
    path: PathBuf,
    tmp: OwnedFd,
    new: OwnedFd,
    /// Opened where it is searched.
    cur: Option<OwnedFd>,
}

impl Folder {
    /// Opens the folders of a mailbox, and makes what is missing; `tmp` comes last, so that where it
    /// is the others are.
    fn open(settings: &MaildirSettings, mailbox: &Address) -> io::Result<Self> {
        let (base, below) = split_template(&settings.path);
        let parts: Vec<String> = below.iter().map(|part| fill(part, mailbox)).collect();
        match Self::open_all(&base, &parts) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        std::fs::create_dir_all(&base)?;
        let mut fd = rustix::fs::open(&base, DIRECTORY, Mode::empty())?;
        for part in &parts {
            fd = enter(&fd, part, settings.fsync)?;
        }
        for sub in ["cur", "new", "tmp"] {
            enter(&fd, sub, settings.fsync)?;
        }
        Self::open_all(&base, &parts)
    }

    fn open_all(base: &Path, parts: &[String]) -> io::Result<Self> {
        let below: PathBuf = parts.iter().collect();
        let root = rustix::fs::open(base, DIRECTORY, Mode::empty())?;
        let sub = |name| {
            rustix::fs::openat2(
                &root,
                below.join(name),
                DIRECTORY,
                Mode::empty(),
                confined(),
            )
        };
        Ok(Self {
            tmp: sub("tmp")?,
            new: sub("new")?,
            cur: None,
            path: base.join(&below),
        })
    }

    fn sub(&self, name: &str) -> Option<&OwnedFd> {
        match name {
            "cur" => self.cur.as_ref(),
            _ => Some(&self.new),
        }
    }

    /// Where the file lies that carries `key`, if there is one.
    fn find(&mut self, key: &str) -> io::Result<Option<(&'static str, String)>> {
        if let Some(name) = find(&self.new, key)? {
            return Ok(Some(("new", name)));
        }
        let flags = ResolveFlags::NO_SYMLINKS;
        let cur = match rustix::fs::openat2(&self.tmp, "../cur", DIRECTORY, Mode::empty(), flags) {
            Err(Errno::NOENT) => return Ok(None),
            cur => cur?,
        };
        let found = find(&cur, key)?;
        self.cur = Some(cur);
        Ok(found.map(|name| ("cur", name)))
    }

    /// A new file in `tmp`, with all its octets; nothing of it where that fails.
    fn write(&self, tmp: &str, delivery: &Delivery, index: usize) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat2(&self.tmp, tmp, flags, mode, confined())?;
        let mut file = File::from(fd);
        let written = write_copy(&mut file, delivery, index);
        if written.is_err() {
            let _ = self.remove(tmp);
        }
        written.map(|()| file)
    }

    /// A name in `tmp` goes.
    fn remove(&self, tmp: &str) -> rustix::io::Result<()> {
        let removed = rustix::fs::unlinkat(&self.tmp, tmp, AtFlags::empty());
        removed.inspect_err(|error| {
            tracing::warn!(path = %self.path.display(), %error, "a file is left in the Maildir's tmp");
        })
    }
}

fn write_copy(file: &mut File, delivery: &Delivery, index: usize) -> io::Result<()> {
    let octets = usize::try_from(delivery.content.size()).unwrap_or(CHUNK);
    let room = octets.saturating_add(CHUNK / 64).min(CHUNK);
    let mut lf = LfWriter::new(io::BufWriter::with_capacity(room, file));
    lf.push(format!("Return-Path: <{}>\r\n", delivery.sender).as_bytes())?;
    if let Some(recipient) = delivery.recipients.get(index) {
        lf.push(format!("Delivered-To: {}\r\n", recipient.address).as_bytes())?;
    }
    lf.push(&delivery.content.head)?;
    let mut begun = false;
    let mut put = |piece: &[u8]| {
        if !begun && !piece.is_empty() {
            begun = true;
            lf.push(edit::divider([piece]))?;
        }
        lf.push(piece)
    };
    let content = &delivery.content;
    let (received, body) = content.split();
    edit::without_field(received, "Return-Path", |part| {
        content.header_part(part).into_iter().try_for_each(&mut put)
    })?;
    put(body)?;
    let rest = content.rest();
    content.message.each(rest, |piece| lf.push(piece))?;
    lf.finish()
}

fn confined() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// Opens the folder `name` in `parent`, making it if it is missing.
fn enter(parent: &OwnedFd, name: &str, fsync: bool) -> io::Result<OwnedFd> {
    let open = || rustix::fs::openat2(parent, name, DIRECTORY, Mode::empty(), confined());
    match open() {
        Err(Errno::NOENT) => {}
        opened => return Ok(opened?),
    }
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::EXIST) => {}
        made => made?,
    }
    if fsync {
        rustix::fs::fsync(parent)?;
    }
    Ok(open()?)
}

/// The name of the file that carries `key`, if there is one.
fn find(folder: &OwnedFd, key: &str) -> io::Result<Option<String>> {
    let wanted = format!(".{key}.{SUFFIX}");
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if name.contains(&wanted) {
            return Ok(Some(name.into_owned()));
        }
    }
    Ok(None)
}

/// The path in front of the first part with a `%{`, and the parts from there on.
fn split_template(path: &Path) -> (PathBuf, Vec<String>) {
    let mut base = PathBuf::new();
    let mut below = Vec::new();
    for component in path.components() {
        let text = component.as_os_str().to_string_lossy();
        let plain = matches!(component, Component::Normal(_)) && text.contains("%{");
        if below.is_empty() && !plain {
            base.push(component);
        } else {
            below.push(text.into_owned());
        }
    }
    (base, below)
}

fn fill(part: &str, mailbox: &Address) -> String {
    let key = mailbox.key();
    let (local, domain) = key.rsplit_once('@').unwrap_or((key.as_str(), ""));
    let name = part
        .replace("%{domain}", &encode(domain))
        .replace("%{localpart}", &encode(local));
    if name.len() <= MOST_NAME {
        return name;
    }
    // No encoded name holds `%-`.
    format!("%-{}", blake3::hash(name.as_bytes()).to_hex())
}

/// Percent-encodes all but `a-z A-Z 0-9 - _ . +`, and a dot at the beginning.
fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut name = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+');
        if plain || (byte == b'.' && at > 0) {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "%{byte:02X}");
        }
    }
    name
}

fn temporary_name(key: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{}.{}_{count}.{key}", unix_seconds(), std::process::id())
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn storage(error: &io::Error, step: &str) -> DeliverError {
    let full = matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSPC | Errno::DQUOT)
    );
    let reply = if full {
        Reply::new(452, 3, 1, "the mail store is full")
    } else {
        Reply::new(451, 3, 0, "the mail store is out of order")
    };
    DeliverError::new(reply, format!("{step}: {error}"))
}

fn failed(error: &dyn std::fmt::Display) -> DeliverError {
    DeliverError::new(
        Reply::new(451, 3, 0, "the mail store is out of order"),
        error.to_string(),
    )
}

fn broken_off() -> DeliverError {
    ambiguous(failed(&"writing was broken off"))
}

/// Nobody waits for what is late: a retry may be under way, and must not find it there twice.
fn in_time(delivery: &Delivery) -> Result<(), DeliverError> {
    match delivery.deadline {
        Some(deadline) if Instant::now() >= deadline => Err(too_late()),
        _ => Ok(()),
    }
}

fn too_late() -> DeliverError {
    ambiguous(DeliverError::new(
        Reply::new(451, 4, 5, "the mail store took too long"),
        "the deadline passed while a Maildir was written",
    ))
}

/// The file may be in its folder.
fn ambiguous(error: DeliverError) -> DeliverError {
    DeliverError {
        ambiguous: true,
        ..error
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::deliver::Content;
    use crate::durable::Hanging;
    use crate::mail::{ReversePath, octets};

    fn delivery(deadline: Duration) -> Delivery {
        let address = Address::parse("taro@example.jp").unwrap();
        Delivery {
            sender: ReversePath::Null,
            recipients: vec![Recipient {
                address: address.clone(),
                mailbox: address,
                key: "0".repeat(32),
                maybe_there: false,
            }],
            content: Content::new(Vec::new(), Bytes::from_static(b"A: b\r\n\r\nc\r\n"), 8),
            smtputf8: false,
            eight_bit: false,
            deadline: Some(Instant::now() + deadline),
            under_way: Some(Arc::new(())),
        }
    }

    fn written(root: &Path) -> usize {
        std::fs::read_dir(root.join("new")).map_or(0, Iterator::count)
    }

    fn maildir(root: &Path) -> Maildir {
        Maildir::new(MaildirSettings {
            path: root.to_owned(),
            fsync: false,
        })
    }

    async fn gone(under_way: &std::sync::Weak<dyn std::any::Any + Send + Sync>) {
        let gone = async {
            while under_way.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, gone).await.unwrap();
    }

    /// The file system hangs while nobody waits any more: the retry must not begin before that has
    /// ended, or both put a file there.
    #[tokio::test]
    async fn a_write_that_outlives_its_deadline_is_still_under_way() {
        let root = tempfile::tempdir().unwrap();
        let (first, turns) = Hanging::turns();
        let settings = maildir(root.path()).settings;
        let maildir = Maildir { settings, turns };
        let late = Arc::new(delivery(Duration::from_secs(60)));
        let under_way = Arc::downgrade(late.under_way.as_ref().unwrap());
        let outcome = maildir.start(&late, 0);
        let (second, hanging) = Hanging::new();
        let begun = hanging.begun();
        maildir.turns.wait(Box::new(hanging), 1);
        drop((first, late));
        while !begun() {
            tokio::task::yield_now().await;
        }
        drop(outcome);
        maildir.turns.help();
        assert_eq!((under_way.strong_count(), written(root.path())), (1, 0));
        drop(second);
        gone(&under_way).await;
        assert_eq!(written(root.path()), 1);
    }

    #[tokio::test]
    async fn what_gets_no_turn_before_its_deadline_is_never_written() {
        let root = tempfile::tempdir().unwrap();
        let (go_on, turns) = Hanging::turns();
        let settings = maildir(root.path()).settings;
        let maildir = Maildir { settings, turns };
        let late = delivery(Duration::from_millis(1));
        assert!(maildir.deliver(&late).await[0].is_err());
        let under_way = Arc::downgrade(late.under_way.as_ref().unwrap());
        drop(late);
        gone(&under_way).await;
        drop(go_on);
        assert_eq!(written(root.path()), 0);
    }

    #[tokio::test]
    async fn a_folder_that_hangs_holds_up_no_other() {
        let root = tempfile::tempdir().unwrap();
        let (go_on, turns) = Hanging::turns();
        let settings = maildir(root.path()).settings;
        let maildir = Maildir { settings, turns };
        let outcome = maildir.deliver(&delivery(Duration::from_secs(20))).await;
        assert!(outcome[0].is_ok(), "{outcome:?}");
        drop(go_on);
    }

    /// A disk that hangs for an hour meanwhile gets a try for each of the MTA's retries.
    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_delivered() {
        let root = tempfile::tempdir().unwrap();
        let maildir = maildir(root.path());
        let late = delivery(Duration::ZERO);
        let outcome = maildir.deliver(&late).await.remove(0);
        assert_eq!(outcome.unwrap_err().reply.code, 451);
        let mut soon = LocalCopy::new(
            &maildir.settings,
            &Arc::new(delivery(Duration::from_secs(20))),
            0,
        )
        .0;
        assert!(soon.write().is_some());
        Arc::get_mut(&mut soon.delivery).unwrap().deadline = Some(Instant::now());
        assert!(soon.name(Ok(())).is_none());
        let left = |name: &str| root.path().join(name).read_dir().unwrap().count();
        assert_eq!((left("tmp"), left("new")), (0, 0));
    }

    #[tokio::test]
    async fn octets_that_are_not_synced_get_no_name() {
        let root = tempfile::tempdir().unwrap();
        let settings = maildir(root.path()).settings;
        let delivery = Arc::new(delivery(Duration::from_secs(20)));
        let (mut copy, outcome) = LocalCopy::new(&settings, &delivery, 0);
        assert!(copy.write().is_some());
        assert!(copy.name(Err(Errno::NOSPC)).is_none());
        let error = outcome.await.unwrap().unwrap_err();
        assert_eq!((error.reply.code, error.ambiguous), (452, false));
        let (mut copy, outcome) = LocalCopy::new(&settings, &delivery, 0);
        assert!(copy.write().is_some() && copy.name(Ok(())).is_some());
        copy.end(Err(Errno::IO));
        let error = outcome.await.unwrap().unwrap_err();
        assert_eq!((error.reply.code, error.ambiguous), (451, true));
        let left = |name: &str| root.path().join(name).read_dir().unwrap().count();
        assert_eq!((left("tmp"), left("new")), (0, 1));
    }

    #[tokio::test]
    async fn a_mail_that_is_not_in_memory_is_written_the_same() {
        let raws = [
            "A: b\r\nReturn-Path: <x>\r\n\r\n.line\r\nand\r\n\r\nmore\r\n",
            " lead\r\nA: b\r\n\r\nline\r\nwithout an end, long enough for two pieces",
            "\r\n\r\nA: b\r\n\r\nline\r\n",
        ];
        for raw in raws {
            let message = crate::mail::Message::parse(raw.as_bytes(), &Default::default());
            let mut written = Vec::new();
            for octets in [
                raw.to_owned().into(),
                octets::tests::stored(raw.as_bytes(), 0),
            ] {
                let root = tempfile::tempdir().unwrap();
                let mut delivery = delivery(Duration::from_secs(60));
                let head = b"Received: here\r\n".to_vec();
                delivery.content = Content::new(head, octets, message.body_start);
                assert_eq!(delivery.content.size(), 16 + raw.len() as u64 + stray(raw));
                let outcome = maildir(root.path()).deliver(&delivery).await.remove(0);
                written.push(std::fs::read_to_string(outcome.unwrap().place).unwrap());
            }
            assert_eq!(written[0], written[1]);
            assert!(written[0].ends_with(&raw.replace("\r\n", "\n")[raw.len() / 2..]));
        }
    }

    /// Octets of the field before a mail that begins with white space.
    fn stray(raw: &str) -> u64 {
        edit::divider([raw.as_bytes()]).len() as u64
    }

    proptest! {
        #[test]
        fn a_part_of_a_path_stays_one(text in any::<String>()) {
            let name = encode(&text);
            prop_assert!(!name.starts_with('.') && !name.contains(['/', '\0']));
            prop_assert!(name.is_ascii());
        }
    }
}
