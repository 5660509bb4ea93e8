//! Who looks for viruses and spam, and what they say of one mail for all its recipients.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout_at;

use crate::config::{self, Engine};
use crate::execute::{Asked, Scanned};
use crate::mail::{Bounds, Envelope, Message, Octets, edit};
use crate::policy::{OnError, ScanReport, Score, Screening, SpamScan, VirusScan};
use crate::scan::{
    self, Clamd, Controller, Rspamd, ScanError, SpamFinding, Spamd, State, Upstream, VirusFinding,
};

/// clamd looks 17 levels deep (`MaxRecursion`) and calls clean what is deeper. Archives nest too, so
/// half of that is left to them.
const DEEP: usize = 8;

/// The scanners of the settings of the moment.
#[derive(Debug)]
pub struct Scanners {
    settings: config::Scanners,
    virus: Option<Clamd>,
    spam: Option<SpamEngine>,
}

/// The engines that we ask about spam.
#[derive(Debug)]
enum SpamEngine {
    Rspamd(Rspamd),
    Spamd(Spamd),
}

/// What some recipient of a mail wants to have looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Viruses.
    pub virus: bool,
    /// Spam.
    pub spam: bool,
}

/// One mail, as its scanners are asked about it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Its envelope.
    pub envelope: &'a Envelope,
    /// Its facts.
    pub message: &'a Message,
    /// Its octets.
    pub raw: &'a Octets,
    /// Within which its parts are looked at; `None` = nobody looks into it.
    pub bounds: Option<&'a Bounds>,
    /// Our own name (`server.hostname`).
    pub hostname: &'a str,
    /// What the engines' logs call it: the `q=` of its first recipient.
    pub name: &'a str,
}

impl Wanted {
    /// What a mailbox wants of a mail that stages 1-4 have seen.
    pub fn of(screening: &Screening) -> Self {
        match screening {
            Screening::Passed(passed) => Self {
                virus: passed.wants_virus,
                spam: passed.wants_spam,
            },
            Screening::Settled(_) => Self::default(),
        }
    }

    /// What one of both wants.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            virus: self.virus || other.virus,
            spam: self.spam || other.spam,
        }
    }
}

impl Scanners {
    /// Connects to nothing yet.
    pub fn new(settings: &config::Scanners) -> Self {
        let engine = |scanner: &config::Scanner, address: &config::Endpoint| scan::Settings {
            address: endpoint(address),
            timeout: scanner.timeout,
        };
        let virus = match &settings.virus.engine {
            Engine::Clamd(address) => Some(Clamd::new(engine(&settings.virus, address))),
            _ => None,
        };
        let spam = match &settings.spam.engine {
            Engine::Rspamd(address) => Some(SpamEngine::Rspamd(Rspamd::new(engine(
                &settings.spam,
                address,
            )))),
            Engine::Spamd(address) => Some(SpamEngine::Spamd(Spamd::new(engine(
                &settings.spam,
                address,
            )))),
            _ => None,
        };
        Self {
            settings: settings.clone(),
            virus,
            spam,
        }
    }

    /// Those of new settings: these ones, with what they know of their engines, where nothing of
    /// theirs has changed.
    pub fn renewed(self: &Arc<Self>, settings: &config::Scanners) -> Arc<Self> {
        match self.settings == *settings {
            true => self.clone(),
            false => Self::new(settings).into(),
        }
    }

    /// Whether an engine must be asked.
    pub fn must_ask(&self, wanted: Wanted) -> bool {
        self.virus.is_some() && wanted.virus || self.spam.is_some() && wanted.spam
    }

    /// What is known without asking an engine: header fields of scanners before us, which count
    /// from a trusted client only. `raw`: the mail; `None` = nobody looks into it.
    pub fn upstream(&self, raw: Option<&[u8]>, trusted: bool) -> Scanned {
        let field = |engine: &Engine| match engine {
            Engine::Upstream { header, value } if trusted => Some(Upstream {
                header: header.clone(),
                word: value.clone(),
            }),
            _ => None,
        };
        let finding = |engine: &Engine| Some(field(engine)?.finding(raw?));
        let report = ScanReport {
            virus: match finding(&self.settings.virus.engine) {
                None => VirusScan::NotScanned,
                Some(found) => found.map_or(VirusScan::Clean, VirusScan::Infected),
            },
            spam: match finding(&self.settings.spam.engine) {
                None => SpamScan::NotScanned,
                Some(Some(_)) => SpamScan::SPAM,
                Some(None) => SpamScan::HAM,
            },
        };
        Scanned {
            report,
            ..Scanned::default()
        }
    }

    /// `scanners` of `status`: each engine that we ask, and whether it is well.
    pub fn status(&self) -> Value {
        let virus = self.virus.as_ref().map(|clamd| ("clamd", clamd.state()));
        let spam = self.spam.as_ref().map(|engine| match engine {
            SpamEngine::Rspamd(rspamd) => ("rspamd", rspamd.state()),
            SpamEngine::Spamd(spamd) => ("spamd", spamd.state()),
        });
        let told = |engine: Option<(&str, State)>| match engine {
            None => Value::Null,
            Some((engine, State::Well)) => json!({"engine": engine, "state": "well"}),
            Some((engine, State::Resting { last, since, until })) => json!({
                "engine": engine,
                "state": "resting",
                "error": last.to_string(),
                "for_seconds": since.elapsed().as_secs(),
                "tried_again_in_seconds": until.saturating_duration_since(Instant::now()).as_secs(),
            }),
        };
        json!({"virus": told(virus), "spam": told(spam)})
    }

    /// Tells the spam engine that a mail is no spam. To tell it twice changes nothing.
    ///
    /// # Errors
    /// Words for the operator.
    pub async fn teach_ham(&self, raw: &Bytes, password: Option<&str>) -> Result<(), String> {
        let Some(learn) = &self.settings.learn else {
            return Err("scanners.spam.learn is off".into());
        };
        let settings = scan::Settings {
            address: endpoint(&learn.address),
            timeout: self.settings.spam.timeout,
        };
        let deadline = Instant::now() + settings.timeout;
        let pieces = [raw.clone().into()];
        let mail = scan::Mail::of(&pieces);
        let taught = match &self.settings.spam.engine {
            Engine::Rspamd(_) => {
                let controller = Controller::new(settings, password.map(str::to_owned));
                controller.learn_ham(&mail, deadline).await
            }
            Engine::Spamd(_) => Spamd::new(settings).learn_ham(&mail, deadline).await,
            _ => return Err("this engine learns nothing".into()),
        };
        taught.map(drop).map_err(|error| error.to_string())
    }

    /// Asks both at the same time, until `deadline` at most.
    pub async fn ask(&self, mail: &Question<'_>, wanted: Wanted, deadline: Instant) -> Scanned {
        let trusted = mail.envelope.client.trusted;
        let readable = mail.bounds.map(|_| mail.raw.head().as_ref());
        let mut scanned = self.upstream(readable, trusted);
        let virus = async {
            match self.virus.as_ref().filter(|_| wanted.virus) {
                Some(_) if too_large(mail, &self.settings.virus) => Asked::TooLarge,
                Some(clamd) => asked("virus", mail, virus_scan(clamd, mail, deadline).await),
                None => Asked::No,
            }
        };
        let spam = async {
            match self.spam.as_ref().filter(|_| wanted.spam) {
                Some(_) if too_large(mail, &self.settings.spam) => Asked::TooLarge,
                Some(engine) => asked("spam", mail, engine.scan(mail, deadline).await),
                None => Asked::No,
            }
        };
        (scanned.virus, scanned.spam) = tokio::join!(virus, spam);
        scanned.report = ScanReport {
            virus: match &scanned.virus {
                Asked::No => scanned.report.virus,
                Asked::TooLarge => VirusScan::NotScanned,
                Asked::Failed(_) => VirusScan::Failed(self.settings.virus.on_error),
                Asked::Answered(found) => match &found.virus {
                    None => VirusScan::Clean,
                    Some(name) => VirusScan::Infected(name.clone()),
                },
            },
            spam: match &scanned.spam {
                Asked::No => scanned.report.spam,
                Asked::TooLarge => SpamScan::NotScanned,
                Asked::Failed(_) => SpamScan::Failed(self.settings.spam.on_error),
                Asked::Answered(found) => SpamScan::Judged {
                    spam: found.spam,
                    score: Some(Score::of(found.score)),
                },
            },
        };
        if let (VirusScan::Infected(_), Some(clamd), Some(bounds)) =
            (&scanned.report.virus, &self.virus, mail.bounds)
        {
            let scan = |pieces| scan_pieces(clamd, pieces, deadline);
            match in_memory(mail, deadline).await {
                Some(raw) => {
                    scanned.cure = Some(scan::cure(&raw, &trace(mail), bounds, scan).await);
                }
                // It is infected, so it does not go by `on_error`: it comes again when there is room.
                None => {
                    scanned.virus = Asked::Failed(ScanError::Ours.to_string());
                    scanned.report.virus = VirusScan::Failed(OnError::Tempfail);
                }
            }
        }
        scanned
    }
}

impl SpamEngine {
    async fn scan(&self, mail: &Question<'_>, deadline: Instant) -> Result<SpamFinding, ScanError> {
        let client = &mail.envelope.client;
        let recipients: Vec<String> = mail
            .envelope
            .recipients
            .iter()
            .map(ToString::to_string)
            .collect();
        let asked = scan::Mail {
            pieces: std::slice::from_ref(mail.raw),
            sender: mail.envelope.sender.as_str(),
            recipients: &recipients,
            // The client that handed it to us is our own MTA.
            client_ip: client.origin_ip,
            helo: client.origin_name.as_deref().unwrap_or_default(),
            id: mail.name,
        };
        match self {
            Self::Rspamd(rspamd) => rspamd.scan(&asked, deadline).await,
            Self::Spamd(spamd) => spamd.scan(&asked, deadline).await,
        }
    }
}

/// The whole; and each part of a mail that nests so deep that clamd may not have looked at all of it.
async fn virus_scan(
    clamd: &Clamd,
    mail: &Question<'_>,
    deadline: Instant,
) -> Result<VirusFinding, ScanError> {
    let whole = [trace(mail).into(), divider(mail).into(), mail.raw.clone()];
    let mut found = clamd.scan(&scan::Mail::of(&whole), deadline).await?;
    if let (None, Some(bounds), true) = (&found.virus, mail.bounds, mail.message.depth > DEEP) {
        let scan = |pieces| scan_pieces(clamd, pieces, deadline);
        let raw = in_memory(mail, deadline).await.ok_or(ScanError::Ours)?;
        found.virus = scan::in_parts(&raw, &trace(mail), bounds, scan).await?;
    }
    Ok(found)
}

async fn scan_pieces(
    clamd: &Clamd,
    pieces: Vec<Bytes>,
    deadline: Instant,
) -> Result<Option<String>, ScanError> {
    let pieces: Vec<Octets> = pieces.into_iter().map(Octets::from).collect();
    let found = clamd.scan(&scan::Mail::of(&pieces), deadline).await?;
    Ok(found.virus)
}

/// The whole mail, to be taken apart.
async fn in_memory(mail: &Question<'_>, deadline: Instant) -> Option<Bytes> {
    let whole = timeout_at(deadline.into(), mail.raw.whole()).await;
    let whole = whole.unwrap_or_else(|late| Err(late.into()));
    let failed = |error: &_| tracing::warn!(id = mail.name, %error, "a mail was not taken apart");
    whole.inspect_err(failed).ok()
}

fn too_large(mail: &Question<'_>, scanner: &config::Scanner) -> bool {
    mail.message.size > scanner.max_size
}

/// A line of ours before the mail, by which clamd knows it for one whatever it begins with.
fn trace(mail: &Question<'_>) -> Bytes {
    edit::field("Received", &format!("by {}", mail.hostname)).into()
}

fn divider(mail: &Question<'_>) -> Bytes {
    Bytes::from_static(edit::divider([mail.raw.head().as_ref()]))
}

fn asked<T>(scanner: &'static str, mail: &Question<'_>, answer: Result<T, ScanError>) -> Asked<T> {
    match answer {
        Ok(found) => Asked::Answered(found),
        Err(error) => {
            // After a tempfail no recipient has an id: the message-id leads to the mail.
            let message_id = mail.message.message_id();
            tracing::warn!(id = mail.name, scanner, %error, message_id, "a mail was not scanned");
            Asked::Failed(error.to_string())
        }
    }
}

fn endpoint(address: &config::Endpoint) -> scan::Endpoint {
    match address {
        config::Endpoint::Tcp { host, port } => scan::Endpoint::Tcp {
            host: host.clone(),
            port: *port,
        },
        config::Endpoint::Unix(path) => scan::Endpoint::Unix(path.clone()),
    }
}
