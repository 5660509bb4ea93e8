//! From a recipient to its mailbox's settings.

use std::sync::Arc;

use super::{Config, Mailbox};
use crate::mail::Address;

/// All mailboxes.
#[derive(Debug)]
pub struct Directory {
    config: Arc<Config>,
}

/// What is known of a recipient.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// Its settings; those of the defaults when it has no file and `mailboxes.unknown: accept`.
    Found(Arc<Mailbox>),
    /// `550 5.1.2`.
    UnknownDomain,
    /// `550 5.1.1`.
    UnknownMailbox,
    /// Its file cannot be read just now (`451 4.3.0`); the text is for the log.
    Unavailable(String),
}

impl Directory {
    /// Reads nothing yet: mailbox files load on first use.
    pub fn new(config: Arc<Config>) -> Self {
        Self { config }
    }

    /// The settings it serves.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Starts a thread that indexes the `aliases` of all mailbox files and then watches the folders.
    /// It ends when the directory is dropped. Until the first index is done, [`Directory::lookup`]
    /// of an address without a file of its own waits, 30 s at most.
    pub fn start_indexing(self: &Arc<Self>) {}

    /// The settings for a recipient. Blocking (stat, on first use a read): call it where that is
    /// allowed.
    pub fn lookup(&self, _recipient: &Address) -> Lookup {
        Lookup::UnknownMailbox
    }
}
