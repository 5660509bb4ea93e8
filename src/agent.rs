//! The walk of one mail: parse once, screen for every mailbox, scan once, decide, carry out, answer
//! each recipient.

mod decision;
mod look;
mod pulse;
mod scanners;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{timeout, timeout_at};

use crate::config::{Config, Directory, Lookup, Mailbox, ServerLimits};
use crate::execute::{self, Executor, Mail, Task};
use crate::mail::{Address, Bounds, Envelope, Message, Octets, ReversePath};
use crate::policy::{Arrival, Plan, ScanReport, Screening, Stage};
use crate::server::Handoff;
use crate::smtp::{Answer, Reply};
use crate::telemetry::{Redact, together};

pub use scanners::{Question, Scanners, Wanted};

use look::{Looked, Looker, Share, is_small};
use pulse::Pulse;

/// How long a commit that has begun is waited for beyond `timeouts.final_reply`: what was answered
/// 4yz must not take effect after all. Both together stay below an MTA's 600 s.
const COMMIT_PATIENCE: Duration = Duration::from_secs(60);

/// How long a small mail waits for a thread of the reactor to look at it, and a recipient for those whose
/// mailbox files are read: those that look may hang.
const TURN: Duration = Duration::from_millis(50);

/// Recipients that are looked up at once of whom memory knows no file of their own, perhaps to read and compile it: behind a
/// start, when none is known, a thread and some 200 KiB for each of 64 connections gain nothing. Those without one (an
/// alias, an extension) count as well.
const READERS: usize = 4;

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
    /// Threads of the reactor that may look at a mail at once: all but one.
    looks: Semaphore,
    /// For that one, if it sleeps while the others hang.
    _pulse: Pulse,
    /// Recipients without a known file that may be looked up at once.
    readers: Semaphore,
}

impl Agent {
    /// An agent over the settings of the moment. Within a tokio runtime.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn new(active: Arc<ArcSwap<Active>>, executor: Executor) -> io::Result<Self> {
        let reactor = Handle::current();
        let threads = reactor.metrics().num_workers();
        Ok(Self {
            active,
            executor,
            looks: Semaphore::new(threads.saturating_sub(1)),
            _pulse: Pulse::start(reactor)?,
            readers: Semaphore::new(READERS),
        })
    }

    /// The first look at a mail; a hand-off that is under way already is waited for in between.
    ///
    /// To hand a mail to a thread that may block and back costs more than the look at a small one, so
    /// a thread of the reactor takes that on as long as another one stays free: a disk that hangs
    /// takes all the others at most.
    async fn look(&self, looker: Looker, envelope: Envelope, raw: Octets) -> Result<Looked, Reply> {
        let late = looker.late();
        let quick = match is_small(&envelope, &raw) {
            // Nearly always free at once, or as soon as a look is over.
            true => match self.looks.try_acquire() {
                Ok(turn) => Some(turn),
                Err(_) => timeout(TURN, self.looks.acquire())
                    .await
                    .ok()
                    .and_then(Result::ok),
            },
            false => None,
        };
        let quick = quick.and_then(|turn| Some((turn, looker.ready(&envelope)?)));
        let looked = match quick {
            Some((_turn, found)) => looker.look(envelope, raw, Some(found)),
            None => {
                let first = looker.clone();
                let look = move || first.look(envelope, raw, None);
                off_the_reactor(look).await.ok_or_else(broken)?
            }
        };
        let opened = match looked.map_err(|error| unreadable(&error))? {
            Ok(looked) => return Ok(looked),
            Err(opened) => opened,
        };
        let keys = opened.keys();
        let begun = timeout_at(late.into(), self.executor.store().begin_all(&keys)).await;
        let under_way = begun.map_err(|_| execute::late_reply())?;
        let looked = off_the_reactor(move || looker.look_on(opened, under_way)).await;
        looked.ok_or_else(broken)
    }

    async fn carry_out(&self, scanners: &Scanners, looked: Looked) -> Vec<Answer> {
        let decided = self
            .decided(scanners, &looked.mail, &looked.shares, looked.first)
            .await;
        let (mail, mut answers) = (&looked.mail, looked.earlier);
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
        // Whoever waits long reads beside the others: those may hang.
        let _turn = match active.directory.has_read(address) {
            true => None,
            false => Some(timeout(TURN, self.readers.acquire()).await),
        };
        let address = address.clone();
        let found = off_the_reactor(move || active.directory.lookup(&address)).await;
        known(found.unwrap_or_else(|| Lookup::Unavailable("the look-up failed".to_owned())))?;
        Ok(())
    }

    async fn message(&self, envelope: Envelope, raw: Octets) -> Vec<Answer> {
        let active = self.active.load_full();
        let recipients = envelope.recipients.len();
        let refuse_all = |reply: Reply| vec![Answer::Refused(reply); recipients];
        let looker = Looker {
            store: self.executor.store().clone(),
            active: active.clone(),
            loop_secret: *self.executor.loop_secret(),
            began: Instant::now(),
        };
        let looked = match self.look(looker, envelope, raw).await {
            Ok(looked) => looked,
            Err(reply) => return refuse_all(reply),
        };
        let (mail, routes) = (looked.mail.clone(), looked.routes.clone());
        let answers = self.carry_out(&active.scanners, looked).await;
        let refused = |reply: Reply| Answer::Refused(reply);
        let logged = Logged::of(&mail);
        let answer = |(route, recipient): (Result<usize, Reply>, &Address)| {
            let answer = match route {
                Ok(place) => answers
                    .get(place)
                    .cloned()
                    .unwrap_or_else(|| refused(broken())),
                Err(reply) => refused(reply),
            };
            logged.log(recipient, &answer);
            answer
        };
        let routes = routes.into_iter().zip(&mail.envelope.recipients);
        together(|| routes.map(answer).collect())
    }

    fn overtime(&self) -> Duration {
        COMMIT_PATIENCE
    }
}

/// What the lines of the log on one mail have in common.
struct Logged<'a> {
    redact: Redact,
    sender: String,
    size: u64,
    message_id: String,
    subject: Cow<'a, str>,
}

impl<'a> Logged<'a> {
    fn of(mail: &'a Mail) -> Self {
        let redact = Redact(mail.config.logging.redact);
        Self {
            redact,
            sender: redact.address(mail.envelope.sender.as_str()).into_owned(),
            size: mail.message.size,
            message_id: mail.message.message_id().unwrap_or_default(),
            subject: redact.subject(mail.message.subject_text()),
        }
    }

    /// The line of one recipient.
    fn log(&self, recipient: &Address, answer: &Answer) {
        let (id, verdict, stage, reply) = match answer {
            Answer::Taken { id, verdict, stage } => {
                (id.as_str(), *verdict, stage.unwrap_or("-"), "250".into())
            }
            Answer::Refused(reply) => ("-", "-", "-", Cow::Owned(reply.to_string())),
        };
        tracing::info!(
            id,
            recipient = &*self.redact.address(recipient.as_str()),
            sender = self.sender,
            verdict,
            stage,
            size = self.size,
            message_id = self.message_id,
            subject = &*self.subject,
            reply = &*reply,
            "mail"
        );
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

fn put(answers: &mut [Option<Answer>], place: usize, answer: Answer) {
    if let Some(slot) = answers.get_mut(place) {
        *slot = Some(answer);
    }
}

fn broken() -> Reply {
    Reply::new(451, 3, 0, "internal error")
}

fn unreadable(error: &io::Error) -> Reply {
    tracing::error!(%error, "a mail cannot be read from its file");
    broken()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
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
