//! What the store is told when it is opened and asked, and what it tells of its larger works.

use std::path::PathBuf;

use super::Id;

/// Where the store lies and how much it keeps.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `store.path`; made if it is not there.
    pub path: PathBuf,
    /// `quarantine.max_size` in octets, the sum of the entries' sizes.
    pub quarantine_max_bytes: u64,
    /// `history.retention` in milliseconds.
    pub history_retention_ms: i64,
}

/// Which quarantine entries; `None` matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuarantineFilter {
    /// Mailbox key, compared without case.
    pub mailbox: Option<String>,
    /// Stage id.
    pub stage: Option<String>,
    /// Received at or after.
    pub since: Option<i64>,
    /// Part of the reverse path or the header From, compared without case.
    pub sender: Option<String>,
}

/// Which why-records; `None` matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// As [`WhyRecord::mailbox`](super::WhyRecord), compared without case. Its records are found by
    /// their facts.
    pub mailbox: Option<String>,
    /// Received at or after.
    pub since: Option<i64>,
}

/// What opening found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The index was damaged or missing and was made anew from the mail files.
    pub rebuilt: Option<RebuildReport>,
    /// Outgoing mail that a crash caught while it was sent and that is sent again.
    pub resumed: u64,
    /// Notices and replies that a crash caught while they were sent; dropped (at most once).
    pub dropped: u64,
    /// Entries whose release a crash cut short; to be released again (RELIABILITY C13).
    pub releasing: Vec<Id>,
    /// Mail files without an entry, kept for now.
    pub orphans: u64,
    /// The lists of each mailbox's held mail are not whole, and the disk had no room to make them
    /// so: the next start tries it again.
    pub unlisted: bool,
    /// The disk is full: the ballast was given up for the start.
    pub ballast_dropped: bool,
}

/// What a rebuild made of the mail files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RebuildReport {
    /// Where the old index was moved, if there was one.
    pub moved_to: Option<PathBuf>,
    /// Quarantine entries found.
    pub quarantine: u64,
    /// Outgoing mails found, now ready.
    pub outgoing: u64,
    /// Notices and replies that were removed, since they may have been sent (RELIABILITY C14).
    pub dropped: u64,
    /// Files that cannot be read or are not whole; left where they are until a sweep.
    pub unreadable: Vec<PathBuf>,
}

/// What `store verify` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Quarantine entries in the index.
    pub quarantine: u64,
    /// Outgoing items in the index.
    pub outgoing: u64,
    /// Mail files.
    pub files: u64,
    /// Octets of the mail files, each link counted.
    pub bytes: u64,
    /// Files with no entry: leftovers of a crash, harmless, removed in time.
    pub orphans: Vec<PathBuf>,
    /// Entries without a readable file, records with wrong checksums; one line each.
    pub problems: Vec<String>,
}

/// What a sweep removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Quarantine entries, with their files.
    pub quarantine: u64,
    /// Held or dead outgoing items, with their files.
    pub outgoing: u64,
    /// Why-records.
    pub history: u64,
    /// Hand-offs.
    pub handoffs: u64,
    /// Ledger marks.
    pub seen: u64,
    /// Files without an entry.
    pub orphans: u64,
    /// The wall clock jumped ahead by more than an hour: nothing was removed, and nothing will be
    /// until the clock is right again or an hour has passed (D15).
    pub held: bool,
    /// When to sweep again, in the wall clock of this call: exactly when the next thing expires, but
    /// at most an hour from now.
    pub next: i64,
}
