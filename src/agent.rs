//! The walk of one mail: parse once, screen for every mailbox, scan once, decide, carry out, answer
//! each recipient.

mod scanners;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

use crate::config::{Config, Directory, Lookup, Mailbox, ServerLimits};
use crate::deliver::loops;
use crate::execute::{self, Executor, Mail, Scanned, Task};
use crate::failpoint::strike;
use crate::mail::{Address, Bounds, Envelope, Message, ReversePath};
use crate::policy::{Arrival, AuthReport, Plan, ScanReport, Screening, Stage, Verdict};
use crate::server::Handoff;
use crate::smtp::{Answer, Reply};
use crate::store::{HandoffKey, Id, MailDigest, Store};
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

    /// Of each share the answer that an earlier hand-off of the same mail got, and for all others the
    /// decision: screened, with the mail scanned once if one of them wants that. Nothing where that
    /// panicked.
    async fn decided(
        &self,
        scanners: &Arc<Scanners>,
        mail: &Arc<Mail>,
        shares: &Arc<[Share]>,
    ) -> (Vec<Option<Answer>>, Vec<Decided>) {
        let secret = *self.executor.loop_secret();
        let store = self.executor.store().clone();
        let screen = {
            let (mail, shares, scanners) = (mail.clone(), shares.clone(), scanners.clone());
            move || {
                let answers: Vec<_> = shares.iter().map(|share| earlier(&store, share)).collect();
                let _reading = store.reading(&mail.digest, mail.received_at);
                let open = shares.iter().enumerate().zip(&answers);
                let screened: Vec<Screened> = open
                    .filter(|(_, answer)| answer.is_none())
                    .map(|((place, share), _)| screen(&mail, place, share, &secret))
                    .collect();
                let wanted = screened
                    .iter()
                    .map(|one| Wanted::of(&one.screening))
                    .fold(Wanted::default(), Wanted::or);
                if scanners.must_ask(wanted) {
                    return (answers, Err((screened, wanted)));
                }
                let scanned = scanners.upstream(&mail.message, mail.envelope.client.trusted);
                let decided = decide_all(&mail, &shares, screened, &Arc::new(scanned));
                (answers, Ok(decided))
            }
        };
        let (answers, (screened, wanted)) = match off_the_reactor(screen).await {
            None => return (vec![None; shares.len()], Vec::new()),
            Some((answers, Ok(decided))) => return (answers, decided),
            Some((answers, Err(undecided))) => (answers, undecided),
        };
        let name = screened.first().map(|first| first.id.to_string());
        let bounds = bounds(&mail.config.server.limits);
        let question = Question {
            envelope: &mail.envelope,
            message: &mail.message,
            raw: &mail.raw,
            bounds: Some(&bounds).filter(|_| !mail.unread),
            hostname: &mail.config.server.hostname,
            name: name.as_deref().unwrap_or_default(),
        };
        let scanned = Arc::new(scanners.ask(&question, wanted, scan_end(mail)).await);
        let store = self.executor.store().clone();
        let (of, shares) = (mail.clone(), shares.clone());
        let decide = move || {
            let _reading = store.reading(&of.digest, of.received_at);
            decide_all(&of, &shares, screened, &scanned)
        };
        let decided = off_the_reactor(decide).await;
        (answers, decided.unwrap_or_default())
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

/// What an earlier hand-off of the same mail was answered, if it was carried out, or that nobody
/// can say.
fn earlier(store: &Store, share: &Share) -> Option<Answer> {
    let answer = match store.handoff_get(&share.key) {
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

/// A share whose mail went through stages 1-4.
struct Screened {
    /// Its place among the shares.
    place: usize,
    id: Id,
    looping: bool,
    screening: Screening,
}

/// A share's place and its decision, or the reply where its mail is put off.
type Decided = (usize, Result<Task, Reply>);

fn screen(mail: &Mail, place: usize, share: &Share, loop_secret: &[u8; 32]) -> Screened {
    let mailbox = share.mailbox.policy.mailbox.key();
    let looping = loops::is_marked(&mail.message.header, loop_secret, &mailbox);
    let arrival = mail.arrival(&share.recipient, looping);
    let policy = &share.mailbox.policy;
    Screened {
        place,
        id: Id::new(mail.received_at),
        looping,
        screening: match mail.unread {
            true => Screening::Passed(policy.unread()),
            false => policy.screen(&mail.message, &arrival),
        },
    }
}

fn decide_all(
    mail: &Mail,
    shares: &[Share],
    screened: Vec<Screened>,
    scanned: &Arc<Scanned>,
) -> Vec<Decided> {
    screened
        .into_iter()
        .filter_map(|one| {
            let share = shares.get(one.place)?;
            Some((one.place, task(mail, share, one, scanned)))
        })
        .collect()
}

fn task(
    mail: &Mail,
    share: &Share,
    screened: Screened,
    scanned: &Arc<Scanned>,
) -> Result<Task, Reply> {
    let plan = match screened.screening {
        Screening::Settled(plan) => *plan,
        Screening::Passed(passed) => {
            if let Some(stage) = passed.put_off(&scanned.report) {
                let text = format!("{} scanner unavailable", stage.as_str());
                return Err(Reply::new(451, 3, 0, &text));
            }
            let arrival = mail.arrival(&share.recipient, screened.looping);
            let policy = &share.mailbox.policy;
            match mail.unread {
                true => policy.decide_unread(&scanned.report),
                false => policy.decide(&mail.message, &arrival, passed, &scanned.report),
            }
        }
    };
    Ok(Task {
        id: screened.id,
        recipient: share.recipient.clone(),
        mailbox: share.mailbox.clone(),
        scanned: scanned.clone(),
        plan,
        looping: screened.looping,
        key: share.key,
    })
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

/// When scanners must have answered: half of `timeouts.final_reply` is for what comes after.
fn scan_end(mail: &Mail) -> Instant {
    let rest = mail.config.server.timeouts.final_reply / 2;
    mail.late.checked_sub(rest).unwrap_or(mail.late)
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
