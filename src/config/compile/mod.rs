//! The daemon file: from what was written to [`Config`]. Every mistake is reported, none ends it.

mod outgoing;
mod scanners;
mod server;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::{Offset, TimeZone};

use super::field::Field;
use super::mailbox::VERSION;
use super::number::Count;
use super::patterns::{self, NamedList};
use super::raw::*;
use super::setting::Setting as _;
use super::settings::*;
use super::source::{Place, Report};
use super::text::{FilePath, NonZero, Room, Size, Span, Text, Time, is_host};
use super::{compile_mailbox, read};
use crate::mail::Address;
use crate::policy::AllowSet;

/// File 0 of the report over what is built in. `None` when there is too little to look at.
pub(crate) fn read(report: &mut Report) -> Option<RawConfig> {
    read::settings(report, 0).map(RawConfig::complete)
}

/// Compiles as well as it goes: the result counts only when the report has no error.
pub(crate) fn config(report: &mut Report, path: &Path, raw: &RawConfig) -> Option<Config> {
    version(report, &raw.version, 0);
    not_built(report, raw);
    let mut compile = Compile { report };
    let server = compile.server(&raw.server.or_default());
    let mailboxes = compile.mailboxes(&raw.mailboxes.or_default());
    let announcement_senders = compile.announcement_senders(raw);
    let delivery = compile.delivery(&raw.delivery.or_default());
    let relay = compile.relay(&raw.relay.or_default());
    let scanners = compile.scanners(&raw.scanners.or_default());
    let quarantine = compile.quarantine(&raw.quarantine.or_default());
    let limits = compile.limits(&raw.limits.or_default());
    let control = compile.control(&raw.control.or_default());
    // Only now: each of them has reported its mistakes.
    let config = Config {
        path: path.to_owned(),
        generation: String::new(),
        server: server?,
        mailboxes,
        announcement_senders,
        delivery: delivery?,
        relay: relay?,
        scanners: scanners?,
        store: Store {
            path: compile.path(&raw.store.or_default().path),
        },
        quarantine,
        history: History {
            retention: span(&raw.history.or_default().retention),
        },
        limits,
        logging: compile.logging(&raw.logging.or_default()),
        control,
    };
    compile_mailbox::check_defaults(report, &config, &raw.mailboxes.or_default().defaults);
    // Now all lists are read.
    let generation = report.generation();
    Some(Config {
        generation,
        ..config
    })
}

/// Checks the one key that every file must have.
pub(crate) fn version(report: &mut Report, version: &Field<u64>, file: u16) {
    match version.get() {
        Some(&VERSION) => {}
        Some(other) => {
            let message = format!("version {other} is not known here");
            report.error_help("version", version.place(), message, "write `version: 1`");
        }
        None if version.is_given() => {}
        None => {
            let at = Place::top(file);
            report.error_help(
                "version",
                at,
                "`version` is missing",
                "begin with `version: 1`",
            );
        }
    }
}

/// A time zone by its IANA name. Japan's needs no database.
pub(crate) fn timezone(report: &mut Report, name: &Field<String>) -> TimeZone {
    let written = name.or_default();
    match TimeZone::get(&written) {
        Ok(zone) => zone,
        Err(_) if written == "Asia/Tokyo" => TimeZone::fixed(Offset::constant(9)),
        Err(_) => {
            let message = format!("no time zone {written:?} is known on this machine");
            report.error_help(
                "value",
                name.place(),
                message,
                "an IANA name, such as `Asia/Tokyo`",
            );
            TimeZone::UTC
        }
    }
}

/// Functions that come in a later version are refused, never silently ignored.
fn not_built(report: &mut Report, raw: &RawConfig) {
    let mut refuse = |at: Place, what: &str, help: &str| {
        report.error_help("not-built", at, format!("{what} is not built yet"), help);
    };
    let trust = raw.trust.or_default();
    let srs = trust.srs.or_default().enabled;
    if srs.get() == Some(&true) {
        refuse(srs.place(), "trust.srs", "write `enabled: false`");
    }
    let sign = trust.sign.or_default().enabled;
    if sign.get() == Some(&true) {
        refuse(sign.place(), "trust.sign", "write `enabled: false`");
    }
    if trust
        .verify
        .get()
        .is_some_and(|verify| *verify != RawVerify::Off)
    {
        refuse(trust.verify.place(), "trust.verify", "write `verify: off`");
    }
    let listen = raw.metrics.or_default().listen;
    if listen.get().is_some_and(|listen| !listen.is_empty()) {
        refuse(listen.place(), "metrics", "write `listen: \"\"`");
    }
}

struct Compile<'a> {
    report: &'a mut Report,
}

impl Compile<'_> {
    fn mailboxes(&mut self, raw: &RawMailboxes) -> Mailboxes {
        let mut domains = Vec::new();
        let mut seen = HashSet::new();
        for item in raw.domains.get().into_iter().flatten() {
            match item.get().map(|text| domain_key(text)) {
                Some(Some(domain)) if seen.insert(domain.clone()) => domains.push(domain),
                Some(Some(domain)) => {
                    let message = format!("{domain} is there already");
                    self.report.error("duplicate", item.place(), message);
                }
                Some(None) => self.value(item.place(), "this is no mail domain"),
                None => {}
            }
        }
        let extension = raw.address_extension.or_default();
        let mut signs = extension.chars();
        let sign = signs.next();
        if signs.next().is_some() || sign.is_some_and(|c| !c.is_ascii_punctuation() || c == '@') {
            self.value(
                raw.address_extension.place(),
                "one sign, such as `+` or `-`, or `\"\"`",
            );
        }
        Mailboxes {
            dir: self.path(&raw.dir),
            domains,
            writable: raw.writable.or_default(),
            unknown: match raw.unknown.or_default() {
                RawUnknown::Accept => Unknown::Accept,
                RawUnknown::Reject => Unknown::Reject,
            },
            watch: raw.watch.or_default(),
            address_extension: sign,
            cache: raw.cache.or_default().0.0,
            defaults: Arc::new(raw.defaults.or_default()),
        }
    }

    fn announcement_senders(&mut self, raw: &RawConfig) -> Arc<AllowSet> {
        let list = NamedList {
            name: "announcement_senders",
            here: &raw.announcement_senders,
            file: &raw.announcement_senders_file,
        };
        let lines = patterns::load(self.report, list, &mut Vec::new());
        Arc::new(AllowSet::build(lines.patterns(self.report)))
    }

    fn quarantine(&mut self, raw: &RawQuarantine) -> Quarantine {
        let notice = raw.notice.or_default();
        let written = notice.daily_at.or_default();
        let daily_at = jiff::civil::Time::strptime("%H:%M", &written).unwrap_or_else(|_| {
            self.value(
                notice.daily_at.place(),
                "a time of day is `HH:MM`, in quotes",
            );
            jiff::civil::Time::midnight()
        });
        Quarantine {
            retention: span(&raw.retention),
            max_size: octets(&raw.max_size),
            notice: NoticeTime {
                daily_at,
                timezone: timezone(self.report, &notice.timezone),
            },
        }
    }

    fn limits(&mut self, raw: &RawLimits) -> Limits {
        Limits {
            from_suffix_chars: self.range(&raw.from_suffix_chars),
            subject_chars: self.range(&raw.subject_chars),
            entries_total: raw.entries_total.or_default(),
            forwarding_rules: raw.forwarding_rules.or_default(),
            forwarding_targets: raw.forwarding_targets.or_default(),
            forwarding_pattern_bytes: octets(&raw.forwarding_pattern_bytes),
            notify_addresses: raw.notify_addresses.or_default(),
            auto_reply_interval: span(&raw.auto_reply_interval),
            auto_reply_message_bytes: octets(&raw.auto_reply_message_bytes),
        }
    }

    fn range(&mut self, raw: &Field<RawRange>) -> Range {
        let section = raw.or_default();
        let range = Range {
            min: section.min.or_default(),
            max: section.max.or_default(),
        };
        if range.min > range.max {
            self.value(raw.key(), "`min` is more than `max`");
        }
        range
    }

    fn logging(&mut self, raw: &RawLogging) -> Logging {
        let logging = logging(raw);
        if logging.target == LogTarget::Journald && logging.format == LogFormat::Json {
            let message = "`format: json` is for `target: stderr` only";
            let help = "the journal keeps fields of its own: leave `format` out";
            self.report
                .error_help("conflict", raw.format.place(), message, help);
        }
        logging
    }

    fn control(&mut self, raw: &RawControl) -> Control {
        let mode = raw.mode.or_default();
        let octal = mode.len() <= 4 && mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let bits = u32::from_str_radix(&mode, 8)
            .ok()
            .filter(|bits| octal && *bits <= 0o777);
        if bits.is_none() {
            self.value(
                raw.mode.place(),
                "a file mode is three octal digits, as in \"0660\"",
            );
        }
        Control {
            socket: self.path(&raw.socket),
            mode: bits.unwrap_or(0o660),
        }
    }

    fn path(&mut self, field: &Field<FilePath>) -> PathBuf {
        let FilePath(written) = field.or_default();
        if written.is_empty() || written.contains('\0') {
            self.value(field.place(), "a path is wanted");
        }
        self.report.folder(field.place()).join(written)
    }

    fn value(&mut self, at: Place, words: &str) {
        self.report.error("value", at, words);
    }
}

fn span(field: &Field<Span>) -> Duration {
    let Text(NonZero(Time(span))) = field.or_default();
    span
}

fn octets(field: &Field<Room>) -> u64 {
    let Text(NonZero(Size(size))) = field.or_default();
    size
}

fn count(field: &Field<Count>) -> usize {
    let Count(number) = field.or_default();
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A domain as [`Address::key`] folds it; `None` when it is no mail domain.
fn domain_key(domain: &str) -> Option<String> {
    let address = Address::parse(&format!("x@{domain}")).ok()?;
    let key = address.key();
    let folded = key.strip_prefix("x@")?;
    let ascii = idna::domain_to_ascii(folded).ok()?;
    is_host(&ascii).then(|| folded.to_owned())
}

fn logging(raw: &RawLogging) -> Logging {
    Logging {
        target: match raw.target.or_default() {
            RawLogTarget::Journald => LogTarget::Journald,
            RawLogTarget::Stderr => LogTarget::Stderr,
        },
        format: match raw.format.or_default() {
            RawLogFormat::Logfmt => LogFormat::Logfmt,
            RawLogFormat::Json => LogFormat::Json,
        },
        level: match raw.level.or_default() {
            RawLogLevel::Error => LogLevel::Error,
            RawLogLevel::Warn => LogLevel::Warn,
            RawLogLevel::Info => LogLevel::Info,
            RawLogLevel::Debug => LogLevel::Debug,
            RawLogLevel::Trace => LogLevel::Trace,
        },
        redact: match raw.redact.or_default() {
            RawRedact::None => Redact::None,
            RawRedact::Subject => Redact::Subject,
            RawRedact::Addresses => Redact::Addresses,
        },
    }
}
