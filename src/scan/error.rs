//! Why a scan has no finding. The text is for the engineer on call: which engine, where, what it
//! did, and what is to be changed where that is known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mail::is_harmful;

/// Octets of an engine's words that are shown.
const SHOWN: usize = 200;

/// Why a scan has no finding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// No connection, or it broke.
    #[error("{engine} at {address} fails: {step}: {reason}")]
    Unreachable {
        /// `clamd`, `rspamd` or `spamd`.
        engine: &'static str,
        /// Where it listens.
        address: String,
        /// What was being done.
        step: &'static str,
        /// The system's words.
        reason: String,
    },
    /// No finding in time.
    #[error("{engine} at {address} is late: {step}: {}", limit(*.waited, *.full))]
    Late {
        /// `clamd`, `rspamd` or `spamd`.
        engine: &'static str,
        /// Where it listens.
        address: String,
        /// What was being waited for.
        step: &'static str,
        /// How long, in all.
        waited: Duration,
        /// The engine had all of its own `timeout`; else the mail's deadline came first, or we
        /// were busy with other mails.
        full: bool,
    },
    /// An answer that is none.
    #[error("{engine} at {address} gives no proper answer: {why}: \"{said}\"")]
    Nonsense {
        /// `clamd`, `rspamd` or `spamd`.
        engine: &'static str,
        /// Where it listens.
        address: String,
        /// What is wrong with it.
        why: &'static str,
        /// The beginning of it, escaped.
        said: String,
    },
    /// The engine is well and says that it cannot or will not do this.
    #[error("{engine} at {address} answers \"{said}\"")]
    Refused {
        /// `clamd`, `rspamd` or `spamd`.
        engine: &'static str,
        /// Where it listens.
        address: String,
        /// Its own words, cut and escaped.
        said: String,
    },
    /// The mail is larger than the engine allows.
    #[error(
        "a mail of {size} octets is too large for {engine} at {address}: raise its {setting}, or lower max_size here"
    )]
    TooLarge {
        /// `clamd`, `rspamd` or `spamd`.
        engine: &'static str,
        /// Where it listens.
        address: String,
        /// The engine's own setting.
        setting: &'static str,
        /// Octets of the mail.
        size: u64,
    },
    /// A part of the mail could not be given to it.
    #[error("a fault of ours: the mail could not be taken apart")]
    Ours,
    /// It was not asked, because it failed too often just now.
    #[error("{engine} is not asked for another {} s: {last}", rest(*.until))]
    Resting {
        /// `clamd`, `rspamd` or `spamd`.
        engine: &'static str,
        /// Its last failure.
        last: Arc<ScanError>,
        /// When it is asked again.
        until: Instant,
    },
}

impl ScanError {
    /// The fault looks like the engine's own, not the mail's or ours: it counts for the breaker.
    pub(crate) fn is_the_engines(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Nonsense { .. } => true,
            Self::Late { full, .. } => *full,
            Self::Refused { .. } | Self::TooLarge { .. } | Self::Ours | Self::Resting { .. } => {
                false
            }
        }
    }

    /// The engine has answered, in its own protocol: it lives.
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::TooLarge { .. })
    }
}

fn limit(waited: Duration, full: bool) -> String {
    let seconds = waited.as_secs_f64();
    if full {
        format!("no answer within its timeout of {seconds:.1} s")
    } else {
        format!("the deadline of the mail passed after {seconds:.1} s")
    }
}

fn rest(until: Instant) -> u64 {
    let left = until.saturating_duration_since(Instant::now());
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// An engine's words as they may stand in a log: at most 200 octets, all else than printable ASCII
/// escaped.
pub(super) fn shown(said: &[u8]) -> String {
    match said.split_at_checked(SHOWN) {
        Some((head, rest)) if !rest.is_empty() => format!("{}...", head.escape_ascii()),
        _ => said.escape_ascii().to_string(),
    }
}

/// A name of the engine's (a virus, a version) as it may be stored: at most
/// [`MAX_NAME`](super::MAX_NAME) characters, U+FFFD for each harmful one and for what is no UTF-8.
pub(super) fn name(said: &[u8]) -> String {
    let head = said.get(..4 * super::MAX_NAME).unwrap_or(said);
    let text = String::from_utf8_lossy(head);
    let shown = |c| if is_harmful(c) { '\u{FFFD}' } else { c };
    text.trim()
        .chars()
        .take(super::MAX_NAME)
        .map(shown)
        .collect()
}
