//! Settings: the daemon file and the mailbox files, read, checked and compiled.
//!
//! Two kinds of types: what a person wrote (`raw`, `mailbox`; serde, one doc comment a key) and what
//! the program needs ([`Config`], [`Mailbox`]). Every mistake of a file is reported in one run, each
//! with its place ([`Diagnostic`]). Any text is a defined result: no panic, no growth, linear time.

pub mod directory;
pub mod error;
pub(crate) mod mailbox;
pub mod settings;

use std::path::{Path, PathBuf};

pub use directory::{Directory, Lookup};
pub use error::{Diagnostic, Severity, Snippet};
pub use settings::*;

use crate::policy::Policy;

/// A daemon file that counts.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What is perhaps not meant.
    pub warnings: Vec<Diagnostic>,
}

/// One mailbox's settings, compiled: the file over `mailboxes.defaults` over the built-in.
#[derive(Debug, Clone)]
pub struct Mailbox {
    /// What to do with its mail.
    pub policy: Policy,
    /// For times in notices and for `auto_reply.start` and `end` without an offset.
    pub timezone: jiff::tz::TimeZone,
    /// `spam.notice`.
    pub spam_notice: SpamNotice,
    /// Its file; `None` when it has none and the defaults alone count.
    pub path: Option<PathBuf>,
}

/// `spam.notice`: when the owner is told of held spam.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpamNotice {
    /// Never.
    Off,
    /// At once, one by one.
    Each,
    /// At `quarantine.notice.daily_at`.
    Daily,
}

impl Config {
    /// Reads the text of a daemon file as if it lay in `base_dir` (the demo's embedded one).
    ///
    /// # Errors
    /// All errors and warnings when there is an error.
    pub fn parse(_text: &str, _base_dir: &Path) -> Result<Loaded, Vec<Diagnostic>> {
        Err(Vec::new())
    }
}

/// Reads the daemon file.
///
/// # Errors
/// All errors and warnings when there is an error; also when the file cannot be read
/// (id `unreadable`).
pub fn load(_path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    Err(Vec::new())
}

/// Reads one mailbox file over the defaults of `config`.
///
/// # Errors
/// All errors and warnings when there is an error.
pub fn load_mailbox(_config: &Config, _path: &Path) -> Result<Mailbox, Vec<Diagnostic>> {
    Err(Vec::new())
}

/// Every error and warning of the files, for `check`: without `paths` the daemon file and all
/// mailbox files below its `mailboxes.dir`, else those files. A file is a mailbox file when it has
/// the key `mailbox`, or lies below `mailboxes.dir`; else it is a daemon file.
pub fn check(_config: &Path, _paths: &[PathBuf]) -> Vec<Diagnostic> {
    Vec::new()
}
