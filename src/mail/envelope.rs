//! What the transport says of a mail, as opposed to what its header says (RFC 5321 2.3.1).

use core::net::IpAddr;
use std::fmt;

use super::Address;

/// The argument of `MAIL FROM` (RFC 5321 4.1.1.2). [`Display`](fmt::Display) gives it without
/// angle brackets; the null path is the empty text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: bounces and other mail that must never be answered (RFC 5321 4.5.5).
    Null,
    /// A sender's address.
    Address(Address),
}

impl ReversePath {
    /// The address, if it is not the null path.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }

    /// As it stands between angle brackets: empty for the null path.
    pub fn as_str(&self) -> &str {
        self.address().map_or("", Address::as_str)
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the session spoke; names the `with` clause of `Received:` (RFC 3848, RFC 6531 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 2033: one reply a recipient.
    Lmtp,
    /// RFC 5321: one reply a mail.
    Smtp,
}

/// Who handed the mail over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The peer of the connection; `None` on a Unix socket.
    pub ip: Option<IpAddr>,
    /// What it said in `LHLO`, `HELO` or `EHLO`; empty before that.
    pub helo: String,
    /// It speaks to us over TLS.
    pub tls: bool,
    /// Listed in the listener's `clients`, or on a Unix socket.
    pub trusted: bool,
    /// `XFORWARD ADDR` and `NAME` of a trusted client: where the mail really came from.
    pub origin_ip: Option<IpAddr>,
    /// `XFORWARD NAME`.
    pub origin_name: Option<String>,
}

/// One mail's envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// `MAIL FROM`.
    pub sender: ReversePath,
    /// Every accepted `RCPT TO`, in order, repeated ones included (RFC 2033 4.2).
    pub recipients: Vec<Address>,
    /// `SMTPUTF8` was given at `MAIL` (RFC 6531).
    pub smtputf8: bool,
    /// `BODY=8BITMIME` was given at `MAIL` (RFC 6152).
    pub eight_bit: bool,
    /// LMTP or SMTP.
    pub protocol: Protocol,
    /// Who handed it over.
    pub client: Client,
}

impl Envelope {
    /// That of a mail which nobody handed over: it lies here, and is for one recipient.
    /// `trusted`: as [`Client::trusted`].
    pub fn local(sender: ReversePath, recipient: Address, trusted: bool) -> Self {
        Self {
            sender,
            recipients: vec![recipient],
            smtputf8: false,
            eight_bit: true,
            protocol: Protocol::Lmtp,
            client: Client {
                ip: None,
                helo: String::new(),
                tls: false,
                trusted,
                origin_ip: None,
                origin_name: None,
            },
        }
    }
}

impl Client {
    /// The mail comes from the operator's own machines: from a trusted client that names no other
    /// origin, or names itself (`XFORWARD ADDR` of a loopback address).
    pub fn is_origin_trusted(&self) -> bool {
        self.trusted && self.origin_ip.is_none_or(|ip| ip.is_loopback())
    }
}
