//! An event as a line of logfmt: `ts`, `level`, `message`, then its other fields. No event of ours lies
//! in a span.

use std::error::Error;
use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Writes what `tracing-logfmt` would; that takes each character of a text with a space in it through
/// the tables of what is printable, which was an eighth of all the instructions of a mail.
pub(super) struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let mut line = Line {
            text: String::with_capacity(512),
            shown: String::new(),
        };
        let _ = write!(line.text, "ts={} level={level}", jiff::Timestamp::now());
        event.record(&mut line);
        line.text.push('\n');
        writer.write_str(&line.text)
    }
}

struct Line {
    text: String,
    /// The value that is being written, as it shows itself.
    shown: String,
}

impl Line {
    fn name(&mut self, field: &Field) {
        self.text.push(' ');
        self.text.push_str(field.name());
        self.text.push('=');
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        let _ = write!(self.text, "{value}");
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.plain(field, format_args!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        push_value(&mut self.text, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.name(field);
        self.shown.clear();
        let _ = write!(self.shown, "{value:?}");
        push_value(&mut self.text, &self.shown);
    }
}

/// A text as it is, or between quotes and escaped.
fn push_value(line: &mut String, value: &str) {
    // Without a branch, the octets are looked at many at once.
    let needs_quotes = |octet: u8| (octet <= b' ') | (octet == b'=') | (octet == b'"');
    if !value
        .bytes()
        .fold(false, |any, octet| any | needs_quotes(octet))
    {
        line.push_str(value);
        return;
    }
    line.push('"');
    if value.chars().all(is_clean) {
        line.push_str(value);
    } else {
        line.extend(value.escape_debug());
    }
    line.push('"');
}

/// Characters that `escape_debug` leaves as they are wherever they stand: most of ASCII, and what
/// Japanese is written with.
fn is_clean(c: char) -> bool {
    match c {
        '"' | '\'' | '\\' => false,
        ' '..='~'
        | '\u{3001}'..='\u{3029}'
        | '\u{3041}'..='\u{3096}'
        | '\u{30A1}'..='\u{30FF}'
        | '\u{4E00}'..='\u{9FFF}'
        | '\u{FF01}'..='\u{FF60}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, Registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        /// What was written since, with the first field set apart.
        fn take(&self) -> (String, String) {
            let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
            let (time, rest) = text.split_once(' ').unwrap();
            (time.to_owned(), rest.to_owned())
        }
    }

    fn ours(to: Lines) -> impl Layer<Registry> {
        tracing_subscriber::fmt::layer()
            .event_format(Logfmt)
            .with_writer(move || to.clone())
    }

    fn theirs(to: Lines) -> impl Layer<Registry> {
        tracing_logfmt::builder()
            .with_target(false)
            .layer()
            .with_writer(move || to.clone())
    }

    /// What the event reads as in our form and in that of `tracing-logfmt`, but for the time.
    fn both(event: impl Fn()) -> (String, String) {
        let lines = Lines::default();
        tracing::subscriber::with_default(Registry::default().with(ours(lines.clone())), &event);
        let (time, ours) = lines.take();
        let time = time.strip_prefix("ts=").unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'));
        tracing::subscriber::with_default(Registry::default().with(theirs(lines.clone())), event);
        (ours, lines.take().1)
    }

    #[test]
    fn a_line() {
        let lines = Lines::default();
        let subscriber = Registry::default().with(ours(lines.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(id = "-", size = 5_u64, subject = "a \"b\"\n", "mail");
        });
        let expected = "level=info message=mail id=- size=5 subject=\"a \\\"b\\\"\\n\"\n";
        assert_eq!(lines.take().1, expected);
    }

    #[test]
    fn every_level_and_kind_of_value() {
        let error = || io::Error::other("it is \u{e9}\u{301}");
        let none: Option<&str> = None;
        let events: [&dyn Fn(); 6] = [
            &|| tracing::error!(error = %error(), "with an error"),
            &|| tracing::warn!(error = &error() as &dyn Error, "it"),
            &|| tracing::info!(float = 1.0, large = 1e300, signed = -1, yes = true),
            &|| tracing::debug!(list = ?["a b", "c"], none, "{} of {}", 1, 2),
            &|| tracing::trace!(wide = u128::MAX, empty = "", unit = ?()),
            &|| tracing::info!("a message"),
        ];
        for event in events {
            let (ours, theirs) = both(event);
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn clean_characters_need_no_escape() {
        for c in ('\0'..=char::MAX).filter(|&c| is_clean(c)) {
            assert!(c.escape_debug().eq([c]), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn lines_are_those_of_tracing_logfmt(text in any::<String>(), word in "[ -~ぁ-ん漢字゛\u{3099}]{0,20}") {
            let (ours, theirs) = both(|| tracing::info!(word, text = %text, mixed = format!("{word}{text}"), "mail"));
            prop_assert_eq!(ours, theirs);
        }
    }
}
