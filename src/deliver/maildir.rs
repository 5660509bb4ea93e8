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
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

use super::lf::LfWriter;
use super::{Accepted, DeliverError, Delivery, Outcome, Recipient};
use crate::failpoint::{Point, reach};
use crate::mail::{Address, edit};
use crate::smtp::Reply;

/// Files written at once: enough to share the file system's journal commits, far below the
/// runtime's blocking threads.
const WRITERS: usize = 32;
const CHUNK: usize = 128 * 1024;
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
    writers: Arc<Semaphore>,
}

impl Maildir {
    /// A writer; touches nothing yet.
    pub fn new(settings: MaildirSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            writers: Arc::new(Semaphore::new(WRITERS)),
        }
    }

    /// The folder of a mailbox, whether it exists or not.
    pub fn folder(&self, mailbox: &Address) -> PathBuf {
        let (base, below) = split_template(&self.settings.path);
        below
            .iter()
            .fold(base, |folder, part| folder.join(fill(part, mailbox)))
    }

    /// Delivers to each recipient's Maildir on the blocking threads.
    ///
    /// A full disk or quota is `452 4.3.1`, every other trouble `451 4.3.0`.
    pub async fn deliver(&self, delivery: &Delivery) -> Vec<Outcome> {
        let shared = Arc::new(delivery.clone());
        let mut started = Vec::with_capacity(delivery.recipients.len());
        for index in 0..delivery.recipients.len() {
            started.push(self.start(&shared, index).await);
        }
        let mut outcomes = Vec::with_capacity(started.len());
        for one in started {
            outcomes.push(match one {
                Ok(writing) => in_its_time(delivery.deadline, writing).await,
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    /// Begins to write for one recipient once there is a writer free for it. The work goes on to its
    /// end, and keeps its writer so long, where nobody waits for it any more.
    async fn start(
        &self,
        delivery: &Arc<Delivery>,
        index: usize,
    ) -> Result<JoinHandle<Outcome>, DeliverError> {
        let permit = self.writers.clone().acquire_owned();
        let permit = match delivery.deadline {
            None => permit.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), permit)
                .await
                .map_err(|_| too_late())?,
        }
        .map_err(|error| failed(&error))?;
        let (settings, delivery) = (Arc::clone(&self.settings), Arc::clone(delivery));
        Ok(tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let Some(recipient) = delivery.recipients.get(index) else {
                return Err(failed(&"no such recipient"));
            };
            in_time(&delivery)?;
            let folder = Folder::open(&settings, &recipient.mailbox)
                .map_err(|error| storage(&error, "opening the Maildir"))?;
            folder.deliver(&delivery, recipient)
        }))
    }
}

async fn in_its_time(deadline: Option<Instant>, writing: JoinHandle<Outcome>) -> Outcome {
    let joined = match deadline {
        None => writing.await,
        Some(deadline) => tokio::time::timeout_at(deadline.into(), writing)
            .await
            .map_err(|_| too_late())?,
    };
    joined.unwrap_or_else(|error| Err(broken_off(&error)))
}

/// One open Maildir.
struct Folder {
    path: PathBuf,
    tmp: OwnedFd,
    new: OwnedFd,
    cur: OwnedFd,
    fsync: bool,
}

impl Folder {
    fn open(settings: &MaildirSettings, mailbox: &Address) -> io::Result<Self> {
        let (base, below) = split_template(&settings.path);
        std::fs::create_dir_all(&base)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let mut fd = rustix::fs::open(&base, flags, Mode::empty())?;
        let mut path = base;
        for part in &below {
            let name = fill(part, mailbox);
            fd = enter(&fd, &name, settings.fsync)?;
            path.push(name);
        }
        Ok(Self {
            tmp: enter(&fd, "tmp", settings.fsync)?,
            new: enter(&fd, "new", settings.fsync)?,
            cur: enter(&fd, "cur", settings.fsync)?,
            path,
            fsync: settings.fsync,
        })
    }

    fn deliver(&self, delivery: &Delivery, recipient: &Recipient) -> Outcome {
        let key = recipient.key.as_str();
        if !(1..=128).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(failed(&"the hand-off's key is not a file name"));
        }
        let folders = [("new", &self.new), ("cur", &self.cur)];
        for (folder, fd) in folders.into_iter().filter(|_| recipient.maybe_there) {
            let found = find(fd, key).map_err(|error| storage(&error, "searching the Maildir"))?;
            if let Some(name) = found {
                self.sync(fd)?;
                return Ok(self.accepted(folder, &name, true));
            }
        }
        let tmp = temporary_name(key);
        let trouble = |error| storage(&error, "writing to the Maildir");
        let written = self.write(&tmp, delivery, recipient).map_err(trouble);
        let linked = written.and_then(|()| {
            reach(Point::MaildirWritten);
            in_time(delivery)?;
            let name = format!("{}.{key}.{SUFFIX}", unix_seconds());
            rustix::fs::linkat(&self.tmp, &tmp, &self.new, &name, AtFlags::empty())
                .map_err(|error| trouble(error.into()))?;
            Ok(name)
        });
        let removed = rustix::fs::unlinkat(&self.tmp, &tmp, AtFlags::empty());
        let name = linked?;
        reach(Point::MaildirLinked);
        self.sync(&self.new)?;
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), %error, "a file is left in the Maildir's tmp");
        }
        Ok(self.accepted("new", &name, false))
    }

    fn write(&self, tmp: &str, delivery: &Delivery, recipient: &Recipient) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat2(&self.tmp, tmp, flags, mode, confined())?;
        let mut file = File::from(fd);
        let octets = usize::try_from(delivery.content.size()).unwrap_or(CHUNK);
        let room = octets.saturating_add(CHUNK / 64).min(CHUNK);
        let mut lf = LfWriter::new(io::BufWriter::with_capacity(room, &mut file));
        lf.push(format!("Return-Path: <{}>\r\n", delivery.sender).as_bytes())?;
        lf.push(format!("Delivered-To: {}\r\n", recipient.address).as_bytes())?;
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
        content
            .message
            .each(content.rest(), |piece| lf.push(piece))?;
        lf.finish()?;
        if self.fsync {
            file.sync_all()?;
        }
        Ok(())
    }

    fn sync(&self, folder: &OwnedFd) -> Result<(), DeliverError> {
        if self.fsync {
            rustix::fs::fsync(folder)
                .map_err(|error| storage(&error.into(), "fsync of the Maildir"))
                .map_err(ambiguous)?;
        }
        Ok(())
    }

    fn accepted(&self, folder: &str, name: &str, repeated: bool) -> Accepted {
        Accepted {
            place: self.path.join(folder).join(name).display().to_string(),
            reply: None,
            repeated,
        }
    }
}

fn confined() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// Opens the folder `name` in `parent`, making it if it is missing.
fn enter(parent: &OwnedFd, name: &str, fsync: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let open = || rustix::fs::openat2(parent, name, flags, Mode::empty(), confined());
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

fn broken_off(error: &JoinError) -> DeliverError {
    ambiguous(failed(error))
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

    /// The file system hangs for longer than the deadline: whatever step it hangs in, the retry must
    /// not begin before that has ended, or both put a file there.
    #[test]
    fn a_write_that_outlives_its_deadline_is_still_under_way() {
        let root = tempfile::tempdir().unwrap();
        let maildir = maildir(root.path());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (go_on, hangs) = std::sync::mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || hangs.recv());
            let late = delivery(Duration::from_millis(1));
            let under_way = Arc::downgrade(late.under_way.as_ref().unwrap());
            let outcomes = maildir.deliver(&late).await;
            assert!(outcomes[0].as_ref().is_err_and(|error| error.ambiguous));
            drop(late);
            assert_eq!((under_way.strong_count(), written(root.path())), (1, 0));
            drop(go_on);
            while under_way.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(written(root.path()), 0);
        });
    }

    #[tokio::test]
    async fn what_gets_no_turn_before_its_deadline_is_never_written() {
        let root = tempfile::tempdir().unwrap();
        let maildir = maildir(root.path());
        let hanging = maildir.writers.acquire_many(WRITERS as u32).await.unwrap();
        let late = delivery(Duration::from_millis(1));
        assert!(maildir.deliver(&late).await[0].is_err());
        let under_way = Arc::downgrade(late.under_way.as_ref().unwrap());
        drop(late);
        let gone = async {
            while under_way.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, gone).await.unwrap();
        drop(hanging);
        assert_eq!(written(root.path()), 0);
    }

    /// A disk that hangs for an hour meanwhile gets a try for each of the MTA's retries.
    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_delivered() {
        let root = tempfile::tempdir().unwrap();
        let maildir = maildir(root.path());
        let late = delivery(Duration::ZERO);
        let outcome = maildir.deliver(&late).await.remove(0);
        assert_eq!(outcome.unwrap_err().reply.code, 451);
        let recipient = &late.recipients[0];
        let folder = Folder::open(&maildir.settings, &recipient.mailbox).unwrap();
        let outcome = folder.deliver(&late, recipient);
        assert_eq!(outcome.unwrap_err().reply.code, 451);
        let left = |name: &str| root.path().join(name).read_dir().unwrap().count();
        assert_eq!((left("tmp"), left("new")), (0, 0));
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
