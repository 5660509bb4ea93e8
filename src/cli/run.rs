//! `sekimori run`: the daemon in the foreground.

use std::io::Write;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Done, Exit, Failure, Global, load};
use crate::daemon::{Daemon, Shared, StartError};
use crate::store::StoreError;
use crate::telemetry;

/// How long work that cannot be called off is waited for at the end.
const GOODBYE: Duration = Duration::from_secs(5);
/// How often a start that lasts asks for more time, and for how much, microseconds.
const START_LOOK: Duration = Duration::from_secs(10);
const START_MORE_USEC: u32 = 60_000_000;
/// How often the store is asked whether it still works.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn run(global: &Global) -> Done {
    let loaded = load(global)?;
    telemetry::init(&loaded.config.logging).map_err(|error| Failure::io("logging", &error))?;
    for warning in &loaded.warnings {
        tracing::warn!(place = %format_args!("{}:{}", warning.file.display(), warning.line), "{}", warning.message);
    }
    raise_file_handles();
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
        let path = Some(global.config.clone());
        let daemon = patiently(Daemon::start(loaded.config, path))
            .await
            .map_err(|error| not_started(&error))?;
        for (name, address) in daemon.server().addresses() {
            tracing::info!(name, %address, "listening");
        }
        let mut stderr = std::io::stderr();
        writeln!(stderr, "ready")?;
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let watchdog = tokio::spawn(watchdog(daemon.shared().clone()));
        let ended = tokio::select! {
            () = signals.until_told(daemon.shared()) => Ok(()),
            () = store_failed(daemon.shared()) => {
                let message = "a sync of the store failed: what is on the disk must be read anew";
                Err(Failure::new(Exit::Io, message))
            }
        };
        // To its end, so that nothing is said behind the last word.
        watchdog.abort();
        let _ = watchdog.await;
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        daemon.stop().await;
        ended
    });
    // A Maildir on a file system that hangs must not keep the process.
    runtime.shutdown_timeout(GOODBYE);
    done
}

/// A start that reads a large store is none that hangs: the service manager is asked for more time.
async fn patiently<T>(start: impl Future<Output = T>) -> T {
    let mut start = std::pin::pin!(start);
    loop {
        match tokio::time::timeout(START_LOOK, &mut start).await {
            Ok(started) => return started,
            Err(_) => drop(sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(
                START_MORE_USEC,
            )])),
        }
    }
}

/// As many file handles as we may have: a connection takes one, its mail on the way some more.
fn raise_file_handles() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, handles = limit.current, "no more file handles than these");
    }
}

/// Until the store takes no more effects; only a new start can tell what is durable.
async fn store_failed(shared: &Shared) {
    while !shared.store().is_failed() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Two threads at least: one stays free where all others wait for a disk ([`crate::agent::Agent`]
/// lets no more of them).
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.max(2))
        .enable_all()
        .build()
        .map_err(|error| Failure::io("runtime", &error))
}

/// The exit code that a start's failure calls for.
pub(super) fn not_started(error: &StartError) -> Failure {
    let by_kind = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => Exit::Permission,
        std::io::ErrorKind::AddrInUse => Exit::TempFail,
        _ => Exit::Io,
    };
    let exit = match error {
        StartError::Store(error) => store_exit(error),
        StartError::Server(error) => by_kind(&error.source),
        StartError::Io { source, .. } => by_kind(source),
        StartError::Settings(_) => Exit::Config,
    };
    Failure::new(exit, error.to_string())
}

/// The exit code that a store's failure calls for.
pub(super) fn store_exit(error: &StoreError) -> Exit {
    match error {
        StoreError::Busy(_) => Exit::Config,
        StoreError::Permission(_) => Exit::Permission,
        StoreError::NotFound(_) => Exit::NoInput,
        StoreError::Conflict(_) => Exit::TempFail,
        _ => Exit::Io,
    }
}

/// Caught before anybody is told that the daemon is ready: until then a SIGHUP kills.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Reloads at each SIGHUP until the daemon is told to stop.
    async fn until_told(mut self, shared: &std::sync::Arc<Shared>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    let shared = shared.clone();
                    // The outcome is in the log.
                    let _ = tokio::task::spawn_blocking(move || shared.reload()).await;
                }
            }
        }
    }
}

/// Tells systemd that the daemon works, if it can still reach its store.
async fn watchdog(shared: std::sync::Arc<Shared>) {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(100)));
    loop {
        ticks.tick().await;
        let store = shared.store().clone();
        if matches!(
            tokio::task::spawn_blocking(move || store.next_due_at()).await,
            Ok(Ok(_))
        ) {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}
