//! The daemon file: from what was written to [`Config`]. Every mistake is reported, none ends it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::{Offset, TimeZone};

use super::field::Field;
use super::mailbox::VERSION;
use super::patterns::{self, NamedList};
use super::raw::*;
use super::setting::{Setting as _, Written as _};
use super::settings::*;
use super::source::{Place, Report};
use super::text::{Count, FilePath, Mail, NonZero, Room, Size, Span, Text, Time, is_host};
use super::{compile_mailbox, read, tls};
use crate::mail::{Address, Protocol};
use crate::policy::AllowSet;
use crate::smtp::{BareNewline, Cidr, ListenAddress};

/// File 0 of the report over what is built in. `None` when there is too little to look at.
pub(crate) fn read(report: &mut Report) -> Option<RawConfig> {
    read::settings(report, 0).map(RawConfig::complete)
}

/// Compiles as well as it goes: the result counts only when the report has no error.
pub(crate) fn config(report: &mut Report, path: &Path, raw: &RawConfig) -> Option<Config> {
    version(report, &raw.version, 0);
    not_built(report, raw);
    let mut compile = Compile { report };
    let config = Config {
        path: path.to_owned(),
        generation: String::new(),
        server: compile.server(&raw.server.section())?,
        mailboxes: compile.mailboxes(&raw.mailboxes.section()),
        announcement_senders: compile.announcement_senders(raw),
        delivery: compile.delivery(&raw.delivery.section())?,
        relay: compile.relay(&raw.relay.section())?,
        scanners: compile.scanners(&raw.scanners.section()),
        store: Store {
            path: compile.path(&raw.store.section().path),
        },
        quarantine: compile.quarantine(&raw.quarantine.section()),
        history: History {
            retention: span(&raw.history.section().retention),
        },
        limits: compile.limits(&raw.limits.section()),
        logging: compile.logging(&raw.logging.section()),
        control: compile.control(&raw.control.section()),
    };
    compile_mailbox::check_defaults(report, &config, &raw.mailboxes.section().defaults);
    // Now all lists are read.
    let generation = report.generation("");
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
    let written = name.effective();
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
    let trust = raw.trust.section();
    let srs = trust.srs.section().enabled;
    if srs.get() == Some(&true) {
        refuse(srs.place(), "trust.srs", "write `enabled: false`");
    }
    let sign = trust.sign.section().enabled;
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
    let scanners = raw.scanners.section();
    let engine = scanners.virus.section().engine;
    if engine.get() == Some(&RawVirusEngine::Clamd) {
        refuse(engine.place(), "the engine clamd", "`off` or `upstream`");
    }
    let engine = scanners.spam.section().engine;
    if matches!(
        engine.get(),
        Some(RawSpamEngine::Rspamd | RawSpamEngine::Spamd)
    ) {
        refuse(engine.place(), "this engine", "`off` or `upstream`");
    }
    let listen = raw.metrics.section().listen;
    if listen.get().is_some_and(|listen| !listen.is_empty()) {
        refuse(listen.place(), "metrics", "write `listen: \"\"`");
    }
}

struct Compile<'a> {
    report: &'a mut Report,
}

impl Compile<'_> {
    fn server(&mut self, raw: &RawServer) -> Option<Server> {
        let hostname = raw.hostname.effective();
        if !is_host(&hostname) {
            self.value(
                raw.hostname.place(),
                "a host name is letters, digits, dots and hyphens",
            );
        }
        let default_domain = raw.default_domain.effective();
        if domain_key(&default_domain).is_none() {
            self.value(raw.default_domain.place(), "this is no mail domain");
        }
        let timeouts = raw.timeouts.section();
        let limits = raw.limits.section();
        let message_size = octets(&limits.message_size);
        let memory = octets(&limits.memory);
        if memory < message_size {
            let at = [limits.message_size.place(), limits.memory.place()];
            let at = at.into_iter().max_by_key(|at| at.line > 0);
            let message = "mail over `memory` is put off for ever, though `message_size` allows it";
            let help = "let `memory` be several times `message_size`";
            self.report
                .warning("memory", at.unwrap_or_default(), message, help);
        }
        Some(Server {
            hostname,
            default_domain,
            listeners: self.listeners(&raw.listeners, &raw.tls),
            tls: tls::certificate(self.report, &raw.tls),
            timeouts: Timeouts {
                command: span(&timeouts.command),
                data_block: span(&timeouts.data_block),
                final_reply: self.final_reply(&timeouts.final_reply),
                shutdown_grace: span(&timeouts.shutdown_grace),
            },
            limits: ServerLimits {
                message_size,
                recipients: count(&limits.recipients),
                mime_parts: count(&limits.mime_parts),
                mime_depth: count(&limits.mime_depth),
                header_fields: count(&limits.header_fields),
                header_bytes: octets(&limits.header_bytes),
                memory,
                errors: count(&limits.errors),
            },
        })
    }

    /// An MTA waits 10 minutes (RFC 5321 4.5.3.2.6); up to a minute each for memory and for a commit
    /// that has begun come on top of what is set.
    fn final_reply(&mut self, raw: &Field<Span>) -> Duration {
        let span = span(raw);
        if span > Duration::from_mins(8) {
            let message = "an MTA may have hung up before its reply comes";
            let help = "let `final_reply` be at most 8m";
            self.report
                .warning("final-reply", raw.place(), message, help);
        }
        span
    }

    fn listeners(
        &mut self,
        raw: &Field<Vec<Field<RawListener>>>,
        certificate: &Field<RawTls>,
    ) -> Vec<Listener> {
        let items = raw.section();
        if items.is_empty() {
            self.report
                .error("empty", raw.key(), "a server without a listener");
        }
        let mut names = HashSet::new();
        let mut places = Vec::new();
        let mut listeners = Vec::new();
        for item in &items {
            let Some(listener) = self.listener(&item.section()) else {
                continue;
            };
            let at = |field: Place| if field.line > 0 { field } else { item.place() };
            if !names.insert(listener.name.clone()) {
                let at = at(item.section().name.place());
                let message = format!("two listeners are named `{}`", listener.name);
                self.report
                    .error_help("duplicate", at, message, "give each a `name`");
            }
            if listener.tls != ListenerTls::None {
                self.listener_tls(&item.section(), &listener.listen, certificate);
            }
            let any_port = matches!(listener.listen, ListenAddress::Tcp { port: 0, .. });
            if !any_port && places.contains(&listener.listen) {
                let at = at(item.section().listen.place());
                self.report
                    .error("duplicate", at, "two listeners listen at the same place");
            }
            places.push(listener.listen.clone());
            listeners.push(listener);
        }
        listeners
    }

    fn listener(&mut self, raw: &RawListener) -> Option<Listener> {
        let protocol = match raw.protocol.effective() {
            RawProtocol::Lmtp => Protocol::Lmtp,
            RawProtocol::Smtp => Protocol::Smtp,
        };
        let Text(listen) = raw.listen.value.clone()?;
        let listen = listen.below(self.report.folder(raw.listen.place()));
        if protocol == Protocol::Lmtp && matches!(listen, ListenAddress::Tcp { port: 25, .. }) {
            let message = "LMTP on the port of SMTP (RFC 2033 section 5 forbids it)";
            let help = "use another port, or `protocol: smtp`";
            self.report
                .warning("lmtp-port", raw.listen.place(), message, help);
        }
        Some(Listener {
            name: raw.name.effective(),
            protocol,
            listen,
            clients: self.clients(&raw.clients.section()),
            tls: match raw.tls.effective() {
                RawListenerTls::None => ListenerTls::None,
                RawListenerTls::Starttls => ListenerTls::Starttls,
                RawListenerTls::Implicit => ListenerTls::Implicit,
            },
            bare_newline: match raw.bare_newline.effective() {
                RawBareNewline::Normalize => BareNewline::Normalize,
                RawBareNewline::Reject => BareNewline::Reject,
            },
            max_connections: count(&raw.max_connections),
        })
    }

    /// What a listener with TLS must have.
    fn listener_tls(
        &mut self,
        raw: &RawListener,
        listen: &ListenAddress,
        certificate: &Field<RawTls>,
    ) {
        let at = raw.tls.place();
        if matches!(listen, ListenAddress::Unix(_)) {
            let message = "TLS is for TCP, not for a Unix socket";
            self.report
                .error_help("conflict", at, message, "write `tls: none`");
        }
        if !tls::is_given(certificate) {
            let help = "set `server.tls: {certificate_file: PATH, key_file: PATH}`";
            self.report
                .error_help("missing", at, "TLS without a certificate", help);
        }
    }

    fn clients(&mut self, items: &[Field<Text<Cidr>>]) -> Vec<Cidr> {
        for item in items {
            if item
                .get()
                .is_some_and(|Text(network)| network.is_everything())
            {
                let message = "every host of the network is a trusted client";
                let help = "name the hosts of your MTA";
                self.report.warning("open", item.place(), message, help);
            }
        }
        items
            .iter()
            .filter_map(Field::get)
            .map(|Text(network)| *network)
            .collect()
    }

    fn mailboxes(&mut self, raw: &RawMailboxes) -> Mailboxes {
        let mut domains = Vec::new();
        for item in raw.domains.get().into_iter().flatten() {
            match item.get().map(|text| domain_key(text)) {
                Some(Some(domain)) if domains.contains(&domain) => {
                    let message = format!("{domain} is there already");
                    self.report.error("duplicate", item.place(), message);
                }
                Some(Some(domain)) => domains.push(domain),
                Some(None) => self.value(item.place(), "this is no mail domain"),
                None => {}
            }
        }
        let extension = raw.address_extension.effective();
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
            writable: raw.writable.effective(),
            unknown: match raw.unknown.effective() {
                RawUnknown::Accept => Unknown::Accept,
                RawUnknown::Reject => Unknown::Reject,
            },
            watch: raw.watch.effective(),
            address_extension: sign,
            cache: raw.cache.effective().0.0,
            defaults: Arc::new(raw.defaults.section()),
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

    fn delivery(&mut self, raw: &RawDelivery) -> Option<Delivery> {
        let lmtp = self.next_hop(&raw.lmtp.section())?;
        let smtp = self.next_hop(&raw.smtp.section())?;
        let maildir = self.maildir(&raw.maildir.section());
        Some(match raw.method.effective() {
            RawMethod::Maildir => maildir,
            RawMethod::Lmtp => Delivery::Lmtp(lmtp),
            RawMethod::Smtp => Delivery::Smtp(smtp),
        })
    }

    fn next_hop(&mut self, raw: &RawNextHop) -> Option<NextHop> {
        let Text(address) = raw.address.value.clone()?;
        Some(NextHop {
            address: address.below(self.report.folder(raw.address.place())),
            timeout: span(&raw.timeout),
            max_connections: count(&raw.max_connections),
        })
    }

    fn maildir(&mut self, raw: &RawMaildir) -> Delivery {
        let FilePath(written) = raw.path.effective();
        let rest = written.replace("%{domain}", "").replace("%{localpart}", "");
        if rest.contains("%{") {
            self.value(
                raw.path.place(),
                "`%{domain}` and `%{localpart}` are known here",
            );
        } else if !written.contains("%{localpart}") || !written.contains("%{domain}") {
            let message = "two mailboxes would have one Maildir";
            let help = "the path needs `%{domain}` and `%{localpart}`";
            self.report
                .warning("shared-maildir", raw.path.place(), message, help);
        }
        let path = self.report.folder(raw.path.place()).join(written);
        Delivery::Maildir {
            path: path.to_string_lossy().into_owned(),
            fsync: raw.fsync.effective(),
        }
    }

    fn relay(&mut self, raw: &RawRelay) -> Option<Relay> {
        let host = raw.host.effective();
        let ip = host.trim_start_matches('[').trim_end_matches(']');
        if !is_host(&host) && ip.parse::<core::net::IpAddr>().is_err() {
            self.value(raw.host.place(), "a host name or an address");
        }
        let tls = match raw.tls.effective() {
            RawRelayTls::None => RelayTls::None,
            RawRelayTls::Opportunistic => RelayTls::Opportunistic,
            RawRelayTls::Starttls => RelayTls::Starttls,
            RawRelayTls::Implicit => RelayTls::Implicit,
        };
        let Text(from) = raw.from.value.clone()?;
        let reply_to = raw.reply_to.value.clone();
        let signature = raw.signature.section();
        Some(Relay {
            host: ip.to_owned(),
            port: u16::try_from(raw.port.effective().0).ok()?,
            tls,
            auth: self.auth(&raw.auth, tls, ip),
            timeout: span(&raw.timeout),
            max_connections: count(&raw.max_connections),
            min_interval: raw.min_interval.effective().0.0,
            per_minute: u32::try_from(raw.per_minute.effective()).unwrap_or(u32::MAX),
            retry: self.retry(&raw.retry.section()),
            from,
            reply_to: reply_to.map(|Text(Mail(address))| address),
            signature: Signature {
                ja: signature.ja.effective(),
                en: signature.en.effective(),
            },
        })
    }

    fn auth(&mut self, raw: &Field<RawAuth>, tls: RelayTls, host: &str) -> Option<RelayAuth> {
        let auth = raw.section();
        let mechanism = match auth.mechanism.effective() {
            RawMechanism::None => return None,
            RawMechanism::Plain => Mechanism::Plain,
            RawMechanism::Login => Mechanism::Login,
            RawMechanism::Xoauth2 => Mechanism::Xoauth2,
        };
        let at = auth.mechanism.place();
        let username = auth.username.effective();
        let FilePath(password) = auth.password_file.effective();
        if username.is_empty() || password.is_empty() {
            let help = "set `username` and `password_file`, or `mechanism: none`";
            self.report
                .error_help("missing", at, "a log-in without its user or password", help);
            return None;
        }
        let local = host == "localhost" || host.starts_with("127.") || host == "::1";
        if matches!(tls, RelayTls::None | RelayTls::Opportunistic) && !local {
            let help = "use `tls: starttls` or `tls: implicit`";
            let message = match tls {
                RelayTls::None => "the password goes in the clear",
                _ => "the password goes to whoever answers, the certificate is not looked at",
            };
            self.report.warning("clear-password", at, message, help);
        }
        let password = match password.parse::<SecretSource>() {
            Ok(source) => source.below(self.report.folder(auth.password_file.place())),
            Err(words) => {
                self.value(auth.password_file.place(), words);
                return None;
            }
        };
        Some(RelayAuth {
            mechanism,
            username,
            password,
        })
    }

    fn retry(&mut self, raw: &RawRetry) -> Retry {
        let first = span(&raw.first);
        let longest = span(&raw.longest);
        if longest < first {
            let at = if raw.longest.is_given() {
                raw.longest.place()
            } else {
                raw.first.place()
            };
            self.value(at, "`longest` is shorter than `first`");
        }
        Retry {
            first,
            factor: raw.factor.effective().0,
            longest,
            give_up: span(&raw.give_up),
        }
    }

    fn scanners(&mut self, raw: &RawScanners) -> Scanners {
        let virus = raw.virus.section();
        let upstream = virus.upstream.section();
        let engine = match virus.engine.effective() {
            RawVirusEngine::Upstream => Engine::Upstream {
                header: self.field_name(&upstream.header),
                value: self.wanted(&upstream.infected),
            },
            RawVirusEngine::Off | RawVirusEngine::Clamd => Engine::Off,
        };
        let virus = Scanner {
            engine,
            max_size: octets(&virus.max_size),
            timeout: span(&virus.timeout),
            on_error: on_error(virus.on_error.effective()),
            keep_original: virus.keep_original.effective(),
        };
        let spam = raw.spam.section();
        let upstream = spam.upstream.section();
        let engine = match spam.engine.effective() {
            RawSpamEngine::Upstream => Engine::Upstream {
                header: self.field_name(&upstream.header),
                value: self.wanted(&upstream.spam),
            },
            RawSpamEngine::Off | RawSpamEngine::Rspamd | RawSpamEngine::Spamd => Engine::Off,
        };
        let spam = Scanner {
            engine,
            max_size: octets(&spam.max_size),
            timeout: span(&spam.timeout),
            on_error: on_error(spam.on_error.effective()),
            keep_original: true,
        };
        Scanners { virus, spam }
    }

    /// RFC 5322 3.6.8: printable ASCII but the colon.
    fn field_name(&mut self, field: &Field<String>) -> String {
        let name = field.effective();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            self.value(field.place(), "a header field name, without its colon");
        }
        name
    }

    fn wanted(&mut self, field: &Field<String>) -> String {
        let text = field.effective();
        if text.trim().is_empty() {
            self.report
                .error("empty", field.key(), "an empty text would match every mail");
        }
        text
    }

    fn quarantine(&mut self, raw: &RawQuarantine) -> Quarantine {
        let notice = raw.notice.section();
        let written = notice.daily_at.effective();
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
            entries_total: raw.entries_total.effective(),
            forwarding_rules: raw.forwarding_rules.effective(),
            forwarding_targets: raw.forwarding_targets.effective(),
            forwarding_pattern_bytes: octets(&raw.forwarding_pattern_bytes),
            notify_addresses: raw.notify_addresses.effective(),
            auto_reply_interval: span(&raw.auto_reply_interval),
            auto_reply_message_bytes: octets(&raw.auto_reply_message_bytes),
        }
    }

    fn range(&mut self, raw: &Field<RawRange>) -> Range {
        let section = raw.section();
        let range = Range {
            min: section.min.effective(),
            max: section.max.effective(),
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
        let mode = raw.mode.effective();
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
        let FilePath(written) = field.effective();
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
    let Text(NonZero(Time(span))) = field.effective();
    span
}

fn octets(field: &Field<Room>) -> u64 {
    let Text(NonZero(Size(size))) = field.effective();
    size
}

fn count(field: &Field<Count>) -> usize {
    let Count(number) = field.effective();
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

fn on_error(word: RawOnError) -> OnError {
    match word {
        RawOnError::Tempfail => OnError::Tempfail,
        RawOnError::Deliver => OnError::Deliver,
        RawOnError::Quarantine => OnError::Quarantine,
    }
}

fn logging(raw: &RawLogging) -> Logging {
    Logging {
        target: match raw.target.effective() {
            RawLogTarget::Journald => LogTarget::Journald,
            RawLogTarget::Stderr => LogTarget::Stderr,
        },
        format: match raw.format.effective() {
            RawLogFormat::Logfmt => LogFormat::Logfmt,
            RawLogFormat::Json => LogFormat::Json,
        },
        level: match raw.level.effective() {
            RawLogLevel::Error => LogLevel::Error,
            RawLogLevel::Warn => LogLevel::Warn,
            RawLogLevel::Info => LogLevel::Info,
            RawLogLevel::Debug => LogLevel::Debug,
            RawLogLevel::Trace => LogLevel::Trace,
        },
        redact: match raw.redact.effective() {
            RawRedact::None => Redact::None,
            RawRedact::Subject => Redact::Subject,
            RawRedact::Addresses => Redact::Addresses,
        },
    }
}
