//! Sends what is ready: forwards and letters by the relay, reports and releases to the mailbox.
//!
//! Notices and replies go out at most once: what is ambiguous counts as sent (RFC 5436 2.7). Mail
//! goes out at least once. A forward that is refused for good ends in its owner's mailbox with a
//! note, unless its copy is there already.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;

use super::Relay;
use crate::deliver::{Content, DeliverError, Delivery, NextHop, Outcome, Recipient, loops};
use crate::mail::{Address, ReversePath, edit};
use crate::smtp::Reply;
use crate::store::{
    Batch, Id, OutgoingItem, OutgoingKind, OutgoingState, Shelf, Store, StoreError,
};

/// Mails that are being sent at a time; the relay's own limits lie below.
const PARALLEL: usize = 32;
/// How long a mail that cannot be sent stays in the queue as dead.
const BURIED: Duration = Duration::from_secs(7 * 86_400);
/// How long a store fault keeps the courier from looking again.
const AFTER_FAULT: Duration = Duration::from_secs(5);

/// Where mail goes; a reload swaps it as one.
pub struct Hops {
    /// Kept mail.
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

/// The sender of the outgoing queue; one for the daemon.
#[derive(Debug)]
pub struct Courier {
    store: Store,
    hops: Arc<ArcSwap<Hops>>,
    wake: Arc<Notify>,
    permits: Arc<Semaphore>,
    loop_secret: [u8; 32],
    /// A why-record is read, changed and written by one task at a time.
    telling: Arc<Mutex<()>>,
}

impl Courier {
    /// `wake` is notified when something became ready.
    pub fn new(
        store: Store,
        hops: Arc<ArcSwap<Hops>>,
        wake: Arc<Notify>,
        loop_secret: [u8; 32],
    ) -> Self {
        Self {
            store,
            hops,
            wake,
            permits: Arc::new(Semaphore::new(PARALLEL)),
            loop_secret,
            telling: Arc::default(),
        }
    }

    /// Looks at the queue now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Sends what is due until `stop` resolves; then waits for what is under way.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let pause = match self.start_due().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "outgoing queue cannot be read");
                    Some(AFTER_FAULT)
                }
            };
            let timer = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut stop => break,
                () = self.wake.notified() => {}
                () = timer => {}
            }
        }
        let everything = u32::try_from(PARALLEL).unwrap_or(u32::MAX);
        // The semaphore is never closed, so that this only waits.
        let _ = self.permits.acquire_many(everything).await;
    }

    /// Starts a task for each due item; how long until the next look.
    async fn start_due(self: &Arc<Self>) -> Result<Option<Duration>, StoreError> {
        loop {
            let Ok(permit) = self.permits.clone().acquire_owned().await else {
                return Ok(None);
            };
            let now = now();
            let due = self
                .blocking(move |store| store.outgoing_due(now, 1))
                .await?;
            let Some(item) = due.into_iter().next() else {
                let next = self.blocking(|store| store.next_due_at()).await?;
                return Ok(next
                    .map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0).max(1))));
            };
            match self
                .blocking(move |store| store.outgoing_begin(item.id))
                .await
            {
                Ok(item) => {
                    let courier = self.clone();
                    tokio::spawn(async move {
                        courier.attempt(item).await;
                        drop(permit);
                        courier.wake();
                    });
                }
                Err(StoreError::NotFound(_) | StoreError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Tries one item now and returns when the try is over; nothing if somebody else has it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn send_now(&self, id: Id) -> Result<(), StoreError> {
        match self.blocking(move |store| store.outgoing_begin(id)).await {
            Ok(item) => {
                self.attempt(item).await;
                Ok(())
            }
            Err(StoreError::NotFound(_) | StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn attempt(&self, item: OutgoingItem) {
        let id = item.id;
        let result = match self.load(&item).await {
            Ok(parcel) => self.send(item, parcel).await,
            Err(error) => {
                tracing::error!(%id, %error, "outgoing mail cannot be read; kept as dead");
                self.bury(item, &error.to_string()).await
            }
        };
        if let Err(error) = result {
            tracing::error!(%id, %error, "outcome of an outgoing mail not recorded");
        }
    }

    async fn load(&self, item: &OutgoingItem) -> Result<Parcel, StoreError> {
        let id = item.id;
        let (header, body) = self
            .blocking(move |store| {
                Ok((
                    store.read_header(Shelf::Outgoing, id)?,
                    store.read_body(Shelf::Outgoing, id)?,
                ))
            })
            .await?;
        let sender = match item.sender.as_str() {
            "" => ReversePath::Null,
            text => ReversePath::Address(address(text)?),
        };
        Ok(Parcel {
            sender,
            trace: header.trace.into_bytes(),
            owner: address(&item.mailbox)?,
            recipients: item
                .recipients
                .iter()
                .map(|text| address(text))
                .collect::<Result<_, _>>()?,
            body_start: edit::header_length(&body),
            bytes: Arc::from(body),
        })
    }

    async fn send(&self, item: OutgoingItem, parcel: Parcel) -> Result<(), StoreError> {
        if item.fallback && item.recipients.is_empty() {
            return self.settle_fallback(item, &parcel).await;
        }
        let hops = self.hops.load_full();
        let outcomes = match item.kind {
            OutgoingKind::Forward => {
                let head = [
                    parcel.trace.clone(),
                    loops::loop_line(&self.loop_secret, &parcel.owner.key()),
                ]
                .concat();
                hops.relay
                    .send_original(&parcel.delivery(&item, head, parcel.recipients.clone()))
                    .await
            }
            OutgoingKind::Release if parcel.recipients != [parcel.owner.clone()] => {
                hops.relay
                    .send_original(&parcel.delivery(
                        &item,
                        parcel.trace.clone(),
                        parcel.recipients.clone(),
                    ))
                    .await
            }
            OutgoingKind::Release | OutgoingKind::VirusReport | OutgoingKind::QuarantineNotice => {
                let delivery =
                    parcel.delivery(&item, parcel.trace.clone(), parcel.recipients.clone());
                hops.next_hop.deliver(&delivery).await
            }
            OutgoingKind::Notify | OutgoingKind::AutoReply => {
                hops.relay
                    .send_composed(&parcel.sender, &parcel.recipients, &parcel.bytes)
                    .await
            }
        };
        self.settle(item, &parcel, outcomes).await
    }

    /// Writes down what became of each recipient, and what is left to do.
    async fn settle(
        &self,
        mut item: OutgoingItem,
        parcel: &Parcel,
        outcomes: Vec<Outcome>,
    ) -> Result<(), StoreError> {
        let late = now() >= item.give_up_at;
        let mut open = Vec::new();
        let mut refused = None;
        for (recipient, outcome) in parcel.recipients.iter().zip(outcomes) {
            match outcome {
                Ok(accepted) => {
                    let reply = accepted
                        .reply
                        .map_or(accepted.place, |reply| reply.to_string());
                    tracing::info!(id = %item.id, kind = item.kind.as_str(), to = %recipient, reply, "sent");
                    item.last_reply = Some(reply);
                }
                Err(error) => {
                    tracing::warn!(id = %item.id, kind = item.kind.as_str(), to = %recipient, %error, "not sent");
                    item.last_reply = Some(error.to_string());
                    if error.ambiguous && item.kind.at_most_once() {
                        continue;
                    }
                    if error.is_temporary() && !late {
                        open.push(recipient.to_string());
                    } else {
                        refused = Some(error);
                    }
                }
            }
        }
        item.recipients = open;
        match refused {
            Some(error) if item.kind == OutgoingKind::Forward && !item.copy_kept => {
                item.fallback = true;
                self.fall_back(item, parcel, &error).await
            }
            Some(_) if item.kind == OutgoingKind::Release => self.end_release(item, false).await,
            Some(error) if item.kind == OutgoingKind::VirusReport => {
                self.bury(item, &error.to_string()).await
            }
            refused => {
                let state = if refused.is_some() { "refused" } else { "sent" };
                self.finish(item, state).await
            }
        }
    }

    /// A refused forward goes into its owner's mailbox, with a note.
    async fn fall_back(
        &self,
        mut item: OutgoingItem,
        parcel: &Parcel,
        refused: &DeliverError,
    ) -> Result<(), StoreError> {
        let mut state = "refused";
        let note = edit::field("X-Sekimori-Forward-Failed", &refused.reply.to_string());
        let delivery = parcel.delivery(
            &item,
            [parcel.trace.clone(), note].concat(),
            vec![parcel.owner.clone()],
        );
        match self
            .hops
            .load_full()
            .next_hop
            .deliver(&delivery)
            .await
            .pop()
        {
            Some(Ok(_)) => {
                tracing::warn!(id = %item.id, mailbox = %item.mailbox, "forward refused; kept in the mailbox");
                item.fallback = false;
                item.copy_kept = true;
                state = "in_mailbox";
            }
            Some(Err(error)) => {
                tracing::error!(id = %item.id, %error, "refused forward not yet in the mailbox");
                item.last_reply = Some(format!("{} / mailbox: {error}", refused.reply));
            }
            None => {}
        }
        self.finish(item, state).await
    }

    async fn settle_fallback(&self, item: OutgoingItem, parcel: &Parcel) -> Result<(), StoreError> {
        let last = item.last_reply.clone().unwrap_or_default();
        let refused = DeliverError::new(Reply::new(550, 0, 0, last), "");
        self.fall_back(item, parcel, &refused).await
    }

    /// Removes what is done, else sets the next try. `state` is what the why-record says of what is
    /// done.
    async fn finish(&self, mut item: OutgoingItem, state: &'static str) -> Result<(), StoreError> {
        if item.recipients.is_empty() && !item.fallback {
            if item.kind == OutgoingKind::Release {
                return self.end_release(item, true).await;
            }
            self.tell(&item, state).await?;
            let id = item.id;
            return self.blocking(move |store| store.outgoing_remove(id)).await;
        }
        let age = Duration::from_millis(u64::try_from(now() - item.created_at).unwrap_or(0));
        let retry = *self.hops.load().relay.retry();
        let pause = retry.next(item.attempts, age).unwrap_or(retry.longest);
        item.next_attempt_at = now().saturating_add(millis(pause));
        item.state = OutgoingState::Ready;
        self.tell(&item, "waiting").await?;
        self.blocking(move |store| store.outgoing_update(&item))
            .await
    }

    /// Nothing more can be done: it stays for the operator to see, a week.
    async fn bury(&self, mut item: OutgoingItem, reason: &str) -> Result<(), StoreError> {
        item.last_reply = Some(reason.to_owned());
        item.state = OutgoingState::Dead;
        item.next_attempt_at = now().saturating_add(millis(BURIED));
        self.tell(&item, "dead").await?;
        self.blocking(move |store| store.outgoing_update(&item))
            .await
    }

    /// Writes into the why-record of the mail what became of an effect.
    async fn tell(&self, item: &OutgoingItem, state: &'static str) -> Result<(), StoreError> {
        let Some(handoff) = item.handoff else {
            return Ok(());
        };
        let (telling, id, reply) = (
            self.telling.clone(),
            item.id.to_string(),
            item.last_reply.clone(),
        );
        self.blocking(move |store| {
            let _one_at_a_time = telling.lock().unwrap_or_else(PoisonError::into_inner);
            let why = store
                .handoff_get(&handoff)?
                .map(|handoff| store.history_get(handoff.answer.id));
            let Some(mut why) = why.transpose()?.flatten() else {
                return Ok(());
            };
            let effects = why
                .body
                .get_mut("effects")
                .and_then(|effects| effects.as_array_mut());
            let Some(effect) = effects
                .into_iter()
                .flatten()
                .find(|effect| effect["id"] == id.as_str())
            else {
                return Ok(());
            };
            effect["state"] = state.into();
            effect["reply"] = reply.into();
            let mut batch = Batch::new();
            batch.put_why(&why);
            store.commit_blocking(batch)
        })
        .await
    }

    /// A release carries the id of the entry that it releases.
    async fn end_release(&self, item: OutgoingItem, done: bool) -> Result<(), StoreError> {
        let id = item.id;
        self.blocking(move |store| {
            store.release_end(id, done)?;
            store.outgoing_remove(id)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        spawn_blocking(move || work(&store))
            .await
            .unwrap_or(Err(StoreError::Failed))
    }
}

/// An outgoing mail, read back.
#[derive(Debug)]
struct Parcel {
    sender: ReversePath,
    trace: Vec<u8>,
    owner: Address,
    recipients: Vec<Address>,
    bytes: Arc<[u8]>,
    body_start: usize,
}

impl Parcel {
    fn delivery(&self, item: &OutgoingItem, head: Vec<u8>, to: Vec<Address>) -> Delivery {
        let key = blake3::hash(item.id.as_str().as_bytes())
            .to_hex()
            .to_string();
        Delivery {
            sender: self.sender.clone(),
            recipients: to
                .into_iter()
                .map(|address| Recipient {
                    address,
                    mailbox: self.owner.clone(),
                    key: key.clone(),
                })
                .collect(),
            content: Content::new(head, self.bytes.clone(), self.body_start),
            smtputf8: item.smtputf8,
            eight_bit: item.eight_bit,
            deadline: None,
        }
    }
}

fn address(text: &str) -> Result<Address, StoreError> {
    Address::parse(text).map_err(|error| StoreError::Damaged(format!("{text:?}: {error}")))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The wall clock, unix milliseconds.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
