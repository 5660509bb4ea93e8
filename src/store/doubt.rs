//! Whether a mail may lie at the next hop without the store knowing of it: after a crash, or after
//! a delivery whose record was not written. As long as a retry of such a mail can come, a Maildir is
//! searched before a mail is written into it; at other times that search is saved.
//!
//! `running` is there while the store is open, and stays behind after a crash; `unclean` holds the
//! moment of the last start that found it, unix milliseconds.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::committer::HANDOFF_LIFE;

#[derive(Debug)]
pub(crate) struct Doubt {
    running: PathBuf,
    /// The last unclean start; far in the past when there was none.
    since: i64,
    /// Something in this run gave reason.
    now: AtomicBool,
}

impl Doubt {
    /// Where a mark cannot be written (a full disk), there is doubt.
    pub(crate) fn open(root: &Path, now: i64) -> Self {
        let (running, unclean) = (root.join("running"), root.join("unclean"));
        let crashed = running.exists();
        let since = match fs::read_to_string(&unclean) {
            _ if crashed => now,
            Ok(text) => text.trim().parse().unwrap_or(now),
            Err(error) if error.kind() == io::ErrorKind::NotFound => i64::MIN,
            Err(_) => now,
        };
        let marked = match crashed {
            true => write(&unclean, &now.to_string()),
            false => write(&running, ""),
        };
        Self {
            running,
            since,
            now: AtomicBool::new(marked.is_err()),
        }
    }

    pub(crate) fn raise(&self) {
        self.now.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_raised(&self, now: i64) -> bool {
        // A clock that went back does not end the doubt.
        self.now.load(Ordering::SeqCst) || now < self.since.saturating_add(HANDOFF_LIFE)
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if !self.now.load(Ordering::SeqCst) {
            // Left behind it only costs the search.
            let _ = fs::remove_file(&self.running);
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_gives_doubt_for_as_long_as_a_retry_can_come() {
        let root = tempfile::tempdir().unwrap();
        let open = |now| Doubt::open(root.path(), now);
        let first = open(1000);
        assert!(!first.is_raised(1000));
        drop(first);
        assert!(!open(2000).is_raised(2000), "a clean end");
        std::mem::forget(open(3000));
        let after = open(4000);
        assert!(after.is_raised(4000) && after.is_raised(3999 + HANDOFF_LIFE));
        assert!(!after.is_raised(4000 + HANDOFF_LIFE));
        drop(after);
        let again = open(5000);
        assert!(
            again.is_raised(5000),
            "a clean end in between does not end the doubt"
        );
        assert!(!again.is_raised(4000 + HANDOFF_LIFE));
    }

    #[test]
    fn a_record_that_was_not_written_gives_doubt_over_the_next_start_too() {
        let root = tempfile::tempdir().unwrap();
        let open = |now| Doubt::open(root.path(), now);
        let run = open(1000);
        run.raise();
        assert!(run.is_raised(1000 + 2 * HANDOFF_LIFE));
        drop(run);
        assert!(open(2000).is_raised(2000));
    }
}
