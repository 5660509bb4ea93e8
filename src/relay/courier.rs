//! The courier: takes what is ready out of the store, sends it, and writes down what became of it.
//!
//! Each try is `outgoing_take` → send → `outgoing_settle`, both for many items at once; a notice or
//! reply has `outgoing_transmit` (durable) before its data. So a crash in between repeats no notice and
//! loses no mail (RELIABILITY C10). A recipient who has
//! it is struck off before the next try. A forward that is refused for good, or too old, goes into
//! its owner's mailbox with [`FAILED_FIELD`] unless a copy is there (CONTRACT section 5); that is
//! tried until it succeeds. What else fails stays as a dead item for the operator to see, for a week;
//! a forward that its own mailbox refuses for good as well stays dead until the operator decides,
//! since there is no other copy of it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use super::results::Results;
use super::{Fate, Relay, Retry};
use crate::deliver::loops::loop_line;
use crate::deliver::{Content, DeliverError, Delivery, NextHop, Outcome, Recipient};
use crate::failpoint::{Point, reach};
use crate::mail::{Address, ReversePath, edit};
use crate::smtp::Reply;
use crate::store::{
    EffectState, Id, OutgoingItem, OutgoingKind, OutgoingState, Refusal, Shelf, Store, StoreError,
    blocking,
};

/// The field of a mail whose forwarding failed: the target and its last words.
pub const FAILED_FIELD: &str = "X-Sekimori-Forward-Failed";

/// Items on their way at once; how many connections there are is the relay's business.
const AT_ONCE: usize = 32;
/// Their octets in memory at once, in KiB; a larger mail goes alone.
const ROOM: u32 = 64 * 1024;
/// Octets of a mail that is read as it is taken, before others are.
const SMALL: u64 = 256 * 1024;
/// Free places for which it is worth while to look for more while others are on their way.
const MORE: usize = 8;
/// How long a dead item stays to be seen (CONTRACT: history of 7 days).
const DEAD: Duration = Duration::from_secs(7 * 86400);
/// The longest sleep: the clock may be set meanwhile.
const NAP: Duration = Duration::from_secs(30);
/// The pause after trouble with the store.
const TROUBLE: Duration = Duration::from_secs(5);

/// Where mail goes; a reload swaps it as one.
pub struct Hops {
    /// Kept mail, reports and releases.
    pub next_hop: NextHop,
    /// Everything else.
    pub relay: Relay,
}

impl std::fmt::Debug for Hops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hops")
            .field("next_hop", &self.next_hop)
            .finish_non_exhaustive()
    }
}

/// Sends what is ready. One for the daemon.
#[derive(Debug)]
pub struct Courier {
    store: Store,
    hops: Arc<ArcSwap<Hops>>,
    wake: Arc<Notify>,
    loop_secret: [u8; 32],
    clock: fn() -> i64,
    room: Arc<Semaphore>,
    results: Results,
}

impl Courier {
    /// Sends nothing yet. `wake` is notified when something has become ready; `loop_secret` is the
    /// key of [`loop_line`]; `clock` gives unix milliseconds.
    pub fn new(
        store: Store,
        hops: Arc<ArcSwap<Hops>>,
        wake: Arc<Notify>,
        loop_secret: [u8; 32],
        clock: fn() -> i64,
    ) -> Self {
        Self {
            store,
            hops,
            wake,
            loop_secret,
            clock,
            room: Arc::new(Semaphore::new(ROOM as usize)),
            results: Results::default(),
        }
    }

    /// Something has become ready (a commit, `queue retry`): look at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Tries one item now and returns when the try is over; nothing if somebody else has it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn send_now(&self, id: Id) -> Result<(), StoreError> {
        let (store, room) = (self.store.clone(), self.room.clone());
        reach(Point::CourierDue);
        let taken = blocking(move || {
            let item = store.outgoing_begin(id)?;
            Ok(Taken::new(item, &store, &room))
        });
        match taken.await {
            Ok(taken) => drop(self.carry(taken).await),
            Err(StoreError::NotFound(_) | StoreError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Sends until `stop` is done; then takes nothing new, and returns when what was on its way
    /// has its result (each step has a time-out).
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut tasks = JoinSet::new();
        loop {
            let room = AT_ONCE.saturating_sub(tasks.len());
            let (taken, nap) = self.take(room).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the outgoing queue cannot be read");
                (Vec::new(), TROUBLE)
            });
            let mut more = taken.len() >= room;
            for one in taken {
                let courier = Arc::clone(&self);
                tasks.spawn(async move { courier.carry(one).await });
            }
            let mut nap = std::pin::pin!(tokio::time::sleep(nap));
            let mut slept = false;
            loop {
                tokio::select! {
                    biased;
                    () = &mut stop => {
                        while tasks.join_next().await.is_some() {}
                        return;
                    }
                    () = self.wake.notified() => more = true,
                    () = &mut nap, if !slept => (slept, more) = (true, true),
                    Some(done) = tasks.join_next() => more |= ended(done),
                }
                while let Some(done) = tasks.try_join_next() {
                    more |= ended(done);
                }
                let free = AT_ONCE.saturating_sub(tasks.len());
                if more && (free >= MORE || slept && free > 0) {
                    break;
                }
            }
        }
    }

    /// Takes what is due; and how long to sleep until more is.
    async fn take(&self, most: usize) -> Result<(Vec<Taken>, Duration), StoreError> {
        let now = (self.clock)();
        let (store, room) = (self.store.clone(), self.room.clone());
        let (taken, next) = blocking(move || {
            let taken = store.outgoing_take(now, most)?.into_iter();
            let taken = taken.map(|item| Taken::new(item, &store, &room));
            Ok((taken.collect(), store.next_due_at()))
        })
        .await?;
        let nap = match next {
            Ok(Some(at)) if at > now => millis(at.saturating_sub(now)).min(NAP),
            _ => NAP,
        };
        Ok((taken, nap))
    }

    /// One try of one item; whether it may be tried again.
    async fn carry(&self, taken: Taken) -> bool {
        reach(Point::CourierBegun);
        let Taken { mut item, read } = taken;
        let id = item.id;
        let (parcel, _room) = match read {
            Some((parcel, room)) => (Ok(parcel), Some(room)),
            None => {
                let room = self.room_for(id).await;
                (self.parcel(&item).await, room)
            }
        };
        let outcomes = match parcel {
            Ok(parcel) => caught(self.send(&item, &parcel))
                .await
                .unwrap_or_else(|| vec![Err(broken_off()); item.recipients.len()]),
            Err(error) => vec![Err(unreadable(&error)); item.recipients.len().max(1)],
        };
        reach(match item.kind {
            OutgoingKind::Release => Point::ReleaseDelivered,
            _ => Point::CourierReplied,
        });
        log(&item, &outcomes);
        let fate = self.settle(&mut item, &outcomes).await;
        if let Err(error) = self.record(item, fate).await {
            tracing::error!(%id, %error, "an outgoing mail's result is not recorded");
        }
        fate == Settled::Waiting
    }

    /// Writes down what became of the item: first for its owner, then for the queue.
    async fn record(&self, item: OutgoingItem, fate: Settled) -> Result<(), StoreError> {
        loop {
            let recorded = match effect_of(&item, fate) {
                Some(effect) => self.write_down((item.clone(), effect)).await,
                // It carries the id of the entry that it releases.
                None => {
                    let (store, id) = (self.store.clone(), item.id);
                    let (done, words) = (fate == Settled::Sent, item.last_reply.clone());
                    blocking(move || store.release_end(id, done, words.as_deref())).await
                }
            };
            match recorded {
                // What stays as being sent is not tried before a restart, and then sent again.
                Err(
                    error @ (StoreError::Full(_)
                    | StoreError::Io { .. }
                    | StoreError::Closed
                    | StoreError::InDoubt(_)),
                ) => tracing::error!(id = %item.id, %error, "a result is not yet recorded"),
                done => return done,
            }
            tokio::time::sleep(TROUBLE).await;
        }
    }

    /// Writes a result down, with those that came while the ones before were written.
    async fn write_down(&self, end: (OutgoingItem, EffectState)) -> Result<(), StoreError> {
        let written = self.results.add(end, &self.store);
        let lost = || Err(StoreError::Damaged("a result was not written".to_owned()));
        written.await.unwrap_or_else(|_| lost())
    }

    /// Waits until the item's octets may be read into memory.
    async fn room_for(&self, id: Id) -> Option<OwnedSemaphorePermit> {
        let store = self.store.clone();
        let size = blocking(move || store.mail_size(Shelf::Outgoing, id)).await;
        // What cannot be asked cannot be read either.
        let room = self.room.clone();
        room.acquire_many_owned(kib(size.unwrap_or(0))).await.ok()
    }

    async fn parcel(&self, item: &OutgoingItem) -> Result<Parcel, StoreError> {
        let (store, id) = (self.store.clone(), item.id);
        blocking(move || Parcel::read(&store, id)).await
    }

    /// One result for each of `item.recipients`.
    async fn send(&self, item: &OutgoingItem, parcel: &Parcel) -> Vec<Outcome> {
        let Ok((sender, recipients, mailbox)) = parse(item) else {
            let error = DeliverError::new(
                Reply::new(553, 1, 3, "an address of the mail is none"),
                format!("{} {:?} {}", item.sender, item.recipients, item.mailbox),
            );
            return vec![Err(error); item.recipients.len()];
        };
        if item.fallback {
            let outcome = self.fall_back(item, &sender, &mailbox, parcel).await;
            return vec![outcome; recipients.len()];
        }
        let hops = self.hops.load_full();
        let relay = &hops.relay;
        let delivery = |extra: &[u8], recipients: Vec<Address>| {
            delivery(
                item,
                parcel.head(extra),
                &sender,
                recipients,
                &mailbox,
                &parcel.body,
            )
        };
        // What comes back to the mailbox that sent it is kept, and nothing more is sent for it.
        let mark = match item.kind {
            OutgoingKind::Release => Vec::new(),
            _ => loop_line(&self.loop_secret, &mailbox.key()),
        };
        match item.kind {
            OutgoingKind::Notify | OutgoingKind::AutoReply => {
                let transmit = || self.transmit(item.id);
                let marked = [mark.as_slice(), &parcel.body].concat();
                relay
                    .send_composed(&sender, &recipients, &marked, transmit)
                    .await
            }
            OutgoingKind::Forward => relay.send_original(&delivery(&mark, recipients)).await,
            OutgoingKind::Release | OutgoingKind::VirusReport | OutgoingKind::QuarantineNotice => {
                let mut outcomes = Vec::with_capacity(recipients.len());
                for recipient in recipients {
                    let is_owner = recipient.key() == mailbox.key();
                    let one = delivery(&mark, vec![recipient]);
                    outcomes.extend(match is_owner {
                        true => hops.next_hop.deliver(&one).await,
                        false => relay.send_original(&one).await,
                    });
                }
                outcomes
            }
        }
    }

    /// Writes down that a letter may be out from now on.
    async fn transmit(&self, id: Id) -> Result<(), DeliverError> {
        let store = self.store.clone();
        let noted = blocking(move || store.outgoing_transmit(id)).await;
        reach(Point::CourierTransmitting);
        noted.map_err(|error| {
            let reply = Reply::new(451, 3, 0, "the try cannot be recorded");
            DeliverError::new(reply, error.to_string())
        })
    }

    /// Puts a forward that failed into its owner's mailbox, with a note.
    async fn fall_back(
        &self,
        item: &OutgoingItem,
        sender: &ReversePath,
        mailbox: &Address,
        parcel: &Parcel,
    ) -> Outcome {
        let words: String = item
            .last_reply
            .iter()
            .flat_map(|words| words.chars())
            .take(400)
            .collect();
        let head = parcel.head(&edit::field(FAILED_FIELD, &words));
        let delivery = delivery(
            item,
            head,
            sender,
            vec![mailbox.clone()],
            mailbox,
            &parcel.body,
        );
        let outcomes = self.hops.load_full().next_hop.deliver(&delivery).await;
        outcomes.into_iter().next().unwrap_or_else(|| {
            let reply = Reply::new(451, 3, 0, "the next hop gave no result");
            Err(DeliverError::new(reply, "no result"))
        })
    }

    /// Writes the results into the item.
    async fn settle(&self, item: &mut OutgoingItem, outcomes: &[Outcome]) -> Settled {
        let now = (self.clock)();
        let retry = *self.hops.load().relay.retry();
        let sorted = sort(item, outcomes, &retry, now);
        item.recipients = sorted.open;
        item.last_reply = sorted.last_reply.or(item.last_reply.take());
        let mut wait = sorted.wait;
        let failed = sorted.failed;
        let addresses = failed.iter().map(|refusal| refusal.to.clone());
        let addresses: Vec<String> = addresses.collect();
        let mut done = if item.fallback {
            Settled::InMailbox
        } else {
            Settled::Sent
        };
        let rescues = item.kind == OutgoingKind::Forward && !item.copy_kept && !item.fallback;
        if rescues && !failed.is_empty() {
            if self.rescue(item).await {
                item.copy_kept = true;
                item.refuse(failed, sorted.put_off);
                done = Settled::InMailbox;
            } else {
                item.fallback = item.recipients.is_empty();
                item.recipients.extend(addresses);
                wait = wait.max(retry.first);
            }
        } else if item.recipients.is_empty() && !failed.is_empty() {
            if item.fallback {
                tracing::error!(id = %item.id, "a failed forward is refused by its own mailbox too and waits in the queue for the operator");
            }
            item.recipients = addresses;
            item.state = OutgoingState::Dead;
            item.next_attempt_at = if item.fallback { now } else { later(now, DEAD) };
            return Settled::Dead;
        } else {
            // The copy is in the mailbox already, and the others are still served.
            item.refuse(failed, sorted.put_off);
        }
        item.state = OutgoingState::Ready;
        item.next_attempt_at = later(now, wait);
        if item.recipients.is_empty() {
            done
        } else {
            Settled::Waiting
        }
    }

    /// The first try of the fallback, at once.
    async fn rescue(&self, item: &OutgoingItem) -> bool {
        let (Ok((sender, _, mailbox)), Ok(parcel)) = (parse(item), self.parcel(item).await) else {
            return false;
        };
        let fallen = caught(self.fall_back(item, &sender, &mailbox, &parcel)).await;
        match fallen.unwrap_or_else(|| Err(broken_off())) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(id = %item.id, %error, "a failed forward is not yet in its mailbox");
                false
            }
        }
    }
}

/// An item whose try has begun.
struct Taken {
    item: OutgoingItem,
    /// Its octets and their room, where it is small and there was room.
    read: Option<(Parcel, OwnedSemaphorePermit)>,
}

impl Taken {
    fn new(item: OutgoingItem, store: &Store, room: &Arc<Semaphore>) -> Self {
        let read = || {
            let size = store.mail_size(Shelf::Outgoing, item.id).ok()?;
            let room = (size <= SMALL).then(|| Arc::clone(room))?;
            let room = room.try_acquire_many_owned(kib(size)).ok()?;
            // Why it cannot be read is asked where it is sent.
            Some((Parcel::read(store, item.id).ok()?, room))
        };
        let read = read();
        Self { item, read }
    }
}

/// The room that so many octets need.
fn kib(octets: u64) -> u32 {
    u32::try_from(octets.div_ceil(1024)).map_or(ROOM, |kib| kib.min(ROOM))
}

/// Whether an item whose try is over may be tried again.
fn ended(done: Result<bool, JoinError>) -> bool {
    done.unwrap_or_else(|error| {
        tracing::error!(%error, "a try of an outgoing mail broke off");
        false
    })
}

/// The result of a step; `None` when it panicked.
async fn caught<T>(step: impl Future<Output = T>) -> Option<T> {
    let mut step = std::pin::pin!(step);
    let polled = std::future::poll_fn(|context| {
        let poll = catch_unwind(AssertUnwindSafe(|| step.as_mut().poll(context)));
        poll.map_or(Poll::Ready(None), |poll| poll.map(Some))
    });
    polled.await
}

/// The outcome of a try that panicked: nobody knows how far it came.
fn broken_off() -> DeliverError {
    let reply = Reply::new(451, 3, 0, "the try broke off");
    DeliverError {
        ambiguous: true,
        ..DeliverError::new(reply, "it panicked")
    }
}

/// The octets of an outgoing mail.
struct Parcel {
    /// The `Received` line that stands before the mail wherever it goes.
    trace: Vec<u8>,
    body: Bytes,
}

impl Parcel {
    fn read(store: &Store, id: Id) -> Result<Self, StoreError> {
        let (header, body) = store.read_mail(Shelf::Outgoing, id)?;
        Ok(Self {
            trace: header.trace.into_bytes(),
            body: body.into(),
        })
    }

    fn head(&self, extra: &[u8]) -> Vec<u8> {
        [extra, &self.trace].concat()
    }
}

/// What became of an item by a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Sent,
    /// A failed forward, kept for its owner.
    InMailbox,
    Waiting,
    Dead,
}

/// What a try left behind. The words are those of a final refusal where there is one, else of a
/// refusal, else of the acceptance.
#[derive(Debug, Default, PartialEq)]
struct Sorted {
    open: Vec<String>,
    failed: Vec<Refusal>,
    last_reply: Option<String>,
    /// The words for one who is still open.
    put_off: Option<String>,
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
    let mut accepted = BTreeSet::new();
    for (recipient, outcome) in item.recipients.iter().zip(outcomes) {
        let words = outcome.as_ref().err();
        let words = words.map(|error| format!("{recipient}: {}", error.reply));
        sorted.last_reply = words.clone().or(sorted.last_reply);
        if let Ok(reply) = outcome.as_ref().map(|accepted| &accepted.reply) {
            accepted.extend(reply.as_ref().map(ToString::to_string));
        }
        match retry.fate(outcome, item.kind.at_most_once(), item.attempts, age) {
            Fate::Sent => {}
            Fate::Again(wait) => {
                sorted.put_off = words;
                sorted.wait = sorted.wait.max(wait);
                sorted.open.push(recipient.clone());
            }
            // The owner's mailbox is the last place: it is tried for ever, unless it says no.
            Fate::Failed if item.fallback && (age < retry.give_up || is_temporary(outcome)) => {
                sorted.wait = sorted.wait.max(retry.longest);
                sorted.open.push(recipient.clone());
            }
            Fate::Failed => {
                let reply = outcome.as_ref().err().map(|error| error.reply.to_string());
                sorted.failed.push(Refusal {
                    to: recipient.clone(),
                    reply: reply.unwrap_or_default(),
                });
                final_words = words;
            }
        }
    }
    // Taken by all who were left: the next hop's words, one for each of its answers.
    let taken = Some(accepted).filter(|accepted| !accepted.is_empty());
    let taken = taken.map(|words| words.into_iter().collect::<Vec<_>>().join("; "));
    sorted.last_reply = final_words.or(sorted.last_reply).or(taken);
    sorted
}

fn is_temporary(outcome: &Outcome) -> bool {
    outcome
        .as_ref()
        .err()
        .is_some_and(DeliverError::is_temporary)
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
    body: &Bytes,
) -> Delivery {
    let body_start = edit::header_length(body);
    Delivery {
        sender: sender.clone(),
        recipients: recipients
            .into_iter()
            .map(|address| Recipient {
                address,
                mailbox: mailbox.clone(),
                key: item.id.to_string(),
                maybe_there: true,
            })
            .collect(),
        content: Content::new(head, body.clone(), body_start),
        smtputf8: item.smtputf8,
        eight_bit: item.eight_bit,
        deadline: None,
        under_way: None,
    }
}

fn log(item: &OutgoingItem, outcomes: &[Outcome]) {
    let (id, kind) = (item.id, item.kind.as_str());
    for (to, outcome) in item.recipients.iter().zip(outcomes) {
        // The whole address stands in `queue list` and `why`, whatever `logging.redact` says.
        let domain = to.rsplit_once('@').map_or("", |(_, domain)| domain);
        match outcome {
            Ok(accepted) => {
                let reply = accepted.reply.as_ref().map(ToString::to_string);
                tracing::info!(%id, kind, domain, reply, "sent");
            }
            Err(error) => tracing::warn!(%id, kind, domain, %error, "not sent"),
        }
    }
}

/// What the why-record says of the item after a try; `None` for a release that is over.
fn effect_of(item: &OutgoingItem, fate: Settled) -> Option<EffectState> {
    let is_release = item.kind == OutgoingKind::Release;
    match fate {
        Settled::Waiting if is_release => Some(EffectState::Releasing),
        Settled::Waiting => Some(EffectState::Waiting),
        _ if is_release => None,
        Settled::Dead => Some(EffectState::Dead),
        Settled::Sent => Some(EffectState::Sent),
        Settled::InMailbox => Some(EffectState::InMailbox),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    #[test]
    fn a_step_that_panics_has_an_outcome() {
        runtime().block_on(async {
            let stumbles = async {
                tokio::task::yield_now().await;
                panic!("a bug")
            };
            assert_eq!(caught::<()>(stumbles).await, None);
            assert_eq!(caught(async { 1 }).await, Some(1));
        });
        let error = broken_off();
        assert!(error.ambiguous && error.is_temporary());
    }
}
