//! The first look at a mail: read once, its mailboxes looked up, what an earlier hand-off of it was
//! answered, and the decision of all others as far as it needs no scanner. All of it may block, though
//! with a [small](is_small) mail hardly ever for longer than a hand-over to another thread takes.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decision::{First, first};
use super::{Active, bounds, known, now};
use crate::config::{Config, Lookup, Mailbox};
use crate::execute::{self, Mail};
use crate::failpoint::strike;
use crate::mail::{Address, Envelope, Message, Octets};
use crate::policy::{AuthReport, Stage, Verdict};
use crate::smtp::{Answer, Reply};
use crate::store::{HandoffKey, InflightGuard, MailDigest, Store};

/// How long before the last moment for a reply delivery ends.
const COMMIT_TIME: Duration = Duration::from_secs(15);

/// Octets of a small mail and of its header block, and its recipients.
const SMALL: u64 = 64 * 1024;
const SMALL_HEADER: usize = 16 * 1024;
const FEW: usize = 8;

/// Whether reading and deciding takes no longer than other work on the reactor. Its recipients'
/// mailboxes must be [ready](Looker::ready) as well.
pub(super) fn is_small(envelope: &Envelope, raw: &Octets) -> bool {
    let head = raw.head().get(..SMALL_HEADER).unwrap_or(raw.head());
    raw.size() <= SMALL
        && envelope.recipients.len() <= FEW
        && memchr::memmem::find(head, b"\r\n\r\n").is_some()
}

/// What a look needs, whoever's mail it is.
#[derive(Clone)]
pub(super) struct Looker {
    pub(super) store: Store,
    pub(super) active: Arc<Active>,
    pub(super) loop_secret: [u8; 32],
    /// When the mail was here.
    pub(super) began: Instant,
}

/// One mailbox's part of a mail under way.
pub(super) struct Share {
    pub(super) recipient: Address,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) key: HandoffKey,
}

/// A mail that was read, whose mailboxes are known.
pub(super) struct Opened {
    envelope: Envelope,
    read: Read,
    /// Each mailbox among the recipients once, in order of first appearance.
    shares: Arc<[Share]>,
    /// For each recipient its mailbox's place, or the reply that it gets instead.
    routes: Vec<Result<usize, Reply>>,
}

/// A mail whose hand-offs have begun.
pub(super) struct Looked {
    pub(super) mail: Arc<Mail>,
    pub(super) shares: Arc<[Share]>,
    pub(super) routes: Vec<Result<usize, Reply>>,
    /// Of each share what an earlier hand-off of the same mail was answered.
    pub(super) earlier: Vec<Option<Answer>>,
    /// Of those that have no answer yet.
    pub(super) first: First,
}

impl Looker {
    /// When whatever is not delivered is answered.
    pub(super) fn late(&self) -> Instant {
        self.began + self.active.config.server.timeouts.final_reply
    }

    /// The mailboxes of all recipients as far as memory knows each. Never blocks.
    pub(super) fn ready(&self, envelope: &Envelope) -> Option<Vec<Lookup>> {
        let directory = &self.active.directory;
        let recipients = envelope.recipients.iter();
        recipients.map(|one| directory.ready(one)).collect()
    }

    fn lookups(&self, envelope: &Envelope) -> Vec<Lookup> {
        let directory = &self.active.directory;
        let found = |one| {
            let ready = directory.ready(one);
            ready.unwrap_or_else(|| directory.lookup(one))
        };
        envelope.recipients.iter().map(found).collect()
    }

    /// As far as one gets without waiting for another hand-off: inner `Err` where an identical one is
    /// under way. `ready` are the recipients' mailboxes where they are known.
    ///
    /// # Errors
    /// The mail cannot be read.
    pub(super) fn look(
        &self,
        envelope: Envelope,
        raw: Octets,
        ready: Option<Vec<Lookup>>,
    ) -> io::Result<Result<Looked, Opened>> {
        // Taken by code without recursion or allocation of the mail's making.
        let (digest, now) = (MailDigest::read(&raw)?, now());
        let _reading = self.store.reading(&digest, now);
        let is_poison = self.store.is_poison(&digest, now);
        let read = read(&self.active.config, raw, digest, is_poison)?;
        let found = ready.unwrap_or_else(|| self.lookups(&envelope));
        let (shares, routes) = shares(found, &envelope, &read.digest);
        let opened = Opened {
            envelope,
            read,
            shares: shares.into(),
            routes,
        };
        match self.store.try_begin_all(&opened.keys()) {
            Some(under_way) => Ok(Ok(self.begun(opened, under_way))),
            None => Ok(Err(opened)),
        }
    }

    /// The rest, once the mail's hand-offs have begun.
    pub(super) fn look_on(&self, opened: Opened, under_way: InflightGuard) -> Looked {
        let _reading = self.store.reading(&opened.read.digest, now());
        self.begun(opened, under_way)
    }

    /// For a caller that has marked the mail as being read.
    fn begun(&self, opened: Opened, under_way: InflightGuard) -> Looked {
        let final_reply = self.active.config.server.timeouts.final_reply;
        let Opened {
            envelope,
            read,
            shares,
            routes,
        } = opened;
        let mail = Arc::new(Mail {
            received_at: now(),
            auth: AuthReport::default(),
            envelope,
            message: read.message,
            raw: read.raw,
            config: self.active.config.clone(),
            deadline: self.began + delivery_time(final_reply),
            late: self.late(),
            digest: read.digest,
            unread: read.unread,
            under_way: under_way.into(),
        });
        let earlier: Vec<_> = shares.iter().map(|share| self.earlier(share)).collect();
        let scanners = &self.active.scanners;
        let first = first(&mail, &shares, &earlier, &self.loop_secret, scanners);
        Looked {
            mail,
            shares,
            routes,
            earlier,
            first,
        }
    }

    /// What an earlier hand-off of the same mail was answered, if it was carried out, or that nobody
    /// can say.
    fn earlier(&self, share: &Share) -> Option<Answer> {
        let answer = match self.store.handoff_get(&share.key) {
            Ok(handoff) => handoff?.answer,
            Err(error) => return Some(Answer::Refused(execute::store_reply(&error))),
        };
        tracing::info!(id = %answer.id, "repeated");
        let stage = answer.stage.as_deref().and_then(Stage::named);
        Some(Answer::Taken {
            id: answer.id.to_string(),
            verdict: Verdict::named(&answer.verdict)
                .unwrap_or(Verdict::Deliver)
                .as_str(),
            stage: stage.map(Stage::as_str),
        })
    }
}

impl Opened {
    pub(super) fn keys(&self) -> Vec<HandoffKey> {
        self.shares.iter().map(|share| share.key).collect()
    }
}

/// A mail that was looked into, or was not.
struct Read {
    message: Message,
    digest: MailDigest,
    raw: Octets,
    unread: bool,
}

/// Reads a mail that is marked as being read, but for one that crashed us too often.
fn read(config: &Config, raw: Octets, digest: MailDigest, is_poison: bool) -> io::Result<Read> {
    let message = if is_poison {
        tracing::error!(
            size = raw.size(),
            "this mail crashed us before: it is delivered unread"
        );
        Message::unread(raw.size())
    } else {
        strike(raw.head());
        Message::read(&raw, &bounds(&config.server.limits))?
    };
    Ok(Read {
        message,
        digest,
        raw,
        unread: is_poison,
    })
}

/// Each mailbox among the recipients once, in order of first appearance, and for each recipient the
/// mailbox's place or the reply that it gets instead.
fn shares(
    found: Vec<Lookup>,
    envelope: &Envelope,
    digest: &MailDigest,
) -> (Vec<Share>, Vec<Result<usize, Reply>>) {
    let sender = envelope.sender.as_str();
    let mut places: BTreeMap<HandoffKey, usize> = BTreeMap::new();
    let mut shares = Vec::new();
    let mut routes = Vec::with_capacity(envelope.recipients.len());
    for (recipient, found) in envelope.recipients.iter().zip(found) {
        routes.push(known(found).map(|mailbox| {
            let key = HandoffKey::new(&mailbox.key, sender, digest);
            *places.entry(key).or_insert_with(|| {
                shares.push(Share {
                    recipient: recipient.clone(),
                    mailbox,
                    key,
                });
                shares.len() - 1
            })
        }));
    }
    (shares, routes)
}

/// What of `timeouts.final_reply` the next hop gets: the rest is for what was delivered to be
/// recorded, so that a retry does not deliver it again.
fn delivery_time(final_reply: Duration) -> Duration {
    final_reply.saturating_sub(COMMIT_TIME.min(final_reply / 4))
}
