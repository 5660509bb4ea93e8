//! `server`: listeners, timeouts, limits.

use std::collections::HashSet;
use std::time::Duration;

use super::{Compile, count, domain_key, octets, span};
use crate::config::field::Field;
use crate::config::raw::*;
use crate::config::setting::Written as _;
use crate::config::settings::*;
use crate::config::source::Place;
use crate::config::text::{Span, Text, is_host};
use crate::config::tls;
use crate::mail::Protocol;
use crate::smtp::{BareNewline, Cidr, ListenAddress};

impl Compile<'_> {
    pub(super) fn server(&mut self, raw: &RawServer) -> Option<Server> {
        let hostname = raw.hostname.or_default();
        if !is_host(&hostname) {
            self.value(
                raw.hostname.place(),
                "a host name is letters, digits, dots and hyphens",
            );
        }
        let default_domain = raw.default_domain.or_default();
        if domain_key(&default_domain).is_none() {
            self.value(raw.default_domain.place(), "this is no mail domain");
        }
        let timeouts = raw.timeouts.or_default();
        let limits = raw.limits.or_default();
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
        let items = raw.or_default();
        if items.is_empty() {
            self.report
                .error("empty", raw.key(), "a server without a listener");
        }
        let mut names = HashSet::new();
        let mut places = Vec::new();
        let mut listeners = Vec::new();
        for item in &items {
            let Some(listener) = self.listener(&item.or_default()) else {
                continue;
            };
            let at = |field: Place| if field.line > 0 { field } else { item.place() };
            if !names.insert(listener.name.clone()) {
                let at = at(item.or_default().name.place());
                let message = format!("two listeners are named `{}`", listener.name);
                self.report
                    .error_help("duplicate", at, message, "give each a `name`");
            }
            if listener.tls != ListenerTls::None {
                self.listener_tls(&item.or_default(), &listener.listen, certificate);
            }
            let any_port = matches!(listener.listen, ListenAddress::Tcp { port: 0, .. });
            if !any_port && places.contains(&listener.listen) {
                let at = at(item.or_default().listen.place());
                self.report
                    .error("duplicate", at, "two listeners listen at the same place");
            }
            places.push(listener.listen.clone());
            listeners.push(listener);
        }
        listeners
    }

    fn listener(&mut self, raw: &RawListener) -> Option<Listener> {
        let protocol = match raw.protocol.or_default() {
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
            name: raw.name.or_default(),
            protocol,
            listen,
            clients: self.clients(&raw.clients.or_default()),
            tls: match raw.tls.or_default() {
                RawListenerTls::None => ListenerTls::None,
                RawListenerTls::Starttls => ListenerTls::Starttls,
                RawListenerTls::Implicit => ListenerTls::Implicit,
            },
            bare_newline: match raw.bare_newline.or_default() {
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
}
