//! A mail file: what it is and for whom, and its octets, with checksums over both.
//!
//! One file serves all recipients and effects of a mail: each entry has its own hard link to it,
//! so the disk space goes with the last of them and there is no counter to go wrong.

use serde::{Deserialize, Serialize};

use super::{Id, OutgoingItem, QuarantineEntry};

/// The two folders of mail files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shelf {
    /// `mail/quarantine`
    Quarantine,
    /// `mail/outgoing`
    Outgoing,
}

/// What a mail file is for; the index can be rebuilt from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "short-lived, and most lists hold one"
)]
pub enum FileEntry {
    /// It is held.
    Quarantine(QuarantineEntry),
    /// It goes out.
    Outgoing(OutgoingItem),
}

impl FileEntry {
    /// Its name, also of its link to the file.
    pub fn id(&self) -> Id {
        match self {
            Self::Quarantine(entry) => entry.id,
            Self::Outgoing(item) => item.id,
        }
    }

    /// Its folder.
    pub fn shelf(&self) -> Shelf {
        match self {
            Self::Quarantine(_) => Shelf::Quarantine,
            Self::Outgoing(_) => Shelf::Outgoing,
        }
    }
}

/// The head of a mail file. At most 4 MiB as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailHeader {
    /// Reverse path as received, empty for the null path.
    pub sender: String,
    /// Who handed it over, for people to read.
    pub client: String,
    /// The header line that is put before it wherever it goes on (`Received`, with its CRLF); empty
    /// for mail of our own.
    #[serde(default)]
    pub trace: String,
    /// When it came in.
    pub received_at: i64,
    /// At least one; each gets a link of its own.
    pub entries: Vec<FileEntry>,
}
