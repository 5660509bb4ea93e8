//! What scanners say of a mail: the engines that we ask ([`Clamd`], [`Rspamd`], [`Spamd`]), and a
//! header field that a scanner before us has put in ([`Upstream`]).
//!
//! Each engine is asked once a mail and answers within `min(deadline, now + timeout)`, with a
//! finding or with a [`ScanError`] that is meant for the engineer on call. What an engine says is
//! hostile input: capped, checked, and never given room by what it announces. Dropping a scan
//! closes the connection that it uses.

mod breaker;
mod clamd;
pub mod cure;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod rspamd;
mod spamd;
pub mod upstream;
mod wire;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::mail::{Octets, is_harmful};

pub use clamd::Clamd;
pub use cure::{Cure, Remains, cure, in_parts};
pub use error::ScanError;
pub use gate::{EXCHANGES, State};
pub use rspamd::{Controller, Rspamd};
pub use spamd::Spamd;
pub use upstream::Upstream;

/// Of more symbols an engine's finding keeps the first.
pub const MAX_SYMBOLS: usize = 256;
/// Characters kept of a symbol, a virus name, a version.
pub const MAX_NAME: usize = 200;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A name or address, and a port.
    Tcp {
        /// Host name, or an IP address without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How one engine is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub address: Endpoint,
    /// For one mail, all its exchanges and the wait for a free one together.
    pub timeout: Duration,
}

/// One mail as the engines see it. `pieces` are its octets in order, CRLF line ends; they are sent
/// as they lie, and read as they are sent where they are not in memory.
///
/// For clamd the first piece is to be a field such as `Received:` of our own: it takes a stream for a
/// mail, and so looks into its parts, only when it begins with (or soon has) a field name that it
/// knows.
#[derive(Debug, Clone, Copy)]
pub struct Mail<'a> {
    /// The octets.
    pub pieces: &'a [Octets],
    /// The reverse path without brackets; empty for the null reverse path.
    pub sender: &'a str,
    /// The forward paths without brackets.
    pub recipients: &'a [String],
    /// Who handed the mail in from outside.
    pub client_ip: Option<IpAddr>,
    /// What it called itself; may be empty.
    pub helo: &'a str,
    /// Our id of this mail, for the engine's log; may be empty.
    pub id: &'a str,
}

impl<'a> Mail<'a> {
    /// Octets alone, where the engine wants to know nothing else.
    pub fn of(pieces: &'a [Octets]) -> Self {
        Self {
            pieces,
            sender: "",
            recipients: &[],
            client_ip: None,
            helo: "",
            id: "",
        }
    }

    /// All octets.
    pub(crate) fn size(&self) -> u64 {
        self.pieces.iter().map(Octets::size).sum()
    }
}

/// Whether an engine learned from a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// It did.
    New,
    /// It had before.
    Already,
}

/// What a virus scanner found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirusFinding {
    /// Program and database, in the engine's own words.
    pub version: String,
    /// The first virus; `None` = clean.
    pub virus: Option<String>,
}

/// What a spam scanner found.
#[derive(Debug, Clone, PartialEq)]
pub struct SpamFinding {
    /// `rspamd` or `spamd`.
    pub engine: &'static str,
    /// In the engine's own words, where it says one.
    pub version: Option<String>,
    /// The engine's own word.
    pub spam: bool,
    /// Its points; finite.
    pub score: f64,
    /// The points at which it says so (spamd), or would reject (rspamd); 0 where it has no such
    /// limit. Finite.
    pub required: f64,
    /// rspamd's action.
    pub action: Option<String>,
    /// The rules that matched: at most [`MAX_SYMBOLS`], in the engine's order.
    pub symbols: Vec<Symbol>,
}

/// A rule of a spam scanner that matched.
#[derive(Debug, Clone, PartialEq)]
pub struct Symbol {
    /// At most [`MAX_NAME`] characters, printable.
    pub name: String,
    /// The points it gave, where the engine says so.
    pub score: Option<f64>,
}

impl Symbol {
    /// A symbol of this name if it is one: not empty, not too long, without spaces and characters
    /// that repaint a terminal.
    fn new(name: &str, score: Option<f64>) -> Option<Self> {
        let printable = |c: char| !is_harmful(c) && !c.is_whitespace();
        let good = !name.is_empty()
            && name.len() <= 4 * MAX_NAME
            && name.chars().count() <= MAX_NAME
            && name.chars().all(printable);
        good.then(|| Self {
            name: name.to_owned(),
            score: score.filter(|score| score.is_finite()),
        })
    }
}
