//! One LMTP or SMTP session without a socket: octets in, events and replies out.

use super::{BareNewline, Reply};
use crate::mail::{Address, Client, Envelope, Protocol, ReversePath};

/// What a session is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one mail (`SIZE`, RFC 1870); more is `552 5.3.4`.
    pub message_size: u64,
    /// Accepted recipients of one mail, repeated ones counted; more is `452 4.5.3`. RFC 5321
    /// 4.5.3.1.8 asks for 100 at least.
    pub recipients: usize,
    /// Protocol errors since the last mail that was taken; the last of them is followed by
    /// `421 4.7.0` and the end.
    pub errors: usize,
}

/// How a session behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// LMTP or SMTP.
    pub protocol: Protocol,
    /// What the server calls itself.
    pub hostname: String,
    /// Completes a bare local part; without it such a path is refused.
    pub default_domain: Option<String>,
    /// What a CR or LF that stands alone in the data does.
    pub bare_newline: BareNewline,
    /// Bounds.
    pub limits: Limits,
    /// The peer; `helo` and the origin are filled in by the session.
    pub client: Client,
}

/// What the caller must act on. Until it has answered, the session looks at no further octet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `MAIL FROM`; answered by [`Session::accept`] or [`Session::refuse`].
    Mail {
        /// The reverse path, completed.
        sender: ReversePath,
        /// `SIZE=`, at most the limit.
        declared_size: Option<u64>,
    },
    /// `RCPT TO`, completed; answered by [`Session::accept`] or [`Session::refuse`].
    Recipient(Address),
    /// A whole mail; answered by one [`Session::answer`] for each recipient, in order.
    Message {
        /// The envelope; its recipients are those that were accepted.
        envelope: Box<Envelope>,
        /// The message: CRLF line ends, no stuffing dots.
        raw: Vec<u8>,
    },
    /// The session is over: send the output and close. Nothing is read any more.
    Close,
}

/// What was done with a mail for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Taken, durably: `250 2.0.0 <rcpt> q=ID verdict=...`.
    Taken {
        /// One for each mail and mailbox.
        id: String,
        /// CONTRACT section 2.
        verdict: &'static str,
        /// The stage that decided, for `quarantine` and `replace`.
        stage: Option<&'static str>,
    },
    /// Not taken: a 4yz or 5yz reply.
    Refused(Reply),
}
