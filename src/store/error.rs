//! The one error of the store, which knows what its caller must answer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the store could not do its work. Cheap to clone: one failed sync fails every waiting commit.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process holds `lock`; exit code 78.
    #[error("another process holds the store {}", .0.display())]
    Busy(PathBuf),
    /// The file system refuses us; exit code 77.
    #[error("no permission for {}", .0.display())]
    Permission(PathBuf),
    /// No space, no inode or no quota is left: `452 4.3.1`, exit code 74.
    #[error("no space left for {}", .0.display())]
    Full(PathBuf),
    /// Any other input or output error: `451 4.3.0`, exit code 74.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// What was read is not what was written: a checksum, a length or sled itself says so.
    #[error("damaged: {0}")]
    Damaged(String),
    /// A sync failed before, so nothing is known to be durable until a restart (never retried, D4).
    #[error("the store failed earlier and takes no writes until it is restarted")]
    Failed,
    /// The index is closed after a write error and will be opened again by the next commit.
    #[error("the index is closed for the moment")]
    Closed,
    /// A commit broke off after it had begun. A restart, or a retry, may find it done or undone: the
    /// files that it names must stay.
    #[error("{0}; what was to be recorded may be found or not")]
    InDoubt(Arc<Self>),
    /// No such entry.
    #[error("no such id: {0}")]
    NotFound(String),
    /// The entry is not in a state that allows this, such as a release of what is being released.
    #[error("{0}")]
    Conflict(String),
    /// A record that cannot be shortened to 4 KiB, or a mail file header over 4 MiB.
    #[error("too large: {0}")]
    TooLarge(String),
}

impl StoreError {
    /// A later try may succeed: the answer is `4xx`, the exit code 75 or 74.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Full(_) | Self::Io { .. } | Self::Failed | Self::Closed => true,
            Self::Permission(_) | Self::Damaged(_) | Self::InDoubt(_) => true,
            Self::NotFound(_) | Self::Conflict(_) | Self::TooLarge(_) => false,
        }
    }

    /// `ENOSPC` or `EDQUOT`: `452 4.3.1` instead of `451 4.3.0`.
    pub fn is_full(&self) -> bool {
        match self {
            Self::InDoubt(cause) => cause.is_full(),
            other => matches!(other, Self::Full(_)),
        }
    }

    /// Sorts a system error of `path` into its variant.
    pub fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full(path.to_owned())
            }
            io::ErrorKind::PermissionDenied => Self::Permission(path.to_owned()),
            _ => Self::Io {
                path: path.to_owned(),
                source: Arc::new(source),
            },
        }
    }

    /// Sorts an error of sled, whose files lie in `path`.
    pub(crate) fn index(path: &Path, error: sled::Error) -> Self {
        match error {
            sled::Error::Io(source) => Self::io(path, source),
            other => Self::Damaged(format!("index: {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_find_their_variant() {
        // errno, full, permission, temporary
        let table = [
            (28, true, false),  // ENOSPC
            (122, true, false), // EDQUOT
            (13, false, true),  // EACCES
            (1, false, true),   // EPERM
            (5, false, false),  // EIO
            (30, false, false), // EROFS
        ];
        for (errno, full, permission) in table {
            let error = StoreError::io(Path::new("/x"), io::Error::from_raw_os_error(errno));
            assert_eq!(error.is_full(), full, "{errno}");
            assert_eq!(
                matches!(error, StoreError::Permission(_)),
                permission,
                "{errno}"
            );
            assert!(error.is_temporary(), "{errno}");
        }
    }
}
