//! The octets of one mail while it comes in: few of them in memory, many in a file without a name.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::budget::{Booking, Budget};
use crate::mail::{Fetching, Octets, Stored, buffer};

/// Octets of a mail that are kept in memory while more come, as long as there is room.
const IN_MEMORY: u64 = 4 << 20;
/// Octets that are written to a file at once, where there is room to wait for so many.
const BLOCK: u64 = 256 * 1024;
/// Octets of a mail in a file that are in memory too: nearly every header block is smaller. A mail
/// with a larger one is read into memory as a whole.
const BEGINNING: u64 = 256 * 1024;
/// What the files leave free on their disk: no more than `MAIL` asks for, or a small disk that takes
/// small mail would never take large mail.
const RESERVE: u64 = 32 << 20;
/// Files that are written at once: a thread for each.
const WRITERS: usize = 16;
/// How long a mail waits for memory; far below the clients' own time limits (RFC 5321 4.5.3.2).
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the mail of all connections is kept.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) budget: Budget,
    folder: Arc<Path>,
    writers: Arc<Semaphore>,
}

impl Room {
    /// `memory` octets, and files in `folder`.
    pub(super) fn new(memory: u64, folder: PathBuf) -> Self {
        Self {
            budget: Budget::new(memory),
            folder: folder.into(),
            writers: Arc::new(Semaphore::new(WRITERS)),
        }
    }
}

/// One mail. Dropping it gives memory and disk back.
#[derive(Debug)]
pub(super) struct Arrival {
    room: Room,
    /// Where its first octets are, once they are more than may stay in memory.
    file: Option<File>,
    /// How many they are.
    written: u64,
    /// For those that are in memory.
    booking: Booking,
}

/// A mail in its file, and what is booked for its beginning in memory.
#[derive(Debug)]
struct Spooled {
    file: Arc<File>,
    size: u64,
    budget: Budget,
    _booking: Booking,
}

impl Spooled {
    async fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.file.clone();
        let read = spawn_blocking(move || {
            let mut octets = buffer(length);
            octets.resize(length, 0);
            file.read_exact_at(&mut octets, at).map(|()| octets)
        });
        read.await?
    }
}

impl Stored for Spooled {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, room: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(room, at)
    }

    fn fetch(&self, at: u64, length: usize) -> Fetching<'_> {
        Box::pin(async move { self.read(at, length).await.map(Bytes::from) })
    }

    fn whole(&self) -> Fetching<'_> {
        Box::pin(async {
            let booking = self.budget.whole(self.size, PATIENCE).await;
            let _booking = booking.ok_or(io::ErrorKind::OutOfMemory)?;
            let length = usize::try_from(self.size).map_err(io::Error::other)?;
            let octets = self.read(0, length).await?;
            Ok(Bytes::from_owner(Whole { octets, _booking }))
        })
    }
}

/// Octets with the memory that is booked for them.
struct Whole {
    octets: Vec<u8>,
    _booking: Booking,
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl Arrival {
    /// A mail of which nothing has come.
    pub(super) fn new(room: &Room) -> Self {
        Self {
            booking: room.budget.arriving(),
            room: room.clone(),
            file: None,
            written: 0,
        }
    }

    /// Whether this many octets, all that have come and were not [kept](Self::keep), may stay where
    /// they are: they are booked then.
    pub(super) fn may_stay(&mut self, octets: usize) -> bool {
        let most = match self.file {
            None => IN_MEMORY,
            Some(_) => BLOCK - 1,
        };
        octets as u64 <= most && self.booking.extend(octets as u64)
    }

    /// Writes the next octets to the file.
    ///
    /// # Errors
    /// There is no room for a mail of this size, on the disk or ever.
    pub(super) async fn keep(&mut self, octets: Vec<u8>) -> io::Result<()> {
        if octets.is_empty() {
            return Ok(());
        }
        self.written += octets.len() as u64;
        if !self.room.budget.fits(self.written) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let file = self.file.take();
        self.file = Some(self.write(file, octets).await?);
        self.booking = self.room.budget.arriving();
        Ok(())
    }

    /// The whole mail, `rest` being its end: in memory, or in its file but for its beginning. What is
    /// in memory stays booked until the last clone goes.
    ///
    /// # Errors
    /// There is no room, or the file cannot be read.
    pub(super) async fn whole(mut self, rest: Vec<u8>) -> io::Result<Octets> {
        if self.file.is_none() && self.may_stay(rest.len()) {
            return Ok(Octets::from(Bytes::from_owner(Whole {
                octets: rest,
                _booking: self.booking,
            })));
        }
        self.keep(rest).await?;
        let Some(file) = self.file else {
            return Ok(Octets::from(Bytes::new()));
        };
        let beginning = self.written.min(BEGINNING);
        let booking = self.room.budget.beginning(beginning, PATIENCE).await;
        let spooled = Arc::new(Spooled {
            file: Arc::new(file),
            size: self.written,
            budget: self.room.budget,
            _booking: booking.ok_or(io::ErrorKind::OutOfMemory)?,
        });
        let length = usize::try_from(beginning).map_err(io::Error::other)?;
        let head = spooled.read(0, length).await?;
        match Octets::stored(head.into(), spooled.clone()) {
            Some(octets) => Ok(octets),
            None => spooled.whole().await.map(Octets::from),
        }
    }

    async fn write(&self, file: Option<File>, octets: Vec<u8>) -> io::Result<File> {
        let writers = self.room.writers.clone();
        let turn = writers.acquire_owned().await.map_err(io::Error::other)?;
        let folder = self.room.folder.clone();
        let written = spawn_blocking(move || {
            let _turn = turn;
            let mut file = match file {
                Some(file) => file,
                None => tempfile::tempfile_in(folder)?,
            };
            let disk = rustix::fs::fstatvfs(&file)?;
            if disk.f_bavail.saturating_mul(disk.f_frsize) < RESERVE {
                return Err(io::ErrorKind::StorageFull.into());
            }
            file.write_all(&octets).map(|()| file)
        });
        written.await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn arrive(room: &Room, pieces: &[&[u8]]) -> (bool, io::Result<Octets>) {
        let mut arrival = Arrival::new(room);
        let mut held = Vec::new();
        let (last, first) = pieces.split_last().unwrap();
        for piece in first {
            held.extend_from_slice(piece);
            if !arrival.may_stay(held.len())
                && let Err(error) = arrival.keep(std::mem::take(&mut held)).await
            {
                return (false, Err(error));
            }
        }
        held.extend_from_slice(last);
        let in_file = arrival.file.is_some();
        (in_file, arrival.whole(held).await)
    }

    #[tokio::test]
    async fn a_mail_is_the_same_from_memory_and_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let some = vec![b'x'; 200 * 1024];
        let large = vec![b'y'; 4 << 20];
        let rows: &[(u64, &[&[u8]], bool)] = &[
            (1 << 20, &[b""], false),
            (1 << 20, &[b"a", b"b", b""], false),
            (1 << 10, &[b"a", b"b"], true),
            (8 << 20, &[&some, b"b"], false),
            (8 << 20, &[&some, &some, b"c", b""], false),
            (1 << 20, &[&some, &some, b"c", b""], true),
            (64 << 20, &[&large, b""], false),
            (64 << 20, &[&large, b"a", b""], true),
            (64 << 20, &[&large, b"a", &some, b"b", &some, b"c"], true),
            (8 << 20, &[&large, &large], true),
        ];
        for (memory, pieces, spilled) in rows {
            let room = Room::new(*memory, folder.path().to_owned());
            let (in_file, raw) = arrive(&room, pieces).await;
            let raw = raw.unwrap();
            assert_eq!(raw.whole().await.unwrap(), pieces.concat());
            assert_eq!(in_file, *spilled, "{memory} octets of memory");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[tokio::test]
    async fn what_never_fits_is_refused_before_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(1024, folder.path().to_owned());
        let mut arrival = Arrival::new(&room);
        assert!(!arrival.may_stay(1024));
        arrival.keep(vec![b'x'; 1024]).await.unwrap();
        let error = arrival.keep(vec![b'x']).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        let gone = Room::new(1024, folder.path().join("gone"));
        assert!(arrive(&gone, &[&[b'x'; 1024], b""]).await.1.is_err());
    }

    /// The work may outlive its time limit: what it still reads is not given to another mail.
    #[tokio::test]
    async fn memory_is_booked_as_long_as_somebody_reads_the_mail() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(1 << 20, folder.path().to_owned());
        let (_, raw) = arrive(&room, &[&vec![b'x'; 900 << 10], b""]).await;
        let copy = raw.unwrap().clone();
        let at_once = Duration::ZERO;
        assert!(room.budget.whole(1, at_once).await.is_none());
        drop(copy);
        assert!(room.budget.whole(1, at_once).await.is_some());
    }
}
