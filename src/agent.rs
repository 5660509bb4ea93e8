//! The walk of one mail: parse once, decide for every mailbox, carry out, answer each recipient.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::config::{Config, Directory, Engine, Lookup, Mailbox, ServerLimits};
use crate::deliver::loops;
use crate::execute::{self, Executor, Mail, Task};
use crate::mail::{Address, Bounds, Envelope, Message, ReversePath};
use crate::policy::{
    Arrival, AuthReport, Plan, ScanReport, Screening, SpamScan, Stage, Verdict, VirusScan,
};
use crate::scan::Upstream;
use crate::server::Handoff;
use crate::smtp::{Answer, Reply};
use crate::store::{self, HandoffKey, Id, MailDigest};
use crate::telemetry::Redact;

/// How long before the last moment for a reply delivery ends.
const COMMIT_TIME: Duration = Duration::from_secs(15);

/// Settings that a reload swaps as one.
#[derive(Debug)]
pub struct Active {
    /// The daemon file.
    pub config: Arc<Config>,
    /// The mailbox files.
    pub directory: Arc<Directory>,
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

    async fn lookup(&self, active: &Arc<Active>, address: &Address) -> Lookup {
        let (active, address) = (active.clone(), address.clone());
        spawn_blocking(move || active.directory.lookup(&address))
            .await
            .unwrap_or_else(|error| Lookup::Unavailable(error.to_string()))
    }

    /// Each mailbox among the recipients once, in order of first appearance, and for each
    /// recipient the mailbox's place or the reply that it gets instead.
    async fn shares(
        &self,
        active: &Arc<Active>,
        envelope: &Envelope,
        digest: &MailDigest,
    ) -> (Vec<Share>, Vec<Result<usize, Reply>>) {
        let mut places: BTreeMap<HandoffKey, usize> = BTreeMap::new();
        let mut shares = Vec::new();
        let mut routes = Vec::with_capacity(envelope.recipients.len());
        for recipient in &envelope.recipients {
            routes.push(match known(self.lookup(active, recipient).await) {
                Err(reply) => Err(reply),
                Ok(mailbox) => {
                    let key = HandoffKey::new(
                        &mailbox.policy.mailbox.key(),
                        &envelope.sender.to_string(),
                        digest,
                    );
                    Ok(*places.entry(key).or_insert_with(|| {
                        shares.push(Share {
                            recipient: recipient.clone(),
                            mailbox,
                            key,
                        });
                        shares.len() - 1
                    }))
                }
            });
        }
        (shares, routes)
    }

    async fn carry_out(&self, mail: &Arc<Mail>, shares: &[Share]) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(shares.len());
        let mut tasks = Vec::new();
        for share in shares {
            match self.earlier(share).await {
                Ok(Some(answer)) => answers.push(Some(answer)),
                Ok(None) => {
                    tasks.push(self.task(mail, share));
                    answers.push(None);
                }
                Err(reply) => answers.push(Some(Answer::Refused(reply))),
            }
        }
        let mut done = self.executor.execute(mail, &tasks).await.into_iter();
        let mut executed = tasks.iter();
        for answer in answers.iter_mut().filter(|answer| answer.is_none()) {
            if let (Some(reply), Some(task)) = (done.next(), executed.next()) {
                *answer = Some(finish(task, reply));
            }
        }
        let lost = || Answer::Refused(Reply::new(451, 3, 0, "internal error"));
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(lost))
            .collect()
    }

    /// What an earlier hand-off of the same mail was answered, if it was carried out.
    async fn earlier(&self, share: &Share) -> Result<Option<Answer>, Reply> {
        let (store, key) = (self.executor.store().clone(), share.key);
        let handoff = store::blocking(move || store.handoff_get(&key))
            .await
            .map_err(|error| execute::store_reply(&error))?;
        Ok(handoff.map(|handoff| {
            let earlier = handoff.answer;
            tracing::info!(id = %earlier.id, "repeated");
            Answer::Taken {
                id: earlier.id.to_string(),
                verdict: Verdict::named(&earlier.verdict)
                    .unwrap_or(Verdict::Deliver)
                    .as_str(),
                stage: earlier
                    .stage
                    .as_deref()
                    .and_then(Stage::named)
                    .map(Stage::as_str),
            }
        }))
    }

    fn task(&self, mail: &Mail, share: &Share) -> Task {
        let policy = &share.mailbox.policy;
        let arrival = Arrival {
            now: mail.received_at.div_euclid(1000),
            sender: &mail.envelope.sender,
            recipient: &share.recipient,
            trusted_client: mail.envelope.client.is_origin_trusted(),
            auth: &mail.auth,
            looping: loops::is_marked(
                &mail.message.header,
                self.executor.loop_secret(),
                &policy.mailbox.key(),
            ),
        };
        Task {
            id: Id::new(mail.received_at),
            recipient: share.recipient.clone(),
            mailbox: share.mailbox.clone(),
            plan: decide(&share.mailbox, &mail.message, &arrival, &mail.scan),
            key: share.key,
        }
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
        let store = self.executor.store().clone();
        match spawn_blocking(move || store.has_room(declared_size.unwrap_or(0))).await {
            Ok(true) => Ok(()),
            _ => Err(Reply::new(452, 3, 1, "insufficient storage")),
        }
    }

    async fn recipient(&self, address: &Address) -> Result<(), Reply> {
        let active = self.active.load_full();
        known(self.lookup(&active, address).await).map(|_| ())
    }

    async fn message(&self, envelope: Envelope, raw: Bytes) -> Vec<Answer> {
        let active = self.active.load_full();
        let deadline = Instant::now() + delivery_time(active.config.server.timeouts.final_reply);
        let bounds = bounds(&active.config.server.limits);
        let parsed = spawn_blocking(move || {
            let message = Message::parse(&raw, &bounds);
            let digest = MailDigest::of(&raw);
            (message, digest, raw)
        });
        let Ok((message, digest, raw)) = parsed.await else {
            let refused = Answer::Refused(Reply::new(451, 3, 0, "internal error"));
            return vec![refused; envelope.recipients.len()];
        };
        let scan = scan(&active.config, &message, envelope.client.trusted);
        let (shares, routes) = self.shares(&active, &envelope, &digest).await;
        let keys: Vec<HandoffKey> = shares.iter().map(|share| share.key).collect();
        let _under_way = self.executor.store().begin_all(&keys).await;
        let mail = Arc::new(Mail {
            received_at: jiff::Timestamp::now().as_millisecond(),
            scan,
            auth: AuthReport::default(),
            envelope,
            message,
            raw,
            config: active.config.clone(),
            deadline,
        });
        let answers = self.carry_out(&mail, &shares).await;
        let refused = |reply: Reply| Answer::Refused(reply);
        routes
            .into_iter()
            .zip(&mail.envelope.recipients)
            .map(|(route, recipient)| {
                let answer = match route {
                    Ok(place) => answers
                        .get(place)
                        .cloned()
                        .unwrap_or_else(|| refused(Reply::new(451, 3, 0, "internal error"))),
                    Err(reply) => refused(reply),
                };
                self.log(&active, &mail, &answer, recipient);
                answer
            })
            .collect()
    }
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

/// What the scanners say of a mail; an upstream header counts from a trusted client only.
pub fn scan(config: &Config, message: &Message, trusted: bool) -> ScanReport {
    let upstream = |engine: &Engine| match engine {
        Engine::Upstream { header, value } if trusted => Some(Upstream {
            header: header.clone(),
            word: value.clone(),
        }),
        Engine::Upstream { .. } | Engine::Off => None,
    };
    ScanReport {
        virus: match upstream(&config.scanners.virus.engine) {
            None => VirusScan::NotScanned,
            Some(field) => field
                .finding(&message.header)
                .map_or(VirusScan::Clean, VirusScan::Infected),
        },
        spam: match upstream(&config.scanners.spam.engine) {
            None => SpamScan::NotScanned,
            Some(field) if field.finding(&message.header).is_some() => SpamScan::Spam,
            Some(_) => SpamScan::Ham,
        },
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
