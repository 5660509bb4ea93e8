//! The courier: takes what is ready out of the store, sends it, and writes down what became of it.
//!
//! Each try is `outgoing_begin` (durable) → send → `outgoing_update` or `outgoing_remove`, so that
//! a crash in between repeats no notice and loses no mail (RELIABILITY C10). A recipient who has
//! it is struck off before the next try. A forward that is refused for good, or too old, goes into
//! its owner's mailbox with [`FAILED_FIELD`] unless a copy is there (CONTRACT section 5); that is
//! tried until it succeeds. What else fails stays as a dead item for the operator to see.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Fate, Relay, Retry};
use crate::deliver::loops::loop_line;
use crate::deliver::{Content, DeliverError, Delivery, NextHop, Outcome, Recipient};
use crate::mail::{Address, ReversePath};
use crate::smtp::Reply;
use crate::store::{OutgoingItem, OutgoingKind, OutgoingState, Shelf, Store, StoreError};

/// The field of a mail whose forwarding failed: the target and its last words.
pub const FAILED_FIELD: &str = "X-Sekimori-Forward-Failed";

/// Items on their way at once; how many connections there are is the relay's business.
const AT_ONCE: usize = 32;
/// How long a dead item stays to be seen (CONTRACT: history of 7 days).
const DEAD: Duration = Duration::from_secs(7 * 86400);
/// The longest sleep: the clock may be set meanwhile.
const NAP: Duration = Duration::from_secs(30);
/// The pause after trouble with the store.
const TROUBLE: Duration = Duration::from_secs(5);

/// What is told of each try ([`CourierSettings::tried`]).
pub type Tried = Arc<dyn Fn(&OutgoingItem, &[Outcome]) + Send + Sync>;

/// What a courier needs.
#[derive(Clone)]
pub struct CourierSettings {
    /// The key of [`loop_line`].
    pub loop_secret: [u8; 32],
    /// Unix milliseconds.
    pub clock: fn() -> i64,
    /// Called after each try, before the store forgets the item: the recipients that were tried
    /// and their results, in the same order. For records, metrics and `release_end`.
    pub tried: Tried,
}

/// Sends what is ready. One for the daemon.
pub struct Courier {
    store: Store,
    relay: ArcSwap<Relay>,
    next_hop: ArcSwap<NextHop>,
    settings: CourierSettings,
    wake: Notify,
}

impl Courier {
    /// Sends nothing yet.
    pub fn new(
        store: Store,
        relay: Arc<Relay>,
        next_hop: Arc<NextHop>,
        settings: CourierSettings,
    ) -> Self {
        Self {
            store,
            relay: ArcSwap::new(relay),
            next_hop: ArcSwap::new(next_hop),
            settings,
            wake: Notify::new(),
        }
    }

    /// New settings, from the next item on.
    pub fn reload(&self, relay: Arc<Relay>, next_hop: Arc<NextHop>) {
        self.relay.store(relay);
        self.next_hop.store(next_hop);
    }

    /// Something has become ready (a commit, `queue retry`): look at once.
    pub fn nudge(&self) {
        self.wake.notify_one();
    }

    /// Sends until `stop` is done; then takes nothing new, and returns when what was on its way
    /// has its result (each step has a time-out).
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let nap = match self.take(AT_ONCE.saturating_sub(tasks.len())).await {
                Ok((items, nap)) => {
                    for item in items {
                        let courier = Arc::clone(&self);
                        tasks.spawn(async move { courier.carry(item).await });
                    }
                    nap
                }
                Err(error) => {
                    tracing::warn!(%error, "the outgoing queue cannot be read");
                    TROUBLE
                }
            };
            tokio::select! {
                () = &mut stop => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(nap) => {}
                Some(_) = tasks.join_next() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Up to `room` due items, begun; and how long to sleep until the next is due.
    async fn take(&self, room: usize) -> Result<(Vec<OutgoingItem>, Duration), StoreError> {
        let now = (self.settings.clock)();
        let store = self.store.clone();
        blocking(move || {
            let mut begun = Vec::new();
            for item in store.outgoing_due(now, room)? {
                match store.outgoing_begin(item.id) {
                    Ok(item) => begun.push(item),
                    Err(StoreError::NotFound(_) | StoreError::Conflict(_)) => {}
                    Err(error) if begun.is_empty() => return Err(error),
                    Err(_) => break,
                }
            }
            let nap = match store.next_due_at()? {
                _ if room == 0 => NAP,
                Some(due) => millis(due.saturating_sub(now)).min(NAP),
                None => NAP,
            };
            Ok((begun, nap))
        })
        .await
    }

    /// One try of one item.
    async fn carry(&self, mut item: OutgoingItem) {
        let outcomes = match self.body(&item).await {
            Ok(body) => self.send(&item, body).await,
            Err(error) => vec![Err(unreadable(&error)); item.recipients.len().max(1)],
        };
        (self.settings.tried)(&item, &outcomes);
        let done = self.settle(&mut item, &outcomes).await;
        let store = self.store.clone();
        let id = item.id;
        let stored = blocking(move || match done {
            true => store.outgoing_remove(item.id),
            false => store.outgoing_update(&item),
        })
        .await;
        match stored {
            Ok(()) | Err(StoreError::NotFound(_)) => {}
            Err(error) => tracing::error!(%id, %error, "an outgoing mail's result is not recorded"),
        }
    }

    async fn body(&self, item: &OutgoingItem) -> Result<Arc<[u8]>, StoreError> {
        let (store, id) = (self.store.clone(), item.id);
        let body = blocking(move || store.read_body(Shelf::Outgoing, id)).await?;
        Ok(body.into())
    }

    /// One result for each of `item.recipients`.
    async fn send(&self, item: &OutgoingItem, body: Arc<[u8]>) -> Vec<Outcome> {
        let Ok((sender, recipients, mailbox)) = parse(item) else {
            let error = DeliverError::new(
                Reply::new(553, 1, 3, "an address of the mail is none"),
                format!("{} {:?} {}", item.sender, item.recipients, item.mailbox),
            );
            return vec![Err(error); item.recipients.len()];
        };
        if item.fallback {
            let outcome = self.fall_back(item, &sender, &mailbox, body).await;
            return vec![outcome; recipients.len()];
        }
        let relay = self.relay.load_full();
        let delivery = |head, recipients: Vec<Address>| {
            delivery(item, head, &sender, recipients, &mailbox, &body)
        };
        match item.kind {
            OutgoingKind::Notify | OutgoingKind::AutoReply | OutgoingKind::QuarantineNotice => {
                relay.send_composed(&sender, &recipients, &body).await
            }
            OutgoingKind::Forward => {
                let mut head = format!("Delivered-To: {mailbox}\r\n").into_bytes();
                head.extend(loop_line(&self.settings.loop_secret, &mailbox.key()));
                relay.send_original(&delivery(head, recipients)).await
            }
            OutgoingKind::Release | OutgoingKind::VirusReport => {
                let mut outcomes = Vec::with_capacity(recipients.len());
                for recipient in recipients {
                    let is_owner = recipient.key() == mailbox.key();
                    let one = delivery(Vec::new(), vec![recipient]);
                    outcomes.extend(match is_owner {
                        true => self.next_hop.load_full().deliver(&one).await,
                        false => relay.send_original(&one).await,
                    });
                }
                outcomes
            }
        }
    }

    /// Puts a forward that failed into its owner's mailbox, with a note.
    async fn fall_back(
        &self,
        item: &OutgoingItem,
        sender: &ReversePath,
        mailbox: &Address,
        body: Arc<[u8]>,
    ) -> Outcome {
        let words: String = item
            .last_reply
            .iter()
            .flat_map(|words| words.chars())
            .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
            .take(400)
            .collect();
        let head = format!("{FAILED_FIELD}: {words}\r\n").into_bytes();
        let delivery = delivery(item, head, sender, vec![mailbox.clone()], mailbox, &body);
        let outcomes = self.next_hop.load_full().deliver(&delivery).await;
        outcomes.into_iter().next().unwrap_or_else(|| {
            let reply = Reply::new(451, 3, 0, "the next hop gave no result");
            Err(DeliverError::new(reply, "no result"))
        })
    }

    /// Writes the results into the item; true when it is done with.
    async fn settle(&self, item: &mut OutgoingItem, outcomes: &[Outcome]) -> bool {
        let now = (self.settings.clock)();
        let relay = self.relay.load_full();
        let sorted = sort(item, outcomes, relay.retry(), now);
        item.recipients = sorted.open;
        item.last_reply = sorted.last_reply.or(item.last_reply.take());
        let mut wait = sorted.wait;
        if !sorted.failed.is_empty() && item.kind == OutgoingKind::Forward && !item.copy_kept {
            if self.rescue(item).await {
                item.copy_kept = true;
            } else {
                item.fallback = item.recipients.is_empty();
                item.recipients.extend(sorted.failed);
                wait = wait.max(relay.retry().first);
            }
        } else if item.recipients.is_empty() && !sorted.failed.is_empty() {
            item.recipients = sorted.failed;
            item.state = OutgoingState::Dead;
            item.next_attempt_at = later(now, DEAD);
            return false;
        }
        item.state = OutgoingState::Ready;
        item.next_attempt_at = later(now, wait);
        item.recipients.is_empty()
    }

    /// The first try of the fallback, at once.
    async fn rescue(&self, item: &OutgoingItem) -> bool {
        let (Ok((sender, _, mailbox)), Ok(body)) = (parse(item), self.body(item).await) else {
            return false;
        };
        match self.fall_back(item, &sender, &mailbox, body).await {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(id = %item.id, %error, "a failed forward is not yet in its mailbox");
                false
            }
        }
    }
}

/// What a try left behind. The words are those of a final refusal where there is one.
#[derive(Debug, Default, PartialEq)]
struct Sorted {
    open: Vec<String>,
    failed: Vec<String>,
    last_reply: Option<String>,
    wait: Duration,
}

fn sort(item: &OutgoingItem, outcomes: &[Outcome], retry: &Retry, now: i64) -> Sorted {
    let retry = Retry {
        give_up: millis(item.give_up_at.saturating_sub(item.created_at)),
        ..*retry
    };
    let age = millis(now.saturating_sub(item.created_at));
    let mut sorted = Sorted::default();
    let mut final_words = None;
    for (recipient, outcome) in item.recipients.iter().zip(outcomes) {
        let words = outcome.as_ref().err();
        let words = words.map(|error| format!("{recipient}: {}", error.reply));
        sorted.last_reply = words.clone().or(sorted.last_reply);
        match retry.fate(outcome, item.kind.at_most_once(), item.attempts, age) {
            Fate::Sent => {}
            Fate::Again(wait) => {
                sorted.wait = sorted.wait.max(wait);
                sorted.open.push(recipient.clone());
            }
            // The owner's mailbox is the last place: it is tried for ever.
            Fate::Failed if item.fallback => {
                sorted.wait = sorted.wait.max(retry.longest);
                sorted.open.push(recipient.clone());
            }
            Fate::Failed => {
                final_words = words;
                sorted.failed.push(recipient.clone());
            }
        }
    }
    sorted.last_reply = final_words.or(sorted.last_reply);
    sorted
}

type Parsed = (ReversePath, Vec<Address>, Address);

fn parse(item: &OutgoingItem) -> Result<Parsed, crate::mail::AddressError> {
    let sender = match item.sender.as_str() {
        "" => ReversePath::Null,
        text => ReversePath::Address(Address::parse(text)?),
    };
    let recipients: Result<_, _> = item
        .recipients
        .iter()
        .map(|text| Address::parse(text))
        .collect();
    Ok((sender, recipients?, Address::parse(&item.mailbox)?))
}

fn delivery(
    item: &OutgoingItem,
    head: Vec<u8>,
    sender: &ReversePath,
    recipients: Vec<Address>,
    mailbox: &Address,
    body: &Arc<[u8]>,
) -> Delivery {
    let body_start = memchr::memmem::find(body, b"\r\n\r\n").map_or(body.len(), |at| at + 4);
    Delivery {
        sender: sender.clone(),
        recipients: recipients
            .into_iter()
            .map(|address| Recipient {
                address,
                mailbox: mailbox.clone(),
                key: item.id.to_string(),
            })
            .collect(),
        content: Content::new(head, Arc::clone(body), body_start),
        smtputf8: item.smtputf8,
        eight_bit: item.eight_bit,
        deadline: None,
    }
}

fn unreadable(error: &StoreError) -> DeliverError {
    let reply = if error.is_temporary() {
        Reply::new(451, 3, 0, "the mail cannot be read")
    } else {
        Reply::new(554, 3, 0, "the mail cannot be read")
    };
    DeliverError::new(reply, error.to_string())
}

fn millis(span: i64) -> Duration {
    Duration::from_millis(u64::try_from(span).unwrap_or(0))
}

fn later(now: i64, wait: Duration) -> i64 {
    now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StoreError::Damaged(error.to_string())))
}
