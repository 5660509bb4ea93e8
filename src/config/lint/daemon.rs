//! The daemon file: transport security, secrets, places that lead back to ourselves, and the
//! defaults of all mailboxes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::UnixTime;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};

use super::super::default_mailbox;
use super::super::error::Severity;
use super::super::field::Field;
use super::super::patterns::{self, NamedList, read_text};
use super::super::raw::{RawAuth, RawConfig, RawDelivery, RawListener, RawMechanism, RawRelay};
use super::super::setting::Written as _;
use super::super::settings::{Delivery, Endpoint, ListenerTls, RelayTls, SecretSource};
use super::super::source::{Place, Report};
use super::super::text::{FilePath, Text};
use super::lists::{self, Use};
use super::{Scope, mailbox, scanners};
use crate::mail::fold::fold_address;
use crate::mail::{Address, Protocol};
use crate::smtp::ListenAddress;

/// A certificate is renewed a month before its end, as a rule; seconds.
const SOON: u64 = 14 * 86_400;
/// A password or key is read up to this, octets.
const MOST_SECRET_BYTES: u64 = 1 << 20;

/// Looks at a daemon file.
pub(in super::super) fn daemon(report: &mut Report, scope: Scope<'_>, raw: &RawConfig) {
    let server = raw.server.or_default();
    let items = server.listeners.get().into_iter().flatten();
    for (item, made) in items.zip(&scope.config.server.listeners) {
        let raw = item.or_default();
        listener(report, &raw, (&made.listen, made.protocol, made.tls));
    }
    certificate(report, scope, &server.tls.or_default().certificate_file);
    let relay = raw.relay.or_default();
    relay_port(report, scope, &relay);
    relay_secret(report, &relay.auth.or_default());
    trust_secrets(report, raw);
    scanners::scanners(report, scope, raw);
    loops(report, scope, &relay, &raw.delivery.or_default());
    retry(report, scope, &relay);
    quarantine(report, scope, raw);
    control(report, scope, raw);
    let default = &server.default_domain;
    let bare = Address::parse(&format!("x@{}", scope.config.server.default_domain));
    if scope.is_here(default) && bare.is_ok_and(|bare| !scope.ours.serves(&bare.key())) {
        let message = "a bare local part is always refused: this is not in `mailboxes.domains`";
        report.warning("foreign-domain", default.place(), message, "add it there");
    }
    let list = NamedList {
        name: "announcement_senders",
        here: &raw.announcement_senders,
        file: &raw.announcement_senders_file,
    };
    let senders = scope.entries(report, list, fold_address);
    if !senders.is_empty() {
        let lines = patterns::again(report, list);
        patterns::check_duplicates(report, &lines, fold_address, Severity::Warning);
    }
    lists::endings(report, &senders, Use::Allow);
    lists::covered_endings(report, &senders, Use::Allow);
    if let Ok(nobody) = Address::parse("nobody@localhost") {
        let made = default_mailbox(scope.config, &nobody);
        let defaults = &scope.config.mailboxes.defaults;
        mailbox::shared(report, scope, defaults, &made, &[]);
    }
}

/// RFC 8314: 465 speaks TLS from the first octet, 25 and 587 do not.
fn listener(
    report: &mut Report,
    raw: &RawListener,
    (listen, protocol, tls): (&ListenAddress, Protocol, ListenerTls),
) {
    let ListenAddress::Tcp { port, .. } = listen else {
        return;
    };
    let at = raw.listen.place().or(raw.tls.place());
    match (port, protocol, tls) {
        (465, Protocol::Smtp, ListenerTls::None | ListenerTls::Starttls) => {
            let message = "clients of port 465 begin with TLS, this listener does not";
            report.warning("tls-port", at, message, "write `tls: implicit`");
        }
        (25 | 587, Protocol::Smtp, ListenerTls::Implicit) => {
            let message = format!("clients of port {port} do not begin with TLS");
            let help = "write `tls: starttls`, or use port 465";
            report.warning("tls-port", at, message, help);
        }
        _ => {}
    }
}

fn relay_port(report: &mut Report, scope: Scope<'_>, raw: &RawRelay) {
    let relay = &scope.config.relay;
    let at = raw.port.place().or(raw.tls.place());
    let (message, help) = match (relay.port, relay.tls) {
        (465, tls) if tls != RelayTls::Implicit => (
            "port 465 speaks TLS from the first octet".to_owned(),
            "write `tls: implicit`",
        ),
        (25 | 587, RelayTls::Implicit) => (
            format!("port {} does not begin with TLS", relay.port),
            "write `tls: starttls`, or use port 465",
        ),
        (587, RelayTls::None) if !is_loopback(&relay.host) => (
            "port 587 wants STARTTLS".to_owned(),
            "write `tls: starttls`",
        ),
        _ => return,
    };
    report.warning("tls-port", at, message, help);
}

fn relay_secret(report: &mut Report, raw: &RawAuth) {
    let used = raw
        .mechanism
        .get()
        .is_some_and(|m| *m != RawMechanism::None);
    let source = raw.password_file.get().and_then(|path| path.0.parse().ok());
    if let (true, Some(source)) = (used, source) {
        secret(report, raw.password_file.place(), source);
    }
}

fn trust_secrets(report: &mut Report, raw: &RawConfig) {
    let trust = raw.trust.or_default();
    let (srs, sign) = (trust.srs.or_default(), trust.sign.or_default());
    for (enabled, file) in [
        (srs.enabled, srs.secret_file),
        (sign.enabled, sign.key_file),
    ] {
        if let (Some(true), Some(Text(source))) = (enabled.value, &file.value) {
            secret(report, file.place(), source.clone());
        }
    }
}

/// A secret that is there, for the daemon alone.
pub(super) fn secret(report: &mut Report, at: Place, source: SecretSource) {
    // A credential exists while the service runs.
    let SecretSource::File(path) = source.below(report.folder(at)) else {
        return;
    };
    warn_of_open(report, at, &path);
    match read_text(&path, MOST_SECRET_BYTES) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => {
            let message = format!("{} is empty", path.display());
            report.warning("empty-secret", at, message, "write the secret into it");
        }
        Ok(_) => {}
        Err(why) => {
            let message = format!("{}: {why}", path.display());
            let help = "the daemon's user must be able to read it";
            report.warning("unreadable", at, message, help);
        }
    }
}

/// Says so when every user of the machine can reach a secret.
pub(in super::super) fn warn_of_open(report: &mut Report, at: Place, path: &Path) {
    let mode = path.metadata().map(|found| found.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o007 != 0) {
        let message = format!("every user of this machine can reach {}", path.display());
        report.warning("open-secret", at, message, "`chmod o=` it");
    }
}

fn certificate(report: &mut Report, scope: Scope<'_>, field: &Field<FilePath>) {
    let Some(Ok(certified)) = &scope.config.server.tls else {
        return;
    };
    let Some(Ok(own)) = certified.cert.first().map(ParsedCertificate::try_from) else {
        return;
    };
    // Its dates are looked at before its issuer, whom nobody here needs to know.
    let algorithms = ring::default_provider()
        .signature_verification_algorithms
        .all;
    let verdict = |now: u64| {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let roots = RootCertStore::empty();
        match verify_server_cert_signed_by_trust_anchor(&own, &roots, &[], now, algorithms) {
            Err(rustls::Error::InvalidCertificate(why)) => Some(why),
            _ => None,
        }
    };
    let now = u64::try_from(scope.now).unwrap_or_default();
    let day = |time: UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |t| t.to_string())
    };
    let message = match (verdict(now), verdict(now + SOON)) {
        (Some(CertificateError::ExpiredContext { not_after, .. }), _) => {
            format!("the certificate ended at {}", day(not_after))
        }
        (Some(CertificateError::NotValidYetContext { not_before, .. }), _) => {
            format!("the certificate begins at {}", day(not_before))
        }
        (_, Some(CertificateError::ExpiredContext { not_after, .. })) => {
            format!("the certificate ends soon, at {}", day(not_after))
        }
        _ => return,
    };
    let help = "put a new one there and reload: clients refuse it otherwise";
    report.warning("certificate-date", field.place(), message, help);
}

/// Mail that we hand on must not come back in.
fn loops(report: &mut Report, scope: Scope<'_>, relay: &RawRelay, delivery: &RawDelivery) {
    let help = "name the server that takes the mail from here";
    let config = scope.config;
    let port = config.relay.port;
    if let Some(name) = listener_at(scope, &config.relay.host, port) {
        let at = relay.port.place().or(relay.host.place());
        let message = format!("this is our own listener `{name}`: what is sent comes back in");
        report.warning("own-listener", at, message, help);
    }
    let (hop, at) = match &config.delivery {
        Delivery::Lmtp(hop) => (hop, delivery.lmtp.or_default().address.place()),
        Delivery::Smtp(hop) => (hop, delivery.smtp.or_default().address.place()),
        Delivery::Maildir { .. } => return,
    };
    let name = match &hop.address {
        Endpoint::Tcp { host, port } => listener_at(scope, host, *port),
        Endpoint::Unix(path) => {
            let mut listeners = config.server.listeners.iter();
            let own = listeners.find(|own| match &own.listen {
                ListenAddress::Unix(listen) => Path::new(listen) == path,
                _ => false,
            });
            own.map(|own| own.name.as_str())
        }
    };
    if let Some(name) = name {
        let message = format!("this is our own listener `{name}`: kept mail would come back in");
        let at = at.or(delivery.method.place());
        report.warning("own-listener", at, message, help);
    }
}

/// The listener that answers there, as far as words tell.
fn listener_at<'a>(scope: Scope<'a>, wanted: &str, wanted_port: u16) -> Option<&'a str> {
    let mut listeners = scope.config.server.listeners.iter();
    let found = listeners.find(|own| match &own.listen {
        ListenAddress::Tcp { host, port } => {
            let here = host == wanted || is_loopback(wanted) && is_here(host);
            here && *port == wanted_port
        }
        _ => false,
    });
    found.map(|own| own.name.as_str())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "::1" || host.starts_with("127.")
}

fn is_here(host: &str) -> bool {
    is_loopback(host) || host == "0.0.0.0" || host == "::"
}

fn retry(report: &mut Report, scope: Scope<'_>, raw: &RawRelay) {
    let retry = &scope.config.relay.retry;
    if retry.give_up <= retry.first {
        let section = raw.retry.or_default();
        let at = section.give_up.place().or(section.first.place());
        let message = "given up before the second try: `give_up` is not more than `first`";
        report.warning("no-retry", at, message, "let `give_up` be days");
    }
}

fn quarantine(report: &mut Report, scope: Scope<'_>, raw: &RawConfig) {
    let most = scope.config.server.limits.message_size;
    if scope.config.quarantine.max_size < most {
        let at = raw.quarantine.or_default().max_size.place();
        let at = at.or(raw
            .server
            .or_default()
            .limits
            .or_default()
            .message_size
            .place());
        let message = "a mail up to `message_size` may be larger than all of the quarantine";
        let help = "let `quarantine.max_size` be many times `server.limits.message_size`";
        report.warning("quarantine-size", at, message, help);
    }
}

fn control(report: &mut Report, scope: Scope<'_>, raw: &RawConfig) {
    if scope.config.control.mode & 0o007 != 0 {
        let at = raw.control.or_default().mode.place();
        let message = "every user of this machine may read and release held mail";
        report.warning("open-control", at, message, "write `mode: \"0660\"`");
    }
}
