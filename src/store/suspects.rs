//! Mail that ends the process, or panics, whenever it is read (RELIABILITY D19): without this the
//! MTA's retries would bring it back for ever.
//!
//! While a mail is read, its digest stands in a slot of the small file `reading`: one `pwrite`, no
//! sync, since the page cache outlives a process and power cuts are not what a mail causes. A start
//! that finds a digest there counts it, as a panic does at once; the counts are in `suspects`,
//! durably. A slot is taken for milliseconds, so that a kill at a random moment hardly ever counts
//! against an innocent mail, and never three times.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::committer::HANDOFF_LIFE;
use super::mailfile::sync_folder;
use super::{MailDigest, Store};

/// Mails read at once; more than the runtime has threads for it. One beyond goes unmarked.
const SLOTS: u16 = 1024;
/// Octets of a digest, which is a slot; all zero is a free one.
const SLOT: usize = 32;
/// Crashes or panics after which a mail is not read any more.
const ENOUGH: u32 = 3;
/// Mails that are counted; of more the oldest is forgotten.
const MAX_SUSPECTS: usize = 256;

/// How often a mail ended badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Suspect {
    /// Its digest, hexadecimal.
    digest: String,
    count: u32,
    /// The last time, unix milliseconds.
    at: i64,
}

/// The mails that are being read, and those that ended badly.
#[derive(Debug)]
pub(crate) struct Suspects {
    /// `None` where it cannot be made (a full disk): then only panics are counted.
    reading: Option<File>,
    free: Mutex<Vec<u16>>,
    counted: Mutex<Vec<Suspect>>,
    path: PathBuf,
}

impl Suspects {
    /// Counts what the last run left. What cannot be read or written is logged, and mail goes on.
    pub(crate) fn open(root: &Path, now: i64) -> Self {
        let (reading, path) = (root.join("reading"), root.join("suspects"));
        let counted = read_counts(&path);
        let mut suspects = Self {
            reading: None,
            free: Mutex::new((0..SLOTS).rev().collect()),
            counted: Mutex::new(counted),
            path,
        };
        let mut left = read_slots(&reading);
        left.sort_unstable();
        left.dedup();
        for digest in &left {
            suspects.count(digest, now);
        }
        suspects.reading = clear_slots(&reading)
            .inspect_err(|error| tracing::warn!(%error, "no marks for mail that is being read"))
            .ok();
        suspects
    }

    fn is_poison(&self, digest: &MailDigest, now: i64) -> bool {
        let counted = self.counted();
        if counted.is_empty() {
            return false;
        }
        let digest = hex(digest.as_bytes());
        let mut known = counted.iter();
        known.any(|one| one.digest == digest && one.count >= ENOUGH && !is_over(one, now))
    }

    /// One more time that it ended badly; durable when it returns.
    fn count(&self, digest: &[u8; SLOT], now: i64) {
        let digest = hex(digest);
        let mut counted = self.counted();
        counted.retain(|one| !is_over(one, now));
        let before = counted.iter().position(|one| one.digest == digest);
        let count = before.map_or(0, |at| counted.remove(at).count) + 1;
        tracing::error!(digest, count, "reading this mail crashed");
        if counted.len() >= MAX_SUSPECTS {
            counted.remove(0);
        }
        counted.push(Suspect {
            digest,
            count,
            at: now,
        });
        if let Err(error) = write_counts(&self.path, &counted) {
            tracing::warn!(%error, "{} is not up to date", self.path.display());
        }
    }

    fn set(&self, slot: u16, digest: &[u8; SLOT]) {
        let at = u64::from(slot) * SLOT as u64;
        if let Some(Err(error)) = self
            .reading
            .as_ref()
            .map(|file| file.write_all_at(digest, at))
        {
            tracing::warn!(%error, "a mail is read without a mark");
        }
    }

    fn counted(&self) -> MutexGuard<'_, Vec<Suspect>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self) -> MutexGuard<'_, Vec<u16>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mail is being read. Dropped in a panic, it counts against the mail.
#[derive(Debug)]
pub struct Reading<'a> {
    suspects: &'a Suspects,
    digest: [u8; SLOT],
    slot: Option<u16>,
    now: i64,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.suspects.set(slot, &[0; SLOT]);
            self.suspects.free().push(slot);
        }
        if std::thread::panicking() {
            self.suspects.count(&self.digest, self.now);
        }
    }
}

impl Store {
    /// To be held by a thread, shortly, around whatever looks into a mail: if that ends the process
    /// or panics, it counts against the mail. `now` is unix milliseconds.
    pub fn reading(&self, digest: &MailDigest, now: i64) -> Reading<'_> {
        let suspects = &self.0.suspects;
        let (digest, slot) = (*digest.as_bytes(), suspects.free().pop());
        if let Some(slot) = slot {
            suspects.set(slot, &digest);
        }
        Reading {
            suspects,
            digest,
            slot,
            now,
        }
    }

    /// The mail ended the process or panicked three times, the last time within six days: it must
    /// not be read again.
    pub fn is_poison(&self, digest: &MailDigest, now: i64) -> bool {
        self.0.suspects.is_poison(digest, now)
    }
}

/// As long as the MTA may bring it again.
fn is_over(suspect: &Suspect, now: i64) -> bool {
    suspect.at.saturating_add(HANDOFF_LIFE) <= now
}

fn hex(digest: &[u8; SLOT]) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}

fn read_counts(path: &Path) -> Vec<Suspect> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        text => text,
    };
    let counted = text.and_then(|text| Ok(serde_json::from_slice(&text)?));
    counted.unwrap_or_else(|error| {
        tracing::warn!(%error, "{} cannot be read and begins anew", path.display());
        Vec::new()
    })
}

fn write_counts(path: &Path, counted: &[Suspect]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = private().create(true).truncate(true).open(&beside)?;
    file.write_all(&serde_json::to_vec(counted)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent()
        .map_or(Ok(()), sync_folder)
        .map_err(io::Error::other)
}

/// The digests that were being read when the process ended.
fn read_slots(path: &Path) -> Vec<[u8; SLOT]> {
    let octets = fs::read(path).unwrap_or_default();
    let slots = octets.chunks_exact(SLOT).take(usize::from(SLOTS));
    slots
        .filter_map(|slot| <[u8; SLOT]>::try_from(slot).ok())
        .filter(|slot| *slot != [0; SLOT])
        .collect()
}

/// All slots free, and the space for them taken.
fn clear_slots(path: &Path) -> io::Result<File> {
    let file = private().create(true).truncate(false).open(path)?;
    file.write_all_at(&vec![0; usize::from(SLOTS) * SLOT], 0)?;
    Ok(file)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600_000;

    fn read(suspects: &Suspects, mail: &str) -> MailDigest {
        let digest = MailDigest::of(mail.as_bytes());
        let slot = suspects.free().pop().unwrap();
        suspects.set(slot, digest.as_bytes());
        digest
    }

    #[test]
    fn what_a_crash_left_three_times_is_poison_for_six_days() {
        let root = tempfile::tempdir().unwrap();
        let mut digest = MailDigest::of(b"");
        for run in 0..3 {
            let suspects = Suspects::open(root.path(), run);
            assert!(!suspects.is_poison(&digest, run), "{run}");
            digest = read(&suspects, "mail");
            // Twice at once is one crash.
            read(&suspects, "mail");
        }
        let suspects = Suspects::open(root.path(), 3);
        assert!(suspects.is_poison(&digest, 3));
        assert!(!suspects.is_poison(&MailDigest::of(b"other"), 3));
        let again = Suspects::open(root.path(), DAY);
        assert!(again.is_poison(&digest, DAY), "a clean run changes nothing");
        assert!(again.is_poison(&digest, 2 + HANDOFF_LIFE));
        assert!(!again.is_poison(&digest, 3 + HANDOFF_LIFE));
    }

    #[test]
    fn the_counts_are_bounded_and_the_oldest_goes() {
        let root = tempfile::tempdir().unwrap();
        let suspects = Suspects::open(root.path(), 0);
        let digest = |n: usize| MailDigest::of(n.to_string().as_bytes());
        *suspects.counted() = (0..MAX_SUSPECTS)
            .map(|n| Suspect {
                digest: hex(digest(n).as_bytes()),
                count: ENOUGH,
                at: 1,
            })
            .collect();
        suspects.count(digest(1).as_bytes(), 2);
        assert!(suspects.is_poison(&digest(0), 2), "that was no new one");
        suspects.count(digest(MAX_SUSPECTS).as_bytes(), 2);
        assert!(!suspects.is_poison(&digest(0), 2));
        assert!(suspects.is_poison(&digest(1), 2) && suspects.is_poison(&digest(2), 2));
        assert_eq!(suspects.counted().len(), MAX_SUSPECTS);
    }

    #[test]
    fn damaged_files_begin_anew() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("suspects"), b"{").unwrap();
        fs::write(root.path().join("reading"), b"short").unwrap();
        let suspects = Suspects::open(root.path(), 0);
        assert!(suspects.counted().is_empty() && suspects.reading.is_some());
        let octets = fs::read(root.path().join("reading")).unwrap();
        assert_eq!(octets, vec![0; usize::from(SLOTS) * SLOT]);
    }
}
