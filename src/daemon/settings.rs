//! From the daemon file to the settings of each adapter.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use super::StartError;
use crate::config::{
    self, Config, Delivery, Diagnostic, RelayAuth, RelayTls, SecretSource, Severity,
};
use crate::deliver::{
    Auth, Endpoint, HopSettings, Maildir, MaildirSettings, Mechanism, NextHop, Pool, Protocol, Tls,
};
use crate::relay::{Hops, Relay, RelaySettings, Retry};
use crate::server::{CurrentCertificate, ListenerSettings, ListenerTls, Timeouts};
use crate::smtp::Limits;
use crate::store;

/// The store's settings.
pub fn store(config: &Config) -> store::Settings {
    store::Settings {
        path: config.store.path.clone(),
        quarantine_max_bytes: config.quarantine.max_size,
        history_retention_ms: i64::try_from(config.history.retention.as_millis())
            .unwrap_or(i64::MAX),
    }
}

/// The certificate of the TLS listeners, if there is one.
pub(super) fn certificate(config: &Config) -> Result<Option<Arc<CertifiedKey>>, StartError> {
    let read = config.server.tls.clone().transpose();
    read.map_err(|why| StartError::Settings(format!("server.tls: {why}")))
}

/// The listeners' settings; those with TLS show `certificate`.
pub(super) fn listeners(
    config: &Config,
    certificate: Option<&Arc<CurrentCertificate>>,
) -> Result<Vec<ListenerSettings>, StartError> {
    let listeners = config.server.listeners.iter();
    listeners
        .map(|one| listener(&config.server, one, certificate))
        .collect()
}

fn listener(
    server: &config::Server,
    listener: &config::Listener,
    certificate: Option<&Arc<CurrentCertificate>>,
) -> Result<ListenerSettings, StartError> {
    let tls = |implicit| {
        let fault = |why: &str| StartError::Settings(format!("server.tls: {why}"));
        let certificate = certificate.ok_or_else(|| fault("no certificate"))?;
        ListenerTls::new(implicit, certificate.clone()).map_err(|error| fault(&error.to_string()))
    };
    Ok(ListenerSettings {
        name: listener.name.clone(),
        protocol: listener.protocol,
        address: listener.listen.clone(),
        clients: listener.clients.clone(),
        tls: match listener.tls {
            config::ListenerTls::None => None,
            config::ListenerTls::Starttls => Some(tls(false)?),
            config::ListenerTls::Implicit => Some(tls(true)?),
        },
        bare_newline: listener.bare_newline,
        max_connections: listener.max_connections,
        timeouts: Timeouts {
            command: server.timeouts.command,
            data_block: server.timeouts.data_block,
            final_reply: server.timeouts.final_reply,
        },
        limits: Limits {
            message_size: server.limits.message_size,
            recipients: server.limits.recipients,
            errors: server.limits.errors,
        },
        hostname: server.hostname.clone(),
        default_domain: Some(server.default_domain.clone()),
    })
}

/// Where mail goes: the next hop and the relay.
pub(super) fn hops(config: &Config) -> Result<Hops, StartError> {
    let hop = |protocol, next: &config::NextHop| HopSettings {
        protocol,
        endpoint: endpoint(&next.address),
        hostname: config.server.hostname.clone(),
        tls: Tls::None,
        auth: None,
        timeout: next.timeout,
        max_connections: next.max_connections,
    };
    let next_hop = match &config.delivery {
        Delivery::Maildir { path, fsync } => NextHop::Maildir(Maildir::new(MaildirSettings {
            path: PathBuf::from(path),
            fsync: *fsync,
        })),
        Delivery::Lmtp(next) => NextHop::Lmtp(Pool::new(hop(Protocol::Lmtp, next))),
        Delivery::Smtp(next) => NextHop::Smtp(Pool::new(hop(Protocol::Smtp, next))),
    };
    let relay = Relay::new(relay(config)?)
        .map_err(|error| StartError::Settings(format!("relay: {error}")))?;
    Ok(Hops { next_hop, relay })
}

fn relay(config: &Config) -> Result<RelaySettings, StartError> {
    let relay = &config.relay;
    Ok(RelaySettings {
        hop: HopSettings {
            protocol: Protocol::Smtp,
            endpoint: Endpoint::Tcp {
                host: relay.host.clone(),
                port: relay.port,
            },
            hostname: config.server.hostname.clone(),
            tls: match relay.tls {
                RelayTls::None => Tls::None,
                RelayTls::Opportunistic => Tls::Opportunistic,
                RelayTls::Starttls => Tls::Starttls,
                RelayTls::Implicit => Tls::Implicit,
            },
            auth: relay.auth.as_ref().map(auth).transpose()?,
            timeout: relay.timeout,
            max_connections: relay.max_connections,
        },
        min_interval: relay.min_interval,
        per_minute: relay.per_minute,
        retry: Retry {
            first: relay.retry.first,
            factor: relay.retry.factor,
            longest: relay.retry.longest,
            give_up: relay.retry.give_up,
        },
    })
}

fn auth(auth: &RelayAuth) -> Result<Auth, StartError> {
    Ok(Auth {
        mechanism: match auth.mechanism {
            config::Mechanism::Plain => Mechanism::Plain,
            config::Mechanism::Login => Mechanism::Login,
            config::Mechanism::Xoauth2 => Mechanism::Xoauth2,
        },
        username: auth.username.clone(),
        password: secret("relay.auth.password_file", &auth.password)?,
    })
}

/// The text of the secret that `key` names, without its last line end.
pub(super) fn secret(key: &str, source: &SecretSource) -> Result<String, StartError> {
    let path = source
        .path()
        .map_err(|why| StartError::Settings(format!("{key}: {why}")))?;
    let text = std::fs::read_to_string(&path).map_err(|source| StartError::Io {
        what: format!("{key} {}", path.display()),
        source,
    })?;
    Ok(text
        .strip_suffix('\n')
        .map(|text| text.strip_suffix('\r').unwrap_or(text))
        .unwrap_or(&text)
        .to_owned())
}

fn endpoint(endpoint: &config::Endpoint) -> Endpoint {
    match endpoint {
        config::Endpoint::Tcp { host, port } => Endpoint::Tcp {
            host: host.clone(),
            port: *port,
        },
        config::Endpoint::Unix(path) => Endpoint::Unix(path.clone()),
    }
}

/// The keys that changed and that only a restart makes count.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed =
        |a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| format!("{a:?}") != format!("{b:?}");
    let (was, is) = (&old.server, &new.server);
    [
        ("server.listeners", changed(&was.listeners, &is.listeners)),
        ("server.hostname", was.hostname != is.hostname),
        (
            "server.default_domain",
            was.default_domain != is.default_domain,
        ),
        ("server.timeouts", changed(&was.timeouts, &is.timeouts)),
        ("server.limits", changed(&was.limits, &is.limits)),
        ("store", changed(&old.store, &new.store)),
        ("history", changed(&old.history, &new.history)),
        ("logging", changed(&old.logging, &new.logging)),
        ("control", changed(&old.control, &new.control)),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}

/// A fault that only shows when the settings are put to use, as an error of the file.
pub(super) fn refusal(path: &Path, error: &StartError) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        id: "unusable",
        file: path.to_owned(),
        line: 1,
        col: 1,
        message: error.to_string(),
        snippet: None,
        help: None,
    }
}

/// Makes a small file that only we may read, durably: it is there whole or not at all.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    path.parent()
        .map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_made_over_what_a_crash_left() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loop.key");
        std::fs::write(dir.path().join("loop.new"), "much that was half written").unwrap();
        write_private(&path, b"secret").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"secret");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let made = dir.path().join("made.key");
        write_private(&made, b"x").unwrap();
        let mode = std::fs::metadata(&made).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
