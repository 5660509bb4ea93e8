//! The daemon put together: store, agent, courier, listeners, control socket, clocks.
//!
//! [`Shared`] is what the control socket may ask for; [`Daemon`] owns the tasks.

mod clock;
mod settings;

pub use settings::store as store_settings;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;

use crate::agent::{self, Active, Agent};
use crate::config::edit::{self, EditError};
use crate::config::{self, Config, Diagnostic, Directory, Loaded, Lookup};
use crate::control;
use crate::execute::Executor;
use crate::mail::{Address, FromField, Message};
use crate::policy::Class;
use crate::relay::{Courier, Hops};
use crate::server::{Server, ServerError};
use crate::store::{
    Batch, FileEntry, Id, OutgoingItem, OutgoingKind, QuarantineEntry, QuarantineState, Shelf,
    Store, StoreError,
};
use crate::view;

/// What a stop leaves for mail that is being sent when the listeners took all the grace.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Something that settings name cannot be used.
    #[error("{what}: {source}")]
    Io {
        /// What.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// Settings that only show at the start that they cannot work.
    #[error("{0}")]
    Settings(String),
}

/// What became of a reload.
#[derive(Debug)]
pub enum Reload {
    /// The new settings count.
    Done {
        /// What is perhaps not meant.
        warnings: Vec<Diagnostic>,
        /// Changed keys that count only after a restart.
        restart: Vec<&'static str>,
    },
    /// The old settings stay.
    Refused(Vec<Diagnostic>),
}

/// Why a sender was not put on the allow list.
#[derive(Debug, thiserror::Error)]
pub enum AllowError {
    /// The held mail cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nobody to allow.
    #[error("the mail's From names no address that could be allowed")]
    NoSender,
    /// The mailbox file was not changed.
    #[error(transparent)]
    Edit(#[from] EditError),
}

/// What became of an allow entry.
#[derive(Debug)]
pub struct Allowed {
    /// The address of the header From that is allowed now.
    pub sender: String,
    /// The reject entry that held the mail and goes on holding its like, since reject comes first.
    pub still_held_by: Option<String>,
}

/// What all parts share.
#[derive(Debug)]
pub struct Shared {
    config_path: Option<PathBuf>,
    active: Arc<ArcSwap<Active>>,
    hops: Arc<ArcSwap<Hops>>,
    store: Store,
    courier: Arc<Courier>,
    started_at: i64,
    /// The settings at the start: what only a restart changes is still theirs.
    running: Arc<Config>,
    reloading: Mutex<()>,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    shared: Arc<Shared>,
    server: Server,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    /// Where it was made; a reload may name another place.
    control_socket: PathBuf,
}

impl Daemon {
    /// Opens the store and starts everything on the current runtime. `config_path` is where a
    /// reload reads.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(config: Config, config_path: Option<PathBuf>) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let store = open_store(&config).await?;
        let loop_secret = loop_secret(&config.store.path)?;
        let hops = Arc::new(ArcSwap::from_pointee(settings::hops(&config)?));
        let directory = Arc::new(Directory::new(config.clone()));
        directory.start_indexing();
        let active = Arc::new(ArcSwap::from_pointee(Active {
            config: config.clone(),
            directory,
        }));
        let wake = Arc::new(Notify::new());
        let courier = Arc::new(Courier::new(
            store.clone(),
            hops.clone(),
            wake.clone(),
            loop_secret,
            now,
        ));
        let executor = Executor::new(store.clone(), hops.clone(), wake, loop_secret);
        let agent = Arc::new(Agent::new(active.clone(), executor));
        let server = Server::start(
            settings::listeners(&config),
            config.server.limits.memory,
            agent,
        )
        .await?;
        let control_socket =
            control::bind(&config.control.socket, config.control.mode).map_err(|source| {
                StartError::Io {
                    what: format!("control socket {}", config.control.socket.display()),
                    source,
                }
            })?;
        let shared = Arc::new(Shared {
            config_path,
            active,
            hops,
            store,
            courier: courier.clone(),
            started_at: now(),
            running: config.clone(),
            reloading: Mutex::new(()),
        });
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(courier.run(stopped(stopping.clone())));
        tasks.spawn(control::serve(
            control_socket,
            shared.clone(),
            stopped(stopping.clone()),
        ));
        tasks.spawn(clock::sweep(shared.clone(), stopped(stopping.clone())));
        tasks.spawn(clock::daily_notices(shared.clone(), stopped(stopping)));
        let resume = shared.clone();
        tasks.spawn(async move { resume.resume_releases().await });
        Ok(Self {
            shared,
            server,
            stop,
            tasks,
            control_socket: config.control.socket.clone(),
        })
    }

    /// What the control socket may ask for.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The listeners.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Takes no more mail, finishes what is open within `shutdown_grace`, stops the rest.
    pub async fn stop(mut self) {
        let timeouts = self.shared.active.load().config.server.timeouts;
        let deadline = Instant::now() + timeouts.shutdown_grace;
        self.server.shutdown(timeouts.shutdown_grace).await;
        // Every task may have ended already.
        let _ = self.stop.send(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // One grace for both: a service manager waits little longer.
        let deadline = deadline.max(Instant::now() + LAST_STEPS);
        if tokio::time::timeout_at(deadline, all).await.is_err() {
            tracing::warn!("gave up waiting for mail that is being sent");
        }
        self.tasks.abort_all();
        if let Err(error) = std::fs::remove_file(&self.control_socket) {
            tracing::debug!(%error, "control socket not removed");
        }
    }
}

impl Shared {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The courier.
    pub fn courier(&self) -> &Courier {
        &self.courier
    }

    /// The settings of the moment.
    pub fn active(&self) -> Arc<Active> {
        self.active.load_full()
    }

    /// Reads all settings again. Blocks.
    pub fn reload(&self) -> Reload {
        let _one_at_a_time = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.config_path else {
            return Reload::Done {
                warnings: Vec::new(),
                restart: Vec::new(),
            };
        };
        let Loaded { config, warnings } = match config::load(path) {
            Ok(loaded) => loaded,
            Err(errors) => {
                tracing::error!(errors = errors.len(), first = %first_line(&errors), "reload refused, old settings stay");
                return Reload::Refused(errors);
            }
        };
        match settings::hops(&config) {
            Ok(hops) => self.hops.store(Arc::new(hops)),
            Err(error) => {
                tracing::error!(%error, "reload refused, old settings stay");
                return Reload::Refused(vec![settings::refusal(path, &error)]);
            }
        }
        let restart = settings::needs_restart(&self.running, &config);
        let config = Arc::new(config);
        let directory = Arc::new(Directory::reloaded(
            config.clone(),
            &self.active.load().directory,
        ));
        directory.start_indexing();
        self.active.store(Arc::new(Active { config, directory }));
        self.courier.wake();
        tracing::info!(warnings = warnings.len(), "reloaded");
        Reload::Done { warnings, restart }
    }

    /// Releases held mail into its mailbox, or to another address, and tries at once. A mail that
    /// was released before is not sent again.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], and those of the disk.
    pub async fn release(
        self: &Arc<Self>,
        id: Id,
        to: Option<Address>,
    ) -> Result<QuarantineEntry, StoreError> {
        let shared = self.clone();
        // To its end, even where whoever asked goes away.
        tokio::spawn(async move { shared.release_now(id, to).await })
            .await
            .unwrap_or(Err(StoreError::Failed))
    }

    async fn release_now(
        &self,
        id: Id,
        to: Option<Address>,
    ) -> Result<QuarantineEntry, StoreError> {
        let entry = self.held(id).await?;
        if entry.state == QuarantineState::Released {
            return Ok(entry);
        }
        let store = self.store.clone();
        let asked = to.as_ref().map(ToString::to_string);
        let started = blocking(move || store.release_begin(id, asked)).await;
        match started {
            Ok(_) => {
                if let Err(error) = self.queue_release(&entry, to).await {
                    let store = self.store.clone();
                    blocking(move || store.release_end(id, false)).await?;
                    return Err(error);
                }
            }
            // Somebody asked before: the mail is in the queue, and this tries it again.
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        self.courier.send_now(id).await?;
        self.held(id).await
    }

    /// Puts the first address of a held mail's header From into the allow list of its mailbox.
    ///
    /// # Errors
    /// [`AllowError`]; nothing is changed then.
    pub async fn allow_sender(&self, id: Id) -> Result<Allowed, AllowError> {
        let entry = self.held(id).await?;
        let (store, active) = (self.store.clone(), self.active());
        let edited = spawn_blocking(move || {
            let raw = store.read_body(Shelf::Quarantine, id)?;
            let message = Message::parse(&raw, &agent::bounds(&active.config.server.limits));
            let FromField::Addresses(addresses) = message.from else {
                return Err(AllowError::NoSender);
            };
            let sender = addresses
                .first()
                .and_then(|address| Address::parse(&address.text).ok());
            let sender = sender.ok_or(AllowError::NoSender)?;
            let mailbox = Address::parse(&entry.mailbox).map_err(|_| AllowError::NoSender)?;
            edit::allow_sender(&active.config, &mailbox, &sender)?;
            let reject_first = match active.directory.lookup(&mailbox) {
                Lookup::Found(mailbox) => !mailbox.policy.allow.before_reject,
                _ => true,
            };
            let by_rule = entry.class == Class::UserRule.as_str() && reject_first;
            Ok(Allowed {
                sender: sender.to_string(),
                still_held_by: by_rule.then(|| {
                    let [hit, origin] =
                        [&entry.entry, &entry.origin].map(|text| text.as_deref().unwrap_or("-"));
                    format!("{}: {hit} ({origin})", entry.stage)
                }),
            })
        });
        edited
            .await
            .unwrap_or(Err(AllowError::Store(StoreError::Failed)))
    }

    async fn held(&self, id: Id) -> Result<QuarantineEntry, StoreError> {
        let store = self.store.clone();
        let found = blocking(move || store.quarantine_get(id)).await?;
        found.ok_or_else(|| StoreError::NotFound(id.to_string()))
    }

    /// Puts the mail into the outgoing queue, under the id of its quarantine entry.
    async fn queue_release(
        &self,
        entry: &QuarantineEntry,
        to: Option<Address>,
    ) -> Result<(), StoreError> {
        let give_up = self.active.load().config.relay.retry.give_up;
        let to = vec![to.map_or_else(|| entry.mailbox.clone(), |to| to.to_string())];
        let new = OutgoingItem::new(
            entry.id,
            OutgoingKind::Release,
            entry.mailbox.clone(),
            to,
            now(),
            give_up,
        );
        let item = OutgoingItem {
            sender: entry.sender.clone(),
            smtputf8: new.smtputf8 || !entry.sender.is_ascii(),
            eight_bit: true,
            ..new
        };
        let store = self.store.clone();
        blocking(move || {
            let id = item.id;
            let mut header = store.read_header(Shelf::Quarantine, id)?;
            let bytes = store.read_body(Shelf::Quarantine, id)?;
            header.entries = vec![FileEntry::Outgoing(item.clone())];
            // A release that broke off may have left one behind.
            store.remove_mail(Shelf::Outgoing, id)?;
            store.write_mail(&header, &bytes)?;
            let mut batch = Batch::new();
            batch.put_outgoing(&item);
            store.commit_blocking(batch)
        })
        .await
    }

    /// Gives up an outgoing mail for good; a release leaves its mail held.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], and those of the disk.
    pub async fn drop_outgoing(&self, id: Id) -> Result<(), StoreError> {
        let store = self.store.clone();
        blocking(move || {
            let item = store
                .outgoing_get(id)?
                .ok_or_else(|| StoreError::NotFound(id.to_string()))?;
            if item.state.is_under_way() {
                return Err(StoreError::Conflict(format!("{id} is being sent")));
            }
            store.outgoing_remove(id, None)?;
            if item.kind == OutgoingKind::Release {
                store.release_end(id, false)?;
            }
            Ok(())
        })
        .await
    }

    /// Takes up releases that a crash caught before they were in the queue.
    async fn resume_releases(&self) {
        for id in self.store.opened().releasing.clone() {
            let store = self.store.clone();
            let halfway = blocking(move || {
                let queued = store.outgoing_get(id)?.is_some();
                Ok(store.quarantine_get(id)?.filter(|_| !queued))
            });
            let resumed = match halfway.await {
                Ok(Some(entry)) => {
                    let to = entry
                        .release_to
                        .as_deref()
                        .and_then(|to| Address::parse(to).ok());
                    self.queue_release(&entry, to).await
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = resumed {
                tracing::error!(%id, %error, "release not resumed");
            }
        }
        self.courier.wake();
    }

    /// The numbers of `status`.
    pub async fn status(&self) -> Value {
        let store = self.store.clone();
        let counts = spawn_blocking(move || {
            (
                store.quarantine_bytes(),
                store.outgoing_count(),
                store.has_room(0),
            )
        });
        let (quarantine_bytes, outgoing, room) = counts.await.unwrap_or_default();
        let opened = self.store.opened();
        json!({
            "schema": "sekimori.status/1",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "started_at": view::time(self.started_at),
            "config": self.config_path.as_ref().map(|path| path.display().to_string()),
            "quarantine_bytes": quarantine_bytes,
            "queue": outgoing,
            "disk_room": room,
            "index_rebuilt": opened.rebuilt.is_some(),
            "orphans": opened.orphans,
        })
    }
}

/// Runs store work where blocking is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work)
        .await
        .unwrap_or(Err(StoreError::Failed))
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the daemon is gone, which is a stop as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn open_store(config: &Config) -> Result<Store, StoreError> {
    let settings = settings::store(config);
    let store = blocking(move || Store::open(settings, now())).await?;
    let opened = store.opened();
    if let Some(rebuilt) = &opened.rebuilt {
        tracing::warn!(?rebuilt, "the index was rebuilt from the mail files");
    }
    if opened.resumed + opened.dropped + opened.orphans > 0 || opened.ballast_dropped {
        let (resumed, dropped, orphans) = (opened.resumed, opened.dropped, opened.orphans);
        tracing::warn!(
            resumed,
            dropped,
            orphans,
            ballast = opened.ballast_dropped,
            "recovered"
        );
    }
    Ok(store)
}

/// The key of our loop marks: made once, kept beside the store so that marks outlive a restart.
fn loop_secret(store: &Path) -> Result<[u8; 32], StartError> {
    let path = store.join("loop.key");
    let failed = |source| StartError::Io {
        what: path.display().to_string(),
        source,
    };
    match std::fs::read(&path) {
        Ok(bytes) if bytes.len() == 32 => Ok(bytes.try_into().unwrap_or([0; 32])),
        Ok(_) => Err(StartError::Settings(format!(
            "{}: not 32 octets; remove it",
            path.display()
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut secret = [0; 32];
            let mut source = std::fs::File::open("/dev/urandom").map_err(failed)?;
            std::io::Read::read_exact(&mut source, &mut secret).map_err(failed)?;
            settings::write_private(&path, &secret).map_err(failed)?;
            Ok(secret)
        }
        Err(error) => Err(failed(error)),
    }
}

fn first_line(errors: &[Diagnostic]) -> String {
    errors
        .first()
        .map(ToString::to_string)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The wall clock, unix milliseconds.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
