//! client
use std::path::PathBuf;
use std::time::Duration;

/// Which protocol the next hop speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 2033: one reply a recipient.
    Lmtp,
    /// RFC 5321: one reply a mail.
    Smtp,
}

/// Where the next hop listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A name or address, and a port.
    Tcp {
        /// DNS name or IP address; also the name that a certificate must have.
        host: String,
        /// 1-65535.
        port: u16,
    },
    /// A socket file.
    Unix(PathBuf),
}

/// TLS towards a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// Never.
    #[default]
    None,
    /// `STARTTLS` where it is offered; the certificate is not looked at (RFC 7435).
    Opportunistic,
    /// `STARTTLS` or nothing; the certificate must be good.
    Starttls,
    /// TLS from the first octet; the certificate must be good.
    Implicit,
}

/// SASL mechanisms that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The old `LOGIN`.
    Login,
    /// An OAuth 2 bearer token in place of the password.
    Xoauth2,
}

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// Mechanism.
    pub mechanism: Mechanism,
    /// User name.
    pub username: String,
    /// Password or token, without a line end. Never shown by `Debug`.
    pub password: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// One next hop.
#[derive(Debug, Clone)]
pub struct HopSettings {
    /// LMTP or SMTP.
    pub protocol: Protocol,
    /// Where.
    pub endpoint: Endpoint,
    /// Our name in `LHLO` or `EHLO` (`server.hostname`).
    pub hostname: String,
    /// TLS.
    pub tls: Tls,
    /// Log in; `None` = no.
    pub auth: Option<Auth>,
    /// Longest wait for each step: connecting, a reply, 64 KiB written.
    pub timeout: Duration,
    /// Connections at once, at least 1.
    pub max_connections: usize,
}
