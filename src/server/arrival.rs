//! The octets of one mail while it comes in: few of them in memory, many in a file without a name.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::budget::{Booking, Budget};
use crate::mail::buffer;

/// Octets of a mail that are kept in memory while more come.
const IN_MEMORY: u64 = 256 * 1024;
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
    len: u64,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Memory(Vec<u8>, Booking),
    File(File),
}

/// A whole mail with the memory that is booked for it.
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
            room: room.clone(),
            len: 0,
            kept: Kept::Memory(Vec::new(), room.budget.arriving()),
        }
    }

    /// Takes the next octets.
    ///
    /// # Errors
    /// There is no room for a mail of this size, on the disk or ever.
    pub(super) async fn keep(&mut self, octets: Vec<u8>) -> io::Result<()> {
        if octets.is_empty() {
            return Ok(());
        }
        self.len += octets.len() as u64;
        if !self.room.budget.fits(self.len) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let nothing = Kept::Memory(Vec::new(), self.room.budget.arriving());
        self.kept = match mem::replace(&mut self.kept, nothing) {
            Kept::Memory(mut held, mut booking) => {
                let stays = self.len <= IN_MEMORY && booking.extend(self.len);
                if held.is_empty() {
                    held = octets;
                } else {
                    held.extend_from_slice(&octets);
                }
                if stays {
                    Kept::Memory(held, booking)
                } else {
                    Kept::File(self.write(None, held).await?)
                }
            }
            Kept::File(file) => Kept::File(self.write(Some(file), octets).await?),
        };
        Ok(())
    }

    /// The whole mail, `rest` being its end. Its memory stays booked until the last clone goes.
    ///
    /// # Errors
    /// There is no room, or the file cannot be read.
    pub(super) async fn whole(mut self, rest: Vec<u8>) -> io::Result<Bytes> {
        self.keep(rest).await?;
        let whole = match self.kept {
            Kept::Memory(octets, _booking) => Whole { octets, _booking },
            Kept::File(file) => {
                let booking = self.room.budget.whole(self.len, PATIENCE).await;
                let _booking = booking.ok_or(io::ErrorKind::OutOfMemory)?;
                let len = usize::try_from(self.len).map_err(io::Error::other)?;
                let read = spawn_blocking(move || {
                    let mut octets = buffer(len);
                    octets.resize(len, 0);
                    file.read_exact_at(&mut octets, 0).map(|()| octets)
                });
                let octets = read.await??;
                Whole { octets, _booking }
            }
        };
        Ok(Bytes::from_owner(whole))
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

    async fn arrive(room: &Room, pieces: &[&[u8]]) -> (bool, io::Result<Bytes>) {
        let mut arrival = Arrival::new(room);
        let (last, first) = pieces.split_last().unwrap();
        for piece in first {
            if let Err(error) = arrival.keep(piece.to_vec()).await {
                return (false, Err(error));
            }
        }
        let in_file = matches!(arrival.kept, Kept::File(_));
        (in_file, arrival.whole(last.to_vec()).await)
    }

    #[tokio::test]
    async fn a_mail_is_the_same_from_memory_and_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let large = vec![b'x'; 200 * 1024];
        let rows: &[(u64, &[&[u8]], bool)] = &[
            (1 << 20, &[b""], false),
            (1 << 20, &[b"a", b"b", b""], false),
            (1 << 10, &[b"a", b"b"], true),
            (8 << 20, &[&large, b"b"], false),
            (8 << 20, &[&large, &large, b"c", b""], true),
        ];
        for (memory, pieces, spilled) in rows {
            let room = Room::new(*memory, folder.path().to_owned());
            let (in_file, raw) = arrive(&room, pieces).await;
            assert_eq!(raw.unwrap(), pieces.concat());
            assert_eq!(in_file, *spilled, "{memory} octets of memory");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[tokio::test]
    async fn what_never_fits_is_refused_before_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(1024, folder.path().to_owned());
        let mut arrival = Arrival::new(&room);
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
