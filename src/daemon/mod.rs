//! The daemon put together: store, agent, courier, listeners, control socket, clocks.
//!
//! [`Shared`] is what the control socket may ask for; [`Daemon`] owns the tasks.

mod clock;
mod lesson;
mod notices;
mod settings;
mod shared;
mod withheld;

pub use lesson::{Lesson, LessonError};
pub use settings::store as store_settings;
pub use shared::{AllowError, Allowed, Reload, Shared};
pub use withheld::Withheld;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::agent::{Active, Agent, Scanners};
use crate::config::{self, Config, Directory};
use crate::control;
use crate::execute::Executor;
use crate::relay::Courier;
use crate::server::{CurrentCertificate, Server, ServerError};
use crate::store::{Store, StoreError, blocking};

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
        notices::begin(&store, &config.quarantine.notice).await;
        let loop_secret = loop_secret(&config.store.path)?;
        let hops = Arc::new(ArcSwap::from_pointee(settings::hops(&config)?));
        let directory = Arc::new(Directory::new(config.clone()));
        directory.start_indexing();
        let active = Arc::new(ArcSwap::from_pointee(Active {
            config: config.clone(),
            directory,
            scanners: Arc::new(Scanners::new(&config.scanners)),
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
        let agent = Agent::new(active.clone(), executor).map_err(|source| StartError::Io {
            what: "a thread of the agent".to_owned(),
            source,
        })?;
        let certificate = settings::certificate(&config)?
            .map(CurrentCertificate::new)
            .map(Arc::new);
        let server = Server::start(
            settings::listeners(&config, certificate.as_ref())?,
            config.server.limits.memory,
            config.store.path.clone(),
            Arc::new(agent),
        )
        .await?;
        let control_socket = control_socket(&config.control)?;
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared {
            config_path,
            active,
            hops,
            certificate,
            store,
            courier: courier.clone(),
            started_at: now(),
            running: config.clone(),
            reloading: Mutex::new(()),
            stopping: stopping.clone(),
            releasing: tokio::sync::Mutex::new(()),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(courier.run(stopped(stopping.clone())));
        tasks.spawn(control::serve(
            control_socket,
            shared.clone(),
            stopped(stopping.clone()),
        ));
        tasks.spawn(clock::sweep(shared.clone(), stopped(stopping.clone())));
        tasks.spawn(notices::daily(shared.clone(), stopped(stopping)));
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

fn control_socket(settings: &config::Control) -> Result<UnixListener, StartError> {
    control::bind(&settings.socket, settings.mode).map_err(|source| StartError::Io {
        what: format!("control socket {}", settings.socket.display()),
        source,
    })
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the daemon is gone, which is a stop as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn open_store(config: &Config) -> Result<Store, StoreError> {
    let settings = settings::store(config);
    let began = Instant::now();
    let store = blocking(move || Store::open(settings, now())).await?;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(ms, "the store is open");
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

/// The wall clock, unix milliseconds.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
