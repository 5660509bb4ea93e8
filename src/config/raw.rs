//! The keys of the daemon file.

use super::field::Field;
use super::lines::Lines;
use super::mailbox::RawMailbox;
use super::number::{Count, Factor, Port};
use super::setting::{sections, words};
use super::settings::{Endpoint, NamedAddress, SecretSource};
use super::text::{FilePath, Mail, Room, Size, Span, Text, Time};
use crate::smtp::{Cidr, ListenAddress};

sections! {
    /// The whole file.
    RawConfig {
        /// the form of this file
        version: u64 = required, like "1";
        /// what comes in
        server: RawServer;
        /// whose mail, with which settings
        mailboxes: RawMailboxes;
        /// operator mail that mailboxes with `announcements: true` always get
        announcement_senders: Lines = "|\n  @announce.example.jp";
        /// the same from a text file, one a line
        announcement_senders_file: FilePath, or "PATH";
        /// kept mail
        delivery: RawDelivery;
        /// forwards, notices, auto-replies, reports
        relay: RawRelay;
        /// who sent it; not built yet
        trust: RawTrust;
        /// virus and spam
        scanners: RawScanners;
        /// what we keep
        store: RawStore;
        /// mail that is held
        quarantine: RawQuarantine;
        /// why-records
        history: RawHistory;
        /// from the manual; check, CLI and portal share them
        limits: RawLimits;
        /// events
        logging: RawLogging;
        /// counters
        metrics: RawMetrics;
        /// where the commands find the daemon
        control: RawControl;
    } lists(announcement_senders announcement_senders_file)

    /// `server`.
    RawServer {
        /// greeting, Received:, Message-ID of own mail
        hostname: String = "mx.example.jp";
        /// completes a bare local part
        default_domain: String = "east.example.jp", like "example.jp";
        /// at least one
        listeners: Vec<Field<RawListener>> = "[{}]";
        /// for listeners with TLS, PEM
        tls: RawTls;
        /// of a session
        timeouts: RawTimeouts;
        /// of a session and a mail
        limits: RawServerLimits;
    }

    /// One of `server.listeners`.
    RawListener {
        /// unique; left out: as `protocol`
        name: String, like "lmtp";
        /// what is spoken
        protocol: RawProtocol = "lmtp";
        /// host:port, [::1]:port, /path/to.sock or systemd:NAME
        listen: Text<ListenAddress> = "127.0.0.1:2424";
        /// who may connect (TCP); these are the trusted clients (XFORWARD, upstream headers)
        clients: Vec<Field<Text<Cidr>>> = r#"[127.0.0.0/8, "::1"]"#;
        /// for TCP; needs server.tls
        tls: RawListenerTls = "none";
        /// a bare CR or LF in the data; left out: normalize for lmtp, reject for smtp
        bare_newline: RawBareNewline, like "normalize";
        /// further clients are told 421
        max_connections: Count = "200";
    } then(by_protocol)

    /// `server.tls`.
    RawTls {
        /// the chain, own certificate first
        certificate_file: FilePath = r#""""#;
        /// file, or credential:NAME
        key_file: FilePath = r#""""#;
    }

    /// `server.timeouts`.
    RawTimeouts {
        /// for one command (RFC 5321 4.5.3.2)
        command: Span = "5m";
        /// between two blocks of data
        data_block: Span = "3m";
        /// then 451 4.4.5; far below Postfix lmtp_data_done_timeout (600 s)
        final_reply: Span = "4m";
        /// for open sessions after SIGTERM
        shutdown_grace: Span = "60s";
    }

    /// `server.limits`.
    RawServerLimits {
        /// of one mail; over it 552 5.3.4
        message_size: Room = "50MiB";
        /// of one mail
        recipients: Count = "1000";
        /// of one mail; over it the header fields alone decide
        mime_parts: Count = "1000";
        /// nesting of parts
        mime_depth: Count = "64";
        /// of one header
        header_fields: Count = "1000";
        /// of one header
        header_bytes: Room = "1MiB";
        /// all mail in flight; beyond it mail waits, 60 s at most, then 452 4.3.1
        memory: Room = "512MiB";
        /// protocol errors before the connection is closed with 421
        errors: Count = "20";
    }

    /// `mailboxes`.
    RawMailboxes {
        /// <dir>/<domain>/<localpart>.yaml
        dir: FilePath = "mailboxes";
        /// others are 550 5.1.2; empty = any
        domains: Vec<Field<String>> = "[]", like "[example.jp]";
        /// false = managed by you (git, Ansible); CLI and portal edits are refused
        writable: bool = "true";
        /// a mailbox without a settings file
        unknown: RawUnknown = "accept";
        /// a changed mailbox file counts within a second
        watch: bool = "true";
        /// taro+news@ has taro's settings; "" turns it off
        address_extension: String = r#""+""#;
        /// compiled settings kept in memory
        cache: Text<Size> = "64MiB";
        /// below each mailbox file; same keys but version, mailbox and aliases
        defaults: RawMailbox,
            like "language: ja\nspam: {scan: true, quarantine: true, notice: daily}\nvirus: {scan: true}";
    }

    /// `delivery`.
    RawDelivery {
        /// one of the three below
        method: RawMethod = "maildir";
        /// with `method: lmtp`
        lmtp: RawNextHop = "{address: /run/dovecot/lmtp}";
        /// with `method: smtp`
        smtp: RawNextHop = "{address: 127.0.0.1:10026}";
        /// with `method: maildir`
        maildir: RawMaildir;
    }

    /// `delivery.lmtp`, `delivery.smtp`.
    RawNextHop {
        /// path, or host:port
        address: Text<Endpoint>;
        /// for each of connect, command and reply
        timeout: Span = "5m";
        /// at the same time
        max_connections: Count = "20";
    }

    /// `delivery.maildir`.
    RawMaildir {
        /// of one mailbox
        path: FilePath = r#""mail/%{domain}/%{localpart}""#;
        /// files and folders are synced before the reply
        fsync: bool = "true";
    }

    /// `relay`.
    RawRelay {
        /// name or address of your MTA
        host: String = "127.0.0.1";
        /// 1-65535; usual: 25, 465 (tls: implicit), 587 (tls: starttls)
        port: Port = "25";
        /// the last two check the certificate
        tls: RawRelayTls = "none";
        /// left out: without a log-in
        auth: RawAuth;
        /// for each of connect, command and reply
        timeout: Span = "30s";
        /// at the same time
        max_connections: Count = "4";
        /// pause between two mails (send interval)
        min_interval: Text<Time> = "0s";
        /// mails; 0 = no limit
        per_minute: u64 = "600";
        /// when a try failed
        retry: RawRetry;
        /// From of own mail
        from: Text<NamedAddress> = r#""Mail filter <mailer-daemon@example.jp>""#;
        /// Reply-To of own mail
        reply_to: Text<Mail> = "postmaster@example.jp";
        /// text below own mail, by the owner's language
        signature: RawSignature;
    }

    /// `relay.auth`.
    RawAuth {
        /// of the log-in
        mechanism: RawMechanism = "none";
        /// user name
        username: String = r#""""#;
        /// password or token: file, or credential:NAME
        password_file: FilePath = r#""""#;
    }

    /// `relay.retry`.
    RawRetry {
        /// pause after the first failure
        first: Span = "1m";
        /// each further pause is so many times the one before; 1 to 100
        factor: Factor = "2";
        /// no pause is longer
        longest: Span = "1h";
        /// after this it has failed for good
        give_up: Span = "3d";
    }

    /// `relay.signature`.
    RawSignature {
        /// Japanese
        ja: String = r#""-- \nサンプルケーブル メールサービス""#;
        /// English
        en: String = r#""-- \nSample Cable mail service""#;
    }

    /// `trust`.
    RawTrust {
        /// forwards keep SPF; bounces find the way back
        srs: RawSrs;
        /// DKIM for own mail
        sign: RawSign;
        /// upstream reads the Authentication-Results of authserv_id; not built yet: only off
        verify: RawVerify = "off";
        /// whose Authentication-Results count
        authserv_id: String = "mx.example.jp";
    }

    /// `trust.srs`.
    RawSrs {
        /// not built yet: only false
        enabled: bool = "false";
        /// of the rewritten senders
        domain: String = "srs.example.jp";
        /// file, or credential:NAME
        secret_file: Text<SecretSource> = "srs.secret";
    }

    /// `trust.sign`.
    RawSign {
        /// not built yet: only false
        enabled: bool = "false";
        /// d= of the signature
        domain: String = "example.jp";
        /// s= of the signature
        selector: String = "s1";
        /// file, or credential:NAME
        key_file: Text<SecretSource> = "dkim.key";
    }

    /// `scanners`.
    RawScanners {
        /// stage 5
        virus: RawVirusScanner;
        /// stage 6
        spam: RawSpamScanner;
    }

    /// `scanners.virus`.
    RawVirusScanner {
        /// who looks
        engine: RawVirusEngine = "off";
        /// of clamd: path, or host:port
        address: Text<Endpoint> = "/run/clamav/clamd.ctl";
        /// for one mail
        timeout: Span = "60s";
        /// larger mail is not scanned, its header says so
        max_size: Room = "50MiB";
        /// when the scanner fails
        on_error: RawOnError = "tempfail";
        /// the field that your MTA's scanner writes
        upstream: RawVirusUpstream;
        /// in quarantine class virus
        keep_original: bool = "true";
    }

    /// `scanners.virus.upstream`.
    RawVirusUpstream {
        /// field name
        header: String = "X-Virus-Status";
        /// the value of a virus begins so
        infected: String = "Infected";
    }

    /// `scanners.spam`.
    RawSpamScanner {
        /// who looks
        engine: RawSpamEngine = "off";
        /// rspamd: http://host:port; spamd: path, or host:port
        address: String = "http://127.0.0.1:11333";
        /// for one mail
        timeout: Span = "30s";
        /// larger mail is not scanned
        max_size: Room = "10MiB";
        /// when the scanner fails
        on_error: RawOnError = "deliver";
        /// the field that your MTA's scanner writes
        upstream: RawSpamUpstream;
        /// whom `quarantine release --learn` tells that a mail is no spam
        learn: RawLearn;
    }

    /// `scanners.spam.upstream`.
    RawSpamUpstream {
        /// field name
        header: String = "X-Spam-Flag";
        /// the value of spam begins so
        spam: String = r#""YES""#;
    }

    /// `scanners.spam.learn`.
    RawLearn {
        /// rspamd's controller: http://host:port; spamd: path, or host:port; "" turns it off
        address: String = r#""""#;
        /// of rspamd's controller: file, or credential:NAME; "" = none
        password_file: FilePath = r#""""#;
    }

    /// `store`.
    RawStore {
        /// sled and blob files
        path: FilePath = "state";
    }

    /// `quarantine`.
    RawQuarantine {
        /// exactly so long
        retention: Span = "7d";
        /// full: new quarantine verdicts answer 452 4.3.1
        max_size: Room = "20GiB";
        /// the daily notices
        notice: RawNoticeTime;
    }

    /// `quarantine.notice`.
    RawNoticeTime {
        /// HH:MM
        daily_at: String = r#""07:00""#;
        /// IANA name
        timezone: String = "Asia/Tokyo";
    }

    /// `history`.
    RawHistory {
        /// exactly so long
        retention: Span = "7d";
    }

    /// `limits`.
    RawLimits {
        /// code points of an entry
        from_suffix_chars: RawRange = "{min: 1, max: 320}";
        /// code points of an entry
        subject_chars: RawRange = "{min: 2, max: 320}";
        /// portal form; 0 = no limit
        entries_per_submission: u64 = "20";
        /// of one list; 0 = no limit
        entries_total: u64 = "0";
        /// of a mailbox
        forwarding_rules: u64 = "10";
        /// of a rule
        forwarding_targets: u64 = "10";
        /// each list of each rule
        forwarding_pattern_bytes: Room = "100KiB";
        /// of a mailbox
        notify_addresses: u64 = "3";
        /// a sender gets one reply in this time
        auto_reply_interval: Span = "24h";
        /// of one text
        auto_reply_message_bytes: Room = "64KiB";
    }

    /// `limits.*_chars`.
    RawRange {
        /// least
        min: u64;
        /// most
        max: u64;
    }

    /// `logging`.
    RawLogging {
        /// where to
        target: RawLogTarget = "stderr";
        /// json is for stderr only
        format: RawLogFormat = "logfmt";
        /// how much
        level: RawLogLevel = "info";
        /// what is left out
        redact: RawRedact = "none";
    }

    /// `metrics`.
    RawMetrics {
        /// Prometheus, as 127.0.0.1:9424; not built yet: "" is off
        listen: String = r#""""#;
    }

    /// `control`.
    RawControl {
        /// Unix socket
        socket: FilePath = "control.sock";
        /// of the socket, octal, in quotes
        mode: String = r#""0660""#;
    }
}

words! {
    /// `protocol` of a listener.
    RawProtocol { Lmtp = "lmtp", Smtp = "smtp" }
    /// `tls` of a listener.
    RawListenerTls { None = "none", Starttls = "starttls", Implicit = "implicit" }
    /// `bare_newline` of a listener.
    RawBareNewline {
        /// to CRLF
        Normalize = "normalize",
        /// 550 5.6.11
        Reject = "reject",
    }
    /// `mailboxes.unknown`.
    RawUnknown {
        Accept = "accept",
        /// 550 5.1.1
        Reject = "reject",
    }
    /// `delivery.method`.
    RawMethod { Maildir = "maildir", Lmtp = "lmtp", Smtp = "smtp" }
    /// `relay.tls`.
    RawRelayTls {
        None = "none",
        Opportunistic = "opportunistic",
        Starttls = "starttls",
        Implicit = "implicit",
    }
    /// `relay.auth.mechanism`.
    RawMechanism { None = "none", Plain = "plain", Login = "login", Xoauth2 = "xoauth2" }
    /// `trust.verify`.
    RawVerify { Off = "off", Upstream = "upstream", Dns = "dns" }
    /// `scanners.virus.engine`.
    RawVirusEngine { Off = "off", Upstream = "upstream", Clamd = "clamd" }
    /// `scanners.spam.engine`.
    RawSpamEngine { Off = "off", Upstream = "upstream", Rspamd = "rspamd", Spamd = "spamd" }
    /// `scanners.*.on_error`.
    RawOnError { Tempfail = "tempfail", Deliver = "deliver", Quarantine = "quarantine" }
    /// `logging.target`.
    RawLogTarget { Journald = "journald", Stderr = "stderr" }
    /// `logging.format`.
    RawLogFormat { Logfmt = "logfmt", Json = "json" }
    /// `logging.level`.
    RawLogLevel {
        Error = "error",
        Warn = "warn",
        /// and one event a recipient
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
    /// `logging.redact`.
    RawRedact {
        None = "none",
        Subject = "subject",
        /// and Subjects
        Addresses = "addresses",
    }
}

/// A listener's name and its rule of bare line ends, where they are left out.
fn by_protocol(listener: RawListener) -> RawListener {
    let (name, bare_newline) = match listener.protocol.or_default() {
        RawProtocol::Lmtp => ("lmtp", RawBareNewline::Normalize),
        RawProtocol::Smtp => ("smtp", RawBareNewline::Reject),
    };
    RawListener {
        name: listener.name.or_built_in(name.to_owned()),
        bare_newline: listener.bare_newline.or_built_in(bare_newline),
        ..listener
    }
}
