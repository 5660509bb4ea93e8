//! A mail file on its way to the disk: written in `tmp`, linked where each of its entries belongs, file
//! and folders synced at once. Its name may outlive a power cut that its octets did not, so a name alone
//! promises nothing: the index names what is synced, and a rebuild verifies a file to its end and syncs it
//! before it takes it over.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::StoreError;
use super::mailfile::trailer;
use crate::durable::{NewFile, Synced, still_writable};
use crate::failpoint::{Point, reach};
use crate::mail::Octets;

/// How it ended; the other end of [`Draft::told`].
pub(super) type Ended = oneshot::Receiver<Result<(), StoreError>>;

/// A mail file that is to be written.
pub(crate) struct Draft {
    tmp: PathBuf,
    /// All up to the body.
    start: Vec<u8>,
    pieces: Vec<Octets>,
    /// Its names, one for each entry.
    links: Vec<PathBuf>,
    /// How many of them it has.
    made: usize,
    file: Option<File>,
    folders: Vec<File>,
    /// Lives as long as this may be being written.
    pub(super) under_way: Option<Arc<dyn Any + Send + Sync>>,
    told: Option<oneshot::Sender<Result<(), StoreError>>>,
}

impl Draft {
    pub(super) fn new(
        tmp: PathBuf,
        start: Vec<u8>,
        pieces: Vec<Octets>,
        links: Vec<PathBuf>,
    ) -> Self {
        Self {
            tmp,
            start,
            pieces,
            links,
            made: 0,
            file: None,
            folders: Vec::new(),
            under_way: None,
            told: None,
        }
    }

    /// Octets of its body.
    pub(super) fn octets(&self) -> u64 {
        self.pieces.iter().map(Octets::size).sum()
    }

    /// Where its end will be told.
    pub(super) fn ended(&mut self) -> Ended {
        let (told, ended) = oneshot::channel();
        self.told = Some(told);
        ended
    }

    fn write_all(&self) -> io::Result<File> {
        // A crash may have left one: a release is tried again under the same id.
        let _ = fs::remove_file(&self.tmp);
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&self.tmp)?;
        file.write_all(&self.start)?;
        let mut hasher = blake3::Hasher::new();
        for piece in &self.pieces {
            piece.each(0, |octets| {
                hasher.update(octets);
                file.write_all(octets)
            })?;
        }
        file.write_all(&trailer(&hasher))?;
        Ok(file)
    }

    fn link_all(&mut self) -> Result<(), StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::io(&path, error)
        };
        // A descriptor tells of the errors since it was opened.
        let folders: BTreeSet<_> = self.links.iter().filter_map(|link| link.parent()).collect();
        for folder in folders {
            let folder = File::open(folder).map_err(failed(folder))?;
            self.folders.push(folder);
        }
        for link in &self.links {
            fs::hard_link(&self.tmp, link).map_err(failed(link))?;
            self.made += 1;
        }
        Ok(())
    }

    fn write_and_link(&mut self) -> Result<(), StoreError> {
        self.file = Some(self.write_all().map_err(|error| self.failed(error))?);
        self.link_all()?;
        reach(Point::MailFileLinked);
        Ok(())
    }

    /// It has its links, or is of no use. Its name in `tmp` goes ([`still_writable`]).
    fn over(&mut self, result: Result<(), StoreError>) {
        let removed = rustix::fs::unlink(&self.tmp);
        let result = result.and_then(|()| match self.folders.first() {
            Some(folder) => still_writable(removed, folder).map_err(|error| self.failed(error)),
            None => Ok(()),
        });
        if result.is_err() {
            for link in self.links.iter().take(self.made) {
                let _ = fs::remove_file(link);
            }
        }
        if let Some(told) = self.told.take() {
            // Perhaps nobody waits any more.
            let _ = told.send(result);
        }
    }

    fn failed(&self, error: impl Into<io::Error>) -> StoreError {
        StoreError::io(&self.tmp, error.into())
    }
}

impl NewFile for Draft {
    fn is_wanted(&self) -> bool {
        self.told.as_ref().is_some_and(|told| !told.is_closed())
    }

    fn write(&mut self) -> Option<Vec<BorrowedFd<'_>>> {
        if let Err(error) = self.write_and_link() {
            self.over(Err(error));
            return None;
        }
        let files = self.file.iter().chain(&self.folders);
        Some(files.map(File::as_fd).collect())
    }

    /// It has its names, and they are synced.
    fn name(&mut self, all: Synced) -> Option<Vec<BorrowedFd<'_>>> {
        self.end(all);
        None
    }

    fn end(&mut self, all: Synced) {
        let all = all.map_err(|error| self.failed(error));
        if all.is_ok() {
            reach(Point::MailFileSynced);
        }
        self.over(all);
    }
}
