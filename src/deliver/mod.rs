//! Where kept mail goes, and how one transaction with a next hop is spoken: Maildir, LMTP, SMTP.
//!
//! [`NextHop::deliver`] is begin and commit in one: when it returns, each recipient is either
//! durable at the next hop or has an error that says whether a retry helps and whether the mail
//! may have arrived all the same (RFC 1047). Content with the same octets goes out in one
//! transaction; the caller groups recipients.

mod client;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod hop;
mod lf;
pub mod loops;
pub mod maildir;
pub mod pool;
mod tls;
mod transaction;

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::mail::edit::{self, Splice};
use crate::mail::{Address, Octets, ReversePath};
use crate::smtp::Reply;

pub use hop::{Auth, Endpoint, HopSettings, Mechanism, Protocol, Tls};
pub use maildir::{Maildir, MaildirSettings};
pub use pool::Pool;

/// The octets of one mail as a next hop gets them: `head`, what [`edit::divider`] puts behind it,
/// then the header block, then the body. All of it has CRLF line ends. Cloning copies no message.
#[derive(Debug, Clone)]
pub struct Content {
    /// Header lines to put before the message (`Received:` and the like), each with its CRLF.
    pub head: Vec<u8>,
    /// An edit of `message[..body_start]` (the subject mark); `None` = as received.
    pub edit: Option<Splice>,
    /// The message as received.
    pub message: Octets,
    /// [`Message::body_start`](crate::mail::Message::body_start).
    pub body_start: usize,
}

impl Content {
    /// The message as it is, behind `head`.
    pub fn new(head: Vec<u8>, message: impl Into<Octets>, body_start: usize) -> Self {
        Self {
            head,
            edit: None,
            message: message.into(),
            body_start,
        }
    }

    /// The header block as it is sent, without `head`, in pieces.
    pub fn header(&self) -> [&[u8]; 3] {
        self.header_part(0..self.split().0.len())
    }

    /// That part of the header block as it is sent, in pieces. An edit goes with the part in which it
    /// begins: at the border of two with the later one, at the end of the block with the last.
    fn header_part(&self, part: Range<usize>) -> [&[u8]; 3] {
        let block = self.split().0;
        let octets = |range: Range<usize>| block.get(range).unwrap_or_default();
        let begins = |at: usize| part.start <= at && (at < part.end || part.end == block.len());
        match &self.edit {
            Some(edit) if begins(edit.at.start) => [
                octets(part.start..edit.at.start),
                &edit.with,
                octets(edit.at.end..part.end),
            ],
            _ => [octets(part), b"", b""],
        }
    }

    /// All of it in order, up to where [`Self::rest`] begins.
    pub fn pieces(&self) -> [&[u8]; 6] {
        let ([before, edited, after], body) = (self.header(), self.split().1);
        let divider = match self.head.is_empty() {
            true => b"",
            false => edit::divider([before, edited, after, body]),
        };
        [&self.head, divider, before, edited, after, body]
    }

    /// Octets of all of it (the `SIZE` of RFC 1870: CRLF counted, stuffed dots not).
    pub fn size(&self) -> u64 {
        let in_memory: usize = self.pieces().iter().map(|piece| piece.len()).sum();
        in_memory as u64 + self.message.size().saturating_sub(self.rest())
    }

    /// Where those octets of the message begin that are not in memory.
    fn rest(&self) -> u64 {
        self.message.head().len() as u64
    }

    /// The header block, and what is in memory of the body: its first octet always.
    fn split(&self) -> (&[u8], &[u8]) {
        let head = self.message.head();
        head.split_at(self.body_start.min(head.len()))
    }
}

/// One mail for one or more recipients.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `MAIL FROM`, and `Return-Path` in a Maildir.
    pub sender: ReversePath,
    /// Who gets it; each has its own result, in this order.
    pub recipients: Vec<Recipient>,
    /// What they get.
    pub content: Content,
    /// `SMTPUTF8` was given when the mail came in (RFC 6531).
    pub smtputf8: bool,
    /// `BODY=8BITMIME` was given when the mail came in (RFC 6152).
    pub eight_bit: bool,
    /// When the whole transaction must be over; what has no result then is `451 4.4.5`.
    /// `None` = only the step time-outs count.
    pub deadline: Option<Instant>,
    /// Lives as long as anything of this is being written, also when the deadline has passed.
    pub under_way: Option<Arc<dyn Any + Send + Sync>>,
}

/// One recipient of a [`Delivery`].
#[derive(Debug, Clone)]
pub struct Recipient {
    /// As `RCPT TO` says it, and `Delivered-To` in a Maildir.
    pub address: Address,
    /// The mailbox (address extension taken off, alias resolved): names the Maildir's folder.
    pub mailbox: Address,
    /// The key of the hand-off, `[0-9a-f]`, 16-128 characters: names the Maildir's file.
    pub key: String,
    /// An earlier try may have put it there already: a Maildir is searched for the key.
    pub maybe_there: bool,
}

/// One recipient's mail is durable at the next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Where it lies: a file's path, or `lmtp:ADDRESS`, `smtp:ADDRESS`.
    pub place: String,
    /// The next hop's own words; `None` for a Maildir.
    pub reply: Option<Reply>,
    /// It was there already: an earlier hand-off of the same key had been carried out.
    pub repeated: bool,
}

/// One recipient's mail is not known to be at the next hop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reply} ({detail})")]
pub struct DeliverError {
    /// What to answer for this recipient: the next hop's own reply where it refused, else ours.
    pub reply: Reply,
    /// The data went out whole and no reply came, or a file was written and is not known to be
    /// durable: the mail may have arrived.
    pub ambiguous: bool,
    /// What happened, for logs: which step, which address, which system error.
    pub detail: String,
}

impl DeliverError {
    /// A retry may help (the reply is 4yz).
    pub fn is_temporary(&self) -> bool {
        !(500..600).contains(&self.reply.code)
    }

    /// An unambiguous error with a reply of our own.
    pub fn new(reply: Reply, detail: impl Into<String>) -> Self {
        Self {
            reply,
            ambiguous: false,
            detail: detail.into(),
        }
    }
}

/// One recipient's result.
pub type Outcome = Result<Accepted, DeliverError>;

/// The configured next hop of kept mail (`delivery.method`).
#[derive(Debug)]
pub enum NextHop {
    /// Files below a folder.
    Maildir(Maildir),
    /// RFC 2033.
    Lmtp(Pool),
    /// RFC 5321.
    Smtp(Pool),
}

impl NextHop {
    /// Delivers, and returns one result for each recipient, in their order. Never panics, never
    /// fails as a whole. Dropping the future closes the connection; what was ambiguous then stays
    /// so.
    pub async fn deliver(&self, delivery: &Delivery) -> Vec<Outcome> {
        match self {
            Self::Maildir(maildir) => maildir.deliver(delivery).await,
            Self::Lmtp(pool) | Self::Smtp(pool) => pool.send(delivery).await,
        }
    }
}
