//! What the control socket may ask of a running daemon.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::{now, settings};
use crate::agent::{self, Active};
use crate::config::edit::{self, EditError};
use crate::config::{self, Config, Diagnostic, Directory, Loaded, Lookup};
use crate::failpoint::{Point, reach};
use crate::mail::{Address, FromField, Message};
use crate::policy::Class;
use crate::relay::{Courier, Hops};
use crate::server::CurrentCertificate;
use crate::store::{
    Batch, FileEntry, Id, OutgoingItem, OutgoingKind, QuarantineEntry, QuarantineState, Shelf,
    Store, StoreError, blocking,
};
use crate::view;

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
    pub(super) config_path: Option<PathBuf>,
    pub(super) active: Arc<ArcSwap<Active>>,
    pub(super) hops: Arc<ArcSwap<Hops>>,
    /// What the TLS listeners show; `None` when there is none.
    pub(super) certificate: Option<Arc<CurrentCertificate>>,
    pub(super) store: Store,
    pub(super) courier: Arc<Courier>,
    pub(super) started_at: i64,
    /// The settings at the start: what only a restart changes is still theirs.
    pub(super) running: Arc<Config>,
    pub(super) reloading: Mutex<()>,
    /// Turns true when the daemon stops.
    pub(super) stopping: watch::Receiver<bool>,
    /// Held from a release's record to its place in the queue.
    pub(super) releasing: tokio::sync::Mutex<()>,
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

    /// Until the daemon stops: what has no end of its own ends then.
    pub async fn stopping(&self) {
        super::stopped(self.stopping.clone()).await;
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
        let certificate = settings::certificate(&config);
        match certificate.and_then(|new| Ok((new, settings::hops(&config)?))) {
            Ok((certificate, mut hops)) => {
                if let (Some(shown), Some(new)) = (&self.certificate, certificate) {
                    shown.replace(new);
                }
                hops.relay.succeed(&self.hops.load().relay);
                self.hops.store(Arc::new(hops));
            }
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
        let scanners = self.active.load().scanners.renewed(&config.scanners);
        self.active.store(Arc::new(Active {
            config,
            directory,
            scanners,
        }));
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
        self.begin_release(&entry, to).await?;
        self.courier.send_now(id).await?;
        self.held(id).await
    }

    async fn begin_release(
        &self,
        entry: &QuarantineEntry,
        to: Option<Address>,
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.releasing.lock().await;
        let (store, id) = (self.store.clone(), entry.id);
        let asked = to.as_ref().map(ToString::to_string);
        let begun = blocking(move || store.release_begin(id, asked)).await;
        match begun {
            Ok(_) => {}
            // Somebody asked before, and this tries it again.
            Err(StoreError::Conflict(_)) => return self.take_up(id).await,
            Err(error) => return Err(error),
        }
        reach(Point::ReleaseBegun);
        if let Err(error) = self.queue_release(entry, to).await {
            let store = self.store.clone();
            blocking(move || store.release_end(id, false, None)).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Queues a release that is on record and not in the queue: a crash or a full disk came between.
    /// To be called with `releasing` held.
    async fn take_up(&self, id: Id) -> Result<(), StoreError> {
        let store = self.store.clone();
        let halfway = blocking(move || store.release_halfway(id));
        let Some(entry) = halfway.await? else {
            return Ok(());
        };
        let to = entry.release_to.as_deref();
        let to = to.and_then(|to| Address::parse(to).ok());
        self.queue_release(&entry, to).await
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
            let (mut header, bytes) = store.read_mail(Shelf::Quarantine, id)?;
            header.entries = vec![FileEntry::Outgoing(item.clone())];
            // A release that broke off may have left one behind.
            store.remove_mail(Shelf::Outgoing, id)?;
            store.write_mail(&header, &[&bytes])?;
            reach(Point::ReleaseWritten);
            let mut batch = Batch::new();
            batch.put_outgoing(&item);
            store.commit_blocking(batch)?;
            reach(Point::ReleaseQueued);
            Ok(())
        })
        .await
    }

    /// Gives up an outgoing mail for good; a release leaves its mail held.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], and those of the disk.
    pub async fn drop_outgoing(&self, id: Id) -> Result<(), StoreError> {
        let store = self.store.clone();
        blocking(move || store.outgoing_drop(id)).await
    }

    /// Takes up releases that a crash caught before they were in the queue.
    pub(super) async fn resume_releases(&self) {
        for id in self.store.opened().releasing.clone() {
            let _one_at_a_time = self.releasing.lock().await;
            if let Err(error) = self.take_up(id).await {
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
            "scanners": self.active().scanners.status(),
            "disk_room": room,
            "index_rebuilt": opened.rebuilt.is_some(),
            "orphans": opened.orphans,
        })
    }
}

fn first_line(errors: &[Diagnostic]) -> String {
    errors
        .iter()
        .find(|found| found.is_error())
        .map(ToString::to_string)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}
