//! The walk of one mail: parse once, screen for every mailbox, scan once, decide, carry out, answer
//! each recipient.

mod decision;
mod scanners;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

use crate::config::{Config, Directory, Lookup, Mailbox, ServerLimits};
use crate::execute::{self, Executor, Mail, Task};
use crate::failpoint::strike;
use crate::mail::{Address, Bounds, Envelope, Message, ReversePath};
use crate::policy::{Arrival, AuthReport, Plan, ScanReport, Screening, Stage};
use crate::server::Handoff;
use crate::smtp::{Answer, Reply};
use crate::store::{HandoffKey, MailDigest, Store};
use crate::telemetry::Redact;

pub use scanners::{Question, Scanners, Wanted};

/// How long before the last moment for a reply delivery ends.
const COMMIT_TIME: Duration = Duration::from_secs(15);
/// How long a commit that has begun is waited for beyond `timeouts.final_reply`: what was answered
/// 4yz must not take effect after all. Both together stay below an MTA's 600 s.
const COMMIT_PATIENCE: Duration = Duration::from_secs(60);

/// Settings that a reload swaps as one.
#[derive(Debug)]
pub struct Active {
    /// The daemon file.
    pub config: Arc<Config>,
    /// The mailbox files.
    pub directory: Arc<Directory>,
    /// Who looks for viruses and spam.
    pub scanners: Arc<Scanners>,
}

/// Decides and executes; one for the daemon.
#[derive(Debug)]
pub struct Agent {
    active: Arc<ArcSwap<Active>>,
    executor: Executor,
}

/// One mailbox's part of a mail under way.
struct Share {
    recipient: Address,
    mailbox: Arc<Mailbox>,
    key: HandoffKey,
}

impl Agent {
    /// An agent over the settings of the moment.
    pub fn new(active: Arc<ArcSwap<Active>>, executor: Executor) -> Self {
        Self { active, executor }
    }

    async fn carry_out(
        &self,
        scanners: &Arc<Scanners>,
        mail: &Arc<Mail>,
        shares: &Arc<[Share]>,
    ) -> Vec<Answer> {
        let (mut answers, decided) = self.decided(scanners, mail, shares).await;
        let mut tasks = Vec::with_capacity(decided.len());
        for (place, decided) in decided {
            match decided {
                Ok(task) => tasks.push((place, task)),
                Err(reply) => put(&mut answers, place, Answer::Refused(reply)),
            }
        }
        let (places, tasks): (Vec<usize>, Vec<Task>) = tasks.into_iter().unzip();
        let tasks: Arc<[Task]> = tasks.into();
        let done = self.executor.execute(mail, &tasks).await;
        for ((place, task), done) in places.into_iter().zip(tasks.iter()).zip(done) {
            put(&mut answers, place, finish(task, done));
        }
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| Answer::Refused(broken())))
            .collect()
    }

    fn log(&self, active: &Active, mail: &Mail, answer: &Answer, recipient: &Address) {
        let redact = Redact(active.config.logging.redact);
        let (id, verdict, stage, reply) = match answer {
            Answer::Taken { id, verdict, stage } => (
                id.as_str(),
                *verdict,
                stage.unwrap_or("-"),
                "250".to_owned(),
            ),
            Answer::Refused(reply) => ("-", "-", "-", reply.to_string()),
        };
        tracing::info!(
            id,
            recipient = redact.address(&recipient.to_string()),
            sender = redact.address(&mail.envelope.sender.to_string()),
            verdict,
            stage,
            size = mail.message.size,
            message_id = mail.message.message_id().unwrap_or_default(),
            subject = redact.subject(mail.message.subject_text()),
            reply,
            "mail"
        );
    }
}

impl Handoff for Agent {
    async fn mail(&self, _sender: &ReversePath, declared_size: Option<u64>) -> Result<(), Reply> {
        let (store, size) = (self.executor.store().clone(), declared_size.unwrap_or(0));
        if store.had_plenty(size) {
            return Ok(());
        }
        match off_the_reactor(move || store.has_room(size)).await {
            Some(true) => Ok(()),
            _ => Err(Reply::new(452, 3, 1, "insufficient storage")),
        }
    }

    async fn recipient(&self, address: &Address) -> Result<(), Reply> {
        let active = self.active.load_full();
        if active.directory.has_lately(address) {
            return Ok(());
        }
        let address = address.clone();
        let found = off_the_reactor(move || active.directory.lookup(&address)).await;
        known(found.unwrap_or_else(|| Lookup::Unavailable("the look-up failed".to_owned())))?;
        Ok(())
    }

    async fn message(&self, envelope: Envelope, raw: Bytes) -> Vec<Answer> {
        let active = self.active.load_full();
        let final_reply = active.config.server.timeouts.final_reply;
        let began = Instant::now();
        let recipients = envelope.recipients.len();
        let refuse_all = |reply: Reply| vec![Answer::Refused(reply); recipients];
        let (store, settings) = (self.executor.store().clone(), active.clone());
        let open = move || {
            let read = read(&store, &settings.config, raw);
            let shared = shares(&settings.directory, &envelope, &read.digest);
            (envelope, read, shared)
        };
        let Some((envelope, read, (shares, routes))) = off_the_reactor(open).await else {
            return refuse_all(broken());
        };
        let keys: Vec<HandoffKey> = shares.iter().map(|share| share.key).collect();
        let late = began + final_reply;
        let begun = timeout_at(late.into(), self.executor.store().begin_all(&keys));
        let Ok(under_way) = begun.await else {
            return refuse_all(execute::late_reply());
        };
        let mail = Arc::new(Mail {
            received_at: now(),
            auth: AuthReport::default(),
            envelope,
            message: read.message,
            raw: read.raw,
            config: active.config.clone(),
            deadline: began + delivery_time(final_reply),
            late,
            digest: read.digest,
            unread: read.unread,
            under_way: under_way.into(),
        });
        let shares = shares.into();
        let answers = self.carry_out(&active.scanners, &mail, &shares).await;
        let refused = |reply: Reply| Answer::Refused(reply);
        routes
            .into_iter()
            .zip(&mail.envelope.recipients)
            .map(|(route, recipient)| {
                let answer = match route {
                    Ok(place) => answers
                        .get(place)
                        .cloned()
                        .unwrap_or_else(|| refused(broken())),
                    Err(reply) => refused(reply),
                };
                self.log(&active, &mail, &answer, recipient);
                answer
            })
            .collect()
    }

    fn overtime(&self) -> Duration {
        COMMIT_PATIENCE
    }
}

/// Work that may block or take its time; `None` where it panicked.
async fn off_the_reactor<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let done = spawn_blocking(work).await;
    done.inspect_err(|error| tracing::error!(%error, "work on a mail failed"))
        .ok()
}

/// Each mailbox among the recipients once, in order of first appearance, and for each recipient the
/// mailbox's place or the reply that it gets instead.
fn shares(
    directory: &Directory,
    envelope: &Envelope,
    digest: &MailDigest,
) -> (Vec<Share>, Vec<Result<usize, Reply>>) {
    let sender = envelope.sender.to_string();
    let mut places: BTreeMap<HandoffKey, usize> = BTreeMap::new();
    let mut shares = Vec::new();
    let mut routes = Vec::with_capacity(envelope.recipients.len());
    for recipient in &envelope.recipients {
        let mailbox = known(directory.lookup(recipient));
        routes.push(mailbox.map(|mailbox| {
            let key = HandoffKey::new(&mailbox.policy.mailbox.key(), &sender, digest);
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

/// A mail that was looked into, or was not.
struct Read {
    message: Message,
    digest: MailDigest,
    raw: Bytes,
    unread: bool,
}

/// Reads a mail, marked as being read. One that crashed us too often is left unread; its digest is
/// taken by code without recursion or allocation of its making.
fn read(store: &Store, config: &Config, raw: Bytes) -> Read {
    let (digest, now) = (MailDigest::of(&raw), now());
    let unread = store.is_poison(&digest, now);
    let message = if unread {
        tracing::error!(
            size = raw.len(),
            "this mail crashed us before: it is delivered unread"
        );
        Message::unread(&raw)
    } else {
        let _reading = store.reading(&digest, now);
        strike(&raw);
        Message::parse(&raw, &bounds(&config.server.limits))
    };
    Read {
        message,
        digest,
        raw,
        unread,
    }
}

fn put(answers: &mut [Option<Answer>], place: usize, answer: Answer) {
    if let Some(slot) = answers.get_mut(place) {
        *slot = Some(answer);
    }
}

fn broken() -> Reply {
    Reply::new(451, 3, 0, "internal error")
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// What of `timeouts.final_reply` the next hop gets: the rest is for what was delivered to be
/// recorded, so that a retry does not deliver it again.
fn delivery_time(final_reply: Duration) -> Duration {
    final_reply.saturating_sub(COMMIT_TIME.min(final_reply / 4))
}

/// The bounds of `server.limits`.
pub fn bounds(limits: &ServerLimits) -> Bounds {
    Bounds {
        header_fields: limits.header_fields,
        header_bytes: usize::try_from(limits.header_bytes).unwrap_or(usize::MAX),
        mime_parts: limits.mime_parts,
        mime_depth: limits.mime_depth,
    }
}

/// The decision for one mailbox: both pure calls in a row. `explain` calls the same.
pub fn decide(
    mailbox: &Mailbox,
    message: &Message,
    arrival: &Arrival<'_>,
    scan: &ScanReport,
) -> Plan {
    match mailbox.policy.screen(message, arrival) {
        Screening::Settled(plan) => *plan,
        Screening::Passed(passed) => mailbox.policy.decide(message, arrival, passed, scan),
    }
}

fn known(lookup: Lookup) -> Result<Arc<Mailbox>, Reply> {
    match lookup {
        Lookup::Found(mailbox) => Ok(mailbox),
        Lookup::UnknownDomain => Err(Reply::new(550, 1, 2, "no such domain here")),
        Lookup::UnknownMailbox => Err(Reply::new(550, 1, 1, "no such mailbox here")),
        Lookup::Unavailable(reason) => {
            tracing::error!(reason, "mailbox settings unavailable");
            Err(Reply::new(451, 3, 0, "mailbox settings unavailable"))
        }
    }
}

fn finish(task: &Task, done: Result<(), Reply>) -> Answer {
    match done {
        Ok(()) => Answer::Taken {
            id: task.id.to_string(),
            verdict: task.plan.verdict.as_str(),
            stage: task.plan.stage.map(Stage::as_str),
        },
        Err(reply) => Answer::Refused(reply),
    }
}
