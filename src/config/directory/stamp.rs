//! What tells that a file has changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file as it was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

/// A change within the clock's grain of a reading would leave the stamp as it was.
const GRAIN: Duration = Duration::from_millis(20);

impl Stamp {
    /// `None` when there is no such file.
    pub(super) fn of(path: &Path) -> std::io::Result<Option<Self>> {
        use std::io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
        match std::fs::metadata(path) {
            Ok(meta) => Ok(Some(Self {
                modified: (meta.mtime(), meta.mtime_nsec()),
                changed: (meta.ctime(), meta.ctime_nsec()),
                size: meta.size(),
                inode: meta.ino(),
            })),
            Err(e) if matches!(e.kind(), NotFound | NotADirectory | InvalidFilename) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The stamp of a file that was read after `begun`; `None` (never fresh) when it was changed so
    /// lately that the reading may have missed it.
    pub(super) fn settled(path: &Path, begun: SystemTime) -> Option<Self> {
        let stamp = Self::of(path).ok().flatten()?;
        let before = since_epoch(begun)?.saturating_sub(GRAIN);
        (stamp.changed < pair(before)?).then_some(stamp)
    }
}

fn since_epoch(time: SystemTime) -> Option<Duration> {
    time.duration_since(UNIX_EPOCH).ok()
}

fn pair(time: Duration) -> Option<(i64, i64)> {
    Some((
        i64::try_from(time.as_secs()).ok()?,
        i64::from(time.subsec_nanos()),
    ))
}
