//! What one listener needs to know; the daemon file's `server` compiles into it.

use std::time::Duration;

use super::tls::ListenerTls;
use crate::mail::Protocol;
use crate::smtp::{BareNewline, Cidr, Limits, ListenAddress};

/// One entry of `server.listeners` with what it shares with the others.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Names it in logs and errors.
    pub name: String,
    /// LMTP or SMTP.
    pub protocol: Protocol,
    /// Where it listens; a relative socket path is relative to the working directory.
    pub address: ListenAddress,
    /// Who may connect over TCP; these clients are trusted (XFORWARD, upstream headers). An empty
    /// list lets nobody in. Whoever can open a Unix socket may use it and is trusted.
    pub clients: Vec<Cidr>,
    /// On TCP sockets only; `None` = in the clear.
    pub tls: Option<ListenerTls>,
    /// What a CR or LF that stands alone in the data does.
    pub bare_newline: BareNewline,
    /// Connections at a time; one more is told `421 4.3.2` and closed.
    pub max_connections: usize,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// Sizes and counts.
    pub limits: Limits,
    /// Greeting and EHLO reply.
    pub hostname: String,
    /// Completes a bare local part.
    pub default_domain: Option<String>,
}

/// Time limits of a connection (RFC 5321 4.5.3.2.7 asks for five minutes at least for commands).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From one command's end to the next one's; then `421 4.4.2`. A reply that the client does
    /// not read may take as long.
    pub command: Duration,
    /// From one piece of the data to the next, then `421 4.4.2`. A mail that comes slower than
    /// 500 octets a second is cut off likewise after this time.
    pub data_block: Duration,
    /// From the end of data to the last reply; then `451 4.4.5` for those who have none.
    pub final_reply: Duration,
}
