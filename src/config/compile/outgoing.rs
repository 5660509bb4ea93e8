//! `delivery` and `relay`: where mail goes.

use super::{Compile, count, span};
use crate::config::field::Field;
use crate::config::raw::*;
use crate::config::setting::Written as _;
use crate::config::settings::*;
use crate::config::text::{FilePath, Mail, Text, is_host};

impl Compile<'_> {
    pub(super) fn delivery(&mut self, raw: &RawDelivery) -> Option<Delivery> {
        let lmtp = self.next_hop(&raw.lmtp.or_default())?;
        let smtp = self.next_hop(&raw.smtp.or_default())?;
        let maildir = self.maildir(&raw.maildir.or_default());
        Some(match raw.method.or_default() {
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
        let FilePath(written) = raw.path.or_default();
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
            fsync: raw.fsync.or_default(),
        }
    }

    pub(super) fn relay(&mut self, raw: &RawRelay) -> Option<Relay> {
        let host = raw.host.or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']');
        if !is_host(&host) && ip.parse::<core::net::IpAddr>().is_err() {
            self.value(raw.host.place(), "a host name or an address");
        }
        let tls = match raw.tls.or_default() {
            RawRelayTls::None => RelayTls::None,
            RawRelayTls::Opportunistic => RelayTls::Opportunistic,
            RawRelayTls::Starttls => RelayTls::Starttls,
            RawRelayTls::Implicit => RelayTls::Implicit,
        };
        let Text(from) = raw.from.value.clone()?;
        let reply_to = raw.reply_to.value.clone();
        let signature = raw.signature.or_default();
        Some(Relay {
            host: ip.to_owned(),
            port: u16::try_from(raw.port.or_default().0).ok()?,
            tls,
            auth: self.auth(&raw.auth, tls, ip),
            timeout: span(&raw.timeout),
            max_connections: count(&raw.max_connections),
            min_interval: raw.min_interval.or_default().0.0,
            per_minute: u32::try_from(raw.per_minute.or_default()).unwrap_or(u32::MAX),
            retry: self.retry(&raw.retry.or_default()),
            from,
            reply_to: reply_to.map(|Text(Mail(address))| address),
            signature: Signature {
                ja: signature.ja.or_default(),
                en: signature.en.or_default(),
            },
        })
    }

    fn auth(&mut self, raw: &Field<RawAuth>, tls: RelayTls, host: &str) -> Option<RelayAuth> {
        let auth = raw.or_default();
        let mechanism = match auth.mechanism.or_default() {
            RawMechanism::None => return None,
            RawMechanism::Plain => Mechanism::Plain,
            RawMechanism::Login => Mechanism::Login,
            RawMechanism::Xoauth2 => Mechanism::Xoauth2,
        };
        let at = auth.mechanism.place();
        let username = auth.username.or_default();
        let FilePath(password) = auth.password_file.or_default();
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
            factor: raw.factor.or_default().0,
            longest,
            give_up: span(&raw.give_up),
        }
    }
}
