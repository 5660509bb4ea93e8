//! Files that commands and the daemon change: one writer at a time, and a reader sees the old file
//! or the new one, also after a crash (temporary file, fsync, rename, fsync of the folder; CONTRACT
//! section 1). Mode and owner stay.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::EditError;

/// The lock of all files below a `mailboxes.dir`. It is never renamed, and never removed.
const LOCK: &str = ".sekimori.lock";
/// The new file before its rename: one name, so that an interrupted edit leaves one at most.
const NEW: &str = ".sekimori.new";
/// Edits take milliseconds; a longer wait means that somebody sleeps on the lock.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
/// Of a file that is made: the folder's group may read it.
const MODE: u32 = 0o640;

/// Held from reading to writing; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "closing it gives the lock back")] File);

impl Lock {
    /// Waits for the lock of the mailboxes below `dir`, which is made if it is not there.
    pub(super) fn take(dir: &Path) -> Result<Self, EditError> {
        make_folder(dir).map_err(io_error(dir))?;
        let path = dir.join(LOCK);
        let file = open_lock(dir, &path).map_err(io_error(&path))?;
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LONGEST_WAIT => {
                    std::thread::sleep(POLL);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let file = path.display().to_string();
                    return Err(EditError::Busy(file));
                }
                Err(error) => return Err(io_error(&path)(error.into())),
            }
        }
    }
}

fn open_lock(dir: &Path, path: &Path) -> io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return opened,
    }
    let made = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path);
    let file = match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return File::open(path),
        made => made?,
    };
    // Whoever may work in the folder may take the lock, whoever made it.
    let folder = fs::metadata(dir)?;
    let _ = file.set_permissions(Permissions::from_mode(folder.mode() & 0o666));
    give(&file, &folder);
    Ok(file)
}

/// Gives a new file to the owner of its folder, as far as this user may.
fn give(file: &File, folder: &fs::Metadata) {
    let (user, group) = (Some(folder.uid()), Some(folder.gid()));
    if std::os::unix::fs::fchown(file, user, group).is_err() {
        let _ = std::os::unix::fs::fchown(file, None, group);
    }
}

/// The file itself where `path` is, or leads through, a link. It must lie below `dir`: whoever may
/// put a link there must not have another file replaced.
pub(super) fn resolved(dir: &Path, path: &Path) -> Result<PathBuf, EditError> {
    let root = match fs::canonicalize(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(path.to_owned()),
        root => root.map_err(io_error(dir))?,
    };
    let is_link = fs::symlink_metadata(path).is_ok();
    let found = if is_link {
        fs::canonicalize(path).map_err(io_error(path))?
    } else {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(path.to_owned());
        };
        match fs::canonicalize(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(path.to_owned()),
            folder => folder.map_err(io_error(path))?.join(name),
        }
    };
    if !found.starts_with(&root) {
        return Err(EditError::Outside {
            file: path.display().to_string(),
            target: found.display().to_string(),
        });
    }
    Ok(found)
}

/// Reads the whole file; `None` when there is none.
pub(super) fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, EditError> {
    match crate::config::patterns::read_text(path, most) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(io_error(path)(error)),
    }
}

/// Replaces the file, or makes it and its folder. To be called with the lock held.
pub(super) fn write(path: &Path, text: &[u8]) -> Result<(), EditError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder).map_err(io_error(folder))?;
    let beside = folder.join(NEW);
    let done = write_beside(path, folder, &beside, text);
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    done
}

fn write_beside(path: &Path, folder: &Path, beside: &Path, text: &[u8]) -> Result<(), EditError> {
    let io = io_error(path);
    match fs::remove_file(beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(beside)
        .map_err(&io)?;
    match fs::metadata(path) {
        Ok(old) => like(&file, &old, path)?,
        Err(_) => give(&file, &fs::metadata(folder).map_err(&io)?),
    }
    let written = file.write_all(text).and_then(|()| file.sync_all());
    written.map_err(&io)?;
    fs::rename(beside, path).map_err(&io)?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(&io)
}

/// Gives the new file the owner and mode of the old one.
fn like(file: &File, old: &fs::Metadata, path: &Path) -> Result<(), EditError> {
    let new = file.metadata().map_err(io_error(path))?;
    let owner = (old.uid(), old.gid());
    let same = (new.uid(), new.gid()) == owner;
    if !same && std::os::unix::fs::fchown(file, Some(owner.0), Some(owner.1)).is_err() {
        return Err(EditError::Owner(path.display().to_string()));
    }
    let mode = Permissions::from_mode(old.mode() & 0o7777);
    file.set_permissions(mode).map_err(io_error(path))
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let above = folder
        .parent()
        .filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    let (made, above) = (File::open(folder)?, File::open(above)?);
    give(&made, &above.metadata()?);
    above.sync_all()
}

pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> EditError {
    let file = path.display().to_string();
    move |source| EditError::Io {
        file: file.clone(),
        source,
    }
}
