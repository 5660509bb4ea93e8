//! Logging: where events go, in which form, and how text from a mail is kept from harming a log.
//!
//! Event names are the message text; all else is a field. Every field that came from a mail passes
//! [`Redact`] and is escaped by the formatter.

mod lines;
mod logfmt;

use std::borrow::Cow;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

pub use lines::together;

use crate::config::{self, LogFormat, LogTarget, Logging};
use crate::mail::{self, is_harmful};

/// Starts logging for the process as `logging` says.
///
/// # Errors
/// The journal's socket cannot be reached, or logging was started before.
pub fn init(logging: &Logging) -> std::io::Result<()> {
    let filter: Targets = format!("warn,sekimori={}", logging.level.as_str())
        .parse()
        .map_err(std::io::Error::other)?;
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match (logging.target, logging.format) {
        (LogTarget::Journald, _) => {
            Box::new(tracing_journald::layer()?.with_syslog_identifier("sekimori".into()))
        }
        (LogTarget::Stderr, LogFormat::Logfmt) => Box::new(
            tracing_subscriber::fmt::layer()
                .event_format(logfmt::Logfmt)
                .with_writer(|| lines::Stderr),
        ),
        (LogTarget::Stderr, LogFormat::Json) => Box::new(
            tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_ansi(false)
                .with_writer(|| lines::Stderr),
        ),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(std::io::Error::other)
}

/// What of a mail may stand in the log (`logging.redact`).
#[derive(Debug, Clone, Copy)]
pub struct Redact(pub config::Redact);

impl Redact {
    /// A Subject, cut to 200 characters; a harmful one is `\u{FFFD}`.
    pub fn subject(self, text: &str) -> Cow<'_, str> {
        let end = text
            .char_indices()
            .nth(200)
            .map_or(text.len(), |(at, _)| at);
        match self.0 {
            config::Redact::Subject | config::Redact::Addresses => "-".into(),
            config::Redact::None => harmless(text.get(..end).unwrap_or(text)),
        }
    }

    /// An address; redacted, its domain stays.
    pub fn address(self, text: &str) -> Cow<'_, str> {
        match self.0 {
            config::Redact::Addresses => text
                .rsplit_once('@')
                .map_or_else(Cow::default, |(_, domain)| {
                    format!("-@{}", harmless(domain)).into()
                }),
            config::Redact::None | config::Redact::Subject => harmless(text),
        }
    }
}

/// For every target and form of the log: the JSON formatter escapes ASCII's control characters alone.
fn harmless(text: &str) -> Cow<'_, str> {
    match text.contains(is_harmful) {
        true => mail::harmless(text).into(),
        false => text.into(),
    }
}
