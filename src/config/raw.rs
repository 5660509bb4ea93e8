//! The daemon file as written. `config/sekimori.yaml` shows each key with its meaning.

use serde::Deserialize;

use super::field::Field;
use super::lines::Lines;
use super::mailbox::RawMailbox;
use super::settings::{Endpoint, NamedAddress, SecretSource};
use super::text::{Mail, Size, Text, Time};
use crate::smtp::{Cidr, ListenAddress};

macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident { $($(#[$key_doc:meta])* $key:ident: $value:ty),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub(crate) struct $name { $($(#[$key_doc])* pub(crate) $key: Field<$value>),+ }
        )+
    };
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($word:ident),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
            #[serde(rename_all = "snake_case")]
            pub(crate) enum $name { $($word),+ }
        )+
    };
}

sections! {
    /// The whole file.
    RawConfig {
        version: u64,
        server: RawServer,
        mailboxes: RawMailboxes,
        announcement_senders: Lines,
        announcement_senders_file: String,
        delivery: RawDelivery,
        relay: RawRelay,
        trust: RawTrust,
        scanners: RawScanners,
        store: RawStore,
        quarantine: RawQuarantine,
        history: RawHistory,
        limits: RawLimits,
        logging: RawLogging,
        metrics: RawMetrics,
        control: RawControl,
    }
    /// `server`.
    RawServer {
        hostname: String,
        default_domain: String,
        listeners: Vec<Field<RawListener>>,
        tls: RawTls,
        timeouts: RawTimeouts,
        limits: RawServerLimits,
    }
    /// One of `server.listeners`.
    RawListener {
        name: String,
        protocol: RawProtocol,
        listen: Text<ListenAddress>,
        clients: Vec<Field<Text<Cidr>>>,
        tls: RawListenerTls,
        bare_newline: RawBareNewline,
        max_connections: u64,
    }
    /// `server.tls`.
    RawTls {
        certificate_file: String,
        key_file: String,
    }
    /// `server.timeouts`.
    RawTimeouts {
        command: Text<Time>,
        data_block: Text<Time>,
        final_reply: Text<Time>,
        shutdown_grace: Text<Time>,
    }
    /// `server.limits`.
    RawServerLimits {
        message_size: Text<Size>,
        recipients: u64,
        mime_parts: u64,
        mime_depth: u64,
        header_fields: u64,
        header_bytes: Text<Size>,
        memory: Text<Size>,
        errors: u64,
    }
    /// `mailboxes`.
    RawMailboxes {
        dir: String,
        domains: Vec<Field<String>>,
        writable: bool,
        unknown: RawUnknown,
        watch: bool,
        address_extension: String,
        cache: Text<Size>,
        defaults: RawMailbox,
    }
    /// `delivery`.
    RawDelivery {
        method: RawMethod,
        lmtp: RawNextHop,
        smtp: RawNextHop,
        maildir: RawMaildir,
    }
    /// `delivery.lmtp`, `delivery.smtp`.
    RawNextHop {
        address: Text<Endpoint>,
        timeout: Text<Time>,
        max_connections: u64,
    }
    /// `delivery.maildir`.
    RawMaildir {
        path: String,
        fsync: bool,
    }
    /// `relay`.
    RawRelay {
        host: String,
        port: u64,
        tls: RawRelayTls,
        auth: RawAuth,
        timeout: Text<Time>,
        max_connections: u64,
        min_interval: Text<Time>,
        per_minute: u64,
        retry: RawRetry,
        from: Text<NamedAddress>,
        reply_to: Text<Mail>,
        signature: RawSignature,
    }
    /// `relay.auth`.
    RawAuth {
        mechanism: RawMechanism,
        username: String,
        password_file: String,
    }
    /// `relay.retry`.
    RawRetry {
        first: Text<Time>,
        factor: f64,
        longest: Text<Time>,
        give_up: Text<Time>,
    }
    /// `relay.signature`.
    RawSignature {
        ja: String,
        en: String,
    }
    /// `trust`.
    RawTrust {
        srs: RawSrs,
        sign: RawSign,
        verify: RawVerify,
        authserv_id: String,
    }
    /// `trust.srs`.
    RawSrs {
        enabled: bool,
        domain: String,
        secret_file: Text<SecretSource>,
    }
    /// `trust.sign`.
    RawSign {
        enabled: bool,
        domain: String,
        selector: String,
        key_file: Text<SecretSource>,
    }
    /// `scanners`.
    RawScanners {
        virus: RawVirusScanner,
        spam: RawSpamScanner,
    }
    /// `scanners.virus`.
    RawVirusScanner {
        engine: RawVirusEngine,
        address: Text<Endpoint>,
        timeout: Text<Time>,
        max_size: Text<Size>,
        on_error: RawOnError,
        upstream: RawVirusUpstream,
        keep_original: bool,
    }
    /// `scanners.virus.upstream`.
    RawVirusUpstream {
        header: String,
        infected: String,
    }
    /// `scanners.spam`.
    RawSpamScanner {
        engine: RawSpamEngine,
        address: String,
        timeout: Text<Time>,
        max_size: Text<Size>,
        on_error: RawOnError,
        upstream: RawSpamUpstream,
    }
    /// `scanners.spam.upstream`.
    RawSpamUpstream {
        header: String,
        spam: String,
    }
    /// `store`.
    RawStore {
        path: String,
    }
    /// `quarantine`.
    RawQuarantine {
        retention: Text<Time>,
        max_size: Text<Size>,
        notice: RawNoticeTime,
    }
    /// `quarantine.notice`.
    RawNoticeTime {
        daily_at: String,
        timezone: String,
    }
    /// `history`.
    RawHistory {
        retention: Text<Time>,
    }
    /// `limits`.
    RawLimits {
        from_suffix_chars: RawRange,
        subject_chars: RawRange,
        entries_per_submission: u64,
        entries_total: u64,
        forwarding_rules: u64,
        forwarding_targets: u64,
        forwarding_pattern_bytes: Text<Size>,
        notify_addresses: u64,
        auto_reply_interval: Text<Time>,
        auto_reply_message_bytes: Text<Size>,
    }
    /// `limits.*_chars`.
    RawRange {
        min: u64,
        max: u64,
    }
    /// `logging`.
    RawLogging {
        target: RawLogTarget,
        format: RawLogFormat,
        level: RawLogLevel,
        redact: RawRedact,
    }
    /// `metrics`.
    RawMetrics {
        listen: String,
    }
    /// `control`.
    RawControl {
        socket: String,
        mode: String,
    }
}

words! {
    /// `protocol` of a listener.
    RawProtocol { Lmtp, Smtp }
    /// `tls` of a listener.
    RawListenerTls { None, Starttls, Implicit }
    /// `bare_newline` of a listener.
    RawBareNewline { Normalize, Reject }
    /// `mailboxes.unknown`.
    RawUnknown { Accept, Reject }
    /// `delivery.method`.
    RawMethod { Maildir, Lmtp, Smtp }
    /// `relay.tls`.
    RawRelayTls { None, Opportunistic, Starttls, Implicit }
    /// `relay.auth.mechanism`.
    RawMechanism { None, Plain, Login, Xoauth2 }
    /// `trust.verify`.
    RawVerify { Off, Upstream, Dns }
    /// `scanners.virus.engine`.
    RawVirusEngine { Off, Upstream, Clamd }
    /// `scanners.spam.engine`.
    RawSpamEngine { Off, Upstream, Rspamd, Spamd }
    /// `scanners.*.on_error`.
    RawOnError { Tempfail, Deliver, Quarantine }
    /// `logging.target`.
    RawLogTarget { Journald, Stderr }
    /// `logging.format`.
    RawLogFormat { Logfmt, Json }
    /// `logging.level`.
    RawLogLevel { Error, Warn, Info, Debug, Trace }
    /// `logging.redact`.
    RawRedact { None, Subject, Addresses }
}
