//! The prepared state of a hand-off (RELIABILITY 5d): the mail files that it wrote and that nothing
//! names yet. Each entry of a file's header carries the key of its hand-off, so they are known again
//! after a crash too, with no further sync.
//!
//! A retry **replaces** what it finds: it removes the files of the earlier try, decides anew and
//! writes its own. The settings of now decide, not a stored plan. Nothing of the earlier try was
//! answered, shown or sent, so nobody was promised anything; an owner who changed a rule meanwhile,
//! say took a target out of a forward, means the mail that is not yet through too; and a mail that
//! is only kept has no file in which a plan could lie. To take the files over instead would save
//! one write of the octets, and need a proof that they are what would be written now.
//!
//! The table is bounded; what does not fit into it, and what no retry comes for, is an orphan that
//! the sweep removes after a week.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{HandoffKey, Id, MailHeader, Shelf, Store, StoreError};

/// Files in the table, at most: about 10 MiB of memory.
const MAX_FILES: usize = 100_000;

/// The files of hand-offs that are under way or broke off.
#[derive(Debug, Default)]
pub(crate) struct Prepared(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    files: HashMap<HandoffKey, Vec<(Shelf, Id)>>,
    count: usize,
}

impl Prepared {
    /// Takes note of one file.
    pub(crate) fn note(&self, key: HandoffKey, file: (Shelf, Id)) {
        let mut table = self.table();
        if table.count < MAX_FILES {
            table.files.entry(key).or_default().push(file);
            table.count += 1;
        }
    }

    /// Takes note of all files of a header.
    pub(crate) fn note_all(&self, header: &MailHeader) {
        for entry in &header.entries {
            if let Some(key) = entry.handoff() {
                self.note(key, (entry.shelf(), entry.id()));
            }
        }
    }

    fn take(&self, key: &HandoffKey) -> Vec<(Shelf, Id)> {
        let mut table = self.table();
        let files = table.files.remove(key).unwrap_or_default();
        table.count = table.count.saturating_sub(files.len());
        files
    }

    fn holds(&self, key: &HandoffKey) -> bool {
        self.table().files.contains_key(key)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// A hand-off of that key wrote files and has not come to its end. To be asked while
    /// [`Store::begin_all`] holds the key.
    pub fn is_prepared(&self, key: &HandoffKey) -> bool {
        self.0.prepared.holds(key)
    }

    /// The hand-off is committed: its files are named.
    pub fn forget_prepared(&self, key: &HandoffKey) {
        self.0.prepared.take(key);
    }

    /// Removes the files that a hand-off wrote and nothing names: before its retry writes its own,
    /// and when it is refused. To be called while [`Store::begin_all`] holds the key. Where the index
    /// cannot be asked they stay, and the next try removes them.
    ///
    /// # Errors
    /// [`StoreError::Closed`], [`StoreError::Failed`], and those of the file system.
    pub fn clear_prepared(&self, key: &HandoffKey) -> Result<(), StoreError> {
        let files = self.0.prepared.take(key);
        let mut first_error = None;
        for (shelf, id) in files {
            if let Err(error) = self.remove_unnamed(shelf, id) {
                self.0.prepared.note(*key, (shelf, id));
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    fn remove_unnamed(&self, shelf: Shelf, id: Id) -> Result<(), StoreError> {
        self.0.index.believed()?;
        match self.0.index.has_file(shelf, id)? {
            true => Ok(()),
            false => self.remove_mail(shelf, id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MailDigest;
    use super::*;

    #[test]
    fn the_table_is_bounded() {
        let prepared = Prepared::default();
        let key = |n: usize| HandoffKey::new("m", "s", &MailDigest::of(n.to_string().as_bytes()));
        for n in 0..MAX_FILES + 10 {
            prepared.note(key(n / 2), (Shelf::Outgoing, Id::floor(1)));
        }
        assert_eq!(prepared.table().count, MAX_FILES);
        assert_eq!(prepared.take(&key(0)).len(), 2);
        assert!(!prepared.holds(&key(0)) && prepared.take(&key(0)).is_empty());
        assert_eq!(prepared.table().count, MAX_FILES - 2);
    }
}
