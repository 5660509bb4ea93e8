//! What the daemon needs of its file: typed, complete, defaults filled in, paths resolved.
//!
//! Made by [`super::load`] and [`super::Config::parse`] only. Each struct mirrors a section of
//! `config/sekimori.yaml`, where the comment of each key states its meaning. Durations are real
//! durations, sizes octets, relative paths already joined to the file's folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::mailbox::RawMailbox;
use super::tls::Certificate;
use crate::mail::{Address, Protocol};
pub use crate::policy::OnError;
use crate::policy::{AllowSet, Language};
use crate::smtp::{BareNewline, Cidr, ListenAddress};

/// The daemon file, ready for use.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from; a made-up name for embedded text.
    pub path: PathBuf,
    /// Names the contents of the file and of the files of its lists: 16 hexadecimal digits.
    pub generation: String,
    /// `server`.
    pub server: Server,
    /// `mailboxes`.
    pub mailboxes: Mailboxes,
    /// `announcement_senders`; empty = none.
    pub announcement_senders: Arc<AllowSet>,
    /// `delivery`.
    pub delivery: Delivery,
    /// `relay`.
    pub relay: Relay,
    /// `scanners`.
    pub scanners: Scanners,
    /// `store`.
    pub store: Store,
    /// `quarantine`.
    pub quarantine: Quarantine,
    /// `history`.
    pub history: History,
    /// `limits`.
    pub limits: Limits,
    /// `logging`.
    pub logging: Logging,
    /// `control`.
    pub control: Control,
}

/// `server`.
#[derive(Debug, Clone)]
pub struct Server {
    /// Greeting, `Received:`, Message-ID of own mail.
    pub hostname: String,
    /// Completes a bare local part.
    pub default_domain: String,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// `tls`; there when a listener needs it.
    pub tls: Option<Certificate>,
    /// `timeouts`.
    pub timeouts: Timeouts,
    /// `limits`.
    pub limits: ServerLimits,
}

/// One of `server.listeners`.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Unique among the listeners.
    pub name: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// Where.
    pub listen: ListenAddress,
    /// Who may connect (TCP only); these are the trusted clients.
    pub clients: Vec<Cidr>,
    /// `tls`.
    pub tls: ListenerTls,
    /// What becomes of a bare CR or LF in the data.
    pub bare_newline: BareNewline,
    /// 1 or more.
    pub max_connections: usize,
}

/// `tls` of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerTls {
    /// In the clear.
    None,
    /// Once the client asks for it.
    Starttls,
    /// From the first octet.
    Implicit,
}

/// A place to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `host:port`; the host may be a name or an address without brackets.
    Tcp {
        /// Name or address.
        host: String,
        /// 1-65535.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// `server.timeouts`.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For one command.
    pub command: Duration,
    /// Between two blocks of data.
    pub data_block: Duration,
    /// From the final dot to the reply.
    pub final_reply: Duration,
    /// For open sessions after SIGTERM.
    pub shutdown_grace: Duration,
}

/// `server.limits`. Sizes in octets.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Of one mail.
    pub message_size: u64,
    /// Of one mail.
    pub recipients: usize,
    /// Parts of one mail.
    pub mime_parts: usize,
    /// Nesting of parts.
    pub mime_depth: usize,
    /// Fields of one header.
    pub header_fields: usize,
    /// Of one header.
    pub header_bytes: u64,
    /// All mail in flight.
    pub memory: u64,
    /// Protocol errors before 421.
    pub errors: usize,
}

/// `mailboxes`.
#[derive(Debug, Clone)]
pub struct Mailboxes {
    /// The folder of the mailbox files.
    pub dir: PathBuf,
    /// Domains served, folded as [`Address::key`] folds; empty = any.
    pub domains: Vec<String>,
    /// CLI and portal may write mailbox files.
    pub writable: bool,
    /// What becomes of a mailbox without a file.
    pub unknown: Unknown,
    /// A changed file counts within a second.
    pub watch: bool,
    /// Separator of address extensions; `None` = off.
    pub address_extension: Option<char>,
    /// Octets of compiled settings kept in memory (approximate).
    pub cache: u64,
    /// `defaults`, as written: below each mailbox file.
    pub(crate) defaults: Arc<RawMailbox>,
}

/// What becomes of a mailbox without a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It has the defaults.
    Accept,
    /// `550 5.1.1`.
    Reject,
}

/// `delivery`: where kept mail goes.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// Into Maildirs.
    Maildir {
        /// `%{domain}` and `%{localpart}` stand for the mailbox's parts (to be percent-encoded);
        /// already joined to the file's folder.
        path: String,
        /// Files and folders are synced before the reply.
        fsync: bool,
    },
    /// To an LMTP server.
    Lmtp(NextHop),
    /// To an SMTP server.
    Smtp(NextHop),
}

/// `delivery.lmtp`, `delivery.smtp`.
#[derive(Debug, Clone)]
pub struct NextHop {
    /// Where.
    pub address: Endpoint,
    /// For each of connect, command and reply.
    pub timeout: Duration,
    /// 1 or more.
    pub max_connections: usize,
}

/// `relay`: where own mail and forwards go.
#[derive(Debug, Clone)]
pub struct Relay {
    /// Name or address.
    pub host: String,
    /// 1-65535.
    pub port: u16,
    /// Transport security.
    pub tls: RelayTls,
    /// Log-in; `None` = without.
    pub auth: Option<RelayAuth>,
    /// For each of connect, command and reply.
    pub timeout: Duration,
    /// 1 or more.
    pub max_connections: usize,
    /// Pause between two mails.
    pub min_interval: Duration,
    /// Mails a minute at most; 0 = no limit.
    pub per_minute: u32,
    /// When a try failed.
    pub retry: Retry,
    /// From of own mail.
    pub from: NamedAddress,
    /// Reply-To of own mail.
    pub reply_to: Option<Address>,
    /// Text below own mail.
    pub signature: Signature,
}

/// `relay.tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayTls {
    /// In the clear.
    None,
    /// STARTTLS where offered, any certificate.
    Opportunistic,
    /// STARTTLS required, certificate checked.
    Starttls,
    /// TLS from the first octet, certificate checked.
    Implicit,
}

/// `relay.auth`.
#[derive(Debug, Clone)]
pub struct RelayAuth {
    /// How.
    pub mechanism: Mechanism,
    /// Who.
    pub username: String,
    /// Where the password or token is.
    pub password: SecretSource,
}

/// `relay.auth.mechanism`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The old `LOGIN`.
    Login,
    /// OAuth 2 bearer token.
    Xoauth2,
}

/// Where a secret is kept; it is never part of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file; one trailing line end does not count.
    File(PathBuf),
    /// `credential:NAME`: a file of that name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl SecretSource {
    /// Where the file is.
    ///
    /// # Errors
    /// Words for the operator, when this process was started without credentials.
    pub fn path(&self) -> Result<PathBuf, String> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(folder) => Ok(PathBuf::from(folder).join(name)),
                None => Err(format!(
                    "credential:{name}: no $CREDENTIALS_DIRECTORY (LoadCredential= in the unit sets it)"
                )),
            },
        }
    }
}

/// `relay.retry`.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Pause after the first failure.
    pub first: Duration,
    /// Each further pause is so many times the one before; 1 or more.
    pub factor: f64,
    /// No pause is longer.
    pub longest: Duration,
    /// After this it has failed for good.
    pub give_up: Duration,
}

/// A display name and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAddress {
    /// May be empty.
    pub name: String,
    /// The address.
    pub address: Address,
}

/// `relay.signature`.
#[derive(Debug, Clone)]
pub struct Signature {
    /// For owners whose language is Japanese.
    pub ja: String,
    /// For owners whose language is English.
    pub en: String,
}

impl Signature {
    /// The one of a language.
    pub fn of(&self, language: Language) -> &str {
        match language {
            Language::Ja => &self.ja,
            Language::En => &self.en,
        }
    }
}

/// `scanners`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanners {
    /// `virus`.
    pub virus: Scanner,
    /// `spam`.
    pub spam: Scanner,
    /// `spam.learn`; `None` = off.
    pub learn: Option<Learn>,
    /// `virus.keep_original`: the infected original is held.
    pub keep_original: bool,
}

/// One scanner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanner {
    /// Which.
    pub engine: Engine,
    /// Larger mail is not scanned; octets.
    pub max_size: u64,
    /// For one mail.
    pub timeout: Duration,
    /// What becomes of a mail when the scanner fails.
    pub on_error: OnError,
}

/// `scanners.*.engine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// Nothing is scanned.
    Off,
    /// A header field that the MTA's own scanner wrote.
    Upstream {
        /// Field name.
        header: String,
        /// The value that means virus or spam begins with this, in any case.
        value: String,
    },
    /// ClamAV's daemon; virus only.
    Clamd(Endpoint),
    /// rspamd's normal worker; spam only.
    Rspamd(Endpoint),
    /// SpamAssassin's daemon; spam only.
    Spamd(Endpoint),
}

/// `scanners.spam.learn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learn {
    /// rspamd's controller, or spamd.
    pub address: Endpoint,
    /// Of rspamd's controller.
    pub password: Option<SecretSource>,
}

/// `store`.
#[derive(Debug, Clone)]
pub struct Store {
    /// The folder of sled and the blob files.
    pub path: PathBuf,
}

/// `quarantine`.
#[derive(Debug, Clone)]
pub struct Quarantine {
    /// Exactly so long.
    pub retention: Duration,
    /// Octets; full = `452 4.3.1` for new ones.
    pub max_size: u64,
    /// When the daily notices go out.
    pub notice: NoticeTime,
}

/// `quarantine.notice`.
#[derive(Debug, Clone)]
pub struct NoticeTime {
    /// Time of day.
    pub daily_at: jiff::civil::Time,
    /// Where.
    pub timezone: jiff::tz::TimeZone,
}

/// `history`.
#[derive(Debug, Clone, Copy)]
pub struct History {
    /// Of the why-records.
    pub retention: Duration,
}

/// `limits`: those of the manual.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Code points of an address ending.
    pub from_suffix_chars: Range,
    /// Code points of a Subject entry.
    pub subject_chars: Range,
    /// Entries of one list; 0 = no limit.
    pub entries_total: u64,
    /// Rules of a mailbox.
    pub forwarding_rules: u64,
    /// Targets of a rule.
    pub forwarding_targets: u64,
    /// UTF-8 octets of the entries of one list of one rule, plus one each.
    pub forwarding_pattern_bytes: u64,
    /// Addresses of a notice.
    pub notify_addresses: u64,
    /// A sender gets one reply in this time.
    pub auto_reply_interval: Duration,
    /// UTF-8 octets of a reply's text.
    pub auto_reply_message_bytes: u64,
}

/// Least and most, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Least.
    pub min: u64,
    /// Most.
    pub max: u64,
}

/// `logging`.
#[derive(Debug, Clone, Copy)]
pub struct Logging {
    /// Where to.
    pub target: LogTarget,
    /// How (stderr only).
    pub format: LogFormat,
    /// How much.
    pub level: LogLevel,
    /// What is left out.
    pub redact: Redact,
}

/// `logging.target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    /// systemd's journal.
    Journald,
    /// Standard error.
    Stderr,
}

/// `logging.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value`.
    Logfmt,
    /// An object a line.
    Json,
}

/// `logging.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// And warnings.
    Warn,
    /// And one event a recipient.
    Info,
    /// And each step.
    Debug,
    /// And each line.
    Trace,
}

impl LogLevel {
    /// As a `tracing` filter directive.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `logging.redact`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redact {
    /// Nothing.
    None,
    /// Subjects.
    Subject,
    /// Addresses and Subjects.
    Addresses,
}

/// `control`.
#[derive(Debug, Clone)]
pub struct Control {
    /// The Unix socket.
    pub socket: PathBuf,
    /// Its file mode.
    pub mode: u32,
}
