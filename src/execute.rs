//! Carries out the plans of one mail: prepare, deliver, commit or give up (DESIGN section 4).
//!
//! *Prepare* writes what must outlive the reply as mail files, unnamed by the index and so never
//! sent, in place of those of an earlier try. *Deliver* hands kept mail to the next hop. *Commit*
//! names everything in one batch for all recipients; only then does any effect exist. Where delivery
//! or commit fails for a recipient its files go and its reply is not 2yz.

mod effects;
pub(crate) mod letters;
mod prepare;
mod replies;
mod scanned;
mod why;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::timeout_at;

pub use effects::Effects;
pub use scanned::{Asked, Scanned};

use crate::config::{Config, Mailbox};
use crate::deliver::{Accepted, Content, Delivery, Outcome, Recipient};
use crate::failpoint::{Point, reach};
use crate::mail::{Address, Envelope, Message, Octets, edit};
use crate::policy::{Arrival, AuthReport, Plan, Verdict};
use crate::relay::Hops;
use crate::smtp::Reply;
use crate::store::{
    Answer, Batch, FileEntry, Handoff, HandoffKey, Id, InflightGuard, MailDigest, MailHeader,
    Store, StoreError, WhyRecord, blocking,
};
use crate::telemetry::together;

/// The field of a mail that was delivered unread, and why.
pub const BYPASS_FIELD: &str = "X-Sekimori-Bypass";
const BYPASS_REASON: &str = "crash";

/// One mail that was taken over, parsed and scanned.
#[derive(Debug)]
pub struct Mail {
    /// Its envelope.
    pub envelope: Envelope,
    /// Its facts.
    pub message: Message,
    /// Its octets, CRLF line ends.
    pub raw: Octets,
    /// Unix milliseconds.
    pub received_at: i64,
    /// What sender authentication found.
    pub auth: AuthReport,
    /// The daemon's settings when it came in.
    pub config: Arc<Config>,
    /// When the next hop must have answered, so that there is time left to commit.
    pub deadline: Instant,
    /// When whatever is not delivered is answered `451 4.4.5`.
    pub late: Instant,
    /// Its octets, for the mark that it is being read.
    pub digest: MailDigest,
    /// Reading it crashed us too often: it goes raw to its mailboxes (RELIABILITY D19).
    pub unread: bool,
    /// Its hand-offs: while any part of the work lives, a retry of them waits.
    pub under_way: Arc<InflightGuard>,
}

impl Mail {
    /// What else a decision on it looks at. `looping`: our mark for this mailbox is on it.
    pub fn arrival<'a>(&'a self, recipient: &'a Address, looping: bool) -> Arrival<'a> {
        Arrival {
            now: self.received_at.div_euclid(1000),
            sender: &self.envelope.sender,
            recipient,
            trusted_client: self.envelope.client.is_origin_trusted(),
            auth: &self.auth,
            looping,
        }
    }
}

/// One mailbox's decision, to be carried out.
#[derive(Debug)]
pub struct Task {
    /// `q=`, also of the why-record and the quarantine entry.
    pub id: Id,
    /// As `RCPT TO` said it.
    pub recipient: Address,
    /// Whose settings decided.
    pub mailbox: Arc<Mailbox>,
    /// What the scanners said of the mail.
    pub scanned: Arc<Scanned>,
    /// The decision.
    pub plan: Plan,
    /// Our mark for this mailbox was on the mail.
    pub looping: bool,
    /// The hand-off.
    pub key: HandoffKey,
}

/// What carrying out needs; one for the daemon.
#[derive(Debug)]
pub struct Executor {
    store: Store,
    hops: Arc<ArcSwap<Hops>>,
    courier: Arc<Notify>,
    loop_secret: [u8; 32],
    replies: replies::Replies,
}

impl Executor {
    /// `courier` is told when something is ready to be sent.
    pub fn new(
        store: Store,
        hops: Arc<ArcSwap<Hops>>,
        courier: Arc<Notify>,
        loop_secret: [u8; 32],
    ) -> Self {
        Self {
            store,
            hops,
            courier,
            loop_secret,
            replies: replies::Replies::default(),
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The key of our loop marks.
    pub fn loop_secret(&self) -> &[u8; 32] {
        &self.loop_secret
    }

    /// Carries out all tasks of a mail; one result a task, in order. `Ok` = durable. What is not
    /// delivered by `mail.late` is `451 4.4.5`; a commit that has begun is waited for, because what
    /// was answered 4yz must not be delivered after all (RFC 5321 4.2.5).
    pub async fn execute(&self, mail: &Arc<Mail>, tasks: &Arc<[Task]>) -> Vec<Result<(), Reply>> {
        let Some(first) = tasks.first() else {
            return Vec::new();
        };
        let received = received_line(mail, first.id);
        let up_to_delivery = async {
            let (mut results, mut effects) = self.prepare(mail, tasks, &received).await;
            reach(Point::Prepared);
            let unrecorded = Unrecorded(Some(&self.store));
            let delivering = self.deliver(mail, tasks, &received, &mut results, &mut effects);
            let certain = delivering.await;
            reach(Point::Delivered);
            (results, effects, unrecorded, certain)
        };
        let Ok((mut results, mut effects, unrecorded, certain)) =
            timeout_at(mail.late.into(), up_to_delivery).await
        else {
            // Files may still be being written: the retry clears them.
            return vec![Err(late_reply()); tasks.len()];
        };
        let recorded = self.commit(mail, tasks, &mut results, &mut effects).await;
        if certain && recorded {
            unrecorded.none();
        }
        self.conclude(tasks, &results).await;
        results
    }

    /// After all is said: what is committed is named, of all else nothing stays.
    async fn conclude(&self, tasks: &[Task], results: &[Result<(), Reply>]) {
        let mut refused = Vec::new();
        for (task, result) in tasks.iter().zip(results) {
            match result {
                Ok(()) => self.store.forget_prepared(&task.key),
                Err(_) if self.store.is_prepared(&task.key) => refused.push(task.key),
                Err(_) => {}
            }
        }
        if refused.is_empty() {
            return;
        }
        let store = self.store.clone();
        let clear = move || refused.iter().try_for_each(|key| store.clear_prepared(key));
        if let Err(error) = blocking(clear).await {
            tracing::warn!(%error, "files of a mail that was not taken stay behind until its retry");
        }
    }

    /// Kept mail to the next hop; recipients with equal octets in one transaction. Whether all is
    /// known of each: delivered or not.
    async fn deliver(
        &self,
        mail: &Arc<Mail>,
        tasks: &[Task],
        received: &[u8],
        results: &mut [Result<(), Reply>],
        effects: &mut [Effects],
    ) -> bool {
        let mut certain = true;
        let mut groups: BTreeMap<(&str, Vec<u8>), Vec<usize>> = BTreeMap::new();
        for (index, task) in tasks.iter().enumerate() {
            let open = results.get(index).is_some_and(Result::is_ok);
            if open && task.plan.verdict == Verdict::Deliver {
                let mark = task.plan.mark.as_deref().unwrap_or("");
                let lines = task.scanned.lines(&task.plan, &task.mailbox.policy);
                groups.entry((mark, lines)).or_default().push(index);
            }
        }
        let hops = self.hops.load_full();
        let maybe_there = self.store.is_in_doubt(mail.received_at);
        for ((mark, lines), indexes) in groups {
            let head = [received, &lines].concat();
            let mut content = Content::new(head, mail.raw.clone(), mail.message.body_start);
            if !mark.is_empty() {
                let _reading = self.store.reading(&mail.digest, mail.received_at);
                content.edit = Some(edit::mark_subject(mail.raw.head(), &mail.message, mark));
            }
            let chosen: Vec<&Task> = indexes
                .iter()
                .filter_map(|index| tasks.get(*index))
                .collect();
            let delivery = Delivery {
                sender: mail.envelope.sender.clone(),
                recipients: chosen
                    .iter()
                    .map(|task| recipient(task, maybe_there))
                    .collect(),
                content,
                smtputf8: mail.envelope.smtputf8,
                eight_bit: mail.envelope.eight_bit,
                deadline: Some(mail.deadline),
                under_way: Some(mail.clone()),
            };
            let outcomes = hops.next_hop.deliver(&delivery).await;
            certain &= outcomes
                .iter()
                .all(|outcome| !matches!(outcome, Err(error) if error.ambiguous));
            together(|| {
                tell_refused(&chosen, &outcomes);
                for ((index, task), outcome) in indexes.iter().zip(chosen).zip(outcomes) {
                    if let (Some(result), Some(effects)) =
                        (results.get_mut(*index), effects.get_mut(*index))
                    {
                        *result = delivered(task, outcome).map(|accepted| {
                            effects.delivered = Some(accepted);
                        });
                    }
                }
            });
        }
        certain
    }

    /// One batch for all that went well. A mail that was only kept does not wait for it: it is
    /// durable at the next hop already. Whether it is on record, or on its way there.
    async fn commit(
        &self,
        mail: &Mail,
        tasks: &[Task],
        results: &mut [Result<(), Reply>],
        effects: &mut [Effects],
    ) -> bool {
        let mut batch = Batch::new();
        let mut waits = false;
        for ((task, result), effects) in tasks.iter().zip(results.iter()).zip(effects.iter_mut()) {
            if result.is_err() {
                continue;
            }
            waits |= !effects.is_empty();
            batch.put_handoff(&task.key, &handoff(task, mail, effects));
            let mailbox = task.mailbox.policy.mailbox.as_str();
            let why = WhyRecord {
                id: task.id,
                received_at: mail.received_at,
                body: why::body(mailbox, task, mail, effects),
                mailbox: mailbox.to_owned(),
            };
            batch.put_decision(&why, &why::facts(task, mail));
            effects.name(&mut batch);
        }
        if batch.is_empty() {
            return true;
        }
        if !waits {
            self.store.submit(batch);
            return true;
        }
        batch.keep_under_way(mail.under_way.clone());
        match self.store.commit(batch).await {
            Ok(()) => {
                self.courier.notify_one();
                true
            }
            Err(error) => {
                tracing::error!(%error, "commit failed");
                for (result, effects) in results.iter_mut().zip(effects) {
                    if result.is_ok() && !effects.is_empty() {
                        *result = Err(store_reply(&error));
                    }
                }
                false
            }
        }
    }
}

/// From the delivery to its record. Where this goes before all is recorded (an outcome that nobody
/// knows, a commit that failed, a hand-off that was called off), a mail may be delivered that the
/// store does not know.
struct Unrecorded<'a>(Option<&'a Store>);

impl Unrecorded<'_> {
    fn none(mut self) {
        self.0 = None;
    }
}

impl Drop for Unrecorded<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.0 {
            store.doubt();
        }
    }
}

/// The reply for a fault of the store: `452 4.3.1` when it is full, else `451 4.3.0`.
pub fn store_reply(error: &StoreError) -> Reply {
    if error.is_full() {
        Reply::new(452, 3, 1, "insufficient storage")
    } else {
        Reply::new(451, 3, 0, "storage trouble, try again")
    }
}

/// The reply for what took longer than `timeouts.final_reply`.
pub fn late_reply() -> Reply {
    Reply::new(451, 4, 5, "this took too long")
}

/// What stands before the mail wherever it goes.
fn received_line(mail: &Mail, id: Id) -> Vec<u8> {
    let date = letters::rfc5322(mail.received_at, &jiff::tz::TimeZone::system());
    let received = edit::received(
        &mail.envelope,
        &mail.config.server.hostname,
        id.as_str(),
        &date,
    );
    match mail.unread {
        true => [edit::field(BYPASS_FIELD, BYPASS_REASON), received].concat(),
        false => received,
    }
}

fn recipient(task: &Task, maybe_there: bool) -> Recipient {
    Recipient {
        address: task.recipient.clone(),
        mailbox: task.mailbox.policy.mailbox.clone(),
        key: task.key.to_string(),
        maybe_there,
    }
}

/// What the next hop did not take: one line for all in a row whom it refused alike, with the id of the
/// first.
fn tell_refused(tasks: &[&Task], outcomes: &[Outcome]) {
    let refusal = |outcome| Result::err(Result::as_ref(outcome));
    let refused = tasks.iter().zip(outcomes.iter().map(refusal));
    let refused: Vec<_> = refused.collect();
    for alike in refused.chunk_by(|(_, one), (_, next)| one == next) {
        if let Some((task, Some(error))) = alike.first() {
            let recipients = alike.len();
            tracing::warn!(id = %task.id, recipients, %error, "next hop did not take the mail");
        }
    }
}

fn delivered(task: &Task, outcome: Outcome) -> Result<Accepted, Reply> {
    match outcome {
        Ok(accepted) => {
            tracing::debug!(id = %task.id, place = accepted.place, repeated = accepted.repeated, "delivered");
            Ok(accepted)
        }
        Err(error) => {
            let mut reply = error.reply;
            if reply.code == 421 {
                // The next hop hangs up; we do not (RFC 5321 3.8).
                reply.code = 451;
            }
            Err(reply)
        }
    }
}

fn mail_header(mail: &Mail, entries: Vec<FileEntry>, trace: &[u8]) -> MailHeader {
    MailHeader {
        sender: mail.envelope.sender.to_string(),
        client: why::client(mail),
        trace: String::from_utf8_lossy(trace).into_owned(),
        received_at: mail.received_at,
        entries,
    }
}

fn handoff(task: &Task, mail: &Mail, effects: &Effects) -> Handoff {
    Handoff {
        answer: Answer {
            id: task.id,
            verdict: task.plan.verdict.as_str().to_owned(),
            stage: task.plan.stage.map(|stage| stage.as_str().to_owned()),
        },
        outgoing: effects.outgoing().map(|item| item.id).collect(),
        quarantine: effects.held.as_ref().map(|held| held.id),
        created_at: mail.received_at,
    }
}
