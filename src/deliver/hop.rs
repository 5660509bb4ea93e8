//! One next hop's settings: where it is, what it speaks, how it is secured.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

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

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
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

impl HopSettings {
    /// `lmtp:ADDRESS` or `smtp:ADDRESS`, for records and logs.
    pub fn place(&self) -> String {
        match self.protocol {
            Protocol::Lmtp => format!("lmtp:{}", self.endpoint),
            Protocol::Smtp => format!("smtp:{}", self.endpoint),
        }
    }
}

impl Auth {
    /// The mechanism's name, the initial response with its space, and what answers each `334`.
    pub(super) fn exchange(&self) -> (&'static str, String, Vec<String>) {
        let (user, password) = (&self.username, &self.password);
        match self.mechanism {
            Mechanism::Plain => {
                let response = BASE64.encode(format!("\0{user}\0{password}"));
                ("PLAIN", format!(" {response}"), Vec::new())
            }
            Mechanism::Login => {
                let answers = vec![BASE64.encode(user), BASE64.encode(password)];
                ("LOGIN", String::new(), answers)
            }
            Mechanism::Xoauth2 => {
                let text = format!("user={user}\x01auth=Bearer {password}\x01\x01");
                let response = BASE64.encode(text);
                ("XOAUTH2", format!(" {response}"), vec![String::new()])
            }
        }
    }
}
